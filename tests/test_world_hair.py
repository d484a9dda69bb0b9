import pytest
import torch

from vasa_ref.world import hair
from vasa_ref.world.hair import (
    BEARD,
    BEARD_POINTS,
    HAIR,
    HAIR_POINTS,
    KNOT,
    Roots,
    Skull,
    around,
    cut_height,
    grow,
    hair_colour,
    over_shoulders,
    parting_of,
    ribbons,
    root_points,
    skull_of,
)
from vasa_ref.world.head import SCALE, UNIT, UNITS, build_heads, load_mesh, neutral_pose
from vasa_ref.world.people import HAIR_STYLES, HATS, LOOK, People, person, random_people
from vasa_ref.world.picture import make_figures, render
from vasa_ref.world.skin import HAIRLINE, Dice, beard_area, polyline

COUNT = HAIR * HAIR_POINTS * 2                                  # points of the scalp's ribbons


@pytest.fixture(scope="module")
def mesh():
    return load_mesh(True)


def with_looks(people, **looks):
    people = people[torch.arange(len(people))]
    for name, value in looks.items():
        people.look[:, LOOK[name]] = value
    return people


def someone(style="bob", sex="female", **looks):
    return with_looks(person(6, sex=sex, age=30, look=style), **{"beard": 0.0, "hat": 0.0, **looks})


def grown(people, mesh):
    return grow(people, build_heads(people.identity), mesh)


def widths(strands):
    "Of the scalp's ribbons (B, HAIR) and of the beard's (B, BEARD), at their roots."
    scalp = strands.rest[:, :COUNT].view(-1, HAIR, HAIR_POINTS, 2, 3)
    beard = strands.rest[:, COUNT:].view(-1, BEARD, BEARD_POINTS, 2, 3)
    return tuple((s[:, :, 0, 0] - s[:, :, 0, 1]).norm(dim=-1) for s in (scalp, beard))


def middles(strands):
    "Middle lines (B, HAIR, HAIR_POINTS, 3) of the scalp's ribbons."
    return strands.rest[:, :COUNT].view(-1, HAIR, HAIR_POINTS, 2, 3).mean(3)


def test_roots_lie_on_the_scalp_and_where_beards_grow(mesh):
    roots = root_points(build_heads(someone().identity), mesh)
    scalp, chin = roots.rest[:HAIR], roots.rest[HAIR:]
    assert (polyline(scalp[:, 2].contiguous(), *HAIRLINE) - scalp[:, 1]).max() < 0.15
    assert (beard_area(*chin.T) > 0).float().mean() > 0.99 and len(chin) == BEARD
    assert torch.allclose(roots.normal.norm(dim=-1), torch.ones(1, HAIR + BEARD), atol=1e-5)
    corners, weights = hair.roots()
    assert torch.allclose(weights.sum(1), torch.ones(len(weights))) and weights.min() >= 0


def test_a_coarse_head_has_its_roots_in_the_same_places(mesh):
    coarse = load_mesh(False)
    identity = someone().identity
    fine, rough = root_points(build_heads(identity), mesh), root_points(build_heads(identity, fine=False), coarse)
    assert (fine.rest - rough.rest).norm(dim=1).quantile(0.95) < 0.12


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_every_style_is_finite_and_only_the_bald_have_no_hair(style, mesh):
    strands = grown(someone(style), mesh)
    assert all(getattr(strands, name).isfinite().all() for name in ("rest", "facing", "along", "coats", "share"))
    share = (widths(strands)[0] > 1e-6).float().mean()
    assert share == 0 if style == "bald" else share > 0.6


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_hair_stays_outside_the_skull(style, mesh):
    one = someone(style)
    heads = build_heads(one.identity)
    centre, radii = skull_of(heads, mesh.rest)
    path = middles(grow(one, heads, mesh))[0][widths(grow(one, heads, mesh))[0][0] > 1e-6][:, 2:]
    away = ((path - centre[0]) / radii[0])
    above = away[..., 1] > 0.2
    assert not above.any() or away[above].norm(dim=-1).quantile(0.02) > 0.85


@pytest.mark.parametrize("style", ["bob", "long", "wavy"])
def test_hanging_hair_leaves_the_eyes_free_and_is_cut_where_it_says(style, mesh):
    one = someone(style, curl=0.0)
    heads = build_heads(one.identity)
    path = middles(grow(one, heads, mesh))[0]
    before = (path[..., 2] > heads.eyes[0, :, 2].min()) & ((path[..., 1] - heads.eyes[0, 0, 1]).abs() < 0.06)
    assert (path[before][:, 0].abs() > 0.8 * heads.eyes[0, :, 0].abs().max()).all()
    lowest = path[..., 1].amin(1).quantile(0.02) * SCALE + hair.REST_CENTRE[1]
    assert abs(lowest - cut_height(one).item()) < 0.25


