"""Training of the encoders that read people: pose, face and shoulders' motion, and who it is, from told truth."""
import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from .detail import MotionReader, Reader, face_crop
from .disentangle import arcface, inverse_sqrt, pose_loss
from .face import FaceConfig, resize
from .dynamics import SPREAD
from .face256 import told_dynamics
from .training import fit
from .weights import load_into, read_tensors, save_weights
from .world.camera import photograph
from .world.frames import Frames, Pool
from .world.head import UNIT
from .world.people import random_people

__all__ = ["Recognition", "disguise", "read_loss", "measure_reading", "train_encoders256"]

LIDS = [UNIT["eyeBlinkLeft"], UNIT["eyeBlinkRight"]]


class Recognition(nn.Module):
    "Who it is: an encoder of images (B, 3, S, S) to codes (B, M), a linear reading of the person, and each person's centre."
    def __init__(self, config: FaceConfig):
        super().__init__()
        told = random_people(2048, torch.Generator().manual_seed(0)).flat()[:, :-1]          # without the seed
        self.encoder = Reader(config.identity_size, config.identity_widths, config.z_id_dim)
        self.read, self.centre = nn.Linear(config.z_id_dim, told.shape[1]), nn.Linear(told.shape[1], config.z_id_dim, bias=False)
        self.register_buffer("mean", told.mean(dim=0)), self.register_buffer("std", told.std(dim=0).clamp_min(1e-2))

    def standardise(self, people: Tensor) -> Tensor: return ((people[:, :-1] - self.mean) / self.std).clamp(-4, 4)
    def forward(self, images: Tensor) -> Tensor: return self.encoder(images)


