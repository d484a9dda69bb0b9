"""Photographs: geometry on given landmarks, without mediapipe; and the search itself where mediapipe is installed."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vasa_ref.errors import VasaError
from vasa_ref.geometry import neutral_pose
from vasa_ref.media.clips import MADE, Clip, read_comment, save_video
from vasa_ref.talking import photograph
from vasa_ref.talking.inputs import portrait_tensor
from vasa_ref.talking.photograph import (
    AWAY,
    DISTANCE,
    HEAD,
    HEAD_POINTS,
    LARGEST,
    ROLL,
    SHIFT,
    Face,
    Photograph,
    Similarity,
    as_trained,
    centre_square,
    choose_face,
    crop_picture,
    crop_places,
    crop_weight,
    find_faces,
    fit_similarity,
    head_turn,
    load_picture,
    paste_frames,
    pose_in,
    turned_head,
)
from vasa_ref.talking.talker import Talker

torch.set_num_threads(1)
VERTICES = [17448, 18987, 1129, 3516, 5950, 6344, 6386]     # of the world's fine mesh, in the order of HEAD


def seeded(seed): return torch.Generator().manual_seed(seed)


def as_face(points):
    landmarks = points.mean(0).repeat(468, 1)
    landmarks[list(HEAD)] = points
    return Face(landmarks)


def ideal_face(place, yaw=0.0, pitch=0.0):
    """The landmarks of a head with just the proportions of HEAD, turned (degrees), at a place."""
    from vasa_ref.geometry import rotation_matrix
    turn = rotation_matrix(torch.tensor([math.radians(yaw), math.radians(pitch), 0, 0, 0, 1]))
    flat, depth = turned_head(math.radians(yaw), math.radians(pitch)), -(HEAD_POINTS @ turn.T)[:, 2:]
    return as_face(torch.cat([place(flat), place.scale * depth], 1))


def with_lips(face, y):
    """The face with its lips at a height of y px."""
    face.landmarks[[13, 14], 1] = y
    return face


def smooth_picture(height, width, seed=0):
    small = torch.rand(1, 3, 9, 9, generator=seeded(seed))
    return (F.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)[0] * 255).byte()


# ---- similarities

@pytest.mark.parametrize("seed", range(10))
def test_a_known_similarity_is_found_and_undone(seed):
    points = 50 * torch.randn(5, 2, generator=seeded(seed))
    known = Similarity.of(0.1 + seed, seed - 4.5, (3.0, -seed))
    found = fit_similarity(points, known(points))
    torch.testing.assert_close(found.matrix, known.matrix, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.inverse()(found(points)), points, atol=1e-3, rtol=1e-4)
    assert math.isclose(found.scale, 0.1 + seed, rel_tol=1e-4)
    assert abs(math.remainder(found.angle - (seed - 4.5), 2 * math.pi)) < 1e-4


@pytest.mark.parametrize("seed", range(10))
def test_least_squares_agree_with_numpy_and_umeyama(seed):
    points, targets = torch.randn(2, 8, 2, generator=seeded(seed), dtype=torch.double)
    found = fit_similarity(points, targets)
    x, y = points.numpy().T
    one, zero = np.ones(8), np.zeros(8)
    system = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    c, s, *shift = np.linalg.lstsq(system, targets.numpy().T.flatten(), rcond=None)[0]
    np.testing.assert_allclose([*found.matrix[:, 0], *found.shift], [c, s, *shift], atol=1e-5)
    middle, centre = points.mean(0), targets.mean(0)                 # Umeyama (1991), equations 40 to 42
    u, d, vt = np.linalg.svd(((targets - centre).T @ (points - middle)).numpy())
    sign = np.array([1, np.sign(np.linalg.det(u @ vt))])
    scale = (d * sign).sum() / ((points - middle) ** 2).sum().item()
    np.testing.assert_allclose(found.matrix, scale * (u * sign) @ vt, atol=1e-5)


# ---- the head

def test_constants_are_the_worlds():
    from vasa_ref.world.frames import random_poses
    from vasa_ref.world.head import CAMERA, build_heads, random_identities
    heads = build_heads(random_identities(40, seeded(0))).vertices[:, VERTICES].mean(0)
    assert (heads - HEAD_POINTS).norm(dim=1).max() < 0.02 and photograph.CAMERA == CAMERA
    poses = random_poses(4000, seeded(1))
    assert poses[:, 2].abs().max() == pytest.approx(ROLL, rel=0.01)
    assert poses[:, 3:5].abs().max() == pytest.approx(SHIFT, rel=0.01)
    assert (poses[:, 5].min().item(), poses[:, 5].max().item()) == pytest.approx(DISTANCE, rel=0.01)
    assert all(as_trained(pose) for pose in poses[:300])
    assert poses[:, 0].abs().max() < math.radians(AWAY["to the side"])
    assert poses[:, 1].abs().max() < math.radians(AWAY["up or down"])


@pytest.mark.parametrize("yaw, pitch, roll",
                         [(0, 0, 0), (30, 0, 0), (-40, 10, 20), (15, -20, 100), (0, 0, 180), (-25, 22, -75)])
def test_turn_and_place_of_a_head_with_the_means_proportions(yaw, pitch, roll):
    place = Similarity.of(57.0, math.radians(roll), (300.0, 120.0))
    face = ideal_face(place, yaw, pitch)
    said = [math.degrees(angle) for angle in face.turn]
    assert said[:2] == pytest.approx([yaw, pitch], abs=3)            # the camera is near: a little perspective
    assert abs(math.remainder(said[2] - roll, 360)) < 3
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    assert ((face.place(corners) - place(corners)).norm(dim=1) / place.scale).max() < 0.06
    assert pose_in(face, place)[2:].tolist() == pytest.approx([0, 0, 0, 1], abs=0.06)


def test_signs_are_those_of_the_world():
    from vasa_ref.world.head import UNITS, build_heads, move_heads, project, random_identities
    pose = neutral_pose(1)
    pose[0] = torch.tensor([0.3, -0.2, 0.15, 0.06, -0.09, 1.2])
    head = build_heads(random_identities(1, seeded(5)))
    screen = project(move_heads(head, pose, torch.zeros(1, len(UNITS)), torch.zeros(1, 2)), pose)[0, VERTICES]
    face = as_face(128 + 128 * torch.stack([screen[:, 0], -screen[:, 1], -screen[:, 2] / 1.2], 1))
    found = pose_in(face, centre_square(256, 256))
    assert (found - pose[0]).abs()[:3].max() < math.radians(10) and (found - pose[0]).abs()[3:].max() < 0.1
    assert (found.sign() == pose[0].sign()).all()


def test_roll_is_never_a_mirror():
    flat = ideal_face(Similarity.of(100.0, 0.0, (0, 0))).points.clone()
    flat[:, 0] *= -1                                                  # no head looks like this
    assert all(math.isfinite(angle) for angle in head_turn(flat))


# ---- which face

def test_the_largest_or_the_one_that_was_asked_for():
    faces = [ideal_face(Similarity.of(scale, 0.0, (400.0, 300.0))) for scale in (90.0, 70.0)]
    assert choose_face(faces, None, 600, 800)[0] is faces[0] and choose_face(faces, 2, 600, 800)[0] is faces[1]
    for number in (3, -1):
        with pytest.raises(VasaError, match="shows 2, and 1 is the largest"): choose_face(faces, number, 600, 800)


@pytest.mark.parametrize("face, words", [
    (ideal_face(Similarity.of(90.0, 0.0, (400.0, 300.0)), yaw=65), "turned to the side by about 6. degrees: up to 50"),
    (ideal_face(Similarity.of(90.0, 0.0, (400.0, 300.0)), pitch=45), "turned up or down by about 4. degrees: up to 35"),
    (ideal_face(Similarity.of(20.0, 0.0, (400.0, 300.0))), "px high: 32 are needed"),
    (ideal_face(Similarity.of(90.0, 0.0, (10.0, 300.0))), "cut off"),
    (ideal_face(Similarity.of(90.0, 0.0, (400.0, 590.0))), "cut off"),
    (with_lips(ideal_face(Similarity.of(90.0, 0.0, (400.0, 560.0))), 610.0), "cut off"),
    (None, "no face was found")])
def test_what_cannot_be_animated_is_said_in_one_sentence(face, words):
    with pytest.raises(VasaError, match=words) as error: choose_face([face] if face else [], None, 600, 800)
    assert "--crop none" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("scale, angle, shift, alone",
                         [(300, 0, (400, 300), True), (230, 14, (420, 280), True), (370, 0, (400, 300), True),
                          (300, 17, (400, 300), False), (200, 0, (400, 300), False), (300, 0, (440, 300), False)])
def test_a_face_within_the_trained_poses_is_left_where_it_is(scale, angle, shift, alone):
    face = ideal_face(Similarity.of(scale, math.radians(angle), shift))
    assert choose_face([face], None, 600, 800)[1] == alone


# ---- crops and borders

def test_a_crop_at_its_own_place_changes_nothing():
    picture = smooth_picture(64, 96)
    crop = crop_picture(picture, centre_square(64, 96), 64)
    torch.testing.assert_close(crop[0], picture[:, :, 16:80] / 255, atol=1e-5, rtol=0)


def test_a_turned_crop_is_the_turned_picture():
    picture = smooth_picture(80, 80)
    crop = crop_picture(picture, Similarity.of(40.0, math.pi / 2, (40, 40)), 80)       # its right is the picture's down
    torch.testing.assert_close(crop[0], torch.rot90(picture, 1, (1, 2)) / 255, atol=0.02, rtol=0)


def test_large_pictures_are_smoothed_before_they_shrink():
    rows = (torch.arange(1000) % 2 * 255).byte()
    crop = crop_picture(rows.expand(3, 1000, 1000), centre_square(1000, 1000), 50)
    assert (crop[..., 2:-2, 2:-2] - 0.5).abs().max() < 0.05


@pytest.mark.parametrize("shift", [(0, 50), (100, 50), (50, 0), (100, 100), (-80, 50), (400, 400)])
def test_beyond_the_borders_nothing_black_and_no_stripes(shift):
    picture = (120 + 100 * torch.rand(3, 100, 100, generator=seeded(0))).byte()
    crop = crop_picture(picture, Similarity.of(60.0, 0.3, shift), 64)
    assert crop.shape == (1, 3, 64, 64) and crop.min() > 0.4 and crop.isfinite().all()


# ---- pasting

def test_the_weight_is_1_inside_and_0_at_the_border():
    weight = crop_weight(crop_places(200))
    assert weight[20:180, 20:180].min() == 1 and weight[0].max() < 0.01 and weight[:, -1].max() < 0.01
    assert weight.diff(dim=0).abs().max() < 0.15
    assert crop_weight(torch.tensor([[1.2, 0.0], [0.0, -5.0]])).tolist() == [0, 0]


def test_heads_lie_inside_of_the_mixed_border():
    from vasa_ref.world.head import build_heads, project, random_identities
    heads = build_heads(random_identities(30, seeded(3)))
    weight = crop_weight(project(heads.vertices, neutral_pose(30))[..., :2])[heads.vertices[..., 1] > -0.68]
    assert (weight > 0.99).float().mean() > 0.99


@pytest.mark.parametrize("place",
                         [Similarity.of(30.0, 0.0, (80, 60)), Similarity.of(25.0, 0.6, (90, 50)),
                          Similarity.of(45.0, 3.0, (20, 110)),
                          Similarity.of(10.0, 0.0, (-40, 50))])
def test_a_crop_pasted_unchanged_leaves_the_picture_as_it_was(place):
    picture = smooth_picture(120, 160)
    crop = crop_picture(picture, place, 64)
    frame = (crop[0].permute(1, 2, 0) * 255).round().byte()
    (whole, again) = paste_frames([frame, frame], picture, place)
    assert torch.equal(whole, again) and whole.shape == (120, 160, 3) and whole.dtype == torch.uint8
    off = (whole.permute(2, 0, 1).int() - picture.int()).abs()
    y, x = torch.meshgrid(torch.arange(120) + 0.5, torch.arange(160) + 0.5, indexing="ij")
    inside = place.inverse()(torch.stack([x, y], -1)).abs().amax(-1) < 1
    assert (off[:, ~inside] == 0).all()
    if inside.any(): assert off[:, inside].float().mean() < 3


def test_frames_land_where_they_were_cut():
    frame = torch.zeros(64, 64, 3, dtype=torch.uint8)
    frame[28:36, 44:52] = 255                                         # a dot right of the middle
    place = Similarity.of(32.0, math.pi / 2, (100, 60))               # the crop's right is the picture's down
    whole = next(paste_frames([frame], torch.zeros(3, 120, 200, dtype=torch.uint8), place))[..., 0].float()
    rows, columns = torch.nonzero(whole > 128).float().mean(0).tolist()
    assert (columns + 0.5, rows + 0.5) == pytest.approx((100, 76), abs=1)


# ---- the photograph

@pytest.fixture
def told(monkeypatch):
    """Stands for the search: the faces that it finds."""
    faces = []
    monkeypatch.setattr(photograph, "can_find_faces", lambda: True)
    monkeypatch.setattr(photograph, "find_faces", lambda image: list(faces))
    return faces


def test_without_mediapipe_the_centre_and_a_note(monkeypatch):
    monkeypatch.setattr(photograph, "mediapipe_solutions", lambda: None)
    picture = smooth_picture(60, 90).permute(1, 2, 0)
    photo = Photograph.open(picture)
    assert photo.centred and photo.portrait(32) is picture and photo.place.shift.tolist() == [45, 30]
    assert photo.place.scale == 30
    assert len(photo.notes) == 1 and "pip install 'vasa_ref[photo]'" in photo.notes[0]
    assert Photograph.open(picture, crop="none").notes == []
    for attempt in (lambda: Photograph.open(picture, face=2), lambda: find_faces(picture.numpy())):
        with pytest.raises(VasaError, match="pip install"): attempt()


def test_arguments_that_contradict():
    picture = smooth_picture(60, 90).permute(1, 2, 0)
    with pytest.raises(VasaError, match="give auto or none"): Photograph.open(picture, crop="face")
    with pytest.raises(VasaError, match="crop auto"): Photograph.open(picture, crop="none", face=1)


def test_a_face_in_place_is_left_alone_and_another_is_cropped(told):
    picture = smooth_picture(300, 400).permute(1, 2, 0)
    told.append(ideal_face(centre_square(300, 400)))
    photo = Photograph.open(picture)
    assert photo.centred and photo.portrait(64) is picture and photo.notes == []
    place = Similarity.of(60.0, 0.5, (120.0, 200.0))
    told[:] = [ideal_face(place)]
    photo = Photograph.open(picture)
    assert not photo.centred and photo.portrait(64).shape == (1, 3, 64, 64)
    assert (photo.place.matrix - place.matrix).abs().max() < 3 and (photo.place.shift - place.shift).abs().max() < 3
    assert Photograph.open(picture, crop="none").centred


def test_two_faces_and_a_sentence(told):
    told += [ideal_face(Similarity.of(scale, 0.0, (x, 150.0))) for scale, x in ((70.0, 100.0), (50.0, 300.0))]
    picture = smooth_picture(300, 400).permute(1, 2, 0)
    photo = Photograph.open(picture)
    assert "2 faces" in photo.notes[0] and "--face 2" in photo.notes[0]
    assert photo.place.shift[0] == pytest.approx(100, abs=3)
    photo = Photograph.open(picture, face=2)
    assert photo.notes == [] and photo.place.shift[0] == pytest.approx(300, abs=3)
    told.clear()
    with pytest.raises(VasaError, match="no face"): Photograph.open(picture)


@pytest.mark.parametrize("height, width, film",
                         [(300, 401, (400, 300)), (1280, 640, (640, 1280)), (1500, 3000, (1280, 640)),
                          (17, 16, (16, 16))])
def test_films_have_even_sides_and_an_end(height, width, film):
    photo = Photograph.open(smooth_picture(height, width).permute(1, 2, 0), crop="none")
    assert photo.film_size == film
    frame = torch.full((32, 32, 3), 200, dtype=torch.uint8)
    whole = next(iter(photo.paste([frame])))
    assert whole.shape == (film[1], film[0], 3)
    assert (whole[film[1] // 2, film[0] // 2] == 200).all()


def test_pictures_come_whole_upright_and_of_any_kind(tmp_path):
    pixels = smooth_picture(40, 60).permute(1, 2, 0)
    exif = Image.Exif()
    exif[0x0112] = 6                                                  # to be turned clockwise
    Image.fromarray(pixels.numpy()).save(tmp_path / "p.png", exif=exif)
    Image.fromarray(pixels.numpy()).save(tmp_path / "q.png")
    assert torch.equal(load_picture(tmp_path / "p.png"), torch.rot90(pixels, -1, (0, 1)).permute(2, 0, 1))
    forms = [tmp_path / "q.png", pixels, pixels.numpy(), pixels.permute(2, 0, 1) / 255,
             (pixels.permute(2, 0, 1) / 255)[None],
             Image.fromarray(pixels.numpy())]
    for form in forms: assert torch.equal(load_picture(form), pixels.permute(2, 0, 1))
    # grey, alpha
    for form in (pixels[..., 0], torch.cat([pixels, torch.full((40, 60, 1), 255, dtype=torch.uint8)], 2)):
        assert load_picture(form).shape == (3, 40, 60)
    Image.fromarray(pixels.numpy()).convert("LA").save(tmp_path / "grey.png")
    assert load_picture(tmp_path / "grey.png").shape == (3, 40, 60)
    assert max(load_picture(Image.new("RGB", (2 * LARGEST, 40))).shape) == LARGEST
    with pytest.raises(VasaError, match="accepted are"): load_picture(torch.zeros(5, 64, 64))
    with pytest.raises(VasaError): load_picture(tmp_path / "none.png")


def test_a_clip_of_the_whole_picture_and_its_comment(told, tmp_path):
    told.append(ideal_face(Similarity.of(40.0, 0.3, (70.0, 60.0))))
    photo = Photograph.open(smooth_picture(101, 150).permute(1, 2, 0))
    talker = Talker.random("tiny")
    clip = talker.animate(photo.portrait(talker.size), 0.1 * torch.randn(6400, generator=seeded(0)), steps=2)
    film = photo.whole(clip)
    assert film.frames.shape == (10, 100, 150, 3) and film.comment == clip.comment == MADE
    assert read_comment(film.save(tmp_path / "film.mp4")) == MADE
    path = talker.animate_to_file(tmp_path / "direct.mp4", photo.portrait(talker.size), clip.waveform, steps=2,
                                  through=photo.paste)
    assert read_comment(path) == MADE and Clip.load(path).frames.shape == film.frames.shape


def test_the_pose_of_a_placed_head_is_not_read_again(told):
    told.append(ideal_face(Similarity.of(40.0, 0.3, (70.0, 60.0)), yaw=12.0))
    photo, talker = Photograph.open(smooth_picture(101, 150).permute(1, 2, 0)), Talker.random("tiny")
    assert torch.allclose(photo.pose, torch.tensor([0.21, 0, 0, 0, 0, 1]), atol=0.06)
    assert torch.equal(photo.encode(talker).appearance.pose, photo.pose[None])
    assert not torch.equal(talker.encode(photo.portrait(talker.size)).appearance.pose, photo.pose[None])
    whole = Photograph.open(smooth_picture(64, 64).permute(1, 2, 0), crop="none")
    assert whole.pose is None and whole.encode(talker).appearance.pose.shape == (1, 6)


@pytest.mark.parametrize("comment", ["plain", "a = b; # c \\ d", "two\nlines", "Größe, 彩", None])
def test_comments_are_read_as_they_were_written(tmp_path, comment):
    frames = torch.zeros(5, 16, 16, 3, dtype=torch.uint8)
    assert read_comment(save_video(tmp_path / "c.mp4", frames, torch.zeros(3200), comment=comment)) == comment


# ---- with mediapipe

@pytest.fixture(scope="module")
def people():
    from vasa_ref.world.people import random_people
    from vasa_ref.world.picture import portraits
    generator = seeded(77)
    return portraits(random_people(4, generator), 320, generator, smile=0.15)


def embedded(image, place, height=480, width=720):
    frame = (image.permute(1, 2, 0) * 255).round().byte()
    return next(paste_frames([frame], smooth_picture(height, width, 5), place))


def corners_off(place, true_place):
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    return 128 * (place(corners) - true_place(corners)).norm(dim=1).mean().item() / true_place.scale


@pytest.mark.parametrize("number, half, degrees, shift",
                         [(0, 110, 25, (400, 200)), (1, 60, -140, (200, 300)), (2, 40, 90, (550, 120)),
                          (3, 150, 180, (360, 230))])
def test_rolled_and_small_faces_are_found(people, number, half, degrees, shift):
    pytest.importorskip("mediapipe")
    place = Similarity.of(half, math.radians(degrees), shift)
    faces = find_faces(embedded(people[number], place).numpy())
    assert len(faces) == 1 and corners_off(faces[0].place, place) < 25
    assert abs(math.remainder(math.degrees(faces[0].place.angle) - degrees, 360)) < 4


def test_two_people_and_nobody(people):
    pytest.importorskip("mediapipe")
    first, second = Similarity.of(130.0, 0.0, (200, 240)), Similarity.of(80.0, 0.2, (560, 240))
    picture = embedded(people[0], first)
    picture = next(paste_frames([(people[1].permute(1, 2, 0) * 255).byte()], picture.permute(2, 0, 1), second))
    photo = Photograph.open(picture)
    assert "2 faces" in photo.notes[0] and corners_off(photo.place, first) < 25
    assert corners_off(Photograph.open(picture, face=2).place, second) < 25
    with pytest.raises(VasaError, match="shows 2"): Photograph.open(picture, face=3)
    with pytest.raises(VasaError, match="no face"): Photograph.open(smooth_picture(200, 300).permute(1, 2, 0))


def test_the_worlds_portraits_stay_as_they_are(people):
    pytest.importorskip("mediapipe")
    for image in people:
        photo = Photograph.open(image)
        assert photo.centred and torch.equal(portrait_tensor(photo.portrait(256), 256), portrait_tensor(image, 256))


def turned(yaw, pitch=0):
    """A person of the world, turned by so many degrees: (1, 3, 320, 320)."""
    from vasa_ref.world.head import UNITS
    from vasa_ref.world.people import random_people
    from vasa_ref.world.picture import make_figures, render
    pose = neutral_pose(1)
    pose[0, :2] = torch.tensor([yaw, pitch]).deg2rad()
    return render(make_figures(random_people(1, seeded(77))), pose, torch.zeros(1, len(UNITS)), torch.zeros(1, 2),
                  size=320)


BAD = {"turned by 60 degrees": (lambda people: turned(60), "turned to the side by about .. degrees|no face"),
       "turned by -60 degrees": (lambda people: turned(-60), "turned to the side by about .. degrees|no face"),
       "turned by 65 degrees": (lambda people: turned(65), "turned to the side by about .. degrees|no face"),
       "seen from the side": (lambda people: turned(90), "turned to the side by about .. degrees|no face"),
       "too small": (lambda people: embedded(people[0], Similarity.of(24.0, 0.0, (300, 200))), "px high|no face"),
       "cut in half": (lambda people: embedded(people[0], Similarity.of(130.0, 0.0, (5, 240))), "cut off|no face"),
       "without a mouth": (lambda people: embedded(people[0], Similarity.of(130.0, 0.0, (300, 240)))[:280],
                           "cut off|no face")}


@pytest.mark.parametrize("bad", BAD)
def test_a_picture_that_will_not_do_is_refused_in_one_line(people, bad):
    pytest.importorskip("mediapipe")
    make, words = BAD[bad]
    with pytest.raises(VasaError, match=words) as error: Photograph.open(make(people))
    assert "--crop none" in str(error.value) and "\n" not in str(error.value)


def test_a_portrait_upside_down_is_turned_upright(people):
    pytest.importorskip("mediapipe")
    for image in people:
        photo = Photograph.open(image.flip(1, 2))
        assert not photo.centred and abs(abs(math.degrees(photo.place.angle)) - 180) < 5
        upright, there = portrait_tensor(image, 128), photo.portrait(128)
        assert (there - upright).abs().mean() < 0.6 * (there.flip(2, 3) - upright).abs().mean()
        assert photo.pose[2] == 0 and photo.pose[:2].abs().max() < 0.4


def test_a_drawing_is_a_face_or_is_refused_in_one_sentence():
    pytest.importorskip("mediapipe")
    from PIL import ImageDraw
    drawing = Image.new("RGB", (400, 400), "white")
    pen = ImageDraw.Draw(drawing)
    pen.ellipse((100, 80, 300, 330), "peachpuff", "black", 3)
    for x in (160, 240):
        pen.ellipse((x - 15, 170, x + 15, 190), "white", "black", 2), pen.ellipse((x - 6, 174, x + 6, 186), "black")
    pen.line((200, 190, 190, 235, 205, 235), "black", 3)
    pen.arc((160, 230, 240, 290), 20, 160, "darkred", 5)
    try: assert Photograph.open(drawing).place.scale > 50
    except VasaError as error: assert "\n" not in str(error)


def test_an_astronaut():
    pytest.importorskip("mediapipe")
    data = pytest.importorskip("skimage.data")                        # NASA, public domain
    picture = data.astronaut()
    places = []
    for quarter in range(4):
        faces = find_faces(np.rot90(picture, quarter))
        assert len(faces) == 1 and max(map(abs, faces[0].turn[:2])) < math.radians(15)
        places.append(faces[0].place)
    assert abs(math.degrees(places[0].angle)) < 10 and places[0].shift.tolist() == pytest.approx([226, 98], abs=12)
    turns = [math.degrees(math.remainder(place.angle - places[0].angle, 2 * math.pi)) for place in places]
    assert [abs(math.remainder(turn + 90 * i, 360)) < 5 for i, turn in enumerate(turns)] == [True] * 4
    photo = Photograph.open(picture)
    assert not photo.centred and photo.portrait(64).min() >= 0
