"""Heads: sums of offsets, units that do what their names say, necks that bend, and people who can be asked for."""

import math

import pytest
import torch
import torch.nn.functional as F

from vasa_ref.errors import VasaError
from vasa_ref.world.head import (
    MASKS,
    PARTS,
    SHAPES,
    UNIT,
    UNITS,
    Identity,
    build_heads,
    direction,
    load_mesh,
    load_targets,
    look_direction,
    macro_weights,
    move_heads,
    neutral_pose,
    pose_points,
    project,
    random_identities,
    rotation_matrix,
    rotation_vector,
    smoothstep,
    subdivide,
    turn,
)
from vasa_ref.world.people import HAIR_STYLES, HATS, LOOK, LOOKS, ORIGINS, People, person, random_people

SEEDS = range(3)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def data():
    return load_targets()


@pytest.fixture(scope="module")
def mesh():
    return load_mesh()


@pytest.fixture(scope="module")
def heads():
    return build_heads(random_identities(6, seeded(0)))


def still(n=1, **units):
    """Pose, units and gaze at rest, but for the units named."""
    values = torch.zeros(n, len(UNITS))
    for name, value in units.items():
        values[:, UNIT[name]] = value
    return neutral_pose(n), values, torch.zeros(n, 2)


def random_poses(n, seed=0):
    return 2 * torch.rand(n, 6, generator=seeded(seed), dtype=torch.float64) - 1


def test_the_data_fits_together(data):
    v = len(data.vertices)
    assert data.quads.min() == 0 and data.quads.max() == v - 1 and len(data.parts) == len(data.quads)
    assert data.units.shape == (52, v, 3) and len(set(UNITS)) == 52 and data.masks.shape == (v, len(MASKS))
    assert data.macros.shape == (len(data.macro_names), v, 3) and data.shapes.shape == (2, len(SHAPES), v, 3)
    assert (data.units.abs().sum((1, 2)) > 0).all()
    nothing = {name for name, target in zip(data.macro_names, data.macros) if not target.any()}
    assert nothing == {
        f"universal-{sex}-{age}-averagemuscle-averageweight" for sex in ("male", "female") for age in ("young", "old")
    }
    assert (data.shapes.abs().sum((2, 3)) > 0).any(0).all()  # each axis moves something
    assert set(data.parts.tolist()) == set(range(len(PARTS)))
    assert data.masks.min() >= 0 and data.masks.max() <= 1


def test_subdivision_of_a_cube_is_what_catmull_and_clark_say():
    cube = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    faces = torch.tensor([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    matrix, finer = subdivide(faces, 8)
    points = matrix @ cube
    assert matrix.shape == (26, 8) and finer.shape == (24, 4)
    torch.testing.assert_close(points[:8], cube * 5 / 9)
    lengths = points[8:20].abs().sort(1).values  # edges: one 0, two 3/4
    torch.testing.assert_close(lengths, torch.tensor([0.0, 0.75, 0.75]).expand(12, 3))
    torch.testing.assert_close(points[20:].abs().sum(1), torch.ones(6))
    corner = points[finer]  # all new quads look outwards, as before
    normals = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 3] - corner[:, 0])
    old = cube[faces]
    outwards = (torch.linalg.cross(old[:, 1] - old[:, 0], old[:, 3] - old[:, 0]) * old.mean(1)).sum(1).sign()
    assert torch.equal((normals * corner.mean(1)).sum(1).sign(), outwards.repeat_interleave(4))


def test_subdivision_keeps_the_border_a_curve():
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    matrix, _ = subdivide(torch.tensor([[0, 1, 2, 3]]), 4)
    points = matrix @ square
    torch.testing.assert_close(points[0], torch.tensor([0.125, 0.125]))  # 3/4 itself, 1/8 of each neighbour
    torch.testing.assert_close(
        points[4:8].sort(0).values, torch.tensor([[0.0, 0.0], [0.5, 0.5], [0.5, 0.5], [1.0, 1.0]])
    )
    torch.testing.assert_close(points[8], torch.tensor([0.5, 0.5]))


