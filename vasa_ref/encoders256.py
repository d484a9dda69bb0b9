"""Training of the encoder that reads pose, face and shoulders' motion from pictures whose truth is known."""
import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from .detail import MotionReader, face_crop
from .disentangle import inverse_sqrt, pose_loss
from .dynamics import SPREAD
from .face import FaceConfig, resize
from .face256 import told_dynamics
from .training import fit
from .weights import load_into, read_tensors, save_weights
from .world.camera import photograph
from .world.frames import Frames, Pool
from .world.head import UNIT

__all__ = ["disguise", "read_loss", "measure_reading", "train_encoders256"]

LIDS = [UNIT["eyeBlinkLeft"], UNIT["eyeBlinkRight"]]


def disguise(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    "Images (B, 3, S, S) under another light, half of them from some camera: colours scaled, then `photograph`."
    rand = lambda *shape: torch.rand(len(images), *shape, generator=generator).to(images)
    x = images * (0.75 + 0.5 * rand(3, 1, 1)) + 0.2 * (rand(3, 1, 1) - 0.5)
    some = torch.rand(len(images), 1, 1, 1, generator=generator).to(images) < 0.5
    return torch.where(some, photograph(x.clamp(0, 1), generator), x.clamp(0, 1))


def read_loss(motion: MotionReader, frames: Frames,
              generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
    "Loss of reading frames (P, K) after disguise, and its parts: pose and dynamics."
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


def train_encoders256(pool, held_out, *, out, minutes=None, max_steps=None, resume=None, start=None, seed=0,
                      device="cpu", pairs=4, frames=4, lr=1e-3, flat=4000, config: FaceConfig | None = None,
                      quiet=True) -> MotionReader:
    """Train the motion encoder on a `Pool` folder and return it (eval, averaged weights).

    Writes encoders.safetensors and a line of progress.jsonl every 5 minutes, checkpoints for `resume` too, and prints a
    line every minute."""
    config, out = config or FaceConfig.laptop256(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        motion = MotionReader(config).to(device)
    if start is not None: load_into(motion, read_tensors(start)[0], start)
    for module in motion.modules():
        if isinstance(module, nn.Conv2d): module.to(memory_format=torch.channels_last)
    state = {"pool": Pool.open(pool), "told": time.monotonic(), "measured": time.monotonic()}
    held = Pool.open(held_out).draw(24, 4, torch.Generator().manual_seed(1))

    def loss_fn(step, generator):
        with torch.autocast(torch.device(device).type, enabled=False):
            drawn = state["pool"].draw(pairs, frames, generator).map(lambda x: x.to(device))
        return read_loss(motion, drawn, generator)

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
                motion.eval()
                figures = {"step": step, "frames": step * pairs * 2 * frames, "hours": round(log[-1]["seconds"] / 3600, 3),
                           "people": len(state["pool"]), **measure_reading(motion, held)}
                save_weights(out / "encoders.safetensors", motion, config, dtype=torch.float16, steps=step)
                motion.train()
            print(time.strftime("%H:%M:%S"), json.dumps(figures), flush=True)
            with open(out / "progress.jsonl", "a") as file: file.write(json.dumps(figures) + "\n")
            state.update(pool=Pool.open(pool), measured=time.monotonic())

    fit(loss_fn, {"motion": motion}, out=out, resume=resume, minutes=minutes, max_steps=max_steps, seed=seed, device=device,
        lr=inverse_sqrt(lr, flat), mixed_precision="bf16", save_every=300, name="encoders256", quiet=quiet, watch=watch)
    save_weights(out / "encoders.safetensors", motion, config, dtype=torch.float16)
    return motion


def main() -> None:
    parser = argparse.ArgumentParser(description=train_encoders256.__doc__.splitlines()[0])
    parser.add_argument("pool"), parser.add_argument("held_out"), parser.add_argument("out")
    parser.add_argument("--minutes", type=float), parser.add_argument("--resume"), parser.add_argument("--start")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train_encoders256(given.pool, given.held_out, out=given.out, minutes=given.minutes, resume=given.resume, start=given.start)


if __name__ == "__main__": main()
