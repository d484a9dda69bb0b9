"""The talker with random models of the tiny preset: wiring, promises and errors, not quality."""
import io
import math

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from vasa_ref.errors import VasaError
from vasa_ref.face.detail import Appearance
from vasa_ref.face.networks import FaceConfig, FaceModel
from vasa_ref.hearing.audio import Wav2Vec2, Wav2Vec2Config, audio_features
from vasa_ref.media.clips import Clip
from vasa_ref.motion.network import MotionConfig, MotionModel
from vasa_ref.motion.sampling import generate_motion
from vasa_ref.talking.talker import FeatureStream, Portrait, Talker, most_typical, portrait_tensor, waveform_tensor


@pytest.fixture(scope="module")
def talker():
    torch.set_num_threads(1)
    return Talker.random("tiny")


@pytest.fixture(scope="module")
def plain(talker):
    """A talker with the paper's plain face model."""
    torch.manual_seed(0)
    face = FaceModel(FaceConfig.tiny()).eval().requires_grad_(False)
    config = MotionConfig.tiny(motion_dim=6 + face.config.z_dyn_dim, audio_dim=talker.audio.config.hidden_size)
    return Talker(face, talker.audio, MotionModel(config).eval().requires_grad_(False))


@pytest.fixture(scope="module")
def portrait():
    return torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))


