"""Run notebooks top to bottom, each in a fresh kernel, and save their outputs.

    python tools/run_notebooks.py [NOTEBOOK ...] [--skip-flags slow gpu] [--check]

Without names, all of `nbs/` in order. Cells with a directive such as `#| slow` are skipped when their flag is named by
--skip-flags, and keep the outputs that they had; `#| eval: false` is always skipped. --check saves nothing. The seconds
of each notebook are printed; exit code 1 if one failed (its outputs are not saved). What code each output comes from is
kept in the notebook's metadata (`outputs_of`); tools/check_notebooks.py compares it with the code that is there.
Figures are saved with 256 colours where that can hardly be seen, for a clone carries every one of them.
"""
import argparse
import base64
import hashlib
import io
import os
import re
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def directives(cell):
    """The directives at the head of a cell: "#| slow" and "#| eval: false" give {"slow", "eval: false"}."""
    return {line.strip() for line in re.findall(r"^#\|(.*)$", cell.source, re.MULTILINE)}


def fingerprint(cell):
    """Of a cell's code, directives and blank lines aside: an output with another one is older than its code."""
    code = re.sub(r"^#\|.*$", "", cell.source, flags=re.MULTILINE)
    return hashlib.sha256("\n".join(filter(None, map(str.rstrip, code.splitlines()))).encode()).hexdigest()[:10]


def outdated(notebook):
    """The ids of cells whose outputs come from other code than theirs."""
    made_by = notebook.metadata.get("outputs_of", {})
    return [cell["id"] for cell in notebook.cells
            if cell.cell_type == "code" and cell.outputs and made_by.get(cell["id"]) != fingerprint(cell)]


def few_colours(png, most=24):
    """A PNG in base64 with 256 colours, if that is smaller and leaves all but a few pixels within `most` of 255 levels;
    else as it was."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    few = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    off = np.abs(np.int16(few.convert("RGB")) - np.int16(picture)).max(-1)
    few.save(file := io.BytesIO(), "PNG", optimize=True)
    smaller = base64.b64encode(file.getvalue()).decode()
    return smaller if len(smaller) < len(png) and np.percentile(off, 99.5) <= most else png


def run(path, skip_flags, timeout=3600):
    """Run one notebook; returns it with new outputs."""
    notebook = nbformat.read(path, as_version=4)
    skipped = set(skip_flags) | {"eval: false"}
    chosen = [cell for cell in notebook.cells if not (cell.cell_type == "code" and directives(cell) & skipped)]
    partial = nbformat.from_dict({**notebook, "cells": chosen})
    folder = {"metadata": {"path": str(path.parent)}}
    NotebookClient(partial, timeout=timeout, kernel_name="python3", resources=folder).execute()
    done = {cell["id"]: cell for cell in partial.cells}
    notebook.cells = [done.get(cell["id"], cell) for cell in notebook.cells]
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)   # clock times would change with every run
        for output in cell.get("outputs", []) if cell["id"] in done else []:
            if png := output.get("data", {}).get("image/png"): output["data"]["image/png"] = few_colours(png)
    before = notebook.metadata.pop("outputs_of", {})
    made_by = {cell["id"]: fingerprint(cell) if cell["id"] in done else before.get(cell["id"])
               for cell in notebook.cells if cell.cell_type == "code" and cell.outputs}
    if made_by: notebook.metadata["outputs_of"] = {name: mark for name, mark in made_by.items() if mark}
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({**notebook.metadata, "kernelspec": kernel})
    notebook.metadata.pop("language_info", None)
    return notebook


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--skip-flags", nargs="*", default=[], metavar="FLAG")
    parser.add_argument("--check", action="store_true", help="run, and save nothing")
    args = parser.parse_args()
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT) + (os.pathsep + path if path else "")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")   # notebooks import torch before the package can say so
    failed = []
    all_of = [p for p in sorted((ROOT / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    for notebook in [p.resolve() for p in args.notebooks] or all_of:
        began = time.monotonic()
        try:
            result = run(notebook, args.skip_flags)
        except CellExecutionError as error:
            failed.append(notebook.name)
            print(f"{notebook.name}: failed after {time.monotonic() - began:.0f} s\n{error}", flush=True)
            continue
        if not args.check:
            nbformat.write(result, notebook)
        print(f"{notebook.name}: {time.monotonic() - began:.0f} s, {notebook.stat().st_size / 1024:.0f} KB", flush=True)
    if failed:
        print("failed: " + ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
