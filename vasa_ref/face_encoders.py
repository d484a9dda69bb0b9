"""Training of the encoder that reads pose, face and shoulders' motion from pictures whose truth is told."""
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from .detail import FACE_CENTRE, FACE_REACH, MotionReader, face_crop
from .disentangle import inverse_sqrt, pose_loss
from .dynamics import SPREAD, to_z_dyn
from .face import FaceConfig, resize
from .training import fit, within
from .weights import read_tensors, save_tensors, save_weights
from .world.camera import photograph, random_scenes
from .world.frames import Frames, random_bodies, random_dynamics, random_poses
from .world.head import UNIT, UNITS, project, rotation_matrix
from .world.people import random_people
from .world.picture import make_figures, random_shots, render

__all__ = ["told_dynamics", "CloseUps", "Progress", "disguise", "mirror", "moved", "read_loss", "measure_reading", "train_encoders"]

LIDS = [UNIT["eyeBlinkLeft"], UNIT["eyeBlinkRight"]]
SEEN = "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthSmileLeft", "eyeBlinkLeft", "browInnerUp"


def told_dynamics(frames: Frames) -> Tensor:
    "The true z_dyn of frames (P, K): (P, K, 57)."
    return to_z_dyn(frames.dynamics[..., :52], frames.dynamics[..., 52:], frames.body)