def speech(seconds, seed=0):
    return 0.1 * torch.randn(round(seconds * 16_000), generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def test_portraits_of_any_kind_become_the_same_tensor(tmp_path):
    pixels = (torch.rand(48, 48, 3, generator=torch.Generator().manual_seed(1)) * 255).byte()
    Image.fromarray(pixels.numpy()).save(tmp_path / "p.png")
    as_float = pixels.permute(2, 0, 1) / 255
    forms = [pixels, pixels.numpy(), as_float, as_float[None], as_float.numpy(), Image.fromarray(pixels.numpy()), tmp_path / "p.png"]
    for form in forms:
        torch.testing.assert_close(portrait_tensor(form, 48), as_float[None], atol=1e-6, rtol=0)


def test_portrait_is_cut_from_the_centre():
    wide = torch.zeros(3, 20, 60)
    wide[:, :, 20:40] = 1
    assert portrait_tensor(wide, 16).min() > 0.99


def content(image):
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream                                                    # which stands at its end


def test_portraits_in_any_layout_keep_their_values():
    generator = torch.Generator().manual_seed(1)
    rgba = (torch.rand(48, 48, 4, generator=generator) * 255).byte().numpy()
    rgb, grey = rgba[..., :3], rgba[..., 0]
    told = lambda array: torch.from_numpy(array.copy()).movedim(-1, 0)[None] / 255
    alpha = told(rgba[..., 3:])
    expected = {"plain": told(rgb), "bgr": told(rgb[..., ::-1]), "grey": told(grey[..., None]).expand(-1, 3, -1, -1),
                "rgba": told(rgb) * alpha + 0.5 * (1 - alpha)}
    backwards = lambda array: np.ascontiguousarray(array[::-1])[::-1]        # the same values, negative strides
    image = Image.fromarray(rgb)
    forms = [("bgr", rgb[:, :, ::-1]), ("plain", backwards(rgb)), ("plain", np.asfortranarray(rgb)), ("plain", rgb.transpose(2, 0, 1)),
             ("plain", (rgb / 255).astype(">f4")), ("plain", rgb / 255), ("plain", (rgb / 255).astype(np.float16)),
             ("plain", np.asarray(image)), ("plain", content(image)), ("plain", content(image).getvalue()), ("plain", expected["plain"].requires_grad_()),
             ("grey", grey), ("grey", grey[None]), ("grey", torch.from_numpy(grey.copy()) / 255), ("rgba", rgba), ("rgba", rgba.transpose(2, 0, 1)),
             ("rgba", rgba / 255), ("rgba", Image.fromarray(rgba))]
    for name, form in forms:
        torch.testing.assert_close(portrait_tensor(form, 48), expected[name].detach(), atol=1e-3 if getattr(form, "dtype", 0) == np.float16 else 1e-6, rtol=0)


@pytest.mark.parametrize("wrong", [torch.zeros(64), torch.zeros(5, 64, 64), torch.zeros(2, 3, 64, 64), torch.full((3, 64, 64), 2.0), torch.zeros(3, 8, 64),
                                   torch.full((3, 64, 64), math.nan), torch.zeros(3, 64, 64, dtype=torch.int64), torch.zeros(64, 64, dtype=torch.bool),
                                   np.full((64, 64), "a"), np.zeros((64, 64), complex), np.zeros((64, 64, 3), np.longdouble), np.zeros(()),
                                   None, 7, [[0.5]], b"", b"no picture", io.BytesIO(), io.StringIO("x")], ids=str)
def test_wrong_portraits_are_refused(wrong):
    with pytest.raises(VasaError, match="the portrait.*accepted") as error:
        portrait_tensor(wrong, 32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [torch.zeros(0), torch.zeros(2, 9), torch.tensor([1, 2]), torch.tensor([math.inf]), np.array(["a"])[:0].astype(float),
                                   np.array(["a"]), np.array([None]), np.zeros(9, complex), np.float32(1), None, 7, [0.1, 0.2], b"", b"no sound", io.BytesIO(),
                                   (torch.zeros(9), 0), (torch.zeros(9), math.nan), (torch.zeros(9), True), (torch.zeros(9), 1e9), (torch.zeros(9, 9), 8000),
                                   (torch.zeros(0), 8000), (None, 8000), ("s.wav", 8000), (torch.zeros(9), torch.zeros(9))], ids=str)
def test_wrong_waveforms_are_refused(wrong):
    with pytest.raises(VasaError, match="the speech") as error:
        waveform_tensor(wrong)
    assert "\n" not in str(error.value)


def test_sound_in_any_layout_keeps_its_values():
    rising = torch.linspace(-1, 0.75, 8)
    whole = (rising * 2 ** 15).to(torch.int16)
    forms = [rising, rising.double().numpy(), rising.numpy()[::-1].copy()[::-1], rising.numpy().astype(">f4"), rising.half(), rising.bfloat16(), whole,
             whole.numpy().astype(">i2"), whole.to(torch.int32) * 2 ** 16, (rising * 128 + 128).byte(), (rising.numpy(), 16_000), (16_000, whole.numpy()),
             [rising, 16_000.0], (torch.stack([rising, rising]), 16_000), (torch.stack([rising, rising], 1), np.int64(16_000))]
    for form in forms:
        heard = waveform_tensor(form)
        assert heard.dtype == torch.float32
        torch.testing.assert_close(heard, rising, atol=0, rtol=0)
    torch.testing.assert_close(waveform_tensor((torch.stack([rising, 0 * rising], 1), 16_000)), rising / 2)
    torch.testing.assert_close(waveform_tensor(4 * rising), rising)                          # as load_audio does
    torch.testing.assert_close(waveform_tensor(4 * rising, chunk=True), (4 * rising).clamp(-1, 1))
    assert waveform_tensor(torch.zeros(0), chunk=True).shape == (0,)
    with pytest.raises(VasaError, match="8000 Hz"):
        waveform_tensor((rising, 8000), chunk=True)


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
def test_sound_of_any_rate_keeps_its_pitch(rate):
    tone = lambda rate: 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(rate) / rate)
    heard = waveform_tensor((tone(rate), rate))
    assert len(heard) == 16_000 and (heard - tone(16_000))[320:-320].abs().max() < 1e-3


def test_sound_as_content_is_that_of_the_file(tmp_path):
    soundfile.write(tmp_path / "s.wav", speech(0.2).numpy(), 16_000)
    expected, data = waveform_tensor(tmp_path / "s.wav"), (tmp_path / "s.wav").read_bytes()
    assert expected.abs().max() > 0.2
    with open(tmp_path / "s.wav", "rb") as file, open(tmp_path / "s.wav") as as_text:
        for form in (data, bytearray(data), io.BytesIO(data), file, file, as_text):
            assert torch.equal(waveform_tensor(form), expected)


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
    for wrong in (Clip(None, speech(0.4)), torch.zeros(2, 8, 8, 3), torch.zeros(8, 8, 3, dtype=torch.uint8), film.frames[:0], None, [1]):
        with pytest.raises(VasaError, match="accepted are a Clip"):
            talker.read(wrong)