def test_subdivision_of_the_head_is_a_partition_of_unity(data, mesh):
    ones = torch.sparse.mm(mesh.finer, torch.ones(len(data.vertices), 1))
    torch.testing.assert_close(ones, torch.ones_like(ones))
    assert mesh.finer.coalesce().values().min() >= 0
    torch.testing.assert_close(torch.sparse.mm(mesh.finer, data.vertices), mesh.rest)


def test_both_fineness_levels_are_the_same_heads(heads):
    coarse = build_heads(random_identities(6, seeded(0)), fine=False)
    assert coarse.vertices.shape[1] == 5584 and heads.vertices.shape[1] == 22011
    torch.testing.assert_close(coarse.scale, heads.scale, rtol=0.01, atol=0)
    torch.testing.assert_close(coarse.eyes, heads.eyes, rtol=0, atol=0.01)
    old = heads.vertices[:, :5584]  # old vertices come first, and move little
    assert (old - coarse.vertices).norm(dim=-1).mean() < 0.01
    same = torch.sparse.mm(load_mesh().finer, load_mesh(False).units.view(52, -1, 3).transpose(0, 1).flatten(1))
    torch.testing.assert_close(
        same.view(-1, 52, 3).transpose(0, 1).flatten(1), load_mesh().units, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_identities_are_the_same_for_the_same_seed(seed):
    a, b, other = (random_identities(5, seeded(s)) for s in (seed, seed, seed + 1))
    assert torch.equal(a.macro, b.macro) and torch.equal(a.shape, b.shape)
    assert not torch.equal(a.macro, other.macro) and not torch.equal(a.shape, other.shape)
    assert torch.equal(build_heads(a, False).vertices, build_heads(b, False).vertices)


def test_identities_vary_within_limits():
    many = random_identities(2000, seeded(1))
    torch.testing.assert_close(many.macro[:, :3].sum(1), torch.ones(2000))
    assert (many.macro[:, :5] >= 0).all() and (many.macro[:, :5] <= 1).all() and many.macro[:, 5:].abs().max() <= 1
    assert many.shape.abs().max() <= 0.7 and many.shape.std(0).min() > 0.05
    assert 0.45 < (many.macro[:, 3] > 0.5).float().mean() < 0.55
    people = many[:4]
    assert len(people) == 4 and torch.equal(people.shape, many.shape[:4])


@pytest.mark.parametrize("seed", SEEDS)
def test_macro_weights_share_out_one_person(seed, data):
    weights = macro_weights(random_identities(50, seeded(seed)).macro)
    universal = torch.tensor(["universal" in name for name in data.macro_names])
    assert weights.min() >= 0
    torch.testing.assert_close(weights[:, universal].sum(1), torch.ones(50))
    torch.testing.assert_close(weights[:, ~universal].sum(1), torch.ones(50))


def test_local_shapes_add_up(data):
    def shape(**values):
        out = torch.zeros(1, len(SHAPES))
        for name, value in values.items():
            out[0, next(i for i, n in enumerate(SHAPES) if name in n)] = value
        head = build_heads(Identity(torch.tensor([[1.0, 0, 0, 0, 0, 0, 0]]), out), fine=False)
        return head.vertices / head.scale  # decimetres, from the eyes

    names = {"nose-hump": 0.5, "chin-width": -0.4}
    rest, both = shape(**{k: 0.0 for k in names}), shape(**names)
    parts = [shape(**{name: value}) for name, value in names.items()]
    torch.testing.assert_close(both - rest, sum(part - rest for part in parts), atol=1e-4, rtol=0)
    assert (both - rest).abs().max() > 0.01


def test_heads_have_one_size_and_eyes_in_one_place(heads, mesh):
    face = (mesh.neck > 0.999) & (mesh.rest[:, 2] > 0.3) & (mesh.rest[:, 1] < 7.6)
    centred = heads.vertices[:, face] - heads.vertices[:, face].mean(1, keepdim=True)
    sizes = centred.square().sum(-1).mean(-1).sqrt()
    torch.testing.assert_close(sizes, sizes[:1].expand_as(sizes))
    middle = heads.eyes.mean(1)
    assert middle[:, :2].abs().max() < 1e-5 and (middle[:, 2] > 0.4).all()
    assert (heads.eyes[:, 0, 0] > 0.1).all() and (
        heads.eyes[:, 1, 0] < -0.1
    ).all()  # the person's left is the viewer's right
    assert len(heads[:2]) == 2 and torch.equal(heads[:2].eyes, heads.eyes[:2])


def test_units_are_linear_and_zero_is_rest(heads):
    n = len(heads)
    rest = move_heads(heads, *still(n))
    torch.testing.assert_close(rest, heads.vertices, atol=1e-5, rtol=0)
    a, b = torch.rand(2, n, 52, generator=seeded(1))
    moved = lambda units: move_heads(heads, neutral_pose(n), units, torch.zeros(n, 2)) - rest
    torch.testing.assert_close(moved(a + b), moved(a) + moved(b), atol=1e-4, rtol=0)
    torch.testing.assert_close(moved(0.5 * a), 0.5 * moved(a), atol=1e-4, rtol=0)


@pytest.mark.parametrize("stem", [name[:-4] for name in UNITS if name.endswith("Left")])
def test_left_and_right_units_mirror_each_other(stem, data):
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    part = torch.zeros(len(data.vertices), 1)
    part[data.quads.flatten()] = data.parts.repeat_interleave(4)[:, None].float()
    labelled = torch.cat([data.vertices, part], 1)  # lips have no partner among teeth
    mirrored = labelled * torch.tensor([-1.0, 1.0, 1.0, 1.0])
    apart, partner = torch.cdist(labelled, mirrored, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert apart.max() < 0.005  # the mesh is its own mirror image, to 0.5 mm
    left, right = data.units[UNIT[stem + "Left"]], data.units[UNIT[stem + "Right"]]
    assert (left - (right * mirror)[partner]).norm(dim=1).max() < 0.015  # 1.5 mm
    weight = left.norm(dim=1)
    side = (weight * data.vertices[:, 0]).sum() / weight.sum()
    moved = (weight[:, None] * left).sum(0) / weight.sum()
    assert side > 0.05 or moved[0] > 0.02  # on the left side, or to the left


def lip_gap(data, units):
    moved = data.vertices + torch.einsum("k,kvc->vc", units, data.units)
    middle = (data.vertices[:, 0].abs() < 2e-3) & (data.masks[:, 0] > 0.9)
    lower = middle & (data.units[UNIT["jawOpen"]].norm(dim=1) > 0.1)
    return 100 * (moved[middle & ~lower, 1].min() - moved[lower, 1].max()).item()


@pytest.mark.parametrize("amount", [0.1, 0.4, 0.7, 1.0])
def test_lips_meet_under_an_open_jaw_with_mouth_close(amount, data):
    units = torch.zeros(52)
    units[UNIT["jawOpen"]] = amount
    assert lip_gap(data, units) > 30 * amount
    units[UNIT["mouthClose"]] = amount
    assert abs(lip_gap(data, units)) < 0.5  # mm


@pytest.mark.parametrize("side, i", [("Left", 0), ("Right", 1)])
def test_lids_close_in_a_blink(side, i, data):
    blink = data.units[UNIT["eyeBlink" + side]]
    eye = data.vertices[load_mesh(False).eyes[i]].mean(0)
    lids = ((data.vertices[:, 0] - eye[0]).abs() < 0.03) & (data.masks[:, 1] > 0.9) & (data.vertices[:, 2] > eye[2])
    upper = lids & (blink.norm(dim=1) > 0.05)
    gap = lambda amount: (
        100
        * ((data.vertices + amount * blink)[upper, 1].min() - (data.vertices + amount * blink)[lids & ~upper, 1].max())
    )
    assert gap(0) > 5 and 0 < gap(0.5) < gap(0) and gap(1) <= 0
    other = (data.vertices[:, 0] + eye[0]).abs() < 0.1  # the other eye stays open
    assert blink[other & (data.masks[:, 1] > 0.9)].abs().max() < 0.001


def test_teeth_and_tongue_follow_the_jaw(data):
    jaw = data.units[UNIT["jawOpen"]].norm(dim=1)
    teeth = data.quads[data.parts == PARTS.index("teeth")].unique()
    still_ones = teeth[jaw[teeth] < 1e-3]
    assert len(still_ones) == len(teeth) / 2 and jaw[teeth].max() > 0.2  # the upper row stays
    assert data.vertices[still_ones, 1].mean() > data.vertices[teeth, 1].mean()
    assert jaw[data.quads[data.parts == PARTS.index("tongue")].unique()].mean() > 0.05


def test_eyes_turn_about_their_centres_and_nothing_else_does(heads, mesh):
    n = len(heads)
    gaze = 0.4 * torch.randn(n, 2, generator=seeded(2))
    moved = move_heads(heads, neutral_pose(n), torch.zeros(n, 52), gaze)
    for which, centre in zip(mesh.eyes, heads.eyes.unbind(1)):
        before, after = heads.vertices[:, which] - centre[:, None], moved[:, which] - centre[:, None]
        torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1), atol=1e-5, rtol=0)
        front = (F.normalize(before, dim=-1)[..., 2:] - 0.9).clamp(min=0)  # the pupil goes where the eye looks
        pupil = F.normalize((front * after).sum(1), dim=-1)
        assert (pupil * direction(gaze)).sum(1).min() > math.cos(math.radians(4))
    rest = torch.ones(len(mesh.rest), dtype=torch.bool)
    rest[torch.cat(mesh.eyes)] = False
    torch.testing.assert_close(moved[:, rest], heads.vertices[:, rest], atol=1e-5, rtol=0)


