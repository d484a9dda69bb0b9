"""The training of the motion model: drop-out of conditions, the loss, toy latents, weights that go on."""
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn as nn
from motion_parts import CONFIG, A, M, conditions, seeded, toy_latents

from vasa_ref.dynamics import from_z_dyn
from vasa_ref.errors import VasaError
from vasa_ref.hearing.features import PhonemeRecogniser, load_audio_encoder
from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config
from vasa_ref.motion.latents import fingerprint, made_with
from vasa_ref.motion.network import MotionConfig, MotionModel, MotionSampling, load_motion
from vasa_ref.motion.sampling import generate_motion
from vasa_ref.motion.training import (
    MotionTraining,
    drop_conditions,
    motion_loss,
    random_conditions,
    train_motion,
    weighted_errors,
)
from vasa_ref.store import load_weights, save_weights
from vasa_ref.training import Recipe, Run, fit
from vasa_ref.world.clips import make_clips
from vasa_ref.world.voice import PHONEMES

PLAN = MotionTraining.tiny(batch=8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MotionModel(CONFIG).eval()


@pytest.fixture(params=["tokens", "adaptive"])
def either(request, model):
    """A model whose conditions are tokens, and one whose layers adapt to them."""
    if request.param == "tokens":
        return model
    model = MotionModel(replace(CONFIG, adaptive=True, skip=False)).eval()
    for layer in model.layers:
        nn.init.normal_(layer.adapt.weight, std=0.1)      # they begin at zero, where layers say nothing
    return model


def test_drop_out_rates():
    n = 4000
    kept = drop_conditions(conditions(n), seeded(), 0.1, 0.5).keep
    for name in ("gaze", "distance", "emotion"):
        assert abs(1 - kept[name].float().mean() - 0.1) < 0.02
    assert abs((~kept["head_motion"] & ~kept["blink_rate"]).float().mean() - 0.307) < 0.03
    assert abs((kept["head_motion"] ^ kept["blink_rate"]).float().mean() - 0.126) < 0.02
    assert abs((~kept["audio"].any(1)).float().mean() - 0.1) < 0.02
    assert torch.equal(kept["audio"].any(1), kept["audio"].all(1)), "all of the window's sound, or none"
    assert torch.equal(kept["prev_motion"], kept["prev_audio"])
    assert abs((~kept["prev_motion"].any(1)).float().mean() - 0.5) < 0.03
    assert (kept["prev_motion"].float().diff(dim=1) >= 0).all()


def test_the_papers_loss_is_the_mean_square_of_all_numbers():
    error, valid = torch.randn(5, 7, 134, generator=seeded()), torch.ones(5, 7, dtype=torch.bool)
    loss, parts = weighted_errors(error, conditions(5), valid, MotionTraining.paper())
    assert loss.item() == pytest.approx(error.square().mean().item(), rel=1e-5)
    assert weighted_errors(error, conditions(5), valid, MotionTraining())[0] > 2 * loss


def test_windows_of_all_lengths(model):
    data, lengths = toy_latents(3, 0), []
    for step in range(300):
        x0, c, valid = random_conditions(model, data, seeded(step), PLAN)
        lengths.append(x0.shape[1])
        assert c["audio"].shape[1] == valid.shape[1] == lengths[-1]
    window = model.config.window
    assert min(lengths) == 1 and max(lengths) == window
    assert abs(sum(n < window for n in lengths) / 300 - PLAN.short_prob) < 0.1
    assert sum(n <= window // 4 for n in lengths) > 0.15 * 300, "few frames are more frequent than many"


def test_drop_out_brings_nothing_back():
    c = conditions(64, emotion=False)
    assert not drop_conditions(c, seeded()).keep["emotion"].any()


def test_unknown_emotion_is_the_null(model):
    data = toy_latents(3, 0)
    data.conditions["emotion"][:] = torch.nan
    x0, c, valid = random_conditions(model, data, seeded(), PLAN)
    assert not c.keep["emotion"].any() and motion_loss(model, x0, c, valid, seeded())[0].isfinite()


def test_loss_is_what_it_says():
    class Echo(nn.Module):
        "Predicts x0 plus a constant: errors are known, velocity errors are zero but for the join."
        config, schedule = CONFIG, MotionModel(CONFIG).schedule

        def forward(self, x_t, t, c):
            return self.x0 + 0.5
    echo, c = Echo(), conditions(4)
    echo.x0 = torch.randn(4, CONFIG.window, M, generator=seeded())
    valid = torch.ones(4, CONFIG.window, dtype=torch.bool)
    loss, parts = motion_loss(echo, echo.x0, c, valid, seeded())
    join = PLAN.join_weight / (PLAN.join_weight + CONFIG.window - 1)
    assert torch.allclose(parts["pose"], torch.tensor(0.25))
    assert torch.allclose(parts["dyn_velocity"], torch.tensor(0.25 * join))
    weights = PLAN.pose_weight + PLAN.dyn_weight
    assert torch.allclose(loss, torch.tensor(weights * 0.25 * (1 + PLAN.velocity_weight * join)))
    alone = replace(c, keep={"prev_motion": torch.zeros(4, dtype=torch.bool)})
    assert motion_loss(echo, echo.x0, alone, valid, seeded())[1]["pose_velocity"] < 1e-12


def test_frames_that_do_not_exist_do_not_count(model):
    c, valid = conditions(2), (torch.arange(CONFIG.window) < 30).expand(2, -1)
    x0 = torch.randn(2, CONFIG.window, M, generator=seeded())
    model.forward = lambda x_t, t, c: torch.zeros_like(x0)
    loss = motion_loss(model, x0, c, valid, seeded())[0]
    elsewhere = torch.where(valid[..., None], x0, x0 + 7)
    assert torch.allclose(loss, motion_loss(model, elsewhere, c, valid, seeded())[0])


def test_gradients_reach_every_parameter(either):
    model = either
    data = toy_latents(4, 0)
    model.train()
    for step in range(4):
        motion_loss(model, *random_conditions(model, data, seeded(step), PLAN), seeded(step))[0].backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_training_makes_the_mouth_follow_the_audio():
    train, test = toy_latents(40, 1), toy_latents(4, 2)
    torch.manual_seed(0)
    config = MotionConfig.tiny(motion_dim=M, audio_dim=A, width=32, heads=2)
    plan = MotionTraining.tiny(batch=16, lr=3e-3)
    model = MotionModel(config)
    model.set_statistics(**dict(train.items()))

    def correlation():
        ends, scores = test.lengths.cumsum(0).tolist(), []
        for begin, end in zip([0] + ends, ends):
            made = generate_motion(model.eval(), test.audio[begin:end], steps=5, generator=seeded())[:, 6:]
            pairs = torch.stack([made, test.motion[begin:end, 6:]], 2)
            scores += [torch.corrcoef(pair.T)[0, 1] for pair in pairs.transpose(0, 1)]
        return torch.stack(scores).mean()
    before = correlation()
    loss = lambda step, gen: motion_loss(model, *random_conditions(model, train, gen, plan), gen, plan)
    log = fit(Recipe("motion", {"motion": model}, loss, lr=plan.lr, warmup=20), Run(max_steps=120, quiet=True))
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    assert abs(before) < 0.4 and correlation() > 0.8


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    audio_encoder = Wav2Vec2Config.tiny()
    save_weights(tmp_path / "audio.safetensors", PhonemeRecogniser(audio_encoder), audio_encoder, phonemes=PHONEMES)
    make_clips(range(2), seconds=0.8, workers=1, folder=tmp_path / "clips", render_frames=False, quiet=True)
    return tmp_path


def test_train_motion_writes_weights_and_resumes_exactly(folder):
    options = dict(data=folder / "clips", quiet=True, device="cpu")
    whole = train_motion("tiny", out=folder / "whole", audio=folder, max_steps=6, **options)
    train_motion("tiny", out=folder, max_steps=3, **options)
    resumed = train_motion("tiny", out=folder, resume=folder, max_steps=6, **options)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values()):
        assert torch.equal(a, b), name
    loaded, metadata = load_motion(folder), load_weights(folder / "motion.safetensors")[1]
    assert loaded.sampling == MotionSampling.tiny() and metadata["training"] == asdict(MotionTraining.tiny())
    for name, kept in loaded.state_dict().items():                                       # in float16 on disk
        assert torch.equal(kept, resumed.state_dict()[name].half().float()), name
    audio = torch.randn(60, loaded.config.audio_dim, generator=seeded())
    motion = generate_motion(loaded, audio, steps=2, generator=seeded())
    assert motion.isfinite().all() and from_z_dyn(motion[:, 6:]).units.shape == (60, 52)


def test_train_motion_refuses(folder, tmp_path):
    with pytest.raises(VasaError, match="accepted are tiny, laptop, paper"):
        train_motion("huge", max_steps=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VasaError):
        train_motion("tiny", max_steps=1, audio=tmp_path / "empty", data=folder / "clips")


def test_motion_learns_from_the_features_of_a_public_checkpoint(folder, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4))
    theirs.save_pretrained(tmp_path / "public")
    options = dict(data=folder / "clips", quiet=True)
    out = tmp_path / "out"
    model = train_motion("tiny", out=out, audio=tmp_path / "public", max_steps=2, **options)
    assert model.config.audio_dim == 24
    kept = load_audio_encoder(out)
    assert all(torch.allclose(a, b, atol=2e-3) for a, b in
               zip(kept.state_dict().values(), Wav2Vec2.from_pretrained(tmp_path / "public").state_dict().values()))
    resumed = train_motion("tiny", out=out, resume=out, max_steps=4, **options)   # with the copy that was kept
    assert resumed.config.audio_dim == 24
    assert made_with(out / "latents.safetensors") == fingerprint(kept, source=str((folder / "clips").resolve()))
    again = train_motion("tiny", audio=out, max_steps=1, **options)
    assert again.config.audio_dim == 24
