"""How long a user waits for a talker: the imports and the weights, each time in a fresh process.

    python tools/start_time.py [--weights NAME_OR_FOLDER] [--repeats 5]

Seconds of the wall clock and of the processor, the medians of the repeats, for `import torch`, `from vasa_ref import
Talker` and `Talker.from_pretrained`. Asked of all three together: less than 2 s on two cores with nothing else to do.
Beside other work the wall clock says how busy the machine is; the processor's seconds stay.
"""
import argparse
import json
import statistics
import subprocess
import sys

STEPS = ("import torch", "from vasa_ref import Talker", "Talker.from_pretrained({weights!r})")
CODE = """
import json, sys, time
clocks, told = (time.perf_counter, time.process_time), []
for step in {steps!r}:
    began = [clock() for clock in clocks]
    exec(step)
    told.append([clock() - start for clock, start in zip(clocks, began)])
json.dump(told, sys.stdout)
"""


def start(weights: str) -> list[list[float]]:
    """Seconds of (wall clock, processor) for each of the STEPS, in a fresh process; SystemExit with its last line if it
    fails."""
    code = CODE.format(steps=[step.format(weights=weights) for step in STEPS])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode: sys.exit(f"start_time: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="laptop", help="shipped weights or a folder (default: laptop)")
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes (default: 5)")
    given = parser.parse_args(args)
    runs = [start(given.weights) for _ in range(given.repeats)]
    runs = [[*run, [sum(clock) for clock in zip(*run)]] for run in runs]
    print(f"{'':44}  wall clock  processor")
    for name, *times in zip([*(step.format(weights=given.weights) for step in STEPS), "all"], *runs):
        wall, processor = (statistics.median(clock) for clock in zip(*times))
        print(f"{name:44}  {wall:8.2f} s {processor:8.2f} s")


if __name__ == "__main__":
    main()