def test_lids_follow_the_look_units(data):
    lids = data.masks[:, 1] > 0.9
    down = data.units[UNIT["eyeLookDownLeft"]][lids]
    up = data.units[UNIT["eyeLookUpLeft"]][lids]
    assert down[:, 1].min() < -0.02 and up[:, 1].max() > 0.01  # 2 mm down, 1 mm up


def test_rotations_are_rotations():
    r = rotation_matrix(random_poses(50))
    torch.testing.assert_close(r @ r.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(r), torch.ones(50, dtype=torch.float64))
    yaw = torch.zeros(1, 6, dtype=torch.float64)
    yaw[0, 0] = 0.3
    nose = rotation_matrix(yaw)[0, :, 2]
    torch.testing.assert_close(nose, torch.tensor([math.sin(0.3), 0, math.cos(0.3)], dtype=torch.float64))
    torch.testing.assert_close(nose, direction(yaw[0, :2]))
    pitch = torch.tensor([[0.0, 0.3, 0.0, 0, 0, 1]])
    assert rotation_matrix(pitch)[0, 1, 2] > 0  # the face goes up
    roll = torch.tensor([[0.0, 0.0, 0.3, 0, 0, 1]])
    assert rotation_matrix(roll)[0, 0, 1] > 0  # the top of the head to the viewer's right


