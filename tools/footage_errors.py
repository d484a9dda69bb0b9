"""What `vasa clips` gets wrong, on films of the world into which faults are planted: nbs/results/footage.json.

    python tools/footage_errors.py WORK [--json nbs/results/footage.json] [--only NAME ...]

Needs mediapipe (pip install 'vasa_ref[photo]'). WORK keeps the rendered talks, the films and their clips; a second call
goes on where the first one stopped. Rendering takes five minutes on one core, the rest twenty.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from vasa_ref.errors import VasaError
from vasa_ref.footage.clips import CONSENT, FPS, Readers, make_clips, one_film
from vasa_ref.footage.films import FaceTracker, find_films
from vasa_ref.media.clips import read_frames, save_video
from vasa_ref.media.files import ffmpeg_exe
from vasa_ref.store import read_tensors
from vasa_ref.units import EMOTIONS, FRAME
from vasa_ref.world.camera import random_scenes
from vasa_ref.world.clips import make_clips as world_clips

FRAMES = 80                                   # of a talk
SAID = "people: nobody, they are drawn\nagreed: drawn people\nknown: by seed\nresponsible: nobody\ndate: 2026-11-27\n"


def joined(talks, size=None, late=0):
    """Frames (T, S, S, 3) and sound (N,) of talks one after the other; the sound so many frames late."""
    frames, sound = torch.cat([t.frames for t in talks]), torch.cat([t.waveform for t in talks])
    if size: frames = scaled(frames, size)
    return frames, torch.roll(sound, late * FRAME)


def scaled(frames, size):
    images = F.interpolate(frames.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear", antialias=True)
    return images.round().clamp(0, 255).byte().permute(0, 2, 3, 1)


def padded(frames, left, right, above, below):
    images = F.pad(frames.permute(0, 3, 1, 2).float(), (left, right, above, below), mode="replicate")
    return images.byte().permute(0, 2, 3, 1)


def convert(source, path, *options, before=()):
    command = [ffmpeg_exe(), "-v", "error", "-y", *before, "-i", source, *options, path]
    subprocess.run(list(map(str, command)), check=True)


def filtered(video_filter, *options):
    def change(plain, path):
        convert(plain, path, "-vf", video_filter, "-c:v", "libx264", "-crf", 16, "-c:a", "copy", *options)
    return change


def phone(plain, path):
    """Pixels lie on their side, and the file says so."""
    with tempfile.TemporaryDirectory() as folder:
        filtered("transpose=1")(plain, f"{folder}/lying.mp4")
        convert(f"{folder}/lying.mp4", path, "-c", "copy", before=("-display_rotation", 90))


def one_after_another(*groups, size=None, late=0, change=None, pad=None, other_voice=False):
    """A plan: films of groups of talks; (frames, sound) each, and what is done to the file."""
    def make(talks):
        for group in groups:
            frames, sound = joined([talks[i] for i in group], size, late)
            if pad: frames = padded(frames, *pad)
            if other_voice: sound = torch.cat([talks[i].waveform for i in group[1:] + group[:1]])
            yield frames, sound, change
    return make


def side_by_side(talks):
    frames = torch.cat([scaled(talks[i].frames, 200) for i in (0, 5)], 2)
    yield padded(frames, 0, 0, 20, 20), talks[0].waveform, None


def ten_faces(talks):
    rows = [torch.cat([scaled(talks[i].frames, 128) for i in range(first, first + 5)], 2) for first in (0, 5)]
    yield torch.cat(rows, 1), talks[0].waveform, None


def every_second(talks):
    frames = torch.cat([talks[i % 12].frames[:25] for i in range(9)])
    yield frames, torch.cat([talks[i % 12].waveform[:25 * FRAME] for i in range(9)]), None


def without_sound(talks):
    yield talks[0].frames, talks[0].waveform, lambda plain, path: convert(plain, path, "-c", "copy", "-an")


def without_face(talks):
    scenes = (random_scenes(2, 256, torch.Generator().manual_seed(0)) * 255).byte().permute(0, 2, 3, 1)
    yield scenes.repeat_interleave(60, 0), torch.cat([t.waveform for t in talks[:2]])[:120 * FRAME], None


G = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
VARIABLE = "select='not(eq(mod(n,5),3)+eq(mod(n,7),2))'"
PLANS = {   # name: (films, clips expected, offset planted)
    "nothing": (one_after_another(*G), 12, 0),
    "sound 3 frames late": (one_after_another(*G[:2], late=3), 6, 3),
    "sound 3 frames early": (one_after_another(*G[2:], late=-3), 6, -3),
    "30 frames per second": (one_after_another(G[0], change=filtered("fps=30")), 3, 0),
    "variable frame rate": (one_after_another(G[1], change=filtered(VARIABLE, "-fps_mode", "vfr")), 3, 0),
    "held askew, file says so": (one_after_another(G[2], change=phone), 3, 0),
    "held askew, file does not": (one_after_another(G[3], change=filtered("transpose=1")), 3, 0),
    "160 px in 640 x 360": (one_after_another(G[1], size=160, pad=(300, 180, 60, 140)), 3, 0),
    "two faces side by side": (side_by_side, 0, 0),
    "ten faces": (ten_faces, 0, 0),
    "enlarged four times": (one_after_another(G[0], size=64, change=filtered("scale=256:256")), 0, 0),
    "the voice of another": (one_after_another(*G[:2], other_voice=True), 0, 0),
    "a cut every second": (every_second, 0, 0),
    "no sound": (without_sound, 0, 0),
    "no face": (without_face, 0, 0)}


def plant(plan, talks, folder):
    """The films of a plan in a folder; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONSENT).write_text(SAID)
    for i, (frames, sound, change) in enumerate(plan(talks)):
        path = folder / f"film_{i}.mp4"
        if path.exists(): continue
        with tempfile.TemporaryDirectory() as beside:
            plain = save_video(f"{beside}/plain.mp4", frames, sound, crf=16)
            (change or (lambda a, b: Path(a).rename(b)))(plain, path)


