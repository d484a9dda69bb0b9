"""Clips as rows of numbers: what is read from them, kept in a file, and cut into windows."""
from dataclasses import replace

import pytest
import torch
from motion_parts import seeded, toy_latents

from vasa_ref.dynamics import to_z_dyn
from vasa_ref.errors import VasaError
from vasa_ref.face.detail import DetailFace
from vasa_ref.face.networks import FaceConfig, FaceModel
from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config
from vasa_ref.motion.conditions import blink_rate, delta_p, main_direction
from vasa_ref.motion.latents import (
    Latents,
    encode_clip,
    fingerprint,
    made_with,
    make_latents,
    random_windows,
    world_clips,
)
from vasa_ref.motion.latents import noisy as noisy_clip
from vasa_ref.world.clips import make_clip
from vasa_ref.world.head import UNIT, look_direction


@pytest.fixture(scope="module")
def audio_encoder():
    torch.manual_seed(0)
    return Wav2Vec2(Wav2Vec2Config.tiny()).eval()


@pytest.fixture(scope="module")
def face():
    torch.manual_seed(0)
    return DetailFace(FaceConfig.tiny_detail()).eval()


@pytest.fixture(scope="module")
def clips():
    return [make_clip(seed, seconds=0.4, render_frames=False) for seed in range(3)]


@pytest.fixture
def footage(face):
    "Frames and sound of a clip, without its truth."
    return replace(make_clip(1, size=face.config.size, seconds=0.4), truth=None)


def test_random_windows_are_contiguous_and_inside_their_clip():
    lengths = torch.tensor([120, 20, 61])
    rows = torch.arange(201.)[:, None]
    data = Latents(rows, rows * 2, lengths, {})
    motion, audio, exists, clip = random_windows(data, 50, 10, 400, seeded())
    assert torch.equal(audio, 2 * motion) and set(clip.tolist()) == {0, 1, 2}
    first = (lengths.cumsum(0) - lengths)[clip][:, None]
    inside = (motion[..., 0] >= first) & (motion[..., 0] < first + lengths[clip][:, None])
    assert inside.all()
    assert (motion[..., 0].diff(dim=1)[exists[:, 1:] & exists[:, :-1]] == 1).all()
    assert (exists[clip == 1].sum(1) == 20).all() and exists[clip == 0][:, 10:35].all()   # half a window at least
    starts = motion[clip == 0][:, 10, 0]
    assert starts.min() < 5 and starts.max() > 85


def test_latents_are_saved_and_refused(tmp_path):
    data = toy_latents(2, 0)
    data.save(tmp_path / "l.safetensors", encoders="abc")
    again = Latents.load(tmp_path / "l.safetensors")
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(data.items(), again.items()))
    assert made_with(tmp_path / "l.safetensors") == "abc" and made_with(tmp_path / "none") is None
    (tmp_path / "bad").write_text("x")
    for read in (Latents.load, made_with):
        with pytest.raises(VasaError, match="holds no latents"):
            read(tmp_path / "bad")


def test_encode_clip_is_told_the_truth(audio_encoder, face, clips):
    got, known = encode_clip(clips[0], audio_encoder), clips[0].truth.motion
    assert got.motion.shape == (10, 63) and got.audio.shape == (10, audio_encoder.config.hidden_size)
    assert torch.equal(got.motion[:, :6], known.pose)
    assert torch.equal(got.motion[:, 6:], to_z_dyn(known.units, known.gaze, known.body))
    assert torch.allclose(got.conditions["gaze"][0], known.main_gaze)
    assert torch.allclose(got.conditions["emotion"][0], known.emotion)
    assert abs(got.conditions["distance"].item() - known.distance) < 1e-6
    assert abs(got.conditions["head_motion"].item() - delta_p(known.pose)) < 1e-6
    assert got.conditions["blink_rate"].item() == blink_rate(known.units)
    unneeded = encode_clip(clips[0], audio_encoder, face)                             # a face model changes nothing
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(got.items(), unneeded.items()))


@pytest.mark.parametrize("kind", ["detail", "plain"])
def test_encode_clip_without_truth_reads_frames(audio_encoder, footage, kind):
    "What a face model reads, in whatever code it reads it; the batches do not matter."
    torch.manual_seed(0)
    face = (DetailFace(FaceConfig.tiny_detail()) if kind == "detail" else FaceModel(FaceConfig.tiny())).eval()
    got = encode_clip(footage, audio_encoder, face, batch=4)
    assert torch.allclose(got.motion, encode_clip(footage, audio_encoder, face).motion, atol=1e-4)
    pose, z_dyn = got.motion.split([6, face.config.z_dyn_dim], 1)
    with torch.no_grad():
        units, eyes, _ = face.read_dynamics(z_dyn)
    told = got.conditions
    assert torch.allclose(told["gaze"][0], main_direction(look_direction(pose, eyes)), atol=1e-5)
    assert torch.allclose(told["distance"][0, 0], pose[:, 5].mean()) and told["emotion"].isnan().all()
    assert told["blink_rate"].item() == blink_rate(units)


