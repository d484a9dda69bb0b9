"""One training loop for every model of the package: any hardware, a time budget, exact resume, averaged weights.

accelerate brings autocast, backward, clipping and several processes; the rest is a page of plain code.
"""
import atexit
import math
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from .errors import VasaError
from .store import load_into, read_tensors, save_tensors

__all__ = ["CHECKPOINT", "check_limit", "fast_precision", "fit", "step_generator", "within"]

CHECKPOINT = "checkpoint.safetensors"
FLUSH_EVERY = 20   # steps between two readings of the losses, each of which makes an accelerator wait


def step_generator(seed, step, process=0):
    """A fresh CPU generator that depends on (seed, step, process) and nothing else: so training resumes exactly."""
    entropy = np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(entropy[0]))


def within(items, minutes):
    """The `items`, the first one in any case, until `minutes` have passed; None: all of them."""
    began = time.monotonic()
    for item in items:
        yield item
        if minutes is not None and time.monotonic() - began >= 60 * minutes:
            return


def check_limit(minutes, max_steps):
    """VasaError for a training that would never end, before anything is prepared for it."""
    if minutes is None and max_steps is None:
        raise VasaError("training needs a limit: minutes, max_steps or both")


def fast_precision(device) -> str:
    """What `mixed_precision` is fast on a device: "bf16" on accelerators, AMX and AVX-512 BF16, else "no".

    Other processors emulate bfloat16: a step of the face model took nine times as long on one with AVX2."""
    if torch.device(device).type != "cpu": return "bf16"
    able = getattr(torch.cpu, "get_capabilities", dict)()   # torch before 2.10 cannot tell
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "no"


