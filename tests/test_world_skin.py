import math

import pytest
import torch

from vasa_ref.world.head import MASKS, PARTS, UNIT, UNITS, load_mesh
from vasa_ref.world.people import LOOK, People, person, random_people
from vasa_ref.world.skin import (
    AXIS,
    CHART,
    CHART_Y,
    COATS,
    WRINKLES,
    Dice,
    beard_area,
    brow_hairs,
    bump,
    chart,
    chart_noise,
    chart_points,
    coat_vertices,
    eye_colour,
    hair_edge,
    linear,
    polyline,
    resized,
    skin_texture,
    teeth_shade,
    wrinkle_depths,
    wrinkle_maps,
)


@pytest.fixture(scope="module")
def mesh():
    return load_mesh(True)


@pytest.fixture(scope="module")
def people():
    return random_people(4, torch.Generator().manual_seed(1))


def with_looks(people, **looks):
    people = people[torch.arange(len(people))]
    for name, value in looks.items():
        people.look[:, LOOK[name]] = value
    return people


def test_light_grows_with_the_value_and_white_stays_white():
    values = torch.linspace(0, 1, 20)
    assert (linear(values).diff() > 0).all() and linear(values)[-1] == 1 and linear(torch.tensor(-0.1)) == 0


def test_polyline_goes_through_its_points_and_is_level_outside():
    xs, ys = (0.0, 1.0, 3.0), (2.0, -1.0, 5.0)
    assert torch.allclose(polyline(torch.tensor([0.0, 1, 3, -9, 9, 2]), xs, ys), torch.tensor([2.0, -1, 5, 2, 5, 2]))


def test_bump_is_one_at_its_centre_and_falls_in_all_directions():
    far = torch.tensor([0.0, 0.5, 1.0, 2.0])
    bell = bump((far, 0, 0.5), (0 * far + 1, 1, 0.2))
    assert bell[0] == 1 and (bell.diff() < 0).all() and abs(bell[1] - math.exp(-1)) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_functions_of_places_keep_their_type(dtype):
    rest = torch.rand(50, 3, dtype=dtype) + torch.tensor([-0.5, 6.5, 0.5], dtype=dtype)
    x, y, z = rest.unbind(1)
    eyes = eye_colour(rest / rest.norm(dim=1, keepdim=True), rest.clamp(0, 1), x.abs())
    for value in (linear(x), polyline(x, (0.0, 1.0), (0.0, 1.0)), chart(rest), beard_area(x, y, z), eyes,
                  teeth_shade(rest)):
        assert value.dtype == dtype and value.isfinite().all()


def test_the_chart_holds_the_skin_down_to_its_lower_edge(mesh):
    skin = mesh.rest[mesh.triangles[mesh.parts == 0].unique()]
    at = chart(skin)
    assert at[:, 0].abs().max() <= 1 and at[skin[:, 1] >= CHART_Y[0]].abs().max() <= 1
    face = mesh.rest[mesh.masks[:, MASKS.index("face")] > 0.5]
    assert chart(face).abs().max() < 0.8                                   # far from all edges


def test_chart_points_undo_the_chart():
    points = chart_points()
    at = chart(points.permute(1, 2, 0))
    v = (torch.arange(CHART[0]) + 0.5) * 2 / CHART[0] - 1
    u = (torch.arange(CHART[1]) + 0.5) * 2 / CHART[1] - 1
    face = points[2] > 1.0
    assert face.any() and points.isfinite().all()
    assert ((at[..., 0] - u).abs()[face] * CHART[1] / 2).quantile(0.95) < 1
    assert ((at[..., 1] - v[:, None]).abs()[face] * CHART[0] / 2).quantile(0.95) < 1.5
    assert abs(points[2].max() - 1.68) < 0.05 and AXIS < points[2].max()   # the tip of the nose


def test_dice_depend_on_the_seed_and_the_throw_and_on_nothing_else():
    seeds = torch.tensor([3, 99, 2 ** 23 - 1])
    dice, alone = Dice(seeds, 5), Dice(seeds[1:2], 5)
    first, second = dice.uniform(4, 50), dice.uniform(4, 50)
    assert torch.equal(first[1], alone.uniform(4, 50)[0]) and torch.equal(second[1], alone.uniform(4, 50)[0])
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    assert torch.equal(Dice(seeds, 5).uniform(4, 50), first)


def test_dice_are_even_and_normal():
    even, bell = Dice(torch.arange(500), 0).uniform(300), Dice(torch.arange(500), 0).normal(300)
    assert 0 < even.min() and even.max() < 1
    assert abs(even.mean() - 0.5) < 0.005 and abs(even.std() - 12 ** -0.5) < 0.005
    assert abs(bell.mean()) < 0.02 and abs(bell.std() - 1) < 0.02
    histogram = torch.histc(even, 20, 0, 1) / even.numel()
    assert (histogram - 0.05).abs().max() < 0.003


