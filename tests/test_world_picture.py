"""Pictures of people: the same whoever else is in the batch, at any size, with maps that fit them."""
import inspect
import shutil

import pytest
import torch
import torch.nn.functional as F

from vasa_ref.errors import VasaError
from vasa_ref.world.head import UNIT, neutral_pose
from vasa_ref.world.people import People, person, random_people
from vasa_ref.world.picture import (
    SHOTS,
    SURFACES,
    Figures,
    bumped,
    develop,
    lamp,
    light_surface,
    make_figures,
    openness,
    portraits,
    random_shots,
    render,
    shadow,
    studio,
    unit,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def figures():
    return make_figures(random_people(3, seeded(2)))


def motion(n, yaw=0.3):
    pose = neutral_pose(n)
    pose[:, 0] = torch.linspace(-yaw, yaw, n)
    units = torch.zeros(n, 52)
    units[:, UNIT["jawOpen"]] = torch.linspace(0, 0.6, n)
    return pose, units, torch.linspace(-0.3, 0.3, n)[:, None].expand(n, 2)


def test_one_figure_serves_a_batch(figures):
    pose, units, gaze = motion(3)
    batch = render(figures[1], pose, units, gaze, size=48)
    alone = torch.cat([render(figures[1], pose[[i]], units[[i]], gaze[[i]], size=48) for i in range(3)])
    repeated = render(figures[[1, 1, 1]], pose, units, gaze, size=48)
    assert torch.allclose(batch, alone, atol=1e-4) and torch.allclose(batch, repeated, atol=1e-4)
    assert (batch[0] - batch[2]).abs().mean() > 0.01                     # and poses make a difference


def test_a_frame_does_not_depend_on_who_else_is_in_the_batch(figures):
    pose, units, gaze = motion(3)
    shots, scenes = random_shots(3, seeded(1)), torch.rand(3, 3, 48, 48, generator=seeded(2))
    batch = render(figures, pose, units, gaze, None, shots, scenes, size=48)
    order = [2, 0, 1]
    other = render(figures[order], pose[order], units[order], gaze[order], None, shots[order], scenes[order], size=48)
    assert torch.allclose(batch[order], other, atol=1e-4)


def test_a_person_looks_the_same_whoever_is_made_beside():
    people = random_people(2, seeded(5))
    both, alone = make_figures(people), make_figures(people[1])
    assert torch.allclose(both.coats[1], alone.coats[0], atol=1e-5)
    assert torch.allclose(both.texture[1], alone.texture[0], atol=1e-5)


def test_figures_are_indexed_by_numbers_lists_slices_and_masks(figures):
    assert isinstance(figures[0], Figures)
    assert [len(figures[i]) for i in (0, [0, 2], slice(1, None), torch.tensor([True, False, True]))] == [1, 2, 2, 2]
    assert torch.equal(figures[[2, 0]].coats, figures.coats[[2, 0]])
    assert torch.equal(figures[2].people.flat(), figures.people.flat()[2:])
    assert torch.equal(figures[2].strands.rest, figures.strands.rest[2:])


@pytest.mark.parametrize("size, samples", [(16, 1), (40, 2), (65, 2), (24, 3)])
def test_any_size_and_any_number_of_samples(figures, size, samples):
    image, truth = render(figures[0], *motion(1), size=size, maps=True, samples=samples)
    assert image.shape == (1, 3, size, size) and image.isfinite().all() and image.min() >= 0 and image.max() <= 1
    assert truth.mask.shape == truth.depth.shape == truth.surface().shape == (1, 1, size, size)
    assert truth.canonical().shape == (1, 3, size, size)


def test_a_picture_shrinks_to_a_smaller_one(figures):
    pose, units, gaze = motion(1)
    large, small = (render(figures[0], pose, units, gaze, size=s) for s in (128, 64))
    assert (F.avg_pool2d(large, 2) - small).abs().mean() < 0.02


def test_masks_and_maps_fit_the_picture(figures):
    pose, units, gaze = motion(3)
    scene = torch.zeros(3, 3, 64, 64)
    scene[:, 1] = 1
    image, truth = render(figures, pose, units, gaze, scenes=scene, size=64, maps=True)
    assert truth.mask.min() == 0 and truth.mask.max() == 1
    shares = truth.mask.mean((1, 2, 3))
    assert shares.min() > 0.2 and shares.max() < 0.9                     # people fill much of a picture, and not all
    outside = (truth.mask == 0).expand(-1, 3, -1, -1)
    assert torch.allclose(image[outside], scene[outside], atol=1e-5)
    what = truth.surface()
    assert what.max() < len(SURFACES) and ((what >= 0) <= (truth.mask > 0)).all()
    assert (truth.depth[what < 0] == -3).all() and truth.depth[what >= 0].min() > -3
    for name in ("skin", "eye"): assert (what == SURFACES.index(name)).flatten(1).any(1).all(), name
    assert (truth.canonical().abs().amax(1, keepdim=True)[what == 0] < 1.6).all()


def test_colours_are_sane():
    people = random_people(6, seeded(7))
    image, truth = render(make_figures(people), *motion(6), size=48, maps=True)
    skin = (truth.surface() == 0) & (truth.canonical()[:, 1:2] < 0.45)   # above the collar
    colours = torch.stack([(image[i] * skin[i]).sum((1, 2)) / skin[i].sum() for i in range(6)])
    assert colours.min() > 0.1 and colours.max() < 0.95
    assert (colours[:, 0] > colours[:, 2]).all()                         # skin is redder than blue
    order = people.get("melanin").argsort()
    assert colours[order[0]].mean() > colours[order[-1]].mean()          # and darker with melanin


def test_wrong_numbers_of_things_are_refused(figures):
    pose, units, gaze = motion(3)
    with pytest.raises(VasaError, match="2 figures"): render(figures[[0, 1]], pose, units, gaze, size=16)
    with pytest.raises(VasaError, match="2 units"): render(figures, pose, units[:2], gaze, size=16)


def test_light_adds_up(figures):
    size, generator = 24, seeded(0)
    rand = lambda c: torch.rand(1, c, size, size, generator=generator)
    layers = (rand(3), unit(rand(3) - 0.5), 0.2 * rand(1), torch.ones(1, 1, size, size), (rand(1), rand(1), rand(1)),
              unit(rand(3) - 0.5), (rand(1) > 0.5).float())
    parts = []
    for name in ("key", "fill", "ambient", "rim"):
        shots = studio().clone()
        for off in {"key", "fill", "ambient", "rim"} - {name}: shots[:, SHOTS.index(off)] = 0
        parts.append(light_surface(*layers, shots))
    assert torch.allclose(sum(parts), light_surface(*layers, studio()), atol=1e-4)
    assert all(part.max() > 0 for part in parts)


def test_a_post_throws_a_shadow_as_long_as_it_should():
    ground = torch.zeros(1, 1, 200, 200)                                 # a pixel is 0.01
    ground[..., 90:110, 100:110] = 0.2
    lit = shadow(ground, lamp(torch.tensor([0.785398]), torch.zeros(1)))[0, 0, 100]
    assert lit[93:98].max() < 0.3 and lit[:60].min() > 0.95 and lit[112:].min() > 0.95


def test_grooves_are_closed_and_ridges_are_not():
    groove = torch.zeros(1, 1, 256, 256)
    groove[..., 125:131] = -0.1
    inside, ridge = (openness(d, torch.ones_like(d))[0, 0, 128] for d in (groove, -groove))
    assert inside[128] < 0.95 and inside[60] > 0.999
    assert ridge[128] > 0.999 and ridge[122] < 0.97                      # dark is the foot of a wall
    assert openness(0 * groove, torch.ones_like(groove)).min() > 0.999


def test_normals_lean_back_where_a_height_rises():
    flat, skin = torch.tensor([0.0, 0, 1])[None, :, None, None].expand(1, 3, 9, 9), torch.ones(1, 1, 9, 9)
    right = 0.3 * (2 / 9) * torch.arange(9.0).expand(1, 1, 9, 9)
    up = right.transpose(2, 3).flip(2)
    assert torch.allclose(bumped(flat, right, skin, 9)[0, :, 4, 4], unit(torch.tensor([-0.3, 0, 1.0]), 0), atol=1e-5)
    assert torch.allclose(bumped(flat, up, skin, 9)[0, :, 4, 4], unit(torch.tensor([0, -0.3, 1.0]), 0), atol=1e-5)
    assert torch.allclose(bumped(flat, right, 0 * skin, 9), flat, atol=1e-6)   # what is no skin has no pores


def test_film_grows_with_light_and_never_leaves_the_range():
    amount = torch.linspace(0, 20, 300).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    values = develop(amount, studio())[0, 0, 0]
    assert values.min() >= 0 and values.max() <= 1 and values.diff().min() >= 0
    brighter = studio().clone()
    brighter[:, SHOTS.index("exposure")] = 2
    assert (develop(amount, brighter)[0, 0, 0] >= values).all()


def test_shots_are_named_and_repeat():
    shots = random_shots(50, seeded(1))
    assert shots.shape == (50, len(SHOTS)) and torch.equal(shots, random_shots(50, seeded(1)))
    assert studio(4).shape == (4, len(SHOTS)) and (shots[:, SHOTS.index("exposure")] > 0.5).all()


@pytest.mark.skipif("compiled" not in inspect.signature(render).parameters or not shutil.which("g++"),
                    reason="rendering is compiled only where there is a C++ compiler")
def test_compiled_equals_eager(figures):
    pose, units, gaze = motion(2)
    eager, fused = (render(figures[0], pose, units, gaze, size=32, compiled=c) for c in (False, True))
    off = (eager - fused).abs()
    assert off.mean() < 1e-3 and (off > 0.02).float().mean() < 0.01


def test_people_of_many_kinds_are_drawn():
    crowd = People.cat([person(1, look=look) for look in ("bald", "afro", "braids", "bun")])
    images = render(make_figures(crowd), *motion(4), size=32)
    assert images.isfinite().all()
    assert torch.cdist(images.flatten(1), images.flatten(1)).add(torch.eye(4)).min() > 0.5


def test_portraits_smile_in_any_light():
    people = random_people(2, seeded(5))
    plain, smiling = portraits(people, 48), portraits(people, 48, smile=1.0)
    lit, again = (portraits(people, 48, seeded(1)) for _ in range(2))
    assert plain.shape == (2, 3, 48, 48) and torch.equal(lit, again)
    below, above = (slice(None), slice(None), slice(27, 40)), (slice(None), slice(None), slice(0, 12))
    assert (plain - smiling).abs()[below].mean() > 5 * (plain - smiling).abs()[above].mean()
    # one wall, two scenes
    assert (plain[0, :, 0] - plain[1, :, 0]).abs().max() < 0.01 < (lit[0, :, 0] - lit[1, :, 0]).abs().mean()
