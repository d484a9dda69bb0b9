"""Train the detector of made faces, and measure it on people and weights that it has never seen.

    python tools/detector.py POOL FOLDER --train WEIGHTS ... --test NAME=WEIGHTS ... [--steps 1000] [--json FILE]

POOL holds frames of the world (`vasa_ref.world.frames.Pool`, 256 pixels, four of each person); the face model of each
WEIGHTS (laptop, or a face.safetensors) draws three of a person's frames from the first one, with their true motion.
FOLDER keeps what was made, and gets detector.safetensors; a second call goes on from the pictures that are there.
--json gets the AUCs on 64 held-out people, for each NAME and for two ways of making that no training saw, after damage.
"""
import argparse
import io
import json
import tempfile
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

from vasa_ref.face.detail import load_face, sample_map
from vasa_ref.face.training import draw_frames
from vasa_ref.media.clips import read_frames, save_video
from vasa_ref.store import save_weights
from vasa_ref.trust.detector import Detector, DetectorConfig, auc
from vasa_ref.world.frames import Frames, Pool, draw_truth, render_frames

FILES, HELD = 40, 4        # files of 16 people to learn from, and of held-out people
WINDOW = 144               # pixels of what the detector sees in a step


def bytes_of(images):
    return (images.clamp(0, 1) * 255).round().byte()


def true_of(frames):
    return bytes_of(frames.images[:, 1:].flatten(0, 1))


@torch.no_grad()
def made_by(face, frames):
    """Three pictures (3 P, 3, S, S) of each person, drawn from the first frame."""
    parts = [frames.map(lambda x: x[i:i + 4]) for i in range(0, len(frames.pose), 4)]
    return torch.cat([bytes_of(draw_frames(face, part)[3].image) for part in parts])


def cut_out(frames):
    """The head cut out of the first frame and moved as eyes and mouth say, like a paper puppet; behind it, blur."""
    pictures = []
    for images, masks, marks in zip(frames.images, frames.masks, frames.marks):
        source, size = images[0], images.shape[-1]
        wide = lambda x: F.avg_pool2d(F.pad(x[None], (15,) * 4, mode="replicate"), 31, 1)[0]
        away = (wide(masks[0]) > 0.02).float()
        behind = source * (1 - away) + away * wide(source * (1 - away)) / wide(1 - away).clamp(min=1e-3)
        for there in marks[1:]:
            ones = torch.cat([there, torch.ones(3, 1)], 1)
            matrix = torch.linalg.solve(ones, marks[0])                          # (3, 2): there -> source
            axis = (torch.arange(size) + 0.5) * 2 / size - 1
            y, x = torch.meshgrid(axis, axis, indexing="ij")
            place = (torch.stack([x, y, torch.ones_like(x)], -1) @ matrix).movedim(-1, 0)[None]
            moved, mask = sample_map(source[None], place)[0], sample_map(masks[:1], place)[0]
            pictures.append(bytes_of(mask * moved + (1 - mask) * behind))
    return torch.stack(pictures)


def smoothed(true):
    x = true.float() / 255
    return bytes_of(0.6 * x + 0.4 * F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1))


# ---- damage, to pictures uint8 (N, 3, S, S)

def jpeg(pictures, quality):
    def one(picture):
        file = io.BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    return torch.stack([one(picture) for picture in pictures])


def h264(pictures, crf):
    with tempfile.TemporaryDirectory() as folder:
        frames = pictures.movedim(1, -1).contiguous()
        path = save_video(f"{folder}/a.mp4", iter(frames), torch.zeros(640 * len(frames)), crf=crf)
        return torch.stack(list(read_frames(path)))[:len(frames)].movedim(-1, 1).contiguous()


def half_size(pictures):
    small = F.interpolate(pictures.float(), scale_factor=0.5, mode="bilinear", antialias=True)
    return F.interpolate(small, scale_factor=2, mode="bicubic").clamp(0, 255).round().byte()


def blur(pictures):
    return F.avg_pool2d(F.pad(pictures.float(), (1, 1, 1, 1), mode="replicate"), 3, 1).round().byte()


def grain(pictures, generator):
    noise = 5 * torch.randn(pictures.shape, generator=generator)
    return (pictures.float() + noise).clamp(0, 255).round().byte()


DAMAGE = {"as made": lambda x: x, "JPEG 50": lambda x: jpeg(x, 50), "crf 23": lambda x: h264(x, 23),
          "crf 28": lambda x: h264(x, 28), "crf 35": lambda x: h264(x, 35), "half size": half_size, "blur": blur}


def damaged(pictures, generator):
    """Pictures, each damaged in one way or none."""
    kind, amount = torch.rand(2, generator=generator).tolist()
    if kind < 0.45: return pictures
    if kind < 0.7: return jpeg(pictures, int(35 + 60 * amount))
    if kind < 0.8: return half_size(pictures)
    if kind < 0.9: return blur(pictures)
    return grain(pictures, generator)


