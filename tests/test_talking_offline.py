"""The offline talker with random models of the tiny preset: wiring, promises and errors, not quality."""
import io
import math

import numpy as np
import pytest
import torch
from talking_parts import speech

from vasa_ref.errors import VasaError
from vasa_ref.face.detail import Appearance
from vasa_ref.hearing.features import audio_features
from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config
from vasa_ref.media.clips import Clip
from vasa_ref.motion.network import MotionConfig, MotionModel
from vasa_ref.motion.sampling import generate_motion
from vasa_ref.talking.offline import OfflineTalker, Portrait, Reenactor, SpeechToMotion, most_typical


@pytest.fixture(scope="module")
def talker():
    torch.set_num_threads(1)
    return OfflineTalker.random("tiny")


@pytest.fixture(scope="module")
def portrait():
    return torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))


def test_animate_gives_a_clip_of_the_right_length(talker, portrait):
    calls = []
    clip = talker.animate(portrait, speech(2.3), steps=2, progress=lambda done, total: calls.append((done, total)))
    assert isinstance(clip, Clip) and clip.frames.shape == (58, 32, 32, 3) and clip.frames.dtype == torch.uint8
    assert calls == [(n, 58) for n in range(1, 59)]


def test_one_sample_is_one_frame(talker, portrait):
    assert talker.animate(portrait, torch.zeros(1), steps=1).frames.shape[0] == 1


def test_same_seed_same_frames(talker, portrait):
    first, second, other = (talker.animate(portrait, speech(0.4), steps=2, seed=seed).frames for seed in (5, 5, 6))
    by_generator = talker.animate(portrait, speech(0.4), steps=2, generator=torch.Generator().manual_seed(5)).frames
    assert torch.equal(first, second) and torch.equal(first, by_generator) and not torch.equal(first, other)


