"""Sound that arrives while frames leave: a microphone's samples in, raw frames out, and a clock beside them.

Nothing heavy is imported before it is needed: the clock has to run while torch and the weights are loaded.
"""
import bisect
import os
import queue
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from ..errors import VasaError
from ..units import FRAME, SAMPLE_RATE

if TYPE_CHECKING:   # heavy, see above
    from torch import Tensor

__all__ = ["Clock", "Pipe", "in_real_time", "to_pipe", "without_header"]

WAVES = b"RIFF", b"RIFX", b"RF64"   # the first bytes of a WAV
STANDARD_INPUT = ("accepted on standard input are raw samples, or a WAV, of 16 bit, 16 kHz and one channel, as "
                  "ffmpeg -i FILE -ar 16000 -ac 1 -f wav - writes it")
KINDS = [   # how other sound files begin; a ? is any byte
    ("MP3", b"ID3\2"), ("MP3", b"ID3\3"), ("MP3", b"ID3\4"), ("FLAC", b"fLaC"), ("AIFF", b"FORM????AIFF"),
    ("AIFF", b"FORM????AIFC"), ("AU", b".snd"), ("Wave64", b"riff\x2e\x91\xcf\x11"), ("Ogg", b"OggS\0"),
    ("MP4", b"\0\0??ftyp"), ("MP4", b"\0???moov"), ("MP4", b"\0\0\0\x08wide"), ("AVI", b"RIFF????AVI "),
    ("Matroska", b"\x1aE\xdf\xa3"), ("CAF", b"caff\0\1"), ("AMR", b"#!AMR"), ("WMA", b"0&\xb2u\x8ef\xcf\x11")]
