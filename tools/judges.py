"""Ask networks that were trained on photographs of people, and know nothing of this package, about its pictures.

    python tools/judges.py --frames FILE.npz [--detector hog] [--size 256]

FILE.npz holds `images` (N, H, W, 3) uint8, and what is true of them: `person` (N,) numbers, `yaw` (N,) radians, `mouth`
(N,) how far the mouth is open, in any unit. It prints one table: does mediapipe's FaceMesh find a face in each, do its yaw
and mouth follow the truth, does dlib's detector fire, does dlib's recogniser take the same person for the same.

From Python: `FaceMesh()`, `Detector()` and `Recogniser()` take images and give tuples of arrays, one entry per image;
`judge` asks all three about rendered frames, `judge_generated` about frames made from a portrait and a wished motion.
Angles: x right, y up, z towards the viewer; yaw > 0 turns the nose to the right of the picture, pitch > 0 down,
roll > 0 anticlockwise. Every picture is brought to the same height first (`size`, 256 pixels), small or large.
"""
import argparse
import importlib.util
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vasa_ref.errors import VasaError

# Landmarks of FaceMesh that neither lips nor lids nor jaw move, and where they lie in a face that looks straight ahead:
# x, y, z from the middle of the outer corners of the eyes, which are 9 cm apart. They are means of FaceMesh's answers to
# ten rendered frontal faces, mirrored; FaceMesh answers a photograph within half a centimetre of them.
RIGID = {(33, 263): (4.5, 0, 0), (133, 362): (1.7, -0.25, 0.55), (127, 356): (7.0, -0.2, -4.9), (234, 454): (6.9, -1.6, -5.5),
         10: (0, 5.4, 2.1), 151: (0, 3.75, 2.35), 168: (0, 0.35, 2.15), 6: (0, -0.5, 2.5), 195: (0, -2.0, 3.4), 4: (0, -3.7, 4.05)}
LIPS = 13, 14                                                   # inner edges, upper and lower
LIDS = (159, 145), (386, 374)                                   # upper and lower: of the eye on the left of the picture, the right
CORNERS, IRISES = ((33, 133), (362, 263)), (468, 473)           # of the same eyes, from left to right
NEAR = np.radians(40)                                           # a face must be found up to this yaw
SAME = 0.6                                                      # dlib's border between one person and two
AIMS = {"face_found": ">= .99", "yaw": ">= .99", "mouth": ">= .93", "detector": ">= .97", "auc": ">= .95"}
MEANING = {"face_found": "FaceMesh finds a face, share (yaw within 40 degrees)", "yaw": "FaceMesh's yaw, correlation with the truth",
           "mouth": "FaceMesh's mouth opening, correlation with the truth", "detector": "dlib's detector fires, share",
           "recognised": "frames that the recogniser could be asked about, share",
           "same_distance": "recogniser's distance, same person, mean", "other_distance": "recogniser's distance, other persons, mean",
           "auc": "same below other, AUC", "same_under": f"pairs of the same person under {SAME}, share",
           "other_under": f"pairs of other persons under {SAME}, share"}


class Faces(NamedTuple):
    """What FaceMesh says; NaN where it finds no face."""
    found: np.ndarray                                           # (N,) bool
    yaw: np.ndarray                                             # (N,) radians, as `pitch` and `roll`
    pitch: np.ndarray
    roll: np.ndarray
    mouth: np.ndarray                                           # (N,) gap of the inner lips, in cm of the face of RIGID
    eyes: np.ndarray                                            # (N, 2) gap of the lids, same unit; left and right in the picture
    gaze: np.ndarray                                            # (N, 2) irises right and up of the eyes' middle, in eyes' widths
    landmarks: np.ndarray                                       # (N, 478, 3) x right, y up, z near, in heights of the picture


class Detections(NamedTuple):
    """What a detector says: the surest face."""
    found: np.ndarray                                           # (N,) bool
    box: np.ndarray                                             # (N, 4) left, top, right, bottom, in heights of the picture


class Recognised(NamedTuple):
    """What the recogniser says."""
    found: np.ndarray                                           # (N,) bool
    code: np.ndarray                                            # (N, 128); one person's codes lie within about .6


# --- arithmetic, without any judge

def rotation_of(points: np.ndarray, model: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """R (3, 3), scale and shift (3,) for which scale * model @ R.T + shift is nearest to points, both (K, 3)."""
    middle, centre = points.mean(0), model.mean(0)
    u, s, vt = np.linalg.svd((points - middle).T @ (model - centre))
    flip = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])     # a rotation, never a mirror
    rotation = (u * flip) @ vt
    scale = float((s * flip).sum() / ((model - centre) ** 2).sum())
    return rotation, scale, middle - scale * rotation @ centre


