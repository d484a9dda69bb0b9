"""What l_consist and l_cross_id are worth where no labels help, over seeds: a row for each training into a JSON file.

    python tools/face_ablation.py POOL nbs/results/face-ablation.json [--seeds 5] [--steps 400] [--part I N]

POOL is a folder of frames of 64 pixels or a multiple of 32 (`Pool.make(POOL, 640, 6, 64)`: eight minutes on two cores).
The plain face model of the tiny preset trains on 32 pixels. A first stage with labels gives the recogniser that
l_cross_id asks; the second stage begins with fresh encoders and sees no label and no critic's features. 20 trainings
take half an hour on two cores: `--part 0 2` and `--part 1 2` share them, and rows are added to the file.
"""
import argparse
import json
from dataclasses import fields
from pathlib import Path

import torch
from tqdm import tqdm

from vasa_ref.face.disentangle import LossWeights, face_loss
from vasa_ref.face.networks import FaceConfig, FaceModel
from vasa_ref.face.perceptual import Critic
from vasa_ref.face.plain_training import inverse_sqrt, shrink
from vasa_ref.face.pretraining import Recogniser, pretrain_loss
from vasa_ref.face.separation import held_out_cast, probe_identity, probe_r2, read_codes, swap_table
from vasa_ref.store import atomic_path
from vasa_ref.training import Recipe, Run, fit
from vasa_ref.world.frames import Frames, Pool

VARIANTS = {"both": (5.0, 1.0), "no consist": (0.0, 1.0), "no cross_id": (5.0, 0.0), "neither": (0.0, 0.0)}
CONFIG = FaceConfig.tiny()


class SmallPool:
    """A pool's frames at the model's size, in memory: pairs of people, each (2, K, ...)."""

    def __init__(self, folder):
        pool = Pool.open(folder)
        self.pairs = [shrink(self.read(file, row), CONFIG.size) for file in pool.files for row in range(0, 16, 2)]

    @staticmethod
    def read(file, row):
        frames = Frames(**{f.name: file.get_slice(f.name)[row:row + 2] for f in fields(Frames)})
        for name in Pool.BYTES:
            setattr(frames, name, getattr(frames, name).float() / 255)
        frames.points, frames.rest = frames.points.float(), frames.rest.float()
        return frames

    def draw(self, pairs, frames, generator):
        chosen = [self.pairs[i] for i in torch.randperm(len(self.pairs), generator=generator)[:pairs].tolist()]
        when = torch.randperm(chosen[0].pose.shape[1], generator=generator)[:frames]
        some = lambda name, x: x if name in ("rest", "people") else x[:, when]
        return Frames(**{f.name: torch.cat([some(f.name, getattr(one, f.name)) for one in chosen])
                         for f in fields(Frames)})


def first_stage(pool, steps=800):
    """The critic: a motion encoder and a recogniser that learnt from labels."""
    run = Run(max_steps=steps, seed=0, quiet=True)
    face = run.new(FaceModel, CONFIG)
    recogniser = run.new(Recogniser, face.identity_encoder, CONFIG.z_id_dim)
    loss = lambda step, generator: pretrain_loss(face.motion_encoder, recogniser, pool.draw(6, 3, generator), generator)
    fit(Recipe("critic", {"motion": face.motion_encoder, "recogniser": recogniser}, loss, steps=steps,
               lr=inverse_sqrt(2e-3, steps // 3)), run)
    return Critic(face.motion_encoder, recogniser)


def second_stage(pool, critic, losses, seed, steps):
    """A face model that learns from pictures alone, with or without the two losses."""
    run, alone = Run(max_steps=steps, seed=100 + seed, quiet=True), steps // 4
    consist, cross_id = VARIANTS[losses]
    weights = LossWeights(features=0.0, cycle=0.0, contrast=0.0, consist=consist, cross_id=cross_id)
    face = run.new(FaceModel, CONFIG)

    def loss(step, generator):
        ramp = min(1.0, max(0.0, (step - alone) / alone))
        return face_loss(face, critic, pool.draw(3, 3, generator), weights, ramp, generator=generator)
    fit(Recipe("face", dict(face.named_children()), loss, steps=steps, lr=inverse_sqrt(2e-3, alone)), run)
    return face


@torch.no_grad()
def measured(face, critic):
    """Figures of people whom no training saw."""
    table = swap_table(face, people=16, frames=4)
    cast = held_out_cast(48, 6, 7, CONFIG.size)
    codes, truth, _ = read_codes(face, cast)
    i, j = cast.images()[:, :2].unbind(1)
    (pose_i, z_dyn_i), (pose_j, _) = face.motion(i), face.motion(j)
    a, b = (face.decode(face.appearance(x), face.identity(x), pose_j, z_dyn_i) for x in (i, j))
    swapped = face.decode(face.appearance(i), face.identity(i), pose_i.roll(1, 0), z_dyn_i.roll(1, 0))
    same = torch.cosine_similarity(critic.recogniser(swapped), critic.recogniser(i)).mean()
    return {**{name: table[name] for name in ("self_psnr", "pose_psnr", "dynamics_psnr", "swap_psnr")},
            "id_from_z_dyn": probe_identity(codes["z_dyn"], truth["who"]),
            "pose_from_z_dyn": probe_r2(codes["z_dyn"], truth["pose"]).mean().item(),
            "apart": (a - b).abs().mean().item(), "id_cos": same.item()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool"), parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    pool = SmallPool(given.pool)
    critic = first_stage(pool)
    jobs = [(seed, name) for seed in range(given.seeds) for name in VARIANTS]
    for seed, name in tqdm(jobs[given.part[0]::given.part[1]], unit="training"):
        face = second_stage(pool, critic, name, seed, given.steps)
        row = {"losses": name, "seed": seed} | {k: round(v, 4) for k, v in measured(face, critic).items()}
        rows = json.loads(given.out.read_text()) if given.out.is_file() else []
        rows = [old for old in rows if (old["losses"], old["seed"]) != (name, seed)] + [row]
        with atomic_path(given.out) as beside:
            beside.write_text(json.dumps(sorted(rows, key=lambda r: (r["losses"], r["seed"])), indent=1) + "\n")


if __name__ == "__main__":
    main()
