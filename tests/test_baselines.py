"""The baselines of the motion model: what each of them may know."""
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import baselines

from vasa_ref.motion.conditions import CONDITIONS, clip_conditions
from vasa_ref.motion.latents import Latents
from vasa_ref.motion.network import MotionConfig
from vasa_ref.motion.training import random_conditions
from vasa_ref.talking.talker import Talker


@pytest.fixture
def latents(monkeypatch):
    monkeypatch.setattr(MotionConfig, "laptop", classmethod(lambda cls, **changes: MotionConfig.tiny(**changes)))
    talker = Talker.random("tiny")
    motion_dim, audio_dim = talker.motion_model.config.motion_dim, talker.motion_model.config.audio_dim
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator)
    return Latents(draw(160, motion_dim), draw(160, audio_dim), torch.tensor([90, 70]),
                   {name: draw(2, CONDITIONS[name].size) for name in clip_conditions()})


def test_regression_sees_neither_noise_nor_target(latents, tmp_path):
    model, steps = baselines.learn(latents, 0.0, baselines.regression_loss, tmp_path, "regression")
    assert steps == 1
    seen = []
    call = model.forward
    model.forward = lambda x_t, t, conditions: seen.append((x_t, t)) or call(x_t, t, conditions)
    x0, conditions, valid = random_conditions(model, latents, torch.Generator().manual_seed(1))
    loss, parts = baselines.regression_loss(model, x0, conditions, valid, None)
    assert not seen[0][0].any() and (seen[0][1] == model.config.times - 1).all() and loss.isfinite()
    error = (call(*seen[0], conditions) - x0)[valid].square()
    assert torch.allclose(parts["pose"], error[:, :6].mean(), atol=1e-5)
    assert torch.allclose(parts["dyn"], error[:, 6:].mean(), atol=1e-5)


def test_weights_that_are_there_are_taken(latents, tmp_path):
    model, _ = baselines.learn(latents, 0.0, baselines.motion_loss, tmp_path, "joint")
    again, steps = baselines.learn(latents, 0.0, baselines.motion_loss, tmp_path, "joint")
    assert steps == 1
    with pytest.raises(SystemExit, match="0.0 minutes, not 9.0"):
        baselines.learn(latents, 9.0, baselines.motion_loss, tmp_path, "joint")
    assert all(torch.allclose(a, b, atol=1e-2)
               for a, b in zip(model.state_dict().values(), again.state_dict().values()))


def test_separate_models_do_not_know_of_each_other(latents):
    talker, controls, _ = baselines.rival("separate", Talker.random("tiny"), latents, 0.0, None)
    assert controls == {} and [m.motion_std[:6].min() > 0.1 for m in talker.heads] == [True, False]
    wave = torch.zeros(16000)
    motion = talker.motion(wave, seed=1, steps=2)
    pose, dynamics = talker.heads
    talker.motion_model = pose
    assert torch.equal(motion[:, :6], Talker.motion(talker, wave, seed=1, steps=2)[:, :6])
    talker.motion_model = dynamics
    assert torch.equal(motion[:, 6:], Talker.motion(talker, wave, seed=1, steps=2)[:, 6:])


def test_regression_plays_without_chance(latents):
    talker, controls, _ = baselines.rival("regression", Talker.random("tiny"), latents, 0.0, None)
    wave = torch.zeros(16000)
    assert torch.equal(talker.motion(wave, seed=1, **controls), talker.motion(wave, seed=2, **controls))
    with pytest.raises(KeyError):
        baselines.rival("unknown", SimpleNamespace(), latents, 0.0, None)
