import math

import pytest
import torch

from vasa_ref.world.hair import skull_of
from vasa_ref.world.head import MASKS, PARTS, UNITS, build_heads, load_mesh, neutral_pose
from vasa_ref.world.people import HATS, HELD_OUT, LOOK, NECKLINES, PATTERNS, People, person, random_people
from vasa_ref.world.picture import SURFACES, make_figures, render
from vasa_ref.world.skin import CHART, chart_points
from vasa_ref.world.wardrobe import (
    COLUMNS,
    RING,
    ROWS,
    TUBE,
    cloth_texture,
    collar,
    dress,
    hats,
    lashes,
    lens,
    nearest_to,
    trim_lashes,
    trinkets,
    wear,
    wire,
)

# points of the first pieces: a rim, an arm, a lens, a hoop
RIM, ARM = RING * TUBE, 3 * TUBE
PIECE = RIM + ARM + RING + 1 + RING // 2 * TUBE                # of one side of the face


@pytest.fixture(scope="module")
def mesh():
    return load_mesh(True)


@pytest.fixture(scope="module")
def crowd():
    people = random_people(12, torch.Generator().manual_seed(3))
    return with_looks(people, glasses=1.0, earrings=1.0, hat=0.0)


def with_looks(people, **looks):
    people = people[torch.arange(len(people))]
    for name, value in looks.items():
        people.look[:, LOOK[name]] = torch.as_tensor(value, dtype=torch.float32)
    return people


def copies(one, **looks):
    return with_looks(one[[0] * len(next(iter(looks.values())))], **looks)


def rims(people, heads, mesh):
    "Middle lines of both rims (B, 2, RING, 3)."
    points = trinkets(people, heads, mesh)[0]
    return torch.stack([points[:, at:at + RIM].view(-1, RING, TUBE, 3).mean(2) for at in (0, PIECE)], 1)


def drawn(people, size=128, **looks):
    "Pictures, and what each pixel shows."
    figures = make_figures(with_looks(people, **looks))
    n = len(people)
    image, truth = render(figures, neutral_pose(n), torch.zeros(n, 52), torch.zeros(n, 2), size=size, maps=True)
    return image, truth.surface()[:, 0]


def test_collars_cover_shoulders_and_spare_the_face(mesh, crowd):
    everyone = copies(crowd[0], neckline=[float(i) for i in range(len(NECKLINES))])
    below = collar(everyone, *mesh.rest.T)
    face = mesh.masks[:, MASKS.index("face")] > 0.5
    shoulders = (mesh.rest[:, 1] < 5.6) & (mesh.rest[:, 0].abs() > 1.2)
    assert below.shape == (len(NECKLINES), len(mesh.rest)) and below[:, face].max() < 0
    assert below[:, shoulders].min() > 0
    throat = collar(everyone, *torch.tensor([[0.0], [5.7], [1.0]]))[:, 0]
    order = {name: throat[i].item() for i, name in enumerate(NECKLINES)}
    assert order["v"] < order["wide"] < order["crew"] < order["turtleneck"]
    aside = collar(everyone, *torch.tensor([[0.5], [5.7], [1.0]]))[:, 0]
    assert aside[NECKLINES.index("v")] == aside[NECKLINES.index("crew")]     # its opening is in the middle


def test_cloth_lies_below_the_collar_with_its_pattern(crowd):
    patterns = copies(crowd[0], pattern=[float(i) for i in range(len(PATTERNS))])
    patterns = with_looks(patterns, neckline=0.0, cloth_r=0.2, cloth_g=0.2, cloth_b=0.2, trim_r=0.9, trim_g=0.9,
                          trim_b=0.9)
    colour, there, height = cloth_texture(patterns)
    x, y, z = chart_points()
    assert colour.shape == (4, 3, *CHART) and 0 <= there.min() and there.max() <= 1
    assert there[:, 0, y < 5.3].min() > 0.99 and there[:, 0, y > 6.3].max() < 0.01
    cloth = (y < 5.4)
    spread = {name: colour[i][:, cloth].std().item() for i, name in enumerate(PATTERNS)}
    assert spread["stripes"] > 2 * spread["plain"] and spread["checks"] > 2 * spread["plain"]
    assert height[PATTERNS.index("knit")][0, cloth].std() > height[0][0, cloth].std()