def test_noise_has_the_grain_it_is_asked_for():
    def step(field): return field.diff(dim=-1).abs().mean() / field.std()
    fields = [chart_noise(Dice(torch.tensor([1]), 0), *grain) for grain in ((16, 32), (128, 256), CHART)]
    assert step(fields[0]) < 0.3 * step(fields[1]) < 0.3 * step(fields[2])
    assert resized(fields[0], (8, 16)).shape == (1, 1, 8, 16) and resized(fields[0]) is fields[0]


def test_beards_grow_on_the_lower_face_only(mesh):
    area = beard_area(*mesh.rest.T)
    lips = mesh.masks[:, MASKS.index("lips")] > 0.95
    lids = mesh.masks[:, MASKS.index("eyelids")] > 0.2
    assert 0 <= area.min() and area.max() <= 1 and area.max() > 0.95
    assert area[mesh.rest[:, 1] > 7.4].max() == 0 and area[lids].max() == 0 and area[mesh.rest[:, 2] < 0].max() == 0
    assert area[lips].median() < 0.2


def test_hairlines_recede_with_age_in_men_only():
    points = chart_points().permute(1, 2, 0).reshape(-1, 3)
    points = points[(points[:, 2] > 0.4) & (points[:, 1] > 7.2)]                # the front of the head
    def high(sex, age): return (hair_edge(person(2, age=age, sex=sex, look="short"), points) > 0).float().mean().item()
    assert high("male", 80) < 0.9 * high("male", 20)
    assert high("female", 80) > 0.98 * high("female", 20)


def test_brows_lie_in_the_brow_region_and_follow_their_numbers(people):
    points = chart_points()
    region = (points[0].abs() < 0.65) & (points[1] > 7.3) & (points[1] < 7.7) & (points[2] > 0.9)
    drawn = brow_hairs(people, Dice(people.seed, 0))
    assert drawn.shape == (4, 1, *CHART) and drawn.min() >= 0 and drawn.max() <= 1
    assert drawn[:, 0, region].sum() > 0.999 * drawn.sum()
    def hairs(**looks): return brow_hairs(with_looks(people, **looks), Dice(people.seed, 0))
    assert (hairs(brow_density=1.0).sum((1, 2, 3)) > hairs(brow_density=0.4).sum((1, 2, 3))).all()
    assert (hairs(brow_thickness=1.0).sum((1, 2, 3)) > hairs(brow_thickness=0.1).sum((1, 2, 3))).all()
    def height(drawn): return (drawn[:, 0] * points[1]).sum((1, 2)) / drawn[:, 0].sum((1, 2))
    lift = height(hairs(brow_height=1.5)) - height(hairs(brow_height=-1.5))
    assert ((lift - 0.054).abs() < 0.01).all()                              # 0.018 dm for each


@pytest.mark.parametrize("maker", [skin_texture, lambda people: coat_vertices(people, load_mesh(True)),
                                   lambda people: brow_hairs(people, Dice(people.seed, 0))])
def test_a_person_looks_the_same_alone_and_in_a_batch(maker, people):
    batch = maker(people)
    assert torch.equal(batch, maker(people))
    for i in range(len(people)):
        assert torch.allclose(maker(people[i])[0], batch[i], atol=1e-5)


def test_the_seed_changes_the_texture(people):
    other = People(people.identity, people.look, people.seed + 1)
    assert (skin_texture(people)[:, 5] - skin_texture(other)[:, 5]).abs().mean() > 0.01


def test_textures_cover_no_more_than_all(people):
    texture = skin_texture(people)
    assert texture.shape == (4, 6, *CHART) and texture.isfinite().all()
    assert texture[:, :4].min() >= 0 and texture[:, :4].max() <= 1.001


def test_freckles_stubble_and_paint_are_where_they_belong(people):
    points = chart_points()
    plain = with_looks(people, freckles=0.0, stubble=0.0, beard=0.0, moles=0.0, face_paint=0.0)
    cover = skin_texture(plain)[:, 3]
    def added(**looks): return (skin_texture(with_looks(plain, **looks))[:, 3] - cover).clamp(min=0)
    freckles, stubble, paint = added(freckles=1.0), added(stubble=1.0), added(face_paint=1.0)
    face = (points[2] > 0.3) & (points[1] > 6.1)
    for marks in (freckles, paint):
        assert marks.sum() > 100 and marks[:, ~face].sum() < 0.01 * marks.sum()
    bearded = beard_area(*points) > 0
    assert stubble.sum() > 100 and stubble[:, ~bearded].max() == 0


