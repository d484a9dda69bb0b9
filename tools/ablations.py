"""Train small face models, each with one loss or size changed, and measure how well their factors come apart.

    python tools/ablations.py --json nbs/results/ablations.json [--folder FOLDER] [NAME ...]

Trains each variant that the folder does not hold yet, and writes what `swap_table`, `leak_table` and `leak_matrix` find
on held-out people, unless the file has it already.
"""
import argparse
import dataclasses
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
from vasa_ref.cli import write_json
from vasa_ref.disentangle import FaceTraining, LossWeights, Recogniser, load_face, train_face
from vasa_ref.face import FaceConfig, FaceModel
from vasa_ref.separation import fit_mlp, held_out_frames, leak_matrix, leak_table, looks_table, read_codes, swap_table
from vasa_ref.weights import load_into, read_tensors

SMALL = FaceConfig(size=64, volume_channels=16, volume_depth=4, volume_size=16, z_id_dim=64, z_dyn_dim=16,
                   appearance_widths=(24, 48), volume_blocks=1, canonical_widths=(16, 32, 48), flow_width=16,
                   decoder_widths=(64, 32), decoder_blocks=2, identity_size=64, identity_widths=(16, 32, 64), pose_size=64,
                   pose_widths=(16, 32, 64), motion_size=64, motion_widths=(32, 64, 96))
PLAN = FaceTraining(people=400, frames=6, pretrain_pairs=4, pretrain_frames=4, pretrain_steps=4000, pairs=2, drivers=3,
                    steps=1200, alone=200, lr=1e-3)
PEOPLE = 64                                                     # held out, on whom is measured
NO_CONTRAST, LARGE = dict(contrast=0.0, pretrain=0.0), dict(z_dyn=64)
VARIANTS = {"all": {}, "all, another seed": dict(seed=1), "no consist": dict(consist=0.0), "no cross_id": dict(cross_id=0.0),
            "no contrast, both stages": NO_CONTRAST, "no disguise": dict(disguise=False), "z_dyn x 4": LARGE,
            "no wardrobe": dict(dressed=False), "together": dict(together=True), "together, z_dyn x 4": dict(together=True, **LARGE),
            "together, none of the three": dict(together=True, consist=0.0, cross_id=0.0, **NO_CONTRAST)}


def variant(z_dyn=SMALL.z_dyn_dim, pretrain=PLAN.pretrain_contrast, together=False, dressed=True, disguise=True, seed=0, **weights):
    """The sizes, the training and the seed of a variant's second stage."""
    plan = dataclasses.replace(PLAN, pretrain_contrast=pretrain, together=together, dressed=dressed, disguise=disguise,
                               weights=dataclasses.replace(LossWeights(), **weights))
    return dataclasses.replace(SMALL, z_dyn_dim=z_dyn), plan, seed


def first_stage(folder, config, plan, seed=0):
    """The folder of a first stage, trained where it is not there yet; those with the same dress draw from one pool."""
    pool = folder / f"pool-{plan.dressed}.safetensors"
    place = folder / f"first-{config.z_dyn_dim}-{plan.pretrain_contrast}-{plan.dressed}-{plan.disguise}-{seed}"
    if not (place / "face.safetensors").is_file():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if pool.is_file() and seed == 0: shutil.copy(pool, place / "face-pool.safetensors")
        train_face("laptop", config=config, training=dataclasses.replace(plan, steps=1), out=place, seed=seed)
        if seed == 0: shutil.copy(place / "face-pool.safetensors", pool)
    return place


def recogniser_of(folder):
    """The recogniser of a first stage."""
    recogniser = Recogniser(FaceModel(SMALL).identity_encoder, SMALL.z_id_dim)
    tensors, _ = read_tensors(folder / "face-pretrained.safetensors")
    return load_into(recogniser, {k.removeprefix("recogniser/"): v for k, v in tensors.items() if k.startswith("recogniser/")}, folder).eval()


@cache
def frames_in(looks): return held_out_frames(PEOPLE, 24, 2_000_003, SMALL.size, looks)


@torch.no_grad()
def like_the_source(face, recogniser):
    """Mean cosine of a recogniser's codes: a person, and the person with somebody else's motion."""
    source, driver = frames_in("plain").images[:, 0], frames_in("plain").images[:, 1].roll(1, 0)
    swapped = face.decode(face.appearance(source), face.identity(source), *face.motion(driver))
    return torch.cosine_similarity(recogniser(swapped), recogniser(source), dim=1).mean().item()


def measure(face, recogniser):
    read = {looks: read_codes(face, frames_in(looks)) for looks in ("plain", "dressed", "held_out")}
    plain = read.pop("plain")
    return {**swap_table(face, people=PEOPLE // 2), **leak_table(*plain), **looks_table(plain, read), "like_source": like_the_source(face, recogniser),
            "linear": leak_matrix(*plain), "network": leak_matrix(*plain, fit_mlp)}


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
        other, plan, _ = variant()
        recogniser = recogniser_of(first_stage(folder, other, plan, seed=9))      # that no loss has seen
        for name in args.names or VARIANTS:
            config, plan, seed = variant(**VARIANTS[name])
            trained = {"config": dataclasses.asdict(config), "plan": dataclasses.asdict(plan), "seed": seed}
            trained = json.loads(json.dumps(trained))                             # tuples become lists, as in the file
            if name in told and told[name]["trained"] == trained: continue
            first, run = first_stage(folder, config, plan), folder / name.replace(" ", "-").replace(",", "")
            if not (run / "face.safetensors").is_file():
                shutil.rmtree(run, ignore_errors=True)
                run.mkdir()
                for part in ("face-pretrained.safetensors", "face-pool.safetensors"): (run / part).hardlink_to(first / part)
                train_face("laptop", config=config, training=plan, resume=run, seed=seed)
            told[name] = measure(load_face(run), recogniser) | {"trained": trained}
            write_json(args.json, told)
            print(name, {k: round(v, 3) for k, v in told[name].items() if isinstance(v, float)}, flush=True)


if __name__ == "__main__":
    main()
