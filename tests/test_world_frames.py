"""Frames to learn from: everything independent, points where they should be, pools that go on and agree."""
import math
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from vasa_ref.world.frames import (
    GAZE_LIMIT,
    POINTS_KEPT,
    Frames,
    Pool,
    draw_truth,
    kept_points,
    random_bodies,
    random_dynamics,
    random_poses,
    render_frames,
    uniform,
)
from vasa_ref.world.head import UNIT, UNITS, rotation_matrix
from vasa_ref.world.people import random_people
from vasa_ref.world.picture import SURFACES


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def frames():
    generator = seeded(4)
    return render_frames(*draw_truth(2, 3, generator), 64, generator)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    Pool.make(folder, 32, 2, 16, quiet=True)
    return folder


def contents(folder):
    "What each file of a folder holds: words and tensors, as bytes."
    held = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            held[path.name] = file.metadata(), {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}
    return held


def test_poses_bodies_and_gazes_fill_their_ranges():
    poses, bodies, dynamics = (draw(3000, seeded()) for draw in (random_poses, random_bodies, random_dynamics))
    limits = torch.tensor([math.radians(40), math.radians(22), math.radians(15), 0.12, 0.12])
    most = poses[:, :5].abs().amax(0)
    assert (most <= limits).all() and (most > 0.97 * limits).all()
    assert 0.80 <= poses[:, 5].min() < 0.82 and 1.33 < poses[:, 5].max() <= 1.35
    assert (bodies.abs().amax(0) <= torch.tensor([math.radians(14), math.radians(5), 0.03]) + 1e-6).all()
    assert (dynamics[:, -2:].abs().amax(0) <= torch.tensor(GAZE_LIMIT) + 1e-6).all()
    assert torch.equal(poses, random_poses(3000, seeded())) and torch.equal(dynamics, random_dynamics(3000, seeded()))
    assert uniform((5, 2), [0, 10], [1, 20], seeded())[:, 1].min() >= 10


def test_faces_are_in_range_use_their_units_and_choose_apart():
    units = random_dynamics(4000, seeded(1))[:, :-2]
    assert units.shape == (4000, len(UNITS)) and units.min() >= 0 and units.max() <= 1
    named = [UNIT[n] for n in ("jawOpen", "mouthSmileLeft", "browInnerUp", "eyeBlinkLeft", "mouthPucker")]
    active = (units[:, named] > 0.02).float().mean(0)
    assert (active > 0.1).all() and (active < 0.9).all()
    assert (torch.corrcoef(units[:, named].T) - torch.eye(5)).abs().max() < 0.08
    sides = [(UNIT[f"{n}Left"], UNIT[f"{n}Right"]) for n in ("mouthSmile", "browDown", "mouthFrown")]
    assert all((units[:, a] - units[:, b]).abs().max() < 0.3 for a, b in sides)


def test_the_same_points_are_kept_for_everybody():
    index, weight, of = kept_points()
    assert len(index) == len(index.unique()) == len(weight) == len(of) == POINTS_KEPT
    assert weight.min() > 0
    assert {SURFACES[i] for i in of.unique()} == {"skin", "eye", "teeth", "tongue", "hair"}
    kept_points.cache_clear()
    assert torch.equal(index, kept_points()[0])


def test_shapes_are_as_they_say(frames):
    expected = {"images": (3, 64, 64), "masks": (1, 64, 64), "pose": (6,), "dynamics": (54,), "body": (3,),
                "points": (POINTS_KEPT, 3), "seen": (POINTS_KEPT,), "marks": (3, 2)}
    for name, shape in expected.items(): assert getattr(frames, name).shape == (2, 3, *shape), name
    assert frames.rest.shape == (2, POINTS_KEPT, 3) and len(frames.people) == 2
    assert frames.map(lambda x: x[:1]).images.shape == (1, 3, 3, 64, 64)


def test_points_seen_lie_on_the_person(frames):
    at = frames.points[..., :2].flatten(0, 1)[:, :, None]
    on = F.grid_sample(frames.masks.flatten(0, 1), at, mode="nearest", align_corners=False)[:, 0, :, 0] > 0
    seen = frames.seen.flatten(0, 1)
    assert on[seen].float().mean() > 0.999
    assert 0.15 < seen.float().mean() < 0.9                              # some are hidden, many are not
    inside = (frames.points[..., :2].abs() < 1).all(-1)
    assert inside[frames.seen].all()