class CloseUps(NamedTuple):
    "Pictures that the face fills: images (N, 3, S, S), pose (N, 6) in them, z_dyn (N, 54), the shoulders left out."
    images: Tensor
    pose: Tensor
    z_dyn: Tensor

    @classmethod
    def render(cls, people: int, frames: int, size: int, generator: torch.Generator | None = None, **options) -> "CloseUps":
        "So many frames of each of so many people, uint8, a little wider than `face_crop`. options: of `random_people`."
        who, pose = random_people(people, generator, **options), random_poses(people * frames, generator)
        dynamics, body = random_dynamics(len(pose), generator), random_bodies(len(pose), generator)
        shots, scenes = random_shots(people, generator), random_scenes(people, size, generator)
        figures, wide, images = make_figures(who), 1.2 * FACE_REACH, []
        centre = pose.new_tensor([FACE_CENTRE]) @ rotation_matrix(pose).mT                      # (N, 1, 3)
        middle = project(centre, pose)[:, 0, :2]
        window = torch.cat([middle, wide / pose[:, 5:]], 1)
        for i in torch.arange(len(pose)).split(4):
            who = i // frames
            drawn = render(figures[who], pose[i], dynamics[i, :52], dynamics[i, 52:], body[i], shots[who], scenes[who],
                           size=size, window=window[i])
            images.append((drawn * 255).round().byte())
        place = -centre[:, 0, :2] / wide                                            # the face is in the middle
        pose = torch.cat([pose[:, :3], place, torch.full_like(place[:, :1], wide)], 1)
        return cls(torch.cat(images), pose, dynamics / SPREAD[:54])

    @classmethod
    def make(cls, path, people: int, size: int, *, seed: int = 0, minutes: float | None = None, quiet: bool = True) -> "CloseUps":
        "Twelve frames of each of so many people, or what the minutes allow; what the file `path` holds is kept."
        parts = [cls(**read_tensors(path)[0])] if Path(path).is_file() else []
        done = sum(len(part.images) for part in parts) // 96
        for n in within(tqdm(range(done, -(-people // 8)), desc="face: close-ups", unit="8 people", disable=quiet), minutes):
            parts.append(cls.render(8, 12, size, torch.Generator().manual_seed(seed * 1_000_003 + n)))
        close = cls(*map(torch.cat, zip(*parts)))
        save_tensors(path, close._asdict(), {})
        return close

    def draw(self, n: int, generator: torch.Generator | None = None) -> "CloseUps":
        "n of them at random, in [0, 1]."
        index = torch.randint(len(self.images), (n,), generator=generator)
        return CloseUps(self.images[index].float() / 255, self.pose[index], self.z_dyn[index])


class Progress:
    """Tells of a training: `watch` of `training.fit`.

    Every `every` seconds measure(), called while the averaged weights are in place, gives figures; they become a line
    of progress.jsonl in the folder `out`, and are printed unless `quiet`."""
    def __init__(self, out: Path, measure: Callable[[], dict], every: float = 300, quiet: bool = True):
        self.path, self.measure, self.every, self.quiet = Path(out) / "progress.jsonl", measure, every, quiet
        self.last = time.monotonic()

    def __call__(self, step: int, log: list, averaged: Callable) -> None:
        if time.monotonic() - self.last < self.every: return
        with averaged(): figures = {"step": step, "hours": round(log[-1]["seconds"] / 3600, 3), **self.measure()}
        with open(self.path, "a") as file: file.write(json.dumps(figures) + "\n")
        if not self.quiet: tqdm.write(json.dumps(figures))
        self.last = time.monotonic()


def disguise(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    "Images (B, 3, S, S) under another light, half of them from some camera: colours scaled, then `photograph`."
    rand = lambda *shape: torch.rand(len(images), *shape, generator=generator).to(images)
    x = images * (0.75 + 0.5 * rand(3, 1, 1)) + 0.2 * (rand(3, 1, 1) - 0.5)
    some = torch.rand(len(images), 1, 1, 1, generator=generator).to(images) < 0.5
    return torch.where(some, photograph(x.clamp(0, 1), generator), x.clamp(0, 1))


SIDES = torch.tensor([UNIT[name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")] for name in UNITS])


def mirror(images: Tensor, pose: Tensor, z_dyn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    "The same as seen in a mirror: images (B, 3, S, S), pose (B, 6), z_dyn (B, 54 or 57)."
    swapped = torch.cat([z_dyn[:, SIDES.to(z_dyn.device)], -z_dyn[:, 52:53], z_dyn[:, 53:54], -z_dyn[:, 54:56], z_dyn[:, 56:]], 1)
    return images.flip(-1), pose * pose.new_tensor([-1, 1, -1, -1, 1, 1]), swapped


def mirrored(images: Tensor, pose: Tensor, z_dyn: Tensor, generator: torch.Generator | None = None):
    "Half of them in a mirror."
    flip = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    choose = lambda a, b: torch.where(flip.view(-1, *[1] * (a.ndim - 1)), b, a)
    return tuple(map(choose, (images, pose, z_dyn), mirror(images, pose, z_dyn)))


def moved(images: Tensor, pose: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    "Images (B, 3, S, S) shifted and scaled a little, and their pose (B, 6) with them."
    n = len(images)
    shift = 0.16 * (torch.rand(n, 2, generator=generator) - 0.5).to(pose)
    scale = (0.3 * (torch.rand(n, 1, generator=generator) - 0.5)).exp().to(pose)
    theta = torch.cat([torch.diag_embed(scale.expand(-1, 2)), shift[:, :, None]], 2)       # where each pixel is looked up
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    place = (pose[:, 3:5] - shift * shift.new_tensor([1, -1])) / scale
    return (F.grid_sample(images, grid, padding_mode="border", align_corners=False),
            torch.cat([pose[:, :3], place, pose[:, 5:] * scale], 1))


def read_loss(motion: MotionReader, frames: Frames, close: CloseUps,
              generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
    """Loss of reading whole frames (P, K) and close-ups (B) after disguise, and its parts: pose, body, face.

    Half of all are mirrored, whole frames moved, crops of close-ups placed with a small error: as many faces as can be
    made of so many."""
    whole = resize(frames.images.flatten(0, 1), 2 * motion.whole.size)
    jitter = lambda n: torch.randn(n, 6, generator=generator) * torch.tensor([0, 0, .06, .03, .03, .06])
    device = whole.device
    with torch.autocast(device.type, enabled=False):
        whole, pose, told = mirrored(whole, frames.pose.flatten(0, 1), told_dynamics(frames).flatten(0, 1), generator)
        whole, pose = moved(whole, pose, generator)
        whole = disguise(resize(whole, motion.whole.size), generator)
        images, placed, z_dyn = mirrored(close.images, close.pose, close.z_dyn, generator)
        crops = face_crop(images, placed + jitter(len(images)).to(placed), motion.size)
        crops = disguise(crops, generator)
    seen_pose, body = motion.see(whole)
    face = motion.face(crops).float()
    lids = close.z_dyn[:, LIDS].amax(1, keepdim=True) * SPREAD[0]
    weight = torch.cat([torch.ones_like(face[:, :52]), 2 * (1 - lids).clamp(0, 1).square().expand(-1, 2)], dim=1)
    parts = {"pose": pose_loss(seen_pose, pose), "body": 0.3 * (body - told[:, 54:]).square().mean(),
             "face": 3 * (weight * (face - z_dyn).square()).mean()}
    return sum(parts.values()), parts


@torch.no_grad()
def measure_reading(motion: MotionReader, frames: Frames) -> dict:
    "How held-out frames (P, K) are read: degrees, R2 of units that move, of gaze where eyes are open, of shoulders."
    pose, read = (torch.cat(x).float() for x in zip(*(motion(images) for images in frames.images)))
    told, true = told_dynamics(frames).flatten(0, 1), frames.pose.flatten(0, 1)
    fit_of = lambda read, told: 1 - (read - told).square().mean(0) / told.var(0, correction=0).clamp_min(1e-6)
    r2, moving = fit_of(read, told), (told[:, :52] * SPREAD[:52].to(told)).std(0) > 0.05
    seen = frames.dynamics.flatten(0, 1)[:, LIDS].amax(1) < 0.5
    miss = (pose - true).abs()
    figures = {"pose_deg": miss[:, :3].mean().rad2deg(), "place_px": miss[:, 3:5].mean() * 128,
               "distance": (pose[:, 5] / true[:, 5]).log().abs().mean(), "units_r2": r2[:52][moving].mean(),
               "gaze_r2": fit_of(read[seen, 52:54], told[seen, 52:54]).mean(), "shoulders_r2": r2[54:].mean()}
    return {name: round(float(x), 4) for name, x in (figures | {name: r2[UNIT[name]] for name in SEEN}).items()}


def train_encoders(pool, close: CloseUps, held: Callable[[], Frames], *, out, config: FaceConfig,
                   start: MotionReader | None = None, minutes=None, max_steps=None, resume=None, seed=0, device="cpu",
                   pairs=3, frames=4, crops=40, lr=1.5e-3, flat=3000, quiet=True) -> tuple[MotionReader, int]:
    """Train a motion encoder, from `start` where given; returns it (eval, averaged weights) and the steps made.

    pool: what whole frames are drawn from, by `draw`; close: faces; held() gives frames of other people, to measure on.
    In the folder `out`: checkpoint.safetensors, progress.jsonl, at the end encoders.safetensors. `resume` is such a folder."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        motion = MotionReader(config).to(device)
    if start is not None: motion.load_state_dict(start.state_dict())
    for module in motion.modules():
        if isinstance(module, nn.Conv2d): module.to(memory_format=torch.channels_last)
    move = lambda x: x.to(device)

    def loss_fn(step, generator):
        with torch.autocast(torch.device(device).type, enabled=False):
            whole, faces = pool.draw(pairs, frames, generator).map(move), CloseUps(*map(move, close.draw(crops, generator)))
        return read_loss(motion, whole, faces, generator)

    def measure():
        motion.eval()
        figures = measure_reading(motion, held().map(move))
        motion.train()
        return figures

    log = fit(loss_fn, {"motion": motion}, out=out, resume=resume, minutes=minutes, max_steps=max_steps, seed=seed,
              device=device, lr=inverse_sqrt(lr, flat), mixed_precision="bf16", save_every=300, name="face: encoders",
              quiet=quiet, watch=Progress(out, measure, quiet=quiet))
    save_weights(out / "encoders.safetensors", motion, config, dtype=torch.float16, steps=len(log))
    return motion, len(log)
