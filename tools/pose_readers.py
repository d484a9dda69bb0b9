"""Who reads a pose better, the motion encoder or FaceMesh: nbs/results/pose-readers.json.

    python tools/pose_readers.py PICTURES [--weights laptop] [--json FILE]

PICTURES: a folder that `tools/pictures.py` filled. Needs mediapipe (`pip install vasa_ref[photo]`). Photographs are
cropped as `Photograph` does it; of 64 pictures of the world, of 16 people that no training saw, the truth is known.
"""
import argparse
import json
from pathlib import Path

import torch

from vasa_ref.errors import VasaError
from vasa_ref.face.detail import load_face
from vasa_ref.talking.photograph import can_find_faces, centre_square, crop_picture, find_faces, load_picture, pose_in
from vasa_ref.world.frames import draw_truth, render_frames

PHOTOGRAPHS = {"astronaut": "astronaut (scikit-image)", "grace_hopper": "grace_hopper.jpg (matplotlib)"}
SEED, SIZE = 9300, 256


def degrees(pose):
    "Yaw, pitch and roll of a pose (6,), by name."
    return {name: round(x, 2) for name, x in zip(("yaw", "pitch", "roll"), pose[:3].rad2deg().tolist())}


def read_photograph(encoder, path):
    "The pose of the largest face of a picture, by the encoder and by the tracker."
    picture = load_picture(path)
    if not (faces := find_faces(picture.permute(1, 2, 0).numpy())): raise VasaError(f"no face in {path}")
    place = faces[0].place
    pose, _ = encoder(crop_picture(picture, place, SIZE))
    return {"encoder": degrees(pose[0]), "tracker": degrees(pose_in(faces[0], place))}


def read_world(encoder):
    "Mean errors of both over pictures of the world, and in how many the tracker finds no face."
    misses, none = {"encoder": [], "tracker": []}, 0
    for calm in (True, False):
        generator = torch.Generator().manual_seed(SEED + calm)
        frames = render_frames(*draw_truth(8, 4, generator, calm=calm), SIZE, generator)
        for image, true in zip(frames.images.flatten(0, 1), frames.pose.flatten(0, 1)):
            faces = find_faces((image * 255).byte().permute(1, 2, 0).contiguous().numpy())
            if not faces:
                none += 1
                continue
            misses["encoder"].append((encoder(image[None])[0][0] - true).abs())
            misses["tracker"].append((pose_in(faces[0], centre_square(SIZE, SIZE)) - true).abs())
    return {who: degrees(torch.stack(found).mean(0)) for who, found in misses.items()}, none


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", type=Path, help="folder of tools/pictures.py")
    parser.add_argument("--weights", default="laptop", help="a preset, a folder, or face.safetensors")
    parser.add_argument("--json", type=Path, help="where the figures go")
    args = parser.parse_args()
    if not can_find_faces(): parser.error("mediapipe is not installed: pip install vasa_ref[photo]")
    encoder = load_face(args.weights).motion_encoder
    world, none = read_world(encoder)
    figures = {"how": "pose by the motion encoder and by FaceMesh, degrees; world: mean absolute error over 64 "
                      f"pictures of 16 people that no training saw, half of them calm; {none} in which FaceMesh "
                      "finds no face are left out",
               "photographs": [{"picture": shows} | read_photograph(encoder, args.pictures / f"{name}.png")
                               for name, shows in PHOTOGRAPHS.items()],
               "world": world}
    print(json.dumps(figures, indent=1))
    if args.json: args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
