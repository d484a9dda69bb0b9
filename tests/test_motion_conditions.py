"""One condition, one row: what follows from a row, and that a new one is taken up everywhere and leaves no trace."""
import ast
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vasa_ref
from vasa_ref.app import cli
from vasa_ref.app.arguments import make_parser
from vasa_ref.errors import VasaError
from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config
from vasa_ref.motion.conditions import CONDITIONS, ClipMotion, Condition, added, clip_conditions, rows
from vasa_ref.motion.latents import Latents, made_with, make_latents
from vasa_ref.motion.network import Conditions, MotionConfig, MotionModel, MotionSampling, load_motion
from vasa_ref.motion.sampling import MotionStream, generate_motion
from vasa_ref.motion.training import MotionTraining, drop_conditions, motion_loss, random_conditions
from vasa_ref.store import load_weights, save_weights, weights_folder
from vasa_ref.talking.controls import Controls, Settings
from vasa_ref.talking.directing import motion_controls
from vasa_ref.talking.talker import Talker
from vasa_ref.world.clips import DISTANCE_RANGE, GAZE_RANGE, make_clip

torch.set_num_threads(1)
OURS = ("gaze", "distance", "emotion", "head_motion", "blink_rate")


def rises(angle):
    """How often an angle (T,) comes to exceed its mean."""
    return int(((angle > angle.mean()).int().diff() == 1).sum())


NODS = Condition("nod_rate", 1, "nods per minute", "how often the head nods", limits=((0.0, 60.0),), metavar=("N",),
                 typical=20.0, step=5.0, drop_with="liveliness", track="pose",
                 tell=lambda clip: rises(clip.pose[:, 1]) * 1500 / len(clip.pose))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def audio_encoder():
    torch.manual_seed(0)
    return Wav2Vec2(Wav2Vec2Config.tiny()).eval()


@pytest.fixture(scope="module")
def clips():
    return [make_clip(seed, seconds=1.0, render_frames=False) for seed in range(2)]


def animate_help(capsys):
    with pytest.raises(SystemExit):
        cli.main(["animate", "--help"])
    return capsys.readouterr().out


def test_a_new_row_is_taken_up_everywhere_and_leaves_no_trace(capsys, audio_encoder, clips, tmp_path):
    before, plain_help = dict(CONDITIONS), animate_help(capsys)
    plain = MotionModel(MotionConfig.tiny()).state_dict().keys()
    with added(NODS):
        assert clip_conditions() == (*OURS, "nod_rate")
        assert tuple(CONDITIONS)[6:] == ("prev_motion", "prev_audio", "audio")
        told = " ".join(animate_help(capsys).split())
        assert "--nod-rate N how often the head nods: 0 to 60, nods per minute (default: as the model likes)" in told
        assert "blink_rate, nod_rate or some of them" in told                              # --curves
        args = make_parser().parse_args("animate p.png s.wav -o o.mp4 --nod-rate 30".split())
        assert args.nod_rate == 30

        talker = Talker.random("tiny")
        film = lambda **asked: talker.animate(torch.rand(3, 32, 32, generator=seeded()), torch.zeros(3200), steps=2,
                                              **asked).frames
        assert not torch.equal(film(nod_rate=30), film()) and torch.equal(film(nod_rate=None), film())
        assert not torch.equal(film(nod_rate={0: 10, 1: 40}), film())
        with pytest.raises(VasaError, match="nod_rate 90: accepted is a number from 0 to 60, nods per minute"):
            film(nod_rate=90)

        panel = Controls(talker, Settings(text="Yes.", steps=2))
        slider = panel.inputs["nod_rate"]
        assert (slider.min, slider.max, slider.step, slider.value, slider.layout.display) == (0, 60, 5, 20, "none")
        assert panel.settings.conditions["nod_rate"] is None
        panel.inputs["set_nod_rate"].value, still = True, panel.still.value
        slider.value = 40
        assert panel.settings.conditions["nod_rate"] == 40 and panel.still.value != still and panel.message.value == ""

        latents = make_latents(audio_encoder, 2, clips=clips, path=tmp_path / "latents.safetensors", quiet=True)
        assert latents.conditions["nod_rate"][1].item() == NODS.tell(ClipMotion(clips[1].truth.motion.pose, None, None))
        kept = Latents.load(tmp_path / "latents.safetensors")
        assert torch.equal(kept.conditions["nod_rate"], latents.conditions["nod_rate"])
        model = MotionModel(MotionConfig.tiny(audio_dim=latents.audio.shape[1]))
        assert model.state_dict().keys() - plain == {"nulls.nod_rate", "types.nod_rate", "inputs.nod_rate.weight",
                                                     "inputs.nod_rate.bias", "nod_rate_mean", "nod_rate_std"}
        model.set_statistics(**dict(latents.items()))
        optimiser, generator = torch.optim.Adam(model.parameters(), 1e-3), seeded()
        first = model.inputs["nod_rate"].weight.clone()
        for _ in range(2):
            batch = random_conditions(model, latents, generator, MotionTraining.tiny(batch=4))
            optimiser.zero_grad()
            motion_loss(model, *batch, generator)[0].backward()
            optimiser.step()
        assert not torch.equal(model.inputs["nod_rate"].weight, first)
        save_weights(tmp_path / "motion.safetensors", model, model.config)
        assert load_motion(tmp_path).config == model.config
        dropped = drop_conditions(replace(batch[1], keep={}), seeded()).keep
        assert dropped.keys() == {*OURS, "nod_rate", "prev_motion", "prev_audio", "audio"}
    assert dict(CONDITIONS) == before and animate_help(capsys) == plain_help
    assert MotionModel(MotionConfig.tiny()).state_dict().keys() == plain
    assert "nod_rate" not in Settings().conditions and "nod_rate" not in motion_controls(MotionConfig.tiny())
    with pytest.raises(VasaError, match="no condition nod_rate: accepted are gaze, distance"):
        motion_controls(MotionConfig.tiny(), nod_rate=30)
    with pytest.raises(VasaError,
                       match="have learnt nod_rate, which the table of motion.conditions lacks: accepted are gaze"):
        load_motion(tmp_path)