@pytest.mark.parametrize("seed", SEEDS)
def test_rodrigues_is_the_rotation_matrix_and_shares_add_up(seed):
    poses = random_poses(40, seed)
    points = torch.randn(40, 7, 3, generator=seeded(seed), dtype=torch.float64)
    vector, whole = rotation_vector(poses), torch.ones(7, dtype=torch.float64)
    direct = points @ rotation_matrix(poses).transpose(1, 2)
    torch.testing.assert_close(turn(points, vector, whole), direct, atol=1e-9, rtol=0)
    torch.testing.assert_close(turn(turn(points, vector, 0.3 * whole), vector, 0.7 * whole), direct, atol=1e-9, rtol=0)
    torch.testing.assert_close(turn(points, vector, 0 * whole), points, atol=1e-12, rtol=0)
    each = torch.rand(40, 7, generator=seeded(seed), dtype=torch.float64)  # a share for each point
    torch.testing.assert_close(turn(points, vector, each)[:, 3], turn(points[:, 3:4], vector, each[:, 3:4])[:, 0])


def test_no_rotation_is_no_number_too_few():
    nothing = rotation_vector(neutral_pose(2))
    assert torch.equal(nothing, torch.zeros(2, 3))
    points = torch.randn(2, 5, 3, generator=seeded(0))
    torch.testing.assert_close(turn(points, nothing, torch.ones(5)), points)


