"""Sound that arrives while frames leave: a microphone's samples in, frames or a video out, and a clock beside them."""
import bisect
import queue
import sys
import threading
import time

import numpy as np
import torch

from .audio import FRAME
from .latency import drift

__all__ = ["Clock", "from_pipe", "in_real_time", "to_pipe"]

class Clock:
    """Notes when sound came and when frames left.

    `heard(chunks)` and `shown(frames)` hand on what they get; `sound` is what was heard, `report()` the figures."""

    def __init__(self):
        self.chunks, self.arrived, self.samples, self.left = [], [], [], []

    def heard(self, chunks):
        """Chunks (n,) out of pairs (time of arrival, chunk)."""
        for when, chunk in chunks:
            self.chunks.append(chunk)
            self.arrived.append(when)
            self.samples.append(len(chunk) + (self.samples[-1] if self.samples else 0))
            yield chunk

    def shown(self, frames):
        for frame in frames:
            self.left.append(time.monotonic())
            yield frame

    def sound(self):
        return torch.cat(self.chunks) if self.chunks else torch.zeros(0)

    def report(self):
        """{"latency_s", "latency_s_p95": from a frame's first sample to its leaving; "drift": seconds per second that
        latency grows by, 0 where the machine keeps up}; absent where too few frames left."""
        first = [bisect.bisect_right(self.samples, i * FRAME) for i in range(len(self.left))]
        late = torch.tensor([left - self.arrived[i] for left, i in zip(self.left, first)])
        if len(late) < 2:
            return {}
        return {"latency_s": late.median().item(), "latency_s_p95": late.quantile(0.95).item(), "drift": drift(late)}


def in_real_time(waveform):
    """(time, chunk) of a recording (N,), at the pace at which it was spoken."""
    began = time.monotonic()
    for i, chunk in enumerate(waveform.split(FRAME), 1):
        due = began + i * FRAME / 16_000
        time.sleep(max(0.0, due - time.monotonic()))
        yield due, chunk


def from_pipe(pipe):
    """(time, chunk) of raw 16-bit PCM, 16 kHz, one channel, from a binary file, as it comes; a last odd byte is left out."""
    arrivals = queue.Queue()

    def listen():   # in a thread of its own, so that the time is that of the arrival and not of our attention
        while data := pipe.read1(2 * FRAME):
            arrivals.put((time.monotonic(), data))
        arrivals.put(None)

    threading.Thread(target=listen, daemon=True).start()
    odd = b""
    while (arrival := arrivals.get()) is not None:
        when, data = arrival
        data = odd + data
        whole = len(data) // 2 * 2
        odd = data[whole:]
        if whole:
            yield when, torch.from_numpy(np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768)


def to_pipe(frames, pipe=None):
    """Frames uint8 (S, S, 3) as raw RGB, each at once; returns how many."""
    pipe, count = pipe or sys.stdout.buffer, 0
    for frame in frames:
        pipe.write(frame.numpy().tobytes())
        pipe.flush()
        count += 1
    return count
