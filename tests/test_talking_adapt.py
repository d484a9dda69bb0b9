"""One portrait, closer: the head behind it, the skin it wears, and weights that are complete or not there."""
import os

import pytest
import torch

from vasa_ref.app import cli
from vasa_ref.dynamics import from_z_dyn
from vasa_ref.errors import VasaError
from vasa_ref.face.detail import load_face
from vasa_ref.store import load_weights, read_tensors, save_weights
from vasa_ref.talking import adapt as chapter
from vasa_ref.talking.adapt import (
    CONSENT,
    LANDMARKS,
    TUNED,
    VERTICES,
    adapt,
    bend,
    draw_likeness,
    fit_head,
    landmark_basis,
    match_eyes,
    nearest,
    new_folder,
    on_screen,
    rehearse,
    tune,
    wear,
)
from vasa_ref.talking.talker import Talker
from vasa_ref.training import Run
from vasa_ref.world.head import PARTS, SHAPES, UNITS, load_mesh
from vasa_ref.world.people import random_people
from vasa_ref.world.picture import make_figures, render

torch.set_num_threads(1)
POSE = torch.tensor([[0.12, -0.05, 0.02, 0.02, 0.0, 1.0]])
STILL = torch.zeros(1, 52), torch.zeros(1, 2)


def seeded(seed): return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def portrait():
    """A rendered person, and where the landmarks are."""
    image, truth = render(make_figures(random_people(1, seeded(5), plain=True)), POSE, *STILL, size=128, maps=True)
    return image, truth.screen[0, VERTICES, :2] * torch.tensor([1.0, -1.0])


