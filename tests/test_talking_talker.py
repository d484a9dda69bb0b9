"""The streaming talker with random models of the tiny preset: wiring, promises and errors, not quality."""
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from talking_parts import speech

import vasa_ref
from vasa_ref.errors import VasaError
from vasa_ref.face.networks import FaceConfig, FaceModel
from vasa_ref.hearing.features import audio_features
from vasa_ref.hearing.moonshine import Moonshine, MoonshineConfig
from vasa_ref.motion.network import MotionConfig, MotionModel
from vasa_ref.talking.talker import FeatureStream, Talker, feature_stream, shared_lookahead
from vasa_ref.trust.credentials import Made, inspect
from vasa_ref.trust.detector import load_detector
from vasa_ref.trust.watermark import load_watermark, mark_frames, read_mark


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
    for wrong in ({"pose": motion[:, :6]}, {"dynamics": motion[:0]}, {"dynamics": motion[0]},
                  {"dynamics": motion * math.nan},
                  {"dynamics": [1, 2]}, {"dynamics": "x"}):
        with pytest.raises(VasaError, match="as `read` gives"):
            talker.frames(portrait, speech(0.4), **wrong)


def test_curves_reach_the_frames_offline_and_streamed(talker, portrait):
    curve, sound = {"gaze": {0: (-30, 0), 0.4: (30, 0)}}, speech(0.8)
    motion = talker.motion(sound, steps=2, **curve)
    assert motion.shape[0] == 20 and not torch.allclose(motion, talker.motion(sound, steps=2), atol=1e-4)
    one, cut = (torch.stack(list(talker.stream(portrait, chunks, steps=2, **curve)))
                for chunks in ([sound], sound.split(700)))
    assert torch.equal(one, cut) and not torch.equal(one, torch.stack(list(talker.stream(portrait, [sound], steps=2))))


def test_both_kinds_of_face_model_are_talked_with_alike(plain, portrait):
    encoded = plain.encode(portrait)
    assert encoded.appearance.shape == (1, 8, 4, 8, 8)
    clip = plain.animate(encoded, speech(0.4), steps=2)
    assert clip.frames.shape == (10, 32, 32, 3)
    assert torch.equal(clip.frames, plain.animate(portrait, speech(0.4), steps=2).frames)
    assert plain.read(clip).shape == (10, 6 + 16)
    streamed = torch.stack(list(plain.stream(encoded, [speech(0.4)], steps=2)))
    assert streamed.shape == clip.frames.shape


def test_frames_are_lazy_and_errors_are_not(talker, portrait):
    fresh = Talker.random("tiny")
    calls = []
    fresh.face.decode = lambda *args, decode=fresh.face.decode: calls.append(1) or decode(*args)
    frames = fresh.frames(portrait, speech(30), steps=1)
    assert not calls
    next(frames)
    assert len(calls) == 1
    for start in (lambda: fresh.frames(portrait, speech(1), gaze=(99, 0)),
                  lambda: fresh.stream(portrait, [], distance=9),
                  lambda: fresh.stream(portrait, [], new_frames=0), lambda: fresh.stream(portrait, [], lookahead=50)):
        with pytest.raises(VasaError, match="accepted"):
            start()


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
    assert 0 <= arrived - talker.delay(4, 1) * 16_000 < 160
    assert talker.delay(4, 8) < talker.delay(5, 8) < talker.delay(5, 9)


def test_a_look_ahead_goes_to_the_encoder_first():
    sizes = dict(hidden_size=32, intermediate_size=64, num_attention_heads=4)
    encoder = Moonshine(replace(MoonshineConfig.laptop(), **sizes)).eval().requires_grad_(False)
    for frames in range(8):
        heard, left = shared_lookahead(encoder, frames)
        assert (heard.config.context[1], left) == (2 * min(frames, 4), max(0, frames - 4))
        assert feature_stream(heard).needed(1 + left) == (1 + frames) * 640 + 288
    other = Talker.random("tiny").audio                          # hears as far as it does
    own = feature_stream(other).ahead
    assert own > 0 and shared_lookahead(other, own - 1) == (other, 0) and shared_lookahead(other, own + 2) == (other, 2)


def test_stream_of_nothing_is_nothing(talker, portrait):
    assert list(talker.stream(portrait, [])) == []


def test_stream_refuses_bad_chunks(talker, portrait):
    with pytest.raises(VasaError, match="NaN"):
        list(talker.stream(portrait, [torch.tensor([math.nan])]))
    for no_chunks, said in ((None, "missing (None)"), ("speech.wav", "a str"), (3.5, "a float"), (b"RIFF", "a bytes")):
        with pytest.raises(VasaError) as error:                  # at once
            talker.stream(portrait, no_chunks)
        assert f"the speech of the stream is {said}; accepted is an iterable of chunks" in str(error.value)
    whole = speech(1)
    for chunks, number in (([None], 0), ([whole, None], 1), ([whole, whole[:0], None, whole], 2)):
        with pytest.raises(VasaError, match=rf"chunk {number} of the speech is missing \(None\); accepted is"):
            list(talker.stream(portrait, chunks, steps=1))
    asked = iter([whole, None])
    first = next(talker.stream(portrait, asked, steps=1))       # what came before it is shown
    assert torch.equal(first, next(talker.stream(portrait, [whole], steps=1)))


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