def training_pictures(pool, weights, folder):
    """True and made pictures, one by one twins, and the same again after H.264; kept in the folder."""
    path = folder / "pictures.pt"
    if path.is_file(): return torch.load(path)
    faces, true, made = [load_face(w) for w in weights], [], []
    for number, file in enumerate(tqdm(Pool.open(pool).files[:FILES], unit="16 people", mininterval=10)):
        frames = Frames(**{f.name: file.get_slice(f.name)[:] for f in fields(Frames)})
        for name in Pool.BYTES: setattr(frames, name, getattr(frames, name).float() / 255)
        frames.points, frames.rest = frames.points.float(), frames.rest.float()
        made.append(made_by(faces[number % len(faces)], frames)), true.append(true_of(frames))
    pairs = torch.stack([torch.cat(true), torch.cat(made)], 1)                   # (N, 2, 3, S, S)
    coded = torch.cat([h264(part.flatten(0, 1), 20 + i % 4 * 5).unflatten(0, (-1, 2))
                       for i, part in enumerate(pairs.split(60))])
    torch.save((pairs, coded), path)
    return pairs, coded


def held_out(folder):
    frames = []
    for k in range(HELD):
        path, generator = folder / f"held-{k}.pt", torch.Generator().manual_seed(9_000 + k)
        if not path.is_file():
            truth = draw_truth(16, 4, generator, held_out=True, calm=k % 2 == 1)
            torch.save(render_frames(*truth, 256, generator), path)
        frames.append(torch.load(path, weights_only=False))
    return frames


def train(pairs, coded, steps, seed=0):
    torch.manual_seed(seed)
    detector, generator = Detector(DetectorConfig()), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(detector.parameters(), lr=2e-3, weight_decay=0.02)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for step in tqdm(range(steps), unit="step", mininterval=10):
        rows = torch.randint(len(pairs), (12,), generator=generator)
        chosen = (coded if torch.rand((), generator=generator) < 0.35 else pairs)[rows]        # twins, damaged alike
        if torch.rand((), generator=generator) < 0.5: chosen = chosen.flip(-1)
        top, left = torch.randint(chosen.shape[-1] - WINDOW + 1, (2,), generator=generator).tolist()
        chosen = chosen[..., top:top + WINDOW, left:left + WINDOW]
        twins = torch.cat([damaged(pair, generator) for pair in chosen])
        scores = detector(twins.float() / 255).unflatten(0, (-1, 2))
        loss = F.softplus(scores[:, 0]).mean() + F.softplus(-scores[:, 1]).mean()
        optimiser.zero_grad(), loss.backward(), optimiser.step(), falling.step()
        if step % 100 == 99: tqdm.write(f"{step + 1} {loss.item():.3f}")
    return detector.eval()


@torch.inference_mode()
def scores_of(detector, pictures):
    return torch.cat([detector(part.float() / 255) for part in pictures.split(48)])


def measure(detector, held, faces):
    """{generator: {damage: {frame, person}}}: AUCs; and the threshold of 5 % false alarms among persons."""
    true = torch.cat([true_of(frames) for frames in held])
    made = {name: torch.cat([made_by(face, frames) for frames in held]) for name, face in faces.items()}
    made |= {"cut-out": torch.cat([cut_out(frames) for frames in held]), "smoothed": smoothed(true)}
    table, threshold = {name: {} for name in made}, 0.0
    for damage, work in DAMAGE.items():
        of_true = scores_of(detector, work(true))
        person = lambda scores: scores.view(-1, 3).mean(1)
        if damage == "as made": threshold = person(of_true).quantile(0.95).item()
        for name, pictures in made.items():
            scores = scores_of(detector, work(pictures))
            table[name][damage] = {"frame": round(auc(scores, of_true), 4),
                                   "person": round(auc(person(scores), person(of_true)), 4)}
        print(damage, {name: row[damage] for name, row in table.items()}, flush=True)
    return table, threshold


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool"), parser.add_argument("folder", type=Path)
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--test", nargs="+", required=True, metavar="NAME=WEIGHTS")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    pairs, coded = training_pictures(given.pool, given.train, given.folder)
    detector = train(pairs, coded, given.steps)
    faces = {name: load_face(weights) for name, weights in (one.split("=") for one in given.test)}
    table, threshold = measure(detector, held_out(given.folder), faces)
    save_weights(given.folder / "detector.safetensors", detector, detector.config, dtype=torch.float16,
                 threshold=threshold, steps=given.steps)
    if given.json:
        figures = {"auc": table, "threshold": threshold, "people": 16 * HELD, "frames": 3, "steps": given.steps,
                   "pairs": len(pairs), "config": asdict(detector.config)}
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