def test_longer_fuller_and_parted_as_asked(mesh):
    low = [middles(grown(someone("long", hair_length=v), mesh))[..., 1].amin(2).quantile(0.1).item()
           for v in (0.0, 0.5, 1.0)]
    assert low[0] > low[1] > low[2]
    wide = [middles(grown(someone("curly", hair_volume=v), mesh))[..., 0].abs().quantile(0.95).item()
            for v in (0.0, 1.0)]
    assert wide[0] < wide[1]
    lines = [parting_of(someone("side parting", parting=v)).item() for v in (-1.0, 0.1, 1.0)]
    assert lines[0] < -0.2 and lines[1] == 0 and lines[2] > 0.2
    assert abs(parting_of(someone("long", parting=1.0)).item()) < 0.15


def test_beards_grow_only_where_there_is_one(mesh):
    man = someone("short", "male")
    count = [(widths(grown(with_looks(man, beard=b, beard_shape=1.0), mesh))[1] > 0).sum().item()
             for b in (0.0, 0.4, 1.0)]
    assert count[0] == 0 and 0 < count[1] < count[2]
    chin, cheeks = ((widths(grown(with_looks(man, beard=0.7, beard_shape=s), mesh))[1] > 0).sum().item()
                    for s in (0.45, 1.0))
    assert 0 < chin < cheeks


def test_hats_hide_hair(mesh):
    def hairs(hat, style="long"): return (widths(grown(someone(style, hat=float(HATS.index(hat))), mesh))[0] > 1e-6)[0]
    bare = hairs("none")
    assert hairs("headscarf").sum() == 0
    for hat in ("beanie", "cap", "top hat"):
        assert 0 < hairs(hat).sum() < 0.7 * bare.sum()
    top = root_points(build_heads(someone().identity), mesh).rest[:HAIR, 1] > 7.9
    assert bare[top].float().mean() > 0.9 and not hairs("beanie")[top].any()


def test_a_person_has_the_same_hair_alone_and_in_a_batch(mesh):
    people = People.cat([random_people(5, torch.Generator().manual_seed(2)), someone("afro"),
                         someone("braids", beard=0.5)])
    batch = grown(people, mesh)
    assert torch.equal(batch.rest, grown(people, mesh).rest)
    for i in range(len(people)):
        alone = grown(people[i], mesh)
        # where no hair grows, directions are rounding errors
        seen = (widths(alone)[0][0] > 0).repeat_interleave(2 * HAIR_POINTS)
        assert seen.any()
        for name in ("rest", "coats", "share"):
            one, many = getattr(alone, name)[0], getattr(batch, name)[i]
            assert torch.allclose(one[COUNT:], many[COUNT:], atol=1e-4)
            assert torch.allclose(one[:COUNT][seen], many[:COUNT][seen], atol=1e-3)
        assert torch.equal(alone.triangles[0], batch.triangles[i]) and torch.equal(alone.root[0], batch.root[i])


def test_a_picture_is_the_same_alone_and_in_a_batch():
    people = random_people(3, torch.Generator().manual_seed(4))
    def picture(who):
        return render(make_figures(who), neutral_pose(len(who)), torch.zeros(len(who), 52), torch.zeros(len(who), 2),
                      size=96)
    together = picture(people)
    for i in range(3):
        assert (picture(people[i])[0] - together[i]).abs().mean() < 1e-4


def test_the_seed_changes_the_hair(mesh):
    one = someone("long")
    other = People(one.identity, one.look, one.seed + 1)
    assert (grown(one, mesh).rest - grown(other, mesh).rest)[:, :COUNT].norm(dim=-1).median() > 0.005


def shell(n, side=None, opening=0.9, clear=0.05, slack=0.1):
    full = lambda v: torch.full((1, n), float(v))
    return Skull(torch.zeros(1, 1, 3), torch.tensor([[[0.5, 0.6, 0.7]]]), full(clear), full(slack), full(opening),
                 full(1) if side is None else side)


