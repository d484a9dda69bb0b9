"""The training loop: it learns, resumes bit for bit, keeps its budget, and never leaves half a checkpoint."""
import ast
import importlib
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

import vasa_ref.training as training
from vasa_ref.errors import VasaError
from vasa_ref.precision import fast_precision
from vasa_ref.training import CHECKPOINT, Recipe, Run, step_generator, within

torch.set_num_threads(1)
RUN = ("minutes", "max_steps", "seed", "device", "save_every")


def fit(loss, modules, *, out=None, resume=None, name="training", watch=None, quiet=True, **options):
    """A recipe of these modules and this loss, trained; options of `Run` and of `Recipe`."""
    run = Run(quiet=quiet, **{k: options.pop(k) for k in RUN if k in options})
    return training.fit(Recipe(name, modules, loss, **options), run, folder=out, resume=resume, watch=watch)


def make(seed=0):
    """Two small modules, one with dropout and a buffer, and a regression task for them."""
    torch.manual_seed(seed)
    first = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 8))
    modules = {"first": first, "second": nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2))}

    def loss_fn(step, generator):
        x = torch.randn(32, 4, generator=generator)
        y = modules["second"](modules["first"](x))
        loss = (y - torch.stack([x.sum(1), x[:, 0]], 1)).square().mean()
        return loss, {"error": loss.detach().sqrt()}
    return modules, loss_fn


def run(**kw):
    modules, loss_fn = make()
    log = fit(loss_fn, modules, **{"lr": 1e-2, "warmup": 5, "precision": "no"} | kw)
    return modules, log