def test_a_film_is_read_in_any_form(talker, tmp_path):
    film = talker.animate(torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0)), speech(0.4), steps=2)
    motion = talker.read(film)
    assert motion.shape == (10, talker.motion_model.config.motion_dim)
    pose, z_dyn = talker.face.motion(film.frames.permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(motion, torch.cat([pose, z_dyn], 1), atol=1e-4, rtol=1e-4)
    backwards = film.frames.numpy()[..., ::-1].copy()[..., ::-1]                             # negative strides
    opaque = torch.cat([film.frames, torch.full_like(film.frames[..., :1], 255)], -1)
    for form in (film.frames.numpy(), backwards, opaque): assert torch.equal(talker.read(form), motion)
    saved = film.save(tmp_path / "film.mp4")
    from_file = talker.read(saved)
    assert from_file.shape == motion.shape
    for form in (saved.read_bytes(), io.BytesIO(saved.read_bytes())): assert torch.equal(talker.read(form), from_file)
    for wrong in (Clip(None, speech(0.4)), torch.zeros(2, 8, 8, 3), torch.zeros(8, 8, 3, dtype=torch.uint8),
                  film.frames[:0], None, [1]):
        with pytest.raises(VasaError, match="accepted are a Clip"):
            talker.read(wrong)


def test_motion_is_that_of_the_motion_model(talker):
    sound = speech(2.5)
    features = audio_features(talker.audio, sound)
    expected = generate_motion(talker.motion_model, features, gaze=(math.radians(10), 0), distance=1.1, steps=3,
                               generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(talker.motion(sound, gaze=(10, 0), distance=1.1, steps=3, seed=2), expected)


def test_controls_reach_the_motion_model(talker):
    base = talker.motion(speech(0.4), steps=2)
    for control in ({"gaze": (20, 0)}, {"distance": 1.3}, {"emotion": "happy"}, {"emotion": "neutral"},
                    {"cfg_scale": {"audio": 0}}, {"steps": 3},
                    {"temperature": 0.3}, {"sampler": "ddpm"}):
        assert not torch.allclose(base, talker.motion(speech(0.4), **{"steps": 2} | control), atol=1e-4), control


def test_an_encoded_portrait_serves_as_portrait(talker, portrait):
    encoded = talker.encode(portrait)
    assert isinstance(encoded, Portrait) and isinstance(encoded.appearance, Appearance)
    assert talker.encode(encoded) is encoded
    assert torch.equal(*(talker.animate(p, speech(0.2), steps=1).frames for p in (portrait, encoded)))


def test_decoding_does_not_depend_on_the_batch(talker, portrait):
    encoded, motion = talker.encode(portrait), talker.motion(speech(0.5), steps=1)
    ones = OfflineTalker(talker.face, talker.audio, talker.motion_model, batch=1)
    a, b = (torch.cat(list(t.decode(encoded, motion))).int() for t in (talker, ones))
    assert a.shape == (13, 32, 32, 3) and (a - b).abs().max() <= 1


def test_still_shows_the_pose_that_was_asked_for(talker, portrait):
    seen = []
    fresh = OfflineTalker.random("tiny")
    fresh.face.decode = lambda v, z, pose, dyn, decode=fresh.face.decode: seen.append(pose) or decode(v, z, pose, dyn)
    image = fresh.still(portrait, pose=(30, -10, 5), steps=2)
    assert image.size == (32, 32) and image.mode == "RGB"
    torch.testing.assert_close(seen[0][0, :3].rad2deg(), torch.tensor([30.0, -10.0, 5.0]))
    assert np.array_equal(np.array(fresh.still(portrait, steps=2, seed=1)),
                          np.array(fresh.still(portrait, steps=2, seed=1)))
    with pytest.raises(VasaError, match="pose"):
        fresh.still(portrait, pose=(80, 0, 0))


def test_most_typical_frame_is_no_outlier():
    motion = torch.cat([torch.zeros(9, 4), torch.full((1, 4), 50.0)])
    assert not most_typical(motion).any()


def test_models_that_do_not_fit_are_refused(talker):
    with pytest.raises(VasaError, match="weights of one"):
        OfflineTalker(talker.face, Wav2Vec2(Wav2Vec2Config.laptop()), MotionModel(MotionConfig.tiny(audio_dim=7)))
    with pytest.raises(VasaError, match="tiny, laptop, paper"):
        OfflineTalker.random("huge")


def test_animate_to_file(talker, portrait, tmp_path):
    path = talker.animate_to_file(tmp_path / "out.mp4", portrait, speech(0.6), steps=1)
    clip = Clip.load(path)
    assert clip.frames.shape == (15, 32, 32, 3)
    with pytest.raises(VasaError):
        talker.animate_to_file(tmp_path / "no.mp4", portrait, speech(0.6), gaze=(99, 0))
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_bfloat16_is_near(talker, portrait):
    half = OfflineTalker(talker.face, talker.audio, talker.motion_model, dtype=torch.bfloat16)
    encoded, motion = talker.encode(portrait), talker.motion(speech(0.2), steps=1)
    a, b = (torch.cat(list(t.decode(encoded, motion))).float() for t in (talker, half))
    assert 0 < (a - b).abs().mean() < 4


def test_a_held_head_does_not_move(portrait):
    seen = []
    fresh = OfflineTalker.random("tiny")
    decode = fresh.face.decode
    fresh.face.decode = lambda v, z, pose, dyn: seen.append((pose, dyn)) or decode(v, z, pose, dyn)
    fresh.animate(portrait, speech(0.4), pose=(10, 5, -5), steps=2)
    pose, z_dyn = map(torch.cat, zip(*seen))
    torch.testing.assert_close(pose[:, :3].rad2deg(), torch.tensor([10.0, 5.0, -5.0]).expand(10, 3))
    torch.testing.assert_close(z_dyn, fresh.motion(speech(0.4), steps=2)[:, 6:])
    with pytest.raises(VasaError, match="pose"):
        fresh.frames(portrait, speech(0.4), pose=(10, 5))


def test_each_side_works_without_the_other(talker, portrait):
    drawing, hearing = Reenactor(talker.face), SpeechToMotion(talker.audio, talker.motion_model)
    motion = hearing.motion(speech(0.4), steps=2, seed=1)
    frames = torch.stack(list(drawing.draw(drawing.encode(portrait), [motion])))
    assert torch.equal(frames, talker.animate(portrait, speech(0.4), steps=2, seed=1).frames)


def test_sound_is_read_once(talker, portrait, tmp_path, monkeypatch):
    """However a talker is called, its sound comes in through one door, once."""
    from vasa_ref.talking import offline
    calls = []
    monkeypatch.setattr(offline, "waveform_tensor",
                        lambda audio, read=offline.waveform_tensor: calls.append(1) or read(audio))
    for method in (talker.motion, lambda *a, **k: list(talker.frames(portrait, *a, **k)),
                   lambda *a, **k: talker.animate(portrait, *a, **k),
                   lambda *a, **k: talker.animate_to_file(tmp_path / "out.mp4", portrait, *a, **k)):
        calls.clear()
        method(speech(0.1), steps=1)
        assert calls == [1]


def test_controls_are_checked_before_the_sound_is_opened(talker):
    with pytest.raises(VasaError, match="distance"):
        talker.perform("no/such.wav", distance=9)
    with pytest.raises(VasaError, match="as `read` gives"):
        talker.perform("no/such.wav", dynamics=torch.zeros(3, 3))
    with pytest.raises(VasaError, match="no such file"):
        talker.perform("no/such.wav")
