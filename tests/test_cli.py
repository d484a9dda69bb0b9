"""The command line: the right result, or one clear line and exit code 2; never a traceback, never half an output."""
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import vasa_ref
from vasa_ref import cli
from vasa_ref.errors import VasaError

torch.set_num_threads(1)
ROOT = Path(vasa_ref.__file__).parents[1]


@pytest.fixture
def vasa(capsys):
    """Runs the command line in this process: (exit code, stdout, stderr)."""
    def run(*argv):
        capsys.readouterr()
        try:
            code = cli.main([str(a) for a in argv])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err
    return run


def refused(result, *said):
    """The result is exit code 2 and one line on stderr that says all of `said`."""
    code, out, err = result
    assert code == 2, result
    assert out == ""
    assert err.startswith("vasa: ") and err.count("\n") == 1 and err.endswith("\n"), err
    for words in said:
        assert str(words) in err, err


# ---- help and arguments

def test_help_is_fast_and_imports_nothing_heavy():
    code = ("import sys; from vasa_ref import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
            "print([m for m in ('torch', 'numpy', 'PIL', 'matplotlib') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ROOT})
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in ("animate", "portrait", "say", "train", "bench", "latency", "examples:"))


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "vasa_ref", "--version"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": ROOT})
    assert done.stdout == f"vasa_ref {vasa_ref.__version__}\n"


@pytest.mark.parametrize("command", ["animate", "portrait", "say", "train", "bench", "latency"])
def test_help_of_each_command(vasa, command):
    code, out, err = vasa(command, "--help")
    assert code == 0 and err == "" and f"vasa {command}" in out.split("examples:")[1]


@pytest.mark.parametrize("argv, said", [
    ([], "COMMAND"),
    (["sing"], "invalid choice: 'sing'"),
    (["animate", "p.png"], "AUDIO"),
    (["animate", "p.png", "s.wav"], "-o/--out"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--gaze", "90", "0"], "YAW 90 is out of range: accepted is -45 to 45"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--gaze", "0", "-31"], "PITCH -31 is out of range"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--gaze", "nan", "0"], "YAW nan is out of range"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--gaze", "left", "0"], "invalid float value: 'left'"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--gaze", "3"], "expected 2 arguments"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--distance", "0"], "accepted is a number from 0.5 to 2"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--distance", "inf"], "inf is out of range"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--emotion", "bored"], "choose from 'neutral', 'happy'"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--emotion-strength", "-1"], "from 0 to 2"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--cfg-audio", "x"], "'x' is not a number from 0 to 10"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--steps", "0"], "a whole number from 1 to 500"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--steps", "2.5"], "'2.5' is not a whole number"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--preset", "laptop", "--weights", "w"], "not allowed with"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--preset", "desktop"], "no weights called 'desktop'"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--weights", "no/such"], "no weights called 'no/such'"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--device", "gpu"], "device 'gpu' is not on this machine: accepted are cpu"),
    (["portrait", "-o", "p.png", "--size", "4"], "from 16 to 2048 pixels"),
    (["portrait", "-o", "p.png", "--seed", "-1"], "from 0 to"),
    (["portrait", "-o", "p.bmp"], "should end in .png or .jpg"),
    (["portrait", "-o", "no/such/p.png"], "no folder no/such for the output p.png"),
    (["say", "hello", "-o", "s.ogg"], "should end in .wav or .flac"),
    (["say", "hello", "-o", "s.wav", "--voice", "nobody"], "unknown voice 'nobody'; accepted are ada"),
    (["say", "hello", "-o", "s.wav", "--language", "xx"], "unknown language 'xx'; accepted are"),
    (["say", "", "-o", "s.wav"], "nothing to speak"),
    (["train", "mouth"], "choose from 'audio', 'face', 'motion', 'metrics', 'all'"),
    (["train", "face", "--preset", "huge"], "choose from 'tiny', 'laptop', 'paper'"),
    (["train", "face", "--minutes", "0"], "from 0.01 to"),
    (["train", "face", "--resume", "no/such"], "cannot resume: no folder no/such"),
    (["bench", "--json", "no/such/b.json"], "no folder no/such"),
    (["latency", "--preset", "huge"], "choose from"),
    (["latency", "--json", "l.txt"], "should end in .json")])
def test_what_is_wrong_is_said_in_one_line(vasa, tmp_path, monkeypatch, argv, said):
    monkeypatch.chdir(tmp_path)
    fake_weights(monkeypatch)
    for name in ("p.png", "s.wav"):
        if argv[:1] == ["animate"]:
            Path(name).write_bytes(b"x")
    before = sorted(os.listdir())
    refused(vasa(*argv), said)
    assert sorted(os.listdir()) == before


def test_the_lists_in_the_help_are_those_of_the_package():
    from vasa_ref import performer
    assert cli.EMOTIONS == tuple(performer.EMOTIONS)
    assert sum(cli.SHARES.values()) == pytest.approx(1) and cli.SHARES.keys() == cli.TRAINERS.keys()


