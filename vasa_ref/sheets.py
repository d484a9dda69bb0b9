"""Figures for a notebook's page: plots that are legible at its width, tables, labelled sheets of pictures, differences
that are large enough to be seen, and frames behind a slider that needs no kernel.
"""
import base64
import html
import io
import itertools
import json
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .media.files import as_jpeg
from .units import FPS, SAMPLE_RATE

__all__ = ["amplified", "drawn", "legible", "panels", "sheet", "slider", "table"]

WIDTH, DPI = 7.2, 100                      # inches, dots per inch: a figure is as wide as the site's column, 720 px
LEGIBLE = {"figure.dpi": DPI, "figure.figsize": (WIDTH, 2.6), "figure.constrained_layout.use": True, "font.size": 10,
           "axes.titlesize": 11, "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 9,
           "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.6}


def legible() -> None:
    "Makes matplotlib's figures as wide as the site's column, with text of 9 points and more, from here on."
    import matplotlib.pyplot as plt
    plt.rcParams.update(LEGIBLE)


def panels(titles: str | Sequence[str], x: str | Sequence[str], y: str | Sequence[str], height: float = 2.6,
           columns: int = 0, **options) -> "matplotlib.axes.Axes | list[matplotlib.axes.Axes]":  # noqa: F821
    """Axes side by side in one `legible` figure as wide as the site's column, one for each title; for one text, the
    axes.

    x, y: what the axes show, with the unit: one text for all, or one for each. height: inches of a row; columns: in a
    row (0: all); options of `plt.subplots`. ValueError where a title or a label is missing."""
    import matplotlib.pyplot as plt
    legible()
    names = [titles] if isinstance(titles, str) else list(titles)
    x, y = ([text] * len(names) if isinstance(text, str) else list(text) for text in (x, y))
    if not names or not len(names) == len(x) == len(y) or not all([*names, *x, *y]):
        raise ValueError(f"{len(names)} titles, {len(x)} and {len(y)} labels: each panel has a title, and both axes "
                         "say what they show")
    columns = columns or len(names)
    rows = -(-len(names) // columns)
    _, grid = plt.subplots(rows, columns, figsize=(WIDTH, rows * height), squeeze=False, **options)
    for axes, title, across, up in zip(grid.flat, names, x, y): axes.set(title=title, xlabel=across, ylabel=up)
    for axes in grid.flat[len(names):]: axes.remove()
    for axes in grid[:, 1:].flat if options.get("sharey") in (True, "all", "row") else (): axes.set_ylabel("")
    return grid[0, 0] if isinstance(titles, str) else list(grid.flat[:len(names)])


def table(header: Sequence, rows: Sequence[Sequence]) -> "IPython.display.Markdown":  # noqa: F821
    "A table for a notebook's page; a float is shown with three digits."
    from IPython.display import Markdown
    text = lambda value: f"{value:.3g}" if isinstance(value, float) else str(value)
    lines = [header, ["---"] * len(header), *rows]
    return Markdown("\n".join("| " + " | ".join(map(text, line)) + " |" for line in lines))


def amplified(images: Tensor, truth: Tensor, times: float = 4.0) -> Tensor:
    """Differences (N, 3, H, W) of images in [0, 1], so many times as large, about mid grey: lighter is where `images`
    is."""
    return (0.5 + times * (images - truth) / 2).clamp(0, 1)


def as_pictures(images: Tensor | Sequence) -> list:
    """Images (N, 3, H, W) in [0, 1], or frames uint8 (N, H, W, 3), or matplotlib's figures, as PIL pictures; figures
    are closed."""
    from PIL import Image
    if not isinstance(images, Tensor): return [drawn(figure) for figure in images]
    values = images.detach().cpu()
    if values.dtype != torch.uint8: values = (values.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
    return [Image.fromarray(value.numpy()) for value in values]


def drawn(figure: "matplotlib.figure.Figure") -> "PIL.Image.Image":  # noqa: F821
    "A matplotlib figure as a PIL picture."
    import matplotlib.pyplot as plt
    from PIL import Image
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=figure.dpi)
    plt.close(figure)
    return Image.open(stream).convert("RGB")


def sheet(images: Tensor, titles: Sequence[str] = (), rows: Sequence[str] = (), columns: int = 0, text: int = 14,
          quality: int = 72) -> "IPython.display.Image":  # noqa: F821
    """Images (N, 3, H, W) in [0, 1], or frames uint8 (N, H, W, 3), as one JPEG: rows of `columns` (0: all in one row),
    white between. Pictures are made smaller where the sheet would be more than twice as wide as the site's column.

    titles: one for each column, or one above each image; rows: one left of each row; else ValueError. text: its height
    in pixels of the site's column."""
    from PIL import Image, ImageDraw, ImageFont
    pictures, columns = as_pictures(images), columns or len(images)
    lines = -(-len(pictures) // columns)
    if len(titles) not in (0, columns, len(pictures)) or len(rows) not in (0, lines):
        raise ValueError(f"{len(titles)} titles and {len(rows)} row labels for {lines} rows of {columns}")
    (width, height), gap, site = pictures[0].size, 4, round(WIDTH * DPI)
    if width > (most := 2 * site // columns - gap):
        width, height = most, round(height * most / width)
        pictures = [picture.resize((width, height)) for picture in pictures]
    text = round(text * max(1, columns * (width + gap) / site))
    font = ImageFont.load_default(text)
    high = text + 6 + round(1.3 * text) * max([title.count("\n") for title in titles], default=0)
    above = [high if len(titles) == len(pictures) or (titles and line == 0) else 0 for line in range(lines)]
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
            pen.multiline_text((x + width / 2, y - 2), title, "black", font, "md", align="center")
        y += height + gap
    return as_jpeg(page, quality)


# What the browser does when a slider moves: the labels beside the sliders, the picture, and, while it is not playing,
# the place in the sound. And while a sound plays: the slider follows it.
SHOW = """const box = this.closest('[data-labels]'), all = JSON.parse(box.dataset.labels);
const sound = box.querySelector('audio'); let at = 0;
box.querySelectorAll('input').forEach((bar, i) => {
  at = at * all[i].length + +bar.value; box.querySelectorAll('output')[i].textContent = all[i][bar.value];
});
box.querySelectorAll('img').forEach((one, i) => one.style.display = i == at ? 'block' : 'none');
if (sound && sound.paused) sound.currentTime = this.value / box.dataset.rate"""
FOLLOW = """const box = this.closest('[data-labels]'), bar = box.querySelector('input'), step = () => {
  bar.value = Math.floor(this.currentTime * box.dataset.rate); bar.dispatchEvent(new Event('input'));
  if (!this.paused) requestAnimationFrame(step);
}; step()"""


def slider(images: Tensor | Sequence, labels: Sequence, name: str | Sequence[str], quality: int = 70,
           sound: Tensor | None = None) -> "IPython.display.HTML":  # noqa: F821
    """Pictures behind sliders that need no kernel: images or frames as for `sheet`, or matplotlib's figures.

    One slider: its `name`, and `labels`, what stands beside it at each step. Several: a name and a list of labels for
    each, and the pictures of all combinations, the last slider's steps next to each other. sound: (N,) at 16 kHz,
    played with the pictures, 25 a second. ValueError where numbers of labels and pictures differ."""
    from IPython.display import HTML
    names, labels = ([name], [labels]) if isinstance(name, str) else (list(name), list(labels))
    labels = [list(map(str, steps)) for steps in labels]
    pictures = as_pictures(images)
    if len(names) != len(labels) or math.prod(map(len, labels)) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures for {len(names)} sliders of {list(map(len, labels))} steps")
    if sound is not None and len(names) > 1: raise ValueError("a sound goes with one slider, its pictures in time")
    quoted = lambda text: html.escape(text, quote=True)
    shown = []
    for i, (picture, steps) in enumerate(zip(pictures, itertools.product(*labels))):
        stream, what = io.BytesIO(), ", ".join(f"{one}: {step}" for one, step in zip(names, steps))
        picture.save(stream, "webp", quality=quality, method=6)
        data = base64.b64encode(stream.getvalue()).decode()
        shown.append(f'<img src="data:image/webp;base64,{data}" alt="{quoted(what)}" '
                     f'style="display:{"none" if i else "block"}">')
    bars = [f'<div><label>{quoted(one)} <input type="range" min="0" max="{len(steps) - 1}" value="0" '
            f'oninput="{quoted(SHOW)}"></label> <output>{quoted(steps[0])}</output></div>'
            for one, steps in zip(names, labels)]
    if sound is not None:
        import soundfile
        stream = io.BytesIO()
        soundfile.write(stream, sound.numpy(), SAMPLE_RATE, "PCM_16", format="FLAC")
        data = base64.b64encode(stream.getvalue()).decode()
        bars.append(f'<audio controls src="data:audio/flac;base64,{data}" onplay="{quoted(FOLLOW)}"></audio>')
    return HTML(f'<div data-labels="{quoted(json.dumps(labels))}" data-rate="{FPS}">{"".join([*shown, *bars])}</div>')