def test_the_far_side_is_not_seen():
    pose = torch.tensor([[[0.65, 0, 0, 0, 0, 1.0], [-0.65, 0, 0, 0, 0, 1.0]]])
    still = torch.zeros(1, 2, 54), torch.zeros(1, 2, 3)
    turned = render_frames(random_people(1, seeded(2), plain=True), pose, *still, 64, seeded())
    skin, x = kept_points()[2] == 0, turned.rest[0, :, 0]
    more_on_the_right = [(seen[skin & (x > 0.3)].float().mean() - seen[skin & (x < -0.3)].float().mean()).item()
                         for seen in turned.seen[0]]
    assert min(more_on_the_right) < -0.2 and max(more_on_the_right) > 0.2


def test_rest_points_turned_as_a_solid_are_near_the_points_of_a_neutral_face():
    pose = random_poses(3, seeded(3))[None]
    still = torch.zeros(1, 3, 54), torch.zeros(1, 3, 3)
    calm = render_frames(random_people(1, seeded(2), plain=True), pose, *still, 32, seeded())
    _, weight, of = kept_points()
    flip, face = torch.tensor([1.0, -1.0, -1.0]), (of < 4) & (weight > 0.9)
    for k in range(3):
        turned = (calm.rest[0] * flip) @ rotation_matrix(pose[0, k][None])[0].T
        near = 8.0 / (8.0 * pose[0, k, 5] - turned[:, 2])
        solid = torch.stack([turned[:, 0] * near + pose[0, k, 3], -turned[:, 1] * near - pose[0, k, 4]], -1)
        off = (solid - calm.points[0, k, :, :2]).norm(dim=-1)[face]
        assert off.max() < 0.003                                         # half a millimetre
        moved = (solid - calm.rest[0, :, :2]).norm(dim=-1)[face]
        assert moved.median() > 0.03                                     # and that is no matter of course


def test_marks_lie_in_the_face(frames):
    left, right, mouth = frames.marks.unbind(2)
    assert (mouth[..., 1] > torch.maximum(left[..., 1], right[..., 1])).all()         # y down
    assert (frames.marks.abs() < 1).all()
    apart = (left - right).norm(dim=-1)
    assert apart.min() > 0.15 and apart.max() < 0.8


def test_pairs_share_what_their_faces_do_and_nothing_else(frames):
    assert torch.equal(frames.dynamics[0], frames.dynamics[1])
    assert not torch.equal(frames.pose[0], frames.pose[1]) and not torch.equal(frames.people[0], frames.people[1])


def test_a_pool_draws_pairs(folder):
    pool = Pool.open(folder)
    drawn = pool.draw(5, 2, seeded(1))
    assert len(drawn.people.unique(dim=0)) == 10 and len(pool.draw(100, 1, seeded(2)).people.unique(dim=0)) == len(pool)
    assert len(pool) == 32 and drawn.images.shape == (10, 2, 3, 16, 16)
    assert torch.equal(drawn.dynamics[0::2], drawn.dynamics[1::2])
    assert not torch.equal(drawn.pose[0::2], drawn.pose[1::2])
    assert drawn.images.dtype == drawn.points.dtype == torch.float32 and drawn.images.max() <= 1
    again = pool.draw(5, 2, seeded(1))
    assert all(torch.equal(getattr(drawn, f.name), getattr(again, f.name)) for f in fields(Frames))
    assert pool.draw(2, 1, seeded(1)).images.shape == (4, 1, 3, 16, 16)


def test_a_pool_goes_on_where_it_stopped(folder, tmp_path):
    first = contents(folder)
    kept, lost = sorted(folder.iterdir())
    when = kept.stat().st_mtime_ns
    lost.unlink()
    Pool.make(folder, 32, 2, 16, quiet=True)
    assert contents(folder) == first and kept.stat().st_mtime_ns == when


def test_parts_of_a_pool_agree_with_the_whole(folder, tmp_path):
    Pool.make(tmp_path, 32, 2, 16, quiet=True, part=(1, 2))
    name, = contents(tmp_path)
    assert name == "00001.safetensors" and contents(tmp_path)[name] == contents(folder)[name]


def test_an_empty_folder_is_no_pool(tmp_path):
    with pytest.raises(FileNotFoundError, match="no frames"): Pool.open(tmp_path)
