"""The face model: coordinates, warps, sizes, gradients."""
import math

import pytest
import torch
import torch.nn.functional as F

from vasa_ref.face.networks import (
    FaceConfig,
    FaceModel,
    FlowGenerator,
    align,
    bound_pose,
    from_canonical_grid,
    identity_grid,
    rigid_matrix,
    sample,
    standardise,
    to_canonical_grid,
    transform,
)
from vasa_ref.geometry import neutral_pose, rotation_matrix
from vasa_ref.world.head import CAMERA
from vasa_ref.world.people import random_people
from vasa_ref.world.picture import make_figures, render

SHAPE = 6, 8, 8


def generator(seed=0): return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def figures(): return make_figures(random_people(1, generator(1), plain=True), fine=False)


def pictures(figures, pose, size, maps=False):
    "Somebody at rest, in poses (B, 6)."
    return render(figures, pose, torch.zeros(len(pose), 52), torch.zeros(len(pose), 2), size=size, maps=maps)


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


def test_rigid_matrix_agrees_with_the_renderer(figures):
    """But for the camera's perspective, which the renderer has and the model does not."""
    pose = poses(3, 2)
    _, truth = pictures(figures, pose, 48, maps=True)
    rest = truth.canonical().flatten(2).transpose(1, 2)                                        # (B, 48 * 48, 3)
    posed, shift = transform(rigid_matrix(pose), rest), pose[:, None, 3:5] * torch.tensor([1.0, -1.0])
    near = CAMERA / (CAMERA + posed[..., 2:])
    grid = identity_grid(1, 48, 48)[0].flatten(0, 1)[None, :, :2]
    inside = (truth.mask.flatten(1) > 0.999) & (rest[..., 1] < 0.4)                            # the head, not the torso
    flat, true = ((x - grid).norm(dim=-1)[inside] for x in (posed[..., :2], (posed[..., :2] - shift) * near + shift))
    assert inside.sum() > 300 and true.median() < 0.02
    assert true.median() < flat.median()


def test_flow_starts_at_zero_and_takes_gradients():
    config = FaceConfig.tiny()
    flow = FlowGenerator(config)
    out = flow(torch.randn(2, config.z_id_dim), torch.randn(2, config.z_dyn_dim))
    assert out.shape[:2] == (2, 3) and (out == 0).all()
    out.sum().backward()
    assert flow.out.weight.grad.abs().sum() > 0


def test_align_brings_turned_heads_to_the_same_place(figures):
    pose = neutral_pose(2)
    pose[1] = torch.tensor([0, 0, 0.3, 0.1, -0.08, 1.25])
    images = pictures(figures, pose, 96)
    a, b = align(images, pose, 48, extent=0.35)
    raw = align(images[1:], neutral_pose(), 48, extent=0.35)[0]
    assert (a - b).abs().mean() < 0.4 * (a - raw).abs().mean()


def test_bound_pose():
    pose = bound_pose(torch.randn(100, 6, generator=generator()) * 100)
    assert pose[:, :3].abs().max() <= math.pi / 3 + 1e-6 and pose[:, 3:5].abs().max() <= 0.5
    assert torch.allclose(bound_pose(torch.zeros(1, 6)), neutral_pose())


def test_standardised_filters():
    weight = standardise(torch.randn(4, 3, 3, 3, generator=generator()) * 7 + 2)
    assert weight.mean(dim=(1, 2, 3)).abs().max() < 1e-6
    assert torch.allclose(weight.square().sum(dim=(1, 2, 3)), torch.ones(4), atol=1e-3)


def test_shapes_and_broadcast():
    config = FaceConfig.tiny()
    face = FaceModel(config).eval()
    images = torch.rand(3, 3, 32, 32, generator=generator())
    volume, z_id = face.appearance(images[:1]), face.identity(images[:1])
    pose, z_dyn = face.motion(images)
    assert volume.shape == (1, 8, 4, 8, 8) and z_id.shape == (1, 32)
    assert pose.shape == (3, 6) and z_dyn.shape == (3, 16)
    units, gaze, body = face.read_dynamics(z_dyn)
    assert torch.equal(torch.cat([units, gaze], 1), face.motion_encoder.read(z_dyn)) and gaze.shape == (3, 2)
    assert body.shape == (3, 3) and not body.any()
    out = face.decode(volume, z_id, pose, z_dyn)
    assert out.shape == (3, 3, 32, 32) and 0 <= out.min() and out.max() <= 1


def test_gradients_reach_every_module():
    face = FaceModel(FaceConfig.tiny())
    for flow in (face.to_canonical, face.from_canonical): torch.nn.init.normal_(flow.out.weight, std=0.01)
    for head_ in (face.motion_encoder.pose,): torch.nn.init.normal_(head_.out.weight, std=0.01)
    images = torch.rand(2, 3, 32, 32, generator=generator())
    pose, z_dyn = face.motion(images.flip(0))
    read = face.motion_encoder.read(z_dyn)
    (face(images, images.flip(0)).square().mean() + read.square().mean() + pose.sum()).backward()
    dead = [name for name, p in face.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert dead == []


def test_overfits_one_pair(figures):
    torch.manual_seed(0)
    face = FaceModel(FaceConfig.tiny())
    images = pictures(figures, poses(2, 5), 32)
    optimizer, losses = torch.optim.AdamW(face.parameters(), lr=3e-3), []
    for _ in range(60):
        loss = (face(images[:1], images[1:]) - images[1:]).abs().mean()
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.03 and losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("make", [FaceConfig.tiny, FaceConfig, FaceConfig.paper])
def test_no_volume_has_depth_two(make):
    """oneDNN's bfloat16 weight gradient of 3D convolutions is wrong for volumes of depth 2: no such volume may
    occur."""
    depths = []
    with torch.device("meta"):
        face = FaceModel(make())
        images = torch.empty(1, 3, face.config.size, face.config.size)
        for module in face.modules():
            if isinstance(module, torch.nn.Conv3d):
                module.register_forward_hook(lambda module, inputs, output: depths.append(inputs[0].shape[2]))
        with torch.no_grad(): face(images, images)
    assert depths and 2 not in depths


def test_paper_preset_has_about_200_million_parameters():
    with torch.device("meta"): face = FaceModel(FaceConfig.paper())
    total = sum(p.numel() for p in face.parameters())
    once = sum(p.numel() for part in (face.appearance_encoder, face.canonical, face.identity_encoder,
                                      face.motion_encoder, face.to_canonical) for p in part.parameters())
    assert 190e6 < total < 225e6 and once > 0.75 * total


def test_config_refuses_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="appearance_widths"): FaceConfig(size=100)
    with pytest.raises(ValueError, match="decoder_widths"): FaceConfig(decoder_widths=(96,))
