"""The face model that copies: shapes, oracles of its warps and losses, and a training that resumes exactly."""
import json
from dataclasses import fields, replace

import pytest
import torch

from vasa_ref.dynamics import from_z_dyn, to_z_dyn
from vasa_ref.errors import VasaError
from vasa_ref.face.detail import (
    Appearance,
    DetailFace,
    build_face,
    face_config,
    load_face,
    pixel_places,
    read_flow,
    sample_map,
    sharpen,
)
from vasa_ref.face.encoders import CloseUps, measure_reading, mirror, moved, train_encoders
from vasa_ref.face.networks import FaceConfig, FaceModel
from vasa_ref.face.reading import face_crop
from vasa_ref.face.training import (
    FacePlan,
    contact_sheet,
    draw_loss,
    evaluate,
    expression_loss,
    point_losses,
    share_loss,
    train_detail,
    train_face,
)
from vasa_ref.face.warps import rigid_matrix, transform
from vasa_ref.store import read_tensors, save_tensors, save_weights
from vasa_ref.training import Run
from vasa_ref.world.frames import POINTS_KEPT, Frames, Pool, kept_points, random_bodies, random_dynamics, random_poses
from vasa_ref.world.head import UNIT
from vasa_ref.world.people import random_people
from vasa_ref.world.picture import make_figures, random_shots, render

TINY = FaceConfig.tiny_detail()


@pytest.fixture(scope="module")
def face():
    torch.manual_seed(0)
    return DetailFace(TINY).eval()


def random_pose(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.4, 0.2, 0.2, 0.1, 0.1])
    return torch.cat([scale * torch.randn(n, 5, generator=g).clamp(-1, 1), 0.9 + 0.3 * torch.rand(n, 1, generator=g)],
                     1)


def random_frames(people=4, frames=3, size=32, seed=0):
    g = torch.Generator().manual_seed(seed)
    rand = lambda *s: torch.rand(*s, generator=g)
    who = random_people(people, g).flat()
    return Frames(rand(people, frames, 3, size, size), (rand(people, frames, 1, size, size) > 0.5).float(),
                  random_pose(people * frames, seed).view(people, frames, 6), 0.3 * rand(people, frames, 54),
                  0.1 * rand(people, frames, 3),
                  rand(people, frames, POINTS_KEPT, 3) - 0.5, rand(people, frames, POINTS_KEPT) > 0.3,
                  rand(people, POINTS_KEPT, 3) - 0.5,
                  rand(people, frames, 3, 2) - 0.5, who)


def portrait(face, n, pose, seed=0):
    images = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    z_id = face.identity(images)
    return images, z_id, face.appearance(images, z_id, (pose, torch.zeros(n, 57)))


def test_drawn_shapes_and_range(face):
    pose = random_pose(2)
    images, z_id, a = portrait(face, 2, pose)
    drawn = face.draw(a, z_id, random_pose(2, 1), torch.zeros(2, 57))
    assert drawn.image.shape == drawn.copy.shape == drawn.front.shape == drawn.paint.shape == images.shape
    assert drawn.logits.shape == (2, 4, 32, 32)
    assert drawn.place.shape == (2, 2, 16, 16) and drawn.depth.shape == (2, 1, 8, 8)
    one = Appearance(*(x[:1] for x in a[:-2]), *(tuple(x[:1] for x in many) for many in a[-2:]))
    frames = face.decode(one, z_id[:1], random_pose(3), torch.zeros(3, 57))
    assert frames.shape == (3, 3, 32, 32) and 0 <= frames.min() and frames.max() <= 1
    assert face(images, images).shape == images.shape


