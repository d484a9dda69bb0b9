"""Sound that arrives while frames leave: a microphone's samples in, raw frames out, and a clock beside them.

Nothing heavy is imported before it is needed: the clock has to run while torch and the weights are loaded.
"""
import bisect
import os
import queue
import sys
import threading
import time

from ..units import FRAME, SAMPLE_RATE

__all__ = ["Clock", "Pipe", "in_real_time", "to_pipe"]


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

    def report(self, new_frames=5):
        """{"latency_s", "latency_s_p95"}: from the moment at which a frame's first sample was spoken to its leaving; and
        "drift", see `speed.latency.drift`, for steps of `new_frames`. Absent where too few frames left."""
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


def in_real_time(waveform):
    """(time, chunk) of a recording (N,), at the pace at which it was spoken."""
    began = time.monotonic()
    for i, chunk in enumerate(waveform.split(FRAME), 1):
        due = began + i * FRAME / SAMPLE_RATE
        time.sleep(max(0.0, due - time.monotonic()))
        yield due, chunk


class Pipe:
    """(time, chunk) of raw 16-bit PCM, 16 kHz, one channel, as it comes; a last odd byte is left out.

    read() gives some bytes, b"" at the end; it is called in a thread of its own from now on, so that the times are those
    of the arrivals and not of our attention. `stop()` ends the sound after what has arrived. An OSError of `read` is
    raised where chunks are taken."""

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

    def __iter__(self):
        import numpy as np
        import torch
        odd = b""
        while (arrival := self.arrivals.get()) is not None:
            if isinstance(arrival, OSError):
                raise arrival
            when, data = arrival[0], odd + arrival[1]
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