def test_encode_clip_needs_truth_or_frames_and_a_face(audio_encoder, face, footage):
    for clip, reader in ((footage, None), (replace(footage, frames=None), face)):
        with pytest.raises(ValueError, match="needs frames and a face model"):
            encode_clip(clip, audio_encoder, reader)


def test_poses_of_footage_are_smoothed(audio_encoder, face, footage, monkeypatch):
    pose = torch.randn(10, 6, generator=seeded())
    monkeypatch.setattr(face, "motion", lambda images: (pose, torch.zeros(10, 57)))
    got = encode_clip(footage, audio_encoder, face, batch=10)
    by_hand = torch.stack([pose[max(0, i - 1):i + 2].mean(0) for i in range(10)])
    assert torch.allclose(got.motion[:, :6], by_hand, atol=1e-6)
    assert abs(got.conditions["head_motion"].item() - delta_p(by_hand)) < 1e-4


def test_latents_grow_and_are_made_anew_for_other_encoders(audio_encoder, face, clips, tmp_path):
    path = tmp_path / "latents.safetensors"
    two = make_latents(audio_encoder, 2, clips=iter(clips), path=path, quiet=True)
    three = make_latents(audio_encoder, 3, clips=iter(clips), path=path, quiet=True)
    assert len(two) == 2 and len(three) == 3 and torch.equal(three.motion[:20], two.motion)
    assert torch.equal(three.motion, make_latents(audio_encoder, 3, clips=iter(clips), quiet=True).motion)
    before = path.read_bytes()
    fewer = make_latents(audio_encoder, 2, clips=iter(clips), path=path, quiet=True)   # of what is there, the first
    assert len(fewer) == 2 and path.read_bytes() == before
    for (name, values), (_, first) in zip(fewer.items(), two.items()):
        assert torch.equal(values, first) or name == "emotion", name
    torch.testing.assert_close(fewer.conditions["emotion"], two.conditions["emotion"], equal_nan=True)
    assert len(make_latents(audio_encoder, 3, clips=iter(clips), minutes=0, quiet=True)) == 1
    torch.manual_seed(1)
    other = Wav2Vec2(Wav2Vec2Config.tiny()).eval()
    names = [fingerprint(audio_encoder), fingerprint(other), fingerprint(audio_encoder, face),
             fingerprint(audio_encoder, source="elsewhere")]
    assert made_with(path) == names[0] and len(set(names)) == 4
    anew = make_latents(other, 1, clips=iter(clips), path=path, quiet=True)
    assert len(anew) == 1 and made_with(path) == names[1]
    with pytest.raises(VasaError, match="no clips"):
        make_latents(audio_encoder, 3, clips=iter([]), quiet=True)


def test_delta_p_and_blink_rate():
    pose = torch.tensor([0.0, 1.0, -1.0]).deg2rad()[:, None] * torch.tensor([1, 2, 3, 9, 9, 9])
    assert abs(delta_p(pose) - 3.0) < 1e-4
    assert delta_p(torch.randn(1, 6)) == 0
    units, lids = torch.zeros(75, 52), [UNIT["eyeBlinkLeft"], UNIT["eyeBlinkRight"]]
    assert blink_rate(units) == 0
    for frame in (0, 5, 6, 7, 70, 71):
        units[frame, lids] = 0.9
    units[30:34, lids[0]] = 0.8                                              # a wink
    assert blink_rate(units) == 60


@pytest.mark.parametrize("workers", [1, 2])
def test_every_third_world_clip_is_heard_by_a_bad_microphone(workers):
    heard = list(world_clips(0, 3, workers))
    clean = [make_clip(seed, render_frames=False) for seed in range(3)]
    assert [torch.equal(a.waveform, b.waveform) for a, b in zip(heard, clean)] == [True, True, False]
    assert torch.equal(heard[2].waveform, noisy_clip(clean[2], 2).waveform) and len(heard[2]) == len(clean[2])
    assert all(torch.equal(a.truth.motion.pose, b.truth.motion.pose) for a, b in zip(heard, clean))


def test_main_direction_is_the_mode():
    looks = torch.cat([torch.full((60, 2), 0.1), torch.full((40, 2), 0.9)])
    assert torch.allclose(main_direction(looks), torch.tensor([0.1, 0.1]))
