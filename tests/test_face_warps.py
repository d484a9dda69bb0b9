"""Coordinates and warps of the face model: identity, order, signs, and the renderer's places."""
import math

import pytest
import torch
import torch.nn.functional as F

from vasa_ref.face.warps import (
    from_canonical_grid,
    identity_grid,
    rigid_matrix,
    sample,
    to_canonical_grid,
    transform,
)
from vasa_ref.geometry import neutral_pose, rotation_matrix
from vasa_ref.world.head import CAMERA
from vasa_ref.world.people import random_people
from vasa_ref.world.picture import make_figures, render

SHAPE = 6, 8, 8


def generator(seed=0): return torch.Generator().manual_seed(seed)


def poses(n, seed=0):
    x = torch.rand(n, 6, generator=generator(seed)) - 0.5
    return torch.cat([x[:, :3], 0.3 * x[:, 3:5], 1 + 0.6 * x[:, 5:]], dim=1)


def test_identity_grid_returns_the_volume():
    volume = torch.rand(2, 3, *SHAPE, generator=generator())
    grid = identity_grid(*SHAPE).expand(2, -1, -1, -1, -1)
    assert torch.allclose(sample(volume, grid), volume, atol=1e-5)


def test_one_voxel_shift():
    volume = torch.rand(1, 3, *SHAPE, generator=generator())
    shifted = sample(volume, identity_grid(*SHAPE)[None] + torch.tensor([2 / 8, 0.0, 0.0]))
    assert torch.allclose(shifted[..., :-1], volume[..., 1:], atol=1e-5)


def test_zero_flow_and_neutral_pose_are_the_identity():
    pose, flow = neutral_pose(2), torch.zeros(2, 3, 3, 4, 4)
    for grid in (to_canonical_grid(pose, flow, SHAPE), from_canonical_grid(pose, flow, SHAPE)):
        assert torch.allclose(grid, identity_grid(*SHAPE).expand(2, -1, -1, -1, -1), atol=1e-6)


def test_quarter_roll_moves_the_crown_to_the_right():
    volume = torch.zeros(1, 1, 8, 8, 8)
    volume[0, 0, 4, 0, 3] = 1                                    # above the centre
    pose = neutral_pose()
    pose[0, 2] = math.pi / 2                                     # roll > 0: the crown tilts to the viewer's right
    turned = sample(volume, from_canonical_grid(pose, torch.zeros(1, 3, 3, 4, 4), (8, 8, 8)))
    assert turned[0, 0, 4, 3, 7] == pytest.approx(1, abs=1e-4)


def test_quarter_yaw_moves_the_nose_to_the_right():
    volume = torch.zeros(1, 1, 8, 8, 8)
    volume[0, 0, 0, 4, 4] = 1                                    # nearest to the viewer
    pose = neutral_pose()
    pose[0, 0] = math.pi / 2
    turned = sample(volume, from_canonical_grid(pose, torch.zeros(1, 3, 3, 4, 4), (8, 8, 8)))
    z, y, x = (turned[0, 0] == turned.max()).nonzero()[0].tolist()
    assert (y, x) == (4, 7) and turned.max() > 0.99


def test_rigid_and_back():
    pose, points = poses(5), torch.rand(5, 7, 3, generator=generator()) - 0.5
    there = transform(rigid_matrix(pose), points)
    assert torch.allclose(transform(rigid_matrix(pose, inverse=True), there), points, atol=1e-5)
    assert (there - points).abs().max() > 0.1


def test_rigid_matrix_is_the_contract_in_the_world():
    pose, points = poses(5), torch.rand(5, 7, 3, generator=generator()) - 0.5
    flip = torch.tensor([1.0, -1.0, -1.0])
    world = torch.einsum("bij,bnj->bni", rotation_matrix(pose), points) / pose[:, 5, None, None]
    world = world + F.pad(pose[:, 3:5], (0, 1))[:, None]
    assert torch.allclose(transform(rigid_matrix(pose), points * flip) * flip, world, atol=1e-5)


def test_rigid_matrix_agrees_with_the_renderer():
    """But for the camera's perspective, which the renderer has and the model does not."""
    pose, figures = poses(3, 2), make_figures(random_people(1, generator(1), plain=True), fine=False)
    _, truth = render(figures, pose, torch.zeros(3, 52), torch.zeros(3, 2), size=48, maps=True)
    rest = truth.canonical().flatten(2).transpose(1, 2)                                        # (B, 48 * 48, 3)
    posed, shift = transform(rigid_matrix(pose), rest), pose[:, None, 3:5] * torch.tensor([1.0, -1.0])
    near = CAMERA / (CAMERA + posed[..., 2:])
    grid = identity_grid(1, 48, 48)[0].flatten(0, 1)[None, :, :2]
    inside = (truth.mask.flatten(1) > 0.999) & (rest[..., 1] < 0.4)                            # the head, not the torso
    flat, true = ((x - grid).norm(dim=-1)[inside] for x in (posed[..., :2], (posed[..., :2] - shift) * near + shift))
    assert inside.sum() > 300 and true.median() < 0.02
    assert true.median() < flat.median()
