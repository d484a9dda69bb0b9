"""Scale: a ring sums exactly and sends what the formula says; arithmetic is arithmetic."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vasa_ref
from vasa_ref.speed.scale import (
    Training,
    budget,
    efficiency,
    kept_for_backward,
    ring_all_reduce,
    streams_carried,
)
from vasa_ref.store import read_tensors
from vasa_ref.training import read_checkpoint


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shape", [(12,), (5, 3), (2,)])
def test_a_ring_gives_everybody_the_sum(n, shape):
    tensors = list(torch.randn(n, *shape, generator=torch.Generator().manual_seed(n), dtype=torch.float64))
    kept = [t.clone() for t in tensors]
    sums, sent = ring_all_reduce(tensors)
    assert len(sums) == n and all(torch.allclose(one, sum(kept)) and one.shape == shape for one in sums)
    assert all(torch.equal(a, b) for a, b in zip(tensors, kept)), "what was given is left as it was"
    if shape == (12,) and 12 % n == 0:
        assert sent == 2 * (n - 1) * 12 // n


def test_efficiency_by_hand():
    assert efficiency(1, 1.0, 1e12, 1.0) == 1
    # four processes: six rounds of a quarter of 8 bytes at 4 bytes a second, and of a second of latency
    assert efficiency(4, 9.0, 8.0, 4.0, latency=1.0) == pytest.approx(9 / (9 + 6 * (1 + 0.5)))
    shares = [efficiency(n, 0.3, 28e6, 1.25e8) for n in range(1, 17)]
    assert all(a > b for a, b in zip(shares, shares[1:]))


def test_each_round_of_a_ring_sends_one_piece_on():
    rounds = []
    owner = [torch.eye(3)[k].expand(3, 3) for k in range(3)]          # (piece, whose gradient is in it)
    ring_all_reduce(owner, watch=lambda parts: rounds.append(torch.stack([torch.stack(row) for row in parts])))
    assert len(rounds) == 4
    first, _, third, last = (parts.sum(-1) for parts in rounds)       # (process, piece): how many are summed
    assert first.tolist() == [[1, 1, 2], [2, 1, 1], [1, 2, 1]]        # k sent piece k to k + 1
    assert (third == 3).sum() == 6 and (last == 3).all()
    assert all((parts <= 1).all() for parts in rounds), "no gradient is counted twice"


def test_a_budget_by_hand():
    one = Training(parameters=1e9, macs=2e12, batch=5, steps=1000, activations=3e9, seconds=1.8)
    hours, memory, examples, passes = budget(one, gpus=8, peak_macs=1e14, utilisation=0.5, film_hours=100)
    assert hours == pytest.approx(3 * 2e12 * 5 * 1000 / 5e13 / 3600)
    assert memory == pytest.approx(20 + 15) and examples == 40_000 and passes == pytest.approx(40_000 * 1.8 / 360_000)
    assert budget(one, gpus=16, peak_macs=1e14, utilisation=0.5).hours == hours, "other batches, not fewer steps"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_the_backward_pass_needs_is_counted(device):
    conv = torch.nn.Conv2d(3, 8, 3, padding=1, device=device)
    x = torch.zeros(2, 3, 16, 16, device=device)
    whole = kept_for_backward(lambda: conv(x).sigmoid().exp(), conv)
    assert whole == 4 * 2 * 16 * 16 * (3 + 8 + 8), "input of the convolution, outputs of the two functions"
    halves = lambda: conv(x.half().float()).relu().flatten(1).view(2, 8, 256)
    assert kept_for_backward(halves, conv) == 4 * 512 * (3 + 8)
    assert kept_for_backward(lambda: conv(x).detach(), conv) == 4 * 512 * 3
    frozen = torch.nn.Conv2d(3, 8, 3, device=device).requires_grad_(False)
    assert kept_for_backward(lambda: frozen(x), frozen) == 0


@pytest.mark.parametrize("seconds, options, streams", [(0.01, {"reserve": 0.0}, 4), (0.01, {}, 3), (0.05, {}, 0),
                                                       (0.01, {"cores": 8, "reserve": 0.0, "fps": 50}, 16)])
def test_streams_that_cores_carry(seconds, options, streams):
    assert streams_carried(seconds, **options) == streams


# ---- the command line under torchrun

TRAIN = """
import os, signal, sys
import vasa_ref.motion.training as training
from vasa_ref.app import cli
train, loss, lost = training.train_motion, training.motion_loss, int(sys.argv[1])
calls = iter(range(100))
def short(preset, minutes, **options):
    return train(preset, max_steps=12, clips=3, workers=1, save_every=0, **options)
def fatal(*args):
    if next(calls) == 7 and os.environ["RANK"] == sys.argv[1]: os.kill(os.getpid(), signal.SIGKILL)
    return loss(*args)
training.train_motion, training.motion_loss = short, fatal
sys.exit(cli.main(["train", "motion", *sys.argv[2:]]))
"""


def torchrun(folder, *words, lost=-1):
    """`vasa train motion` in two processes, of which one kills itself: exit code, stdout, what vasa says on stderr."""
    (folder / "train.py").write_text(TRAIN)
    package = str(Path(vasa_ref.__file__).parents[1])
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                           folder / "train.py", str(lost), *map(str, words)], capture_output=True, text=True,
                          timeout=300, env={**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"})
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.startswith("vasa:")]
    return done.returncode, done.stdout, lines


NEW = "--preset", "tiny", "--audio", "laptop", "--seed", "5"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    code, out, lines = torchrun(folder, *NEW, "--out", folder / "out")
    assert (code, lines) == (0, []) and out.count("weights of motion") == 1, "only the first process speaks"
    return read_tensors(folder / "out" / "motion.safetensors")[0]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_ends_the_command_and_it_goes_on_bit_for_bit(undisturbed, tmp_path, lost):
    code, _, lines = torchrun(tmp_path, *NEW, "--out", tmp_path / "lost", lost=lost)
    # torchrun ends the other process too, on a busy machine before it can speak; tests/test_training.py asks it alone
    assert code == 1 and len(lines) <= 1 and all(line.endswith("with --resume FOLDER") for line in lines), lines
    files = {path.name for path in (tmp_path / "lost").rglob("*") if path.is_file()}
    assert files == {"training.json", "latents.safetensors", "checkpoint.safetensors"}, "nothing half-written"
    assert read_checkpoint(tmp_path / "lost" / "motion")[1] == 7
    code, out, lines = torchrun(tmp_path, "--resume", tmp_path / "lost", "--audio", "laptop", "--seed", "5")
    assert (code, lines) == (0, [])
    ours = read_tensors(tmp_path / "lost" / "motion.safetensors")[0]
    assert ours.keys() == undisturbed.keys() and all(torch.equal(ours[name], undisturbed[name]) for name in ours)


def test_a_mistake_of_the_user_is_said_by_one_process(tmp_path):
    code, out, lines = torchrun(tmp_path, "--preset", "tiny", "--out", tmp_path / "out")
    assert code == 1 and len(lines) == 1 and "no weights called 'tiny'" in lines[0]