def test_a_row_leaves_no_trace_after_an_error():
    with pytest.raises(ZeroDivisionError), added(NODS):
        raise ZeroDivisionError
    assert clip_conditions() == OURS
    with pytest.raises(VasaError, match="has a condition gaze already"), added(replace(NODS, name="gaze")):
        pass
    assert clip_conditions() == OURS


def test_weights_without_a_condition_of_the_table_load_and_refuse_it():
    plain = load_motion("laptop")
    audio = torch.randn(20, plain.config.audio_dim, generator=seeded())
    with added(NODS):
        model = load_motion("laptop")
        assert model.config.conditions == OURS
        assert torch.equal(generate_motion(model, audio, steps=2, generator=seeded(1)),
                           generate_motion(plain, audio, steps=2, generator=seeded(1)))
        assert "nod_rate" not in motion_controls(model.config, nod_rate=None)
        for ask in (lambda: motion_controls(model.config, nod_rate=3), lambda: MotionStream(model, nod_rate=3)):
            with pytest.raises(VasaError,
                               match="nod_rate[;:] accepted are gaze, distance, emotion, head_motion, blink_rate"):
                ask()


def test_shipped_weights_are_of_this_version():
    "A field of the config that came later takes its default, which is what was true before."
    path = weights_folder("laptop") / "motion.safetensors"
    told, model = load_weights(path, MotionConfig)[1]["config"], load_motion("laptop")
    assert model.config.conditions == OURS
    assert all(getattr(model.config, name) == told[name] for name in vars(model.config).keys() - {"conditions"})


def test_latents_that_lack_a_condition_of_the_table_are_made_anew(audio_encoder, clips, tmp_path):
    path = tmp_path / "latents.safetensors"
    old = make_latents(audio_encoder, 2, clips=clips, path=path, quiet=True)
    assert set(dict(old.items())) == {"motion", "audio", "lengths", *OURS}
    with added(NODS):
        assert made_with(path) is None
        assert "nod_rate" in make_latents(audio_encoder, 2, clips=clips, path=path, quiet=True).conditions
    again = make_latents(audio_encoder, 2, clips=[], path=path, quiet=True)       # more than enough is there
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(old.items(), again.items()))


def test_every_chance_of_drop_out_is_in_the_config(monkeypatch, audio_encoder, clips):
    given = {}
    monkeypatch.setattr("vasa_ref.motion.training.drop_conditions",
                        lambda conditions, generator, **chances: given.update(chances))
    latents = make_latents(audio_encoder, 2, clips=clips, quiet=True)
    model = MotionModel(MotionConfig.tiny(audio_dim=latents.audio.shape[1]))
    random_conditions(model, latents, seeded(), MotionTraining.tiny(drop_start_prob=0.7))
    assert given == dict(drop_prob=0.1, drop_prev_prob=0.5, drop_start_prob=0.7,
                         drop_liveliness_prob=0.3)
    values = {name: torch.zeros(64, CONDITIONS[name].size) for name in OURS}
    values |= {"prev_motion": torch.zeros(64, 10, 3), "prev_audio": torch.zeros(64, 10, 3),
               "audio": torch.zeros(64, 50, 3)}

    def dropped(**chance):
        keep = drop_conditions(Conditions(values), seeded(), **dict.fromkeys(given, 0.0) | chance).keep
        return {name for name, kept in keep.items() if not kept.all()}
    assert dropped() == set() and dropped(drop_prob=1.0) == {*OURS, "audio"}
    assert dropped(drop_prev_prob=1.0) == dropped(drop_start_prob=1.0) == {"prev_motion", "prev_audio"}
    assert dropped(drop_liveliness_prob=1.0) == {"head_motion", "blink_rate"}


