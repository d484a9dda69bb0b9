"""Training of the face model that copies: supervised warps first, then pictures, coarse ones before fine ones."""
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from . import disentangle
from .detail import Appearance, DetailFace, Drawn, MotionReader, Window, build_face, face_config, load_face, sample_map
from .disentangle import FreshFrames, inverse_sqrt, make_pool, pixel_loss, region_weights, shrink
from .errors import VasaError
from .face import FaceConfig, FaceModel
from .face_encoders import CloseUps, Progress, told_dynamics, train_encoders
from .perceptual import psnr, ssim
from .training import CHECKPOINT, fit
from .weights import save_weights
from .world.frames import Frames, draw_truth, kept_points, render_frames

__all__ = ["FacePlan", "point_losses", "share_loss", "draw_frames", "random_window",
           "draw_loss", "evaluate", "contact_sheet", "train_detail", "train_face"]


def at_points(image: Tensor, points: Tensor) -> Tensor:
    "Maps (B, C, H, W) read at points (B, N, 2 or 3): (B, N, C)."
    return sample_map(image, points[..., :2].movedim(-1, 1)[:, :, None])[:, :, 0].movedim(1, -1)


def weighed(error: Tensor, weight: Tensor) -> Tensor:
    "Mean over points of the sizes (L1) of errors (B, N, 2 or 3), each with its weight (B, N)."
    return (error.abs().sum(-1) * weight).sum() / weight.sum().clamp(min=1)


def point_losses(face: DetailFace, sources: Appearance, a: Appearance, drawn: Drawn, flow: Tensor, pose: Tensor,
                 rest: Tensor, told: tuple, points: Tensor, seen: Tensor, weight: Tensor) -> dict:
    """How far the warps miss the true places of surface points, in voxel coordinates (1 is half a picture).

    rest and told[0] (P, N, 3): the sources' points at rest and where they are; told[1] (B, N, 3) the same for each
    driver; points and seen (B, N, .): of the drivers; weight (N,) of the points. to: from rest to the source; back:
    from the driver to rest; depth: of the surface that is seen; place: from the driver through all to the source."""
    again = lambda x: x.repeat_interleave(len(points) // len(x), dim=0)
    shown = weight * seen
    at = at_points(drawn.depth, points), at_points(drawn.place, points)
    return {"to": weighed(face.find_source(rest, sources) - told[0], weight.expand(len(rest), -1)),
            "back": weighed(face.find_rest(points, pose, flow) - again(rest), shown),
            "depth": weighed(at[0] - points[..., 2:], shown),
            "place": weighed(at[1] - told[1][..., :2], shown)}


def share_loss(logits: Tensor, mask: Tensor, source_mask: Tensor, seen_at: tuple) -> Tensor:
    """How unlikely the shares (B, 4, S, S) make what is known of them; a number.

    What was and is behind the person stays; what the person uncovers is painted; the person is not left in place. Of
    the person's points that are seen, seen_at = (points (B, N, 3), seen (B, N), seen in the source too (B, N)), those
    that the source shows are copied, the others painted or mirrored."""
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
    "What `train_face` does with a preset."
    people: int = 1600           # of the pool, on a CPU
    close_ups: int = 2400        # people whose faces the encoder sees
    frames: int = 8              # of each
    encoder_steps: int = 60_000
    steps: int = 200_000
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
    window: int = 0              # pixels of the part of each driver that is drawn at full size; 0: all of it

    @classmethod
    def tiny(cls): return cls(people=16, frames=3, close_ups=8, encoder_steps=60, steps=60, pairs=1, drivers=2, sizes=((0, 32),))

    @classmethod
    def laptop(cls): return cls()

    def size(self, step: int) -> int: return [size for start, size in self.sizes if step >= start][-1]


def draw_frames(face: DetailFace, frames: Frames, window: Window | None = None):
    "Each person's first frame drawn with the motion of its others: sources, repeated `Appearance`, flow, `Drawn`."
    n, pose, z_dyn = frames.pose.shape[1] - 1, frames.pose, told_dynamics(frames)
    source = frames.images[:, 0]
    z_id = face.identity(source)
    sources = face.appearance(source, z_id, (pose[:, 0], z_dyn[:, 0]))
    a, drivers = sources.repeat(n), (x[:, 1:].flatten(0, 1) for x in (pose, z_dyn))
    drive = z_id.repeat_interleave(n, dim=0), *drivers
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


def draw_loss(face: DetailFace, frames: Frames, plan: FacePlan, weight: Tensor,
              window: Window | None = None) -> tuple[Tensor, dict]:
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
    both, source_mask = seen & again(frames.seen[:, 0]), again(frames.masks[:, 0])
    where = region_weights(mask, marks, pose[:, 5])
    if window is not None:
        truth, mask, source_mask, where = (window.crop(x, 2) for x in (truth, mask, source_mask, where))
        half = 2 * window.side / size                                             # half a window, in half pictures
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
    weight, sums = kept_points()[1].to(frames.pose), []
    for i in range(0, len(frames.pose), rows):
        part = frames.map(lambda x: x[i:i + rows])
        sources, a, flow, drawn = draw_frames(face, part)
        again = lambda x: x.repeat_interleave(part.pose.shape[1] - 1, dim=0)
        truth, mask, points = (x[:, 1:].flatten(0, 1) for x in (part.images, part.masks, part.points))
        image = drawn.image.float().clamp(0, 1)
        both = part.seen[:, 1:].flatten(0, 1) & again(part.seen[:, 0])
        miss = 128 * (at_points(drawn.place, points) - again(part.points[:, 0])[..., :2]).norm(dim=-1)
        mean = lambda chosen, of=miss: (of * chosen).sum() / chosen.sum()
        square = (image - truth).square().mean(1, keepdim=True)
        sums.append({"psnr": psnr(image, truth).mean(), "ssim": ssim(image, truth).mean(),
                     "psnr_person": (-10 * torch.log10((square * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)))).mean(),
                     "px": mean(both), "px_mouth_eyes": mean(both & (weight > 1.5)),
                     "px_still": mean(both, 128 * (points - again(part.points[:, 0]))[..., :2].norm(dim=-1)),
                     "copied": (drawn.logits.softmax(1)[:, :1] * mask).sum() / mask.sum()})
    return {name: round(torch.stack([s[name] for s in sums]).mean().item(), 4) for name in sums[0]}


