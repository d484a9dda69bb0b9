"""Controls in the user's units: translation, refusal, curves, tracks."""
import math

import pytest
import torch

from vasa_ref.errors import VasaError
from vasa_ref.motion.conditions import CONDITIONS
from vasa_ref.motion.network import MotionConfig
from vasa_ref.talking.directing import Curve, held_pose, motion_controls, replaced

(LEFT, RIGHT), (DOWN, UP) = CONDITIONS["gaze"].limits
FAR = CONDITIONS["distance"].limits[0][1]


@pytest.mark.parametrize("wrong", [
    {"gaze": (RIGHT + 1, 0)}, {"gaze": (0, DOWN - 1)}, {"gaze": 3}, {"gaze": (1, 2, 3)}, {"gaze": "left"},
    {"gaze": "12"}, {"gaze": {10**400: (0, 0)}}, {"distance": 10**400},
    {"gaze": (math.nan, 0)}, {"distance": FAR + 0.1}, {"distance": "near"}, {"distance": math.nan},
    {"emotion": "smug"}, {"emotion": 3}, {"emotion": {"happy": -1}}, {"emotion_strength": 2.1},
    {"emotion": "sad", "emotion_strength": "x"},
    {"distance": None}, {"smile": 1}, {"prev_motion": 1}, {"audio": 1}, {"head_motion": 3.1}, {"head_motion": "calm"},
    {"blink_rate": -1}, {"blink_rate": {0: None}},
    {"cfg_scale": {"audio": math.inf}}, {"cfg_scale": {"audio": -0.1}}, {"cfg_scale": {"loudness": 1}},
    {"cfg_scale": 2},
    {"cfg_scale": {"audio": "x"}}, {"steps": 0}, {"steps": 1.5}, {"steps": True}, {"steps": 100_000},
    {"temperature": -0.1}, {"temperature": "hot"}, {"sampler": "fast"}, {"gaze": {}},
    {"gaze": {0: (0, 0), "1": (0, 0)}}, {"gaze": {-1: (0, 0)}},
    {"gaze": {math.nan: (0, 0)}}, {"gaze": {0: (0, 0), 1: (90, 0)}}, {"distance": {0: "near"}},
    {"emotion": {0: "smug"}},
    {"emotion": {0: None, 1: "sad"}}, {"emotion": {0: {"happy": 3}}}, {"emotion": {0: "sad", "happy": 1}}])
def test_wrong_controls_say_what_is_accepted(wrong):
    with pytest.raises(VasaError, match="accepted"):
        motion_controls(MotionConfig.tiny(), **wrong)


def test_controls_are_translated():
    chosen = motion_controls(MotionConfig.tiny(), gaze=(90 / 4, -18), distance=1.2, emotion="happy",
                             emotion_strength=0.5, steps=3)
    assert chosen["gaze"] == pytest.approx((math.pi / 8, -math.pi / 10))
    assert chosen["emotion"] == (0, 0.5, 0, 0, 0, 0, 0)
    assert chosen["cfg_scale"] == {} and chosen["steps"] == 3
    assert motion_controls(MotionConfig.tiny(), cfg_scale={"gaze": 1})["cfg_scale"] == {"gaze": 1.0}
    plain = motion_controls(MotionConfig.tiny())
    assert plain["emotion"] is None and plain["head_motion"] is None and plain["blink_rate"] == 17
    lively = motion_controls(MotionConfig.tiny(), head_motion=0, blink_rate={0: 10, 2: 30})
    assert lively["head_motion"] == 0.0 and lively["blink_rate"](1.0).item() == 20


def test_key_frames_become_curves():
    chosen = motion_controls(MotionConfig.tiny(), gaze={4: (18, 0), 2.0: (0, -9)}, distance={0: 1, 1: 1.5, 3: 0.5},
                             emotion={1: "sad", 3: {"happy": 0.5}, 5: "neutral"}, emotion_strength=2.0)
    assert all(isinstance(chosen[name], Curve) for name in ("gaze", "distance", "emotion"))
    gaze = {0: (0, -9), 2: (0, -9), 3: (9, -4.5), 4: (18, 0), 1e6: (18, 0)}
    for seconds, angles in gaze.items():
        assert chosen["gaze"](seconds).tolist() == pytest.approx([math.radians(a) for a in angles], abs=1e-6)
    assert [chosen["distance"](s).item() for s in (0, 0.5, 2, 9)] == pytest.approx([1, 1.25, 1, 0.5])
    # half of 2 x 0.5, half of 2
    assert chosen["emotion"](2.0).tolist() == pytest.approx([0, 0.5, 1, 0, 0, 0, 0])
    assert not chosen["emotion"](5.0).any() and chosen["emotion"](0.0).dtype == torch.float32


def test_one_key_frame_is_a_constant():
    curve = motion_controls(MotionConfig.tiny(), distance={3: 1.2})["distance"]
    assert [curve(s).item() for s in (0.0, 3.0, 8.0)] == pytest.approx([1.2] * 3)


def test_blends_are_no_key_frames():
    assert motion_controls(MotionConfig.tiny(),
                           emotion={"happy": 0.25, "sad": 1})["emotion"] == (0, 0.25, 1, 0, 0, 0, 0)


@pytest.mark.parametrize("given", [None, {}, {"gaze": 1}, {"audio": 0}, {"audio": 0.5, "gaze": 1}])
def test_scales_that_are_not_named_are_left_to_the_weights(given):
    assert motion_controls(MotionConfig.tiny(), cfg_scale=given)["cfg_scale"] == (given or {})


@pytest.mark.parametrize("pose", [(46, 0, 0), (0, 0), "straight", (0, math.nan, 0)])
def test_a_pose_that_cannot_be_held_is_refused(pose):
    with pytest.raises(VasaError, match="3 angles in degrees, -45 to 45, -30 to 30, -30 to 30"):
        held_pose(pose)
    assert held_pose((10, 0, -5))[0].tolist() == pytest.approx([math.radians(a) for a in (10, 0, -5)])


def test_tracks_take_the_place_of_motion_and_their_last_frame_stays():
    portions = [torch.randn(n, 9) for n in (3, 1, 4)]
    generated, pose, z_dyn = torch.cat(portions), torch.randn(6, 6), torch.randn(20, 3)
    def put(**tracks): return torch.cat(list(replaced(iter(portions), **tracks)))
    assert torch.equal(put(), generated) and torch.equal(torch.cat(portions), generated)
    assert torch.equal(put(pose=pose), torch.cat([torch.cat([pose, pose[-1:], pose[-1:]]), generated[:, 6:]], 1))
    assert torch.equal(put(pose=pose[:1, :3]), torch.cat([pose[:1, :3].expand(8, 3), generated[:, 3:]], 1))
    assert torch.equal(put(z_dyn=z_dyn), torch.cat([generated[:, :6], z_dyn[:8]], 1))
