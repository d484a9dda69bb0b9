"""The clock and the pipes of live sound."""
import io
import time

import numpy as np
import pytest
import torch

from vasa_ref.live import Clock, from_pipe, in_real_time, to_pipe


class Slow(io.BytesIO):
    """A pipe that gives at most `n` bytes at once."""
    def __init__(self, data, n):
        super().__init__(data)
        self.n = n

    def read1(self, size=-1):
        return super().read1(min(size, self.n))


@pytest.mark.parametrize("n", [1, 3, 640, 5000])
def test_samples_survive_any_cut(n):
    samples = np.random.default_rng(0).integers(-32768, 32767, 3001).astype("<i2")
    heard = torch.cat([chunk for _, chunk in from_pipe(Slow(samples.tobytes() + b"x", n))])
    assert heard.dtype == torch.float32 and torch.equal((heard * 32768).int(), torch.from_numpy(samples.astype(np.int32)))
    assert list(from_pipe(io.BytesIO(b""))) == []


def test_a_recording_comes_at_its_own_pace():
    began = time.monotonic()
    arrivals = list(in_real_time(torch.arange(1500.0)))
    assert torch.equal(torch.cat([chunk for _, chunk in arrivals]), torch.arange(1500.0))
    assert [round(when - arrivals[0][0], 6) for when, _ in arrivals] == [0, 0.04, 0.08]
    assert time.monotonic() - began >= 0.119


def test_the_clock_measures_from_arrival_to_leaving(monkeypatch):
    clock = Clock()
    heard = clock.heard([(10.0, torch.zeros(640)), (10.04, torch.ones(1000)), (10.1, torch.zeros(300))])
    assert sum(map(len, heard)) == 1940 and clock.sound()[640:1640].all() and len(clock.sound()) == 1940
    moments = iter([10.5, 10.64, 10.78])                                  # frames begin in the first, second and second chunk
    monkeypatch.setattr("vasa_ref.live.time.monotonic", lambda: next(moments))
    assert list(clock.shown("abc")) == ["a", "b", "c"]
    report = clock.report()
    assert report["latency_s"] == pytest.approx(0.6) and report["latency_s_p95"] == pytest.approx(0.726)
    assert report["drift"] == pytest.approx(0.24 / 2 * 25)
    assert Clock().report() == {} and len(Clock().sound()) == 0


def test_frames_go_out_as_raw_bytes():
    frames, pipe = torch.arange(24, dtype=torch.uint8).view(2, 2, 2, 3), io.BytesIO()
    assert to_pipe(iter(frames), pipe) == 2 and pipe.getvalue() == bytes(range(24))
