"""float32 inside, whatever the caller's session has made torch's default."""
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["each_in_float32", "float32"]

_lock, _defaults = threading.Lock(), []   # of each block that is open, the first is the session's


@contextmanager
def float32():
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
