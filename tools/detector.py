"""Train the detector of made faces, and measure it on people and weights that it has never seen.

    python tools/detector.py pictures FOLDER --pool POOL --weights WEIGHTS ...
    python tools/detector.py train FOLDER [--steps 800]
    python tools/detector.py films FOLDER
    python tools/detector.py measure FOLDER --weights shipped=laptop NAME=WEIGHTS ... [--json FILE]
    python tools/detector.py again FOLDER --json FILE

pictures: POOL holds frames of the world (`vasa_ref.world.frames.Pool`, 256 pixels, four of each person); face models of
WEIGHTS (laptop, or a face.safetensors), in turns, draw all four from the first one, with their true motion.
train: goes on from FOLDER/trained.safetensors, where it is there. films: renders clips of held-out people who speak.
measure: AUCs on held-out people, for the face model of each NAME and for ways of making that no training saw; of the
first NAME the scores of all frames as well, for curves. again: measures once more what the shipped weights do; the rest
of FILE stays, and so does the threshold, with the scores that it was set on: another machine codes films a little
differently, and scores of true people with them.
What a step made lies in FOLDER; `films` goes on from what is there.
"""
import argparse
import io
import json
import re
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
from vasa_ref.store import load_into, load_model, load_weights, save_weights
from vasa_ref.trust.detector import Detector, DetectorConfig, auc, auc_interval, detection_loss, load_detector
from vasa_ref.world.frames import Frames, Pool, draw_truth, render_frames

FILES, HELD = 40, 4        # files of 16 people to learn from, and of held-out people
FILMS, SECONDS = 12, 3.2   # of held-out people who speak
CROP = 160                 # pixels of a window that training sees


def bytes_of(images):
    return (images.clamp(0, 1) * 255).round().byte()


@torch.no_grad()
def made_by(face, frames, whole=False):
    """A person's frames but for the first, drawn from the first: (3 P, 3, S, S); whole: the first as well."""
    order = [0, *range(0 if whole else 1, frames.pose.shape[1])]
    parts = [frames.map(lambda x: x[i:i + 4][:, order]) for i in range(0, len(frames.pose), 4)]
    return torch.cat([bytes_of(draw_frames(face, part)[3].image) for part in parts])


# ---- ways of making that no training sees

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


DAMAGE = {"as made": lambda x: x, "crf 28": lambda x: h264(x, 28)}        # of the test; training has more


def damaged(pictures, generator):
    """Pictures, all damaged in one way or none."""
    kind, amount = torch.rand(2, generator=generator).tolist()
    if kind < 0.6: return pictures
    if kind < 0.75: return jpeg(pictures, int(35 + 60 * amount))
    if kind < 0.85: return half_size(pictures)
    if kind < 0.93: return blur(pictures)
    return grain(pictures, generator)


# ---- the steps