def states(modules):
    return {f"{k}/{n}": v for k, m in modules.items() for n, v in m.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for k in one:
        assert torch.equal(one[k], other[k]), k


def test_it_learns_and_logs_every_step():
    modules, log = run(max_steps=300)
    assert [e["step"] for e in log] == list(range(300))
    assert {"step", "seconds", "loss", "error", "grad_norm"} == log[0].keys()
    assert sum(e["loss"] for e in log[-50:]) / 50 < 0.4 * log[0]["loss"]
    assert all(abs(e["error"] ** 2 - e["loss"]) < 1e-4 for e in log)
    assert not any(m.training for m in modules.values())


def test_ten_steps_are_five_and_five_more_bit_for_bit(tmp_path):
    whole, whole_log = run(max_steps=10, out=tmp_path / "whole")
    run(max_steps=5, out=tmp_path / "half")
    resumed, log = run(max_steps=10, out=tmp_path / "rest", resume=tmp_path / "half")
    assert_same(states(whole), states(resumed))
    assert [e["loss"] for e in log] == [e["loss"] for e in whole_log]
    assert log[5]["seconds"] >= log[4]["seconds"]
    one = safe_open(tmp_path / "whole" / CHECKPOINT, "pt")
    other = safe_open(tmp_path / "rest" / CHECKPOINT, "pt")
    assert set(one.keys()) == set(other.keys())
    assert_same(*({k: f.get_tensor(k) for k in f.keys() if k != "log/seconds"} for f in (one, other)))


def test_a_late_parameter_resumes_exactly_too(tmp_path):
    """A part that joins at step 3, as a discriminator does, has an Adam count of its own."""
    def train(steps, **kw):
        torch.manual_seed(0)
        modules = {"a": nn.Linear(2, 1), "b": nn.Linear(2, 1)}

        def loss_fn(step, generator):
            x = torch.randn(8, 2, generator=generator)
            loss = (modules["a"](x) - 1).square().mean()
            late = (modules["b"](x) + 1).square().mean()
            return (loss + late, {"late": late.detach()}) if step >= 3 else (loss, {})
        log = fit(loss_fn, modules, max_steps=steps, **kw)
        return states(modules), log
    whole, whole_log = train(8, out=None)
    for cut in (2, 5):
        train(cut, out=tmp_path / f"{cut}")
        rest, log = train(8, resume=tmp_path / f"{cut}")
        assert_same(whole, rest)
        assert "late" not in log[2] and log[3]["late"] == whole_log[3]["late"]


def test_resuming_keeps_the_layout_in_memory(tmp_path):
    """Parameters in channels-last order get moments in that order: fused Adam does not look at strides."""
    def train(steps, **kw):
        torch.manual_seed(0)
        m = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        loss_fn = lambda step, g: ((m(torch.randn(2, 3, 8, 8, generator=g)) - 1).square().mean(), {})
        fit(loss_fn, {"m": m}, max_steps=steps, lr=1e-2, warmup=0, **kw)
        return m.state_dict()
    whole = train(10, out=None)
    train(5, out=tmp_path)
    assert_same(whole, train(10, resume=tmp_path))


def test_training_does_not_touch_the_global_generator():
    torch.manual_seed(3)
    expected = torch.rand(2)
    modules, loss_fn = make()
    torch.manual_seed(3)
    fit(loss_fn, modules, max_steps=2)
    assert torch.equal(torch.rand(2), expected)


def test_the_seed_decides():
    one, _ = run(max_steps=3, seed=1)
    same, _ = run(max_steps=3, seed=1)
    other, _ = run(max_steps=3, seed=2)
    assert_same(states(one), states(same))
    assert not torch.equal(one["first"][0].weight, other["first"][0].weight)
    draws = {tuple(torch.rand(2, generator=step_generator(s, t, p)).tolist()) for s in (0, 1) for t in (0, 1)
             for p in (0, 1)}
    assert len(draws) == 8


def test_the_modules_hold_the_average_with_the_stated_decay():
    modules, raw = {"m": nn.Linear(1, 1, bias=False)}, []

    def loss_fn(step, generator):
        raw.append(modules["m"].weight.item())
        return (modules["m"].weight - 3).square().sum(), {}
    fit(loss_fn, modules, max_steps=6, lr=0.1, warmup=0, average=0.2)
    # the raw weight after the last step, found by one more step of the loop
    probe = {"m": nn.Linear(1, 1, bias=False)}
    probe["m"].weight.data.fill_(raw[0])
    seen = []

    def record(step, generator):
        seen.append(probe["m"].weight.item())
        return (probe["m"].weight - 3).square().sum(), {}
    fit(record, probe, max_steps=7, lr=0.1, warmup=0)
    average = seen[0]
    for step, weight in enumerate(seen[1:]):
        decay = min(0.2, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    assert modules["m"].weight.item() == pytest.approx(average, abs=1e-6)


def test_warmup_and_schedule():
    """Adam's first step has the size of the learning rate: half the warm-up is half the step."""
    moved = {}
    for warmup, lr in ((1, 0.1), (2, 0.1), (1, lambda step: 0.05)):
        m = nn.Linear(1, 1, bias=False)
        before = m.weight.item()
        fit(lambda step, g: ((m.weight - 9).square().sum(), {}), {"m": m}, max_steps=1, lr=lr, warmup=warmup,
            average=0.0)
        moved[warmup, callable(lr)] = m.weight.item() - before
    assert moved[1, False] == pytest.approx(0.1, rel=1e-3)
    assert moved[2, False] == pytest.approx(0.05, rel=1e-3)
    assert moved[1, True] == pytest.approx(0.05, rel=1e-3)


def test_gradients_are_clipped_and_their_norm_is_logged():
    m = nn.Linear(1, 1, bias=False)
    log = fit(lambda step, g: (1000 * m.weight.sum(), {}), {"m": m}, max_steps=1)
    assert log[0]["grad_norm"] == pytest.approx(1000)


def test_modules_that_stand_apart_are_clipped_by_themselves():
    """A huge gradient of the discriminator does not shorten the generator's."""
    moved = {}
    for apart in ((), ("discriminator",)):
        modules = {"face": nn.Linear(1, 1, bias=False), "discriminator": nn.Linear(1, 1, bias=False)}
        loss = lambda step, g: (modules["face"].weight.sum() + 1e6 * modules["discriminator"].weight.sum(), {})
        seen = []
        for p in modules["face"].parameters(): p.register_post_accumulate_grad_hook(lambda p: seen.append(p))
        loop = training.Loop(Recipe("gan", modules, loss, apart=apart, precision="no"), Run(max_steps=1))
        loss(0, None)[0].backward()
        length = training.clip_gradients(loop).item()
        moved[apart] = seen[0].grad.item(), modules["discriminator"].weight.grad.item(), length
    assert moved[()][0] == pytest.approx(1e-6) and moved[()][2] == pytest.approx(1e6)
    assert moved[("discriminator",)] == pytest.approx((1.0, 1.0, 1.0), rel=1e-3)


def test_a_run_shares_its_time():
    run = Run(minutes=10)
    assert run.left(0.3) == pytest.approx(3, abs=0.1) and run.left() == pytest.approx(10, abs=0.1)
    run.began -= 240
    assert run.left(0.3) == 0 and run.left() == pytest.approx(6, abs=0.1)
    assert Run(max_steps=3).left() is None


def test_a_run_knows_its_folders(tmp_path):
    assert Run(max_steps=1).place("a") is None and Run(max_steps=1, out=tmp_path).place("a") == tmp_path / "a"
    run(max_steps=1, out=tmp_path / "a")
    again = Run(max_steps=2, resume=tmp_path)
    assert again.place("a") == again.earlier("a") == tmp_path / "a" and again.earlier("b") is None


def test_new_models_have_the_weights_of_the_seed():
    one, same, other = (Run(max_steps=1, seed=seed).new(nn.Linear, 3, 3).weight for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


TRAININGS = {"hearing.training.train_audio": {}, "motion.training.train_motion": {},
             "measure.estimator.train_metrics": {}, "measure.lipsync.train_sync": {},
             "measure.frame_judges.train_frame_judges": {},
             "face.training.train_face": {"out": "out"}, "face.plain_training.train_face": {"preset": "tiny"}}
STAGES = {"face.training.train_detail", "face.encoders.train_encoders"}      # take a `Run`, which has a limit


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_without_a_limit_is_refused_before_anything_is_done(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module, function = name.rsplit(".", 1)
    module = importlib.import_module(f"vasa_ref.{module}")
    for preparation in ("make_latents", "make_pool", "make_speech", "make_talks", "make_frame_talks", "face_dataset",
                        "keep_audio_encoder", "load_audio_encoder", "load_judges", "build_face"):
        if hasattr(module, preparation):
            monkeypatch.setattr(module, preparation, lambda *args, **options: pytest.fail("work was done"))
    with pytest.raises(VasaError, match="needs a limit: minutes, max_steps or both"):
        getattr(module, function)(**TRAININGS[name])
    assert os.listdir(tmp_path) == []


def test_no_training_is_missing_above():
    found = {f"{module.removeprefix('vasa_ref.')}.{node.name}" for path in Path(training.__file__).parent.rglob("*.py")
             for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.FunctionDef) and node.name.startswith("train_")
             for module in [".".join(path.relative_to(Path(training.__file__).parents[1]).with_suffix("").parts)]}
    assert found == TRAININGS.keys() | STAGES


def test_bf16_on_the_cpu():
    modules, loss_fn = make()
    seen = []
    modules["first"][0].register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    log = fit(loss_fn, modules, max_steps=150, lr=1e-2, precision="bf16")
    assert set(seen) == {torch.bfloat16}
    assert modules["first"][0].weight.dtype == torch.float32
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    run(max_steps=1)   # and another precision afterwards in the same process


@pytest.mark.parametrize("able, precision",
                         [({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "no")])
def test_half_precision_where_it_is_fast(able, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert fast_precision("cpu") == precision and fast_precision("cuda") == "bf16"
    modules, loss_fn = make()
    seen = []
    modules["first"][0].register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    fit(loss_fn, modules, max_steps=1, precision="auto")
    assert seen == [torch.bfloat16 if precision == "bf16" else torch.float32]


def test_the_budget_is_kept(monkeypatch):
    clock = iter(i / 4 for i in range(10_000))                        # a quarter of a second between two looks at it
    monkeypatch.setattr(training.time, "monotonic", lambda: next(clock))
    _, log = run(minutes=5 / 60)
    assert next(clock) == pytest.approx(5, abs=1.1) and 5 < len(log) < 20
    with pytest.raises(VasaError, match="minutes, max_steps"):
        run()


def test_checkpoints_while_training(tmp_path):
    modules, loss_fn = make()
    seen = []

    def watching(step, generator):
        seen.append((tmp_path / CHECKPOINT).exists())
        return loss_fn(step, generator)
    fit(watching, modules, out=tmp_path, max_steps=3, save_every=0)
    assert seen == [False, True, True]
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_loss_that_is_not_finite_stops_training_before_the_checkpoint(tmp_path):
    m = nn.Linear(1, 1)
    bad = lambda step, g: (m.weight.sum() * (math.nan if step == 7 else 1.0), {})
    with pytest.raises(FloatingPointError, match="nan at step 7"):
        fit(bad, {"m": m}, out=tmp_path, max_steps=9)
    assert list(tmp_path.iterdir()) == []


def test_frozen_parameters_stay_and_shared_ones_count_once(tmp_path):
    shared = nn.Linear(2, 2)
    modules = {"a": shared, "b": nn.Sequential(shared, nn.Linear(2, 1))}
    modules["b"][1].weight.requires_grad_(False)
    frozen = modules["b"][1].weight.clone()
    loss_fn = lambda step, g: (modules["b"](torch.randn(4, 2, generator=g)).square().mean(), {})
    for resume in (None, tmp_path):
        fit(loss_fn, modules, out=tmp_path, max_steps=2 if resume is None else 4, resume=resume)
    assert torch.equal(modules["b"][1].weight, frozen)
    assert len(training.trainable(modules)) == 3


def test_what_cannot_be_resumed_is_said(tmp_path):
    with pytest.raises(VasaError, match="no checkpoint at"):
        run(max_steps=1, resume=tmp_path)
    run(max_steps=1, out=tmp_path)
    with pytest.raises(VasaError, match="does not fit Linear"):
        fit(lambda s, g: None, {"first": nn.Linear(4, 4)}, max_steps=2, resume=tmp_path)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no tensors here, only words"):
        (tmp_path / CHECKPOINT).write_bytes(broken)
        with pytest.raises(VasaError, match="damaged"):
            run(max_steps=2, resume=tmp_path)


def test_nothing_but_the_bar_is_printed_and_quiet_prints_nothing(capfd):
    run(max_steps=25)
    assert capfd.readouterr() == ("", "")
    run(max_steps=25, quiet=False, name="a little training")
    out, err = capfd.readouterr()
    assert out == "" and "a little training" in err and "loss=" in err


TWO = """
import sys, torch
from torch import nn
from vasa_ref.training import Recipe, Run, fit
torch.set_num_threads(1)
torch.manual_seed(int(__import__("os").environ["RANK"]))   # other weights in each process: training must agree on one
m = nn.Linear(3, 1)
def loss_fn(step, generator):
    x = torch.randn(8, 3, generator=generator)
    return (m(x) - x.sum(1, keepdim=True)).square().mean(), {}
fit(Recipe("two", {"m": m}, loss_fn, lr=0.1, warmup=0), Run(max_steps=20, out=sys.argv[1], quiet=True))
print("weights", m.weight.detach().flatten().tolist(), flush=True)
"""


def team_of_two(folder, code, *args):
    """The exit codes, outputs and errors of a script in two processes that train together."""
    (folder / "two.py").write_text(code)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    package = str(Path(training.__file__).parents[1])
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "PYTHONPATH": package,
           "OMP_NUM_THREADS": "1"}
    runs = [subprocess.Popen([sys.executable, folder / "two.py", *map(str, args)], stdout=subprocess.PIPE, text=True,
                             stderr=subprocess.PIPE, env=env | {"RANK": str(r), "LOCAL_RANK": str(r)}) for r in (0, 1)]
    try:
        results = [p.communicate(timeout=100) for p in runs]
    finally:
        for p in runs:
            p.kill()
    # one process in some hundreds is aborted by torch's threads as it ends, its work done and told
    aborted = [p.returncode == -6 and "weights" in out and "without an active exception" in error
               for p, (out, error) in zip(runs, results)]
    return [0 if late else p.returncode for late, p in zip(aborted, runs)], *zip(*results)


def weights_of(outputs):
    return [[line for line in out.splitlines() if line.startswith("weights")] for out in outputs]


def test_two_processes_agree(tmp_path):
    codes, outs, errors = team_of_two(tmp_path, TWO, tmp_path / "out")
    assert codes == [0, 0], errors
    lines = weights_of(outs)
    assert len(lines[0]) == 1 and lines[0] == lines[1]
    assert (tmp_path / "out" / "two" / CHECKPOINT).is_file()


def test_two_processes_are_torchs_distributed_data_parallel(tmp_path):
    "The same batches and the same optimiser under DistributedDataParallel give the same weights."
    theirs = TWO[:TWO.index("fit(")] + """
from torch.nn.parallel import DistributedDataParallel
from vasa_ref.training import step_generator, team
process, _ = team()
m = DistributedDataParallel(m)
adam = torch.optim.AdamW(m.parameters(), lr=0.1, betas=(0.9, 0.99), weight_decay=0.0)
for step in range(20):
    loss_fn(step, step_generator(0, step, process))[0].backward()
    nn.utils.clip_grad_norm_(m.parameters(), 1.0)
    adam.step()
    adam.zero_grad()
print("weights", m.module.weight.detach().flatten().tolist(), flush=True)
torch.distributed.barrier()
__import__("os")._exit(0)      # DDP's threads sometimes abort a process that ends while they wait
"""
    ours = TWO.replace("warmup=0", "warmup=0, precision='no'").replace("m.weight.detach()", "raw")
    ours = ours.replace("print(", """torch.distributed.barrier()
raw = __import__("safetensors.torch").torch.load_file(sys.argv[1] + "/two/checkpoint.safetensors")["raw/m/weight"]
print(""")
    results = []
    for code in (ours, theirs):
        codes, outs, errors = team_of_two(tmp_path, code, tmp_path / "out")
        assert codes == [0, 0], errors
        results.append(json.loads(weights_of(outs)[0][0].removeprefix("weights ")))
    assert results[0] == pytest.approx(results[1], abs=1e-6)


def test_a_lost_process_ends_the_others_and_training_goes_on_exactly(tmp_path):
    script = TWO.replace("max_steps=20, out=sys.argv[1]", "max_steps=20, out=sys.argv[1], save_every=0, "
                         "resume=sys.argv[2] if len(sys.argv) > 2 else None")
    assert script != TWO
    lost = script.replace("def loss_fn(step, generator):", """def loss_fn(step, generator):
    if step == 12 and __import__("os").environ["RANK"] == "1": __import__("os").kill(__import__("os").getpid(), 9)""")
    whole = weights_of(team_of_two(tmp_path, script, tmp_path / "whole")[1])
    codes, _, errors = team_of_two(tmp_path, lost, tmp_path / "out")
    assert codes[1] == -9 and codes[0] == 1
    assert errors[0].strip().splitlines()[-1].endswith(
        "another process of this training has ended: start all of them again, with --resume FOLDER")
    assert training.read_checkpoint(tmp_path / "out" / "two")[1] == 12
    codes, outs, errors = team_of_two(tmp_path, script, tmp_path / "out", tmp_path / "out")
    assert codes == [0, 0], errors
    assert weights_of(outs) == whole and whole[0] == whole[1]


def test_the_first_process_makes_and_the_others_find(tmp_path):
    code = """
import sys, time
from pathlib import Path
from vasa_ref.training import first_makes, mean_over_team, team
import torch
file = Path(sys.argv[1]) / "made"
def make():
    if not file.exists():
        time.sleep(0.5)
        file.write_text(f"by {team()[0]}")
    return file.read_text()
print("weights", first_makes(make))
mixed = [torch.full((2, 2), float(team()[0])), torch.full((3,), 4.0 * team()[0], dtype=torch.float64), torch.ones(1)]
mean_over_team(mixed, 2)
print("weights", [t.flatten().tolist() for t in mixed], mixed[1].dtype)
"""
    codes, outs, errors = team_of_two(tmp_path, code, tmp_path)
    assert codes == [0, 0], errors
    means = "weights [[0.5, 0.5, 0.5, 0.5], [2.0, 2.0, 2.0], [1.0]] torch.float64"
    assert weights_of(outs) == [["weights by 0", means]] * 2


def test_what_the_first_process_makes_is_sent(tmp_path):
    "Without a file, and cut by a clock: all have the same."
    code = """
import torch
from vasa_ref.training import first_makes, team
made = first_makes(lambda: {"by": team()[0], "numbers": torch.rand(5)})
print("weights", made["by"], made["numbers"].tolist())
"""
    codes, outs, errors = team_of_two(tmp_path, code)
    assert codes == [0, 0], errors
    ours, theirs = weights_of(outs)
    assert ours == theirs and ours[0].startswith("weights 0 [0.")


def test_processes_share_a_pool_and_open_it_when_it_is_whole(tmp_path):
    code = """
import sys, time, torch
from dataclasses import replace
from pathlib import Path
from vasa_ref.face.plain_training import FaceTraining, make_pool
from vasa_ref.store import save_tensors
from vasa_ref.training import team
from vasa_ref.world.frames import Pool
made = []
def slowly(folder, *numbers, part, **options):               # the second process is late
    made.append(part[0])
    time.sleep(2.0 * team()[0])
    save_tensors(Path(folder) / f"{part[0]}.safetensors", {"pose": torch.zeros(16, 2, 6)}, {})
Pool.make = slowly
print("weights", len(make_pool(sys.argv[1], replace(FaceTraining.tiny(), people=64, frames=2), 16)), "people", made)
"""
    codes, outs, errors = team_of_two(tmp_path, code, tmp_path / "pool")
    assert codes == [0, 0], errors
    assert weights_of(outs) == [["weights 64 people [0, 2]"], ["weights 64 people [1, 3]"]]


def test_work_within_minutes_is_begun_and_cut(monkeypatch):
    assert list(within(range(5), None)) == [0, 1, 2, 3, 4]
    assert list(within(range(5), 0)) == [0] and list(within([], 0)) == []
    clock = iter(range(1000))                                         # a second for each item
    monkeypatch.setattr(training.time, "monotonic", lambda: next(clock))
    assert list(within(range(100), 7 / 60)) == [0, 1, 2, 3, 4, 5, 6]
