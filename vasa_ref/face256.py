"""Training of the face model that copies: supervised warps first, then pictures, coarse ones before fine ones."""
import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .detail import Appearance, DetailFace, Drawn, Window, sample_map
from .dynamics import to_z_dyn
from .disentangle import inverse_sqrt, pixel_loss, region_weights
from .face import FaceConfig
from .perceptual import psnr, ssim
from .training import fit
from .weights import load_into, read_tensors, save_weights
from .world.frames import Frames, Pool, kept_points

__all__ = ["FacePlan", "told_dynamics", "point_losses", "share_loss", "draw_frames", "random_window", "draw_loss",
           "evaluate", "contact_sheet", "train_face256"]

def told_dynamics(frames: Frames) -> Tensor:
    "The true z_dyn of frames (P, K): (P, K, 57)."
    return to_z_dyn(frames.dynamics[..., :52], frames.dynamics[..., 52:], frames.body)


def shrink(frames: Frames, size: int) -> Frames:
    "The same frames with pictures of `size` pixels, a half or a quarter of what they were."
    factor = frames.images.shape[-1] // size
    if factor == 1: return frames
    small = lambda x: F.avg_pool2d(x.flatten(0, 1), factor).unflatten(0, x.shape[:2])
    return Frames(**{**vars(frames), "images": small(frames.images), "masks": small(frames.masks)})


def at_points(image: Tensor, points: Tensor) -> Tensor:
    "Maps (B, C, H, W) read at points (B, N, 2 or 3): (B, N, C)."
    return sample_map(image, points[..., :2].movedim(-1, 1)[:, :, None])[:, :, 0].movedim(1, -1)


def weighed(error: Tensor, weight: Tensor) -> Tensor:
    "Mean over points of the sizes (L1) of errors (B, N, 2 or 3), each with its weight (B, N)."
    return (error.abs().sum(-1) * weight).sum() / weight.sum().clamp(min=1)