@pytest.mark.parametrize("maker", [
    cloth_texture,
    lambda people: trinkets(people, build_heads(people.identity), load_mesh(True))[:3],
    lambda people: hats(people, build_heads(people.identity), load_mesh(True))[:2],
    lambda people: [dress(people, build_heads(people.identity), load_mesh(True)).vertices]])
def test_a_person_wears_the_same_alone_and_in_a_batch(maker, crowd):
    people = People.cat([crowd[:3], with_looks(crowd[3:6], hat=[1.0, 2.0, 3.0])])
    batch, again = maker(people), maker(people)
    for i in (0, 2, 4):
        for one, many, twice in zip(maker(people[i]), batch, again):
            assert torch.allclose(one[0], many[i], atol=1e-5) and torch.equal(many, twice)


def test_dress_pads_the_body_and_leaves_the_face(mesh, crowd):
    heads = build_heads(crowd.identity)
    dressed = dress(crowd, heads, mesh)
    moved = 100 * (dressed.vertices - heads.vertices).norm(dim=-1) / heads.scale.view(-1, 1)           # millimetres
    below = collar(crowd, *mesh.rest.T)
    lash = torch.zeros(len(mesh.rest), dtype=torch.bool)
    lash[lashes(True, "cpu")[0]] = True
    assert moved[(below < -0.05) & ~lash].max() < 1e-3
    assert 8 < moved[below > 0.6].median() < 9.5 and moved[below > 0.05].min() > 1


def test_lashes_end_nearer_to_the_lid_and_are_longer_for_women(mesh):
    lash, root, lower = lashes(True, "cpu")
    assert (mesh.rest[lash, 1] > 6.9).all() and 0 < lower.float().mean() < 1

    def length(sex):
        one = person(5, sex=sex, age=30, look="short")
        heads = build_heads(one.identity)
        trimmed = trim_lashes(one, heads, mesh)
        others = torch.ones(len(mesh.rest), dtype=torch.bool)
        others[lash] = False
        assert torch.equal(trimmed.vertices[:, others], heads.vertices[:, others])
        own, full = ((v[0, lash] - v[0, root]).norm(dim=1) for v in (trimmed.vertices, heads.vertices))
        upper = ~lower & (full > 0.01)
        return (own[upper] / full[upper]).mean().item()
    assert 0 < length("male") < length("female") < 1


@pytest.mark.parametrize("closed", [True, False])
def test_wires_are_tubes_of_their_radius(closed):
    t = torch.linspace(0, 2 * math.pi, 21)[:-1]
    path = torch.stack([t.cos(), 0.6 * t.sin(), 0.1 * t.cos()], -1)[None].expand(3, -1, -1)
    points, normals, triangles = wire(path, 0.05, closed)
    rings = points.view(3, 20, TUBE, 3)
    assert torch.allclose((rings - path[:, :, None]).norm(dim=-1), torch.full((3, 20, TUBE), 0.05), atol=1e-5)
    assert torch.allclose(normals.norm(dim=-1), torch.ones(3, 20 * TUBE), atol=1e-5)
    assert len(triangles) == 2 * TUBE * (20 if closed else 19) and triangles.max() == 20 * TUBE - 1
    edges = torch.cat([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    assert len(edges.unique(dim=0)) == len(edges)                            # neighbours run against each other
    paired = torch.cat([edges, edges.flip(1)]).unique(dim=0)
    assert (len(paired) == len(edges)) == closed                             # a closed tube has no border


def test_a_lens_fills_its_rim():
    t = torch.arange(RING) * 2 * math.pi / RING
    points, normals, triangles = lens(torch.stack([t.cos(), t.sin(), 0 * t], -1)[None])
    corner = points[0, triangles]
    area = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])[:, 2] / 2
    assert (area > 0).all() and abs(area.sum() - math.pi) < 0.05 and (normals[..., 2] > 0).all()


