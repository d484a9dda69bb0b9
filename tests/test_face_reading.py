"""How poses and faces are read: symmetric in a mirror, and what the loss of reading counts."""
import pytest
import torch

from vasa_ref.dynamics import mirror_dynamics
from vasa_ref.errors import VasaError
from vasa_ref.face.detail import load_face, sample_map
from vasa_ref.face.encoders import (
    CloseUps,
    augment_light,
    corners,
    cover_parts,
    error_and_change,
    mirror,
    mirror_frames,
    read_loss,
    recolour,
    train_encoders,
    true_dynamics,
    uneven_light,
    unit_weights,
)
from vasa_ref.face.networks import FaceConfig
from vasa_ref.face.pretraining import pose_error, pose_loss
from vasa_ref.face.reading import FACE_CENTRE, FACE_REACH, MotionReader, correct_pose, face_crop, seen_angles
from vasa_ref.training import Run
from vasa_ref.units import SIDES, UNIT, UNITS
from vasa_ref.world.frames import draw_truth, random_poses, render_frames
from vasa_ref.world.head import neutral_pose, project, rotation_matrix
from vasa_ref.world.people import person
from vasa_ref.world.picture import make_figures, render


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def reader():
    torch.manual_seed(0)
    motion = MotionReader(FaceConfig.tiny_detail())
    for look in (motion.whole, motion.face): torch.nn.init.normal_(look.out.weight, std=0.1)
    return motion.requires_grad_(True)


def test_the_whole_look_answers_a_mirrored_picture_with_the_mirrored_pose(reader):
    images = torch.rand(5, 3, 48, 48, generator=seeded(0))
    (pose, body), (flipped, body_flipped) = reader.see(images), reader.see(images.flip(-1))
    mirror = torch.diag(torch.tensor([-1.0, 1, 1]))
    assert pose[:, 0].std() > 0.01 and body.std() > 0.01
    assert torch.allclose(rotation_matrix(flipped), mirror @ rotation_matrix(pose) @ mirror, atol=1e-5)
    assert torch.allclose(flipped[:, 3:], pose[:, 3:] * torch.tensor([-1.0, 1, 1]), atol=1e-5)
    assert torch.allclose(body_flipped, body * torch.tensor([-1.0, -1, 1]), atol=1e-5)       # turn, lean, lift


