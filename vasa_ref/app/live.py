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

from ..errors import VasaError
from ..units import FRAME, SAMPLE_RATE

__all__ = ["Clock", "Pipe", "in_real_time", "to_pipe", "without_header"]

WAVES = b"RIFF", b"RIFX", b"RF64"   # the first bytes of a WAV
STANDARD_INPUT = "accepted on standard input are raw samples, or a WAV, of 16 bit, 16 kHz and one channel"


class Clock:
    """Notes when sound came and when frames left.

    `heard(chunks)` and `shown(frames)` hand on what they get; `sound()` is what was heard, where it is to be kept."""

    def __init__(self, keep=True):
        self.keep, self.chunks, self.arrived, self.samples, self.left = keep, [], [], [], []

    def heard(self, chunks):
        """Chunks (n,) out of pairs (time of arrival, chunk)."""
        for when, chunk in chunks:
            if self.keep:
                self.chunks.append(chunk)
            self.arrived.append(when)
            self.samples.append(len(chunk) + (self.samples[-1] if self.samples else 0))
            yield chunk

    def shown(self, frames):
        for frame in frames:
            self.left.append(time.monotonic())
            yield frame

    def sound(self):
        import torch
        return torch.cat(self.chunks) if self.chunks else torch.zeros(0)

    def report(self, new_frames):
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

    def words(self):
        """The same in words, for the steps that a talker makes."""
        from ..talking.talker import NEW_FRAMES
        words = {"latency_s": "latency {:.2f} s", "latency_s_p95": "95 % within {:.2f} s", "drift": "drift {:+.3f} s/s"}
        return ", ".join(words[name].format(value) for name, value in self.report(NEW_FRAMES).items())


def in_real_time(waveform):
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


def without_header(arrivals):
    """The (time, bytes) that are raw samples: all or, of a WAV, those between its header and what follows them."""
    head, left = b"", None   # what may be a header; how many bytes are still samples
    for when, data in arrivals:
        if head is not None:
            head += data
            if len(head) < 12 and any(name.startswith(head[:4]) for name in WAVES):
                continue
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
    if head and len(head) < 12:   # it ended before it could be told
        yield when, head


class Pipe:
    """(time, chunk) of 16-bit PCM, 16 kHz, one channel, raw or as a WAV, as it comes; a last odd byte is left out.

    read() gives some bytes, b"" at the end; it is called in a thread of its own from now on, so that the times are
    those of the arrivals and not of our attention. `stop()` ends the sound after what has arrived. An OSError of `read`
    is raised where chunks are taken."""

    def __init__(self, read=lambda: os.read(0, 2 * FRAME)):
        self.arrivals = queue.Queue()
        threading.Thread(target=self.listen, args=(read,), daemon=True).start()

    def listen(self, read):
        try:
            while data := read():
                self.arrivals.put((time.monotonic(), data))
        except OSError as error:
            self.arrivals.put(error)
        self.stop()

    def stop(self):
        self.arrivals.put(None)

    def arrived(self):
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


def to_pipe(frames, pipe=None):
    """Writes frames uint8 (S, S, 3) as raw RGB, each at once."""
    pipe = pipe or sys.stdout.buffer
    for frame in frames:
        pipe.write(frame.numpy().tobytes())
        pipe.flush()
