"""The face model that copies: shapes, oracles of its warps and losses, and a training that resumes exactly."""
from dataclasses import fields

import pytest
import torch

from vasa_ref.dynamics import from_z_dyn, to_z_dyn
from vasa_ref.detail import Appearance, DetailFace, Window, pixel_places, read_flow, sample_map
from vasa_ref.encoders256 import measure_reading, train_encoders256
from vasa_ref.face import FaceConfig, rigid_matrix, transform
from vasa_ref.face256 import FacePlan, draw_loss, evaluate, point_losses, random_window, share_loss, train_face256
from vasa_ref.weights import save_tensors
from vasa_ref.world.frames import POINTS_KEPT, Frames, kept_points
from vasa_ref.world.people import random_people

TINY = FaceConfig(size=32, volume_channels=4, volume_depth=4, volume_size=4, z_id_dim=8, z_dyn_dim=57, detail=True,
                  appearance_widths=(8, 8, 16), canonical_widths=(8, 8), decoder_widths=(16, 16, 8), decoder_blocks=1,
                  identity_size=32, identity_widths=(8, 16), pose_size=32, pose_widths=(8, 16), motion_size=32, motion_widths=(8, 16),
                  plane_widths=(16, 16, 8))


@pytest.fixture(scope="module")
def face():
    torch.manual_seed(0)
    return DetailFace(TINY).eval()


def random_pose(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.4, 0.2, 0.2, 0.1, 0.1])
    return torch.cat([scale * torch.randn(n, 5, generator=g).clamp(-1, 1), 0.9 + 0.3 * torch.rand(n, 1, generator=g)], 1)


def random_frames(people=4, frames=3, size=32, seed=0):
    g = torch.Generator().manual_seed(seed)
    rand = lambda *s: torch.rand(*s, generator=g)
    who = random_people(people, g).flat()
    return Frames(rand(people, frames, 3, size, size), (rand(people, frames, 1, size, size) > 0.5).float(),
                  random_pose(people * frames, seed).view(people, frames, 6), 0.3 * rand(people, frames, 54), 0.1 * rand(people, frames, 3),
                  rand(people, frames, POINTS_KEPT, 3) - 0.5, rand(people, frames, POINTS_KEPT) > 0.3, rand(people, POINTS_KEPT, 3) - 0.5,
                  rand(people, frames, 3, 2) - 0.5, who)


def portrait(face, n, pose, seed=0):
    images = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    z_id = face.identity(images)
    return images, z_id, face.appearance(images, z_id, (pose, torch.zeros(n, 57)))


def test_drawn_shapes_and_range(face):
    pose = random_pose(2)
    images, z_id, a = portrait(face, 2, pose)
    drawn = face.draw(a, z_id, random_pose(2, 1), torch.zeros(2, 57))
    assert drawn.image.shape == drawn.copy.shape == drawn.mirrored.shape == drawn.paint.shape == images.shape
    assert drawn.logits.shape == (2, 4, 32, 32)
    assert drawn.place.shape == (2, 2, 16, 16) and drawn.depth.shape == (2, 1, 8, 8)
    one = Appearance(*(x[:1] for x in a[:-1]), tuple(x[:1] for x in a.maps))
    frames = face.decode(one, z_id[:1], random_pose(3), torch.zeros(3, 57))
    assert frames.shape == (3, 3, 32, 32) and 0 <= frames.min() and frames.max() <= 1
    assert face(images, images).shape == images.shape


def test_frames_in_a_batch_are_those_drawn_alone(face):
    images, z_id, a = portrait(face, 2, random_pose(2))
    pose, z_dyn = random_pose(4, 1), torch.randn(4, 57, generator=torch.Generator().manual_seed(2))
    together = face.draw(a.repeat(2), z_id.repeat_interleave(2, 0), pose, z_dyn).image.clamp(0, 1)
    one = Appearance(*(x[1:] for x in a[:-1]), tuple(x[1:] for x in a.maps))
    torch.testing.assert_close(face.decode(one, z_id[1:], pose[2:], z_dyn[2:]), together[2:], rtol=1e-3, atol=1e-4)


