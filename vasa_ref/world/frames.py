"""Random people in random poses with random faces, and the truth behind every picture: what the face model learns from."""
import math
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from ..weights import save_tensors
from .camera import random_scenes
from .hair import BEARD, POINTS, STRANDS
from .head import MASKS, UNIT, UNITS, load_mesh
from .people import People, random_people
from .picture import Truth, make_figures, random_shots, render

POINTS_KEPT = 3072                            # surface points of a person whose places are kept
GAZE_LIMIT = (math.radians(32), math.radians(22))


def uniform(shape, low, high, generator: torch.Generator | None = None) -> Tensor:
    "Uniform random numbers; `low` and `high` may be lists, one entry for each last dimension."
    low, high = torch.tensor(low), torch.tensor(high)
    return low + (high - low) * torch.rand(shape, generator=generator)


def random_poses(n: int, generator: torch.Generator | None = None) -> Tensor:
    "n poses (n, 6): yaw within 40, pitch within 22, roll within 15 degrees, tx, ty within 0.12, distance 0.80 to 1.35."
    limit = [math.radians(40), math.radians(22), math.radians(15), 0.12, 0.12]
    angles = uniform((n, 5), [-x for x in limit], limit, generator)
    return torch.cat([angles, uniform((n, 1), math.log(0.80), math.log(1.35), generator).exp()], dim=1)


def look_units(gaze: Tensor) -> Tensor:
    "The eyeLook units (n, 52) that go with gaze (n, 2): lids and the skin about the eyes follow the eyeballs."
    units = gaze.new_zeros(*gaze.shape[:-1], len(UNITS))
    yaw, pitch = gaze[..., 0] / 0.6, gaze[..., 1] / 0.45                    # yaw > 0: to the person's left
    for side, sign in (("Left", 1), ("Right", -1)):
        for name, amount in (("Out", sign * yaw), ("In", -sign * yaw), ("Up", pitch), ("Down", -pitch)):
            units[..., UNIT[f"eyeLook{name}{side}"]] = amount.clamp(0, 1)
    return units


def random_dynamics(n: int, generator: torch.Generator | None = None) -> Tensor:
    "n faces (n, 54), units and gaze: mouth shapes of speech, feelings, blinks and looks, in any combination."
    rand = lambda: torch.rand(n, generator=generator)
    amount = lambda chance, most=1.0: most * rand() * (rand() < chance)
    units = torch.zeros(n, len(UNITS))

    def put(value, *names, uneven=0.25):
        for name in names: units[:, UNIT[name]] = (value * (1 + uneven * (rand() - 0.5))).clamp(0, 1)

    both = lambda value, *stems: [put(value, f"{stem}Left", f"{stem}Right") for stem in stems]
    jaw = amount(0.7, 0.75)
    put(jaw, "jawOpen", uneven=0)
    kind = torch.multinomial(torch.tensor([0.25, 0.2, 0.2, 0.2, 0.15]), n, True, generator=generator)
    put(rand() * (kind == 1), "mouthFunnel")
    put(rand() * (kind == 2), "mouthPucker")
    put(torch.where(kind == 3, jaw, 0 * jaw), "mouthClose", uneven=0.1)
    both(rand() * (kind == 4), "mouthStretch")
    put(amount(0.15), "mouthRollLower", "mouthRollUpper")
    put(amount(0.15), "mouthShrugLower")
    put(amount(0.10), "mouthShrugUpper")
    both(amount(0.3, 0.8), "mouthUpperUp")
    both(amount(0.3, 0.8), "mouthLowerDown")
    both(amount(0.15), "mouthPress")
    mood = torch.multinomial(torch.tensor([0.45, 0.35, 0.2]), n, True, generator=generator)
    smile = rand() * (mood == 1)
    both(smile, "mouthSmile")
    both((smile * rand()), "cheekSquint")
    both(0.5 * smile * rand() + amount(0.2), "eyeSquint")
    both(rand() * (mood == 2), "mouthFrown")
    both(amount(0.1), "mouthDimple")
    put(amount(0.08), "mouthLeft")
    put(amount(0.08), "mouthRight")
    put(amount(0.06, 0.7), "jawForward")
    put(amount(0.05, 0.6), "cheekPuff")
    put(amount(0.10, 0.5), "tongueOut")
    both(amount(0.12), "noseSneer")
    both(amount(0.25), "browDown")
    put(amount(0.35), "browInnerUp")
    both(amount(0.25), "browOuterUp")
    both(amount(0.15), "eyeWide")
    lids = torch.where(rand() < 0.45, 0 * rand(), rand()) * (rand() < 0.45)
    put(lids, "eyeBlinkLeft", "eyeBlinkRight", uneven=0.1)
    put(rand() * (rand() < 0.05) + units[:, UNIT["eyeBlinkLeft"]], "eyeBlinkLeft", uneven=0)     # a wink now and then
    gaze = uniform((n, 2), [-x for x in GAZE_LIMIT], GAZE_LIMIT, generator)
    return torch.cat([torch.maximum(units, look_units(gaze)), gaze], 1)


