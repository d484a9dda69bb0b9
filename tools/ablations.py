"""Go on training a face model with one loss left out, all encoders learning, and measure what its codes come to hold.

    python tools/ablations.py --json nbs/results/ablations.json [--folder FOLDER] [--weights FOLDER] [NAME ...]

The weights (default: laptop's) know pose, dynamics and person already: what is seen is which loss keeps them apart. Each
variant learns for the same few minutes of one core; `swap_table`, `leak_table`, `looks_table` and `leak_matrix` then
measure it on held-out people. A variant that the file has already is left as it is.
"""
import argparse
import dataclasses
import hashlib
import json
import tempfile
from functools import cache
from pathlib import Path

import vasa_ref  # noqa: F401 - before torch: it says how threads wait
import torch
from vasa_ref.cli import write_json
from vasa_ref.disentangle import FaceTraining, LossWeights, Recogniser, face_loss, load_face, train_face
from vasa_ref.face import FaceConfig, FaceModel
from vasa_ref.frames import Pool
from vasa_ref.perceptual import Critic
from vasa_ref.separation import fit_mlp, held_out_frames, leak_matrix, leak_table, looks_table, read_codes, swap_table
from vasa_ref.training import fit
from vasa_ref.weights import load_into, read_tensors, weights_folder

PLAN = FaceTraining(people=300, frames=8, pairs=2, drivers=2, steps=250, lr=1e-3, together=True)
PEOPLE, FRAMES = 48, 16                                         # held out, on whom is measured
CONTRAST, NONE = dict(contrast=0.0, cycle=0.0), dict(consist=0.0, cross_id=0.0, contrast=0.0, cycle=0.0)
VARIANTS = {"before": dict(steps=0), "all losses": {}, "no consist": dict(consist=0.0), "no cross_id": dict(cross_id=0.0),
            "no contrast": CONTRAST, "none of the three": NONE, "z_dyn x 4": dict(wider=4),
            "z_dyn x 4, none of the three": dict(wider=4, **NONE), "all losses, another seed": dict(seed=1)}
SMALL = FaceConfig(size=64, volume_channels=16, volume_depth=4, volume_size=16, z_id_dim=64, z_dyn_dim=16,
                   appearance_widths=(24, 48), volume_blocks=1, canonical_widths=(16, 32, 48), flow_width=16,
                   decoder_widths=(64, 32), decoder_blocks=2, identity_size=64, identity_widths=(16, 32, 64), pose_size=64,
                   pose_widths=(16, 32, 64), motion_size=64, motion_widths=(32, 64, 96))
JUDGE = FaceTraining(people=400, frames=6, pretrain_pairs=4, pretrain_frames=4, pretrain_steps=4000, steps=1)


def widened(face, times):
    """The same model with a z_dyn of `times` as many numbers: the new ones are read, and not used yet."""
    wide = FaceModel(dataclasses.replace(face.config, z_dyn_dim=times * face.config.z_dyn_dim))
    for old, new in zip(face.parameters(), wide.parameters()):
        if new.shape == old.shape: new.data.copy_(old)
        else:
            if new.ndim == 2 and new.shape[1] > old.shape[1]: new.data.zero_()        # who takes z_dyn, as its last inputs
            new.data[tuple(map(slice, old.shape))] = old
    for (name, old), new in zip(face.named_buffers(), wide.buffers()):
        assert old.shape == new.shape, name
        new.copy_(old)
    return wide


def go_on(face, pool, plan, seed, place):
    """`face` after the plan's steps of stage two."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = Critic(face.motion_encoder, Recogniser(face.identity_encoder, face.config.z_id_dim))
        face = widened(face, plan.wider) if plan.wider > 1 else face
    face.requires_grad_(True)
    def loss(step, generator): return face_loss(face, critic, pool.draw(plan.pairs, plan.drivers + 1, generator), plan.weights)
    fit(loss, dict(face.named_children()), out=place, resume=place if (place / "checkpoint.safetensors").is_file() else None,
        max_steps=plan.steps, lr=plan.lr, warmup=20, seed=seed, mixed_precision="bf16", name=place.name)
    return face.eval().requires_grad_(False)


@dataclasses.dataclass
class Plan(FaceTraining):
    wider: int = 1


def variant(steps=PLAN.steps, wider=1, seed=0, **weights):
    """The plan and the seed of a variant."""
    return Plan(**{**vars(PLAN), "steps": steps, "wider": wider, "weights": dataclasses.replace(LossWeights(), **weights)}), seed


def digest(content): return hashlib.sha256(content).hexdigest()[:12]


@cache
def judge_of(folder):
    """A recogniser that no loss of the ablation has seen, trained where the folder does not hold it."""
    place = folder / "judge"
    if not (place / "face.safetensors").is_file(): train_face("laptop", config=SMALL, training=JUDGE, out=place, seed=9)
    tensors, _ = read_tensors(place / "face-pretrained.safetensors")
    recogniser = Recogniser(FaceModel(SMALL).identity_encoder, SMALL.z_id_dim)
    return load_into(recogniser, {k.removeprefix("recogniser/"): v for k, v in tensors.items() if k.startswith("recogniser/")}, place).eval()


@cache
def frames_in(looks, size): return held_out_frames(PEOPLE, FRAMES, 2_000_003, size, looks)


@torch.no_grad()
def like_the_source(face, recogniser):
    """Mean cosine of a recogniser's codes: a person, and the person with somebody else's motion."""
    images = frames_in("plain", face.config.size).images
    source, driver = images[:, 0], images[:, 1].roll(1, 0)
    swapped = face.decode(face.appearance(source), face.identity(source), *face.motion(driver))
    return torch.cosine_similarity(recogniser(swapped), recogniser(source), dim=1).mean().item()


def measure(face, recogniser):
    read = {looks: read_codes(face, frames_in(looks, face.config.size)) for looks in ("plain", "dressed", "held_out")}
    plain = read.pop("plain")
    return {**swap_table(face, people=PEOPLE // 3), **leak_table(*plain), **looks_table(plain, read), "like_source": like_the_source(face, recogniser),
            "linear": leak_matrix(*plain), "network": leak_matrix(*plain, fit_mlp)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(VARIANTS)} (default: all)")
    parser.add_argument("--json", type=Path, required=True, help="the file to write, or to complete")
    parser.add_argument("--folder", type=Path, help="keeps the frames and the models (default: a temporary one)")
    parser.add_argument("--weights", default="laptop", help="a preset, or a folder of weights, to go on from (default: laptop)")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in VARIANTS]: parser.error(f"unknown: {', '.join(unknown)}")
    told = json.loads(args.json.read_text()) if args.json.is_file() else {}
    start = weights_folder(args.weights)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        for name in args.names or VARIANTS:
            plan, seed = variant(**VARIANTS[name])
            face = load_face(start)
            trained = {"weights": digest((Path(start) / "face.safetensors").read_bytes()), "plan": dataclasses.asdict(plan), "seed": seed}
            if name in told and told[name]["trained"] == trained: continue
            if plan.steps:
                pool = Pool.make(plan.people, plan.frames, face.config.size, dressed=plan.dressed, path=folder / "pool.safetensors")
                face = go_on(face, pool, plan, seed, folder / f"{name.replace(' ', '-').replace(',', '')}-{digest(repr(trained).encode())}")
            told[name] = measure(face, judge_of(folder)) | {"trained": trained}
            write_json(args.json, told)
            print(name, {k: round(v, 3) for k, v in told[name].items() if isinstance(v, float)}, flush=True)


if __name__ == "__main__":
    main()
