"""The parametric head: conventions of pose and gaze, the distance, the renderer."""
import math

import pytest
import torch

from vasa_ref import head
from vasa_ref.anatomy import (EXPRESSIONS, SHAPES, direction, distance, face_geometry, look_direction, neutral_pose,
                              rotation_matrix, smin)
from vasa_ref.head import People, landmarks, random_people, render


def some(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    pose = neutral_pose(n)
    pose[:, :3] = torch.randn(n, 3, generator=g) * 0.2
    return random_people(n, g), pose, torch.rand(n, 14, generator=g) * 0.5, torch.randn(n, 2, generator=g) * 0.2


def test_signs_of_the_pose():
    nose, crown = torch.tensor([0.0, 0, 1]), torch.tensor([0.0, 1, 0])
    assert (rotation_matrix(torch.tensor([0.3, 0, 0, 0, 0, 1])) @ nose)[0] > 0.2
    assert (rotation_matrix(torch.tensor([0, 0.3, 0, 0, 0, 1])) @ nose)[1] > 0.2
    assert (rotation_matrix(torch.tensor([0, 0, 0.3, 0, 0, 1])) @ crown)[0] > 0.2


def test_look_direction_undoes_direction():
    gaze = torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    torch.testing.assert_close(look_direction(neutral_pose(100), gaze), gaze, atol=1e-5, rtol=0)
    torch.testing.assert_close(direction(gaze).norm(dim=-1), torch.ones(100))


def test_distance_is_a_distance():
    people, pose, expression, gaze = some(4)
    face, r = face_geometry(people.shape, pose, expression, gaze), rotation_matrix(pose)
    g = torch.Generator().manual_seed(1)
    q = (torch.rand(3, 4, 2000, generator=g) * 1.6 - 0.8).requires_grad_()
    d = distance(*q, r, face)
    slope = torch.autograd.grad(d.sum(), q)[0].norm(dim=0)
    assert (d > 0).any() and (d < 0).any()
    assert slope.quantile(0.95) < 1.3
    assert (smin(q[0], q[1], 0.1) <= torch.minimum(q[0], q[1])).all()


def test_render_is_deterministic_and_independent_of_the_batch():
    people, pose, expression, gaze = some(3)
    images = render(people, pose, expression, gaze, size=40)
    assert images.shape == (3, 3, 40, 40) and 0 <= images.min() and images.max() <= 1
    torch.testing.assert_close(images, render(people, pose, expression, gaze, size=40), rtol=0, atol=0)
    one = render(people[1], pose[1:2], expression[1:2], gaze[1:2], size=40)
    torch.testing.assert_close(images[1:2], one, atol=1e-4, rtol=0)


def test_canonical_map_agrees_with_the_camera():
    people, pose, _, gaze = some(2)
    pose[:, 3:] = torch.tensor([0.1, -0.1, 1.2])
    _, maps = render(people, pose, torch.zeros(2, 14), gaze, size=48, maps=True)
    world = maps["canonical"] * torch.tensor([1.0, -1, -1])[:, None, None]
    posed = torch.einsum("bij,bjhw->bihw", rotation_matrix(pose), world) / pose[:, 5, None, None, None]
    c = (torch.arange(48) + 0.5) / 24 - 1
    solid = maps["mask"][:, 0] > 0.99
    assert solid.float().mean() > 0.1
    assert (posed[:, 0] + 0.1 - c).abs()[solid].max() < 1e-4
    assert (posed[:, 1] - 0.1 + c[:, None]).abs()[solid].max() < 1e-4


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_expression_changes_the_picture(name):
    people = random_people(1, torch.Generator().manual_seed(2))
    expression = torch.zeros(2, 14)
    expression[1, EXPRESSIONS.index(name)] = 1
    if name == "lip_close":
        expression[:, EXPRESSIONS.index("jaw_open")] = 0.6   # closing shows where something is open
    rest, moved = render(people, neutral_pose(2), expression, torch.zeros(2, 2), size=64)
    assert (rest - moved).abs().max() > 0.1


def test_every_shape_changes_the_picture():
    shape = torch.zeros(2 * len(SHAPES), len(SHAPES))
    for i in range(len(SHAPES)):
        shape[2 * i, i], shape[2 * i + 1, i] = -1, 1
    look = random_people(1, torch.Generator().manual_seed(3)).look.expand(len(shape), -1)
    n = len(shape)
    images = render(People(shape, look), neutral_pose(n), torch.zeros(n, 14), torch.zeros(n, 2), size=48)
    difference = (images[0::2] - images[1::2]).abs().amax(dim=(1, 2, 3))
    assert difference.min() > 0.05, dict(zip(SHAPES, difference.tolist()))


def test_lips_close_over_an_open_jaw():
    shape = torch.zeros(1, len(SHAPES))
    expression = torch.zeros(1, 14)
    expression[0, EXPRESSIONS.index("jaw_open")] = 1
    wide = face_geometry(shape, neutral_pose(), expression, torch.zeros(1, 2)).gap.item()
    expression[0, EXPRESSIONS.index("lip_close")] = 1
    assert face_geometry(shape, neutral_pose(), expression, torch.zeros(1, 2)).gap.item() < 0.1 * wide


def test_landmarks_follow_the_head():
    people, pose = random_people(1, torch.Generator().manual_seed(0)), neutral_pose(2)
    pose[1, 3:] = torch.tensor([0.2, 0.1, 1.25])
    near, far = landmarks(people, pose, torch.zeros(2, 14))
    torch.testing.assert_close(far, near / 1.25 + torch.tensor([0.2, -0.1]), atol=1e-5, rtol=0)
    assert near[0, 0] < 0 < near[1, 0] and near[2, 1] > 0   # left eye, right eye, mouth below


def test_people_are_seeded_and_indexed():
    people = random_people(5, torch.Generator().manual_seed(1))
    again = random_people(5, torch.Generator().manual_seed(1))
    assert torch.equal(people.shape, again.shape) and torch.equal(people.look, again.look)
    assert len(people[2]) == 1 and len(people[1:3]) == 2 and len(People.cat([people, again])) == 10
    assert people.shape.abs().max() <= 1


def test_counts_that_do_not_fit_are_refused():
    people = random_people(3)
    with pytest.raises(ValueError, match="give as many of each"):
        render(people, neutral_pose(2), torch.zeros(2, 14), torch.zeros(2, 2))


def test_a_full_turn_is_no_turn():
    people, pose = random_people(1, torch.Generator().manual_seed(0)), neutral_pose(2)
    pose[1, 0] = 2 * math.pi
    a, b = render(people, pose, torch.zeros(2, 14), torch.zeros(2, 2), size=32)
    torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


def test_without_a_compiler_rendering_goes_on(monkeypatch):
    def no_compiler(function, **options): raise OSError("no g++")
    monkeypatch.setattr(torch, "compile", no_compiler)
    head.kernels.cache_clear()
    with pytest.warns(UserWarning, match="needs a C.. compiler"):
        assert head.kernels(True) == head.kernels(False)
    head.kernels.cache_clear()