def fit(loss_fn, modules, *, out, lr=2e-4, betas=(0.9, 0.99), weight_decay=0.0, minutes=None, max_steps=None,
        resume=None, seed=0, warmup=200, ema_decay=0.999, grad_clip=1.0, save_every=120, device="cpu",
        mixed_precision="no", name="training", quiet=False, watch=None, opponents=()):
    """Train `modules` (name -> nn.Module) on `loss_fn` and return the log, one dict per step.

    `loss_fn(step, generator) -> (loss, {name: float tensor})` is called with the step's number and a CPU generator
    made from (seed, step). It computes with the modules themselves, which are moved to `device` and put into training
    mode here.

    - Stops after `minutes` of wall clock (of this call) or at `max_steps` (in all), whichever comes first.
    - AdamW; `lr` is a number or a function of the step, and rises linearly during the first `warmup` steps.
    - Weights are averaged with decay min(ema_decay, (1 + step) / (10 + step)). On return the modules hold the averages
      and are in eval mode.
    - With `out`, a folder, `checkpoint.safetensors` is written there every `save_every` seconds and at the end: raw
      weights, averages, Adam's moments, the log. `resume` is such a folder: 5 steps and then 5 more are, bit for bit in
      float32 on one machine, the same as 10.
    - `mixed_precision` "bf16" runs the forward pass under autocast, "auto" where that is faster. Under
      `accelerate launch`, gradients are averaged over the processes, each of which draws batches of its own, and
      `device` is the process's own.
    - Gradients are clipped to a norm of `grad_clip`, all together but those of `opponents`, names of modules that play
      against the others: each has a norm of its own, or the larger would decide how far the smaller may go.
    - `watch(step, log, averaged)` is called every few steps of the main process; `with averaged():` the modules hold
      the averages.

    Raises VasaError for a `resume` that does not fit and without a limit, FloatingPointError when the loss stops being
    finite (the last checkpoint is from before).
    """
    check_limit(minutes, max_steps)
    began = time.monotonic()
    if mixed_precision == "auto": mixed_precision = fast_precision(device)
    # A Python process may train one model after another, on other devices and in other precisions: forget the last one.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    accelerator = Accelerator(cpu=torch.device(device).type == "cpu", mixed_precision=mixed_precision)
    if accelerator.num_processes > 1:
        atexit.unregister(_leave)
        atexit.register(_leave)
    device = accelerator.device if accelerator.num_processes > 1 else torch.device(device)
    for module in modules.values():
        module.to(device).train()
    named = _trainable(modules)
    params = list(named.values())
    sides = {side: [] for side in ("", *opponents)}
    for k, p in named.items():
        sides[module if (module := k.split("/")[0]) in opponents else ""].append(p)
    optimizer = torch.optim.AdamW(params, lr=0.0, betas=betas, weight_decay=weight_decay,
                                  fused=device.type in ("cpu", "cuda"))
    step, log = 0, []
    if resume is not None:
        step, log, averages = _load(resume, modules, named, optimizer)
    else:
        if accelerator.num_processes > 1:
            for tensor in (t for m in modules.values() for t in m.state_dict().values()):
                tensor.copy_(broadcast(tensor))
        averages = [p.detach().clone() for p in params]
    spent, saved_at, pending = log[-1]["seconds"] if log else 0.0, began, []

    def flush():
        """Read the pending losses in one go, check and log them."""
        for entry in pending:
            entry.update({k: float(v) for k, v in entry.items()})
            if not math.isfinite(entry["loss"]):
                raise FloatingPointError(f"{name}: the loss became {entry['loss']} at step {entry['step']}")
        log.extend({**e, "step": int(e["step"])} for e in pending)
        pending.clear()

    def save():
        if out is not None and accelerator.is_main_process:
            _save(Path(out) / CHECKPOINT, modules, named, averages, optimizer, step, log, seed, name)

    @contextmanager
    def averaged():
        raw = [p.detach().clone() for p in params]
        with torch.no_grad():
            torch._foreach_copy_(params, averages)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(params, raw)

    bar = tqdm(total=max_steps, initial=step, desc=name, unit="step", disable=quiet or not accelerator.is_main_process)
    cuda = [device] if device.type == "cuda" else []
    with bar, torch.random.fork_rng(devices=cuda):
        first = step
        while not _stop(accelerator, device, step, first, max_steps, began, minutes):
            generator = step_generator(seed, step, accelerator.process_index)
            torch.manual_seed(generator.initial_seed() % 2**63)   # dropout layers draw from the global generator
            rate = lr(step) if callable(lr) else lr
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / max(1, warmup))
            with accelerator.autocast():
                loss, parts = loss_fn(step, generator)
            accelerator.backward(loss)
            if accelerator.num_processes > 1:
                for p in params:
                    if p.grad is not None:
                        p.grad = accelerator.reduce(p.grad, "mean")
            norms = {f"grad_norm_{side}".rstrip("_"): accelerator.clip_grad_norm_(own, grad_clip or math.inf)
                     for side, own in sides.items() if any(p.grad is not None for p in own)}
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            decay = min(ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                get_ema_multi_avg_fn(decay)(averages, params, None)
            now = time.monotonic()
            parts = {k: v.detach() if torch.is_tensor(v) else v for k, v in parts.items()}
            pending.append({"step": step, "seconds": spent + now - began, **parts, "loss": loss.detach(), **norms})
            step += 1
            bar.update()
            if step % FLUSH_EVERY == 0:
                flush()
                bar.set_postfix(loss=f"{np.mean([e['loss'] for e in log[-FLUSH_EVERY:]]):.4f}", refresh=False)
                if watch is not None and accelerator.is_main_process:
                    watch(step, log, averaged)
            if now - saved_at > save_every:
                flush()
                save()
                saved_at = time.monotonic()
    flush()
    save()
    with torch.no_grad():
        for p, average in zip(params, averages):
            p.copy_(average)
    for module in modules.values():
        module.eval()
    return log


def _trainable(modules):
    """{"module/parameter": tensor} of what requires a gradient; a parameter that two modules share is named once."""
    named, seen = {}, set()
    for key, module in modules.items():
        for name, p in module.named_parameters():
            if p.requires_grad and id(p) not in seen:
                seen.add(id(p))
                named[f"{key}/{name}"] = p
    return named


def _leave():
    """Several processes part in order at their end: one that simply exits may be aborted by threads that still wait."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _stop(accelerator, device, step, first, max_steps, began, minutes):
    """Is it time? One step is always made. All processes must answer alike, or one would wait for the others for ever."""
    late = minutes is not None and step > first and time.monotonic() - began >= 60 * minutes
    if accelerator.num_processes > 1:
        late = bool(broadcast(torch.tensor(float(late), device=device)))
    return late or (max_steps is not None and step >= max_steps)


def _save(path, modules, named, averages, optimizer, step, log, seed, name):
    tensors = {f"raw/{key}/{k}": v for key, m in modules.items() for k, v in m.state_dict().items()}
    tensors |= {f"average/{k}": v for k, v in zip(named, averages)}
    for k, p in named.items():
        tensors |= {f"adam/{k}/{field}": v for field, v in optimizer.state.get(p, {}).items()}
    keys = sorted({k for entry in log for k in entry})   # an absent figure is NaN in the file, absent again when read
    tensors |= {f"log/{k}": torch.tensor([e.get(k, math.nan) for e in log], dtype=torch.float64) for k in keys}
    save_tensors(path, tensors, {"step": step, "seed": seed, "name": name})


def _load(resume, modules, named, optimizer):
    """Put a checkpoint into modules and optimizer; returns step, log, averages."""
    path = Path(resume) / CHECKPOINT if Path(resume).is_dir() else Path(resume)
    if not path.is_file():
        raise VasaError(f"cannot resume: no checkpoint at {path}, expected a folder that training wrote")
    try:
        tensors, metadata = read_tensors(path)
    except VasaError as error:
        raise VasaError(f"cannot resume: {error}") from error
    if "step" not in metadata:
        raise VasaError(f"cannot resume: {path} is no checkpoint of this package")
    step = metadata["step"]
    part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    for key, module in modules.items():
        load_into(module, part(f"raw/{key}/"), path)
    averages = part("average/")
    if averages.keys() != named.keys():
        raise VasaError(f"cannot resume: {path} trained other parameters than are trained here")
    for k, p in named.items():
        if state := part(f"adam/{k}/"):   # Adam's count of steps stays on the CPU unless fused on an accelerator
            # Fused Adam walks through memory: the moments need the parameter's own layout (channels last, for one).
            optimizer.state[p] = {field: torch.empty_like(p).copy_(v) if v.shape == p.shape else v.to(p.device)
                                  for field, v in state.items()}
    columns = {k: v.tolist() for k, v in part("log/").items()}
    rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
    log = [{k: int(v) if k == "step" else v for k, v in row.items() if not math.isnan(v)} for row in rows]
    return step, log, [averages[k].to(p.device) for k, p in named.items()]