# kilobits a second, by the index in a frame of MPEG-1 layer II, MPEG-1 layer III, and MPEG-2
KILOBITS = {(3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
            (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
            None: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)}


class Clock:
    """Notes when sound came and when frames left.

    `heard(chunks)` and `shown(frames)` hand on what they get; `sound()` is what was heard, where it is to be kept."""

    def __init__(self, keep: bool = True):
        self.keep, self.chunks, self.arrived, self.samples, self.left = keep, [], [], [], []

    def heard(self, chunks: "Iterable[tuple[float, Tensor]]") -> "Iterator[Tensor]":
        """Chunks (n,) out of pairs (time of arrival, chunk)."""
        for when, chunk in chunks:
            if self.keep:
                self.chunks.append(chunk)
            self.arrived.append(when)
            self.samples.append(len(chunk) + (self.samples[-1] if self.samples else 0))
            yield chunk

    def shown(self, frames: "Iterable[Tensor]") -> "Iterator[Tensor]":
        for frame in frames:
            self.left.append(time.monotonic())
            yield frame

    def sound(self) -> "Tensor":
        import torch
        return torch.cat(self.chunks) if self.chunks else torch.zeros(0)

    def report(self, new_frames: int) -> dict[str, float]:
        """{"latency_s", "latency_s_p95"}: from the moment at which a frame's first sample was spoken to its leaving;
        and "drift", see `speed.latency.drift`, for steps of `new_frames`. Absent where too few frames left."""
        import torch
        from ..speed.latency import drift
        late = []
        for i, left in enumerate(self.left):
            chunk = bisect.bisect_right(self.samples, i * FRAME)
            late.append(left - self.arrived[chunk] + (self.samples[chunk] - i * FRAME) / SAMPLE_RATE)
        if not late:
            return {}
        late = torch.tensor(late, dtype=torch.float64)
        figures = {"latency_s": late.median().item(), "latency_s_p95": late.quantile(0.95).item()}
        return figures | ({} if (slope := drift(late, new_frames)) is None else {"drift": slope})

    def words(self) -> str:
        """The same in words, for the steps that a talker makes."""
        from ..talking.talker import NEW_FRAMES
        words = {"latency_s": "latency {:.2f} s", "latency_s_p95": "95 % within {:.2f} s", "drift": "drift {:+.3f} s/s"}
        return ", ".join(words[name].format(value) for name, value in self.report(NEW_FRAMES).items())


def in_real_time(waveform: "Tensor") -> "Iterator[tuple[float, Tensor]]":
    """(time, chunk) of a recording (N,), at the pace at which it was spoken."""
    began = time.monotonic()
    for i, chunk in enumerate(waveform.split(FRAME), 1):
        due = began + i * FRAME / SAMPLE_RATE
        time.sleep(max(0.0, due - time.monotonic()))
        yield due, chunk


def read_header(data):
    """(first byte, number of bytes) of the samples in a WAV that begins with `data`; None if the header goes on.

    The number is None where the header does not know it, as in a pipe. VasaError for samples of another kind."""
    if data[:4] != b"RIFF":
        raise VasaError(f"the WAV on standard input is of a kind that cannot be streamed; {STANDARD_INPUT}")
    at, header = 12, None
    while len(data) >= at + 8:
        name, size = struct.unpack("<4sI", data[at:at + 8])
        if name == b"data" and header:
            return at + 8, size if 0 < size < 0x7FFF0000 else None
        if name == b"data":
            raise VasaError(f"the WAV on standard input does not say what it holds; {STANDARD_INPUT}")
        if len(data) < at + 8 + size:
            return None
        if name == b"fmt ":
            header = struct.unpack("<HHIIHH", data[at + 8:at + 24].ljust(16, b"\0"))
            coding, channels, rate, bits = *header[:3], header[5]
            if coding == 0xFFFE:   # extensible: the coding stands further back
                coding = int.from_bytes(data[at + 32:at + 34], "little")
            if (coding, channels, rate, bits) != (1, 1, SAMPLE_RATE, 16):
                kind = f"{bits} bit, {rate} Hz and {channels} channels" + f", coding {coding}" * (coding != 1)
                raise VasaError(f"the WAV on standard input has {kind}; {STANDARD_INPUT}")
        at += 8 + size + size % 2
    return None


def mpeg_frame(head):
    """Bytes of the frame of MP2, MP3 or AAC that begins with `head` (six bytes); None if none can begin so."""
    if head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer, bits, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    if layer == 0 and head[1] >= 0xF0:   # AAC with ADTS headers, which say how long they are
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        return length if head[2] >> 2 & 15 < 13 and 7 < length < 2048 else None
    if version == 1 or layer not in (1, 2) or bits in (0, 15) or rate == 3:
        return None
    kilobits = KILOBITS[(version, layer) if version == 3 else None][bits - 1]
    hertz = (44_100, 48_000, 32_000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    return (144_000 if version == 3 or layer == 2 else 72_000) * kilobits // hertz + (head[2] >> 1 & 1)


def other_kind(head):
    """Of what kind the sound file that begins with `head` is: a name, "" for samples or a WAV, None: more is needed.

    Two bytes of MPEG sound could be a sample as well: what follows its first frame has to begin as that does."""
    fits = [(name, first) for name, first in KINDS if all(b in (a, 0x3F) for a, b in zip(head, first))]
    if name := next((name for name, first in fits if len(head) >= len(first)), None):
        return name
    wave = len(head) < 12 and any(name.startswith(head[:4]) for name in WAVES)
    if fits or wave or (head[0] == 0xFF and len(head) < 6):
        return None
    if len(head) < 6 or (length := mpeg_frame(head)) is None:
        return ""
    following = head[length:length + 6]
    if len(following) < 6:
        return None
    same = following[:2] == head[:2] and (following[2] ^ head[2]) & 0x0C == 0 and mpeg_frame(following)
    return ("AAC" if head[1] >> 1 & 3 == 0 else "MP3") if same else ""


def without_header(arrivals: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """The (time, bytes) that are raw samples: all or, of a WAV, those between its header and what follows them.

    VasaError for a sound file of another kind."""
    head, left = b"", None   # what may be a header; how many bytes are still samples
    for when, data in arrivals:
        if head is not None:
            head += data
            if (kind := other_kind(head)) is None:
                continue
            if kind:
                raise VasaError(f"the sound on standard input is a file of the kind {kind}; {STANDARD_INPUT}")
            found = read_header(head) if head[:4] in WAVES and head[8:12] == b"WAVE" else (0, None)
            if found is None:
                continue
            data, left, head = head[found[0]:], found[1], None
        if left is not None:
            data = data[:left]
            left -= len(data)
        if data:
            yield when, data
        if left == 0:
            return
    if head and other_kind(head) is None:   # it ended before it could be told
        yield when, head


class Pipe:
    """(time, chunk) of 16-bit PCM, 16 kHz, one channel, raw or as a WAV, as it comes; a last odd byte is left out.

    read() gives some bytes, b"" at the end; it is called in a thread of its own from now on, so that the times are
    those of the arrivals and not of our attention. `stop()` ends the sound after what has arrived. An OSError of `read`
    is raised where chunks are taken."""

    def __init__(self, read: Callable[[], bytes] = lambda: os.read(0, 2 * FRAME)):
        self.arrivals = queue.Queue()
        threading.Thread(target=self.listen, args=(read,), daemon=True).start()

    def listen(self, read: Callable[[], bytes]) -> None:
        try:
            while data := read():
                self.arrivals.put((time.monotonic(), data))
        except OSError as error:
            self.arrivals.put(error)
        self.stop()

    def stop(self) -> None:
        self.arrivals.put(None)

    def arrived(self) -> Iterator[tuple[float, bytes]]:
        while (arrival := self.arrivals.get()) is not None:
            if isinstance(arrival, OSError):
                raise arrival
            yield arrival

    def __iter__(self):
        import numpy as np
        import torch
        odd = b""
        for when, data in without_header(self.arrived()):
            data = odd + data
            whole = len(data) // 2 * 2
            odd = data[whole:]
            if whole:
                yield when, torch.from_numpy(np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768)


def to_pipe(frames: "Iterable[Tensor]", pipe: BinaryIO | None = None) -> None:
    """Writes frames uint8 (S, S, 3) as raw RGB, each at once."""
    pipe = pipe or sys.stdout.buffer
    for frame in frames:
        pipe.write(frame.numpy().tobytes())
        pipe.flush()
