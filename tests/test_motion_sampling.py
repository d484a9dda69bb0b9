"""The sampling of motion: windows, seams, controls and guidance."""
from dataclasses import replace

import pytest
import torch
from motion_parts import CONFIG, A, M, seeded

from vasa_ref.errors import VasaError
from vasa_ref.motion.conditions import clip_conditions
from vasa_ref.motion.network import MotionModel, MotionSampling
from vasa_ref.motion.sampling import MotionStream, generate_motion


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MotionModel(CONFIG).eval()


def test_generated_length_and_determinism(model):
    for frames in (1, 13, 50, 51, 120):
        audio = torch.randn(frames, A, generator=seeded())
        a, b = (generate_motion(model, audio, steps=3, generator=seeded(1)) for _ in range(2))
        assert a.shape == (frames, M) and torch.equal(a, b)
        assert not torch.allclose(a, generate_motion(model, audio, steps=3, generator=seeded(2)))


def test_windows_are_pieces_of_the_motion(model):
    audio = torch.randn(120, A, generator=seeded())
    windows = list(MotionStream(model, steps=3, generator=seeded(1)).play(audio))
    assert [len(w) for w in windows] == [50, 50, 20]
    seen = []
    motion = generate_motion(model, audio, steps=3, generator=seeded(1), progress=lambda *done: seen.append(done))
    assert torch.equal(torch.cat(windows), motion) and seen == [(50, 120), (100, 120), (120, 120)]


def test_windows_depend_on_the_one_before_and_not_on_later_audio(model):
    audio = torch.randn(150, A, generator=seeded())
    changed = torch.cat([audio[:100], audio[100:] + 5])
    a, b = (generate_motion(model, x, steps=3, generator=seeded(1)) for x in (audio, changed))
    assert torch.equal(a[:100], b[:100]) and not torch.allclose(a[100:], b[100:])
    early = torch.cat([audio[:50] + 5, audio[50:]])
    assert not torch.allclose(a[50:], generate_motion(model, early, steps=3, generator=seeded(1))[50:])


def test_memory_of_a_stream_is_constant(model):
    stream = MotionStream(model, steps=2, generator=seeded())
    for n in (3, 4, 50, 20):
        assert stream.step(torch.randn(n, A)).shape == (n, M)
        assert len(stream.prev_motion) == len(stream.prev_audio) <= CONFIG.context
    assert len(stream.prev_motion) == CONFIG.context


def test_look_ahead_commits_only_what_was_asked(model):
    audio = torch.randn(30, A, generator=seeded())
    stream = MotionStream(model, steps=2, generator=seeded(1))
    whole = MotionStream(model, steps=2, generator=seeded(1)).step(audio)
    assert torch.equal(stream.step(audio, commit=4), whole[:4]) and torch.equal(stream.prev_audio, audio[:4])


def test_a_control_may_be_a_function_of_the_seconds_played(model):
    audio, asked = torch.randn(12, A, generator=seeded()), []
    def gaze(seconds):
        asked.append(round(seconds, 3))
        return seconds, 0.0
    portions = list(MotionStream(model, steps=2, gaze=gaze, generator=seeded(1)).play(audio))
    assert [len(p) for p in portions] == [5, 5, 2] and asked == [0.1, 0.3, 0.44]      # the middles of the portions
    by_hand = MotionStream(model, steps=2, generator=seeded(1))
    for start, seconds, portion in zip((0, 5, 10), asked, portions):
        by_hand.asked["gaze"] = seconds, 0.0
        assert torch.equal(by_hand.step(audio[start:], commit=5), portion)
    for control in ({"distance": lambda seconds: 1 + seconds}, {"emotion": lambda seconds: torch.full((7,), seconds)}):
        played = torch.cat(list(MotionStream(model, steps=2, generator=seeded(1), **control).play(audio)))
        assert played.shape == (12, M) and not torch.allclose(played, torch.cat(portions))


def test_controls_change_the_motion(model):
    audio = torch.randn(20, A, generator=seeded())
    plain = generate_motion(model, audio, steps=3, generator=seeded())
    for controls in (dict(gaze=(0.4, 0.0)), dict(distance=1.3), dict(emotion=torch.eye(7)[1]),
                     dict(cfg_scale={"audio": 0}), dict(head_motion=1.5), dict(head_motion=lambda seconds: 0.5),
                     dict(blink_rate=30.0), dict(gaze=None),
                     dict(cfg_scale={"audio": 0.5, "gaze": 1.0, "emotion": 2.0}), dict(sampler="ddpm"), dict(eta=1.0),
                     dict(temperature=0.5)):
        other = generate_motion(model, audio, **{"steps": 3, "generator": seeded(), **controls})
        assert not torch.allclose(plain, other), controls