def angles_of(rotation: np.ndarray) -> tuple[float, float, float]:
    """(yaw, pitch, roll) in radians of R = R_yaw R_pitch R_roll."""
    return (float(np.arctan2(rotation[0, 2], rotation[2, 2])), float(np.arcsin(np.clip(-rotation[1, 2], -1, 1))),
            float(np.arctan2(rotation[1, 0], rotation[1, 1])))


def read_mesh(mesh: np.ndarray) -> dict[str, object]:
    """Angles, mouth, eyes and gaze of landmarks (478, 3), x right, y up, z near: what `Faces` holds of one face."""
    index, model = [], []
    for key, (x, y, z) in RIGID.items():
        index += key if isinstance(key, tuple) else [key]
        model += [(-x, y, z), (x, y, z)] if isinstance(key, tuple) else [(x, y, z)]
    rotation, scale, shift = rotation_of(mesh[index], np.array(model, float))
    face = (mesh - shift) @ rotation / scale                    # seen from the front, in cm
    gap = [float(np.linalg.norm(face[a] - face[b])) for a, b in (LIPS, *LIDS)]
    gaze = [(face[iris] - (face[a] + face[b]) / 2)[:2] / np.linalg.norm(face[a] - face[b]) for iris, (a, b) in zip(IRISES, CORNERS)]
    return dict(zip(("yaw", "pitch", "roll"), angles_of(rotation)), mouth=gap[0], eyes=gap[1:], gaze=np.mean(gaze, 0))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, over the entries where neither is NaN; NaN where fewer than three are left, or one of the two never changes."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0 else float("nan")


def auc(small: np.ndarray, large: np.ndarray) -> float:
    """How often a random number of `small` lies below one of `large`, a tie counting half; NaN where one is empty."""
    if not len(small) or not len(large): return float("nan")
    large = np.sort(large)
    below = np.searchsorted(large, small, "left") + np.searchsorted(large, small, "right")
    return float(1 - below.mean() / 2 / len(large))