def test_the_close_look_answers_a_mirrored_face_with_the_mirrored_dynamics_and_correction(reader):
    crops, pose = torch.rand(5, 3, 32, 32, generator=seeded(0)), random_poses(5, seeded(1))
    signs = torch.tensor([-1.0, 1, -1, -1, 1, 1])
    (by, seen), (by_flipped, flipped) = reader.look(crops, pose), reader.look(crops.flip(-1), signs * pose)
    assert seen.std(0).amin() > 0.001 and (seen - flipped).abs().max() > 0.01 and by.std(0).amin() > 0.001
    assert torch.allclose(flipped, mirror_dynamics(seen), atol=1e-5)
    assert torch.allclose(by_flipped, signs * by, atol=1e-5)
    mirrored = [correct_pose(*both) for both in ((pose, by), (signs * pose, signs * by))]
    assert torch.allclose(mirrored[1], signs * mirrored[0], atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_correction_moves_the_crop_by_its_own_measures(seed):
    pose = random_poses(6, seeded(seed))
    by = torch.tensor([[0.0, 0, 0, 1, 0, 0], [0.0, 0, 0, 0, 1, 0]])
    spot = lambda pose: pose[:, 3:5] + (rotation_matrix(pose) @ torch.tensor(FACE_CENTRE))[:, :2] / pose[:, 5:]
    c, s, half = pose[:, 2].cos(), pose[:, 2].sin(), FACE_REACH / pose[:, 5]
    for one, aside in zip(by, (torch.stack([c, -s], 1), torch.stack([-s, -c], 1))):       # to its right, down
        moved = spot(correct_pose(pose, one.expand(6, -1))) - spot(pose)
        assert torch.allclose(moved, 0.1 * half[:, None] * aside, atol=1e-5)
    nearer = correct_pose(pose, torch.tensor([[1.0, 2, -1, 0, 0, -1]]).expand(6, -1))
    assert torch.allclose(nearer[:, 2], pose[:, 2] - 0.1, atol=1e-6)
    unrolled = nearer.clone()
    unrolled[:, 2] = pose[:, 2]
    assert torch.allclose(seen_angles(unrolled) - seen_angles(pose), torch.tensor([0.1, 0.2]).expand(6, -1), atol=1e-6)
    assert torch.allclose(nearer[:, 5], pose[:, 5] * torch.tensor(-0.1).exp())
    assert torch.equal(correct_pose(pose, torch.zeros(6, 6)), pose)


def test_angles_are_told_as_an_upright_crop_shows_them():
    pose = random_poses(200, seeded(0))
    upright = rotation_matrix(torch.nn.functional.pad(-pose[:, 2:3], (2, 3))) @ rotation_matrix(pose)
    shown = torch.stack([torch.atan2(upright[:, 0, 2], upright[:, 2, 2]), upright[:, 1, 2].asin()], 1)
    off = (seen_angles(pose) - shown).square().mean(0).sqrt()
    assert (off < 0.2 * (pose[:, :2] - shown).square().mean(0).sqrt()).all()


def test_corrections_are_limited_whatever_the_picture_shows(reader):
    pictures = torch.stack([torch.zeros(3, 48, 48), torch.ones(3, 48, 48), torch.rand(3, 48, 48, generator=seeded(0))])
    with torch.no_grad(): pose, code = reader(20 * pictures)
    first = reader.see(20 * pictures)[0]
    assert pose.isfinite().all() and code.isfinite().all() and (pose[:, 5] > 0).all()
    assert ((pose - first)[:, 2].abs() <= 0.51).all() and ((pose[:, 5] / first[:, 5]).log().abs() <= 0.51).all()


def test_a_pose_that_is_told_places_the_crop_and_is_not_corrected(reader):
    images, pose = torch.rand(3, 3, 48, 48, generator=seeded(0)), random_poses(3, seeded(1))
    told, code = reader(images, pose)
    assert torch.equal(told, pose)
    by, face = reader.look(face_crop(images, pose, reader.size), pose)
    assert torch.allclose(code[:, :54], face, atol=1e-6)
    first = reader.see(images)[0]
    by, _ = reader.look(face_crop(images, first, reader.size), first)
    assert torch.allclose(reader(images)[0], correct_pose(first, by), atol=1e-6) and by.abs().max() > 0.01


def test_dynamics_of_a_mirrored_picture_are_the_mirrored_dynamics(reader):
    images, pose = torch.rand(5, 3, 48, 48, generator=seeded(0)), random_poses(5, seeded(1))
    _, seen = reader(images, pose)
    _, flipped = reader(*mirror(images, pose, seen)[:2])
    assert torch.allclose(flipped, mirror_dynamics(seen), atol=1e-4)


@pytest.mark.parametrize("size", [54, 57])
def test_dynamics_in_a_mirror(size):
    code = torch.randn(4, 3, size, generator=seeded(0))
    flipped = mirror_dynamics(code)
    assert torch.equal(mirror_dynamics(flipped), code)
    for name, other in {"eyeBlinkLeft": "eyeBlinkRight", "mouthRight": "mouthLeft", "jawOpen": "jawOpen"}.items():
        assert UNITS[SIDES[UNIT[name]]] == other
        assert torch.equal(flipped[..., UNIT[other]], code[..., UNIT[name]])
    signs = torch.tensor([-1.0, 1, -1, -1, 1])[:size - 52]                  # gaze aside and up, turn, lean, lift
    assert torch.equal(flipped[..., 52:], code[..., 52:] * signs)


def test_frames_in_a_mirror_keep_each_point_on_its_colour():
    frames = render_frames(*draw_truth(2, 2, seeded(0)), 64, seeded(0))
    flipped = mirror_frames(frames)
    colours = lambda of, at: sample_map(of.images.flatten(0, 1), at.flatten(0, 1)[..., :2].movedim(-1, 1)[:, :, None])
    assert torch.allclose(colours(flipped, flipped.points), colours(frames, frames.points), atol=1e-4)
    left, right, mouth = colours(frames, frames.marks).unbind(-1)
    assert torch.allclose(colours(flipped, flipped.marks), torch.stack([right, left, mouth], -1), atol=1e-4)
    assert (left - right).abs().max() > 0.01 and torch.equal(flipped.masks.flip(-1), frames.masks)
    for name, aside in {"rest": [0], "pose": [0, 2, 3]}.items():
        before, after = getattr(frames, name), getattr(flipped, name)
        signs = torch.ones(before.shape[-1]).index_fill(0, torch.tensor(aside), -1)
        assert torch.equal(after, before * signs)
    assert torch.allclose(true_dynamics(flipped), mirror_dynamics(true_dynamics(frames)))


def test_new_colours_are_the_same_in_all_frames_of_a_person():
    frames = render_frames(*draw_truth(2, 2, seeded(0)), 64, seeded(0))
    frames.images = frames.images[:, :1].expand(-1, 2, -1, -1, -1)
    for seed in range(3):
        images = recolour(frames, seeded(seed), share=1.0).images
        assert torch.equal(images[:, 0], images[:, 1]) and 0 <= images.min() and images.max() <= 1
        assert ((images - frames.images).abs().amax((1, 2, 3, 4)) > 0.02).all()
    assert torch.equal(recolour(frames, seeded(0), share=0.0).images, frames.images)


def test_units_that_move_little_weigh_more():
    weights = unit_weights()
    assert weights.mean().item() == pytest.approx(1) and (weights > 0).all()
    assert torch.equal(weights, weights[list(SIDES)])
    assert weights[UNIT["cheekPuff"]] > weights[UNIT["mouthLeft"]] > weights[UNIT["mouthSmileLeft"]]


def test_shoulders_in_a_mirror_are_the_mirrored_shoulders():
    figure, even = make_figures(person(46)), torch.tensor([[0.0, 0, 0, 0, 0, 1.3, 0, 1, 1, 1]])
    still = lambda body: render(figure, neutral_pose(), torch.zeros(1, 52), torch.zeros(1, 2), body, even, size=96)
    body = torch.tensor([[0.24, 0.08, 0.03]])
    flipped = still(body).flip(-1)[..., 72:, :]
    off = {name: (still(body * torch.tensor([signs])) [..., 72:, :] - flipped).abs().mean()
           for name, signs in {"right": [-1.0, -1, 1], "turn": [1.0, -1, 1], "lean": [-1.0, 1, 1],
                               "lift": [-1.0, -1, -1]}.items()}
    assert all(off["right"] < 0.8 * off[name] for name in ("turn", "lean", "lift")), off


BOX = torch.cartesian_prod(*torch.tensor([[-0.4, 0.4], [-0.6, 0.5], [-0.8, 0.3]]))           # right, down, away


def test_corners_are_where_the_camera_sees_them():
    assert torch.allclose(corners(neutral_pose()).view(8, 2) * 0.03, BOX[:, :2], atol=1e-5)
    pose, flip = random_poses(20, seeded(1)), torch.tensor([1.0, -1, -1])
    seen = project(BOX * flip @ rotation_matrix(pose).mT, pose)[..., :2] * flip[:2]
    flat = corners(pose).view(20, 8, 2) * 0.03
    assert (flat - seen).norm(dim=-1).median() < 0.1 * seen.norm(dim=-1).median()         # but for perspective


def test_corners_keep_their_digits_in_mixed_precision():
    pose = random_poses(20, seeded(1))
    with torch.autocast("cpu", torch.bfloat16): mixed = corners(pose)
    assert mixed.dtype == torch.float32 and torch.equal(mixed, corners(pose))


def test_changes_within_a_person_count_three_times_more():
    error = torch.randn(12, 6, generator=seeded(2))
    mean = error.view(3, 4, 6).mean(1, keepdim=True)
    by_hand = error.square().mean() + 3 * (error.view(3, 4, 6) - mean).square().mean()
    assert torch.allclose(error_and_change(error, 4), by_hand)
    shared = mean.expand(3, 4, 6).reshape(12, 6)
    assert torch.allclose(error_and_change(shared, 4), shared.square().mean())


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


def batch():
    frames = render_frames(*draw_truth(2, 2, seeded(10)), 32, seeded(10))
    close = CloseUps.render(2, 2, 37, seeded(11))
    return frames, close._replace(images=close.images.float() / 255)


def test_read_loss_teaches_both_looks(reader):
    loss, parts = read_loss(reader, *batch(), seeded(12))
    assert set(parts) == {"pose", "corners", "body", "face", "correction"}
    loss.backward()
    dead = [name for name, p in reader.named_parameters()
            if p.grad is None or not p.grad.isfinite().all() or p.grad.abs().max() == 0]
    assert not dead


def test_read_loss_is_least_for_the_truth(reader, monkeypatch):
    frames, close = batch()
    def parts_of(turn):
        monkeypatch.setattr("vasa_ref.face.encoders.moved", lambda images, pose, generator: (images, pose))
        told = frames.pose.flatten(0, 1) + torch.tensor([1.0, 0, 0, 0, 0, 0]) * torch.tensor(turn)[:, None]
        monkeypatch.setattr(reader, "see", lambda images: (told, torch.zeros(4, 3)))
        return read_loss(reader, frames, close, seeded(13))[1]
    right, shared, apart = parts_of([0.0] * 4), parts_of([0.1] * 4), parts_of([0.1, -0.1] * 2)
    assert right["pose"] == 0 and right["corners"] == 0
    by_hand = (0.1 / 0.35) ** 2 / 6
    assert shared["pose"].item() == pytest.approx(by_hand, rel=1e-4)
    assert apart["pose"].item() == pytest.approx(4 * by_hand, rel=1e-4)
    assert apart["corners"] > 2 * shared["corners"] > 0


def test_what_is_left_of_a_pose_s_error_costs_something(monkeypatch):
    torch.manual_seed(0)
    motion, (frames, close), found = MotionReader(FaceConfig.tiny_detail()), batch(), []   # new: it corrects nothing
    monkeypatch.setattr("vasa_ref.face.encoders.moved", lambda images, pose, generator: (images, pose))
    for seen, close_up in ((0.0, 0.0), (0.3, 0.0), (0.6, 0.0), (0.0, 0.3)):
        told = correct_pose(frames.pose.flatten(0, 1), torch.full((4, 6), seen))
        monkeypatch.setattr(motion, "see", lambda images: (told, torch.zeros(4, 3)))
        monkeypatch.setattr("vasa_ref.face.encoders.placing_error", lambda n, generator: torch.full((n, 6), close_up))
        found.append(read_loss(motion, frames, close, seeded(13))[1]["correction"].item())
    assert found[0] == pytest.approx(0, abs=1e-9) and found[2] > 3 * found[1] > 0.1 and found[3] > 0.1


def test_an_encoder_of_other_sizes_cannot_be_gone_on_with(tmp_path, reader):
    run = Run(max_steps=1, out=tmp_path, quiet=True)
    with pytest.raises(VasaError, match="other sizes"):
        train_encoders(None, None, None, run, config=FaceConfig.laptop(), start=reader)


def test_the_shipped_face_has_the_sizes_of_its_preset():
    assert load_face("laptop").config == FaceConfig.laptop()
