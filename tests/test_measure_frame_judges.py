"""SyncNet and CAPP that see frames: what they see, what training changes, and what the scores promise."""
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from vasa_ref.errors import VasaError
from vasa_ref.hearing.features import audio_features
from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config
from vasa_ref.measure import frame_judges
from vasa_ref.measure.estimator import EstimatorConfig, MotionEstimator
from vasa_ref.measure.frame_judges import (
    MOUTH_CENTRE,
    FrameConfig,
    FrameEncoder,
    FrameJudges,
    FrameTalks,
    frame_figures,
    frame_losses,
    load_frame_judges,
    make_frame_talks,
    perturb_talk,
    train_frame_judges,
    watch,
)
from vasa_ref.measure.lipsync import Judges, SyncConfig
from vasa_ref.store import save_weights
from vasa_ref.world.clips import make_clips
from vasa_ref.world.frames import marks_of, random_poses
from vasa_ref.world.head import project, rotation_matrix
from vasa_ref.world.people import person
from vasa_ref.world.picture import make_figures, render


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def judge():
    torch.manual_seed(0)
    audio_encoder = Wav2Vec2(Wav2Vec2Config.tiny()).eval()
    estimator = MotionEstimator(EstimatorConfig.tiny()).eval()
    judges = Judges(SyncConfig.tiny(audio_dim=audio_encoder.config.hidden_size)).eval()
    encoder = FrameEncoder(FrameConfig.like(judges.config, estimator.config, "tiny")).eval()
    return FrameJudges(encoder, judges.requires_grad_(False), estimator.requires_grad_(False), audio_encoder)


def talks(judge, n=6, frames=120):
    c = judge.encoder.config
    mouth = torch.randint(0, 256, (n, frames, 3, c.crop, c.crop), dtype=torch.uint8, generator=seeded())
    return FrameTalks(mouth, torch.randn(n, 2, frames, c.head, generator=seeded(1)),
                      torch.randn(n, 4 * frames, c.mels, generator=seeded(2)),
                      torch.randn(n, frames, c.audio_dim, generator=seeded(3)))


def test_the_crop_is_about_the_mouth_of_any_pose():
    pose = random_poses(6, seeded(2))
    _, truth = render(make_figures(person(5)), pose, torch.zeros(6, 52), torch.zeros(6, 2), size=64, maps=True)
    mouth = marks_of(truth)[:, -1]                                    # eyes come first
    x, y, _ = project((rotation_matrix(pose) @ torch.tensor(MOUTH_CENTRE))[:, None], pose)[:, 0].unbind(1)
    assert (torch.stack([x, -y], 1) - mouth).norm(dim=1).max() < 0.1


def test_what_is_seen_does_not_depend_on_the_size_of_the_frames_or_on_groups(judge):
    frames = torch.randint(0, 256, (70, 32, 32, 3), dtype=torch.uint8, generator=seeded())
    small = F.interpolate(frames.permute(0, 3, 1, 2).float(), (128, 128), mode="bilinear")
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    config = judge.encoder.config
    seen = [watch(x.round().byte().permute(0, 2, 3, 1), judge.estimator, config) for x in (small, large)]
    assert seen[0][0].shape == (70, 3, 32, 32) and seen[0][1].shape == (2, 70, config.head)
    for a, b in zip(*seen): assert (a.float() - b.float()).abs().mean() < 0.05 * a.float().std()
    parts = [watch(part.round().byte().permute(0, 2, 3, 1), judge.estimator, config) for part in small.split(50)]
    assert torch.equal(torch.cat([part[0] for part in parts]), seen[0][0])
    mirrored = watch(small.flip(-1).round().byte().permute(0, 2, 3, 1), judge.estimator, config)[1]
    assert torch.allclose(mirrored.flip(0), seen[0][1], atol=1e-5)