def pair_distances(code: np.ndarray, person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances (P,) of all pairs of codes (N, D) of the same person, and (Q,) of all others."""
    a, b = np.triu_indices(len(code), 1)
    square = (code ** 2).sum(1)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2 * code @ code.T, 0))[a, b]
    return distance[person[a] == person[b]], distance[person[a] != person[b]]


# --- the judges

def bring(package: str):
    """The package, or one line that says what to install."""
    try: return importlib.import_module(package)
    except ImportError as error:
        raise VasaError(f"the judges need {package} ({error}): pip install -c constraints.txt -e '.[judges]'") from error


def weights_of(name: str) -> str:
    """Path of a file of face_recognition_models, which is not imported: it needs a part of setuptools that is gone."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None: raise VasaError("the judges need face-recognition-models: pip install -c constraints.txt -e '.[judges]'")
    return str(Path(spec.origin).parent / "models" / name)


def at_height(images: np.ndarray, size: int) -> list[np.ndarray]:
    """Images (N, H, W, 3) uint8 brought to `size` pixels in height."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise VasaError(f"images of shape {images.shape} and type {images.dtype} were given: (N, H, W, 3) uint8 is accepted")
    wide = round(images.shape[2] * size / images.shape[1])
    return [np.array(Image.fromarray(image).resize((wide, size), Image.Resampling.BICUBIC)) for image in images]


class FaceMesh:
    """mediapipe's FaceMesh with irises: images (N, H, W, 3) uint8 -> `Faces`."""

    def __init__(self, size: int = 256, confidence: float = 0.5):
        self.size = size
        self.mesh = bring("mediapipe.python.solutions.face_mesh").FaceMesh(
            static_image_mode=True, max_num_faces=1, refine_landmarks=True, min_detection_confidence=confidence)

    def __call__(self, images: np.ndarray) -> Faces:
        n = len(images)
        out = Faces(np.zeros(n, bool), *(np.full((n, *shape), np.nan) for shape in ((), (), (), (), (2,), (2,), (478, 3))))
        for i, image in enumerate(at_height(images, self.size)):
            faces = self.mesh.process(image).multi_face_landmarks
            if not faces: continue
            ratio = image.shape[1] / image.shape[0]             # x and z come in widths of the picture
            out.found[i] = True
            out.landmarks[i] = [(p.x * ratio, -p.y, -p.z * ratio) for p in faces[0].landmark]
            for name, value in read_mesh(out.landmarks[i]).items(): getattr(out, name)[i] = value
        return out


class Detector:
    """dlib's detector of faces: images -> `Detections`. "cnn" knows turned heads; "hog" is 30 times as fast, and knows frontal ones."""

    def __init__(self, kind: str = "cnn", size: int = 256):
        if kind not in ("cnn", "hog"): raise VasaError(f"detector {kind!r} was asked for: there are 'cnn' and 'hog'")
        dlib = bring("dlib")
        self.size, self.kind = size, kind
        self.net = dlib.get_frontal_face_detector() if kind == "hog" else \
            dlib.cnn_face_detection_model_v1(weights_of("mmod_human_face_detector.dat"))

    def __call__(self, images: np.ndarray) -> Detections:
        out = Detections(np.zeros(len(images), bool), np.full((len(images), 4), np.nan))
        for i, image in enumerate(at_height(images, self.size)):
            faces = [(f.confidence, f.rect) for f in self.net(image)] if self.kind == "cnn" else \
                list(zip(*self.net.run(image, 0)[1::-1]))
            if not faces: continue
            _, box = max(faces, key=lambda face: face[0])
            out.found[i], out.box[i] = True, np.array((box.left(), box.top(), box.right(), box.bottom())) / self.size
        return out


class Recogniser:
    """dlib's recogniser: images, and what a `Detector` said of them (asked here where not given) -> `Recognised`."""

    def __init__(self, detector: Detector | None = None, size: int = 256):
        self.dlib, self.size = bring("dlib"), size
        self.detector = detector or Detector(size=size)
        self.predictor = self.dlib.shape_predictor(weights_of("shape_predictor_5_face_landmarks.dat"))
        self.net = self.dlib.face_recognition_model_v1(weights_of("dlib_face_recognition_resnet_model_v1.dat"))

    def __call__(self, images: np.ndarray, detections: Detections | None = None) -> Recognised:
        found, box = self.detector(images) if detections is None else detections
        code = np.full((len(images), 128), np.nan)
        for i, image in enumerate(at_height(images, self.size)):
            if not found[i]: continue
            face = self.dlib.rectangle(*(int(x) for x in np.round(box[i] * self.size)))
            code[i] = self.net.compute_face_descriptor(image, self.predictor(image, face))
        return Recognised(found, code)


# --- what is asked

def judge(images: np.ndarray, person: np.ndarray, yaw: np.ndarray, mouth: np.ndarray, detector: str = "cnn", size: int = 256) -> dict:
    """The figures of MEANING, by name, of images (N, H, W, 3) uint8 and their truth (N,): person, yaw in radians, mouth opening."""
    person, yaw, mouth = (np.asarray(x) for x in (person, yaw, mouth))
    for name, truth in dict(person=person, yaw=yaw, mouth=mouth).items():
        if truth.shape != (len(images),): raise VasaError(f"{name} has shape {truth.shape}: one number for each of {len(images)} images is needed")
    faces, seen = FaceMesh(size)(images), Detector(detector, size)(images)
    known = Recogniser(size=size)(images, seen)
    same, other = pair_distances(known.code[known.found], person[known.found])
    mean = lambda x: float(np.mean(x)) if len(x) else float("nan")
    return {"face_found": mean(faces.found[np.abs(yaw) <= NEAR]), "yaw": correlation(faces.yaw, yaw),
            "mouth": correlation(faces.mouth, mouth), "detector": mean(seen.found), "recognised": mean(known.found),
            "same_distance": mean(same), "other_distance": mean(other), "auc": auc(same, other),
            "same_under": mean(same < SAME), "other_under": mean(other < SAME)}


def judge_generated(portraits: np.ndarray, frames: np.ndarray, mouth: np.ndarray, size: int = 256) -> dict:
    """Of frames (N, H, W, 3) uint8, the portrait of each (N, H, W, 3), and the mouth opening asked for (N,): shares `face_found`
    and `same_person` (frames whose face is within .6 of the portrait's), mean `distance` to it, and the correlation `mouth`."""
    faces, recogniser = FaceMesh(size)(frames), Recogniser(size=size)
    distance = np.linalg.norm(recogniser(frames).code - recogniser(portraits).code, axis=1)
    return {"face_found": float(faces.found.mean()), "same_person": float((distance < SAME).mean()),
            "distance": float(np.nanmean(distance)), "mouth": correlation(faces.mouth, np.asarray(mouth))}


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, required=True, help="npz of images, person, yaw, mouth")
    parser.add_argument("--detector", choices=("cnn", "hog"), default="cnn", help="dlib's detector (default cnn)")
    parser.add_argument("--size", type=int, default=256, help="height that pictures are brought to (default 256)")
    given = parser.parse_args(args)
    try:
        if not given.frames.is_file(): raise VasaError(f"there is no file {given.frames}")
        with np.load(given.frames) as file:
            missing = {"images", "person", "yaw", "mouth"} - set(file.files)
            if missing: raise VasaError(f"{given.frames} lacks {', '.join(sorted(missing))}")
            figures = judge(*(file[name] for name in ("images", "person", "yaw", "mouth")), given.detector, given.size)
    except VasaError as error: sys.exit(f"judges: {error}")
    for name, value in figures.items(): print(f"{name:15} {value:6.3f}  {AIMS.get(name, ''):7} {MEANING[name]}")


if __name__ == "__main__":
    main()
