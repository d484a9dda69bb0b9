import time
from dataclasses import replace

import pytest
import torch

from vasa_ref.errors import VasaError
from vasa_ref.head import EXPRESSIONS, look_direction
from vasa_ref.performer import (EMOTIONS, EYE_LIMIT, HOP, INDEX, VISEME_TARGETS, blinks, emotion_face, emotion_vector,
                                frame_count, frame_times, fundamental, glances, loudness, low_pass, mouth_gate, perform,
                                prosody, smooth_noise)
from vasa_ref.voice import SAMPLE_RATE, VISEMES, Speech, random_text, random_voice, say, viseme_of


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def speech():
    return say("My mother bought a big blue umbrella, and Peter moved to Paris.")


@pytest.fixture(scope="module")
def clips():
    generator = seeded(5)
    speeches = [say(random_text(generator) + " " + random_text(generator), voice=random_voice(generator))
                for _ in range(14)]
    return [(s, perform(s, generator=seeded(i))) for i, s in enumerate(speeches)]


def silence(samples):
    return Speech(torch.zeros(samples), ["_"], torch.tensor([0]), torch.tensor([samples]))


def closures(speech, motion):
    "The firmest lip_close among the frames that overlap each m, b, p."
    close = motion.expression[:, INDEX["lip_close"]]
    return [close[int(a) // HOP:(int(b) - 1) // HOP + 1].max().item()
            for p, a, b in zip(speech.phonemes, speech.starts, speech.ends) if viseme_of(p) == "PP"]


def test_shapes_ranges_and_seed(speech):
    motion = perform(speech, generator=seeded(1))
    frames = -(-len(speech.waveform) // 640)
    assert len(motion) == frames == frame_count(speech)
    assert motion.pose.shape == (frames, 6) and motion.expression.shape == (frames, len(EXPRESSIONS))
    assert motion.gaze.shape == (frames, 2) and motion.dynamics.shape == (frames, 16)
    assert motion.main_gaze.shape == (2,) and motion.emotion.shape == (7,)
    assert all(x.dtype == torch.float32 and x.isfinite().all() for x in (motion.pose, motion.dynamics))
    assert motion.expression.min() >= 0 and motion.expression.max() <= 1
    again, other = perform(speech, generator=seeded(1)), perform(speech, generator=seeded(2))
    assert torch.equal(motion.pose, again.pose) and torch.equal(motion.dynamics, again.dynamics)
    assert not torch.equal(motion.pose, other.pose)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_closures_and_silence_hold_in_every_mood(speech, emotion):
    motion = perform(speech, emotion=emotion, emotion_strength=2, generator=seeded())
    assert len(closures(speech, motion)) == 10 and min(closures(speech, motion)) >= 0.8
    quiet = mouth_gate(frame_times(len(motion)), speech) == 0
    assert quiet.sum() >= 4 and motion.expression[quiet, INDEX["jaw_open"]].max() < 0.03


def test_closures_and_silence_over_many_clips(clips):
    assert min(c for s, m in clips for c in closures(s, m)) >= 0.8
    for speech, motion in clips:
        quiet = mouth_gate(frame_times(len(motion)), speech) == 0
        assert motion.expression[quiet, :5].abs().max() < 1e-3


def test_mouth_shapes_follow_the_sound():
    track = {}
    for word in ("ah", "ee", "oo"):
        motion = perform(say(word, rate=100), generator=seeded())
        track[word] = motion.expression.amax(0)
    at = lambda word, name: track[word][INDEX[name]].item()
    assert at("ah", "jaw_open") > 2 * at("ee", "jaw_open")
    assert at("ee", "lip_wide") > 0.6 > at("oo", "lip_wide") + 0.4
    assert at("oo", "lip_pucker") > 0.7 > at("ah", "lip_pucker") + 0.5
    assert set(VISEME_TARGETS) == set(VISEMES)


def test_lips_anticipate():
    speech = say("a stool", rate=120)
    motion = perform(speech, generator=seeded())
    t = next(i for i, p in enumerate(speech.phonemes) if viseme_of(p) == "DD")
    frame = int((speech.starts[t] + speech.ends[t]) / 2 / HOP)
    plain = say("a steel", rate=120)
    other = perform(plain, generator=seeded())
    u = next(i for i, p in enumerate(plain.phonemes) if viseme_of(p) == "DD")
    reference = int((plain.starts[u] + plain.ends[u]) / 2 / HOP)
    pucker = INDEX["lip_pucker"]
    assert motion.expression[frame, pucker] > other.expression[reference, pucker] + 0.02


def test_loudness_opens_the_jaw(speech):
    quiet = replace(speech, waveform=speech.waveform * 0.4)
    loud, soft = (perform(s, generator=seeded()).expression[:, 0].mean() for s in (speech, quiet))
    assert loud > 1.15 * soft


def test_pose_statistics(clips):
    angles = [m.pose[:, :3].rad2deg() for _, m in clips]
    delta_p = torch.stack([a.diff(dim=0).abs().mean() for a in angles])
    assert 0.2 < delta_p.mean() < 0.5 and delta_p.min() > 0.1 and delta_p.max() < 0.6
    assert (torch.cat(angles).abs().amax(0) <= torch.tensor([25.0, 15.0, 10.0])).all()
    assert (torch.cat(angles).std(0) > torch.tensor([2.0, 0.8, 0.8])).all()
    places = torch.cat([m.pose[:, 3:5] for _, m in clips])
    assert places.abs().max() < 0.12


def test_pitch_of_the_head_follows_the_voice_and_not_another(clips):
    def beat(speech, motion):
        energy = low_pass(prosody(speech).energy, 3.0)
        size = min(len(energy), len(motion))
        pair = torch.stack([energy[:size], motion.pose[:size, 1]])
        pair = pair - torch.stack([low_pass(x, 0.5) for x in pair])
        return torch.corrcoef(pair)[0, 1]

    own = torch.stack([beat(s, m) for s, m in clips]).mean()
    other = torch.stack([beat(clips[i - 1][0], clips[i][1]) for i in range(len(clips))]).mean()
    assert own < -0.3 and abs(other) < 0.15


def test_eyes_keep_the_main_gaze(clips):
    looks = torch.cat([look_direction(m.pose, m.gaze) for _, m in clips])
    assert (looks.norm(dim=1) < 1e-4).float().mean() > 0.6
    assert looks.norm(dim=1).max() < 0.45


@pytest.mark.parametrize("gaze", [(0.5, 0.0), (-0.6, 0.2), (0.1, -0.45), (1.0, 0.7)])
def test_far_gaze_is_shared_between_head_and_eyes(speech, gaze):
    motion = perform(speech, gaze=gaze, generator=seeded(4))
    assert (motion.gaze.abs() <= torch.tensor(EYE_LIMIT) + 1e-6).all()
    error = (look_direction(motion.pose, motion.gaze) - torch.tensor(gaze)).norm(dim=1).median()
    assert error < (0.02 if abs(gaze[0]) < 0.9 else 0.5)
    neutral = perform(speech, generator=seeded(4))
    if abs(gaze[0]) > 0.4:
        assert (motion.pose[:, 0].mean() - neutral.pose[:, 0].mean()) * gaze[0] > 0
    assert torch.equal(motion.main_gaze, torch.tensor(gaze))


def test_glances_mostly_rest_and_jump():
    offset = glances(5000, seeded())
    rest = (offset == 0).all(1).float().mean()
    assert 0.6 < rest < 0.95
    assert ((offset.diff(dim=0) == 0).all(1)).float().mean() > 0.9


def test_blinks_are_poisson_with_a_refractory_time():
    lids = blinks(torch.ones(25 * 1200), 0.28, seeded())
    onsets = ((lids[1:] >= 0.3) & (lids[:-1] < 0.05)).nonzero()[:, 0]
    assert 11 < len(onsets) / 20 < 18 and onsets.diff().min() >= 20
    assert lids.max() == 1 and lids.min() == 0
    talk = torch.cat([torch.ones(60), torch.zeros(40)]).repeat(300)
    onsets = ((lambda x: (x[1:] >= 0.3) & (x[:-1] < 0.05))(blinks(talk, 0.28, seeded()))).nonzero()[:, 0] % 100
    at_end = ((onsets >= 55) & (onsets < 65)).float().mean()
    assert at_end > 0.2


def test_distance(speech):
    motion = perform(speech, distance=1.25, generator=seeded())
    assert motion.distance == 1.25
    assert abs(motion.pose[:, 5].mean() / 1.25 - 1) < 0.04 and 0 < motion.pose[:, 5].std() < 0.05


def test_emotions_are_distinct_and_scale():
    faces = torch.stack([emotion_face(emotion_vector(e)) for e in EMOTIONS])
    assert (torch.cdist(faces, faces) + 9 * torch.eye(7)).min() > 0.5
    assert faces[0].abs().max() == 0
    assert torch.allclose(emotion_face(emotion_vector("happy", 0.5)), 0.5 * faces[1])
    assert EMOTIONS == ("neutral", "happy", "sad", "angry", "surprised", "afraid", "disgusted")


def test_emotion_changes_face_and_head(speech):
    sad, neutral, happy = (perform(speech, emotion=e, generator=seeded()) for e in ("sad", "neutral", "happy"))
    assert happy.expression[:, INDEX["smile"]].mean() > 0.6 > neutral.expression[:, INDEX["smile"]].mean() + 0.5
    assert sad.pose[:, 1].mean() < neutral.pose[:, 1].mean() - 0.05
    assert torch.equal(happy.emotion, emotion_vector("happy")) and neutral.emotion.abs().max() == 0


def test_emotion_vector():
    assert torch.equal(emotion_vector(None), torch.zeros(7)) and torch.equal(emotion_vector("neutral"), torch.zeros(7))
    assert torch.equal(emotion_vector("angry", 0.5), torch.tensor([0, 0, 0, 0.5, 0, 0, 0]))
    assert torch.equal(emotion_vector({"happy": 1, "sad": 0.5, "neutral": 1}), torch.tensor([0, 1, 0.5, 0, 0, 0, 0]))


@pytest.mark.parametrize("call, message", [
    (lambda s: emotion_vector("bored"), "accepted are neutral, happy"),
    (lambda s: emotion_vector({"bored": 1}), "accepted are neutral"),
    (lambda s: emotion_vector(3), "accepted names are neutral"),
    (lambda s: emotion_vector("happy", 3), "from 0 to 2"),
    (lambda s: emotion_vector("happy", float("nan")), "from 0 to 2"),
    (lambda s: emotion_vector({"happy": "much"}), "from 0 to 2"),
    (lambda s: perform(s, gaze=(2.0, 0.0)), "within"), (lambda s: perform(s, gaze=(float("nan"), 0)), "within"),
    (lambda s: perform(s, gaze=(0.0,)), "no pair"), (lambda s: perform(s, gaze=None), "no pair"),
    (lambda s: perform(s, distance=0.1), "from 0.5 to 2"), (lambda s: perform(s, distance="far"), "from 0.5 to 2"),
    (lambda s: perform(s, emotion="bored"), "accepted are")])
def test_errors_say_what_is_accepted(speech, call, message):
    with pytest.raises(VasaError, match=message):
        call(speech)


@pytest.mark.parametrize("samples", [1, 639, 641, 5000, 32000])
def test_short_and_silent_speech(samples):
    motion = perform(silence(samples), emotion="happy", generator=seeded())
    assert len(motion) == -(-samples // 640)
    assert motion.pose.isfinite().all() and motion.dynamics.isfinite().all()
    assert motion.expression[:, :4].amax() <= 0.26 and motion.expression[:, 0].max() == 0


def test_fundamental_finds_a_tone_and_rejects_noise():
    t = torch.arange(16000) / SAMPLE_RATE
    for hz in (80.0, 120.0, 220.0, 350.0):
        wave = sum(torch.sin(2 * torch.pi * k * hz * t) / k for k in range(1, 6)) * 0.2
        assert (fundamental(wave, 25)[2:-2] / hz - 1).abs().max() < 0.03
    noise = torch.randn(16000, generator=seeded()) * 0.2
    assert (fundamental(noise, 25) > 0).float().mean() < 0.2 and fundamental(torch.zeros(16000), 25).max() == 0


def test_loudness_is_the_root_mean_square():
    assert torch.allclose(loudness(torch.full((6400,), 0.5), 10)[1:-1], torch.tensor(0.5))


def test_smooth_noise_has_unit_variance_and_its_band():
    for cutoff in (0.3, 1.0, 2.0):
        noise = smooth_noise(30000, cutoff, seeded(), 2)
        assert noise.shape == (30000, 2) and abs(noise.std() - 1) < 0.12
        power = torch.fft.rfft(noise[:, 0]).abs() ** 2
        assert power[torch.fft.rfftfreq(30000, 1 / 25) > 3 * cutoff].sum() < 2e-3 * power.sum()


def test_low_pass_keeps_constants_and_shape():
    x = torch.full((40, 3), 2.0)
    assert torch.allclose(low_pass(x, 1.0), x) and low_pass(x[:, 0], 1.0).shape == (40,)


def test_it_is_fast(speech):
    perform(speech, generator=seeded())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(5):
            start = time.process_time()
            perform(speech, generator=seeded())
            seconds.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    assert min(seconds) < 0.05