def test_around_brings_points_to_the_shell_and_out_of_the_face():
    points = torch.rand(1, 3000, 3, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    side = torch.where(points[..., 0] > 0, 1.0, -1.0)
    moved = around(points, shell(3000, side), 1.0) / torch.tensor([0.5, 0.6, 0.7])
    above, low = moved[0, :, 1] > 0.36, moved[0, :, 1].abs() < 0.1
    assert 1.04 < moved[0, above].norm(dim=-1).min() and moved[0, above].norm(dim=-1).max() < 1.16
    assert torch.atan2(moved[0, low, 0].abs(), moved[0, low, 2]).min() > 0.5
    free = around(points, shell(3000, side, opening=0.0), 1.0) / torch.tensor([0.5, 0.6, 0.7])
    assert torch.atan2(free[0, low, 0].abs(), free[0, low, 2]).min() < 0.2


def test_shoulders_are_not_entered():
    inside = torch.tensor([[0.2, -1.4, -0.1], [0.0, -1.3, -0.3]])
    outside = torch.tensor([[0.0, 0.0, 0.0], [2.0, -1.4, 0.0]])
    centre, radii = torch.tensor([0.0, -1.42, -0.20]), torch.tensor([1.35, 0.70, 0.42])
    assert torch.allclose(((over_shoulders(inside) - centre) / radii).norm(dim=1), torch.ones(2), atol=1e-4)
    assert torch.allclose(over_shoulders(outside), outside, atol=1e-6)


def test_ribbons_lie_about_their_path_and_taper():
    t = torch.linspace(0, 1, HAIR_POINTS)
    path = torch.stack([0.2 * (4 * t).sin(), -t, 0 * t], -1)[None, None].expand(2, 3, -1, -1)
    outward = torch.tensor([0.0, 0.0, 1.0]).expand_as(path)
    half = torch.tensor([0.05, 0.02, 0.0]).expand(2, 3)
    one = ribbons(path, outward, half, torch.full((2, 3, 3), 0.5), torch.ones(HAIR_POINTS), torch.arange(3),
                  Dice(torch.tensor([1, 2]), 0))
    edges = one.rest.view(2, 3, HAIR_POINTS, 2, 3)
    assert torch.allclose(edges.mean(3), path, atol=1e-6)
    width = (edges[..., 0, :] - edges[..., 1, :]).norm(dim=-1)
    assert torch.allclose(width[:, :, 0], 2 * half, atol=1e-5) and (width[:, :2].diff(dim=-1) <= 1e-7).all()
    assert one.triangles.shape == (2, 3 * (HAIR_POINTS - 1) * 2, 3) and one.triangles.max() == one.rest.shape[1] - 1
    for triangle in one.triangles[0].split((HAIR_POINTS - 1) * 3)[0]:
        assert len(set((triangle // (2 * HAIR_POINTS)).tolist())) == 1      # no triangle joins two strands


def test_grey_takes_the_colour_out(mesh):
    one = someone(hair_r=0.42, hair_g=0.17, hair_b=0.07)
    roots = root_points(build_heads(one.identity), mesh)
    shades = [hair_colour(with_looks(one, grey=g), roots, Dice(one.seed, 3)) for g in (0.0, 0.5, 1.0)]
    colourful = [((s.amax(-1) - s.amin(-1)).mean() / s.mean()).item() for s in shades]
    assert colourful[0] > colourful[1] > colourful[2]


def test_hair_keeps_still_while_the_jaw_opens_and_beards_do_not(mesh):
    man = someone("short", "male", beard=1.0, beard_shape=1.0)
    heads = build_heads(man.identity)
    strands = grow(man, heads, mesh)
    units = torch.zeros(1, len(UNITS))
    units[0, UNIT["jawOpen"]] = 0.6
    still, opened = (strands.move(heads, mesh, neutral_pose(1), u, None)[0][0] for u in (0 * units, units))
    moved = (opened - still).norm(dim=-1)
    assert moved[:COUNT].quantile(0.95) < 0.005 and moved[COUNT:].max() > 0.05


def test_hair_turns_with_the_head_above_and_less_at_the_shoulders(mesh):
    one = someone("long", hair_length=1.0)
    heads = build_heads(one.identity)
    strands, pose = grow(one, heads, mesh), neutral_pose(1)
    assert strands.share[0, :COUNT][strands.rest[0, :COUNT, 1] > 0].min() > 0.99
    assert strands.share[0, :COUNT][strands.rest[0, :COUNT, 1] < -0.9].max() < 0.9
    pose[0, 0] = 0.5
    along = strands.move(heads, mesh, pose, torch.zeros(1, 52), None)[1]
    assert torch.allclose(along.norm(dim=-1), strands.along.norm(dim=-1), atol=1e-4)


def test_strands_are_indexed_and_joined():
    people = random_people(3, torch.Generator().manual_seed(0))
    strands = make_figures(people, fine=False).strands
    assert torch.equal(strands[[2]].rest[0], strands.rest[2])
    both = strands.beside(strands)
    n = strands.rest.shape[1]
    assert both.rest.shape[1] == 2 * n
    assert torch.equal(both.triangles[:, strands.triangles.shape[1]:], strands.triangles + n)
    assert KNOT < HAIR and isinstance(root_points(build_heads(people.identity, fine=False), load_mesh(False)), Roots)
