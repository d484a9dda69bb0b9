"""The clock and the pipes of live sound."""
import io
import os
import struct
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
from vasa_ref.errors import VasaError
from vasa_ref.media.files import ffmpeg_exe


@pytest.mark.parametrize("n", [1, 3, 640, 5000])
def test_samples_survive_any_cut(n):
    samples = np.random.default_rng(0).integers(-32768, 32767, 3001).astype("<i2")
    data = io.BytesIO(samples.tobytes() + b"x")
    heard = torch.cat([chunk for _, chunk in Pipe(lambda: data.read(n))])
    assert heard.dtype == torch.float32
    assert torch.equal((heard * 32768).int(), torch.from_numpy(samples.astype(np.int32)))
    assert list(Pipe(lambda: b"")) == []


def wav(samples, rate=16_000, channels=1, bits=16, coding=1, before=b"", after=b"", size=None, magic=b"RIFF",
        extensible=False):
    """A WAV by the book: RIFF, chunks before, fmt, data, chunks behind."""
    data = samples.tobytes()
    kind, width = 0xFFFE if extensible else coding, channels * bits // 8
    fmt = struct.pack("<HHIIHH", kind, channels, rate, rate * width, width, bits)
    if extensible: fmt += struct.pack("<HHIH", 22, bits, 4, coding) + bytes.fromhex("000000001000800000aa00389b71")
    size = len(data) if size is None else size
    return (magic + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + before + b"fmt " + struct.pack("<I", len(fmt)) + fmt
            + b"data" + struct.pack("<I", size)
            + data + after)


NOTE = b"LIST" + struct.pack("<I", 5) + b"hello\0"   # padded to an even length


@pytest.mark.parametrize("n", [1, 3, 11, 44, 640, 5000])
@pytest.mark.parametrize("options",
                         [{}, {"size": 0xFFFFFFFF}, {"size": 0}, {"before": NOTE, "after": NOTE}, {"extensible": True},
                          {"before": b"JUNK" + struct.pack("<I", 3000) + bytes(3000)}], ids=str)
def test_a_wav_is_heard_without_its_header(n, options):
    samples = np.random.default_rng(0).integers(-32768, 32767, 3001).astype("<i2")
    data = io.BytesIO(wav(samples, **options))
    heard = torch.cat([chunk for _, chunk in Pipe(lambda: data.read(n))])
    assert torch.equal((heard * 32768).int(), torch.from_numpy(samples.astype(np.int32)))


@pytest.mark.parametrize("options, said",
                         [({"rate": 44_100}, "44100 Hz"), ({"channels": 2}, "2 channels"), ({"bits": 24}, "24 bit"),
                          ({"coding": 3}, "coding 3"),
                          ({"coding": 3, "extensible": True}, "coding 3"), ({"magic": b"RF64"}, "cannot be streamed"),
                          ({"magic": b"RIFX"}, "cannot be streamed")], ids=str)
def test_any_other_wav_is_refused(options, said):
    data = io.BytesIO(wav(np.zeros(100, "<i2"), **options))
    with pytest.raises(VasaError, match=said) as error:
        list(Pipe(lambda: data.read(7)))
    assert "accepted on standard input" in str(error.value) and "\n" not in str(error.value)
    no_format = io.BytesIO(b"RIFF0000WAVEdata" + bytes(99))
    with pytest.raises(VasaError, match="does not say what it holds"):
        list(Pipe(lambda: no_format.read(7)))


@pytest.mark.parametrize("data", [b"RI", b"RIFF", b"RIFF1234WAVX", b"RIFF1234123456", b"RIFT1234WAVE", b"xRIFF123WAVE"])
def test_samples_that_look_like_a_wav_at_first_are_samples(data):
    source = io.BytesIO(data)
    heard = torch.cat([chunk for _, chunk in Pipe(lambda: source.read(1))])
    assert (heard * 32768).short().numpy().astype("<i2").tobytes() == data[:len(data) // 2 * 2]


def encoded(kind, seconds=0.5):
    """A tone as a file of that kind, by ffmpeg; MP3 and AAC as a bare stream too, without a tag."""
    options = {"mp3": "-f mp3", "bare mp3": "-f mp3 -id3v2_version 0 -write_xing 0", "mp2": "-f mp2 -c:a mp2",
               "slow mp3": "-f mp3 -id3v2_version 0 -write_xing 0 -ar 22050 -b:a 24k", "aac": "-f adts -c:a aac",
               "mp4": "-f mp4 -c:a aac -movflags frag_keyframe+empty_moov", "matroska": "-f matroska -c:a flac",
               "ogg": "-f ogg -c:a flac", "aifc": "-f aiff -c:a pcm_alaw", "avi": "-f avi -c:a pcm_s16le"}
    tone = ["-f", "lavfi", "-i", f"sine=440:duration={seconds}:sample_rate=16000"]
    done = subprocess.run([ffmpeg_exe(), "-v", "error", *tone, *options.get(kind, f"-f {kind}").split(), "-"],
                          capture_output=True)
    assert done.returncode == 0 and len(done.stdout) > 500, done.stderr
    return done.stdout


@pytest.mark.parametrize("n", [1, 640])
@pytest.mark.parametrize("kind, said", [("mp3", "MP3"), ("bare mp3", "MP3"), ("slow mp3", "MP3"), ("mp2", "MP3"),
                                        ("flac", "FLAC"), ("aiff", "AIFF"), ("aifc", "AIFF"), ("au", "AU"),
                                        ("w64", "Wave64"), ("ogg", "Ogg"), ("mp4", "MP4"), ("aac", "AAC"),
                                        ("avi", "AVI"), ("matroska", "Matroska"), ("caf", "CAF"), ("asf", "WMA")])
def test_other_sound_files_are_no_samples(kind, said, n):
    data = io.BytesIO(encoded(kind))
    with pytest.raises(VasaError, match=f"is a file of the kind {said}; accepted on standard input are raw") as error:
        list(Pipe(lambda: data.read(n)))
    assert str(error.value).endswith("ffmpeg -i FILE -ar 16000 -ac 1 -f wav - writes it")
    assert "\n" not in str(error.value)


def test_what_the_message_advises_is_accepted(tmp_path):
    (tmp_path / "a.flac").write_bytes(encoded("flac"))
    words = live.STANDARD_INPUT.split(", as ffmpeg ")[1].removesuffix(" writes it").split()
    words = [str(tmp_path / "a.flac") if word == "FILE" else word for word in words]
    wave = io.BytesIO(subprocess.run([ffmpeg_exe(), "-v", "error", *words], capture_output=True, check=True).stdout)
    heard = torch.cat([chunk for _, chunk in Pipe(lambda: wave.read(640))])
    tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 16_000) / 8
    assert len(heard) == 8000 and np.abs(heard.numpy() - tone).max() < 1e-3


