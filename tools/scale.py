"""Several processes on this machine, which train the laptop's motion model and draw faces: speed and loss as JSON.

    python tools/scale.py nbs/results/scale.json [--steps 200] [--seeds 3] [--rows 24] [--timed 60]

Training. alone: one process with half of the rows; apart: two such, which know nothing of each other; together: two
that average their gradients; ddp: two under torch's DistributedDataParallel, on the same batches as `together`; whole:
one process with all rows, the loss curve to compare with. Drawing: one process with batches of 1, 4 and 16 faces; two
processes with batches of 4. Motion: from 5 seconds of sound. Each process has one thread. Figures are seconds of a
step, or of a frame: `_clock` of the wall, `_cores` of the processor. About ten minutes on two free cores; the file says
how busy the machine was. Change nothing here while it runs: processes start with this file.
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
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vasa_ref.app.checks import check_output, write_json
from vasa_ref.hearing.features import load_audio_encoder
from vasa_ref.motion.latents import Latents, make_latents
from vasa_ref.motion.network import MotionConfig, MotionModel
from vasa_ref.motion.training import MotionTraining, motion_loss, random_conditions
from vasa_ref.store import read_tensors, weights_folder
from vasa_ref.talking.talker import Talker
from vasa_ref.training import CHECKPOINT, Recipe, Run, fit, step_generator, team

CLIPS, WARM = 48, 10     # clips to learn from; steps that are not timed


class Clock:
    """Seconds of the wall and of the processor since it was started, for each of so many steps."""
    def start(self):
        self.began = time.perf_counter(), time.process_time()

    def read(self, steps):
        clock, cores = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        return {"clock": clock / steps, "cores": cores / steps}


class Task(nn.Module):
    """The training of the motion model: forward(step, generator) is the loss, and its parts."""
    def __init__(self, data, rows, run):
        super().__init__()
        self.data, self.training_plan = data, replace(MotionTraining.laptop(), batch=rows)
        sizes = dict(motion_dim=data.motion.shape[1], audio_dim=data.audio.shape[1])
        self.model = run.new(MotionModel, MotionConfig.laptop(**sizes))
        self.model.set_statistics(**dict(data.items()))
        self.clock, self.drawing = Clock(), 0.0

    def forward(self, step, generator):
        if step == WARM:
            self.clock.start()
            self.drawing = 0.0
        began = time.process_time()
        batch = random_conditions(self.model, self.data, generator, self.training_plan)
        self.drawing += time.process_time() - began
        return motion_loss(self.model, *batch, generator, self.training_plan)


def trained(folder, kind, rows, steps, seed):
    """One process of a training: losses, seconds of a step, and what the weights are at the end."""
    torch.set_num_threads(1)
    run = Run(max_steps=steps, seed=seed, quiet=True, out=folder / kind)
    task = Task(Latents.of(**read_tensors(folder / "latents.safetensors")[0]), rows, run)
    lr = task.training_plan.lr
    if kind == "ddp":
        process, _ = team()
        model = DistributedDataParallel(task)
        adam, losses = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.0, fused=True), []
        for step in range(steps):
            generator = step_generator(seed, step, process)
            torch.manual_seed(generator.initial_seed() % 2**63)
            adam.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / 200)
            loss, _ = model(step, generator)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            adam.zero_grad()
            losses.append(loss.item())
        weights = task.state_dict()
    else:
        recipe = Recipe("motion", {"task": task}, lambda *given: task(*given), lr=lr, precision="no")
        losses = [entry["loss"] for entry in fit(recipe, run)]
    figures = {"losses": losses, **task.clock.read(steps - WARM), "drawing": task.drawing / (steps - WARM)}
    if team()[0] == 0:
        if kind != "ddp":
            saved = read_tensors(folder / kind / "motion" / CHECKPOINT)[0]
            weights = {k.removeprefix("raw/task/"): v for k, v in saved.items() if k.startswith("raw/task/")}
        torch.save({k: v.detach() for k, v in weights.items()}, folder / f"{kind}.pt")
    return figures


def drawn(folder, kind, batch, frames, seed):
    """One process that draws faces in batches: seconds of a frame."""
    torch.set_num_threads(1)
    talker, clock = Talker.random("laptop"), Clock()
    image = torch.rand(1, 3, talker.size, talker.size, generator=torch.Generator().manual_seed(seed))
    pose = torch.tensor([0.0, 0, 0, 0, 0, 1]).expand(batch, 6)
    with torch.no_grad():
        a, z_id = talker.face.appearance(image), talker.face.identity(image)
        z_dyn = torch.zeros(batch, talker.face.config.z_dyn_dim)
        talker.face.decode(a, z_id, pose, z_dyn)
        clock.start()
        for _ in range(frames // batch):
            talker.face.decode(a, z_id, pose, z_dyn)
    return clock.read(frames // batch * batch)


def moved(folder, kind, seconds, repeats, seed):
    """One process that makes motion from so many seconds of sound: seconds of a frame."""
    torch.set_num_threads(1)
    talker, clock = Talker.random("laptop"), Clock()
    sound = torch.zeros(seconds * 16_000)
    talker.motion(sound, seed=seed)
    clock.start()
    for _ in range(repeats):
        talker.motion(sound, seed=seed)
    return clock.read(repeats * seconds * 25)


def child(folder, work, rank, kind, *numbers):
    """A process of its own, which leaves its figures in a file."""
    figures = {"trained": trained, "drawn": drawn, "moved": moved}[work](Path(folder), kind, *map(int, numbers))
    (Path(folder) / f"{rank}.json").write_text(json.dumps(figures))


def processes(count, together, folder, *words):
    """The figures of `count` processes, means over them; the losses of the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if together:
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    runs = []
    for rank in range(count):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if together else {}
        work, kind, *numbers = words
        kind = kind if together or count == 1 else f"{kind}-{rank}"       # a folder for each
        given = [sys.executable, __file__, "--child", folder, work, rank, kind, *numbers]
        runs.append(subprocess.Popen(list(map(str, given)), env=env | own))
    if any([run.wait() for run in runs]):
        raise SystemExit("a process has failed")
    logs = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(count)]
    means = {name: sum(log[name] for log in logs) / count for name in logs[0] if name != "losses"}
    return means | {"losses": logs[0].get("losses")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    for name, default in (("steps", 200), ("seeds", 3), ("rows", 24), ("timed", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    out, half = check_output(given.out, ".json"), given.rows // 2
    figures = {"device": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
               "load_before": round(os.getloadavg()[0], 2), "rows": given.rows, "steps": given.steps,
               "timed": given.timed, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}

    def note(name, log):
        figures.update({f"{name}_{key}": round(log[key], 5) for key in ("clock", "cores", "drawing") if key in log})
        print(f"{name}: {log['clock']:.3f} s by the wall, {log['cores']:.3f} s of a core", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make_latents(load_audio_encoder(weights_folder("laptop")), CLIPS, path=folder / "latents.safetensors",
                     workers=1, quiet=True)
        kinds = ("alone", 1, False), ("apart", 2, False), ("together", 2, True), ("ddp", 2, True)
        for name, count, together in kinds:
            note(name, processes(count, together, folder, "trained", name, half, given.timed, 0))
        ours, theirs = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("together", "ddp"))
        assert ours.keys() == theirs.keys()
        figures["ddp_difference"] = max((ours[k].float() - theirs[k].float()).abs().max().item() for k in ours)
        for name, count, batch in (("draw_1", 1, 1), ("draw_4", 1, 4), ("draw_16", 1, 16), ("draw_4_apart", 2, 4)):
            note(name, processes(count, False, folder, "drawn", name, batch, 2 * given.timed, 0))
        note("motion", processes(1, False, folder, "moved", "motion", 5, 3, 0))
        for name, count, rows in (("whole", 1, given.rows), ("together", 2, half)):
            curves = [processes(count, count > 1, folder, "trained", name, rows, given.steps, seed)["losses"]
                      for seed in range(given.seeds)]
            figures[f"{name}_losses"] = [[round(x, 4) for x in curve] for curve in curves]
            print(name, "curves are made", flush=True)
    figures["load_after"] = round(os.getloadavg()[0], 2)
    write_json(out, figures)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
