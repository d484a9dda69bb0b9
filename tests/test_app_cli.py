"""The command line: the right result, or one clear line and exit code 2; never a traceback, never half an output."""
import io
import json
import math
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import vasa_ref
from vasa_ref.app import arguments, cli
from vasa_ref.errors import VasaError
from vasa_ref.motion.conditions import CONDITIONS, clip_conditions
from vasa_ref.speed.faster import Tricks  # not first under a talker that only pretends: its classes would stay
from vasa_ref.trust.credentials import digest

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
    code = ("import sys; from vasa_ref.app import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
            "print([m for m in ('torch', 'numpy', 'PIL', 'matplotlib') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": ROOT})
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in ("animate", "adapt", "portrait", "say", "inspect", "detect", "clips",
                                                "train", "bench", "tables", "latency", "examples:"))


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "vasa_ref", "--version"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": ROOT})
    assert done.stdout == f"vasa_ref {vasa_ref.__version__}\n"


@pytest.mark.parametrize("command", ["animate", "adapt", "portrait", "say", "inspect", "detect", "clips",
                                     "train", "bench", "tables", "latency"])
def test_help_of_each_command(vasa, command):
    code, out, err = vasa(command, "--help")
    assert code == 0 and err == "" and f"vasa {command}" in out.split("examples:")[1]
    assert ("--device" in out) == (command not in ("say", "inspect", "detect")), "all others draw or train with torch"


@pytest.mark.parametrize("argv, said", [
    ([], "COMMAND"),
    (["sing"], "invalid choice: 'sing'"),
    (["animate", "p.png"], "AUDIO"),
    (["animate", "p.png", "s.wav"], "-o/--out"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--gaze", "90", "0"],
     "YAW 90 is out of range: accepted is -45 to 45"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--gaze", "0", "-31"], "PITCH -31 is out of range"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--gaze", "nan", "0"], "YAW nan is out of range"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--gaze", "left", "0"], "invalid float value: 'left'"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--gaze", "3"], "expected 2 arguments"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--distance", "0"], "accepted is a number from 0.5 to 2"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--distance", "inf"], "inf is out of range"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--emotion", "bored"], "choose from 'neutral', 'happy'"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--emotion-strength", "-1"], "from 0 to 2"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--emotion-strength", "1"], "--emotion-strength needs an --emotion"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--lookahead", "80"], "--lookahead is for --stream"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--new-frames", "1"], "--new-frames is for --stream"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--stream", "--new-frames", "0"], "from 1 to 25"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--stream", "--lookahead", "-1"], "from 0 to 1000"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--cfg-audio", "x"], "'x' is not a number from 0 to 10"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--steps", "0"], "a whole number from 1 to 500"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--temperature", "3"], "from 0 to 2"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--steps", "2.5"], "'2.5' is not a whole number"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--preset", "laptop", "--weights", "w"], "not allowed with"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--preset", "desktop"], "no weights called 'desktop'"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--weights", "no/such"], "no weights called 'no/such'"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--device", "gpu"],
     "device 'gpu' is not on this machine: accepted are cpu"),
    (["animate", "p.png", "-", "-o", "o.mp4"], "with --stream only"),
    (["animate", "p.png", "s.wav", "-o", "-"], "with --stream only"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--crop", "face"], "choose from 'auto', 'none'"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--face", "0"], "a whole number from 1 to 100"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--crop", "none", "--face", "1"], "crop auto"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--curves", "no.json"], "cannot read the curves 'no.json'"),
    (["animate", "p.png", "s.wav", "-o", "o.mp4", "--pose-from", "no.mp4"], "cannot read the video 'no.mp4'"),
    (["portrait", "-o", "p.png", "--size", "4"], "from 16 to 2048 pixels"),
    (["portrait", "-o", "p.png", "--seed", "-1"], "from 0 to"),
    (["portrait", "-o", "p.png", "--age", "5"], "from 18 to 90 years"),
    (["portrait", "-o", "p.png", "--sex", "men"], "choose from 'female', 'male'"),
    (["portrait", "-o", "p.png", "--origin", "mars"], "choose from 'african', 'asian', 'caucasian'"),
    (["portrait", "-o", "p.png", "--look", "mohawk"], "'side parting', 'quiff'"),
    (["portrait", "-o", "p.bmp"], "should end in .png or .jpg"),
    (["portrait", "-o", "no/such/p.png"], "no folder no/such for the output p.png"),
    (["say", "hello", "-o", "s.ogg"], "should end in .wav or .flac"),
    (["say", "hello", "-o", "s.wav", "--voice", "nobody"], "unknown voice 'nobody'; accepted are ada"),
    (["say", "hello", "-o", "s.wav", "--language", "xx"], "unknown language 'xx'; accepted are"),
    (["say", "", "-o", "s.wav"], "nothing to speak"),
    (["train", "mouth"], "choose from 'audio', 'face', 'motion', 'quick', 'metrics', 'sync', 'frame-judges', 'all'"),
    (["train", "face", "--preset", "huge"], "choose from 'tiny', 'laptop', 'paper'"),
    (["train", "face", "--minutes", "0"], "from 0.01 to"),
    (["train", "face", "--resume", "no/such"], "cannot resume: no folder no/such"),
    (["bench", "--json", "no/such/b.json"], "no folder no/such"),
    (["portrait", "-o", "her.png", "--device", "gpu"], "device 'gpu' is not on this machine: accepted are cpu"),
    (["bench", "--device", "gpu"], "device 'gpu' is not on this machine: accepted are cpu"),
    (["tables", "--device", "gpu"], "device 'gpu' is not on this machine: accepted are cpu"),
    (["tables", "--json", "no/such/b.json"], "no folder no/such"),
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
    from vasa_ref.motion import diffusion
    from vasa_ref.world import voice
    from vasa_ref.world.head import ORIGINS
    from vasa_ref.world.people import HAIR_STYLES
    assert CONDITIONS["emotion"].choices == tuple(voice.EMOTIONS)
    assert (arguments.ORIGINS, arguments.LOOKS) == (ORIGINS, HAIR_STYLES)
    assert sum(cli.SHARES.values()) == pytest.approx(1) and cli.SHARES.keys() == cli.TRAINERS.keys()
    given = arguments.make_parser().parse_args(["animate", "p.png", "s.wav", "-o", "o.mp4"])
    assert not [name for name in clip_conditions() if not hasattr(given, name)]
    assert tuple(cli.TRAINERS) == arguments.PARTS and arguments.SAMPLERS == diffusion.SAMPLERS