def test_a_talk_is_perturbed_in_one_way():
    images = torch.full((8, 20, 3, 8, 8), 100, dtype=torch.uint8)
    perturbed = perturb_talk(images, seeded())
    assert perturbed.shape == images.shape and 0 <= perturbed.min() and perturbed.max() <= 1
    light = perturbed.mean((2, 3, 4))
    assert light.std(1).max() < 0.01 < light.mean(1).std()
    sides = torch.zeros(16, 3, 3, 8, 8, dtype=torch.uint8)
    sides[..., :4] = 200
    seen = perturb_talk(sides, seeded())
    left = seen[..., :4].mean((2, 3, 4)) > seen[..., 4:].mean((2, 3, 4))
    assert (left == left[:, :1]).all() and 0 < left[:, 0].sum() < 16


def test_the_network_for_the_head_begins_as_capp(judge):
    judge.judges.capp.pose_std.uniform_(0.5, 2, generator=seeded())
    judge.judges.capp.speed_std.uniform_(0.5, 2, generator=seeded(1))
    judge.encoder.head.begin_as(judge.estimator, judge.judges)
    code = torch.randn(2, 75, judge.encoder.config.head, generator=seeded(2))
    pose = judge.estimator.pose_mean + judge.estimator.pose_std * judge.estimator.pose_head(code)
    expected, _ = judge.judges.capp(pose, torch.randn(2, 75, judge.encoder.config.audio_dim, generator=seeded(3)))
    assert torch.allclose(judge.encoder.head(code), expected, atol=1e-4)


def test_codes_have_length_one_and_a_window_of_five_frames(judge):
    data = talks(judge, n=1, frames=12)
    codes = judge.encoder.mouth(data.mouth / 255)
    assert codes.shape == (1, 8, judge.encoder.config.code) and torch.allclose(codes.norm(dim=-1), torch.ones(1, 8))
    other = data.mouth.clone()
    other[:, 5] = 255 - other[:, 5]
    moved = (judge.encoder.mouth(other / 255) - codes).norm(dim=-1)[0] > 1e-5
    assert moved.tolist() == [False] + 5 * [True] + 2 * [False]
    assert judge.judges.syncnet.hear(data.mel).shape == codes.shape


def test_sound_that_is_late_is_found_late(judge, monkeypatch):
    """An encoder that sees as SyncNet hears: the offset is the shift, and its confidence is high."""
    waveform = torch.randn(640 * 60, generator=seeded())
    heard = judge.judges.syncnet.hear(frame_judges.mel_rows(waveform, 60, judge.encoder.config.mels)[None])
    monkeypatch.setattr(judge.encoder.mouth, "forward", lambda mouth: heard.roll(-3, 1))
    mouth = torch.zeros(60, 3, 32, 32, dtype=torch.uint8)
    assert judge.sync_curve(mouth, waveform, reach=8).argmin() - 8 == 3


def test_capp_holds_each_frame_against_a_later_sound(judge):
    waveform = torch.randn(640 * 98, generator=seeded())
    head = torch.randn(98, judge.encoder.config.head, generator=seeded(1))
    features = audio_features(judge.audio_encoder, waveform, 98)
    hear = judge.judges.capp.hear
    expected = [(judge.encoder.head(head[None, i:i + 75]) * hear(features[None, i + 2:i + 77])).sum().item()
                for i in range(0, 98 - 2 - 75 + 1, 5)]
    assert judge.capp_score(head, waveform, shift=2) == pytest.approx(sum(expected) / len(expected), abs=1e-4)
    assert judge.capp_score(head[:74], waveform[:640 * 74]) is None


def test_figures_are_of_the_mean_curve_and_leave_out_capp_of_short_clips(judge):
    def take(frames):
        return SimpleNamespace(mouths=talks(judge, 1, frames).mouth[0], heads=talks(judge, 1, frames).head[0, 0],
                               truth=SimpleNamespace(speech=SimpleNamespace(
                                   waveform=torch.randn(640 * frames, generator=seeded(frames)))))
    short = frame_figures(judge, [take(40)])
    assert set(short) == {"frame_sync_c", "frame_sync_d", "frame_sync_offset"}
    both = frame_figures(judge, [take(40), take(90)])
    assert set(both) == {*short, "frame_capp", "frame_capp_shift3"}
    assert both["frame_capp"] == judge.capp_score(take(90).heads, take(90).truth.speech.waveform)


