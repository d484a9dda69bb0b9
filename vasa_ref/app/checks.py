"""Checks that several commands make before they work, and the file of figures that several write."""
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import VasaError

if TYPE_CHECKING:   # heavy, and loaded where a command needs it
    import torch

__all__ = ["check_device", "check_output", "write_json"]


def check_output(path: str | Path, *suffixes: str, inputs: Iterable[Path] = ()) -> Path:
    """`path` (~ is home) if it can become an output file: known ending, existing folder, not read-only, no input."""
    from ..store import output_target
    path = Path(os.path.expanduser(path))
    if path.suffix.lower() not in suffixes:
        raise VasaError(f"output {path} should end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise VasaError(f"output {path} is a folder: expected a file name")
    if not (folder := output_target(path).parent).is_dir():
        missing = folder if path.is_symlink() else path.parent
        raise VasaError(f"no folder {missing} for the output {path.name}: make it first")
    if not os.access(folder, os.W_OK):
        raise VasaError(f"no permission to write into {folder}")
    if path.exists() and any(path.samefile(other) for other in inputs):
        raise VasaError(f"output {path} is also an input: choose another name")
    return path


def check_device(name: str) -> "torch.device":
    """A torch device that works here."""
    import torch
    there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name not in there and not (name == "cuda" and "cuda:0" in there):
        raise VasaError(f"device {name!r} is not on this machine: accepted are {', '.join(there)}")
    return torch.device(name)


def write_json(path: str | Path, figures: dict) -> None:
    from ..store import atomic_path
    with atomic_path(path) as beside:
        beside.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