def test_glasses_sit_before_the_eyes_and_behind_no_skin(mesh, crowd):
    heads = build_heads(crowd.identity)
    rim = rims(crowd, heads, mesh)
    mm = 100 / heads.scale.view(-1)
    eyeball = heads.vertices[:, mesh.triangles[mesh.parts == PARTS.index("eye")].unique()]
    for i, side in enumerate((1, -1)):
        assert torch.allclose(rim[:, i].mean(1)[:, :2], heads.eyes[:, i, :2], atol=0.06)
        front = torch.where(side * eyeball[..., 0] > 0, eyeball[..., 2], -9.0).amax(1)
        assert ((rim[:, i, :, 2].mean(1) - front) * mm).min() > 2            # millimetres
        assert ((rim[:, i, :, 2].amin(1) - heads.eyes[:, i, 2]) * mm).min() > 5
    skin = heads.vertices[:, mesh.triangles[mesh.parts == PARTS.index("skin")].unique()]
    for b in range(len(crowd)):
        points = rim[b].flatten(0, 1)
        near = torch.cdist(points[:, :2], skin[b, :, :2]).topk(3, largest=False).indices
        assert ((skin[b, near, 2].mean(1) - points[:, 2]) * mm[b]).max() < 4  # no deeper than a nose pad


def test_arms_begin_at_the_rims_and_end_at_the_ears(mesh, crowd):
    heads = build_heads(crowd.identity)
    rim, points = rims(crowd, heads, mesh), trinkets(crowd, heads, mesh)[0]
    ears = heads.vertices[:, mesh.masks[:, MASKS.index("ears")] > 0.5]
    for i in range(2):
        arm = points[:, i * PIECE + RIM:i * PIECE + RIM + ARM].view(len(crowd), 3, TUBE, 3).mean(2)
        assert torch.cdist(arm[:, :1], rim[:, i]).amin((1, 2)).max() < 0.04      # head units: some 6 mm
        assert torch.cdist(arm[:, 2:], ears).amin((1, 2)).max() < 0.06


def test_glasses_are_seen_by_who_wears_them_and_dark_ones_hide_the_eyes(crowd):
    bare, clear, dark = (drawn(crowd[:2], glasses=g, earrings=0.0, hair_style=0.0)[1] for g in (0.0, 1.0, 2.0))
    frame, eye = SURFACES.index("glasses"), SURFACES.index("eye")
    frames, eyes = ([(seen == part).sum() for seen in (bare, clear, dark)] for part in (frame, eye))
    assert frames[0] == 0 and frames[1] > 100 and frames[2] > 2 * frames[1]
    assert eyes[0] > 50 and eyes[1] > 0.8 * eyes[0] and eyes[2] < 0.05 * eyes[0]


def test_a_roundness_of_one_is_rounder(mesh, crowd):
    heads = build_heads(crowd.identity)

    def corner(roundness):
        "How far the rim's farthest point is from its middle, by half its width and height."
        rim = rims(with_looks(crowd, roundness=roundness), heads, mesh)[:, 0, :, :2]
        middle, half = rim.mean(1, keepdim=True), (rim.amax(1) - rim.amin(1))[:, None] / 2
        return ((rim - middle) / half).norm(dim=-1).amax(1)
    assert (corner(0.0) > corner(0.5)).all() and (corner(0.5) > corner(1.0)).all() and (corner(0.0) < 2 ** 0.5).all()