def random_bodies(n: int, generator: torch.Generator | None = None) -> Tensor:
    "n shoulders' own motions (n, 3): turn within 14 and lean within 5 degrees, lift within 0.03 head units."
    limit = [math.radians(14), math.radians(5), 0.03]
    return uniform((n, 3), [-x for x in limit], limit, generator)


@lru_cache(maxsize=1)
def kept_points() -> tuple[Tensor, Tensor, Tensor]:
    """Which surface points are kept (N,), how much each counts (N,), and what it is of (N,) by picture.SURFACES.

    The same for everybody; mouth and eyes have more of them and they count more."""
    mesh = load_mesh(True)
    generator = torch.Generator().manual_seed(3)
    x, y, z = mesh.rest.T
    part = torch.zeros(len(x), dtype=torch.long)
    part[mesh.triangles.flatten()] = mesh.parts.repeat_interleave(3)
    mask = dict(zip(MASKS, mesh.masks.T))
    mouth = (((x / 0.42) ** 2 + ((y - 6.6) / 0.3) ** 2) < 1) & (z > 1.0) & (part == 0)
    lids = ((((x.abs() - 0.31) / 0.24) ** 2 + ((y - 7.28) / 0.16) ** 2) < 1) & (z > 1.0) & (part == 0)
    face = (mask["face"] > 0.5) & ~mouth & ~lids & (part == 0)
    rest = (part == 0) & ~mouth & ~lids & ~face & (mask["inside-mouth"] < 0.5)
    groups = [(mouth, 620, 2.0), (lids, 420, 2.0), (part == 1, 160, 2.0), (part == 2, 60, 1.0), (part == 3, 50, 1.0),
              (face, 760, 1.0), (rest, 400, 0.5)]
    index, weight, of = [], [], []
    for group, count, value in groups:
        chosen = torch.nonzero(group)[:, 0]
        chosen = chosen[torch.randperm(len(chosen), generator=generator)[:count]]
        index.append(chosen), weight.append(torch.full((len(chosen),), value)), of.append(part[chosen])
    left = POINTS_KEPT - sum(map(len, index))
    hair = torch.randperm((STRANDS + BEARD) * POINTS * 2, generator=generator)[:left]
    index.append(hair + len(x)), weight.append(torch.full((left,), 0.5)), of.append(torch.full((left,), 5))
    return torch.cat(index), torch.cat(weight), torch.cat(of)


@dataclass
class Frames:
    "P people times K frames of each, and the truth behind them."
    images: Tensor            # (P, K, 3, S, S)
    masks: Tensor             # (P, K, 1, S, S)
    pose: Tensor              # (P, K, 6)
    dynamics: Tensor          # (P, K, 54) units and gaze
    body: Tensor              # (P, K, 3)
    points: Tensor            # (P, K, N, 3) places of the kept points in voxel coordinates: x right, y down, z away
    seen: Tensor              # (P, K, N) whether the picture shows them
    rest: Tensor              # (P, N, 3) the same points on the frontal, neutral head
    marks: Tensor             # (P, K, 3, 2) left eye, right eye, mouth in the image, x right and y down
    people: Tensor            # (P, A) rows of `People.flat`

    def map(self, f) -> "Frames": return Frames(**{x.name: f(getattr(self, x.name)) for x in fields(self)})


def place_points(truth: Truth, pose: Tensor) -> tuple[Tensor, Tensor]:
    "The kept points' places (B, N, 3) in voxel coordinates, and whether the picture shows them (B, N)."
    index = kept_points()[0].to(pose.device)
    x, y, z = truth.screen[:, index].unbind(-1)
    size = truth.mask.shape[-1]
    column, row = (((v + 1) * size / 2).long() for v in (x, -y))
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    at = row.clamp(0, size - 1) * size + column.clamp(0, size - 1)
    met = truth.depth.flatten(1).gather(1, at)
    return torch.stack([x, -y, -z / pose[:, 5:6]], -1), inside & ((met - z).abs() < 0.03)


def marks_of(truth: Truth) -> Tensor:
    "Where the left eye, the right eye and the mouth are (B, 3, 2), x right and y down in [-1, 1]."
    mesh = load_mesh(True, str(truth.screen.device))
    lips = torch.nonzero(mesh.masks[:, 0] > 0.8)[:, 0]
    middle = torch.stack([truth.screen[:, which].mean(1) for which in (*mesh.eyes, lips)], 1)
    return middle[..., :2] * middle.new_tensor([1.0, -1.0])