def degrees(a, b): return (a - b).abs().rad2deg()


def errors_of(path, group, talks, about, tensors):
    """What was read in a clip against the truth of its talk; None where it is of more than one talk."""
    start, count = about["start"], about["frames"]
    talk, first = divmod(start, FRAMES)
    if first + count > FRAMES + 2: return None                  # two frames beyond a cut are forgiven
    count = min(count, FRAMES - first)
    truth = talks[group[talk]].truth.motion
    part = lambda x: x[first:first + count]
    pose = part(truth.pose)
    wanted = EMOTIONS[int(truth.emotion.argmax())] if truth.emotion.max() > 0 else "neutral"
    def row(r):
        emotion = EMOTIONS[int(r["emotion"].argmax())] if r["emotion"].max() > 0 else "neutral"
        return {"yaw": degrees(r["pose"][:count, 0], pose[:, 0]).mean(),
                "pitch": degrees(r["pose"][:count, 1], pose[:, 1]).mean(),
                "roll": degrees(r["pose"][:count, 2], pose[:, 2]).mean(),
                "distance": (r["pose"][:, 5].mean() - truth.distance).abs(),
                "gaze": degrees(r["gaze"][:count], part(truth.gaze)).mean(),
                "main_gaze": degrees(r["main_gaze"], truth.main_gaze).mean(),
                "emotion": torch.tensor(float(emotion == wanted))}
    return row(tensors)


def measure(name, talks, work, readers):
    """A row of the table of one planted fault, and the errors of each clip."""
    plan, expected, late = PLANS[name]
    folder, out = work / "films" / name.replace(" ", "_"), work / "clips" / name.replace(" ", "_")
    plant(plan, talks, folder)
    try: pages = make_clips(folder, out, readers=readers, quiet=True)
    except VasaError as error:
        pages = [json.loads(path.read_text()) for path in sorted((out / "ledger").glob("*.json"))]
        if not pages: raise error
    groups = {"sound 3 frames late": G[:2], "sound 3 frames early": G[2:], "30 frames per second": G[:1],
              "variable frame rate": G[1:2], "held askew, file says so": G[2:3], "held askew, file does not": G[3:],
              "160 px in 640 x 360": G[1:2]}.get(name, G)
    rows, wrong, right = [], 0, 0
    for page in pages:
        for clip in page["clips"]:
            tensors, about = read_tensors(out / f"{clip}.safetensors")
            error = errors_of(out / clip, groups[int(clip[5])], talks, about, tensors) if expected else None
            if error is None: wrong += 1
            else: rows.append((clip, tensors, about, error))
        right += bool(page["clips"]) and page["late"] == late
    problems = {page["problem"].split(" in the film")[0].split(";")[0] for page in pages if "problem" in page}
    why = sorted({piece["why"] for page in pages for piece in page["lost"]} |
                 {re.sub(r"'[^']*/", "'", problem) for problem in problems})                  # files without folders
    mean = lambda *keys: round(float(torch.stack([e[k] for *_, e in rows for k in keys]).mean()), 2) if rows else None
    used = sum(bool(page["clips"]) for page in pages)
    offset = f"{right} of {used}" if expected else ""
    line = {"name": name, "films": len(pages), "clips": len(rows), "expected": expected, "wrong": wrong,
            "offset": offset, "pose": mean("yaw", "pitch", "roll"), "gaze": mean("gaze"), "why": ", ".join(why)}
    return line, rows, out, groups


