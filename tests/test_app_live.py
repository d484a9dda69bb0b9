"""The clock and the pipes of live sound."""
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import vasa_ref
from vasa_ref.app import live
from vasa_ref.app.live import Clock, Pipe, in_real_time, to_pipe


@pytest.mark.parametrize("n", [1, 3, 640, 5000])
def test_samples_survive_any_cut(n):
    samples = np.random.default_rng(0).integers(-32768, 32767, 3001).astype("<i2")
    data = io.BytesIO(samples.tobytes() + b"x")
    heard = torch.cat([chunk for _, chunk in Pipe(lambda: data.read(n))])
    assert heard.dtype == torch.float32 and torch.equal((heard * 32768).int(), torch.from_numpy(samples.astype(np.int32)))
    assert list(Pipe(lambda: b"")) == []


def test_the_pipe_listens_before_anybody_asks_and_ends_when_told():
    came = []
    def read():
        came.append(time.monotonic())
        if len(came) > 2:
            time.sleep(100)
        return b"ab"
    pipe, began = Pipe(read), time.monotonic()
    while len(came) < 3 and time.monotonic() - began < 5:
        time.sleep(0.01)
    time.sleep(0.2)
    pipe.stop()
    arrivals = [when for when, _ in pipe]
    assert len(arrivals) == 2 and all(when - began < 0.2 for when in arrivals)


def test_an_error_of_the_pipe_is_an_error_here():
    def read():
        raise OSError(5, "Input/output error")
    with pytest.raises(OSError, match="Input/output"):
        list(Pipe(read))


def test_the_process_ends_while_the_pipe_is_open():
    code = "from vasa_ref.app.live import Pipe\npipe = iter(Pipe())\nprint(len(next(pipe)[1]), flush=True)"
    env = {**os.environ, "PYTHONPATH": str(Path(vasa_ref.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    process.stdin.write(bytes(200))
    process.stdin.flush()
    assert process.wait(timeout=60) == 0 and process.stdout.read() == b"100\n" and process.stderr.read() == b""


def test_units_are_those_of_the_package():
    from vasa_ref import units
    from vasa_ref.hearing import audio
    from vasa_ref.world import speaking, voice
    assert (live.FRAME, live.SAMPLE_RATE) == (audio.FRAME, voice.SAMPLE_RATE) and units.FPS == speaking.FPS
    assert units.EMOTIONS == voice.EMOTIONS


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
    moments = iter([10.5, 10.64, 10.78])
    monkeypatch.setattr("vasa_ref.app.live.time.monotonic", lambda: next(moments))
    assert list(clock.shown("abc")) == ["a", "b", "c"]
    report = clock.report()
    spoken = [10.0 - 0.04, 10.04 - 0.0625, 10.04 - 0.0225]              # the frames' first samples, 0, 640 and 1280
    late = sorted(left - when for left, when in zip((10.5, 10.64, 10.78), spoken))
    assert report == {"latency_s": pytest.approx(late[1]), "latency_s_p95": pytest.approx(late[1] + 0.9 * (late[2] - late[1]))}
    assert Clock().report() == {} and len(Clock().sound()) == 0


def test_drift_is_zero_where_steps_keep_up_and_grows_where_not():
    for step, drift in ((0.2, 0.0), (0.25, 0.25)):                        # seconds for each five frames, of 0.2 s
        clock = Clock(keep=False)
        list(clock.heard([(0.04 * (i + 1), torch.zeros(640)) for i in range(100)]))
        clock.left = [step * (i // 5 + 1) + 1 for i in range(100)]
        assert clock.report()["drift"] == pytest.approx(drift, abs=1e-6) and not clock.chunks


def test_frames_go_out_as_raw_bytes():
    frames, pipe = torch.arange(24, dtype=torch.uint8).view(2, 2, 2, 3), io.BytesIO()
    to_pipe(iter(frames), pipe)
    assert pipe.getvalue() == bytes(range(24))