def colour_shares(logits: Tensor) -> Tensor:
    "Shares (B, 4, S, S) as a picture: red copied, green stays, blue painted, white mirrored."
    shares = logits.float().softmax(1)
    return (shares[:, :3] + shares[:, 3:]).clamp(0, 1)


@torch.no_grad()
def contact_sheet(face: DetailFace, frames: Frames, people: int = 6) -> Tensor:
    """A picture (3, H, W) in [0, 1], a row for each person: source, truth, result, difference x 3, copy, paint, shares.

    Shares: red is copied, green stays, blue is painted, white is mirrored."""
    part = frames.map(lambda x: x[:people, :2])
    drawn, (source, truth) = draw_frames(face, part)[3], part.images.unbind(1)
    image = drawn.image.float()
    columns = [source, truth, image, 0.5 + 1.5 * (image - truth), drawn.copy + drawn.shade, drawn.paint,
               colour_shares(drawn.logits)]
    return torch.cat([torch.cat(list(c.clamp(0, 1)), dim=1) for c in columns], dim=2)


def train_detail(pool, held: Callable[[], Frames], *, out, config: FaceConfig, plan: FacePlan | None = None,
                 encoder: MotionReader | None = None, start: DetailFace | None = None, minutes=None, max_steps=None,
                 resume=None, seed=0, device="cpu", compiled: bool = False, quiet: bool = True) -> tuple[DetailFace, int]:
    """Train a `DetailFace`, from `start` where given, beside its motion `encoder`, which stays; returns it (eval,
    averaged weights) and the steps.

    pool: what frames are drawn from, by `draw`; held() gives frames of other people, to measure on. In the folder
    `out`: checkpoint.safetensors, progress.jsonl and, at the end and with each line of it, face.safetensors. `resume`
    is such a folder. `compiled`: the loss is compiled by torch."""
    plan, out = plan or FacePlan(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        face = build_face(config).to(device)
    if start is not None: face.load_state_dict(start.state_dict())
    if encoder is not None: face.motion_encoder.load_state_dict(encoder.state_dict())
    modules = dict(face.named_children())
    modules.pop("motion_encoder").eval().requires_grad_(False)
    weight, run, step_now = kept_points()[1].to(device), torch.compile(draw_loss) if compiled else draw_loss, 0

    def loss_fn(step, generator):
        nonlocal step_now
        step_now = step
        with torch.autocast(torch.device(device).type, enabled=False):
            frames = pool.draw(plan.pairs, plan.drivers + 1, generator)
            frames, window = shrink(frames.map(lambda x: x.to(device)), plan.size(step)), None
            if plan.window and plan.size(step) == config.size:
                window = random_window(frames.marks[:, 1:].flatten(0, 1), config.size, plan.window, generator)
        return run(face, frames, plan, weight, window)

    def measure():
        face.eval()
        figures = evaluate(face, shrink(held().map(lambda x: x.to(device)), plan.size(step_now)))
        save_weights(out / "face.safetensors", face, config, dtype=torch.float16, steps=step_now)
        face.train()
        return {"size": plan.size(step_now), **figures}

    log = fit(loss_fn, modules, out=out, resume=resume, minutes=minutes, max_steps=max_steps, seed=seed, device=device,
              lr=inverse_sqrt(plan.lr, plan.flat), mixed_precision="bf16", save_every=300, name="face: all",
              quiet=quiet, watch=Progress(out, measure, plan.measure, quiet))
    save_weights(out / "face.safetensors", face, config, dtype=torch.float16, steps=len(log))
    return face.requires_grad_(True).eval(), len(log)


def train_face(preset="laptop", *, out, minutes=None, max_steps=None, resume=None, device="cpu", seed=0, quiet=False,
               plan: FacePlan | None = None, start=None, vgg19=None) -> DetailFace | FaceModel:
    """Train the face model of a preset on the synthetic world: face.safetensors in the folder `out`. Returns it (eval).

    Those that copy detail, tiny and laptop, in three stages, each with a folder of its own beside the file: frames are
    rendered (`face-pool`; on an accelerator for each step), then the motion encoder learns from these and from
    close-ups, then, with it frozen, all else. `minutes` is the wall clock of the whole call; the pool takes at most
    20 % of it, close-ups as well 30 %, the encoder as well 50 %; `max_steps` limits each stage. `resume` is such a
    folder, where every stage goes on; `start` is a folder of weights to begin from.
    paper is plain: `disentangle.train_face`, which also takes the file `vgg19`.
    Raises VasaError for an unknown preset, a folder that holds nothing to resume, `vgg19` where it is of no use."""
    config, began, folder = face_config(preset), time.monotonic(), Path(out)
    common = dict(seed=seed, device=device, quiet=quiet)
    if not config.detail:
        return disentangle.train_face(preset, minutes=minutes, max_steps=max_steps, resume=resume, out=out, vgg19=vgg19,
                                      **common)
    if vgg19: raise VasaError(f"VGG19 is of no use to the preset {preset}, which copies detail: it is for paper")
    plan = plan or getattr(FacePlan, preset)()
    resumed = lambda name: Path(resume) / name if resume and (Path(resume) / name / CHECKPOINT).is_file() else None
    if resume and not resumed("face-encoders"):
        raise VasaError(f"cannot resume: {resume} holds no face training, expected a folder of `vasa train face`")
    left = lambda share=1.0: None if minutes is None else max(0.0, minutes * share - (time.monotonic() - began) / 60)
    limit = lambda steps: steps if max_steps is None else min(steps, max_steps)
    if torch.device(device).type != "cpu": pool = FreshFrames(config.size, device)
    else:
        if resume and (Path(resume) / "face-pool").is_dir() and Path(resume) != folder:
            shutil.copytree(Path(resume) / "face-pool", folder / "face-pool", dirs_exist_ok=True)
        pool = make_pool(folder / "face-pool", plan, config.size, seed, left(0.2), quiet)

    @cache
    def held():
        generator = torch.Generator().manual_seed(1)
        return render_frames(*draw_truth(8, 4, generator, held_out=True), config.size, generator)

    def stage(train, name, share, steps, *data, **options):
        return train(pool, *data, held, out=folder / name, config=config, minutes=left(share), max_steps=limit(steps),
                     resume=resumed(name), **options, **common)

    close = CloseUps.make(folder / "face-close-ups.safetensors", plan.close_ups, round(1.17 * config.motion_size),
                          seed=seed, minutes=left(0.3), quiet=quiet)
    start = None if start is None else load_face(start)
    encoder, encoder_steps = stage(train_encoders, "face-encoders", 0.5, plan.encoder_steps, close,
                                   start=start and start.motion_encoder)
    face, steps = stage(train_detail, "face-joint", 1.0, plan.steps, plan=plan, encoder=encoder, start=start)
    save_weights(folder / "face.safetensors", face, config, dtype=torch.float16,
                 steps={"encoders": encoder_steps, "all": steps})
    return face