def test_what_the_commands_call_exists_and_takes_what_they_give():
    import importlib
    import inspect

    from vasa_ref.training import Run
    calls = {(module, function): ["preset", "minutes", "resume", "out", "device", "seed", "quiet"]
             for module, function, _ in cli.TRAINERS.values()}
    calls |= {("talking.adapt",
               "adapt"): ["portrait", "out", "weights", "minutes", "crop", "face", "seed", "device", "quiet"]}
    calls |= {("measure.tables", "paper_tables"): ["preset", "quick", "seed", "quiet", "device"]}
    calls |= {("measure.metrics", "bench"): ["preset", "quick", "seed", "quiet", "device"],
              ("speed.latency", "latency"): ["preset", "device", "tricks"]}
    for (module, function), wanted in calls.items():
        taken = set(inspect.signature(getattr(importlib.import_module(f"vasa_ref.{module}"), function)).parameters)
        if "asked" in taken: taken |= set(inspect.signature(Run).parameters)
        assert set(wanted) <= set(taken), (module, function)


# ---- what the commands hand on

def fake_weights(monkeypatch):
    """A preset "laptop" exists, whether or not weights ship."""
    import vasa_ref.store
    real = vasa_ref.store.weights_folder
    shipped = lambda name: Path("shipped") if name == "laptop" else real(name)
    monkeypatch.setattr(vasa_ref.store, "weights_folder", shipped)


FILM = b"".join((8 + len(inside)).to_bytes(4, "big") + kind + inside
                for kind, inside in ((b"ftyp", b"isom"), (b"moov", b"an index"), (b"mdat", b"pictures")))


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
        Path(path).write_bytes(FILM)


class FakePhotograph:
    """Stands for the photograph: gives the portrait as it was given."""
    opened, notes, film_size = [], [], (20, 10)

    @classmethod
    def open(cls, portrait, **options):
        cls.opened.append((portrait, options))
        return cls()

    def encode(self, talker): return self.opened[-1][0]

    def paste(self, frames): return frames


