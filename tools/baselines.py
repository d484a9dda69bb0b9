"""Train the baselines of the motion model for minutes each, and measure them as `vasa tables` measures the shipped one.

python tools/baselines.py --json nbs/results/baselines.json [--minutes M] [--latents FILE] [--folder FOLDER] [NAME ...]

joint: the model itself, from scratch. regression: the same network without diffusion, which predicts the window from
the conditions alone, and is not guided. separate: one model for the head and one for the face, that do not know of each
other. All three see the same latents for the same time. They stand where tables 1 and 2 of VASA-1 have other people's
methods. Without --latents, those of `--clips` world clips are made first. A baseline that the file has already is left
as it is.
"""
import argparse
import copy
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch

import vasa_ref  # noqa: F401 - before torch: it says how threads wait
from vasa_ref.app.cli import write_json
from vasa_ref.measure.metrics import held_out_truth, load_instruments, make_take, true_take
from vasa_ref.measure.tables import table_row
from vasa_ref.motion.latents import Latents, make_latents
from vasa_ref.motion.network import MotionConfig, MotionModel, MotionSampling, load_motion
from vasa_ref.motion.training import MotionTraining, motion_loss, random_conditions
from vasa_ref.store import load_weights, save_weights, weights_folder
from vasa_ref.talking.talker import Talker
from vasa_ref.training import Recipe, Run, fit

RIVALS = ("joint", "regression", "separate")


def regression_loss(model, x0, conditions, valid, generator):
    """Squared error of the window told from the conditions alone: the network sees nothing at the last diffusion
    time."""
    training, t = MotionTraining.laptop(), torch.full((len(x0),), model.config.times - 1)
    error = (model(torch.zeros_like(x0), t, conditions).float() - x0).square() * valid[..., None]
    pose, dyn = (error[..., part].sum() / valid.sum() / error[..., part].shape[-1]
                 for part in (slice(6), slice(6, None)))
    return training.pose_weight * pose + training.dyn_weight * dyn, {"pose": pose, "dyn": dyn}


def learn(latents, minutes, loss, folder, name, seed=0):
    """(A motion model from scratch on `latents`, by `loss`, its steps); the one that `folder` has already is taken."""
    path = folder and folder / name / "motion.safetensors"
    if path and path.is_file():
        metadata = load_weights(path)[1]
        if metadata["minutes"] != minutes:
            raise SystemExit(f"{path} was trained for {metadata['minutes']} minutes, not {minutes}")
        return load_motion(path.parent), metadata["steps"]
    torch.manual_seed(seed)
    sizes = dict(motion_dim=latents.motion.shape[1], audio_dim=latents.audio.shape[1])
    model = MotionModel(MotionConfig.laptop(**sizes), MotionSampling.laptop())
    model.set_statistics(**dict(latents.items()))
    plan = MotionTraining.laptop()
    cost = lambda step, generator: loss(model, *random_conditions(model, latents, generator, plan), generator)
    log = fit(Recipe(name, {"motion": model}, cost, lr=plan.lr, warmup=100), Run(minutes=minutes, seed=seed))
    if path:
        save_weights(path, model, model.config, dtype=torch.float16, steps=len(log), minutes=minutes,
                     sampling=asdict(model.sampling))
    return model.requires_grad_(False), len(log)


class Separate(Talker):
    """A talker with one model for the pose and another one for the dynamics."""

    def motion(self, audio, **controls):
        pose, dynamics = self.heads
        self.motion_model = pose
        first = super().motion(audio, **controls)[:, :6]
        self.motion_model = dynamics
        second = super().motion(audio, **controls)[:, 6:]
        self.motion_model = pose
        return torch.cat([first, second], 1)


def only(latents, part):
    """Latents with the other columns of motion gone: constant, so that there is nothing to learn and nothing to see."""
    motion = torch.zeros_like(latents.motion)
    motion[:, part] = latents.motion[:, part]
    return replace(latents, motion=motion)


def rival(name, talker, latents, minutes, folder):
    """(talker, its controls, steps it was trained for)."""
    other = copy.copy(talker)
    if name == "separate":
        parts = {"pose": slice(6), "dynamics": slice(6, None)}
        trained = {part: learn(only(latents, columns), minutes / 2, motion_loss, folder, f"separate-{part}")
                   for part, columns in parts.items()}
        other.__class__, other.heads = Separate, [trained[part][0] for part in parts]
        other.motion_model = other.heads[0]
        return other, {}, sum(steps for _, steps in trained.values())
    other.motion_model, steps = learn(latents, minutes, {"joint": motion_loss, "regression": regression_loss}[name],
                                      folder, name)
    return other, {"steps": 1, "temperature": 0.0, "cfg_scale": {"audio": 0}} if name == "regression" else {}, steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rivals", nargs="*", metavar="NAME", help=f"which: {', '.join(RIVALS)} (default: all)")
    parser.add_argument("--json", type=Path, required=True, help="where the rows go")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each (default: 10)")
    parser.add_argument("--latents", type=Path, help="latents of `vasa train motion`, made with these weights")
    parser.add_argument("--clips", type=int, default=600, help="to make latents of, without --latents (default: 600)")
    parser.add_argument("--weights", default="laptop", help="face, audio and instruments (default: laptop)")
    parser.add_argument("--folder", type=Path, help="keep the trained weights there, and take those that are there")
    parser.add_argument("--takes", type=int, default=14, help="held-out clips (default: 14)")
    args = parser.parse_args()
    if unknown := set(args.rivals) - set(RIVALS):
        parser.error(f"no baseline {', '.join(unknown)}: accepted are {', '.join(RIVALS)}")
    talker, instruments = Talker.from_pretrained(args.weights), load_instruments(weights_folder(args.weights))
    with tempfile.TemporaryDirectory() as place:
        latents = (Latents.load(args.latents) if args.latents else
                   make_latents(talker.audio, args.clips, path=Path(place) / "latents.safetensors"))
    truths = [held_out_truth(i, seconds=3.2) for i in range(args.takes)]
    real = [true_take(instruments, truth) for truth in truths]
    found = json.loads(args.json.read_text()) if args.json.is_file() else {}

    def measure(name, talker, controls, **about):
        takes = [make_take(talker, instruments, truth, seed=i, **controls) for i, truth in enumerate(truths)]
        found[name] = table_row(takes, real, instruments) | about
        write_json(args.json, found)

    found.setdefault("real", table_row(real, real, instruments))
    if "shipped" not in found: measure("shipped", talker, {})
    for name in args.rivals or RIVALS:
        if name in found: continue
        measure(name, *(made := rival(name, talker, latents, args.minutes, args.folder))[:2], minutes=args.minutes,
                train_steps=made[2])


if __name__ == "__main__":
    main()