def test_the_losses_reach_all_that_sees_and_nothing_that_hears(judge):
    judge.encoder.train()
    losses = frame_losses(judge, talks(judge), seeded())
    sum(losses.values()).backward()
    assert set(losses) == {"sync", "capp"}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in judge.encoder.parameters())
    assert all(p.grad is None for p in judge.judges.parameters())
    assert all(p.grad is None for p in judge.estimator.parameters())


def test_training_saves_and_resumes(tmp_path, monkeypatch):
    """Exactly; what is saved loads with the judges and the instrument that it learnt with, and with no others."""
    asked = []

    def made(seeds, estimator, audio_encoder, config, *options):
        asked.append(len(seeds))
        torch.manual_seed(0)
        return talks(SimpleNamespace(encoder=SimpleNamespace(config=config)), n=config.talks, frames=100)
    monkeypatch.setattr(frame_judges, "make_frame_talks", made)
    options = dict(quiet=True, workers=1)
    whole = train_frame_judges("tiny", max_steps=4, out=tmp_path / "a", **options).encoder
    train_frame_judges("tiny", max_steps=2, out=tmp_path / "b", **options)
    parts = train_frame_judges("tiny", max_steps=4, out=tmp_path / "b", resume=tmp_path / "b", **options).encoder
    assert asked == [4, 4]                                             # the second call had what was seen
    assert all(torch.equal(x, y) for x, y in zip(whole.state_dict().values(), parts.state_dict().values()))
    loaded = load_frame_judges(tmp_path / "a")
    assert all(torch.allclose(x, y, rtol=2e-3, atol=1e-3)
               for x, y in zip(whole.state_dict().values(), loaded.encoder.state_dict().values()))
    assert not any(p.requires_grad for model in vars(loaded).values() for p in model.parameters())
    estimator = MotionEstimator(EstimatorConfig.tiny())
    save_weights(tmp_path / "a" / "metrics.safetensors", estimator, estimator.config, errors={})
    with pytest.raises(VasaError, match="other weights of the estimator"):
        load_frame_judges(tmp_path / "a")
    with pytest.raises(VasaError, match="tiny, laptop, paper"):
        train_frame_judges("huge", max_steps=1)


def test_talks_are_those_of_their_seeds(judge):
    config = judge.encoder.config
    config.seconds = 0.2
    two = make_frame_talks(range(3, 5), judge.estimator, judge.audio_encoder, config, workers=1)
    one = make_frame_talks(range(4, 5), judge.estimator, judge.audio_encoder, config, workers=1)
    assert two.mouth.shape == (2, 5, 3, 32, 32) and two.mel.shape == (2, 20, 40) and len(two) == 2
    for a, b in zip(vars(two).values(), vars(one).values()): assert torch.allclose(a[1:].float(), b.float(), atol=1e-4)


def test_the_shipped_judges_tell_right_from_wrong():
    """One held-out talk: right at no shift, late when late, and surer of its own sound than of another."""
    judge = load_frame_judges("laptop")
    clip, other = make_clips([7100, 7101], size=128, seconds=3.2, held_out=True, workers=1, quiet=True)
    mouths, heads = judge.watch(clip.frames)
    right = judge.sync_curve(mouths, clip.waveform)
    late = judge.sync_curve(mouths, clip.waveform.roll(5 * 640))
    wrong = judge.sync_curve(mouths, other.waveform)
    assert right.argmin() == 15 and late.argmin() == 20 and right.min() < wrong.min() - 0.1
    assert judge.capp_score(heads, clip.waveform) > judge.capp_score(heads, other.waveform)
