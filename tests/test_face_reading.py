"""How poses and faces are read: symmetric in a mirror, and what the loss of reading counts."""
import pytest
import torch

from vasa_ref.face.encoders import (
    CloseUps,
    augment_light,
    corners,
    cover_parts,
    mirror,
    read_loss,
    steady,
    uneven_light,
)
from vasa_ref.face.networks import FaceConfig
from vasa_ref.face.pretraining import pose_error, pose_loss
from vasa_ref.face.reading import MotionReader
from vasa_ref.world.frames import draw_truth, random_poses, render_frames
from vasa_ref.world.head import neutral_pose, project, rotation_matrix


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def reader():
    torch.manual_seed(0)
    motion = MotionReader(FaceConfig.tiny_detail())
    torch.nn.init.normal_(motion.whole.out.weight, std=0.1)
    return motion.requires_grad_(True)


def test_the_whole_look_answers_a_mirrored_picture_with_the_mirrored_pose(reader):
    images = torch.rand(5, 3, 48, 48, generator=seeded(0))
    pose, body = reader.see(images)
    flipped, there, z_dyn = mirror(images, pose, torch.cat([torch.zeros(5, 54), body], 1))
    again, body_again = reader.see(flipped)
    assert pose[:, 0].std() > 0.01
    assert torch.allclose(again, there, atol=1e-5) and torch.allclose(body_again, z_dyn[:, 54:], atol=1e-5)


def test_corners_are_where_the_camera_sees_them():
    pose = random_poses(20, seeded(1))
    box = torch.cartesian_prod(*torch.tensor([[-0.4, 0.4], [-0.6, 0.5], [-0.8, 0.3]])) * torch.tensor([1.0, -1, -1])
    seen = project(box @ rotation_matrix(pose).mT, pose)[..., :2] * torch.tensor([1.0, -1])
    flat = corners(pose).view(20, 8, 2) * 0.03
    straight = corners(neutral_pose()).view(8, 2) * 0.03
    assert (straight.abs() - torch.tensor([0.4, 0.6])).abs().max() < 0.11
    assert (flat - seen).norm(dim=-1).median() < 0.1 * seen.norm(dim=-1).median()         # but for perspective


def test_changes_within_a_person_count_three_times_more():
    error = torch.randn(12, 6, generator=seeded(2))
    mean = error.view(3, 4, 6).mean(1, keepdim=True)
    by_hand = error.square().mean() + 3 * (error.view(3, 4, 6) - mean).square().mean()
    assert torch.allclose(steady(error, 4), by_hand)
    shared = mean.expand(3, 4, 6).reshape(12, 6)
    assert torch.allclose(steady(shared, 4), shared.square().mean())


def test_pose_loss_is_the_squared_error_in_spreads():
    a, b = random_poses(7, seeded(3)), random_poses(7, seeded(4))
    near = torch.log(a[:, 5] / b[:, 5]) / 0.15
    rest = (a - b)[:, :5] / torch.tensor([0.35, 0.2, 0.15, 0.07, 0.07])
    assert torch.allclose(pose_loss(a, b), rest.square().mean() + near.square().mean() / 5)
    assert torch.allclose(pose_error(a, b), torch.cat([rest, near[:, None]], 1))


@pytest.mark.parametrize("change", [augment_light, uneven_light, cover_parts])
def test_augmentation_is_repeatable_and_stays_in_range(change):
    images = torch.rand(40, 3, 24, 24, generator=seeded(5))
    once, again, other = (change(images, seeded(seed)) for seed in (6, 6, 7))
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert once.shape == images.shape and once.min() >= 0 and once.max() <= 1


def test_what_is_covered_hides_a_part_of_some_pictures():
    images = torch.rand(300, 3, 32, 32, generator=seeded(8))
    changed = (cover_parts(images, seeded(9)) - images).abs().amax(1) > 0.05
    share = changed.float().mean((1, 2))
    assert 0.4 < (share > 0).float().mean() < 0.7
    assert share.max() < 0.9 and share[share > 0].mean() > 0.05
    assert torch.equal(cover_parts(images, seeded(9), share=0.0), images)


def test_read_loss_teaches_both_looks(reader):
    frames = render_frames(*draw_truth(2, 2, seeded(10)), 32, seeded(10))
    close = CloseUps.render(2, 2, 37, seeded(11))
    loss, parts = read_loss(reader, frames, close._replace(images=close.images.float() / 255), seeded(12))
    assert set(parts) == {"pose", "corners", "body", "face"} and torch.allclose(sum(parts.values()), loss)
    loss.backward()
    without = [name for name, p in reader.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert not without