@pytest.fixture
def float64():
    "A session whose numbers are doubles."
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def all_of(talker, portrait):
    "What a talker gives, by each of its methods."
    sound = speech(0.4)
    curves = {"gaze": {0.0: (0, 0), 0.3: (10, 5)}, "distance": {0.0: 1.0, 0.4: 1.2},
              "emotion": {0.0: "happy", 0.3: "sad"}}
    return {"animate": talker.animate(portrait, sound, steps=2, emotion="happy", pose=(10, 0, 0)).frames,
            "curves": talker.animate((portrait * 255).byte(), (sound * 32767).short(), steps=2, **curves).frames,
            "stream": torch.stack(list(talker.stream(portrait, sound.split(1000), steps=2))),
            "motion": talker.motion(sound, steps=2, sampler="dpm"),
            "still": torch.from_numpy(np.array(talker.still(portrait, steps=2))),
            "read": talker.read(torch.arange(3072).view(1, 32, 32, 3).byte())}


def files_of(talker, portrait, folder):
    "The films that a talker writes, as bytes; unsigned, for a signature holds the time."
    plain, sound = Made(credentials=False), speech(0.4)
    clip = talker.animate(portrait, sound, steps=2, made=plain)
    clip.save(folder / "a.mp4")
    talker.animate_to_file(folder / "b.mp4", portrait, sound, steps=2, made=plain)
    assert "video/mp4" in (page := clip._repr_html_())
    return [(folder / "a.mp4").read_bytes(), (folder / "b.mp4").read_bytes(), page]


def test_a_session_of_doubles_writes_the_same_films(request, portrait, tmp_path):
    noise = torch.Generator().manual_seed(0)
    frames = torch.randint(60, 160, (3, 128, 128, 3), generator=noise, dtype=torch.uint8)
    load_watermark.cache_clear()
    expected, marked = files_of(Talker.random("tiny"), portrait, tmp_path), list(mark_frames(frames, 77))
    request.getfixturevalue("float64")
    load_watermark.cache_clear()
    assert files_of(Talker.random("tiny"), portrait, tmp_path) == expected
    again = list(mark_frames(frames, 77))
    assert torch.equal(torch.stack(again), torch.stack(marked)) and not torch.equal(torch.stack(again), frames)
    assert read_mark(again, every=1).number == 77
    assert load_detector.__wrapped__()[0].says.weight.dtype == torch.float32
    signed = Talker.random("tiny").animate(portrait, speech(0.1), steps=1).save(tmp_path / "signed.mp4")
    assert inspect(signed).state == "intact"
    load_watermark.cache_clear()


WORLD = """
import sys
import torch
if sys.argv[1] == "doubles": torch.set_default_dtype(torch.float64)
import vasa_ref.world.head
import vasa_ref.measure.estimator, vasa_ref.talking.adapt, vasa_ref.talking.controls, vasa_ref.training
from vasa_ref.world import camera, clips, frames, people, performer, picture, voice
dice = lambda: torch.Generator().manual_seed(1)
drawn = picture.portraits(people.person(3), 32)
said = voice.say("hello you")
moved = performer.perform(said, generator=dice())
truth = frames.draw_truth(1, 2, dice())
made = {"picture": drawn, "photograph": camera.photograph(drawn, dice()), "speech": said.waveform, "pose": moved.pose,
        "units": moved.units, "clip": clips.make_clip(5, size=32, seconds=0.4).frames}
made |= {f"truth {i}": x for i, x in enumerate(truth) if isinstance(x, torch.Tensor)}
torch.save(made, sys.argv[2])
"""


def test_a_session_of_doubles_draws_the_same_world(tmp_path):
    "Processes of their own: what the package keeps at import is made of doubles, or not."
    env = {**os.environ, "PYTHONPATH": str(Path(vasa_ref.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    for session in ("usual", "doubles"):
        done = subprocess.run([sys.executable, "-c", WORLD, session, str(tmp_path / session)], env=env,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    usual, doubles = (torch.load(tmp_path / session) for session in ("usual", "doubles"))
    assert len(usual) > 6 and usual.keys() == doubles.keys()
    for name, value in usual.items():
        assert value.dtype == doubles[name].dtype and torch.equal(value, doubles[name]), name


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
    for name, value in Talker.from_pretrained("laptop").face.state_dict().items():
        assert torch.equal(value, loaded[name]) and value.dtype == loaded[name].dtype


def test_the_default_comes_back_when_the_last_thread_leaves(float64):
    from vasa_ref.precision import float32
    one, other = float32(), float32()
    one.__enter__(), other.__enter__(), one.__exit__(None, None, None)
    assert torch.get_default_dtype() == torch.float32
    other.__exit__(None, None, None)
    assert torch.get_default_dtype() == torch.float64
