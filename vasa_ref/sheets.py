"""Pictures for a notebook's page: labelled sheets, and frames behind a slider that needs no kernel."""
import base64
import io
import json
from collections.abc import Sequence

from torch import Tensor

from .media.files import as_jpeg

__all__ = ["sheet", "slider"]


def as_pictures(images: Tensor) -> list:
    "Images (N, 3, H, W) in [0, 1] as PIL pictures."
    from PIL import Image
    values = (images.detach().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
    return [Image.fromarray(value.numpy()) for value in values]


def sheet(images: Tensor, titles: Sequence[str] = (), rows: Sequence[str] = (), columns: int = 0, text: int = 14,
          quality: int = 72):
    """Images (N, 3, H, W) in [0, 1] as one JPEG: rows of `columns` (0: all in one row), white between.

    titles: one for each column, or one above each image; rows: one left of each row; else ValueError."""
    from PIL import Image, ImageDraw, ImageFont
    pictures, columns = as_pictures(images), columns or len(images)
    lines = -(-len(pictures) // columns)
    if len(titles) not in (0, columns, len(pictures)) or len(rows) not in (0, lines):
        raise ValueError(f"{len(titles)} titles and {len(rows)} row labels for {lines} rows of {columns}")
    font, (width, height), gap = ImageFont.load_default(text), pictures[0].size, 4
    above = [text + 6 if len(titles) == len(pictures) or (titles and line == 0) else 0 for line in range(lines)]
    left = int(max([font.getlength(part) for row in rows for part in row.split("\n")], default=-10)) + 10
    page = Image.new("RGB", (left + columns * (width + gap) - gap, sum(above) + lines * (height + gap) - gap), "white")
    pen, y = ImageDraw.Draw(page), 0
    for line in range(lines):
        y += above[line]
        if rows: pen.multiline_text((left - 8, y + height / 2), rows[line], "black", font, "rm", align="right")
        for column, picture in enumerate(pictures[line * columns:(line + 1) * columns]):
            x, i = left + column * (width + gap), line * columns + column
            page.paste(picture, (x, y))
            title = titles[i if len(titles) > columns else column] if above[line] else ""
            pen.text((x + width / 2, y - 6), title, "black", font, "ms")
        y += height + gap
    return as_jpeg(page, quality)


def slider(images: Tensor, labels: Sequence[str], name: str, quality: int = 70):
    "Images (N, 3, H, W) in [0, 1] behind a slider that needs no kernel; labels: what stands beside it at each step."
    from IPython.display import HTML
    encoded = []
    for picture in as_pictures(images):
        stream = io.BytesIO()
        picture.save(stream, "webp", quality=quality)
        encoded.append("data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode())
    show = ("const box = this.parentElement.parentElement;"
            "box.querySelector('output').textContent = JSON.parse(box.dataset.labels)[this.value];"
            "box.querySelectorAll('img').forEach((one, i) => one.style.display = i == this.value ? 'block' : 'none')")
    shown = "".join(f'<img src="{data}" alt="{name}: {label}" style="display:{"none" if i else "block"}">'
                    for i, (data, label) in enumerate(zip(encoded, labels)))
    bar = f'<input type="range" min="0" max="{len(encoded) - 1}" value="0" oninput="{show}">'
    data = json.dumps(list(labels)).replace('"', "&quot;")
    return HTML(f'<div data-labels="{data}">{shown}<label>{name} {bar}</label> <output>{labels[0]}</output></div>')
