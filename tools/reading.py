"""How poses and faces are read from pictures, and what frames that are drawn by it are worth:
nbs/results/face-reading.json, face-more-people.json, face-correction.json.

    python tools/reading.py shipped=laptop [NAME=WEIGHTS ...] [--without-mirror] [--json FILE]

WEIGHTS: a preset, a weights folder or its face.safetensors. Of 24 people, four frames each: calm and wide heads in
looks that training holds back, calm heads in looks that it knows. Frames are drawn from each person's first one by what
is read; figures that begin with told_ are of frames drawn by the true motion. --without-mirror: each reader also with
both looks asked once, not for the mirror image as well.
"""
import argparse
import json
from pathlib import Path

import torch

from vasa_ref.face.detail import load_face
from vasa_ref.face.encoders import measure_reading
from vasa_ref.face.networks import bound_pose
from vasa_ref.face.perceptual import psnr, ssim
from vasa_ref.face.separation import gradient_energy
from vasa_ref.face.training import evaluate
from vasa_ref.world.frames import draw_truth, render_frames

PEOPLE, FRAMES, SEED = 24, 4, 9100
HEADS = {"calm": dict(calm=True, held_out=True), "wide": dict(held_out=True), "known": dict(calm=True)}
KEPT = ("pose_deg", "place_px", "change_deg", "change_px", "units_r2", "gaze_r2", "shoulders_r2", "jawOpen",
        "mouthClose", "mouthLeft", "noseSneerLeft", "browInnerUp", "eyeBlinkLeft")
ONCE = ", without the mirror"
TOLD = ("psnr", "ssim", "psnr_eyes", "psnr_mouth", "px", "copied")


def ask_once(face):
    "The same face model, whose looks do not see the mirror image."
    motion = face.motion_encoder
    def see(images):
        out = motion.whole(images).float()
        return bound_pose(out[:, :6]), out[:, 6:]
    motion.see, motion.look = see, motion.look_once
    return face


@torch.no_grad()
def redrawn(face, frames):
    "PSNR in dB, SSIM and sharpness of frames (P, K), drawn from each person's first by what is read."
    found, energy = [], []
    for images in frames.images:
        pose, z_dyn = face.motion(images)
        z_id = face.identity(images[:1])
        portrait = face.appearance(images[:1], z_id, (pose[:1], z_dyn[:1]))
        drawn = face.decode(portrait, z_id, pose[1:], z_dyn[1:]).clamp(0, 1)
        found.append(torch.stack([psnr(drawn, images[1:]).mean(), ssim(drawn, images[1:]).mean()]))
        energy.append(torch.stack([gradient_energy(drawn).sum(), gradient_energy(images[1:]).sum()]))
    (level, structure), (own, true) = torch.stack(found).mean(0), torch.stack(energy).sum(0)
    return {"psnr": round(level.item(), 2), "ssim": round(structure.item(), 4),
            "sharpness": round((own / true).item(), 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("readers", nargs="+", metavar="NAME=WEIGHTS")
    parser.add_argument("--without-mirror", action="store_true", help="each also with one look")
    parser.add_argument("--json", type=Path, help="where the rows go")
    args = parser.parse_args()
    if wrong := [one for one in args.readers if "=" not in one]: parser.error(f"{wrong[0]!r}: give NAME=WEIGHTS")
    faces = {}
    for name, weights in (one.split("=", 1) for one in args.readers):
        if args.without_mirror: faces[name + ONCE] = ask_once(load_face(weights))
        faces[name] = load_face(weights)
    rows = []
    for heads, options in HEADS.items():
        generator = torch.Generator().manual_seed(SEED)
        truth = draw_truth(PEOPLE, FRAMES, generator, **options)
        frames = render_frames(*truth, 256, torch.Generator().manual_seed(SEED))
        for name, face in faces.items():
            figures, row = measure_reading(face.motion_encoder, frames), {"reader": name, "frames": heads}
            row |= redrawn(face, frames) | {key: figures[key] for key in KEPT}
            if not name.endswith(ONCE):                                 # the reader has no part in it
                told = evaluate(face, frames)
                row |= {f"told_{key}": told[key] for key in TOLD}
            rows.append(row)
            print(json.dumps(row))
    if args.json: args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