@pytest.mark.parametrize("first", [b"\xff\xff\xff\xff", b"\xff\xfb\x90\x64", b"\xff\xf1\x50\x80\x10\x1f",
                                   b"\xff\xfb\xff\xfb", b"ID3x", b"FORM1234WAVE", b"fLaB", b"RIFF1234AVIX"])
@pytest.mark.parametrize("length", [6, 40, 5001])
def test_samples_that_begin_as_another_file_are_samples(first, length):
    data = (first + np.random.default_rng(0).integers(0, 255, 5001, np.uint8).tobytes())[:length]
    source = io.BytesIO(data)
    heard = torch.cat([chunk for _, chunk in Pipe(lambda: source.read(7))])
    assert (heard * 32768).short().numpy().astype("<i2").tobytes() == data[:length // 2 * 2]


def test_the_pipe_listens_before_anybody_asks_and_ends_when_told():
    came = []
    def read():
        came.append(time.monotonic())
        if len(came) > 2:
            time.sleep(100)
        return b"ab"
    began, pipe = time.monotonic(), Pipe(read)
    while len(came) < 3 and time.monotonic() - began < 60:
        time.sleep(0.01)
    asked = time.monotonic()
    pipe.stop()
    arrivals = [when for when, _ in pipe]
    assert len(arrivals) == 2 and all(began <= when <= asked for when in arrivals)


def test_an_error_of_the_pipe_is_an_error_here():
    def read():
        raise OSError(5, "Input/output error")
    with pytest.raises(OSError, match="Input/output"):
        list(Pipe(read))


def test_the_process_ends_while_the_pipe_is_open():
    code = "from vasa_ref.app.live import Pipe\npipe = iter(Pipe())\nprint(len(next(pipe)[1]), flush=True)"
    env = {**os.environ, "PYTHONPATH": str(Path(vasa_ref.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=env)
    process.stdin.write(bytes(200))
    process.stdin.flush()
    assert process.wait(timeout=60) == 0 and process.stdout.read() == b"100\n" and process.stderr.read() == b""


def test_units_are_those_of_the_package():
    from vasa_ref import units
    from vasa_ref.hearing import features
    from vasa_ref.world import speaking, voice
    assert (live.FRAME, live.SAMPLE_RATE) == (features.FRAME, voice.SAMPLE_RATE) and units.FPS == speaking.FPS
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
    report = clock.report(5)
    spoken = [10.0 - 0.04, 10.04 - 0.0625, 10.04 - 0.0225]              # the frames' first samples, 0, 640 and 1280
    late = sorted(left - when for left, when in zip((10.5, 10.64, 10.78), spoken))
    assert report == {"latency_s": pytest.approx(late[1]),
                      "latency_s_p95": pytest.approx(late[1] + 0.9 * (late[2] - late[1]))}
    assert Clock().report(5) == {} and len(Clock().sound()) == 0


def test_drift_is_zero_where_steps_keep_up_and_grows_where_not():
    for step, drift in ((0.2, 0.0), (0.25, 0.25)):                        # seconds for each five frames, of 0.2 s
        clock = Clock(keep=False)
        list(clock.heard([(0.04 * (i + 1), torch.zeros(640)) for i in range(100)]))
        clock.left = [step * (i // 5 + 1) + 1 for i in range(100)]
        assert clock.report(5)["drift"] == pytest.approx(drift, abs=1e-6) and not clock.chunks


def test_frames_go_out_as_raw_bytes():
    frames, pipe = torch.arange(24, dtype=torch.uint8).view(2, 2, 2, 3), io.BytesIO()
    to_pipe(iter(frames), pipe)
    assert pipe.getvalue() == bytes(range(24))