def test_eyes_that_turn_back_look_at_the_viewer():
    pose = neutral_pose(5)
    pose[:, 0] = torch.linspace(-0.6, 0.6, 5)
    gaze = torch.stack([-pose[:, 0], torch.zeros(5)], 1)
    torch.testing.assert_close(look_direction(pose, gaze), torch.zeros(5, 2), atol=1e-6, rtol=0)


def test_the_neck_takes_more_of_the_turn_the_higher_it_is(heads, mesh):
    height = mesh.rest[:, 1] + 0.45 * mesh.rest[:, 2]
    ordered = mesh.neck[height.argsort()]
    assert (ordered.diff() >= 0).all() and ordered[0] == 0 and ordered[-1] == 1
    n = len(heads)
    pose = neutral_pose(n)
    pose[:, 0] = 0.6
    moved = move_heads(heads, pose, torch.zeros(n, 52), torch.zeros(n, 2))
    head = mesh.neck == 1
    rigid = heads.vertices @ rotation_matrix(pose).transpose(1, 2)
    torch.testing.assert_close(moved[:, head], rigid[:, head], atol=1e-4, rtol=0)  # the head turns about 0
    shoulders = mesh.neck == 0
    shift = (moved - heads.vertices)[:, shoulders]  # shoulders move without turning
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), atol=1e-4, rtol=0)


def test_the_body_moves_shoulders_and_not_the_head(heads, mesh):
    n = len(heads)
    body = torch.tensor([[0.2, 0.05, 0.03]]).expand(n, 3)
    rest, moved = move_heads(heads, *still(n)), move_heads(heads, *still(n), body)
    torch.testing.assert_close(moved[:, mesh.neck == 1], rest[:, mesh.neck == 1], atol=1e-5, rtol=0)
    assert (moved - rest)[:, mesh.neck == 0].norm(dim=-1).min() > 1e-3
    lifted = pose_points(
        heads.vertices, mesh.neck, heads, neutral_pose(n), torch.tensor([[0.0, 0.0, 0.03]]).expand(n, 3)
    )
    up = (lifted - heads.vertices)[:, mesh.neck == 0]
    torch.testing.assert_close(up, torch.tensor([0.0, 0.03, 0.0]).expand_as(up), atol=1e-5, rtol=0)


def test_one_head_serves_a_batch(heads):
    pose, units, gaze = neutral_pose(3), torch.rand(3, 52, generator=seeded(4)), torch.zeros(3, 2)
    together = move_heads(heads[[0]], pose, units, gaze)
    torch.testing.assert_close(
        together[1], move_heads(heads[[0]], pose[1:2], units[1:2], gaze[1:2])[0], atol=1e-5, rtol=0
    )


def test_the_camera_shows_near_things_larger():
    points = torch.tensor([[[0.5, 0.5, 0.0], [0.5, 0.5, 0.8]]])
    flat, near = project(points, neutral_pose())[0]
    torch.testing.assert_close(flat, points[0, 0])
    torch.testing.assert_close(near[:2], torch.full((2,), 0.5 * 8 / 7.2))
    pose = torch.tensor([[0.0, 0, 0, 0.1, -0.2, 2.0]])
    torch.testing.assert_close(project(points, pose)[0, 0], torch.tensor([0.35, 0.05, 0.0]))


def test_smoothstep_is_level_at_its_ends():
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0], requires_grad=True)
    y = smoothstep(0.0, 1.0, x)
    assert y.tolist() == [0, 0, 0.5, 1, 1]
    y.sum().backward()
    assert x.grad[0] == x.grad[1] == x.grad[3] == x.grad[4] == 0


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def test_everything_stays_on_its_device(device):
    people = random_identities(2, seeded(0)).to(device)
    heads = build_heads(people, fine=False)
    moved = move_heads(heads, *(part.to(device) for part in still(2)))
    assert moved.device.type == device and load_mesh(False, device).to(device).units.device.type == device