def test_untaught_warps_of_the_same_pose_copy_the_portrait_exactly(face):
    "Flows start at zero: rigid and its inverse cancel, whatever the depth, and the copied path is the picture itself."
    pose = random_pose(2)
    images, z_id, a = portrait(face, 2, pose)
    drawn = face.draw(a, z_id, pose, torch.zeros(2, 57))
    torch.testing.assert_close(drawn.place, pixel_places(16, 16).expand(2, -1, -1, -1), rtol=0, atol=1e-5)
    places = pixel_places(32, 32).expand(2, -1, -1, -1)
    torch.testing.assert_close(sample_map(images, places), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(drawn.copy, images, rtol=0, atol=1e-4)


def test_shares_choose_between_copy_source_and_paint(face):
    images, z_id, a = portrait(face, 1, random_pose(1))
    drawn = face.draw(a, z_id, random_pose(1, 1), torch.zeros(1, 57))
    shares = drawn.logits.softmax(1)
    mixed = shares[:, :1] * (drawn.copy + drawn.shade) + shares[:, 1:2] * images + shares[:, 2:3] * drawn.paint
    mixed = mixed + shares[:, 3:] * (drawn.mirrored + drawn.shade)
    torch.testing.assert_close(drawn.image, mixed)


def test_a_window_is_that_part_of_the_frame(face):
    "But for its rim, which the convolutions pad."
    images, z_id, a = portrait(face, 2, random_pose(2))
    drive = z_id, random_pose(2, 1), torch.zeros(2, 57)
    window = random_window(torch.zeros(2, 3, 2), 32, 20, torch.Generator().manual_seed(0))
    assert window.corners.min() >= 0 and window.corners.max() <= 6 and window.side == 10
    whole, part = face.draw(a, *drive), face.draw(a, *drive, window=window)
    assert part.image.shape == (2, 3, 20, 20)
    inner = (slice(None), slice(None), slice(6, -6), slice(6, -6))
    torch.testing.assert_close(part.image[inner], window.crop(whole.image, 2)[inner], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(part.copy, window.crop(whole.copy, 2))


def test_constant_flow_is_read_as_itself():
    flow = torch.tensor([0.1, -0.2, 0.3]).view(1, 3, 1, 1, 1).expand(1, 3, 2, 4, 4)
    read = read_flow(flow, torch.rand(1, 5, 7, 3) - 0.5)
    torch.testing.assert_close(read, torch.tensor([0.1, -0.2, 0.3]).expand(1, 5, 7, 3))


def test_point_losses_vanish_for_true_warps_and_not_for_others(face):
    "Points of a rigid head, which zero flows map exactly, at the depth that the untaught decoder believes in."
    source_pose, pose = random_pose(2), random_pose(2, 1)
    images, z_id, a = portrait(face, 2, source_pose)
    flow = face.drive(a, z_id, pose, torch.zeros(2, 57))
    drawn = face.draw(a, z_id, pose, torch.zeros(2, 57), flow)
    xy = torch.rand(2, 50, 2, generator=torch.Generator().manual_seed(3)) - 0.5
    points = torch.cat([xy, torch.full((2, 50, 1), -0.3).tanh()], 2)
    rest = transform(rigid_matrix(pose, inverse=True), points)
    told = transform(rigid_matrix(source_pose), rest)
    seen, weight = torch.ones(2, 50, dtype=torch.bool), torch.ones(50)
    losses = lambda rest, told: point_losses(face, a, a, drawn, flow, pose, rest, (told, told), points, seen, weight)
    for name, value in losses(rest, told).items(): assert value < 1e-5, name
    wrong = losses(rest + 0.1, told + 0.1)
    assert min(wrong["to"], wrong["back"]) > 0.05 and wrong["place"] > 0.1
    nothing = point_losses(face, a, a, drawn, flow, pose, rest, (told, told + 1), points, ~seen, weight)
    assert nothing["place"] == nothing["back"] == 0


def test_share_loss_is_lowest_for_what_is_known():
    mask, source_mask = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., :4], source_mask[..., 2:6] = 1, 1                                    # person 0-3, uncovered 4-5, bare 6-7
    points = torch.tensor([[[-0.875, 0.0, 0.0], [-0.375, 0.0, 0.0]]])
    told = points, torch.ones(1, 2, dtype=torch.bool), torch.tensor([[True, False]])
    right = torch.full((1, 4, 8, 8), -20.0)
    right[:, 0, :, :2], right[:, 2, :, 2:6], right[:, 1, :, 6:] = 20, 20, 20
    good, bad = share_loss(right, mask, source_mask, told), share_loss(right.roll(1, 1), mask, source_mask, told)
    assert good < 1e-3 < 1 < bad


def test_every_part_of_the_face_learns(face):
    frames = random_frames()
    teachable = DetailFace(TINY)
    teachable.motion_encoder.requires_grad_(False)
    for flow in (teachable.to_canonical, teachable.from_canonical, ):
        torch.nn.init.normal_(flow.out.weight, std=0.1)                            # zero layers let nothing through at the first step
    for conv in (teachable.decoder.depth, teachable.decoder.move, teachable.decoder.shade): torch.nn.init.normal_(conv.weight, std=0.1)
    loss, parts = draw_loss(teachable, frames, FacePlan(), kept_points()[1])
    loss.backward()
    still = [n for n, p in teachable.named_parameters() if p.requires_grad and (p.grad is None or p.grad.abs().max() == 0)]
    assert not still
    window = Window(torch.tensor([[0, 3]]).repeat(8, 1), 8)
    assert all(x.isfinite() for x in draw_loss(teachable, frames, FacePlan(), kept_points()[1], window)[1].values())
    figures = evaluate(teachable.eval(), frames)
    assert figures["px"] > 0 and figures["psnr"] > 0


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    frames = random_frames(16, 5, 64)
    tensors = {f.name: getattr(frames, f.name) for f in fields(Frames)}
    tensors |= {name: (tensors[name] * 255).byte() for name in ("images", "masks")} | {n: tensors[n].half() for n in ("points", "rest")}
    save_tensors(folder / "00000.safetensors", tensors, {})
    return folder


def test_training_resumes_exactly(pool, tmp_path):
    plan = FacePlan(pairs=1, drivers=2, sizes=((0, 32), (2, 64)))
    run = lambda folder, steps, resume=None: train_face256(pool, pool, out=tmp_path / folder, max_steps=steps, plan=plan, config=TINY,
                                                           resume=resume)
    whole = run("whole", 4)
    run("parts", 2)
    parts = run("parts", 4, tmp_path / "parts")
    for (name, a), b in zip(whole.state_dict().items(), parts.state_dict().values()): assert torch.equal(a, b), name
    assert (tmp_path / "parts/face.safetensors").is_file()


def test_encoders_learn_and_are_measured(pool, tmp_path):
    motion = train_encoders256(pool, pool, out=tmp_path, max_steps=3, pairs=2, frames=2, config=TINY)
    figures = measure_reading(motion, random_frames())
    assert 0 < figures["pose_deg"] < 90 and figures["units_r2"] < 1
    assert (tmp_path / "encoders.safetensors").is_file()


def test_dynamics_there_and_back():
    units, gaze, body = torch.rand(3, 52), torch.randn(3, 2), torch.randn(3, 3)
    read = from_z_dyn(to_z_dyn(units, gaze, body))
    for got, wanted in zip(read, (units, gaze, body)): torch.testing.assert_close(got, wanted)