def test_tracks_of_another_film_replace_pose_and_dynamics(talker, portrait):
    motion = torch.randn(4, talker.motion_model.config.motion_dim, generator=torch.Generator().manual_seed(0))
    generated = talker.motion(speech(0.4), steps=2)
    for given, pose, z_dyn in (({"pose": motion}, motion, generated), ({"dynamics": motion}, generated, motion)):
        first = torch.cat([pose[:4, :6], z_dyn[:4, 6:]], 1)
        expected = torch.cat(list(talker.decode(talker.encode(portrait), first)))
        for frames in (talker.frames(portrait, speech(0.4), steps=2, **given),
                       talker.animate(portrait, speech(0.4), steps=2, **given).frames):
            assert (torch.stack(list(frames))[:4].int() - expected.int()).abs().max() <= 1
        assert len(list(talker.stream(portrait, [speech(0.4)], steps=2, **given))) == 10
    assert torch.equal(talker.tracks(pose=motion.numpy())["pose"], motion[:, :6])
    assert torch.equal(talker.tracks(pose=torch.tensor([9.0, 0, 0]))["pose"], talker.tracks(pose=(9, 0, 0))["pose"])
    for wrong in ({"pose": motion[:, :6]}, {"dynamics": motion[:0]}, {"dynamics": motion[0]}, {"dynamics": motion * math.nan},
                  {"dynamics": [1, 2]}, {"dynamics": "x"}):
        with pytest.raises(VasaError, match="as `read` gives"):
            talker.frames(portrait, speech(0.4), **wrong)


def test_curves_reach_the_frames_offline_and_streamed(talker, portrait):
    curve, sound = {"gaze": {0: (-30, 0), 0.4: (30, 0)}}, speech(0.8)
    motion = talker.motion(sound, steps=2, **curve)
    assert motion.shape[0] == 20 and not torch.allclose(motion, talker.motion(sound, steps=2), atol=1e-4)
    one, cut = (torch.stack(list(talker.stream(portrait, chunks, steps=2, **curve))) for chunks in ([sound], sound.split(700)))
    assert torch.equal(one, cut) and not torch.equal(one, torch.stack(list(talker.stream(portrait, [sound], steps=2))))