def readers_table(rows, out, groups, talks, readers):
    """Errors with the tracker's pose, and with the encoder's, on the same clips."""
    own = []
    for clip, _, about, _ in rows:
        frames = torch.stack(list(read_frames(out / f"{clip}.mp4")))
        own.append(errors_of(clip, groups[int(clip[5])], talks, about, vars(readers.read(frames))))
    mean = lambda errors, key: round(float(torch.stack([e[key] for e in errors]).mean()), 3)
    theirs = [error for *_, error in rows]
    names = {"yaw": "yaw, degrees", "pitch": "pitch, degrees", "roll": "roll, degrees", "distance": "distance",
             "gaze": "gaze of the eyes, degrees", "main_gaze": "main gaze of the clip, degrees",
             "emotion": "share of emotions right"}
    return {text: [mean(theirs, key), mean(own, key)] for key, text in names.items()}


def cost_of(path):
    """Run in a process of its own: seconds of processors, ffmpeg's too, and MB of one film."""
    readers = Readers.from_pretrained()
    used = lambda: sum(os.times()[:4])
    with tempfile.TemporaryDirectory() as out:
        began = used()
        page = one_film(find_films(Path(path).parent)[0], Path(out), readers, FaceTracker, 256, "", True)
    most = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())   # since exec; ru_maxrss is not
    print(json.dumps({"seconds": used() - began, "film": page["seconds"], "clips": len(page["clips"]),
                      "megabytes": int(most[1]) / 1024}))


def costs(talks, work):
    """Seconds of one core per minute of film, and the most memory, for films of two lengths and two sizes."""
    frames, sound = joined(talks[:3])
    rows = []
    for times, picture in ((1, "640 x 360"), (4, "640 x 360"), (1, "1920 x 1080")):
        folder = work / "cost" / f"{times}-{picture.replace(' ', '')}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "film.mp4"
        if not path.exists():
            with tempfile.TemporaryDirectory() as beside:
                plain = save_video(f"{beside}/plain.mp4", frames, sound, crf=16)
                width, height = map(int, picture.split(" x "))
                convert(plain, path, "-vf", f"scale={height}:{height},pad={width}:{height}:(ow-iw)/2:0:gray",
                        "-c:v", "libx264", "-crf", 20, "-c:a", "aac", before=("-stream_loop", times - 1))
        done = subprocess.run([sys.executable, __file__, "--cost", path], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        rows.append({"minutes": round(found["film"] / 60, 2), "picture": picture, "clips": found["clips"],
                     "seconds_per_minute": round(60 * found["seconds"] / found["film"]),
                     "megabytes": round(found["megabytes"])})
    return rows


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", choices=PLANS)
    parser.add_argument("--cost", help=argparse.SUPPRESS)
    args = parser.parse_args(args)
    torch.set_num_threads(1)
    if args.cost: return cost_of(args.cost)
    talks = world_clips(range(12), size=256, seconds=FRAMES / FPS, held_out=True, folder=args.work / "true", quiet=True)
    readers, films, table = Readers.from_pretrained(), [], {}
    for name in args.only or PLANS:
        line, rows, out, groups = measure(name, talks, args.work, readers)
        print(line, flush=True)
        films.append(line)
        if name == "nothing": table = readers_table(rows, out, groups, talks, readers)
    if args.only: return None
    figures = {"how": "12 held-out talks of 3.2 s of the synthetic world, 256 px, joined to films; FaceMesh as "
               "tracker; the shipped weights; one core",
               "films": films, "readers": table, "cost": costs(talks, args.work)}
    if args.json: args.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures["cost"]), json.dumps(figures["readers"]))


if __name__ == "__main__":
    main()
