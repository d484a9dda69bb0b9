from dataclasses import replace

import pytest
import torch

from vasa_ref.errors import VasaError
from vasa_ref.units import FRAME, SAMPLE_RATE
from vasa_ref.world.head import UNIT, UNITS, load_targets, look_direction
from vasa_ref.world.performer import (
    EMOTIONS,
    EYE_LIMIT,
    STYLE,
    acting,
    blinks,
    breathing,
    brow_flashes,
    emotion_face,
    emotion_vector,
    eyes_in_head,
    glances,
    lid,
    look_units,
    perform,
    random_style,
    smooth_noise,
)
from vasa_ref.world.prosody import fundamental, loudness, low_pass, prosody
from vasa_ref.world.speaking import (
    SHAPE_OF,
    SHAPES,
    articulate,
    face_of,
    frame_count,
    frame_times,
    lean,
    mouth_gate,
    segments,
    sides,
)
from vasa_ref.world.voice import PHONEMES, Speech, phoneme_class, random_text, random_voice, say

SIDED = [(UNIT[name], UNIT[name.replace("Left", "Right")]) for name in UNITS if name.endswith("Left")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def styled(**values):
    return torch.tensor([values.get(name, 0.0) for name in STYLE])


@pytest.fixture(scope="module")
def speech():
    return say("My mother bought a big blue umbrella, and five very fine fish moved to Paris.")


@pytest.fixture(scope="module")
def clips():
    generator = seeded(5)
    speeches = [say(random_text(generator) + " " + random_text(generator), voice=random_voice(generator))
                for _ in range(14)]
    return [(s, perform(s, generator=seeded(i))) for i, s in enumerate(speeches)]


def silence(samples):
    return Speech(torch.zeros(samples), ["_"], torch.tensor([0]), torch.tensor([samples]))


class Lips:
    "Distances on the mesh in millimetres, at five places across 18 mm of the mouth."
    def __init__(self):
        data = self.data = load_targets()
        part = lambda p: torch.zeros(len(data.vertices), dtype=torch.bool).index_fill(
            0, data.quads[data.parts == p].unique(), True)
        lip, close = part(0) & (data.masks[:, 0] > 0.3), data.units[UNIT["mouthClose"], :, 1]
        still = data.units[UNIT["jawOpen"], :, 1] > -0.05
        self.lower, self.upper = lip & (close > 0.1), lip & (close < -0.02)     # mouthClose brings the lips together
        self.teeth = part(2) & still & (data.vertices[:, 2] > 1.4)              # the upper incisors

    def heights(self, units, which):
        points = self.data.vertices + torch.einsum("tu,uvc->tvc", units, self.data.units)
        return 100 * points[:, which, 1], points[:, which, 0]

    def rim(self, units, which, top):
        y, x = self.heights(units, which)
        near = [(x - across).abs() < 0.045 for across in (-.09, -.045, 0, .045, .09)]
        worst = float("-inf") if top else float("inf")
        columns = [torch.where(n, y, worst) for n in near]
        return torch.stack([c.amax(1) if top else c.amin(1) for c in columns], 1)

    def gap(self, units):
        return self.rim(units, self.upper, False) - self.rim(units, self.lower, True)

    def bite(self, units):
        return self.rim(units, self.lower, True) - self.heights(units, self.teeth)[0].amin(1, keepdim=True)


@pytest.fixture(scope="module")
def lips():
    return Lips()


def frames_of(speech, shape):
    return [slice(int(a) // FRAME, (int(b) - 1) // FRAME + 1)
            for p, a, b in zip(speech.phonemes, speech.starts, speech.ends)
            if SHAPE_OF.get(phoneme_class(p)) == shape]


# speaking

def test_every_phoneme_has_a_shape_and_shapes_use_known_units():
    assert {phoneme for phoneme in PHONEMES if len(segments(Speech(
        torch.zeros(640), [phoneme], torch.tensor([0]), torch.tensor([640]))).shapes) > 0} == set(PHONEMES)
    for *_, units in SHAPES.values():
        assert all(name in UNIT for unit in units for name in sides(unit))
        assert all(0 < amount <= 1 for amount in units.values())


def test_mouth_close_cancels_the_jaw(lips):
    rest, hang = torch.zeros(1, 52), torch.zeros(1, 52)
    hang[0, [UNIT["jawOpen"], UNIT["mouthClose"]]] = 0.4
    dropped = hang.clone()
    dropped[0, UNIT["mouthClose"]] = 0
    assert (lips.gap(hang) - lips.gap(rest)).abs().max() < 0.6 and lips.gap(dropped).min() > 9


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_lips_meet_on_m_b_p_and_touch_the_teeth_on_f_v_in_every_mood_and_style(speech, lips, emotion):
    assert len(frames_of(speech, "M")) >= 8 and len(frames_of(speech, "F")) >= 6
    for seed in range(4):
        units = perform(speech, emotion=emotion, emotion_strength=2, generator=seeded(seed)).units
        assert max(lips.gap(units[frames]).amax(1).min() for frames in frames_of(speech, "M")) < -0.2
        for frames in frames_of(speech, "F"):
            touching = lips.bite(units[frames]).abs().amax(1)
            assert touching.min() < (2 if emotion == "neutral" else 4.5)
            assert lips.gap(units[frames])[touching.argmin()].min() > 1.5      # and the upper lip is out of the way


def test_closures_over_many_clips(clips, lips):
    gaps = [lips.gap(motion.units[frames]).amax(1).min() for speech, motion in clips
            for frames in frames_of(speech, "M")]
    assert len(gaps) > 60 and max(gaps) < -0.2


@pytest.mark.parametrize("phoneme", ["m", "b", "p"])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_closure_of_any_length_at_any_time_between_open_vowels(lips, phoneme, frames):
    for shift in range(0, 640, 160):
        cuts = torch.tensor([0, 6400 + shift, 6400 + shift + 640 * frames, 16000])
        made = Speech(torch.randn(16000, generator=seeded()) * 0.1, ["a", phoneme, "a"], cuts[:-1], cuts[1:])
        gap = lips.gap(articulate(made, torch.full((25,), 1.3)).units).amax(1)
        assert gap.min() < 0 and gap[5] > 10 and gap[20] > 10


def test_shapes_are_as_wide_as_they_sound(lips):
    gap = {shape: lips.gap(face_of(SHAPES[shape][3])[None]).mean() for shape in ("A", "E", "EE", "OO", "W")}
    assert gap["A"] > gap["E"] + 3 > gap["EE"] + 6 and gap["W"] < gap["OO"] < gap["E"]


def test_mouth_shapes_follow_the_sound():
    track = {word: perform(say(word, rate=100), style=styled(), generator=seeded()).units.amax(0)
             for word in ("ah", "ee", "oo")}
    at = lambda word, name: track[word][UNIT[name]].item()
    assert at("ah", "jawOpen") > 2 * at("ee", "jawOpen")
    assert at("ee", "mouthStretchLeft") > at("oo", "mouthStretchLeft") + 0.3
    assert at("oo", "mouthPucker") > 0.7 > at("ah", "mouthPucker") + 0.5
    assert perform(say("the", rate=100), generator=seeded()).units[:, UNIT["tongueOut"]].max() > 0.1


def test_lips_anticipate():
    at_t = {}
    for word in ("a stool", "a steel"):
        spoken = say(word, rate=120)
        units = articulate(spoken, torch.ones(frame_count(spoken))).units
        t = next(i for i, p in enumerate(spoken.phonemes) if phoneme_class(p) == "t")
        at_t[word] = units[int((spoken.starts[t] + spoken.ends[t]) / 2 / FRAME), UNIT["mouthPucker"]]
    assert at_t["a stool"] > at_t["a steel"] + 0.02


def test_silence_is_at_rest(clips):
    for speech, motion in clips:
        quiet = mouth_gate(frame_times(len(motion)), speech) == 0
        mouth = articulate(speech, torch.ones(len(motion)), motion.style[:4])
        assert quiet.sum() >= 4 and mouth.units[quiet].abs().max() == 0
        assert motion.units[quiet, UNIT["jawOpen"]].max() == 0


def test_loudness_opens_the_jaw(speech):
    quiet = replace(speech, waveform=speech.waveform * 0.4)
    loud, soft = (perform(s, generator=seeded()).units[:, UNIT["jawOpen"]].mean() for s in (speech, quiet))
    assert loud > 1.15 * soft


def test_styles_speak_differently(speech):
    jaw = torch.ones(frame_count(speech))
    at = lambda name, *style: articulate(speech, jaw, torch.tensor(style)).units[:, UNIT[name]]
    assert at("jawOpen", 1., 0, 0, 0).max() > 1.5 * at("jawOpen", -1., 0, 0, 0).max()
    assert at("mouthUpperUpLeft", 0, 1., 0, 0).mean() > 1.3 * at("mouthUpperUpLeft", 0, -1., 0, 0).mean()
    assert at("mouthFunnel", 0, 0, 1., 0).max() > 1.3 * at("mouthFunnel", 0, 0, -1., 0).max()
    assert (at("mouthUpperUpLeft", 0, 0, 0, 1.) >= at("mouthUpperUpRight", 0, 0, 0, 1.)).all()
    assert at("jawLeft", 0, 0, 0, 1.).max() > 0 == at("jawRight", 0, 0, 0, 1.).max()
    even = articulate(speech, jaw).units
    assert all(torch.equal(even[:, left], even[:, right]) for left, right in SIDED)


def test_lean_swaps_with_the_sides():
    face, mirror = torch.rand(52, generator=seeded()), torch.arange(52)
    for left, right in SIDED: mirror[[left, right]] = torch.tensor([right, left])
    sideways = [UNIT["jawLeft"], UNIT["jawRight"], UNIT["mouthLeft"], UNIT["mouthRight"]]
    assert torch.allclose(lean(face[mirror], 0.3)[mirror], lean(face, -0.3)) and torch.equal(lean(face, 0.0), face)
    assert torch.equal(lean(face, 0.5)[sideways], face[sideways])


# the whole

def test_shapes_ranges_and_seed(speech):
    motion = perform(speech, emotion="happy", emotion_strength=2, generator=seeded(1))
    frames = -(-len(speech.waveform) // 640)
    assert len(motion) == frames == frame_count(speech)
    shapes = {"pose": (frames, 6), "units": (frames, 52), "gaze": (frames, 2), "body": (frames, 3),
              "dynamics": (frames, 54),
              "main_gaze": (2,), "emotion": (7,), "style": (12,)}
    again, other = (perform(speech, emotion="happy", emotion_strength=2, generator=seeded(i)) for i in (1, 2))
    for name, shape in shapes.items():
        value = getattr(motion, name)
        assert value.shape == shape and value.dtype == torch.float32 and value.isfinite().all()
        assert torch.equal(value, getattr(again, name))
    assert not torch.equal(motion.pose, other.pose) and not torch.equal(motion.style, other.style)
    assert motion.units.min() >= 0 and motion.units.max() <= 1


def test_units_stay_within_bounds(clips):
    for _, motion in clips:
        assert motion.units.min() >= 0 and motion.units.max() <= 1
        assert (motion.units[:, UNIT["mouthClose"]] <= motion.units[:, UNIT["jawOpen"]] + 1e-6).all()


def test_a_style_given_changes_nothing_that_is_drawn(speech):
    drawn = perform(speech, generator=seeded(3))
    same, other = (perform(speech, style=style, generator=seeded(3)) for style in (drawn.style, -drawn.style))
    assert torch.equal(drawn.units, same.units) and torch.equal(drawn.pose, same.pose)
    assert not torch.equal(drawn.units, other.units) and torch.equal(other.style, -drawn.style)
    blink = [UNIT["eyeBlinkLeft"], UNIT["eyeBlinkRight"]]
    assert torch.equal(drawn.units[:, blink], other.units[:, blink])                   # blinks belong to the moment
    only_brows = drawn.style.clone()
    only_brows[STYLE.index("brows")] *= -1
    moved = (perform(speech, style=only_brows, generator=seeded(3)).units != drawn.units).any(0)
    assert moved.any() and all(UNITS[i].startswith("brow") for i in moved.nonzero()[:, 0])


def test_any_alignment_can_be_spoken(lips):
    wave = 0.1 * torch.randn(24321, generator=seeded())
    cuts = torch.tensor([0, 1111, 3003, 3004, 9876, 12345, 20000, 24321])
    motion = perform(Speech(wave, ["_", "ʔ", "m", "aʊ̯", "t͡ʃ", "ɲ", "_"], cuts[:-1], cuts[1:]), generator=seeded())
    assert len(motion) == 39 and motion.dynamics.isfinite().all()
    assert lips.gap(motion.units).amax(1)[3:6].min() < 0      # one sample of m is still an m
    with pytest.raises(VasaError, match="IPA"):
        perform(Speech(wave, ["123"], torch.tensor([0]), torch.tensor([24321])), generator=seeded())


@pytest.mark.parametrize("samples", [1, 639, 641, 5000, 32000])
def test_short_and_silent_speech(samples):
    motion = perform(silence(samples), emotion="happy", generator=seeded())
    assert len(motion) == -(-samples // 640) == len(motion.body)
    assert all(x.isfinite().all() for x in (motion.pose, motion.dynamics, motion.body))
    assert motion.units[:, UNIT["jawOpen"]].max() == 0


def test_distance(speech):
    motion = perform(speech, distance=1.25, generator=seeded())
    assert motion.distance == 1.25
    assert abs(motion.pose[:, 5].mean() / 1.25 - 1) < 0.04 and 0 < motion.pose[:, 5].std() < 0.05


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
    (lambda s: perform(s, style=torch.zeros(5)), "12 numbers"), (lambda s: perform(s, style=[2.0] * 12), "12 numbers"),
    (lambda s: perform(s, style=[float("nan")] * 12), "12 numbers"), (lambda s: perform(s, style="shy"), "12 numbers"),
    (lambda s: perform(s, emotion="bored"), "accepted are")])
def test_errors_say_what_is_accepted(speech, call, message):
    with pytest.raises(VasaError, match=message):
        call(speech)


# head and shoulders

def test_pose_statistics(clips):
    angles = [m.pose[:, :3].rad2deg() for _, m in clips]
    delta_p = torch.stack([a.diff(dim=0).abs().mean() for a in angles])
    assert 0.2 < delta_p.mean() < 0.5 and delta_p.min() > 0.1 and delta_p.max() < 0.6
    assert (torch.cat(angles).abs().amax(0) <= torch.tensor([25.0, 15.0, 10.0])).all()
    assert (torch.cat(angles).std(0) > torch.tensor([2.0, 0.8, 0.8])).all()
    assert torch.cat([m.pose[:, 3:5] for _, m in clips]).abs().max() < 0.12


def test_pitch_of_the_head_follows_the_voice_and_not_another(clips):
    def beat(speech, motion):
        energy = low_pass(prosody(speech).energy, 3.0)
        size = min(len(energy), len(motion))
        pair = torch.stack([energy[:size], motion.pose[:size, 1]])
        return torch.corrcoef(pair - torch.stack([low_pass(x, 0.5) for x in pair]))[0, 1]

    own = torch.stack([beat(s, m) for s, m in clips]).mean()
    other = torch.stack([beat(clips[i - 1][0], clips[i][1]) for i in range(len(clips))]).mean()
    assert own < -0.3 and abs(other) < 0.15


def test_the_body_is_small_and_follows_the_head(speech, clips):
    bodies = torch.cat([m.body for _, m in clips])
    assert bodies[:, :2].abs().max() < 0.2 and 0 <= bodies[:, 2].min() and 0.004 < bodies[:, 2].max() <= 0.011
    turn = torch.corrcoef(torch.stack([bodies[:, 0], torch.cat([m.pose[:, 0] for _, m in clips])]))[0, 1]
    lean_ = torch.corrcoef(torch.stack([bodies[:, 1], torch.cat([m.pose[:, 2] for _, m in clips])]))[0, 1]
    assert turn > 0.5 and lean_ > 0.3


def test_breath_is_taken_before_a_phrase_and_is_slow_in_silence():
    speaking = torch.zeros(400)
    speaking[100:180] = speaking[250:330] = 1
    breath = torch.stack([breathing(speaking, seeded(i)) for i in range(20)])
    assert (breath[:, 98:103].mean(1) > breath[:, 175:180].mean(1) + 0.4).all()
    calm = breathing(torch.zeros(25 * 120), seeded())
    crossings = ((calm[1:] > calm.mean()) & (calm[:-1] <= calm.mean())).sum().item() / 2     # per minute
    assert 13 <= crossings <= 19


def test_brows_flash_on_accents(clips):
    raised, off = [], []
    for i, (speech, _) in enumerate(clips):
        sound = prosody(speech)
        brows = brow_flashes(sound, torch.tensor(0.0), seeded(i))
        near = near_accents(sound.accents > 0)
        raised.append(brows[near]); off.append(brows[~near])
    assert torch.cat(raised).mean() > 1.5 * torch.cat(off).mean()


def near_accents(accents):
    "Frames up to 3 before and 5 after an accent."
    near = accents.clone()
    for shift in range(-3, 6):
        near |= accents.roll(shift)
    return near


# eyes

def test_a_lid_falls_fast_and_rises_slowly():
    t = torch.linspace(0, 0.4, 4001)
    curve = lid(t)
    assert curve.max() == 1 and curve[0] == 0 and curve[-1] == 0
    falling = (t[curve >= 0.9][0] - t[curve >= 0.1][0]).item()
    rising = (t[curve >= 0.1][-1] - t[curve >= 0.9][-1]).item()
    assert 0.03 < falling < 0.09 and 1.5 * falling < rising < 0.25


def test_blinks_are_poisson_with_a_refractory_time():
    lids = blinks(torch.ones(25 * 1200), 0.28, seeded())
    onsets = ((lids[1:, 0] >= 0.3) & (lids[:-1, 0] < 0.3)).nonzero()[:, 0]
    assert 11 < len(onsets) / 20 < 18 and onsets.diff().min() >= 18
    depth = torch.stack([lids[o:o + 8].amax(0) for o in onsets])
    assert 0.75 < (depth[:, 0] == 1).float().mean() < 0.92 and depth.min() > 0.45
    assert lids.max() == 1 and lids.min() == 0 and not torch.equal(lids[:, 0], lids[:, 1])
    assert (lids[:, 0] - lids[:, 1]).abs().max() < 0.25
    talk = torch.cat([torch.ones(60), torch.zeros(40)]).repeat(300)
    lids = blinks(talk, 0.28, seeded())[:, 0]
    onsets = ((lids[1:] >= 0.3) & (lids[:-1] < 0.3)).nonzero()[:, 0] % 100
    assert ((onsets >= 55) & (onsets < 65)).float().mean() > 0.2


def test_blinks_shut_the_eyes_in_every_mood(speech):
    for emotion in EMOTIONS:
        units = torch.cat([perform(speech, emotion=emotion, emotion_strength=1.5, generator=seeded(i)).units
                           for i in range(6)])
        blink = units[:, UNIT["eyeBlinkLeft"]]
        assert blink.max() <= 1 + 1e-6
        shut = blink > 1 - 1e-4
        assert shut.any()
        assert units[shut][:, [UNIT["eyeWideLeft"], UNIT["eyeSquintLeft"], UNIT["eyeLookDownLeft"]]].max() < 1e-3


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


def test_look_units_name_the_direction():
    named = lambda yaw, pitch: {UNITS[i] for i in look_units(torch.tensor([[yaw, pitch]]))[0].nonzero()[:, 0]}
    assert named(0.0, 0.0) == set()
    assert named(0.3, 0.0) == {"eyeLookOutLeft", "eyeLookInRight"}      # towards the person's left
    assert named(-0.3, 0.0) == {"eyeLookInLeft", "eyeLookOutRight"}
    assert named(0.0, -0.3) == {"eyeLookDownLeft", "eyeLookDownRight"}
    assert named(0.0, 0.3) >= {"eyeLookUpLeft", "eyeLookUpRight"}
    units = look_units(torch.tensor([EYE_LIMIT]))
    assert units[0, UNIT["eyeLookOutLeft"]] == 1 == units[0, UNIT["eyeLookUpRight"]]


def test_eyes_in_head_look_where_they_should():
    pose = torch.cat([0.3 * torch.randn(50, 3, generator=seeded()), torch.zeros(50, 2), torch.ones(50, 1)], 1)
    target = 0.1 * torch.randn(50, 2, generator=seeded(1))
    eyes = eyes_in_head(pose, target)
    free = (eyes.abs() < torch.tensor(EYE_LIMIT) - 1e-4).all(1)
    assert free.sum() > 30 and (look_direction(pose, eyes) - target)[free].abs().max() < 1e-5


def test_glances_mostly_rest_and_jump():
    offset = glances(5000, seeded())
    assert 0.6 < (offset == 0).all(1).float().mean() < 0.95
    assert ((offset.diff(dim=0) == 0).all(1)).float().mean() > 0.9


# feelings

def test_emotion_vector():
    assert EMOTIONS == ("neutral", "happy", "sad", "angry", "surprised", "afraid", "disgusted")
    assert torch.equal(emotion_vector(None), torch.zeros(7)) and torch.equal(emotion_vector("neutral"), torch.zeros(7))
    assert torch.equal(emotion_vector("angry", 0.5), torch.tensor([0, 0, 0, 0.5, 0, 0, 0]))
    assert torch.equal(emotion_vector({"happy": 1, "sad": 0.5, "neutral": 1}), torch.tensor([0, 1, 0.5, 0, 0, 0, 0]))


def test_emotions_are_separable_whoever_acts_them():
    faces = torch.stack([torch.stack([emotion_face(emotion_vector(e, strength), random_style(seeded(seed)))
                                      for e in EMOTIONS])
                         for seed, strength in enumerate(torch.linspace(0.5, 1, 120).tolist())])     # (120, 7, 52)
    x = torch.cat([faces, torch.ones(120, 7, 1)], -1)
    labels = torch.eye(7).repeat(60, 1)
    weights = torch.linalg.lstsq(x[::2].flatten(0, 1), labels, driver="gelsd").solution
    assert ((x[1::2] @ weights).argmax(-1) == torch.arange(7)).float().mean(0).min() > 0.9
    assert faces[:, 0].abs().max() == 0


def test_three_ways_to_act_and_all_between():
    corners = torch.stack([acting(styled(acting_x=x, acting_y=y)) for x, y in ((0, 1), (-.87, -.5), (.87, -.5))])
    assert torch.equal(corners.argmax(1), torch.arange(3)) and corners.amax(1).min() > 0.9
    assert torch.allclose(acting(styled()), torch.full((3,), 1 / 3))
    for emotion in EMOTIONS[1:]:
        ways = torch.stack([emotion_face(emotion_vector(emotion), styled(acting_x=x, acting_y=y))
                            for x, y in ((0, 1), (-.87, -.5), (.87, -.5))])
        assert torch.pdist(ways).min() > 0.5
        near = emotion_face(emotion_vector(emotion), styled(acting_x=0.01, acting_y=1))
        assert (near - ways[0]).abs().max() < 0.02                               # continuous
        left, right = (emotion_face(emotion_vector(emotion), styled(slant=s, acting_x=.87, acting_y=-.5))
                       for s in (1, -1))
        assert (left - right).norm() > 0.3                                       # asymmetric, and mirrored
        assert all(torch.isclose(left[a], right[b]) for a, b in SIDED)


def test_happiness_reaches_the_eyes():
    for seed in range(30):
        face = emotion_face(emotion_vector("happy"), random_style(seeded(seed)))
        assert face[UNIT["mouthSmileLeft"]] > 0.3 and face[UNIT["cheekSquintLeft"]] > 0.25


def test_emotion_changes_face_and_head(speech):
    sad, neutral, happy = (perform(speech, emotion=e, generator=seeded()) for e in ("sad", "neutral", "happy"))
    smile = UNIT["mouthSmileLeft"]
    assert happy.units[:, smile].mean() > neutral.units[:, smile].mean() + 0.3
    assert sad.pose[:, 1].mean() < neutral.pose[:, 1].mean() - 0.05
    assert torch.equal(happy.emotion, emotion_vector("happy")) and neutral.emotion.abs().max() == 0


# hearing

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
