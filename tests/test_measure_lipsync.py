"""SyncNet and CAPP: what the losses and scores promise, on data whose answer is known."""
import math

import pytest
import torch
import torch.nn.functional as F

from vasa_ref.errors import VasaError
from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config
from vasa_ref.measure.lipsync import (
    CAPP,
    Judges,
    SyncConfig,
    SyncNet,
    Talks,
    judges_encoder,
    judges_loss,
    load_judges,
    matching_loss,
    mel_rows,
    mouth_of,
    pair_loss,
    sync_curve,
    sync_scores,
    train_sync,
)
from vasa_ref.world.head import UNIT

CONFIG = SyncConfig.tiny(audio_dim=12)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def codes(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=seeded(seed)), dim=-1)


@pytest.fixture
def judges():
    torch.manual_seed(0)
    return Judges(CONFIG).eval()


def talks(n=8, frames=150):
    "Talks whose mouth and pose follow the loudness of a sound of their own."
    loud = F.interpolate(torch.rand(n, 1, frames // 5, generator=seeded()), frames, mode="linear")[:, 0]
    pose = 0.1 * loud[..., None] * torch.randn(6, generator=seeded(1))
    mel = loud.repeat_interleave(4, 1)[..., None] * torch.ones(40) * 4 - 8
    return Talks(loud[..., None].expand(-1, -1, CONFIG.mouth), pose, mel,
                 loud[..., None] * torch.randn(12, generator=seeded(2)))


def test_the_mouth_is_what_speech_moves_and_has_no_sides():
    units = torch.zeros(2, 52)
    units[0, UNIT["mouthStretchLeft"]], units[1, [UNIT["eyeBlinkLeft"], UNIT["browInnerUp"]]] = 0.5, 1.0
    mouth = mouth_of(units)
    assert mouth.shape == (2, CONFIG.mouth) and mouth[0].sum() == 0.25 and not mouth[1].any()
    units[0, UNIT["mouthStretchLeft"]], units[0, UNIT["mouthStretchRight"]] = 0.0, 0.5
    assert torch.equal(mouth_of(units), mouth)


def test_four_rows_of_mel_for_each_frame_and_on_time():
    wave = torch.zeros(16000)
    wave[8000:] = torch.randn(8000, generator=seeded())
    rows = mel_rows(wave, 25)
    assert rows.shape == (100, 40) and rows[:48].mean() < -10 < rows[52:].mean()
    assert mel_rows(wave, 30).shape == (120, 40) and mel_rows(wave, 10).shape == (40, 40)


def test_syncnet_sees_five_frames_of_both():
    net, mouth, mel = SyncNet(CONFIG).eval(), torch.randn(1, 20, CONFIG.mouth), torch.randn(1, 80, 40)
    a, b = net(mouth, mel)
    assert a.shape == b.shape == (1, 16, CONFIG.code) and torch.allclose(a.norm(dim=-1), torch.ones(1, 16))
    mouth[:, 10], mel[:, 40:44] = 0.5, 0.5
    for before, after in zip((a, b), net(mouth, mel)):
        assert ((before - after).abs().amax(-1)[0] > 1e-6).nonzero()[:, 0].tolist() == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("shift", [-4, 0, 3])
def test_the_shift_is_found(shift):
    mouth = codes(60, 16)
    scores = sync_scores(sync_curve(mouth, mouth.roll(shift, 0)))
    assert scores["sync_offset"] == shift and scores["sync_c"] > 1 > scores["sync_d"]
    unrelated = sync_scores(sync_curve(mouth, codes(60, 16, seed=9)))
    assert unrelated["sync_c"] < 0.3 and unrelated["sync_d"] > 1.1
    with pytest.raises(ValueError, match="too few"):
        sync_curve(mouth[:15], mouth[:15])


def test_matching_loss_is_a_cross_entropy_over_shifts():
    a, b, scale = codes(2, 9, 4), codes(2, 9, 4, seed=1), torch.tensor(0.7)
    losses = []
    for row in range(2):
        for t in (2, 3, 4, 5, 6):
            logits = scale.exp() * torch.stack([a[row, t] @ b[row, t + k] for k in (-2, -1, 0, 1, 2)])
            losses.append(F.cross_entropy(logits[None], torch.tensor([2])))
    assert torch.allclose(matching_loss(a, b, scale, reach=2), torch.stack(losses).mean(), atol=1e-6)


def test_pair_loss_of_strangers_is_that_of_guessing():
    a = torch.zeros(8, 4)
    a[:, 0] = 1
    assert abs(pair_loss(a, a, torch.tensor(1.0)).item() - math.log(8)) < 1e-5
    assert pair_loss(codes(8, 32), codes(8, 32), torch.tensor(3.0)) < 0.1


def test_capp_does_not_hear_where_the_head_is_turned_to():
    capp, pose, features = CAPP(CONFIG).eval(), torch.randn(2, 75, 6), torch.randn(2, 75, 12)
    a, b = capp(pose, features)
    moved, _ = capp(pose + torch.randn(2, 1, 6), features)
    assert torch.allclose(a, moved, atol=1e-5) and a.shape == b.shape == (2, 25 * CONFIG.patch_code)
    assert torch.allclose(a.norm(dim=-1), torch.ones(2), atol=1e-5)


def test_capp_scores_windows_and_shifts(judges):
    pose, features = torch.randn(100, 6), torch.randn(100, 12)
    expected = []
    for start in range(0, 98 - 75 + 1, 5):
        a, b = judges.capp(pose[None, start:start + 75], features[None, start + 2:start + 77])
        expected.append((a * b).sum().item())
    assert judges.capp_score(pose, features, shift=2) == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    assert judges.capp_score(pose[:74], features[:74]) is None


def test_the_loss_reaches_every_parameter_and_falls(judges):
    data = talks()
    judges.train().capp.set_statistics(data)
    optimiser, losses = torch.optim.AdamW(judges.parameters(), 3e-3), []
    for step in range(30):
        loss, parts = judges_loss(judges, data, seeded(step))
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in judges.parameters())
        optimiser.step()
        losses.append([parts["sync"].item(), parts["capp"].item()])
    first, last = torch.tensor(losses[:5]).mean(0), torch.tensor(losses[-5:]).mean(0)
    assert (last < first - 0.3).all()


def test_training_saves_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(SyncConfig, "tiny",
                        classmethod(lambda cls, **changes: cls(hidden=16, width=16, pose_layers=1, audio_layers=1,
                                                               talks=3, steps=8, **changes)))
    options = dict(quiet=True, workers=1)
    whole = train_sync("tiny", max_steps=4, out=tmp_path / "a", **options)
    train_sync("tiny", max_steps=2, out=tmp_path / "b", **options)
    parts = train_sync("tiny", max_steps=4, out=tmp_path / "b", resume=tmp_path / "b", **options)
    assert all(torch.equal(x, y) for x, y in zip(whole.state_dict().values(), parts.state_dict().values()))
    loaded = load_judges(tmp_path / "a")
    assert all(torch.allclose(x, y, atol=1e-2)
               for x, y in zip(whole.state_dict().values(), loaded.state_dict().values()))
    assert load_judges(tmp_path / "a", judges_encoder("laptop")) is not None
    assert load_judges(tmp_path / "a", judges_encoder(tmp_path / "a")) is not None      # a copy lies beside them
    with pytest.raises(VasaError, match="another audio encoder"):
        load_judges(tmp_path / "a", Wav2Vec2(Wav2Vec2Config.tiny()))
    with pytest.raises(VasaError, match="tiny, laptop, paper"):
        train_sync("huge", max_steps=1)
    with pytest.raises(ValueError, match="limit"):
        train_sync("tiny")