def point_losses(face: DetailFace, sources: Appearance, a: Appearance, drawn: Drawn, flow: Tensor, pose: Tensor,
                 rest: Tensor, told: tuple, points: Tensor, seen: Tensor, weight: Tensor) -> dict:
    """How far the warps miss the true places of surface points, in voxel coordinates (1 is half a picture).

    rest and told[0] (P, N, 3): the sources' points at rest and where they are; told[1] (B, N, 3) the same for each driver; points and
    seen (B, N, .): of the drivers; weight (N,) of the points. to: from rest to the source; back: from the driver to rest; depth: of the surface that is seen;
    place: from the driver through everything to the source."""
    again = lambda x: x.repeat_interleave(len(points) // len(x), dim=0)
    shown = weight * seen
    at = at_points(drawn.depth, points), at_points(drawn.place, points)
    return {"to": weighed(face.find_source(rest, sources) - told[0], weight.expand(len(rest), -1)),
            "back": weighed(face.find_rest(points, pose, flow) - again(rest), shown),
            "depth": weighed(at[0] - points[..., 2:], shown),
            "place": weighed(at[1] - told[1][..., :2], shown)}


def share_loss(logits: Tensor, mask: Tensor, source_mask: Tensor, seen_at: tuple) -> Tensor:
    """How unlikely the shares (B, 4, S, S) make what is known of them; a number.

    What was and is behind the person stays; what the person uncovers is painted; the person is not left in place. Of the person's points
    that are seen, seen_at = (points (B, N, 3), seen (B, N), seen in the source too (B, N)), those that the source shows are copied, the
    others painted or mirrored."""
    logs = logits.log_softmax(dim=1)
    bare, uncovered, person = (mask < 0.01) & (source_mask < 0.01), (mask < 0.01) & (source_mask > 0.99), mask > 0.99
    away = torch.logsumexp(logs[:, [0, 2, 3]], dim=1, keepdim=True)
    pixels = -(bare * logs[:, 1:2] + uncovered * logs[:, 2:3] + person * away).mean()
    points, seen, both = seen_at
    read = at_points(logs, points)                                                # (B, N, 3)
    chosen = torch.where(both, read[..., 0], 0.3 * torch.logsumexp(read[..., 2:], dim=-1))
    return pixels - (chosen * seen).sum() / seen.sum().clamp(min=1)


@dataclass
class FacePlan:
    "What `train_face256` does."
    pairs: int = 2               # of people in a step
    drivers: int = 3             # of each
    sizes: tuple = ((0, 128), (12_000, 256))   # from which step on how many pixels
    measure: int = 300           # seconds between two measurings
    lr: float = 2e-3
    flat: int = 4000             # steps before the learning rate falls
    points: float = 20.0
    shares: float = 0.3
    pixels: float = 10.0
    paint: float = 0.15          # of pixels, for what is painted, everywhere
    structure: float = 0.0
    window: int = 0              # pixels of the part of each driver that is drawn at 256; 0: all of it

    def size(self, step: int) -> int: return [size for start, size in self.sizes if step >= start][-1]


def codes_of(frames: Frames) -> tuple[Tensor, Tensor]:
    "Told pose (P, K, 6) and z_dyn (P, K, M) of frames."
    return frames.pose, told_dynamics(frames)


def draw_frames(face: DetailFace, frames: Frames, window: Window | None = None):
    "Each person's first frame drawn with the motion of its others: sources, repeated `Appearance`, flow, `Drawn`."
    n = frames.pose.shape[1] - 1
    pose, z_dyn = codes_of(frames)
    source = frames.images[:, 0]
    z_id = face.identity(source)
    sources = face.appearance(source, z_id, (pose[:, 0], z_dyn[:, 0]))
    a, drive = sources.repeat(n), (z_id.repeat_interleave(n, dim=0), pose[:, 1:].flatten(0, 1), z_dyn[:, 1:].flatten(0, 1))
    flow = face.drive(a, *drive)
    return sources, a, flow, face.draw(a, *drive, flow, window)


def random_window(marks: Tensor, size: int, side: int, generator: torch.Generator | None = None) -> Window:
    "Windows of `side` pixels of size: a third each about an eye, about the mouth, anywhere; marks (B, 3, 2)."
    n, room = len(marks), (size - side) // 2
    centre = marks.gather(1, torch.randint(3, (n, 1, 1), generator=generator).expand(-1, 1, 2).to(marks.device))[:, 0]
    centre = centre + 0.15 * torch.randn(n, 2, generator=generator).to(centre)
    near = ((centre.flip(1) + 1) * size / 4 - side / 4).round().long()
    corners = torch.randint(room + 1, (n, 2), generator=generator).to(marks.device)
    anywhere = (torch.rand(n, 1, generator=generator) < 1 / 3).to(marks.device)
    return Window(torch.where(anywhere, corners, near).clamp(0, room), side // 2)


def draw_loss(face: DetailFace, frames: Frames, plan: FacePlan, weight: Tensor, window: Window | None = None) -> tuple[Tensor, dict]:
    """The loss on frames (P, K), the first of which is the source, and its weighed parts.

    weight (N,) of the surface points; with a `window` of each driver, pixels are drawn and compared only there."""
    n, size = frames.pose.shape[1] - 1, frames.images.shape[-1]
    sources, a, flow, drawn = draw_frames(face, frames, window)
    pose, points, seen, truth, mask, marks = (x[:, 1:].flatten(0, 1) for x in (
        frames.pose, frames.points, frames.seen, frames.images, frames.masks, frames.marks))
    again = lambda x: x.repeat_interleave(n, dim=0)
    told = frames.points[:, 0], again(frames.points[:, 0])
    parts = point_losses(face, sources, a, drawn, flow, pose, frames.rest, told, points, seen, weight)
    parts = {name: plan.points * x * (0.5 if name == "depth" else 1) for name, x in parts.items()}
    both, source_mask, where = seen & again(frames.seen[:, 0]), again(frames.masks[:, 0]), region_weights(mask, marks, pose[:, 5])
    if window is not None:
        truth, mask, source_mask, where = (window.crop(x, 2) for x in (truth, mask, source_mask, where))
        half = 2 * window.side / size                                              # half a window, in halves of a picture
        middle = (window.corners.flip(1) * 2 + window.side) * 2 / size - 1
        points = (points[..., :2] - middle[:, None]) / half
        seen = seen & (points.abs() < 1).all(-1)
    parts["shares"] = plan.shares * share_loss(drawn.logits, mask, source_mask, (points, seen, both))
    parts["pixels"] = plan.pixels * pixel_loss(drawn.image, truth, where)
    parts["paint"] = plan.pixels * plan.paint * 2 * (where * (drawn.paint - truth).abs()).mean()
    parts["shade"] = 0.5 * drawn.shade.abs().mean()
    if plan.structure: parts["structure"] = plan.structure * (1 - ssim(drawn.image, truth).mean())
    return sum(parts.values()), parts


@torch.no_grad()
def evaluate(face: DetailFace, frames: Frames, rows: int = 4) -> dict:
    "Figures of self-reenactment of frames (P, K) from told motion: dB, SSIM, errors of places in pixels of 256."
    weight, _of = kept_points()[1], kept_points()[2]
    sums = []
    for i in range(0, len(frames.pose), rows):
        part = frames.map(lambda x: x[i:i + rows])
        sources, a, flow, drawn = draw_frames(face, part)
        again = lambda x: x.repeat_interleave(part.pose.shape[1] - 1, dim=0)
        truth, mask, points = (x[:, 1:].flatten(0, 1) for x in (part.images, part.masks, part.points))
        image = drawn.image.float().clamp(0, 1)
        both = part.seen[:, 1:].flatten(0, 1) & again(part.seen[:, 0])
        miss = 128 * (at_points(drawn.place, points) - again(part.points[:, 0])[..., :2]).norm(dim=-1)
        mean = lambda chosen: (miss * chosen).sum() / chosen.sum()
        square = (image - truth).square().mean(1, keepdim=True)
        sums.append({"psnr": psnr(image, truth).mean(), "ssim": ssim(image, truth).mean(),
                     "psnr_person": (-10 * torch.log10((square * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)))).mean(),
                     "px": mean(both), "px_mouth_eyes": mean(both & (weight > 1.5)),
                     "px_still": (128 * (points - again(part.points[:, 0]))[..., :2].norm(dim=-1) * both).sum() / both.sum(),
                     "copied": (drawn.logits.softmax(1)[:, :1] * mask).sum() / mask.sum()})
    return {name: round(torch.stack([s[name] for s in sums]).mean().item(), 4) for name in sums[0]}


def colour_shares(logits: Tensor) -> Tensor:
    "Shares (B, 4, S, S) as a picture: red copied, green stays, blue painted, white mirrored."
    shares = logits.float().softmax(1)
    return (shares[:, :3] + shares[:, 3:]).clamp(0, 1)


@torch.no_grad()
def contact_sheet(face: DetailFace, frames: Frames, path, people: int = 6) -> None:
    "A PNG: for each of so many people source, truth, result, difference x 3, copy, paint, shares (red copied, green stays, blue painted, white mirrored)."
    from PIL import Image
    part = frames.map(lambda x: x[:people, :2])
    drawn = draw_frames(face, part)[3]
    source, truth = part.images.unbind(1)
    image = drawn.image.float().clamp(0, 1)
    columns = [source, truth, image, (0.5 + 1.5 * (image - truth)).clamp(0, 1), (drawn.copy + drawn.shade).clamp(0, 1), drawn.paint,
               colour_shares(drawn.logits)]
    sheet = torch.cat([torch.cat(list(c), dim=1) for c in columns], dim=2)        # people down, columns across
    Image.fromarray((sheet.movedim(0, -1) * 255).round().byte().numpy()).save(path)


def train_face256(pool, held_out, *, out, minutes=None, max_steps=None, resume=None, seed=0, device="cpu", plan: FacePlan | None = None,
                  config: FaceConfig | None = None, compiled: bool = False, quiet: bool = True, start=None) -> DetailFace:
    """Train a `DetailFace` on a `Pool` folder and return it (eval, averaged weights); `held_out` is a folder of other people.

    In `out`: checkpoint.safetensors every 5 minutes, face.safetensors (averaged, float16) and a line of progress.jsonl with held-out
    figures every 5, sheet-STEP.png every 10, a printed line every minute. The pool is opened anew every 5 minutes: it may grow.
    `resume` is such a folder; `start` a face.safetensors to begin from."""
    plan, config, out = plan or FacePlan(), config or FaceConfig.laptop256(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        face = DetailFace(config).to(device)
    if start is not None: load_into(face, read_tensors(start)[0], start)
    modules = dict(face.named_children())
    modules.pop("motion_encoder").eval().requires_grad_(False)
    state = {"pool": Pool.open(pool), "told": time.monotonic(), "measured": time.monotonic(), "sheets": 0}
    held = Pool.open(held_out).draw(8, 5, torch.Generator().manual_seed(1))       # 16 people

    weight = kept_points()[1].to(device)
    run = torch.compile(draw_loss) if compiled else draw_loss

    def loss_fn(step, generator):
        with torch.autocast(torch.device(device).type, enabled=False):
            frames = state["pool"].draw(plan.pairs, plan.drivers + 1, generator)
            frames, window = shrink(frames.map(lambda x: x.to(device)), plan.size(step)), None
            if plan.window and plan.size(step) >= 256:
                window = random_window(frames.marks[:, 1:].flatten(0, 1), plan.size(step), plan.window, generator)
        return run(face, frames, plan, weight, window)

    def watch(step, log, averaged):
        now = time.monotonic()
        if now - state["told"] > 60:
            recent = log[-50:]
            means = {k: sum(e[k] for e in recent) / len(recent) for k in recent[-1] if k not in ("step", "seconds")}
            print(time.strftime("%H:%M:%S"), f"step {step} pairs {step * plan.pairs * 2 * plan.drivers} size {plan.size(step)}",
                  *(f"{k} {v:.3f}" for k, v in means.items()), flush=True)
            state["told"] = now
        if now - state["measured"] > plan.measure:
            with averaged():
                face.eval()
                frames = shrink(held, plan.size(step))
                figures = {"step": step, "pairs": step * plan.pairs * 2 * plan.drivers, "size": plan.size(step),
                           "hours": round(log[-1]["seconds"] / 3600, 3), "people": len(state["pool"]), **evaluate(face, frames)}
                state["sheets"] += 1
                if state["sheets"] % 2 == 1: contact_sheet(face, frames, out / f"sheet-{step:06d}.png")
                save_weights(out / "face.safetensors", face, config, dtype=torch.float16, steps=step)
                face.train()
            print(time.strftime("%H:%M:%S"), json.dumps(figures), flush=True)
            with open(out / "progress.jsonl", "a") as file: file.write(json.dumps(figures) + "\n")
            state.update(pool=Pool.open(pool), measured=time.monotonic())

    fit(loss_fn, modules, out=out, resume=resume, minutes=minutes, max_steps=max_steps, seed=seed, device=device,
        lr=inverse_sqrt(plan.lr, plan.flat), mixed_precision="bf16", save_every=300, name="face256", quiet=quiet, watch=watch)
    save_weights(out / "face.safetensors", face, config, dtype=torch.float16)
    return face.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=train_face256.__doc__.splitlines()[0])
    parser.add_argument("pool"), parser.add_argument("held_out"), parser.add_argument("out")
    parser.add_argument("--minutes", type=float), parser.add_argument("--resume"), parser.add_argument("--start")
    parser.add_argument("--threads", type=int, default=1), parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--plan", type=json.loads, default={}, help="fields of FacePlan as JSON")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train_face256(given.pool, given.held_out, out=given.out, minutes=given.minutes, resume=given.resume, start=given.start,
                  compiled=given.compiled, plan=FacePlan(**given.plan))


if __name__ == "__main__": main()
