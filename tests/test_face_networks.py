"""The networks of the face model: sizes, starts, gradients."""
import math

import pytest
import torch

from vasa_ref.face.networks import FaceConfig, FaceModel, FlowGenerator, align, bound_pose, standardise
from vasa_ref.geometry import neutral_pose
from vasa_ref.world.people import random_people
from vasa_ref.world.picture import make_figures, render


def generator(seed=0): return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def figures(): return make_figures(random_people(1, generator(1), plain=True), fine=False)


def pictures(figures, pose, size):
    "Somebody at rest, in poses (B, 6)."
    return render(figures, pose, torch.zeros(len(pose), 52), torch.zeros(len(pose), 2), size=size)


def poses(n, seed=0):
    x = torch.rand(n, 6, generator=generator(seed)) - 0.5
    return torch.cat([x[:, :3], 0.3 * x[:, 3:5], 1 + 0.6 * x[:, 5:]], dim=1)


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
