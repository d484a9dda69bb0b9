"""float32 inside, whatever the caller's session has made torch's default; and which precision is fast where."""
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["each_in_float32", "fast_precision", "float32"]

_lock, _defaults = threading.Lock(), []   # of each block that is open, the first is the session's


@contextmanager
def float32() -> Iterator[None]:
    """Inside, and in what it decorates, torch makes float32 numbers. The session's own default, which all threads
    share, comes back when the last of the blocks is left."""
    with _lock:
        _defaults.append(torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _lock:
            before = _defaults.pop()
            if not _defaults:
                torch.set_default_dtype(before)


def each_in_float32(items: Iterable) -> Iterator:
    """The same items, each made inside `float32`; between them the session has its own default."""
    items, end = iter(items), object()
    while True:
        with float32():
            item = next(items, end)
        if item is end:
            return
        yield item


def fast_precision(device: str | torch.device) -> str:
    """The precision that is fast on a device: "bf16" on accelerators and with AMX or AVX-512 BF16, else "no".

    Other processors emulate bfloat16: a step of the face model took nine times as long on one with AVX2."""
    if torch.device(device).type != "cpu":
        return "bf16"
    able = getattr(torch.cpu, "get_capabilities", dict)()   # torch before 2.10 cannot tell
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "no"