def pictures(given):
    """True and made pictures, one by one twins (N, 2, 3, S, S), and the same again after H.264."""
    faces, true, made = [load_face(w) for w in given.weights], [], []
    for number, file in enumerate(tqdm(Pool.open(given.pool).files[:FILES], unit="16 people", mininterval=10)):
        frames = Frames(**{f.name: file.get_slice(f.name)[:] for f in fields(Frames)})
        for name in Pool.BYTES: setattr(frames, name, getattr(frames, name).float() / 255)
        frames.points, frames.rest = frames.points.float(), frames.rest.float()
        # every other file is calm: so each face has wild and calm ones
        made.append(made_by(faces[number // 2 % len(faces)], frames, whole=True))
        true.append(bytes_of(frames.images.flatten(0, 1)))
    sides = torch.cat(true), torch.cat(made)
    # films of their own: or a made picture would be coded as a change of its twin
    coded = [torch.cat([h264(part, 20 + i % 4 * 5) for i, part in enumerate(side.split(64))]) for side in sides]
    torch.save(torch.stack(sides, 1), given.folder / "pairs.pt")
    torch.save(torch.stack(coded, 1), given.folder / "coded.pt")


def train(given):
    torch.manual_seed(0)
    pairs, coded = (torch.load(given.folder / name, mmap=True) for name in ("pairs.pt", "coded.pt"))
    detector, path, done = Detector(DetectorConfig()), given.folder / "trained.safetensors", 0
    if path.is_file():
        state, metadata = load_weights(path, DetectorConfig)
        load_into(detector, state, path)
        done = metadata["steps"]
    generator, recent = torch.Generator().manual_seed(done), []
    optimiser = torch.optim.AdamW(detector.parameters(), lr=3e-3, weight_decay=0.02)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3 if done == 0 else 2e-3, total_steps=given.steps)
    for step in tqdm(range(given.steps), unit="step", mininterval=20):
        twins = []
        for row in torch.randint(len(pairs), (10,), generator=generator).tolist():
            some = torch.rand(2, generator=generator).tolist()
            pair = (coded if some[0] < 0.45 else pairs)[row]                     # twins, damaged alike
            twins.append(damaged(pair.flip(-1) if some[1] < 0.5 else pair, generator))
        top, left = torch.randint(256 - CROP + 1, (2,), generator=generator).tolist()
        seen = torch.cat(twins)[:, :, top:top + CROP, left:left + CROP].float() / 255
        with torch.autocast("cpu", torch.bfloat16): scores = detector(seen)
        true, made = scores.float().view(-1, 2).unbind(1)
        loss = detection_loss(made, true)
        optimiser.zero_grad(), loss.backward(), optimiser.step(), falling.step()
        recent.append(loss.item())
        if step % 100 == 99: tqdm.write(f"{step + 1} {np.mean(recent[-100:]):.3f}")
        if step % 250 == 249 or step + 1 == given.steps:
            save_weights(path, detector, detector.config, steps=done + step + 1, pairs=len(pairs))


def films(given):
    """Clips of held-out people who speak."""
    from vasa_ref.world.clips import make_clips
    make_clips(range(FILMS), size=256, seconds=SECONDS, held_out=True, workers=1, folder=given.folder / "films")


def held_out(folder):
    frames = []
    for k in range(HELD):
        path, generator = folder / f"held-{k}.pt", torch.Generator().manual_seed(9_000 + k)
        if not path.is_file():
            truth = draw_truth(16, 4, generator, held_out=True, calm=k % 2 == 1)
            torch.save(render_frames(*truth, 256, generator), path)
        frames.append(torch.load(path, weights_only=False))
    return frames


# ---- figures

@torch.inference_mode()
def scores_of(detector, pictures):
    return torch.cat([detector(part.float() / 255) for part in pictures.split(32)])


def rounded(values, digits=4):
    return [round(value, digits) for value in values]


def as_text(figures):
    """JSON, each innermost list on one line."""
    return re.sub(r"\[[^][{}]*\]", lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"),
                  json.dumps(figures, indent=1)) + "\n"


def pair_figures(detector, held, faces):
    """({way of making: {damage: AUCs of frames, and of the means of a person's three}}, {true, or first face:
    {damage: scores of a person's three, of each person}})"""
    true = torch.cat([bytes_of(frames.images[:, 1:].flatten(0, 1)) for frames in held])
    made = {name: torch.cat([made_by(face, frames) for frames in held]) for name, face in faces.items()}
    made["cut-out"] = torch.cat([cut_out(frames) for frames in held])
    made["smoothed"] = smoothed(true)
    table, kept = {name: {} for name in made}, {name: {} for name in ("true", next(iter(faces)))}
    person = lambda scores: scores.view(-1, 3).mean(1)
    for damage, work in tqdm(DAMAGE.items(), unit="damage"):
        of_true = kept["true"][damage] = scores_of(detector, work(true))
        for name, some in made.items():
            scores = scores_of(detector, work(some))
            if name in kept: kept[name][damage] = scores
            table[name][damage] = {"frame": round(auc(scores, of_true), 4),
                                   "person": round(auc(person(scores), person(of_true)), 4),
                                   "interval": rounded(auc_interval(person(scores), person(of_true)))}
    return table, {name: {damage: x.view(-1, 3) for damage, x in row.items()} for name, row in kept.items()}


def talked(film, talker):
    """What the talker makes of a film's first frame and its sound, unmarked: uint8 (T, 3, S, S)."""
    from vasa_ref.units import EMOTIONS
    true = film.truth.motion
    emotion = {name: weight for name, weight in zip(EMOTIONS, true.emotion.tolist()) if weight}
    motion = talker.motion(film.waveform, gaze=tuple(true.main_gaze.rad2deg().tolist()), distance=true.distance,
                           emotion=emotion or "neutral")
    return torch.cat(list(talker.decode(talker.encode(film.frames[0].numpy()), motion))).movedim(-1, 1)


def lip_curves(film, made, following, judges, estimator):
    """Sync curves of a true film, of the talker's, and of the true one with the sound of another or 0.2 s late."""
    read = lambda frames: estimator.read(frames.movedim(1, -1)).units
    true, sound = read(film.frames.movedim(-1, 1)), film.waveform
    late = F.pad(sound, (5 * 640, 0))[:len(sound)]
    cases = {"true": (true, sound), "talker": (read(made), sound), "other words": (true, following.waveform),
             "0.2 s late": (true, late)}
    return {name: judges.sync_curve(units, heard, 10) for name, (units, heard) in cases.items()}


def film_figures(detector, folder):
    """({way: {damage: scores of films}}, {case: lip scores})"""
    from vasa_ref.measure.estimator import load_metrics
    from vasa_ref.measure.lipsync import load_judges
    from vasa_ref.talking.talker import Talker
    from vasa_ref.trust.detector import lip_score
    from vasa_ref.world.clips import read_clips
    every = read_clips(folder / "films")
    talker, judges, estimator = Talker.from_pretrained("laptop"), load_judges(), load_metrics()
    scores, lips = {}, {}
    for film, following in zip(tqdm(every, unit="film", mininterval=20), [*every[1:], every[0]]):
        kinds = {"true": film.frames.movedim(-1, 1), "talker": talked(film, talker)}
        for name, frames in kinds.items():
            for damage in DAMAGE:
                seen = DAMAGE[damage](frames)[::5]
                scores.setdefault(name, {}).setdefault(damage, []).append(scores_of(detector, seen).mean())
        for name, curve in lip_curves(film, kinds["talker"], following, judges, estimator).items():
            lips.setdefault(name, []).append(lip_score(curve))
    return ({name: {damage: torch.stack(x) for damage, x in row.items()} for name, row in scores.items()},
            {name: torch.tensor(x) for name, x in lips.items()})


def against(made, true, threshold):
    return {"auc": round(auc(made, true), 4), "interval": rounded(auc_interval(made, true)),
            "found": round((made > threshold).float().mean().item(), 4)}


def pairs_part(table, kept):
    three = {name: {damage: [rounded(row, 3) for row in x.tolist()] for damage, x in ways.items()}
             for name, ways in kept.items()}
    return {"pairs": table, "frame scores": three}


def films_part(films, lips, threshold):
    true = films["true"]
    return {
        "films": {name: {damage: against(x, true[damage], threshold) for damage, x in row.items()}
                  for name, row in films.items() if name != "true"},
        "false alarms": {damage: round((x > threshold).float().mean().item(), 4) for damage, x in true.items()},
        "lips": {name: against(x, lips["true"], lips["true"].quantile(0.95)) for name, x in lips.items()},
        "lip threshold": round(lips["true"].quantile(0.95).item(), 4),
        "scores": {name: {damage: rounded(x.tolist()) for damage, x in row.items()} for name, row in films.items()}}


def written(figures, path):
    print(json.dumps({name: figures[name] for name in ("pairs", "films", "false alarms", "lips")}, indent=1))
    if path: path.write_text(as_text(figures))


def measure(given):
    detector, metadata = load_model(given.folder / "trained.safetensors", Detector, DetectorConfig)
    faces = {name: load_face(weights) for name, weights in (one.split("=") for one in given.weights)}
    table, kept = pair_figures(detector, held_out(given.folder), faces)
    persons = {damage: x.mean(1) for damage, x in kept["true"].items()}
    threshold = torch.cat(list(persons.values())).quantile(0.95).item()
    figures = pairs_part(table, kept) | {"people": 16 * HELD, "threshold": round(threshold, 4)}
    figures["threshold set on"] = {damage: rounded(x.tolist()) for damage, x in persons.items()}
    figures |= films_part(*film_figures(detector, given.folder), threshold)
    figures |= {"n films": FILMS, "seconds": SECONDS, "steps": metadata["steps"], "pictures": metadata["pairs"],
                "config": asdict(detector.config)}
    thresholds = {"frames": figures["threshold"], "lips": figures["lip threshold"]}
    save_weights(given.folder / "detector.safetensors", detector, detector.config, dtype=torch.float16,
                 thresholds=thresholds, steps=metadata["steps"])
    written(figures, given.json)


def again(given):
    figures, (detector, thresholds) = json.loads(given.json.read_text()), load_detector()
    part = pairs_part(*pair_figures(detector, held_out(given.folder), {"shipped": load_face("laptop")}))
    part["pairs"] = figures["pairs"] | part["pairs"]
    figures |= part | films_part(*film_figures(detector, given.folder), thresholds["frames"])
    written(figures, given.json)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("pictures", "train", "films", "measure", "again"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pool")
    parser.add_argument("--weights", nargs="+", default=[])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    globals()[given.step](given)


if __name__ == "__main__":
    main()