def test_motion_is_that_of_the_motion_model(talker):
    sound = speech(2.5)
    features = audio_features(talker.audio, sound)
    expected = generate_motion(talker.motion_model, features, gaze=(math.radians(10), 0), distance=1.1, steps=3,
                               generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(talker.motion(sound, gaze=(10, 0), distance=1.1, steps=3, seed=2), expected)


def test_controls_reach_the_motion_model(talker):
    base = talker.motion(speech(0.4), steps=2)
    for control in ({"gaze": (20, 0)}, {"distance": 1.3}, {"emotion": "happy"}, {"emotion": "neutral"}, {"cfg_scale": {"audio": 0}}, {"steps": 3},
                    {"temperature": 0.3}, {"sampler": "ddpm"}):
        assert not torch.allclose(base, talker.motion(speech(0.4), **{"steps": 2} | control), atol=1e-4), control


def test_an_encoded_portrait_serves_as_portrait(talker, portrait):
    encoded = talker.encode(portrait)
    assert isinstance(encoded, Portrait) and isinstance(encoded.appearance, Appearance) and talker.encode(encoded) is encoded
    assert torch.equal(*(talker.animate(p, speech(0.2), steps=1).frames for p in (portrait, encoded)))


def test_both_kinds_of_face_model_are_talked_with_alike(plain, portrait):
    encoded = plain.encode(portrait)
    assert encoded.appearance.shape == (1, 8, 4, 8, 8)
    clip = plain.animate(encoded, speech(0.4), steps=2)
    assert clip.frames.shape == (10, 32, 32, 3) and torch.equal(clip.frames, plain.animate(portrait, speech(0.4), steps=2).frames)
    assert plain.read(clip).shape == (10, 6 + 16)
    streamed = torch.stack(list(plain.stream(encoded, [speech(0.4)], steps=2)))
    assert streamed.shape == clip.frames.shape


def test_decoding_does_not_depend_on_the_batch(talker, portrait):
    encoded, motion = talker.encode(portrait), talker.motion(speech(0.5), steps=1)
    ones = Talker(talker.face, talker.audio, talker.motion_model, batch=1)
    a, b = (torch.cat(list(t.decode(encoded, motion))).int() for t in (talker, ones))
    assert a.shape == (13, 32, 32, 3) and (a - b).abs().max() <= 1


def test_frames_are_lazy_and_errors_are_not(talker, portrait):
    fresh = Talker.random("tiny")
    calls = []
    fresh.face.decode = lambda *args, decode=fresh.face.decode: calls.append(1) or decode(*args)
    frames = fresh.frames(portrait, speech(30), steps=1)
    assert not calls
    next(frames)
    assert len(calls) == 1
    for start in (lambda: fresh.frames(portrait, speech(1), gaze=(99, 0)), lambda: fresh.stream(portrait, [], distance=9),
                  lambda: fresh.stream(portrait, [], new_frames=0), lambda: fresh.stream(portrait, [], lookahead=50)):
        with pytest.raises(VasaError, match="accepted"):
            start()


def test_still_shows_the_pose_that_was_asked_for(talker, portrait):
    seen = []
    fresh = Talker.random("tiny")
    fresh.face.decode = lambda v, z, pose, dyn, decode=fresh.face.decode: seen.append(pose) or decode(v, z, pose, dyn)
    image = fresh.still(portrait, pose=(30, -10, 5), steps=2)
    assert image.size == (32, 32) and image.mode == "RGB"
    torch.testing.assert_close(seen[0][0, :3].rad2deg(), torch.tensor([30.0, -10.0, 5.0]))
    assert np.array_equal(np.array(fresh.still(portrait, steps=2, seed=1)), np.array(fresh.still(portrait, steps=2, seed=1)))
    with pytest.raises(VasaError, match="pose"):
        fresh.still(portrait, pose=(80, 0, 0))


def test_most_typical_frame_is_no_outlier():
    motion = torch.cat([torch.zeros(9, 4), torch.full((1, 4), 50.0)])
    assert not most_typical(motion).any()


@pytest.mark.parametrize("seconds", [0.01, 0.3, 1.7])
def test_stream_does_not_depend_on_the_chunks(talker, portrait, seconds):
    sound = speech(seconds)
    cuts = [sound.split(n) for n in (len(sound), 5000, 640, 177)] + [[torch.zeros(0), sound.numpy(), torch.zeros(0)]]
    streams = [torch.stack(list(talker.stream(portrait, cut, steps=2, seed=3))) for cut in cuts]
    assert len(streams[0]) == math.ceil(len(sound) / 640)
    assert all(torch.equal(streams[0], other) for other in streams[1:])


def test_stream_answers_as_soon_as_its_delay_is_over(talker, portrait):
    arrived = 0
    def microphone():
        nonlocal arrived
        for chunk in speech(3).split(160):
            arrived += len(chunk)
            yield chunk
    next(talker.stream(portrait, microphone(), new_frames=4, lookahead=1, steps=1))
    assert 0 <= arrived - talker.delay(4, 1) * 16_000 < 160 and talker.delay(4, 1) < talker.delay(5, 1) < talker.delay(5, 2)


def test_stream_of_nothing_is_nothing(talker, portrait):
    assert list(talker.stream(portrait, [])) == []


def test_stream_refuses_bad_chunks(talker, portrait):
    with pytest.raises(VasaError, match="NaN"):
        list(talker.stream(portrait, [torch.tensor([math.nan])]))


def test_streamed_features_are_those_of_the_whole(talker):
    sound, source, pieces = speech(6), FeatureStream(talker.audio), []
    for chunk in sound.split(3000):
        source.push(chunk)
        while source.received >= source.needed(4 * len(pieces) + 4):
            pieces.append(source.features(4 * len(pieces), 4 * len(pieces) + 4))
        assert len(source.samples) < 4 * 16_000
    streamed = torch.cat(pieces)
    torch.testing.assert_close(streamed, audio_features(talker.audio, sound)[:len(streamed)], atol=1e-4, rtol=1e-4)
    assert len(streamed) > 130


def test_models_that_do_not_fit_are_refused(talker):
    with pytest.raises(VasaError, match="weights of one"):
        Talker(talker.face, Wav2Vec2(Wav2Vec2Config.laptop()), MotionModel(MotionConfig.tiny(audio_dim=7)))
    with pytest.raises(VasaError, match="tiny, laptop, paper"):
        Talker.random("huge")


@pytest.fixture
def float64():
    "A session whose numbers are doubles."
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def all_of(talker, portrait):
    "What a talker gives, by each of its methods."
    sound = speech(0.4)
    curves = {"gaze": {0.0: (0, 0), 0.3: (10, 5)}, "distance": {0.0: 1.0, 0.4: 1.2}, "emotion": {0.0: "happy", 0.3: "sad"}}
    return {"animate": talker.animate(portrait, sound, steps=2, emotion="happy", pose=(10, 0, 0)).frames,
            "curves": talker.animate((portrait * 255).byte(), (sound * 32767).short(), steps=2, **curves).frames,
            "stream": torch.stack(list(talker.stream(portrait, sound.split(1000), steps=2))), "motion": talker.motion(sound, steps=2, sampler="dpm"),
            "still": torch.from_numpy(np.array(talker.still(portrait, steps=2))), "read": talker.read(torch.arange(3072).view(1, 32, 32, 3).byte())}


def test_a_session_of_doubles_changes_nothing(request, portrait):
    expected = all_of(Talker.random("tiny"), portrait)
    loaded = Talker.from_pretrained("laptop").face.state_dict()
    request.getfixturevalue("float64")
    for name, value in all_of(Talker.random("tiny"), portrait).items():
        assert value.dtype == expected[name].dtype and torch.equal(value, expected[name]), name
    frames = Talker.random("tiny").frames(portrait, speech(0.1), steps=1)
    for _ in frames: assert torch.get_default_dtype() == torch.float64
    with pytest.raises(VasaError):
        Talker.random("tiny").animate(portrait, torch.zeros(0))
    assert torch.get_default_dtype() == torch.float64
    for name, value in Talker.from_pretrained("laptop").face.state_dict().items(): assert torch.equal(value, loaded[name]) and value.dtype == loaded[name].dtype


def test_the_default_comes_back_when_the_last_thread_leaves(float64):
    from vasa_ref.precision import float32
    one, other = float32(), float32()
    one.__enter__(), other.__enter__(), one.__exit__(None, None, None)
    assert torch.get_default_dtype() == torch.float32
    other.__exit__(None, None, None)
    assert torch.get_default_dtype() == torch.float64


def test_animate_to_file(talker, portrait, tmp_path):
    path = talker.animate_to_file(tmp_path / "out.mp4", portrait, speech(0.6), steps=1)
    clip = Clip.load(path)
    assert clip.frames.shape == (15, 32, 32, 3)
    with pytest.raises(VasaError):
        talker.animate_to_file(tmp_path / "no.mp4", portrait, speech(0.6), gaze=(99, 0))
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_bfloat16_is_near(talker, portrait):
    half = Talker(talker.face, talker.audio, talker.motion_model, dtype=torch.bfloat16)
    encoded, motion = talker.encode(portrait), talker.motion(speech(0.2), steps=1)
    a, b = (torch.cat(list(t.decode(encoded, motion))).float() for t in (talker, half))
    assert 0 < (a - b).abs().mean() < 4


def test_a_held_head_does_not_move(portrait):
    seen = []
    fresh = Talker.random("tiny")
    fresh.face.decode = lambda v, z, pose, dyn, decode=fresh.face.decode: seen.append((pose, dyn)) or decode(v, z, pose, dyn)
    fresh.animate(portrait, speech(0.4), pose=(10, 5, -5), steps=2)
    pose, z_dyn = map(torch.cat, zip(*seen))
    torch.testing.assert_close(pose[:, :3].rad2deg(), torch.tensor([10.0, 5.0, -5.0]).expand(10, 3))
    torch.testing.assert_close(z_dyn, fresh.motion(speech(0.4), steps=2)[:, 6:])
    with pytest.raises(VasaError, match="pose"):
        fresh.frames(portrait, speech(0.4), pose=(10, 5))
