"""How fast the world draws people: frames a second of one speaking person, and what a new person costs.

    python tools/world_speed.py [--sizes 128 256 512] [--threads 2] [--frames 16] [--repeats 3] [--json FILE]

The frames are of a clip, in one light before one scene; the person is built once, and not in these times. Times are
the wall clock's, the median of the repeats: nothing else should run beside it.
"""
import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vasa_ref.app.cli import check_output, write_json
from vasa_ref.errors import VasaError
from vasa_ref.world.camera import random_scenes
from vasa_ref.world.clips import make_clip
from vasa_ref.world.people import random_people
from vasa_ref.world.picture import Figures, make_figures, random_shots, render


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall clock of work(), in seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def frames_per_second(figures: Figures, size: int, frames: int, repeats: int) -> float:
    """Frames a second of one person (1) in the motion of a clip, `size` pixels square."""
    motion, stage = make_clip(1, render_frames=False).truth.motion, torch.Generator().manual_seed(0)
    now = slice(20, 20 + frames)
    shots, scene = random_shots(1, stage).expand(frames, -1), random_scenes(1, size, stage).expand(frames, -1, -1, -1)
    parts = motion.pose[now], motion.units[now], motion.gaze[now], motion.body[now]
    return frames / median_seconds(lambda: render(figures, *parts, shots, scene, size=size), repeats)


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512], help="pixels a side")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    parser.add_argument("--frames", type=int, default=16, help="of each measurement (default 16)")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement (default 3)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args(args)
    try:
        if given.json: check_output(given.json, ".json")        # before the work, not after it
    except VasaError as error: sys.exit(f"world_speed: {error}")
    torch.set_num_threads(given.threads)
    people = random_people(4, torch.Generator().manual_seed(1))
    figures = make_figures(people[:1])
    told = {"threads": given.threads,
            "person_s": round(median_seconds(lambda: make_figures(people), given.repeats) / len(people), 3)}
    for size in given.sizes:
        told[f"fps_{size}"] = round(frames_per_second(figures, size, given.frames, given.repeats), 2)
    for name, value in told.items(): print(f"{name:10} {value}")
    if given.json: write_json(given.json, told)


if __name__ == "__main__":
    main()