# People


@pytest.mark.parametrize("plain", [False, True])
def test_people_are_the_same_for_the_same_seed(plain):
    a, b = (random_people(8, seeded(5), plain) for _ in range(2))
    assert torch.equal(a.flat(), b.flat()) and a.look.shape == (8, len(LOOKS))
    assert not torch.equal(a.flat(), random_people(8, seeded(6), plain).flat())


def test_plain_people_wear_nothing():
    people = random_people(500, seeded(0), plain=True)
    for name in ("glasses", "hat", "beard", "lipstick", "eye_shadow", "stubble", "freckles"):
        assert (people.get(name) == 0).all()
    dressed = random_people(500, seeded(0))
    for name in ("glasses", "hat", "beard", "lipstick", "eye_shadow", "stubble", "freckles"):
        assert (dressed.get(name) > 0).any()


def test_features_go_together():
    many = random_people(3000, seeded(2))
    male, old, origin = many.identity.macro[:, 3] > 0.5, many.identity.macro[:, 4], many.identity.macro[:, :3]
    assert (many.get("beard")[~male] == 0).all() and (many.get("lipstick")[male] == 0).all()
    assert (many.get("grey")[old < 0.45] == 0).all() and many.get("grey")[old > 0.9].mean() > 0.3
    dark = [many.get("melanin")[origin.argmax(1) == i].mean().item() for i in range(3)]
    assert dark[0] > dark[1] > dark[2]
    headscarf = many.get("hat") == HATS.index("headscarf")
    assert not headscarf[male].any() and headscarf[~male].any()
    assert many.look.isfinite().all() and set(many.get("hair_style").tolist()) == set(range(len(HAIR_STYLES)))


def test_people_can_be_cut_joined_and_written_to_rows():
    people = random_people(6, seeded(3))
    assert len(people[2]) == 1 and len(people[1:3]) == 2 and len(people[people.get("pupil") > 2]) == 0
    assert torch.equal(People.cat([people[:2], people[2:]]).flat(), people.flat())
    back = People.unflat(people.flat())
    assert torch.equal(back.seed, people.seed) and back.seed.dtype == people.seed.dtype
    assert torch.equal(back.look, people.look) and torch.equal(back.identity.macro, people.identity.macro)
    assert torch.equal(people.rgb("iris"), people.look[:, LOOK["iris_r"] : LOOK["iris_b"] + 1])
    assert torch.equal(people.to("cpu").flat(), people.flat())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_person_is_who_was_asked_for(seed):
    assert torch.equal(person(seed).flat(), person(seed).flat())
    assert not torch.equal(person(seed).flat(), person(seed + 1).flat())
    for sex in ("female", "male"):
        for i, origin in enumerate(ORIGINS):
            one = person(seed, age=40, sex=sex, origin=origin, look="bob")
            macro = one.identity.macro[0]
            assert (macro[3] > 0.5) == (sex == "male") and macro[:3].argmax() == i
            assert 18 + 72 * macro[4] == pytest.approx(40) and HAIR_STYLES[int(one.get("hair_style"))] == "bob"
            assert one.get("hat") == 0
    young, old = person(seed, age=18), person(seed, age=90)
    assert (young.flat() != old.flat()).sum() == 1


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"seed": -1}, "whole number"),
        ({"seed": 1.5}, "whole number"),
        ({"seed": "3"}, "whole number"),
        ({"age": 17}, "18 to 90"),
        ({"age": 91}, "18 to 90"),
        ({"age": float("nan")}, "18 to 90"),
        ({"age": "old"}, "18 to 90"),
        ({"sex": "f"}, "female, male"),
        ({"origin": "martian"}, "african, asian, caucasian"),
        ({"look": "mullet"}, "bald, buzz"),
    ],
)
def test_bad_requests_are_said_in_one_sentence(wrong, said):
    with pytest.raises(VasaError, match=said) as error:
        person(**{"seed": 0, **wrong})
    assert "\n" not in str(error.value) and repr(next(iter(wrong.values()))) in str(error.value)
