"""Two processes against one, training the laptop's motion model on this machine: speed and loss curves as JSON.

    python tools/scale.py nbs/results/scale.json [--steps 200] [--seeds 3] [--rows 24]

alone: one process with half of the rows; apart: two such, which know nothing of each other; together: two that average
their gradients; whole: one process with all rows, the loss curve to compare with. Each process has one thread. About
ten minutes on two free cores; the file says how busy the machine was.
"""
import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from vasa_ref.app.checks import check_output, write_json
from vasa_ref.hearing.features import load_audio_encoder
from vasa_ref.motion.latents import Latents, make_latents
from vasa_ref.motion.network import MotionConfig, MotionModel
from vasa_ref.motion.training import MotionTraining, motion_loss, random_conditions
from vasa_ref.store import read_tensors, weights_folder
from vasa_ref.training import Recipe, Run, fit, team

CLIPS, WARM = 48, 10     # clips to learn from; steps that are not timed


def child(latents, log, rows, steps, seed):
    """One process of a training; the first of a team writes the log: losses, seconds of clock and of processors."""
    torch.set_num_threads(1)
    data = Latents.of(**read_tensors(Path(latents))[0])
    training, run = replace(MotionTraining.laptop(), batch=rows), Run(max_steps=steps, seed=seed, quiet=True)
    model = run.new(MotionModel, MotionConfig.laptop(motion_dim=data.motion.shape[1], audio_dim=data.audio.shape[1]))
    model.set_statistics(**dict(data.items()))
    began = []

    def loss(step, generator):
        if step == WARM:
            began.extend((time.perf_counter(), time.process_time()))
        return motion_loss(model, *random_conditions(model, data, generator, training), generator, training)
    losses = [entry["loss"] for entry in fit(Recipe("motion", {"motion": model}, loss, lr=training.lr), run)]
    clock, cores = time.perf_counter() - began[0], time.process_time() - began[1]
    if team()[0] == 0:
        Path(log).write_text(json.dumps({"losses": losses, "clock": clock / (steps - WARM),
                                         "cores": cores / (steps - WARM)}))


def processes(count, together, folder, *numbers):
    """The log of the first of `count` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if together:
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    runs = []
    for rank in range(count):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if together else {}
        words = [__file__, "--child", folder / "latents.safetensors", folder / f"{rank}.json", *numbers]
        runs.append(subprocess.Popen([sys.executable, *map(str, words)], env=env | own))
    if any(run.wait() for run in runs):
        raise SystemExit("a process has failed")
    return json.loads((folder / "0.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=24)
    given = parser.parse_args()
    out, half = check_output(given.out, ".json"), given.rows // 2
    figures = {"device": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
               "load_before": round(os.getloadavg()[0], 2), "rows": given.rows, "steps": given.steps,
               "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make_latents(load_audio_encoder(weights_folder("laptop")), CLIPS, path=folder / "latents.safetensors",
                     workers=1)
        for name, count, together in (("alone", 1, False), ("apart", 2, False), ("together", 2, True)):
            log = processes(count, together, folder, half, 60, 0)
            figures |= {f"{name}_clock": round(log["clock"], 4), f"{name}_cores": round(log["cores"], 4)}
            print(name, figures[f"{name}_clock"], "s per step", flush=True)
        for name, count, rows in (("whole", 1, given.rows), ("together", 2, half)):
            curves = [processes(count, count > 1, folder, rows, given.steps, seed)["losses"]
                      for seed in range(given.seeds)]
            figures[f"{name}_losses"] = [[round(x, 4) for x in curve] for curve in curves]
            print(name, "curves are made", flush=True)
    figures["load_after"] = round(os.getloadavg()[0], 2)
    write_json(out, figures)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:4], *map(int, sys.argv[4:]))
    else:
        main()