@pytest.fixture
def fake_talker(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fake_weights(monkeypatch)
    monkeypatch.setitem(sys.modules, "vasa_ref.talking.talker", SimpleNamespace(Talker=FakeTalker))
    monkeypatch.setitem(sys.modules, "vasa_ref.talking.photograph", SimpleNamespace(Photograph=FakePhotograph))
    FakeTalker.calls, FakePhotograph.opened = [], []
    for name in ("p.png", "s.mp4"):
        Path(name).write_bytes(b"x")
    return FakeTalker.calls


def test_animate_hands_everything_on(vasa, fake_talker):
    code, out, err = vasa("animate", "p.png", "s.mp4", "-o", "o.mp4", "--gaze", "-30", "15", "--distance", "1.25",
                          "--emotion", "sad", "--emotion-strength", "0.5", "--cfg-audio", "2", "--cfg-gaze", "0",
                          "--steps", "7", "--sampler", "dpm", "--temperature", "0.5", "--seed", "9",
                          "--head-motion", "1.5", "--blink-rate", "30", "--codec", "h264_nvenc")
    assert (code, err) == (0, "")
    assert "o.mp4: 2.0 s of video, 8 x 8 pixels" in out and "real-time factor" in out
    loaded, call = fake_talker
    assert loaded == {"folder": Path("shipped"), "device": torch.device("cpu")}
    made = call.pop("made")
    assert made.portrait == made.sound == digest(b"x") and made.marks and made.credentials and made.source == "trained"
    assert call == {"path": Path("o.mp4"), "portrait": "p.png", "audio": "s.mp4", "gaze": (-30.0, 15.0),
                    "distance": 1.25,
                    "emotion": "sad", "emotion_strength": 0.5, "cfg_scale": {"audio": 2.0, "gaze": 0.0}, "steps": 7,
                    "sampler": "dpm", "temperature": 0.5, "seed": 9, "head_motion": 1.5, "blink_rate": 30.0,
                    "codec": "h264_nvenc"}


def test_fast_animate_has_another_talker_with_all_tricks(vasa, fake_talker, monkeypatch):
    given = []
    monkeypatch.setattr("vasa_ref.speed.faster.FastTalker", lambda talker, tricks: given.append(tricks) or talker)
    assert vasa("animate", "p.png", "s.mp4", "-o", "o.mp4", "--fast", "--quiet") == (0, "", "")
    assert given == [Tricks.best("cpu")] and fake_talker[1]["codec"] == "libx264"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_stream_makes_motion_and_frames_at_once_and_compiles_only_when_asked(monkeypatch, device):
    from vasa_ref.app.films import talker_for
    given, live = [], Tricks.live(device)
    monkeypatch.setattr("vasa_ref.speed.faster.FastTalker", lambda talker, tricks: given.append(tricks) or talker)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setattr("vasa_ref.talking.talker.Talker.from_pretrained",
                        lambda folder, device: SimpleNamespace(device=torch.device(device)))
    for fast in (False, True):
        talker_for(SimpleNamespace(folder="laptop", where=device, fast=fast, stream=True))
    assert given == [replace(live, compiled=False, graph=False), live]
    assert live.overlap and (given[0] == live) == (device == "cpu")


def test_animate_by_default(vasa, fake_talker):
    assert vasa("animate", "p.png", "s.mp4", "-o", "o.mp4", "--quiet") == (0, "", "")
    call = fake_talker[1]
    assert not {"gaze", "distance", "emotion", "head_motion", "blink_rate"} & call.keys() and call["steps"] is None
    assert call["temperature"] is None
    assert call["cfg_scale"] == {} and call["seed"] == 0                   # the weights' own


def test_a_photograph_is_opened_as_asked(vasa, fake_talker, monkeypatch):
    assert vasa("animate", "p.png", "s.mp4", "-o", "o.mp4", "--quiet") == (0, "", "")
    assert FakePhotograph.opened == [("p.png", {"crop": "auto", "face": None})] and "through" not in fake_talker[1]
    monkeypatch.setattr(FakePhotograph, "notes", ["two faces"])
    code, out, err = vasa("animate", "p.png", "s.mp4", "-o", "o.mp4", "--face", "2", "--full")
    assert (code, err) == (0, "vasa: two faces\n") and "20 x 10 pixels" in out
    assert FakePhotograph.opened[1] == ("p.png", {"crop": "auto", "face": 2})
    assert fake_talker[3]["through"].__name__ == "paste"
    assert vasa("animate", "p.png", "s.mp4", "-o", "o.mp4", "--crop", "none", "--quiet") == (0, "", "")
    assert FakePhotograph.opened[2][1] == {"crop": "none", "face": None}


def test_curves_are_handed_on_as_key_frames(vasa, fake_talker):
    Path("c.json").write_text('{"gaze": {"0": [0, 0], "1.5": [10, -5]}, '
                              '"emotion": {"1": "neutral", "2": {"sad": 0.5}}}')
    assert vasa("animate", "p.png", "s.mp4", "-o", "o.mp4", "--quiet", "--curves", "c.json", "--distance",
                "1.1") == (0, "", "")
    call = fake_talker[1]
    assert call["gaze"] == {0.0: [0, 0], 1.5: [10, -5]} and call["emotion"] == {1.0: "neutral", 2.0: {"sad": 0.5}}
    assert call["distance"] == 1.1


def test_curves_may_begin_with_a_byte_order_mark(vasa, fake_talker):
    Path("c.json").write_bytes(b"\xef\xbb\xbf" + b'{"distance": {"0": 1, "2": 1.2}}')
    assert vasa("animate", "p.png", "s.mp4", "-o", "o.mp4", "--quiet", "--curves", "c.json") == (0, "", "")
    assert fake_talker[1]["distance"] == {0.0: 1, 2.0: 1.2}


def test_a_terminal_without_the_letters_of_a_name_still_ends_well(tmp_path):
    code = "import sys; from vasa_ref.app import cli; sys.exit(cli.main(sys.argv[1:]))"
    out = tmp_path / "\u5f69.wav"
    done = subprocess.run([sys.executable, "-c", code, "say", "Hello.", "-o", str(out)], capture_output=True,
                          env={**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"})
    assert done.returncode == 0 and out.is_file() and b"\\u5f69.wav" in done.stdout


@pytest.mark.parametrize("text, options, said", [
    ("gaze", [], "accepted is a JSON object"), ("[1, 2]", [], "accepted is a JSON object"),
    ('{"gaze": 3}', [], "accepted is a JSON"),
    ('{"gaze": {"now": [0, 0]}}', [], "seconds to values"),
    ('{"smile": {"0": 1}}', [], "has smile: accepted are gaze, distance"),
    ('{"gaze": {}}', [], "gaze has no key frames"), ("[" * 100_000, [], "accepted is a JSON object"),
    ('{"gaze": {"1": [0, 0], "1.0": [9, 0]}}', [], "two key frames at one time"),
    ('{"gaze": {"0": "12"}}', [], "2 angles in degrees"),
    ('{"distance": {"0": 1' + 400 * "0" + "}}", [], "from 0.5 to 2"),
    ('{"distance": {"0": 1}}', ["--distance", "1.2"], "not both")])
def test_curves_that_cannot_be_used(vasa, fake_talker, text, options, said):
    Path("c.json").write_text(text)
    refused(vasa("animate", "p.png", "s.mp4", "-o", "o.mp4", "--curves", "c.json", *options), said)
    assert fake_talker == []


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
    """The training functions, recording what they are given; the clock runs as told."""
    monkeypatch.chdir(tmp_path)
    calls, clock = [], SimpleNamespace(now=0.0, takes={})
    for part, (module, function, _) in cli.TRAINERS.items():
        def trainer(preset, part=part, **options):
            calls.append((part, preset, options))
            clock.now += 60 * clock.takes.get(part, options["minutes"])
        monkeypatch.setitem(sys.modules, f"vasa_ref.{module}", SimpleNamespace(**{function: trainer}))
    monkeypatch.setattr(cli.time, "monotonic", lambda: clock.now)
    return calls, clock


def test_training_on_clips_says_what_it_starts_from(vasa, trainers, monkeypatch):
    calls, _ = trainers
    monkeypatch.setitem(sys.modules, "vasa_ref.footage.clips", SimpleNamespace(open_clips=lambda folder: "footage"))
    monkeypatch.setattr("vasa_ref.store.shipped_presets", lambda: ["tiny"])
    code, out, err = vasa("train", "motion", "--preset", "tiny", "--clips", "c", "--out", "a")
    assert (code, err) == (0, "") and ", from the shipped weights\n" in out and calls[-1][2]["start"] == "tiny"
    monkeypatch.setattr("vasa_ref.store.shipped_presets", lambda: [])
    code, out, err = vasa("train", "motion", "--preset", "tiny", "--clips", "c", "--out", "b")
    assert (code, err) == (0, "") and ", from the start\n" in out and "start" not in calls[-1][2]


def test_train_one_part(vasa, trainers):
    calls, _ = trainers
    code, out, err = vasa("train", "motion", "--preset", "tiny", "--minutes", "3", "--seed", "4")
    assert (code, err) == (0, "") and "motion: 3.0 minutes, from the start" in out and "runs/tiny" in out
    assert calls == [("motion", "tiny", {"minutes": 3.0, "resume": None, "out": Path("runs/tiny"), "seed": 4,
                                         "device": torch.device("cpu"), "quiet": False})]
    assert Path("runs/tiny").is_dir()


def test_vgg19_is_for_the_plain_face(vasa, trainers):
    calls, _ = trainers
    Path("vgg19.safetensors").touch()
    refused(vasa("train", "all", "--vgg19", "vgg19.safetensors"), "of no use to the preset laptop", "--preset paper")
    assert not calls and os.listdir() == ["vgg19.safetensors"]
    assert vasa("train", "all", "--preset", "paper", "--vgg19", "vgg19.safetensors", "--quiet")[0] == 0
    assert [options.get("vgg19") for _, _, options in calls] == [None, "vgg19.safetensors", *5 * [None]]
    assert vasa("train", "motion", "--vgg19", "vgg19.safetensors", "--out",
                "other")[2].startswith("vasa: --vgg19 is for the training of the face")
    refused(vasa("train", "face", "--preset", "paper", "--vgg19", "none", "--out", "other"), "no file at none")
    assert not Path("other").exists()


def test_audio_is_what_motion_learns_from(vasa, trainers):
    calls, _ = trainers
    assert vasa("train", "motion", "--audio", "facebook/wav2vec2-base", "--quiet")[0] == 0
    assert calls[0][2]["audio"] == "facebook/wav2vec2-base"
    assert vasa("train", "all", "--audio", "x", "--out",
                "other")[2].startswith("vasa: --audio is what motion learns from, not all")


def test_the_teacher_is_for_audio(vasa, trainers):
    calls, _ = trainers
    Path("moonshine").mkdir()
    assert vasa("train", "audio", "--teacher", "moonshine", "--out", "a")[2].startswith("vasa: no audio.safetensors in")
    Path("moonshine/audio.safetensors").touch()
    assert vasa("train", "motion", "--teacher", "moonshine", "--out", "a")[2].startswith(
        "vasa: --teacher is for audio, not for motion")
    assert vasa("train", "audio", "--teacher", "moonshine", "--out", "a", "--quiet")[0] == 0
    assert [options.get("teacher") for _, _, options in calls] == ["moonshine"]


def test_voices_are_what_audio_and_motion_learn_from(vasa, trainers):
    calls, _ = trainers
    Path("voices.safetensors").touch()
    assert vasa("train", "all", "--voices", "voices.safetensors", "--quiet")[0] == 0
    assert [options.get("voices")
            for _, _, options in calls] == ["voices.safetensors", None, *2 * ["voices.safetensors"], *3 * [None]]
    assert vasa("train", "face", "--voices", "voices.safetensors", "--out",
                "other")[2].startswith("vasa: --voices is for audio, motion and quick, not for face")
    assert vasa("train", "audio", "--voices", "none", "--out", "other")[2].startswith("vasa: no file at none")
    assert not Path("other").exists()


def test_trained_weights_are_not_overwritten_by_chance(vasa, trainers):
    calls, _ = trainers
    Path("mine").mkdir()
    Path("mine/face.safetensors").touch()
    code, out, err = vasa("train", "all", "--out", "mine")
    assert (code, out) == (2,
                           "") and err == ("vasa: mine holds trained weights (face): go on with --resume mine, or give "
                                           "another --out\n")
    assert vasa("train", "audio", "--out", "mine", "--quiet")[0] == 0 and len(calls) == 1


def test_resuming_remembers_the_preset(vasa, trainers):
    calls, _ = trainers
    vasa("train", "audio", "--preset", "tiny", "--out", "mine", "--quiet")
    vasa("train", "audio", "--resume", "mine", "--quiet")
    assert [preset for _, preset, _ in calls] == ["tiny", "tiny"]
    code, _, err = vasa("train", "audio", "--resume", "mine", "--preset", "laptop")
    assert code == 2 and "was trained with --preset tiny" in err and len(calls) == 2
    Path("mine/training.json").write_text("{")
    code, _, err = vasa("train", "audio", "--resume", "mine")
    assert code == 2 and err == "vasa: mine/training.json is damaged: remove it, and say --preset\n"


def test_one_folder_has_one_preset_and_one_training(vasa, trainers):
    calls, _ = trainers
    vasa("train", "audio", "--preset", "tiny", "--out", "mine", "--quiet")
    code, _, err = vasa("train", "face", "--preset", "laptop", "--out", "mine")
    assert code == 2 and "mine was trained with --preset tiny, not laptop" in err
    Path("other/face-joint").mkdir(parents=True)
    Path("other/face-joint/checkpoint.safetensors").touch()               # cut before it had weights
    code, _, err = vasa("train", "face", "--preset", "tiny", "--out", "other")
    assert code == 2 and "go on with --resume other" in err
    code, _, err = vasa("train", "face", "--resume", "mine", "--out", "other")
    assert code == 2 and "go on with --resume other" in err and len(calls) == 1


@pytest.mark.parametrize("part, place",
                         [("audio", "audio"), ("face", "face-encoders"), ("motion", "motion"), ("metrics", "metrics"),
                          ("sync", "sync"), ("frame-judges", "frame-judges")])
def test_where_each_part_keeps_its_checkpoint(vasa, trainers, part, place):
    calls, _ = trainers
    Path("mine", place).mkdir(parents=True)
    Path("mine", place, "checkpoint.safetensors").touch()
    refused(vasa("train", part, "--preset", "tiny", "--out", "mine"), "holds trained weights")
    assert vasa("train", "all", "--resume", "mine", "--preset", "tiny", "--quiet")[0] == 0
    assert [name for name, _, options in calls if options["resume"]] == [part]


def test_train_all_shares_the_minutes(vasa, trainers):
    calls, clock = trainers
    assert vasa("train", "all", "--minutes", "20", "--quiet") == (0, "", "")
    assert [(part, round(o["minutes"], 6))
            for part, _, o in calls] == [("audio", 3), ("face", 8), ("motion", 4), ("quick", 1), ("metrics", 2),
                                         ("sync", 1), ("frame-judges", 1)]
    calls.clear()
    clock.takes = {"audio": 0.0}
    vasa("train", "all", "--minutes", "17", "--quiet")
    # what audio did not need goes to the others
    assert [round(o["minutes"], 6) for _, _, o in calls] == [2.55, 8, 4, 1, 2, 1, 1]


def test_train_resumes_into_the_same_folder(vasa, trainers):
    calls, _ = trainers
    Path("mine/face-joint").mkdir(parents=True)
    Path("mine/face-joint/checkpoint.safetensors").touch()
    assert vasa("train", "face", "--resume", "mine") == (2, "", "vasa: mine does not tell its preset: say --preset\n")
    vasa("train", "face", "--resume", "mine", "--preset", "laptop")
    assert calls[0][2]["resume"] == "mine" and calls[0][2]["out"] == Path("mine")
    calls.clear()
    vasa("train", "all", "--resume", "mine", "--out", "other")
    assert [o["resume"] for _, _, o in calls] == [None, "mine", *5 * [None]]
    assert {str(o["out"]) for _, _, o in calls} == {"other"}


def test_tables_print_and_write(vasa, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = []


    def paper_tables(folder, quick, seed, quiet, device):
        asked.append((quick, seed, quiet, device))
        return {"clips": 4}

    fake = SimpleNamespace(paper_tables=paper_tables, as_text=lambda tables: f"the tables of {tables['clips']} clips")
    monkeypatch.setitem(sys.modules, "vasa_ref.measure.tables", fake)
    monkeypatch.setattr("vasa_ref.measure.tables", fake, raising=False)
    code, out, err = vasa("tables", "--json", "t.json", "--quick", "--seed", "3", "--device", "cpu")
    assert (code, err, asked) == (0, "", [(True, 3, False, torch.device("cpu"))]) and "the tables of 4 clips" in out
    assert json.loads(Path("t.json").read_text()) == {"clips": 4}


def test_bench_and_latency_print_and_write(vasa, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fake_weights(monkeypatch)
    figures = {"self_psnr": 24.123456, "clips": 8, "preset": "laptop"}
    asked = []


    def bench(folder, quick, seed, quiet, device):
        asked.append((folder, quick, seed, device))
        return figures

    def latency(preset, device, tricks):
        asked.append((preset, device, tricks))
        return {"offline_fps": 90.5}

    bench, speed = SimpleNamespace(bench=bench), SimpleNamespace(latency=latency)
    for name, module in (("measure.metrics", bench), ("speed.latency", speed)):
        monkeypatch.setitem(sys.modules, f"vasa_ref.{name}", module)
        monkeypatch.setattr(f"vasa_ref.{name}", module, raising=False)
    code, out, err = vasa("bench", "--json", "b.json", "--quick")
    assert (code, err) == (0, "") and out == "self_psnr  24.12\nclips      8\npreset     laptop\n"
    assert json.loads(Path("b.json").read_text()) == figures
    assert vasa("latency", "--preset", "paper", "--json", "l.json", "--quiet") == (0, "", "")
    assert json.loads(Path("l.json").read_text()) == {"offline_fps": 90.5}
    assert asked == [(Path("shipped"), True, 0, torch.device("cpu")), ("paper", torch.device("cpu"), False)]
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


def test_a_portrait_of_somebody_asked_for(vasa, tmp_path):
    from PIL import Image

    from vasa_ref.world.people import person
    from vasa_ref.world.picture import portraits
    assert vasa("portrait", "-o", tmp_path / "p.png", "--size", 48, "--seed", 2, "--age", 64.5, "--sex", "female",
                "--origin", "asian",
                "--look", "side parting", "--quiet") == (0, "", "")
    image = torch.from_numpy(np.array(Image.open(tmp_path / "p.png"))).permute(2, 0, 1) / 255
    expected = portraits(person(2, 64.5, "female", "asian", "side parting"), 48, smile=0.15)[0]
    assert (image - expected).abs().max() < 0.01
    assert (image - portraits(person(2), 48, smile=0.15)[0]).abs().mean() > 0.02


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


# ---- animate with real files: models of the tiny size that have learned nothing

@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with random weights of the tiny size, one good portrait and a good short recording."""
    import soundfile
    from PIL import Image

    from vasa_ref.hearing.features import PhonemeRecogniser
    from vasa_ref.store import save_weights
    from vasa_ref.talking.talker import Talker
    from vasa_ref.world.voice import PHONEMES
    folder = tmp_path_factory.mktemp("files")
    talker = Talker.random("tiny")
    recogniser = PhonemeRecogniser(talker.audio.config)
    recogniser.encoder.load_state_dict(talker.audio.state_dict())
    save_weights(folder / "w/audio.safetensors", recogniser, talker.audio.config, phonemes=PHONEMES)
    save_weights(folder / "w/face.safetensors", talker.face, talker.face.config)
    save_weights(folder / "w/motion.safetensors", talker.motion_model, talker.motion_model.config)
    noise = np.random.default_rng(0)
    Image.fromarray(noise.integers(0, 255, (70, 90, 3), dtype=np.uint8)).save(folder / "p.png")
    soundfile.write(folder / "s.wav", noise.uniform(-0.5, 0.5, 8000), 16000)
    return folder


@pytest.fixture
def animate(vasa, files, tmp_path):
    """animate(portrait, audio, *options): the result, and the number of frames in the output (None if there is
    none)."""
    from vasa_ref.media.clips import Clip

    def run(portrait=None, audio=None, *options):
        out = tmp_path / "result" / "out.mp4"
        out.parent.mkdir(exist_ok=True)
        result = vasa("animate", portrait or files / "p.png", audio or files / "s.wav", "-o", out, "--weights",
                      files / "w",
                      "--steps", "2", "--crop", "none", *options)
        frames = len(Clip.load(out)) if out.exists() else None
        out.unlink(missing_ok=True)
        assert os.listdir(out.parent) == []   # and nothing temporary is left
        return result, frames
    return run


def picture(name, folder):
    from PIL import Image
    pixels = np.random.default_rng(1).integers(0, 255, (64, 80, 4), dtype=np.uint8)
    path = folder / (name + {"cmyk": ".jpg", "exif": ".jpg", "webp": ".webp", "palette": ".gif"}.get(name, ".png"))
    rgb = Image.fromarray(pixels[..., :3])
    if name == "alpha":
        Image.fromarray(pixels).save(path)
    elif name == "grey":
        rgb.convert("L").save(path)
    elif name == "16 bits":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path)
    elif name == "exif":
        exif = Image.Exif()
        exif[0x0112] = 6
        rgb.save(path, exif=exif)
    else:
        rgb.convert({"cmyk": "CMYK", "palette": "P"}.get(name, "RGB")).save(path)
    return path


# ---- many films in one call

def jobs_file(text):
    Path("jobs.csv").write_text(text, encoding="utf-8")
    return "jobs.csv"


def test_jobs_share_a_talker_and_their_options(vasa, fake_talker):
    Path("q, r.png").write_bytes(b"x")
    jobs = jobs_file("portrait,audio,out,gaze,emotion,steps,full\n"
                     "p.png, s.mp4, a.mp4, -10 5, sad, , yes\n"
                     '"q, r.png",s.mp4,b.mp4,,,3,no\n'
                     "p.png,s.mp4,c.mp4,,,,yes\n")
    code, out, err = vasa("animate", "--jobs", jobs, "--steps", "7", "--emotion", "happy", "--seed", "4")
    assert (code, out) == (0, "3 films made\n") and "vasa:" not in err
    loaded, *calls = fake_talker
    assert loaded["folder"] == Path("shipped"), "the talker is loaded once"
    assert [call["path"] for call in calls] == [Path("a.mp4"), Path("b.mp4"), Path("c.mp4")]
    assert [call["steps"] for call in calls] == [7, 3, 7] and {call["seed"] for call in calls} == {4}
    assert [call["emotion"] for call in calls] == ["sad", "happy", "happy"]
    assert calls[0]["gaze"] == (-10.0, 5.0) and "gaze" not in calls[1]
    assert ["through" in call for call in calls] == [True, False, True]
    assert [one for one, _ in FakePhotograph.opened] == ["p.png", "q, r.png"], "each portrait is opened once"


def test_jobs_may_be_lines_of_json(vasa, fake_talker):
    rows = [{"portrait": "p.png", "audio": "s.mp4", "out": "a.mp4", "gaze": [15, 0], "blink_rate": 30},
            {"portrait": "p.png", "audio": "s.mp4", "out": "b.mp4", "no-watermark": True, "emotion": None}]
    jobs = jobs_file("\ufeff" + "\n".join(map(json.dumps, rows)))
    assert vasa("animate", "--jobs", jobs, "--quiet") == (0, "", "")
    first, second = fake_talker[1:]
    assert first["gaze"] == (15.0, 0.0) and first["blink_rate"] == 30.0 and first["made"].watermark
    assert "emotion" not in second and not second["made"].watermark


def test_jobs_say_once_what_their_films_lack(vasa, fake_talker, monkeypatch):
    monkeypatch.setattr(FakePhotograph, "notes", ["two faces"])
    rows = "portrait,audio,out,no-watermark\np.png,s.mp4,a.mp4,\np.png,s.mp4,b.mp4,yes\np.png,s.mp4,c.mp4,yes\n"
    jobs = jobs_file(rows)
    code, out, err = vasa("animate", "--jobs", jobs, "--no-credentials")
    assert (code, out) == (0, "3 films made\n")
    said = [line for line in err.splitlines() if line.startswith("vasa: ")]
    assert said == ["vasa: p.png: two faces (3 of 3 films)",
                    "vasa: the film carries no credentials: nobody can read from it what made it (3 of 3 films)",
                    "vasa: the film carries no mark in its pixels: once its credentials are lost, nothing says that "
                    "it was made (2 of 3 films)"]
    assert vasa("animate", "--jobs", jobs, "--no-credentials", "--quiet") == (0, "", "")


@pytest.mark.parametrize("text, options, said", [
    ("", (), "empty"), ("portrait,audio,out\n", (), "no jobs"), ("{\n", (), "cannot be read"),
    ("portrait,audio\np.png,s.mp4\n", (), "row 1: no out"), ("portrait,audio,out\np.png,s.mp4,a.mp4,b\n", (), "row 1"),
    ("portrait,audio,out\np.png,s.mp4,a.mp4\nno.png,s.mp4,b.mp4\n", (), "row 2: cannot read the portrait 'no.png'"),
    ("portrait,audio,out\np.png,s.mp4,a.mp4\np.png,s.mp4,./a.mp4\n", (), "the film of row 1 as well"),
    ("portrait,audio,out,smile\np.png,s.mp4,a.mp4,1\n", (), "row 1: unrecognized arguments: --smile=1"),
    ("portrait,audio,out,steps\np.png,s.mp4,a.mp4,0\n", (), "1 to 500"),
    ("portrait,audio,out,full\np.png,s.mp4,a.mp4,maybe\n", (), "yes or no"),
    ("portrait,audio,out,stream\np.png,s.mp4,a.mp4,yes\n", (), "the whole call"),
    ("portrait,audio,out\np.png,-,a.mp4\n", (), "live sound"),
    ("portrait,audio,out\np.png,s.mp4,a.mp4\n", ("--stream",), "no --stream"),
    ("portrait,audio,out\np.png,s.mp4,a.mp4\n", ("-o", "b.mp4"), "in its rows")])
def test_jobs_that_are_wrong_make_no_film(vasa, fake_talker, text, options, said):
    refused(vasa("animate", "--jobs", jobs_file(text), *options), said)
    assert fake_talker == []


def test_jobs_of_no_file_and_words_without_jobs(vasa, fake_talker):
    refused(vasa("animate", "--jobs", "no.csv"), "no.csv", "CSV")
    refused(vasa("animate", "p.png"), "required: AUDIO, -o/--out")
    refused(vasa("animate", "p.png", "--jobs", jobs_file("portrait,audio,out\n")), "unrecognized arguments: p.png")
    refused(vasa("animate", "p.png", "s.mp4", "-o", "a.mp4", "--skip-existing"), "--jobs")


def test_a_job_that_fails_stops_no_other(vasa, fake_talker, monkeypatch):
    def fail(self, path, *args, progress, **options):
        if path.name == "b.mp4":
            raise VasaError("there is\n no sound")
        return whole(self, path, *args, progress=progress, **options)
    whole = FakeTalker.animate_to_file
    monkeypatch.setattr(FakeTalker, "animate_to_file", fail)
    jobs = jobs_file("portrait,audio,out\n" + "".join(f"p.png,s.mp4,{name}.mp4\n" for name in "abc"))
    code, out, err = vasa("animate", "--jobs", jobs)
    assert code == 2 and out == "2 films made\n" and Path("c.mp4").is_file() and not Path("b.mp4").exists()
    assert "vasa: row 2: there is no sound\n" in err and err.endswith("vasa: 1 of 3 jobs failed, of rows 2\n")
    monkeypatch.setattr(FakeTalker, "animate_to_file", whole)
    fake_talker.clear()
    code, out, err = vasa("animate", "--jobs", jobs, "--skip-existing")
    assert (code, out) == (0, "1 films made, 2 were there\n")
    assert [call["path"].name for call in fake_talker[1:]] == ["b.mp4"]
    Path("a.mp4").write_bytes(FILM[:-1])                          # a copy that broke off
    Path("c.mp4").write_bytes(b"")
    code, out, err = vasa("animate", "--jobs", jobs, "--skip-existing")
    assert (code, out) == (0, "2 films made, 1 were there\n")
    assert all(Path(f"{name}.mp4").read_bytes() == FILM for name in "abc")


def test_a_portrait_is_kept_as_long_as_it_is_needed(vasa, fake_talker, monkeypatch):
    import gc
    import weakref
    kept, most = weakref.WeakSet(), []
    whole_open, whole_film = FakePhotograph.open.__func__, FakeTalker.animate_to_file

    def opened(cls, portrait, **options):
        photo = whole_open(cls, portrait, **options)
        kept.add(photo)
        return photo

    def film(self, *args, **options):
        gc.collect()
        most.append(len(kept))
        whole_film(self, *args, **options)
        if len(most) == 3:
            raise VasaError("no")
    monkeypatch.setattr(FakePhotograph, "open", classmethod(opened))
    monkeypatch.setattr(FakeTalker, "animate_to_file", film)
    for name in "qrst":
        Path(f"{name}.png").write_bytes(b"x")
    order = "pqprst"                                              # p is needed twice
    jobs = jobs_file("portrait,audio,out\n" + "".join(f"{p}.png,s.mp4,{i}.mp4\n" for i, p in enumerate(order)))
    assert vasa("animate", "--jobs", jobs)[0] == 2
    assert most == [1, 2, 1, 1, 1, 1] and len(FakePhotograph.opened) == 5


def test_real_jobs_are_the_films_of_single_calls(vasa, files, tmp_path, monkeypatch):
    from vasa_ref.media.clips import Clip
    monkeypatch.chdir(tmp_path)
    options = "--weights", files / "w", "--steps", "2", "--crop", "none", "--quiet", "--no-watermark"
    jobs = jobs_file("portrait,audio,out,gaze\n" + "".join(f"{files}/p.png,{files}/s.wav,{n}.mp4,{g}\n"
                                                          for n, g in (("a", ""), ("b", "20 0"))))
    assert vasa("animate", "--jobs", jobs, *options) == (0, "", "")
    for name, gaze in ("a", ()), ("b", ("--gaze", "20", "0")):
        assert vasa("animate", files / "p.png", files / "s.wav", "-o", "one.mp4", *options, *gaze) == (0, "", "")
        one, job = Clip.load("one.mp4"), Clip.load(f"{name}.mp4")
        assert torch.equal(one.frames, job.frames) and torch.equal(one.waveform, job.waveform)
    from vasa_ref.app.jobs import is_whole
    film = Path("one.mp4").read_bytes()
    assert is_whole(Path("one.mp4")) and not is_whole(Path("none.mp4"))
    for length in (0, 4, 12, len(film) // 2, len(film) - 1):
        Path("cut.mp4").write_bytes(film[:length])
        assert not is_whole(Path("cut.mp4")), length


@pytest.mark.parametrize("name", ["alpha", "grey", "16 bits", "cmyk", "exif", "webp", "palette"])
def test_pictures_of_any_kind_are_animated(animate, tmp_path, name):
    (code, out, err), frames = animate(picture(name, tmp_path))
    assert (code, err, frames) == (0, "", 13) and "0.5 s of video" in out


@pytest.mark.parametrize("name", ["text", "empty", "absent", "folder", "1 x 1", "20000 x 20000", "cut"])
def test_portraits_that_cannot_be_used(animate, tmp_path, files, name):
    from PIL import Image
    path = tmp_path / "bad.png"
    if name == "text":
        path.write_text("I am no picture.")
    elif name == "empty":
        path.touch()
    elif name == "folder":
        path.mkdir()
    elif name == "cut":
        path.write_bytes((files / "p.png").read_bytes()[:3000])
    elif name != "absent":
        Image.new("1", tuple(map(int, name.split(" x ")))).save(path)
    result, frames = animate(path)
    refused(result, "bad.png", "accepted are JPEG, PNG")
    assert frames is None


@pytest.mark.parametrize("rate, channels, loudness",
                         [(8000, 1, 0.3), (96000, 2, 0.3), (44100, 6, 0.3), (16000, 1, 0.0)])
def test_sounds_of_any_kind_are_animated(animate, tmp_path, rate, channels, loudness):
    import soundfile
    noise = np.random.default_rng(2).uniform(-loudness, loudness, (rate // 2, channels))
    soundfile.write(tmp_path / "a.wav", noise, rate)
    (code, out, err), frames = animate(None, tmp_path / "a.wav")
    assert (code, err, frames) == (0, "", 13)


@pytest.mark.parametrize("name", ["text", "empty", "absent", "0 s", "NaN", "picture"])
def test_sounds_that_cannot_be_used(animate, tmp_path, files, name):
    import soundfile
    path = tmp_path / "bad.wav"
    if name == "text":
        path.write_text("I am no sound.")
    elif name == "empty":
        path.touch()
    elif name == "0 s":
        soundfile.write(path, np.zeros(0), 16000)
    elif name == "NaN":
        soundfile.write(path, np.full(8000, np.nan, dtype=np.float32), 16000, subtype="FLOAT")
    elif name == "picture":
        path.write_bytes((files / "p.png").read_bytes())
    result, frames = animate(None, path)
    refused(result, "bad.wav")
    assert frames is None


def test_one_sample_of_sound_is_one_frame(animate, tmp_path):
    import soundfile
    soundfile.write(tmp_path / "a.wav", np.zeros(1), 16000)
    (code, out, err), frames = animate(None, tmp_path / "a.wav")
    assert (code, err, frames) == (0, "", 1)


def test_another_film_gives_pose_and_dynamics(animate, files, vasa, tmp_path):
    film = tmp_path / "film.mp4"
    assert vasa("animate", files / "p.png", "--crop", "none", files / "s.wav", "-o", film, "--weights", files / "w",
                "--steps", "2")[0] == 0
    for options in (("--pose-from", film), ("--dynamics-from", film), ("--pose-from", film, "--dynamics-from", film)):
        (code, out, err), frames = animate(None, None, *options)
        assert (code, err, frames) == (0, "", 13)
    refused(vasa("animate", files / "p.png", "--crop", "none", files / "s.wav", "-o", film, "--weights", files / "w",
                 "--pose-from", film), "also an input")
    refused(animate(None, None, "--dynamics-from", files / "s.wav")[0], "cannot read the video")
    refused(animate(None, None, "--pose-from", film, "--distance", "1.1")[0],
            "distance is part of what --pose-from sets")
    refused(animate(None, None, "--dynamics-from", film, "--blink-rate", "9")[0],
            "blink_rate is part of what --dynamics-from sets")
    refused(animate(None, None, "--dynamics-from", film, "--emotion", "sad")[0],
            "emotion is part of what --dynamics-from sets")


def test_curves_out_of_range_are_one_line(animate, tmp_path):
    (tmp_path / "c.json").write_text('{"gaze": {"0": [0, 0], "1": [80, 0]}}')
    result, frames = animate(None, None, "--curves", tmp_path / "c.json")
    refused(result, "accepted are 2 angles in degrees")
    assert frames is None


def test_a_recording_is_streamed_at_its_own_pace(animate):
    began = time.monotonic()
    (code, out, err), frames = animate(None, None, "--stream")
    assert (code, err, frames) == (0, "", 13) and "0.5 s of video" in out and time.monotonic() - began >= 0.5
    assert all(word in out for word in ("look-ahead", "latency", "95 % within"))


def test_the_lookahead_is_chosen_in_milliseconds(animate):
    waited = [animate(None, None, "--stream", "--lookahead", ms)[0][1] for ms in (280, 360)]
    seconds = [float(re.search(r"look-ahead ([\d.]+) s", out)[1]) for out in waited]
    assert seconds[1] - seconds[0] == pytest.approx(0.08, abs=0.011)


def test_standard_input_to_standard_output(files, tmp_path):
    """Raw samples in, raw frames out, the report beside them; and the same frames as for the file."""
    sound = np.random.default_rng(0).integers(-9000, 9000, 8000).astype("<i2").tobytes()
    command = [sys.executable, "-m", "vasa_ref", "animate", files / "p.png", "--crop", "none", "--stream", "-",
               "--weights", files / "w", "--steps", "2", "-o"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = lambda out, data: subprocess.run([*map(str, command), str(out)], input=data, capture_output=True, env=env)
    done = run("-", sound + b"x")                                        # half a sample more
    assert done.returncode == 0 and len(done.stdout) == 13 * 32 * 32 * 3 and b"look-ahead" in done.stderr
    assert run(tmp_path / "o.mp4", sound).returncode == 0
    from vasa_ref.media.clips import Clip
    frames = Clip.load(tmp_path / "o.mp4").frames
    raw = np.frombuffer(done.stdout, np.uint8).reshape(frames.shape)
    # of grey values: x264 thins out colours
    alike = lambda a, b: np.corrcoef(a.mean(-1).ravel(), b.mean(-1).ravel())[0, 1]
    assert alike(raw, frames.numpy()) > 0.6 > 0.3 > alike(raw[:, ::-1], frames.numpy())
    import soundfile
    flac = io.BytesIO()
    soundfile.write(flac, np.frombuffer(sound, "<i2"), 16_000, format="FLAC")
    other = run(tmp_path / "none.mp4", flac.getvalue())                   # a file that is no WAV is not heard as noise
    refused((other.returncode, other.stdout.decode(), other.stderr.decode()), "kind FLAC", "-f wav -")
    for out in (tmp_path / "none.mp4", "-"):
        silent = run(out, b"")
        assert silent.returncode == 2 and silent.stdout == b""
        assert silent.stderr.decode().startswith("vasa: no sound came") and silent.stderr.count(b"\n") == 1
    assert os.listdir(tmp_path) == ["o.mp4"]


def test_an_interrupt_ends_live_sound_and_the_video_is_whole(files, tmp_path):
    import signal
    out = tmp_path / "o.mp4"
    command = [sys.executable, "-m", "vasa_ref", "animate", files / "p.png", "--crop", "none", "--stream", "-",
               "--weights", files / "w", "--steps", "1", "-o", out]
    process = subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    process.stdin.write(bytes(2 * 16_000))                                # a second, and the microphone stays open
    process.stdin.flush()
    began = time.monotonic()
    while time.monotonic() - began < 60 and not any(path.name != "o.mp4" for path in tmp_path.iterdir()):
        time.sleep(0.1)                                                   # until the video is being written
    os.killpg(process.pid, signal.SIGINT)                                 # as a terminal does, to all of the group
    assert process.wait(timeout=60) == 0, process.stderr.read()
    from vasa_ref.media.clips import Clip
    assert len(Clip.load(out)) == 25 and os.listdir(tmp_path) == ["o.mp4"]


@pytest.mark.parametrize("name, code", [("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_a_signal_that_ends_the_process_leaves_nothing(files, tmp_path, name, code, streamed):
    import signal

    import soundfile
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir(), scratch.mkdir()
    soundfile.write(tmp_path / "long.wav", np.zeros(60 * 16_000), 16_000)
    sound = ["--stream", "-"] if streamed else [tmp_path / "long.wav"]
    command = [sys.executable, "-m", "vasa_ref", "animate", files / "p.png", *sound, "--weights", files / "w",
               "--steps", "1", "-o", out / "o.mp4"]
    process = subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                                    "TMPDIR": str(scratch)})
    process.stdin.write(bytes(2 * 16_000))
    process.stdin.flush()
    began = time.monotonic()
    while time.monotonic() - began < 100 and not any(out.rglob("silent.mp4")):
        time.sleep(0.02)                                                  # until the video is being written
    assert process.poll() is None
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=60) == code, process.stderr.read()
    assert process.stderr.read().count(b"Traceback") == 0
    assert os.listdir(out) == [] and os.listdir(scratch) == []


def test_signals_are_as_before_when_a_command_has_ended(vasa, tmp_path):
    import signal
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert vasa("say", "Yes.", "-o", tmp_path / "s.wav")[0] == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


def test_a_wav_may_be_piped_in(files, tmp_path):
    """The frames are those of the bare samples; and a WAV of another rate is refused."""
    import io

    import soundfile
    samples = np.random.default_rng(0).integers(-9000, 9000, 8000).astype("<i2")
    command = [sys.executable, "-m", "vasa_ref", "animate", files / "p.png", "--stream", "-", "--weights", files / "w",
               "--steps", "2", "-o", "-"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = lambda data: subprocess.run([*map(str, command)], input=data, capture_output=True, env=env)
    wav = {}
    for rate in (16_000, 48_000):
        stream = io.BytesIO()
        soundfile.write(stream, samples, rate, format="wav")
        wav[rate] = stream.getvalue()
    bare, piped, other = run(samples.tobytes()), run(wav[16_000]), run(wav[48_000])
    assert bare.returncode == piped.returncode == 0 and len(bare.stdout) == 13 * 32 * 32 * 3
    assert piped.stdout == bare.stdout
    refused((other.returncode, other.stdout.decode(), other.stderr.decode()), "48000 Hz", "16 kHz and one channel")


@pytest.mark.parametrize("argv",
                         [("portrait", "--no-credentials", "--size", 32, "-o", "p.png"),
                          ("say", "hello", "-o", "s.wav"), ("latency", "--json", "l.json")],
                         ids=lambda argv: argv[0])
def test_an_output_that_is_a_link_or_read_only(vasa, tmp_path, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    fake = SimpleNamespace(latency=lambda preset, device, tricks: {"offline_fps": 90.5})
    monkeypatch.setitem(sys.modules, "vasa_ref.speed.latency", fake)
    monkeypatch.setattr("vasa_ref.speed.latency", fake, raising=False)
    name = argv[-1]
    assert vasa(*argv[:-1], "plain" + name)[0] == 0
    Path("real").mkdir()
    Path(name).symlink_to(f"real/{name}")
    assert vasa(*argv)[0] == 0
    assert Path(name).is_symlink() and Path("real", name).read_bytes() == Path("plain" + name).read_bytes()
    assert os.listdir("real") == [name]
    Path("real", name).write_bytes(b"mine")
    Path("real", name).chmod(0o444)
    refused(vasa(*argv), f"output {name} is read-only")
    assert Path(name).read_bytes() == b"mine" and os.listdir("real") == [name]
    Path("loop" + name).symlink_to("loop" + name)
    refused(vasa(*argv[:-1], "loop" + name), f"output loop{name} is a symbolic link that leads back to itself")
    assert Path("loop" + name).is_symlink()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    refused(vasa(*argv[:-1], "~/" + name), "no folder", tmp_path / "home")
    Path("home").mkdir()
    assert vasa(*argv[:-1], "~/" + name)[0] == 0 and os.listdir("home") == [name]
    assert Path("home", name).read_bytes() == Path("plain" + name).read_bytes()
    Path("gone" + name).symlink_to(f"nowhere/{name}")
    refused(vasa(*argv[:-1], "gone" + name), "no folder", "nowhere", "make it first")


def test_the_seed_decides_the_video(vasa, files, tmp_path):
    from vasa_ref.media.clips import Clip
    clips = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        vasa("animate", files / "p.png", "--crop", "none", files / "s.wav", "-o", tmp_path / f"{name}.mp4", "--weights",
             files / "w", "--seed", seed,
             "--steps", 2)
        clips.append(Clip.load(tmp_path / f"{name}.mp4").frames)
    assert torch.equal(clips[0], clips[1]) and not torch.equal(clips[0], clips[2])


@pytest.mark.parametrize("spoil, said", [
    (lambda w: (w / "motion.safetensors").unlink(), "no weights at"),
    (lambda w: (w / "face.safetensors").write_bytes((w / "face.safetensors").read_bytes()[:5000]), "damaged"),
    (lambda w: (w / "face.safetensors").write_bytes((w / "motion.safetensors").read_bytes()), "expected FaceConfig"),
    (lambda w: [p.unlink() for p in w.iterdir()], "no weights in")])
def test_weights_that_do_not_match(vasa, files, tmp_path, spoil, said):
    import shutil
    shutil.copytree(files / "w", tmp_path / "w")
    spoil(tmp_path / "w")
    refused(vasa("animate", files / "p.png", "--crop", "none", files / "s.wav", "-o", tmp_path / "o.mp4", "--weights",
                 tmp_path / "w"), said)
    assert os.listdir(tmp_path) == ["w"]


def test_weights_whose_tensors_have_other_shapes(vasa, files, tmp_path):
    import shutil

    from safetensors import safe_open

    from vasa_ref.store import load_weights, save_tensors
    shutil.copytree(files / "w", tmp_path / "w")
    path = tmp_path / "w" / "face.safetensors"
    state, metadata = load_weights(path)
    name = next(k for k, v in state.items() if v.ndim == 4)
    save_tensors(path, state | {name: state[name][:1]}, metadata)
    assert safe_open(path, "pt").metadata()["kind"] == '"FaceConfig"'
    refused(vasa("animate", files / "p.png", "--crop", "none", files / "s.wav", "-o", tmp_path / "o.mp4", "--weights",
                 tmp_path / "w"),
            "does not fit DetailFace", name)


def test_a_disk_that_fills_while_frames_are_written(animate, monkeypatch):
    """ffmpeg ends early, as it does on a full disk: one line, and no video, not even half a one."""
    import vasa_ref.media.files
    shell = ("#!/bin/sh\ncase \"$*\" in *libx264*) ;; *) exec '"
             + vasa_ref.media.files.ffmpeg_exe() + "' \"$@\";; esac\n"
             "head -c 100 > /dev/null\necho 'av_interleaved_write_frame(): No space left on device' >&2\nexit 1\n")

    def stub(folder):
        path = folder / "ffmpeg"
        path.write_text(shell)
        path.chmod(0o755)
        return str(path)
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        fake = stub(Path(folder))
        monkeypatch.setattr(vasa_ref.media.files, "ffmpeg_exe", lambda: fake)
        result, frames = animate()
    refused(result, "cannot write the video", "the disk is full")
    assert frames is None
