"""Training of the encoders that read people: pose, face and shoulders' motion, and who it is, from told truth."""
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
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
from .world.head import UNIT
from .world.people import random_people

__all__ = ["told_dynamics", "Progress", "Recognition", "disguise", "read_loss", "measure_reading", "train_encoders"]

LIDS = [UNIT["eyeBlinkLeft"], UNIT["eyeBlinkRight"]]
SEEN = "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthSmileLeft", "eyeBlinkLeft", "browInnerUp"


def told_dynamics(frames: Frames) -> Tensor:
    "The true z_dyn of frames (P, K): (P, K, 57)."
    return to_z_dyn(frames.dynamics[..., :52], frames.dynamics[..., 52:], frames.body)


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


def read_loss(motion: MotionReader, recognition: Recognition | None, frames: Frames,
              generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
    "Loss of reading frames (P, K) after disguise, and its parts: pose, dynamics, person, arcface."
    images, pose, told = (x.flatten(0, 1) for x in (frames.images, frames.pose, told_dynamics(frames)))
    with torch.autocast(images.device.type, enabled=False):
        jitter = torch.randn(len(pose), 6, generator=generator).to(pose) * pose.new_tensor([0, 0, .03, .02, .02, .03])
        crops = disguise(face_crop(images, pose + jitter, motion.size), generator)
        whole = disguise(resize(images, motion.whole.size), generator)
    seen_pose, part = motion.see(whole)
    z_dyn = motion.dynamics(crops).float() + part
    open_eyes = (1 - frames.dynamics.flatten(0, 1)[:, LIDS].amax(1, keepdim=True)).clamp(0, 1).square()
    ones = torch.ones_like(told)
    weight = torch.cat([ones[:, :52], 2 * open_eyes.expand(-1, 2), 0.5 * ones[:, 54:]], dim=1)
    parts = {"pose": pose_loss(seen_pose, pose), "dynamics": (weight * (z_dyn - told).square()).mean() * 3}
    if recognition is not None:
        people = recognition.standardise(frames.people)
        who = torch.arange(len(people), device=pose.device).repeat_interleave(frames.pose.shape[1])
        code = recognition(whole)
        parts |= {"person": 0.3 * (recognition.read(code).float() - people[who]).square().mean(),
                  "arcface": 0.05 * arcface(code, recognition.centre(people), who)}
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