@pytest.fixture(scope="module")
def like(portrait):
    image, landmarks = portrait
    return wear(image, (POSE, torch.zeros(1, 57)), fit_head(landmarks, POSE[0], STILL[0][0]), landmarks)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the tiny size."""
    folder, talker = tmp_path_factory.mktemp("weights"), Talker.random("tiny")
    for name, model in (("audio", talker.audio), ("face", talker.face), ("motion", talker.motion_model)):
        save_weights(folder / f"{name}.safetensors", model, model.config)
    return folder


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(chapter, "can_find_faces", lambda: False)
    monkeypatch.setattr("vasa_ref.talking.photograph.can_find_faces", lambda: False)
    monkeypatch.setattr(chapter, "REHEARSED", 2)
    monkeypatch.setattr(chapter, "OTHERS", 2)


# ---- the head

def test_landmarks_are_vertices_of_the_skin_each_once():
    mesh = load_mesh(True, "cpu")
    skin = torch.zeros(len(mesh.rest), dtype=torch.bool)
    skin[mesh.triangles[mesh.parts == PARTS.index("skin")]] = True
    assert len(set(VERTICES)) == len(LANDMARKS) == 114 and skin[VERTICES].all()
    assert all(0 <= number < 468 for number in LANDMARKS)


@pytest.mark.parametrize("seed", range(4))
def test_a_head_of_the_basis_is_found_again(seed):
    landmark_basis()
    shape = 0.2 * torch.randn(len(SHAPES), generator=seeded(seed))
    pose = POSE[0] + 0.1 * torch.randn(6, generator=seeded(seed))
    target = on_screen(pose, torch.cat([shape, torch.zeros(len(UNITS))]))
    fitted = fit_head(target, torch.tensor([0, 0, 0, 0, 0, 1.0]), torch.zeros(len(UNITS)))
    found = on_screen(fitted.pose[0], torch.cat([fitted.shape[0], fitted.units[0]]))
    assert (found - target).norm(dim=1).mean() < 0.012
    assert (fitted.pose[0] - pose)[:3].abs().max() < 0.1
    assert ((fitted.units >= 0) & (fitted.units <= 1)).all()


def test_bending_moves_what_is_near_to_a_landmark_and_nothing_else():
    places = torch.rand(30_000, 2, generator=seeded(0)) - 0.5
    places[VERTICES] = torch.rand(114, 2, generator=seeded(1)) * 0.4 - 0.2
    same = bend(places, places[VERTICES])
    torch.testing.assert_close(same, places)
    moved = bend(places, places[VERTICES] + torch.tensor([0.02, 0.0])) - places
    assert moved[VERTICES].mean(0)[0] > 0.013 and moved[places.norm(dim=1) > 0.65].abs().max() < 1e-6


def test_nearest_in_parts_is_nearest():
    points, others = torch.rand(2300, 3, generator=seeded(0)), torch.rand(50, 3, generator=seeded(1))
    assert torch.equal(nearest(points, others), torch.cdist(points, others).argmin(1))


# ---- the skin

def test_the_worn_portrait_is_the_portrait_in_its_own_pose(like):
    fitted = like.fitted
    drawn, head, _ = draw_likeness(like, fitted.pose, fitted.units, STILL[1], torch.zeros(1, 3))
    assert head.mean() > 0.08
    assert ((drawn - like.image).abs() * head).sum() / (3 * head.sum()) < 0.03


def test_a_turned_head_is_nearer_to_the_truth_than_the_portrait(like):
    turned = torch.tensor([[0.25, 0, 0, 0, 0, 0]])
    drawn, head, _ = draw_likeness(like, like.fitted.pose + turned, like.fitted.units, STILL[1], torch.zeros(1, 3))
    truth = render(make_figures(random_people(1, seeded(5), plain=True)), POSE + turned, *STILL, size=128)
    off = lambda image: ((image - truth).abs() * head).sum()
    assert off(drawn) < 0.6 * off(like.image)


def test_closed_eyes_tell_no_light(like, portrait):
    figure = make_figures(random_people(1, seeded(5), plain=True))
    before, nowhere = figure.people.look.clone(), torch.zeros(like.table.shape[1], dtype=torch.bool)
    gain = match_eyes(figure, portrait[0], portrait[0], like.table[0, :, :2], nowhere)
    assert torch.equal(gain, torch.ones(3, 1, 1)) and torch.equal(figure.people.look, before)


def test_frames_begin_with_the_portrait_as_it_is_read_and_as_it_is_fitted(like, weights):
    face = load_face(weights)
    image = torch.nn.functional.avg_pool2d(like.image, 4)
    read = face.motion(image)
    small = wear(image, read, like.fitted)
    frames = rehearse(face, small, 3, seeded(0))
    told = from_z_dyn(read[1])
    for i, pose, units in (0, read[0], told.units), (1, small.fitted.pose, small.fitted.units):
        assert torch.equal(frames.images[0, i], image[0]) and torch.equal(frames.pose[0, i], pose[0])
        assert torch.equal(frames.dynamics[0, i], torch.cat([units, told.gaze], 1)[0])
    assert frames.images.shape == (1, 5, 3, 32, 32) and frames.images.isfinite().all()
    assert set(frames.masks.unique().tolist()) <= {1.0, torch.tensor(0.02).item()}
    again = rehearse(face, small, 3, seeded(0))
    assert torch.equal(again.images, frames.images)
    assert not torch.equal(rehearse(face, small, 3, seeded(1)).images, frames.images)


# ---- the folder

def test_a_folder_appears_when_it_is_complete_or_not_at_all(tmp_path):
    with new_folder(tmp_path / "w") as folder:
        (folder / "a").write_text("x")
        assert not (tmp_path / "w").exists()
    assert os.listdir(tmp_path / "w") == ["a"]
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "v") as folder:
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["w"]


def test_adapted_weights_are_complete_and_only_what_is_tuned_changes(weights, tmp_path, portrait, quick):
    image = portrait[0]
    notes = adapt(image, tmp_path / "w", weights=weights, minutes=None, max_steps=3)
    assert any("mediapipe is not installed, so the head has the mean shape" in note for note in notes)
    old, new = load_face(weights), load_face(tmp_path / "w")
    kept = {name: x.half().float() for name, x in old.state_dict().items()}
    changed = {name.split(".")[0] for name, x in new.state_dict().items() if not torch.equal(x, kept[name])}
    assert changed and changed <= set(TUNED)
    assert load_weights(tmp_path / "w/face.safetensors")[1]["adapted"] == {"consent": CONSENT, "steps": 3}
    for name in ("audio", "motion"):
        assert (tmp_path / f"w/{name}.safetensors").read_bytes() == (weights / f"{name}.safetensors").read_bytes()
    adapt(image, tmp_path / "again", weights=weights, minutes=None, max_steps=3)
    (one, told), (same, again) = (read_tensors(tmp_path / name / "face.safetensors") for name in ("w", "again"))
    assert told == again and all(torch.equal(one[name], same[name]) for name in one)


def test_training_is_on_the_device_that_is_asked_for(weights, like, monkeypatch):
    face, seen = load_face(weights), []
    small = wear(torch.nn.functional.avg_pool2d(like.image, 4), like.read, like.fitted)
    own = rehearse(face, small, 2, seeded(0))
    monkeypatch.setattr(chapter, "draw_loss", lambda face, frames, plan, weight: seen.extend(
        x.device.type for x in (*face.parameters(), *vars(frames).values(), weight)))
    monkeypatch.setattr(chapter, "fit", lambda recipe, run: [recipe.loss(step, seeded(0)) for step in (0, 3)])
    tune(face, own, own, Run(max_steps=1, device="meta"))
    assert set(seen) == {"meta"}


def test_a_device_that_is_not_there_is_one_line(weights, tmp_path, monkeypatch, capsys, portrait):
    from PIL import Image
    monkeypatch.chdir(tmp_path)
    Image.fromarray((portrait[0][0].permute(1, 2, 0) * 255).byte().numpy()).save("p.png")
    assert cli.main(["adapt", "p.png", "-o", "w", "--weights", str(weights), "--device", "gpu"]) == 2
    assert "device 'gpu' is not on this machine" in capsys.readouterr().err and os.listdir() == ["p.png"]


def test_no_part_of_the_face_in_the_picture_is_said(like):
    away = like.fitted._replace(pose=torch.tensor([[0, 0, 0, 5.0, 0, 1.0]]))
    with pytest.raises(VasaError, match="no part of the face"):
        wear(like.image, like.read, away)


@pytest.mark.parametrize("name, out, said",
                         [("no.png", "w", "cannot read the portrait"), ("bad.png", "w", "bad.png"),
                          ("p.png", "full", "there already"),
                          ("p.png", "no/such", "no folder"), ("p.png", "file", "there already")])
def test_bad_input_is_one_line_and_leaves_nothing(weights, tmp_path, monkeypatch, capsys, portrait, quick, name, out,
                                                  said):
    from PIL import Image
    monkeypatch.chdir(tmp_path)
    Image.fromarray((portrait[0][0].permute(1, 2, 0) * 255).byte().numpy()).save("p.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("x")
    (tmp_path / "file").write_text("x")
    before = sorted(os.listdir())
    assert cli.main(["adapt", name, "-o", out, "--weights", str(weights), "--minutes", "0.01"]) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("vasa: ") and err.count("\n") == 1 and sorted(os.listdir()) == before


def test_from_the_command_line(weights, tmp_path, monkeypatch, capsys, portrait, quick):
    from PIL import Image
    monkeypatch.chdir(tmp_path)
    Image.fromarray((portrait[0][0].permute(1, 2, 0) * 255).byte().numpy()).save("p.png")
    assert cli.main(["adapt", "p.png", "-o", "w", "--weights", str(weights), "--minutes", "0.01", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert sorted(os.listdir("w")) == ["audio.safetensors", "face.safetensors", "motion.safetensors"]
