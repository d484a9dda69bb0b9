"""Training of the encoders that read people: pose, face and shoulders' motion, and who it is, from told truth."""
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from .detail import MotionReader, Reader, face_crop
from .disentangle import arcface, inverse_sqrt, pose_loss
from .dynamics import SPREAD, to_z_dyn
from .face import FaceConfig, resize
from .training import fit
from .weights import save_weights
from .world.camera import photograph
from .world.frames import Frames
from .world.head import UNIT, UNITS
from .world.people import random_people

__all__ = ["told_dynamics", "Progress", "Recognition", "disguise", "read_loss", "measure_reading", "train_encoders"]

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


class Recognition(nn.Module):
    "Who it is: an encoder of images (B, 3, S, S) to codes (B, M), a linear reading of the person, everybody's centre."
    def __init__(self, config: FaceConfig):
        super().__init__()
        told = random_people(2048, torch.Generator().manual_seed(0)).flat()[:, :-1]          # without the seed
        self.encoder = Reader(config.identity_size, config.identity_widths, config.z_id_dim)
        self.read = nn.Linear(config.z_id_dim, told.shape[1])
        self.centre = nn.Linear(told.shape[1], config.z_id_dim, bias=False)
        self.register_buffer("mean", told.mean(dim=0))
        self.register_buffer("std", told.std(dim=0).clamp_min(1e-2))

    def standardise(self, people: Tensor) -> Tensor: return ((people[:, :-1] - self.mean) / self.std).clamp(-4, 4)
    def forward(self, images: Tensor) -> Tensor: return self.encoder(images)


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


def train_encoders(pool, held: Callable[[], Frames], *, out, config: FaceConfig, minutes=None, max_steps=None,
                   resume=None, seed=0, device="cpu", pairs=4, frames=4, lr=1e-3, flat=4000, recognise=False,
                   quiet=True) -> tuple[MotionReader, Recognition | None, int]:
    """Train a motion encoder (`recognise`: and a recogniser); returns both (eval, averaged weights) and the steps made.

    pool: what frames are drawn from, by `draw`; held() gives frames of other people, to measure on. In the folder
    `out`: checkpoint.safetensors, progress.jsonl, at the end encoders.safetensors. `resume` is such a folder."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        both = nn.ModuleDict({"motion": MotionReader(config)})
        if recognise: both["recognition"] = Recognition(config)
    for module in both.to(device).modules():
        if isinstance(module, nn.Conv2d): module.to(memory_format=torch.channels_last)
    recognition = both["recognition"] if recognise else None

    def loss_fn(step, generator):
        with torch.autocast(torch.device(device).type, enabled=False):
            drawn = pool.draw(pairs, frames, generator).map(lambda x: x.to(device))
        return read_loss(both["motion"], recognition, drawn, generator)

    def measure():
        both.eval()
        figures = measure_reading(both["motion"], held().map(lambda x: x.to(device)))
        both.train()
        return figures

    log = fit(loss_fn, {"both": both}, out=out, resume=resume, minutes=minutes, max_steps=max_steps, seed=seed,
              device=device, lr=inverse_sqrt(lr, flat), mixed_precision="bf16", save_every=300, name="face: encoders",
              quiet=quiet, watch=Progress(out, measure, quiet=quiet))
    save_weights(out / "encoders.safetensors", both, config, dtype=torch.float16, steps=len(log))
    return both["motion"], recognition, len(log)