def test_coats_are_light_with_the_parts_of_the_head_in_their_colours(mesh, people):
    coats = coat_vertices(people, mesh)
    assert coats.shape == (4, len(mesh.rest), len(COATS)) and coats.isfinite().all()
    assert coats[..., :3].min() >= 0 and coats[..., :3].max() <= 1
    assert torch.allclose(coats[0, :, 3:5], chart(mesh.rest))
    of = {name: mesh.triangles[mesh.parts == i].unique() for i, name in enumerate(PARTS)}
    assert coats[:, of["teeth"], :3].mean() > coats[:, of["tongue"], :3].mean() > coats[:, of["lashes"], :3].mean()
    soft = coats[..., COATS.index("skin")]
    assert soft[:, of["eye"]].max() == 0 and soft[:, of["skin"]].max() == 1


def test_more_melanin_is_darker_and_lipstick_is_redder(mesh, people):
    tones = [coat_vertices(with_looks(people, melanin=m), mesh)[..., :3] for m in (0.1, 0.5, 0.9)]
    cheek = bump((mesh.rest[:, 0].abs(), 0.45, 0.1), (mesh.rest[:, 1], 6.98, 0.1)) * (mesh.rest[:, 2] > 1) > 0.5
    light = [t[:, cheek].mean() for t in tones]
    assert light[0] > light[1] > light[2] > 0
    lips = mesh.masks[:, MASKS.index("lips")] > 0.9
    bare, painted = (coat_vertices(with_looks(people, lipstick=v), mesh)[:, lips] for v in (0.0, 1.0))
    assert (painted[..., 1] / painted[..., 0]).mean() < (bare[..., 1] / bare[..., 0]).mean()
    assert painted[..., COATS.index("gloss")].mean() > bare[..., COATS.index("gloss")].mean()


def test_wrinkles_lie_on_the_face():
    maps, points = wrinkle_maps(), chart_points()
    assert maps.shape == (len(WRINKLES), *CHART) and maps.min() >= 0 and maps.amax((1, 2)).min() > 0.5
    for kind, (low, high) in zip(maps, ((7.5, 8.1), (7.3, 7.65), (6.9, 7.6), (6.4, 7.1), (7.0, 7.25))):
        weight = kind / kind.sum()
        assert weight[(points[1] > low) & (points[1] < high) & (points[2] > 0.4)].sum() > 0.98


def test_age_and_movement_deepen_wrinkles():
    old, still = torch.linspace(0, 1, 6), torch.zeros(6, len(UNITS))
    assert wrinkle_depths(still, old)[0].max() == 0 and (wrinkle_depths(still, old).diff(dim=0) > 0).all()
    for names, kind in ((("browInnerUp",), 0), (("browDownLeft", "browDownRight"), 1), (("eyeSquintLeft",), 2),
                        (("mouthSmileRight",), 3)):
        moved = still.clone()
        moved[:, [UNIT[name] for name in names]] = 1
        more = wrinkle_depths(moved, old) - wrinkle_depths(still, old)
        assert (more[:, kind] > 0).all() and (more[:, kind].diff() > 0).all()


def test_eyes_have_a_pupil_an_iris_and_a_white():
    angle = torch.tensor([0.0, 0.30, 0.9])
    local = torch.stack([angle.sin(), 0 * angle, angle.cos()], 1)
    iris = torch.tensor([[0.2, 0.4, 0.7]]).expand(3, 3)
    pupil, ring, white = eye_colour(local, iris, torch.zeros(3))
    assert pupil.max() < 0.02 and ring[2] > ring[0] and white.min() > ring.max() > pupil.max()
    edge = torch.tensor([[math.sin(0.17), 0, math.cos(0.17)]])
    narrow, wide = (eye_colour(edge, iris[:1], torch.tensor([p])).sum() for p in (0.0, 1.0))
    assert wide < narrow                                                    # a wide pupil reaches there


def test_teeth_darken_backwards_and_have_gaps():
    angle = torch.linspace(-1.2, 1.2, 400)
    shade = teeth_shade(torch.stack([0.45 * angle.sin(), 0 * angle, 1 + 0.45 * angle.cos()], 1))
    gaps = (shade[1:-1] < shade[:-2]) & (shade[1:-1] < shade[2:])
    assert 8 <= gaps.sum() <= 16 and 0 < shade.min() and shade.max() <= 1
    assert shade[200 - 40:200 + 40].mean() > shade[:40].mean()
