"""Pictures to test on: read out of their packages rightly, with their licence; and a portrait drawn by code."""
import io
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vasa_ref.errors import VasaError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import pictures
from pictures import PICTURES, Packages, Picture, drawn, fetch, flat, jigsaw, resource, resources


def packed(files, version=1):
    """Binary resources of Qt, as `rcc --binary` writes them: {(folder, file): (content, whether it is compressed)}."""
    tree, names, data = [], b"", b""

    def name(text):
        nonlocal names
        names, at = names + struct.pack(">HI", len(text), 0) + text.encode("utf-16-be"), len(names)
        return at

    folders = sorted({folder for folder, _ in files})
    tree.append((0, 2, len(folders), 1))
    first = 1 + len(folders)
    for folder in folders:
        count = sum(folder == there for there, _ in files)
        tree.append((name(folder), 2, count, first))
        first += count
    for (_, file), (content, small) in sorted(files.items()):
        body = struct.pack(">I", len(content)) + zlib.compress(content) if small else content
        tree.append((name(file), int(small), 0, len(data)))
        data += struct.pack(">I", len(body)) + body
    rows = b"".join(struct.pack(">IHII", *row) + b"\0" * (0 if version == 1 else 8) for row in tree)
    return struct.pack(">4s4I", b"qres", version, 20, 20 + len(rows) + len(names), 20 + len(rows)) + rows + names + data


@pytest.mark.parametrize("version", [1, 3])
def test_resources_of_qt_are_unpacked(version):
    files = {("a", "one.txt"): (b"plain", False), ("a", "two.txt"): (b"small" * 99, True),
             ("bé", "three.txt"): (b"", False)}
    assert dict(resources(packed(files, version))) == {f"/{a}/{b}": content for (a, b), (content, _) in files.items()}
    with pytest.raises(VasaError, match="no binary resources"): list(resources(b"PK\3\4" + b"\0" * 40))


class Given(Packages):
    """Packages that hold one file, whatever is asked for."""
    def __init__(self, content): self.content = content
    def read(self, package, name): return self.content


def encoded(image):
    image.save(buffer := io.BytesIO(), "WEBP", lossless=True)
    return buffer.getvalue()


def test_a_jigsaw_is_put_together():
    true = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    boxes, pieces, lines = [(0, 0, 50, 60), (50, 0, 80, 25), (50, 25, 80, 60)], {}, []
    for i, box in enumerate(boxes):
        pieces["image", f"p{i}.webp"] = encoded(true.crop(box)), False
        x, y = (10 + (box[0] + box[2]) / 2) / 100, (5 + (box[1] + box[3]) / 2) / 70
        lines.append(f'"pixmapfile" : "image/p{i}.webp",\n "x" : "{x:.4f}",\n "y" : "{y:.4f}"')
    board = 'qsTr("Somebody, A face")  "width": 100, "height": 70, ' + ", ".join(lines)
    files = pieces | {("board", "b1.qml"): (board.encode(), True), ("board", "b2.qml"): (b'qsTr("Other")', False),
                      ("image", "README"): (b"", False)}
    whole = jigsaw("A face")(Given(packed(files)))
    assert whole.size == true.size and (np.array(whole) == np.array(true)).all()


def test_one_picture_of_many_and_what_is_cut_out_lies_on_grey():
    image = Image.fromarray(np.full((4, 6, 4), (250, 10, 10, 0), np.uint8))
    image.putpixel((0, 0), (250, 10, 10, 255))
    files = {("i", "a.webp"): (b"no", False), ("i", "b.webp"): (encoded(image), True)}
    found = resource("x.rcc", "b.webp")(Given(packed(files)))
    assert flat(found).getpixel((0, 0)) == (250, 10, 10) and flat(found).getpixel((3, 3)) == pictures.GREY
    assert flat(Image.new("L", (2, 2), 7)).getpixel((1, 1)) == (7, 7, 7)


def test_pictures_are_fetched_once_with_their_sources(tmp_path, monkeypatch):
    asked = []

    def get(packages):
        asked.append(packages.folder)
        return Image.new("RGB", (5, 4), "red")

    monkeypatch.setitem(PICTURES, "red", Picture("painting", "red", "nowhere", "CC0", get))
    for _ in range(2): paths = fetch(tmp_path / "new", ["red"])
    assert asked == [tmp_path / "new" / "packages"] and Image.open(paths["red"]).size == (5, 4)
    assert json.loads((tmp_path / "new" / "sources.json").read_text()) == {
        "red": {"kind": "painting", "shows": "red", "package": "nowhere", "licence": "CC0"}}
    with pytest.raises(VasaError, match="no picture 'blue': choose from astronaut"): fetch(tmp_path, ["blue"])
    with pytest.raises(SystemExit, match="--crop takes one NAME"):
        pictures.main([str(tmp_path), "red", "drawing", "--crop", "a.jpg"])


def test_where_a_package_cannot_be_had_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures.shutil, "which", lambda name: None)
    with pytest.raises(VasaError, match="gcompris-qt-data is a package of Debian.*put its .deb into") as error:
        fetch(tmp_path, ["mona_lisa"])
    assert "\n" not in str(error.value) and not (tmp_path / "mona_lisa.png").exists()


def test_every_picture_states_a_free_licence():
    assert {picture.licence for picture in PICTURES.values()} <= {"public domain", "GPL-2+", "GPL-3+", "Apache-2.0"}
    assert {picture.kind for picture in PICTURES.values()} >= {"photograph", "painting", "print", "drawing"}


def test_the_drawing_is_flat_colours_and_lines_of_any_size():
    image = np.array(drawn())
    colours, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    assert image.shape == (512, 512, 3) and np.sort(counts)[-9:].sum() > 0.88 * 512 ** 2     # nine colours are most
    assert (image == np.array(drawn())).all()
    small = np.array(drawn(size=128)).astype(int)
    assert np.abs(small - np.array(Image.fromarray(image).resize((128, 128), Image.Resampling.BOX))).mean() < 6


def test_the_committed_painting_is_small_and_says_where_it_is_from():
    with Image.open(path := ROOT / "nbs" / "painting.jpg") as image:
        said = json.loads(image.info["comment"])
        assert image.size == (256, 256)
    assert path.stat().st_size < 60_000 and len(said["pose"]) == 6 and said["pose"][2:] == [0, 0, 0, 1]
    assert "van Gogh" in said["source"] and said["source"].endswith("public domain")


# --- with mediapipe

def test_a_drawing_is_placed_like_any_portrait():
    pytest.importorskip("mediapipe")
    from vasa_ref.talking.photograph import Photograph
    photo = Photograph.open(drawn())
    assert not photo.notes and photo.pose[:2].abs().max() < 0.2
    assert photo.place.shift.tolist() == pytest.approx([256, 240], abs=40)


def test_a_crop_is_what_animate_would_take(tmp_path):
    pytest.importorskip("mediapipe")
    drawn().save(tmp_path / "d.png")
    pictures.crop(tmp_path / "d.png", tmp_path / "d.jpg", "mine", size=64)
    with Image.open(tmp_path / "d.jpg") as image: said, size = json.loads(image.info["comment"]), image.size
    assert size == (64, 64) and said["source"] == "mine" and said["pose"][2:] == [0, 0, 0, 1]