def test_what_is_asked_becomes_conditions_in_the_units_of_the_latents(model):
    model.set_statistics(head_motion=torch.tensor([[0.2], [0.4]]), blink_rate=torch.tensor([[0.0], [30.0]]))
    stream = MotionStream(model, gaze=None, distance=lambda seconds: 1 + seconds, head_motion=2.0, blink_rate=12)
    c = stream.conditions(torch.randn(5, A), seconds=0.5)
    assert {name: bool(c.keep[name]) for name in clip_conditions()} == dict(
        gaze=False, distance=True, emotion=False, head_motion=True, blink_rate=True)
    for wrong in (dict(gaze=0.3), dict(emotion=0.5)):
        with pytest.raises(RuntimeError):
            MotionStream(model, **wrong).conditions(torch.randn(5, A))
    assert [round(c[name].item(), 5) for name in ("distance", "head_motion", "blink_rate")] == [1.5, 0.6, 18.0]
    stream = MotionStream(model, blink_rate=12, settings=MotionSampling(overstate={}))
    assert stream.conditions(torch.randn(5, A))["blink_rate"].item() == 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_never_varied_in_training_says_nothing(model, dtype):
    "Toy clips have no blinks at all: the 17 a minute of the default must not be ten thousand spreads away."
    model.set_statistics(blink_rate=torch.zeros(5, 1), head_motion=torch.tensor([[0.2], [0.4]]))
    model.blink_rate_std.copy_(model.blink_rate_std.to(dtype))                     # as weights are kept
    audio, kinds = torch.randn(5, A), ("blink_rate", "head_motion")
    few, many = (MotionStream(model, blink_rate=rate, head_motion=amount).conditions(audio)
                 for rate, amount in ((0, 0.5), (60, 2.0)))
    same = [torch.equal(model.embed(few, name), model.embed(many, name)) for name in kinds]
    assert same == [True, False]


def test_guidance_is_equation_2_through_the_sampler(model, monkeypatch):
    "One DDIM step from noise returns the guided prediction itself."
    monkeypatch.setattr(model, "sampling", replace(model.sampling, steady=False))
    audio, scale = torch.randn(50, A, generator=seeded()), {"audio": 0.5, "gaze": 1.0}
    got = generate_motion(model, audio, steps=1, cfg_scale=scale, temperature=1, generator=seeded(3))
    c = MotionStream(model).conditions(audio)
    x_t, t = torch.randn(1, 50, M, generator=seeded(3)), torch.tensor([CONFIG.times - 1])
    plain = model(x_t, t, c)
    no = {name: model(x_t, t, replace(c, keep=c.keep | {name: torch.zeros(1, dtype=torch.bool)})) for name in scale}
    expected = 2.5 * plain - 0.5 * no["audio"] - 1.0 * no["gaze"]
    assert torch.allclose(got, model.denormalise(expected)[0], atol=1e-4)


@pytest.mark.parametrize("shape", [(0, A), (10, A + 1), (10,)])
def test_wrong_audio_is_refused(model, shape):
    with pytest.raises(VasaError, match="accepted is"):
        generate_motion(model, torch.zeros(shape))


def test_unknown_scale_is_refused(model):
    with pytest.raises(VasaError, match="accepted are gaze, distance"):
        generate_motion(model, torch.zeros(5, A), cfg_scale={"smile": 1.0})


def test_steady_poses_are_means_of_three_across_windows(model, monkeypatch):
    "The last frame of the window before is a neighbour, too; z_dyn stays as it is."
    audio, drawn = torch.randn(50, A, generator=seeded()), torch.randn(2, 1, 50, M, generator=seeded(1))
    given = iter(drawn)
    monkeypatch.setattr("vasa_ref.motion.sampling.sample", lambda *args, **options: next(given))
    stream = MotionStream(model, settings=MotionSampling(steady=True, lean=0.0))
    first, second = ((x - model.motion_mean) / model.motion_std
                     for x in (stream.step(audio, commit=5), stream.step(audio, commit=5)))
    a, b = drawn[:, 0]
    assert torch.allclose(first[1:, :6], torch.stack([a[i - 1:i + 2, :6].mean(0) for i in range(1, 5)]), atol=1e-5)
    assert torch.allclose(first[0, :6], a[:2, :6].mean(0), atol=1e-5)
    assert torch.allclose(second[0, :6], (first[-1, :6] + b[0, :6] + b[1, :6]) / 3, atol=1e-5)
    assert torch.allclose(second[:, 6:], b[:5, 6:], atol=1e-5)