# ---- what the commands hand on

def fake_weights(monkeypatch):
    """A preset "laptop" exists, whether or not weights ship."""
    import vasa_ref.weights
    real = vasa_ref.weights.weights_folder
    monkeypatch.setattr(vasa_ref.weights, "weights_folder", lambda name: Path("shipped") if name == "laptop" else real(name))


class FakeTalker:
    """Stands for the talker where a test is about the command line only."""
    calls = []

    @classmethod
    def from_pretrained(cls, folder, device):
        cls.calls.append({"folder": folder, "device": device})
        return cls()

    size = 8

    def animate_to_file(self, path, portrait, audio, *, progress, **options):
        self.calls.append({"path": path, "portrait": portrait, "audio": audio, **options})
        for done in range(50):
            progress(done + 1, 50)
        Path(path).write_bytes(b"video")


@pytest.fixture
def fake_talker(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fake_weights(monkeypatch)
    monkeypatch.setitem(sys.modules, "vasa_ref.talker", SimpleNamespace(Talker=FakeTalker))
    FakeTalker.calls = []
    for name in ("p.png", "s.mp4"):
        Path(name).write_bytes(b"x")
    return FakeTalker.calls


def test_animate_hands_everything_on(vasa, fake_talker):
    code, out, err = vasa("animate", "p.png", "s.mp4", "-o", "o.mp4", "--gaze", "-30", "15", "--distance", "1.25",
                          "--emotion", "sad", "--emotion-strength", "0.5", "--cfg-audio", "2", "--cfg-gaze", "0",
                          "--steps", "7", "--seed", "9")
    assert (code, err) == (0, "")
    assert "o.mp4: 2.0 s of video, 8 x 8 pixels" in out and "real-time factor" in out
    loaded, call = fake_talker
    assert loaded == {"folder": Path("shipped"), "device": torch.device("cpu")}
    assert call == {"path": Path("o.mp4"), "portrait": "p.png", "audio": "s.mp4", "gaze": (-30.0, 15.0), "distance": 1.25,
                    "emotion": "sad", "emotion_strength": 0.5, "cfg_scale": {"audio": 2.0, "gaze": 0.0}, "steps": 7, "seed": 9}


def test_animate_by_default(vasa, fake_talker):
    assert vasa("animate", "p.png", "s.mp4", "-o", "o.mp4", "--quiet") == (0, "", "")
    call = fake_talker[1]
    assert call["gaze"] == (0.0, 0.0) and call["emotion"] is None and call["steps"] is None
    assert call["cfg_scale"] == {"audio": 0.5, "gaze": 1.0} and call["seed"] == 0


def test_an_output_never_replaces_an_input(vasa, fake_talker):
    refused(vasa("animate", "p.png", "s.mp4", "-o", "s.mp4"), "also an input")
    assert Path("s.mp4").read_bytes() == b"x" and fake_talker == []


@pytest.mark.parametrize("error, said", [(VasaError("a\n  b"), "vasa: a b\n"), (MemoryError(), "not enough memory"),
                                         (OSError(28, "No space left on device"), "No space left on device"),
                                         (OSError(13, "Permission denied", "o.mp4"), "Permission denied: o.mp4")])
def test_errors_of_the_work_are_one_line_too(vasa, fake_talker, monkeypatch, error, said):
    def fail(*args, **options):
        raise error
    monkeypatch.setattr(FakeTalker, "animate_to_file", fail)
    refused(vasa("animate", "p.png", "s.mp4", "-o", "o.mp4"), said)


def test_an_interrupt_is_no_traceback(vasa, fake_talker, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt
    monkeypatch.setattr(FakeTalker, "animate_to_file", stop)
    assert vasa("animate", "p.png", "s.mp4", "-o", "o.mp4") == (130, "", "vasa: interrupted\n")


@pytest.fixture
def trainers(monkeypatch, tmp_path):
    """The four training functions, recording what they are given; the clock runs as told."""
    monkeypatch.chdir(tmp_path)
    calls, clock = [], SimpleNamespace(now=0.0, takes={})
    for part, (module, function) in cli.TRAINERS.items():
        def trainer(preset, part=part, **options):
            calls.append((part, preset, options))
            clock.now += 60 * clock.takes.get(part, options["minutes"])
        monkeypatch.setitem(sys.modules, f"vasa_ref.{module}", SimpleNamespace(**{function: trainer}))
    monkeypatch.setattr(cli.time, "monotonic", lambda: clock.now)
    return calls, clock


def test_train_one_part(vasa, trainers):
    calls, _ = trainers
    code, out, err = vasa("train", "motion", "--preset", "tiny", "--minutes", "3", "--seed", "4")
    assert (code, err) == (0, "") and "motion: 3.0 minutes, from the start" in out and "runs/tiny" in out
    assert calls == [("motion", "tiny", {"minutes": 3.0, "resume": None, "out": Path("runs/tiny"), "seed": 4,
                                         "device": torch.device("cpu"), "quiet": False})]
    assert Path("runs/tiny").is_dir()


def test_train_all_shares_the_minutes(vasa, trainers):
    calls, clock = trainers
    assert vasa("train", "all", "--minutes", "20", "--quiet") == (0, "", "")
    assert [(part, round(o["minutes"], 6)) for part, _, o in calls] == [("audio", 3), ("face", 10), ("motion", 5), ("metrics", 2)]
    calls.clear()
    clock.takes = {"audio": 0.0}
    vasa("train", "all", "--minutes", "17", "--quiet")
    assert [round(o["minutes"], 6) for _, _, o in calls] == [2.55, 10, 5, 2]   # what audio did not need goes to the others


def test_train_resumes_into_the_same_folder(vasa, trainers):
    calls, _ = trainers
    Path("mine/face-joint").mkdir(parents=True)
    vasa("train", "face", "--resume", "mine")
    assert calls[0][2]["resume"] == "mine" and calls[0][2]["out"] == Path("mine")
    calls.clear()
    vasa("train", "all", "--resume", "mine", "--out", "other")
    assert [o["resume"] for _, _, o in calls] == [None, "mine", None, None]
    assert {str(o["out"]) for _, _, o in calls} == {"other"}


def test_bench_and_latency_print_and_write(vasa, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fake_weights(monkeypatch)
    figures = {"self_psnr": 24.123456, "clips": 8, "preset": "laptop"}
    asked = []
    bench = SimpleNamespace(bench=lambda folder, quick, seed: asked.append((folder, quick, seed)) or figures)
    speed = SimpleNamespace(latency=lambda preset, device: asked.append((preset, device)) or {"offline_fps": 90.5})
    for name, module in (("metrics", bench), ("latency", speed)):
        monkeypatch.setitem(sys.modules, f"vasa_ref.{name}", module)
        monkeypatch.setattr(vasa_ref, name, module, raising=False)
    code, out, err = vasa("bench", "--json", "b.json", "--quick")
    assert (code, err) == (0, "") and out == "self_psnr  24.12\nclips      8\npreset     laptop\n"
    assert json.loads(Path("b.json").read_text()) == figures
    assert vasa("latency", "--preset", "paper", "--json", "l.json", "--quiet") == (0, "", "")
    assert json.loads(Path("l.json").read_text()) == {"offline_fps": 90.5}
    assert asked == [(Path("shipped"), True, 0), ("paper", torch.device("cpu"))]
    figures["fvd"] = math.nan
    with pytest.raises(ValueError):   # a figure that is not a number is a bug, and is not written
        vasa("bench", "--json", "c.json")
    assert not Path("c.json").exists() and len(os.listdir()) == 2


# ---- a portrait and speech

def test_portrait(vasa, tmp_path):
    from PIL import Image
    for name, seed in (("a.png", 3), ("b.png", 3), ("c.png", 4), ("d.jpg", 3)):
        code, out, err = vasa("portrait", "-o", tmp_path / name, "--seed", seed, "--size", 48)
        assert (code, err) == (0, "") and f"person {seed}" in out
    pictures = {p.name: np.asarray(Image.open(p)).astype(int) for p in tmp_path.iterdir()}
    assert pictures["a.png"].shape == (48, 48, 3) and pictures["a.png"].std() > 20
    assert (pictures["a.png"] == pictures["b.png"]).all() and (pictures["a.png"] != pictures["c.png"]).any()
    assert abs(pictures["d.jpg"] - pictures["a.png"]).mean() < 8


def test_say(vasa, tmp_path):
    import soundfile
    code, out, err = vasa("say", "Two words.", "-o", tmp_path / "s.wav", "--language", "de")
    assert (code, err) == (0, "") and "language de" in out
    samples, rate = soundfile.read(tmp_path / "s.wav")
    assert rate == 16000 and samples.ndim == 1 and len(samples) > 8000 and abs(samples).max() > 0.05
    assert soundfile.info(tmp_path / "s.wav").subtype == "PCM_16"
    assert vasa("say", "Two words.", "-o", tmp_path / "s.flac", "--quiet") == (0, "", "")
    assert soundfile.info(tmp_path / "s.flac").format == "FLAC"


@pytest.mark.parametrize("argv", [("portrait", "--size", 32, "-o", "p.png"), ("say", "hello", "-o", "s.wav")])
def test_a_full_disk_leaves_nothing(vasa, tmp_path, monkeypatch, argv):
    """The rename is the last step: when writing fails before it, the old file stays and no new one appears."""
    monkeypatch.chdir(tmp_path)
    Path(argv[-1]).write_bytes(b"old")

    def full(*args, **options):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("PIL.Image.Image.save", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    refused(vasa(*argv), "No space left on device")
    assert os.listdir() == [argv[-1]] and Path(argv[-1]).read_bytes() == b"old"