def disguise(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    "Images (B, 3, S, S) under another light and from some camera: colours scaled, then, for half of them, `photograph`."
    rand = lambda *shape: torch.rand(len(images), *shape, generator=generator).to(images)
    x = images * (0.75 + 0.5 * rand(3, 1, 1)) + 0.2 * (rand(3, 1, 1) - 0.5)
    some = torch.rand(len(images), 1, 1, 1, generator=generator).to(images) < 0.5
    return torch.where(some, photograph(x.clamp(0, 1), generator), x.clamp(0, 1))


def read_loss(motion: MotionReader, recognition: Recognition | None, frames: Frames, generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
    "Loss of reading frames (P, K) after disguise, and its parts: pose, dynamics, person, arcface."
    images, pose, told = (x.flatten(0, 1) for x in (frames.images, frames.pose, told_dynamics(frames)))
    with torch.autocast(images.device.type, enabled=False):
        jitter = torch.randn(len(pose), 6, generator=generator).to(pose) * pose.new_tensor([0, 0, .03, .02, .02, .03])
        crops = disguise(face_crop(images, pose + jitter, motion.size), generator)
        whole = disguise(resize(images, motion.whole.size), generator)
    seen_pose, part = motion.see(whole)
    z_dyn = motion.dynamics(crops).float() + part
    open_eyes = (1 - frames.dynamics.flatten(0, 1)[:, LIDS].amax(1, keepdim=True)).clamp(0, 1).square()
    weight = torch.cat([torch.ones_like(told[:, :52]), 2 * open_eyes.expand(-1, 2), 0.5 * torch.ones_like(told[:, 54:])], dim=1)
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
    "How well frames (P, K) of held-out people are read: degrees, R2 of units that move, of gaze where eyes are open, of shoulders."
    rows = [motion(images) for images in frames.images]
    pose, z_dyn = (torch.cat(x).float() for x in zip(*rows))
    read, told, true = z_dyn, told_dynamics(frames).flatten(0, 1), frames.pose.flatten(0, 1)
    r2 = 1 - (read - told).square().mean(0) / told.var(0, correction=0).clamp_min(1e-6)
    moving = (told[:, :52] * SPREAD[:52]).std(0) > 0.05
    seen = frames.dynamics.flatten(0, 1)[:, LIDS].amax(1) < 0.5
    gaze = 1 - (read[seen, 52:54] - told[seen, 52:54]).square().mean(0) / told[seen, 52:54].var(0, correction=0)
    place = (pose - true)[:, 3:5].abs().mean() * 128
    named = {name: round(r2[UNIT[name]].item(), 3) for name in ("jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthSmileLeft",
                                                               "eyeBlinkLeft", "browInnerUp")}
    figures = {"pose_deg": (pose - true)[:, :3].abs().mean().rad2deg(), "place_px": place,
               "distance": (pose[:, 5] / true[:, 5]).log().abs().mean(), "units_r2": r2[:52][moving].mean(), "gaze_r2": gaze.mean(),
               "shoulders_r2": r2[54:].mean()}
    return {name: round(float(x), 4) for name, x in figures.items()} | named


def train_encoders256(pool, held_out, *, out, minutes=None, max_steps=None, resume=None, start=None, seed=0, device="cpu", pairs=4,
                      frames=4, lr=1e-3, flat=4000, config: FaceConfig | None = None, recognise=False,
                      quiet=True) -> tuple[MotionReader, Recognition | None]:
    """Train the motion encoder (`recognise`: and a recogniser) on a `Pool` folder; returns them (eval, averaged weights).

    Writes encoders.safetensors and a line of progress.jsonl every 5 minutes, checkpoints for `resume` too, a printed line every minute."""
    config, out = config or FaceConfig.laptop256(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        both = nn.ModuleDict({"motion": MotionReader(config)}).to(device)
        if recognise: both["recognition"] = Recognition(config).to(device)
    if start is not None: load_into(both, read_tensors(start)[0], start)
    for module in both.modules():
        if isinstance(module, nn.Conv2d): module.to(memory_format=torch.channels_last)
    recognition = both["recognition"] if recognise else None
    state = {"pool": Pool.open(pool), "told": time.monotonic(), "measured": time.monotonic()}
    held = Pool.open(held_out).draw(24, 4, torch.Generator().manual_seed(1))

    def loss_fn(step, generator):
        with torch.autocast(torch.device(device).type, enabled=False):
            drawn = state["pool"].draw(pairs, frames, generator).map(lambda x: x.to(device))
        return read_loss(both["motion"], recognition, drawn, generator)

    def watch(step, log, averaged):
        now = time.monotonic()
        if now - state["told"] > 60:
            recent = log[-50:]
            means = {k: sum(e[k] for e in recent) / len(recent) for k in recent[-1] if k not in ("step", "seconds")}
            print(time.strftime("%H:%M:%S"), f"step {step} frames {step * pairs * 2 * frames}", *(f"{k} {v:.3f}" for k, v in means.items()),
                  flush=True)
            state["told"] = now
        if now - state["measured"] > 300:
            with averaged():
                both.eval()
                figures = {"step": step, "frames": step * pairs * 2 * frames, "hours": round(log[-1]["seconds"] / 3600, 3),
                           "people": len(state["pool"]), **measure_reading(both["motion"], held)}
                save_weights(out / "encoders.safetensors", both, config, dtype=torch.float16, steps=step)
                both.train()
            print(time.strftime("%H:%M:%S"), json.dumps(figures), flush=True)
            with open(out / "progress.jsonl", "a") as file: file.write(json.dumps(figures) + "\n")
            state.update(pool=Pool.open(pool), measured=time.monotonic())

    fit(loss_fn, {"both": both}, out=out, resume=resume, minutes=minutes, max_steps=max_steps, seed=seed, device=device,
        lr=inverse_sqrt(lr, flat), mixed_precision="bf16", save_every=300, name="encoders256", quiet=quiet, watch=watch)
    save_weights(out / "encoders.safetensors", both, config, dtype=torch.float16)
    return both["motion"], recognition


def main() -> None:
    parser = argparse.ArgumentParser(description=train_encoders256.__doc__.splitlines()[0])
    parser.add_argument("pool"), parser.add_argument("held_out"), parser.add_argument("out")
    parser.add_argument("--minutes", type=float), parser.add_argument("--resume"), parser.add_argument("--start")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train_encoders256(given.pool, given.held_out, out=given.out, minutes=given.minutes, resume=given.resume, start=given.start)


if __name__ == "__main__": main()