@pytest.mark.parametrize("name", HATS[1:])
def test_hats_are_outside_the_skull_and_fit_each_head(name, mesh, crowd):
    people = with_looks(crowd, hat=float(HATS.index(name)))
    heads = build_heads(people.identity)
    points, light, triangles = hats(people, heads, mesh)
    assert points.shape == (len(people), ROWS * COLUMNS, 3) and points.isfinite().all() and light.shape == points.shape
    centre, radii = skull_of(heads, mesh.rest)
    away = ((points - centre) / radii).norm(dim=-1).view(-1, ROWS, COLUMNS)
    assert away[:, :7].min() > 0.95
    assert (points[..., 1].amax(1) > heads.vertices[..., 1].amax(1)).all()
    grid = points.view(-1, ROWS, COLUMNS, 3)
    if name != "headscarf": assert torch.allclose(grid[:, :, 0], grid[:, :, -1], atol=1e-5)             # a closed turn
    assert triangles.max() == ROWS * COLUMNS - 1


@pytest.mark.parametrize("name", HATS[1:])
def test_hats_are_seen_and_leave_the_eyes(name, crowd):
    one = with_looks(crowd[:2], glasses=0.0)
    hat, eye, hair = (SURFACES.index(n) for n in ("hat", "eye", "hair"))
    _, bare = drawn(one, hat=0.0, hair_style=7.0)
    _, worn = drawn(one, hat=float(HATS.index(name)), hair_style=7.0)
    assert (bare == hat).sum() == 0 and (worn == hat).sum() > 300
    assert (worn == eye).sum() > 0.9 * (bare == eye).sum()
    assert (worn == hair).sum() < 0.7 * (bare == hair).sum()
    if name == "headscarf": assert (worn == hair).sum() == 0


def test_what_is_worn_follows_the_skull_and_no_face_unit(mesh, crowd):
    one = with_looks(crowd[0], hat=1.0)
    heads = build_heads(one.identity)
    things = wear(one, heads, mesh)
    pose, units = neutral_pose(1), torch.zeros(1, len(UNITS))
    still = things.move(heads, mesh, pose, units, None)[0]
    assert (things.move(heads, mesh, pose, units + 1.0, None)[0] - still).abs().max() < 1e-4
    pose[0, 0] = 0.4
    turned = things.move(heads, mesh, pose, units, None)[0]
    frame = turned[0, :PIECE], still[0, :PIECE]
    apart = [torch.cdist(points, points) for points in frame]
    # rigid, and it turns
    assert (apart[0] - apart[1]).abs().max() < 2e-3 and (frame[0] - frame[1]).norm(dim=1).max() > 0.1
    assert things.parts.unique().tolist() == [SURFACES.index("glasses"), SURFACES.index("hat")]


def test_a_coarse_head_wears_the_same(crowd):
    coarse, fine = load_mesh(False), load_mesh(True)
    heads = build_heads(crowd.identity, fine=False), build_heads(crowd.identity)
    rough, smooth = rims(crowd, heads[0], coarse), rims(crowd, heads[1], fine)
    assert (rough - smooth).norm(dim=-1).max() < 0.06
    assert nearest_to(fine, *fine.rest[123].tolist()) == 123


def test_held_out_looks_are_worn_by_nobody_else():
    everyone = random_people(800, torch.Generator().manual_seed(0))
    assert everyone.get("face_paint").max() == 0 and everyone.get("glasses").max() == 1
    assert not (everyone.get("hat") == HATS.index("top hat")).any()
    rare = random_people(200, torch.Generator().manual_seed(1), held_out=True)
    signs = torch.stack([rare.get("hat") == HATS.index("top hat"), rare.get("glasses") == 2,
                         rare.get("face_paint") == 1])
    assert (signs.sum(0) <= 1).all() and (signs.sum(1) > 20).all() and len(HELD_OUT) == 4
    assert (~signs.any(0)).sum() > 20                                        # the others have dyed hair
    assert (rare[~signs.any(0)].get("hat") == 0).all()