def render_frames(people: People, pose: Tensor, dynamics: Tensor, body: Tensor, size: int, generator: torch.Generator | None = None,
                  **options) -> Frames:
    "Renders `Frames` of people (P) in poses (P, K, 6), dynamics (P, K, 54), bodies (P, K, 3): each person's scene and light its own."
    p, k = pose.shape[:2]
    device = pose.device
    figures = make_figures(people)
    shots, scenes = random_shots(p, generator).to(device), random_scenes(p, size, generator).to(device)
    each = torch.arange(p, device=device).repeat_interleave(k)
    flat = [x.flatten(0, 1) for x in (pose, dynamics, body)]
    images, masks, points, seen, marks = [], [], [], [], []
    for i in torch.arange(p * k, device=device).split(4):
        drawn, truth = render(figures[each[i]], flat[0][i], flat[1][i, :-2], flat[1][i, -2:], flat[2][i], shots[each[i]],
                              scenes[each[i]], size=size, maps=True, **options)
        where, visible = place_points(truth, flat[0][i])
        for parts, value in ((images, drawn), (masks, truth.mask), (points, where), (seen, visible), (marks, marks_of(truth))):
            parts.append(value)
    index = kept_points()[0].to(device)
    rest = torch.cat([figures.heads.vertices, figures.strands.rest], 1)[:, index] * pose.new_tensor([1.0, -1.0, -1.0])
    parts = [torch.cat(x).unflatten(0, (p, k)) for x in (images, masks, points, seen, marks)]
    return Frames(parts[0], parts[1], pose, dynamics, body, parts[2], parts[3], rest, parts[4], people.flat())


def draw_truth(people: int, frames: int, generator: torch.Generator | None = None, **options):
    "People in pairs: each person's poses are its own, the dynamics are the same for both of a pair."
    who = random_people(people, generator, **options)
    pose = random_poses(people * frames, generator).view(people, frames, 6)
    dynamics = random_dynamics(-(-people // 2) * frames, generator).view(-1, frames, len(UNITS) + 2)
    body = random_bodies(people * frames, generator).view(people, frames, 3)
    return who, pose, dynamics.repeat_interleave(2, dim=0)[:people], body


class Pool:
    "Frames rendered once, kept in files of 16 people, drawn from ever after: for machines that render slower than they learn."
    BYTES = ("images", "masks")

    def __init__(self, paths: list): self.files = [safe_open(path, "pt") for path in paths]

    @classmethod
    def open(cls, folder) -> "Pool":
        "The pool that `make` left in a folder, as far as it is."
        paths = sorted(Path(folder).glob("*.safetensors"))
        if not paths: raise FileNotFoundError(f"there are no frames in {str(folder)!r}")
        return cls(paths)

    @classmethod
    def make(cls, folder, people: int, frames: int, size: int, *, seed: int = 0, quiet: bool = False, part: tuple = (0, 1)) -> "Pool":
        "Renders what is missing of a pool; several processes may share the work: part (i, n) is every n-th file from i."
        Path(folder).mkdir(parents=True, exist_ok=True)
        for number in tqdm(range(part[0], people // 16, part[1]), desc="rendering", unit="16 people", disable=quiet, mininterval=5):
            path = Path(folder) / f"{number:05d}.safetensors"
            if path.exists(): continue
            generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
            drawn = render_frames(*draw_truth(16, frames, generator), size, generator)
            tensors = {f.name: getattr(drawn, f.name) for f in fields(Frames)}
            tensors |= {name: (tensors[name] * 255).round().byte() for name in cls.BYTES}
            tensors |= {name: tensors[name].half() for name in ("points", "rest")}
            save_tensors(path, tensors, {"size": size, "frames": frames, "seed": seed, "number": number})
        return cls.open(folder)

    def __len__(self) -> int: return 16 * len(self.files)

    def draw(self, pairs: int, frames: int, generator: torch.Generator | None = None) -> Frames:
        "Frames of 2 * pairs people: neighbours 2i, 2i + 1 share their dynamics."
        parts = []
        for first in torch.randint(8 * len(self.files), (pairs,), generator=generator).tolist():
            file, row = self.files[first // 8], slice(first % 8 * 2, first % 8 * 2 + 2)
            total = file.get_slice("pose").get_shape()[1]
            when = torch.randperm(total, generator=generator)[:frames]
            rows = {f.name: file.get_slice(f.name)[row] for f in fields(Frames)}
            parts.append({name: x if name in ("rest", "people") else x[:, when] for name, x in rows.items()})
        joined = Frames(**{name: torch.cat([p[name] for p in parts]) for name in parts[0]})
        for name in self.BYTES: setattr(joined, name, getattr(joined, name).float() / 255)
        joined.points, joined.rest = joined.points.float(), joined.rest.float()
        return joined
