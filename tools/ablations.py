"""Train small face models, each with one loss or size changed, and measure how well their factors come apart.

    python tools/ablations.py --json nbs/results/ablations.json [--folder FOLDER] [NAME ...]

Trains each variant that the folder does not hold yet, and writes what `swap_table`, `leak_table` and `leak_matrix` find
on held-out people, unless the file has it already. The chapter 07_separation shows the file.
"""
import argparse
import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

import torch
from vasa_ref.cli import write_json
from vasa_ref.disentangle import FaceTraining, LossWeights, Recogniser, load_face, train_face
from vasa_ref.face import FaceConfig, FaceModel
from vasa_ref.frames import FreshFrames
from vasa_ref.separation import fit_mlp, leak_matrix, leak_table, read_codes, swap_table
from vasa_ref.weights import load_into, read_tensors

SMALL = FaceConfig(size=64, volume_channels=16, volume_depth=4, volume_size=16, z_id_dim=64, z_dyn_dim=16,
                   appearance_widths=(24, 48), volume_blocks=1, canonical_widths=(16, 32, 48), flow_width=16,
                   decoder_widths=(64, 32), decoder_blocks=2, identity_size=64, identity_widths=(16, 32, 64), pose_size=64,
                   pose_widths=(16, 32, 64), motion_size=64, motion_widths=(32, 64, 96))
PLAN = FaceTraining(people=400, frames=6, pretrain_pairs=4, pretrain_frames=4, pretrain_steps=800, pairs=2, drivers=3,
                    steps=600, alone=100, lr=1e-3)
PEOPLE = 48                                                     # held out, on whom is measured
NO_CONTRAST, LARGE = dict(contrast=0.0, pretrain=0.0), dict(z_dyn=64)
VARIANTS = {"all": {}, "no consist": dict(consist=0.0), "no cross_id": dict(cross_id=0.0), "no contrast": NO_CONTRAST,
            "z_dyn x 4": LARGE, "together": dict(together=True), "together, z_dyn x 4": dict(together=True, **LARGE),
            "together, none of the three": dict(together=True, consist=0.0, cross_id=0.0, **NO_CONTRAST),
            "no wardrobe": dict(dressed=False)}


def variant(z_dyn=SMALL.z_dyn_dim, pretrain=PLAN.pretrain_contrast, together=False, dressed=True, **weights):
    """The sizes and the training of a variant."""
    plan = dataclasses.replace(PLAN, pretrain_contrast=pretrain, together=together, dressed=dressed,
                               weights=dataclasses.replace(LossWeights(), **weights))
    return dataclasses.replace(SMALL, z_dyn_dim=z_dyn), plan


@torch.no_grad()
def like_the_source(face, recogniser, people=PEOPLE):
    """Mean cosine of a frozen recogniser's codes: a person, and the person with somebody else's motion."""
    images = FreshFrames(face.config.size, "cpu", dressed=False).draw(people // 2, 2, torch.Generator().manual_seed(77)).images
    source, driver = images[:, 0], images[:, 1].roll(2, 0)
    swapped = face.decode(face.appearance(source), face.identity(source), *face.motion(driver))
    return torch.cosine_similarity(recogniser(swapped), recogniser(source), dim=1).mean().item()


def first_stage(folder, config, plan):
    """The folder of a first stage, trained where it is not there yet; what can draws from one pool."""
    dress = "" if plan.dressed else "-undressed"
    place, pool = folder / f"first-{config.z_dyn_dim}-{plan.pretrain_contrast}{dress}", folder / f"pool{dress}.safetensors"
    if not (place / "face-pretrained.safetensors").is_file():
        place.mkdir(parents=True, exist_ok=True)
        if pool.is_file(): shutil.copy(pool, place / "face-pool.safetensors")
        train_face("laptop", config=config, training=dataclasses.replace(plan, steps=1), out=place)
        shutil.copy(place / "face-pool.safetensors", pool)
    return place


def measure(face, recogniser):
    codes, truth = read_codes(face, PEOPLE, 12, seed=2_000_003)
    strange = {looks: leak_table(face, people=PEOPLE // 2, frames=12, looks=looks) for looks in ("dressed", "held_out")}
    strange = {f"{key}_{looks}": row[key] for looks, row in strange.items() for key in ("pose_error_deg", "expression_from_z_dyn_r2")}
    return strange | {**swap_table(face, people=PEOPLE // 2), **leak_table(face, people=PEOPLE, frames=12), "like_source": like_the_source(face, recogniser),
            "linear": leak_matrix(codes, truth), "network": leak_matrix(codes, truth, fit_mlp)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(VARIANTS)} (default: all)")
    parser.add_argument("--json", type=Path, required=True, help="the file to write, or to complete")
    parser.add_argument("--folder", type=Path, help="keeps the pools and the models (default: a temporary one)")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in VARIANTS]: parser.error(f"unknown: {', '.join(unknown)}")
    told = json.loads(args.json.read_text()) if args.json.is_file() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        tensors, _ = read_tensors(first_stage(folder, *variant()) / "face-pretrained.safetensors")
        recogniser = Recogniser(FaceModel(SMALL).identity_encoder, SMALL.z_id_dim)   # which no second stage has touched
        load_into(recogniser.eval(), {k.removeprefix("recogniser/"): v for k, v in tensors.items() if k.startswith("recogniser/")}, folder)
        for name in args.names or VARIANTS:
            if name in told: continue
            config, plan = variant(**VARIANTS[name])
            first, run = first_stage(folder, config, plan), folder / name.replace(" ", "-").replace(",", "")
            if not (run / "face.safetensors").is_file():
                shutil.rmtree(run, ignore_errors=True)
                run.mkdir()
                for part in ("face-pretrained.safetensors", "face-pool.safetensors"): (run / part).hardlink_to(first / part)
                train_face("laptop", config=config, training=plan, resume=run)
            told[name] = measure(load_face(run), recogniser) | {"steps": plan.steps, "first_steps": plan.pretrain_steps}
            write_json(args.json, told)
            print(name, {k: round(v, 3) for k, v in told[name].items() if isinstance(v, float)}, flush=True)


if __name__ == "__main__":
    main()