@pytest.mark.parametrize("steps", [0, -1, 501])
def test_steps_that_cannot_be_made_are_refused_at_once(steps):
    model = MotionModel(MotionConfig.tiny())
    with pytest.raises(VasaError, match=f"steps is {steps}; accepted is 1 to 500"):
        MotionStream(model, steps=steps)
    with pytest.raises(VasaError, match="accepted is 1 to 500"):
        generate_motion(model, torch.zeros(5, model.config.audio_dim), steps=steps)


def test_a_stream_keeps_the_scales_that_are_not_named():
    model = MotionModel(MotionConfig.tiny())
    assert MotionStream(model).cfg_scale == {"audio": 1.0} == MotionStream(model, cfg_scale={}).cfg_scale
    assert MotionStream(model, cfg_scale={"gaze": 1}).cfg_scale == {"audio": 1.0, "gaze": 1.0}
    assert MotionStream(model, cfg_scale={"audio": 0}).cfg_scale == {}
    paper = MotionStream(model, settings=MotionSampling.paper())   # VASA-1: lambda_A = 0.5, lambda_g = 1
    assert paper.cfg_scale == {"audio": 0.5, "gaze": 1.0} and paper.sampling["steps"] == 50
    stronger = MotionStream(model, settings=MotionSampling.paper(), cfg_scale={"gaze": 2})
    assert stronger.cfg_scale == {"audio": 0.5, "gaze": 2.0}
    with pytest.raises(VasaError, match="condition smile; accepted are gaze, distance"):
        MotionStream(model, smile=1)


def test_rows_read_what_a_user_says():
    assert CONDITIONS["gaze"].read((30, -15)) == (math.radians(30), math.radians(-15))
    assert CONDITIONS["distance"].read(1.2) == 1.2
    assert CONDITIONS["emotion"].read({"happy": 0.5, "sad": 2}) == (0.0, 0.5, 2.0, 0.0, 0.0, 0.0, 0.0)
    assert [CONDITIONS[name].unasked for name in clip_conditions()] == [(0.0, 0.0), 1.0, None, None, 17.0]
    for name in clip_conditions():
        for wrong in ("x", math.nan, [1] * 9, 10**400):
            with pytest.raises(VasaError, match="accepted"):
                CONDITIONS[name].read(wrong)
    assert CONDITIONS["gaze"].learnt == tuple((-x, x) for x in GAZE_RANGE)
    assert CONDITIONS["distance"].learnt == (DISTANCE_RANGE,)


def test_a_row_for_the_lost_is_one_sentence():
    with pytest.raises(VasaError, match="have learnt smile, which the table"):
        rows(["gaze", "smile"])
    with pytest.raises(VasaError, match="have learnt smile"):
        MotionModel(MotionConfig.tiny(conditions=("gaze", "smile")))
    assert tuple(rows(["distance"])) == ("distance", "prev_motion", "prev_audio", "audio")


def test_a_condition_is_spelled_in_one_module():
    """Code names no condition outside the table, but for what is about that condition alone."""
    package, found = Path(vasa_ref.__file__).parent, {}
    about = {"motion/conditions.py": 99,                                  # the table
             # emotion_strength, which goes with an emotion; guidance of the gaze
             "app/films.py": 3, "talking/directing.py": 1, "talking/controls.py": 4,
             "motion/latents.py": 5}                                  # labels of the toy clips
    for room in ("motion", "talking", "app"):
        for path in (package / room).glob("*.py"):
            words = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
            count = sum(word in OURS for word in words if isinstance(word, str))
            name = str(path.relative_to(package))
            if count > about.get(name, 0):
                found[name] = count
    assert not found
    old = re.compile(r"\b(WISHES|CURVES|AMOUNTS|manner|wish(es)?)\b")
    assert not [p for room in ("motion", "talking", "app") for p in (package / room).glob("*.py")
                if old.search(p.read_text())]