def test_frames_in_a_batch_are_those_drawn_alone(face):
    images, z_id, a = portrait(face, 2, random_pose(2))
    pose, z_dyn = random_pose(4, 1), torch.randn(4, 57, generator=torch.Generator().manual_seed(2))
    together = face.draw(a.repeat(2), z_id.repeat_interleave(2, 0), pose, z_dyn).image.clamp(0, 1)
    one = Appearance(*(x[1:] for x in a[:-2]), *(tuple(x[1:] for x in many) for many in a[-2:]))
    torch.testing.assert_close(face.decode(one, z_id[1:], pose[2:], z_dyn[2:]), together[2:], rtol=1e-3, atol=1e-4)


def test_untaught_warps_of_the_same_pose_copy_the_portrait_exactly(face):
    "Flows start at zero: rigid and its inverse cancel, whatever the depth, and the copied path is the picture itself."
    pose = random_pose(2)
    images, z_id, a = portrait(face, 2, pose)
    drawn = face.draw(a, z_id, pose, torch.zeros(2, 57))
    torch.testing.assert_close(drawn.place, pixel_places(16, 16).expand(2, -1, -1, -1), rtol=0, atol=1e-5)
    places = pixel_places(32, 32).expand(2, -1, -1, -1)
    torch.testing.assert_close(sample_map(images, places), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(drawn.copy, sharpen(images), rtol=0, atol=1e-4)


def test_shares_choose_between_copy_source_and_paint(face):
    images, z_id, a = portrait(face, 1, random_pose(1))
    drawn = face.draw(a, z_id, random_pose(1, 1), torch.zeros(1, 57))
    shares = drawn.logits.softmax(1)
    mixed = shares[:, :1] * (drawn.copy + drawn.shade) + shares[:, 1:2] * images + shares[:, 2:3] * drawn.paint
    mixed = mixed + shares[:, 3:] * (drawn.front + drawn.shade)
    torch.testing.assert_close(drawn.image, mixed)


def test_networks_may_see_less_than_is_copied():
    "With untrained flows nothing moves: what is copied is the source, at its full size."
    torch.manual_seed(0)
    small = DetailFace(replace(TINY, size=64, shrink=2)).eval().requires_grad_(False)
    images, pose = torch.rand(2, 3, 64, 64), random_pose(2)
    a = small.appearance(images, small.identity(images), (pose, torch.zeros(2, 57)))
    assert a.volume.shape[3:] == (4, 4) and [m.shape[-1] for m in a.maps] == [16, 8, 4]
    drawn = small.draw(a, small.identity(images), pose, torch.zeros(2, 57))
    assert drawn.image.shape == drawn.paint.shape == (2, 3, 64, 64) and drawn.logits.shape == (2, 4, 64, 64)
    torch.testing.assert_close(drawn.copy, sharpen(images), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="shrink 3"): replace(TINY, shrink=3)


def test_sharpening_adds_half_of_what_is_fine():
    image = torch.full((1, 1, 5, 5), 0.2)
    image[..., 2, 2] = 0.38                                       # the mean around it is 0.22
    sharp = sharpen(image)
    torch.testing.assert_close(sharp[0, 0, 2, 2], torch.tensor(0.46))
    torch.testing.assert_close(sharp[0, 0, 1, 1], torch.tensor(0.19))
    torch.testing.assert_close(sharp[0, 0, 0], torch.tensor([0.2] * 5))
    assert sharpen(torch.eye(8).view(1, 1, 8, 8)).aminmax() == (0, 1)


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
    nowhere, everywhere = torch.zeros(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    cost = lambda logits, inside=nowhere, moving=nowhere: share_loss(logits, mask, source_mask, told, inside, moving)
    assert cost(right) < 1e-3 < 1 < cost(right.roll(1, 1))
    front = right.clone()
    front[:, [0, 3], :, :2] = right[:, [3, 0], :, :2]                               # the first point is from the front
    assert cost(front) > 1 and cost(front, moving=everywhere) < 1e-3
    worse = right.clone()
    # the second point is copied, not painted
    worse[:, :, :, 2:4] = right.roll(2, 1)[:, :, :, 2:4]
    skin, teeth = (cost(worse, torch.tensor([False, which])) for which in (False, True))
    # alone of its kind, either counts the same
    assert skin == teeth > 1


def test_every_part_of_the_face_learns(face):
    frames = random_frames()
    teachable = DetailFace(TINY)
    teachable.motion_encoder.requires_grad_(False)
    for flow in (teachable.to_canonical, teachable.from_canonical, ):
        # zero layers let nothing through at the first step
        torch.nn.init.normal_(flow.out.weight, std=0.1)
    for conv in (teachable.decoder.depth, teachable.decoder.move, teachable.decoder.shade):
        torch.nn.init.normal_(conv.weight, std=0.1)
    loss, parts = draw_loss(teachable, frames, FacePlan(), kept_points()[1])
    loss.backward()
    still = [n for n, p in teachable.named_parameters()
             if p.requires_grad and (p.grad is None or p.grad.abs().max() == 0)]
    assert not still
    figures = evaluate(teachable.eval(), frames)
    assert figures["px"] > 0 and figures["psnr"] > 0


def test_expressions_are_told_by_an_encoder_that_does_not_learn_from_it():
    frames, teachable = random_frames(), DetailFace(TINY)
    teachable.motion_encoder.requires_grad_(False)
    images, pose = frames.images[:, 1], frames.pose[:, 1]
    assert expression_loss(teachable, images, images, pose) == 0
    assert expression_loss(teachable, images.flip(0), images, pose) > 0
    loss, parts = draw_loss(teachable, frames, FacePlan(expression=2.0), kept_points()[1])
    torch.testing.assert_close(loss, sum(parts.values()))
    parts["expression"].backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in teachable.decoder.parameters())
    assert all(p.grad is None for p in teachable.motion_encoder.parameters())
    assert "expression" not in draw_loss(teachable, frames, FacePlan(), kept_points()[1])[1]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    frames = random_frames(16, 5, 64)
    tensors = {f.name: getattr(frames, f.name) for f in fields(Frames)}
    tensors |= {name: (tensors[name] * 255).byte()
                for name in ("images", "masks")} | {n: tensors[n].half() for n in ("points", "rest")}
    save_tensors(folder / "00000.safetensors", tensors, {})
    return Pool.open(folder)


def test_training_resumes_exactly(pool, tmp_path):
    plan = FacePlan(pairs=1, drivers=2)
    def run(folder, steps, resume=None):
        job = Run(out=tmp_path / folder, max_steps=steps, resume=resume, quiet=True)
        return train_detail(pool, random_frames, job, plan=plan, config=TINY)[0]
    whole = run("whole", 4)
    run("parts", 2)
    parts = run("parts", 4, tmp_path / "parts")
    for (name, a), b in zip(whole.state_dict().items(), parts.state_dict().values()): assert torch.equal(a, b), name
    assert (tmp_path / "parts/face-joint/face.safetensors").is_file()


def test_training_sees_people_in_a_mirror_and_in_other_colours(pool, tmp_path, monkeypatch):
    from vasa_ref.face import training
    seen = []
    def stop(face, frames, *rest):
        seen.append(frames)
        return next(face.decoder.parameters()).sum() * 0, {}
    monkeypatch.setattr(training, "draw_loss", stop)
    def shown(**given):
        seen.clear()
        plan = FacePlan(pairs=1, drivers=2, measure=10_000, **given)
        run = Run(max_steps=12, quiet=True, out=tmp_path / str(given))
        train_detail(pool, random_frames, run, plan=plan, config=TINY)
        return seen[:12]
    known = pool.files[0].get_tensor("pose")[..., 0].flatten()
    is_known = lambda yaw: (yaw.flatten()[:, None] - known).abs().amin(1).amax() < 1e-6
    plain = [is_known(frames.pose[..., 0]) for frames in shown(mirror=0.5)]
    assert 1 < sum(plain) < 11 and all(is_known(frames.pose[..., 0]) for frames in shown(mirror=0.0))
    assert all(is_known(-frames.pose[..., 0]) for frames in shown(mirror=1.0))
    plain, painted = shown(mirror=0.0), shown(mirror=0.0, recolour=1.0)
    assert any((a.images - b.images).abs().max() > 0.02 for a, b in zip(plain, painted))


def test_encoders_learn_and_are_measured(pool, tmp_path):
    close = CloseUps(torch.randint(256, (6, 3, 40, 40), dtype=torch.uint8), random_frames().pose.flatten(0, 1)[:6],
                     torch.randn(6, 54))
    motion, steps = train_encoders(pool, close, random_frames, Run(out=tmp_path, max_steps=3, quiet=True), pairs=2,
                                   frames=2, crops=4, config=TINY)
    figures = measure_reading(motion, random_frames())
    assert 0 < figures["pose_deg"] < 90 and figures["units_r2"] < 1 and steps == 3
    assert (tmp_path / "face-encoders/encoders.safetensors").is_file()


def test_close_ups_are_faces_and_are_kept(tmp_path):
    """What `face_crop` takes from a close-up is what it takes from the whole picture, whose pose is another."""
    path = tmp_path / "close.safetensors"
    one = CloseUps.make(path, 8, 48, seed=3)
    again = CloseUps.make(path, 8, 48, seed=3)
    assert one.images.shape == (96, 3, 48, 48) and torch.equal(one.images, again.images)
    twice = CloseUps(*(torch.cat([x, x.flip(0)]) for x in one))
    save_tensors(tmp_path / "more.safetensors", twice._asdict(), {})
    fewer = CloseUps.make(tmp_path / "more.safetensors", 8, 48, seed=3)              # of what is kept, the first
    assert all(map(torch.equal, fewer, one)) and len(read_tensors(tmp_path / "more.safetensors")[0]["images"]) == 192
    with pytest.raises(VasaError, match="close-ups of 48 pixels, expected 56"): CloseUps.make(path, 8, 56, seed=3)
    crop = face_crop(one.images[:8].float() / 255, one.pose[:8], 24)
    generator = torch.Generator().manual_seed(3_000_009)
    who, pose = random_people(8, generator), random_poses(96, generator)
    dynamics, body = random_dynamics(96, generator), random_bodies(96, generator)
    shots = random_shots(8, generator)
    whole = render(make_figures(who[:1]), pose[:8], dynamics[:8, :52], dynamics[:8, 52:], body[:8],
                   shots[:1].expand(8, -1), size=96)
    there = face_crop(whole, pose[:8], 24)
    apart = lambda frames: (crop - frames)[..., 6:18, 6:18].abs().mean()          # of skin; about it is another scene
    assert apart(there) < 0.6 * apart(there.roll(1, 0))


def test_a_mirror_swaps_sides_and_back():
    images, pose, z_dyn = torch.rand(2, 3, 8, 8), torch.randn(2, 6), torch.randn(2, 57)
    there = mirror(images, pose, z_dyn)
    assert torch.equal(there[2][:, UNIT["eyeBlinkLeft"]], z_dyn[:, UNIT["eyeBlinkRight"]])
    for before, after in zip((images, pose, z_dyn), mirror(*there)): torch.testing.assert_close(before, after)


def test_a_moved_picture_has_the_pose_that_is_told():
    """A point of the head lies where the new pose puts it."""
    pose = torch.tensor([[0.0, 0.0, 0.0, 0.1, -0.2, 1.1]]).repeat(5, 1)
    images = torch.zeros(5, 3, 64, 64)
    row, column = (int(v) for v in ((1 + 0.2) * 32, (1 + 0.1) * 32))              # of the head's origin
    images[:, :, row - 1:row + 2, column - 1:column + 2] = 1
    shown, told = moved(images, pose, torch.Generator().manual_seed(0))
    place = torch.nn.functional.grid_sample(shown, torch.stack([told[:, 3], -told[:, 4]], -1)[:, None, None],
                                            align_corners=False)
    assert (place > 0.8).all() and told[:, 5].std() > 0.02


def test_progress_is_measured_with_the_averaged_weights(pool, tmp_path):
    plan = FacePlan(pairs=1, drivers=2, measure=0)
    train_detail(pool, random_frames, Run(out=tmp_path, max_steps=40, quiet=True), plan=plan, config=TINY)
    lines = [json.loads(line) for line in (tmp_path / "face-joint/progress.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40] and all(line["psnr"] > 0 for line in lines)


def test_a_contact_sheet_has_a_row_for_each_person(face):
    sheet = contact_sheet(face, random_frames(), people=3)
    assert sheet.shape == (3, 3 * 32, 8 * 32) and 0 <= sheet.min() and sheet.max() <= 1
    torch.testing.assert_close(sheet[:, :32, :32], random_frames().images[0, 0])


def test_the_face_of_a_preset_is_trained_in_three_stages_and_goes_on(tmp_path, monkeypatch):
    """Two steps of each, then two more: the joined file holds the motion encoder of the one and all else of the
    other."""
    face = train_face("tiny", out=tmp_path, max_steps=2, quiet=True)
    assert (tmp_path / "face-pool/32px-3-0/00000.safetensors").is_file()
    state, metadata = read_tensors(tmp_path / "face.safetensors")
    assert metadata["steps"] == {"encoders": 2, "all": 2} and metadata["kind"] == "FaceConfig"
    loaded = load_face(tmp_path)
    assert isinstance(loaded, DetailFace) and loaded.config == face.config == TINY
    encoders = read_tensors(tmp_path / "face-encoders/encoders.safetensors")[0]
    name = "whole.out.weight"
    assert torch.equal(state[f"motion_encoder.{name}"], encoders[name]) and state[f"motion_encoder.{name}"].any()
    # nothing is rendered again
    monkeypatch.setattr(Pool, "make", lambda folder, *_, **__: Pool.open(folder))
    train_face("tiny", out=tmp_path / "other", resume=tmp_path, max_steps=4, quiet=True)
    assert read_tensors(tmp_path / "other/face.safetensors")[1]["steps"] == {"encoders": 4, "all": 4}


def test_what_training_refuses(tmp_path):
    with pytest.raises(VasaError, match="tiny, laptop, paper"): train_face("huge", out=tmp_path)
    with pytest.raises(VasaError, match="of no use"):
        train_face("tiny", max_steps=1, out=tmp_path, vgg19="vgg19.safetensors")
    with pytest.raises(VasaError, match="needs a folder"): train_face("tiny", max_steps=1)
    with pytest.raises(VasaError, match="cannot resume"): train_face("tiny", max_steps=1, out=tmp_path, resume=tmp_path)


def test_the_right_class_is_built_and_loaded(tmp_path):
    assert [face_config(p).detail for p in ("tiny", "laptop", "paper")] == [True, True, False]
    for config, kind in ((FaceConfig.tiny(), FaceModel), (TINY, DetailFace)):
        face = build_face(config)
        save_weights(tmp_path / "face.safetensors", face, config)
        for place in (tmp_path, str(tmp_path), tmp_path / "face.safetensors"):
            loaded = load_face(place)
            assert type(loaded) is kind and not loaded.training
            assert not any(p.requires_grad for p in loaded.parameters())
            assert all(torch.equal(a, b) for a, b in zip(face.parameters(), loaded.parameters()))
    with pytest.raises(VasaError, match="accepted are a shipped preset"): load_face("nowhere")
    assert type(load_face("laptop")) in (FaceModel, DetailFace)


def test_dynamics_there_and_back():
    units, gaze, body = torch.rand(3, 52), torch.randn(3, 2), torch.randn(3, 3)
    read = from_z_dyn(to_z_dyn(units, gaze, body))
    for got, wanted in zip(read, (units, gaze, body)): torch.testing.assert_close(got, wanted)
