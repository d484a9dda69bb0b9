"""Pieces of a panel in a notebook: widgets with names that are not cut, pictures to choose from, sentences for the
browser, and work that waits its turn."""
import asyncio
import html
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import torch
import traitlets
from PIL import Image
from torch import Tensor

from .errors import VasaError
from .media.files import kind_of
from .sheets import as_pictures

__all__ = ["DropZone", "Dropped", "Gallery", "as_png", "choice", "columns", "files", "folded", "headed", "one_thread",
           "press", "sentences", "slide", "soon", "spoken", "ticked", "typed", "ways", "whole"]

WARNING = "#b3261e"


def named(text: str, **style) -> dict:
    "What all have in common: a name that is not cut, and all the width."
    return dict(description=text, style={"description_width": "150px", **style}, layout={"width": "98%"})


def choice(options: list[str] | list[tuple[str, str]], value: str, text: str) -> widgets.Dropdown:
    return widgets.Dropdown(options=options, value=value, **named(text))


def ways(options: dict[str, str], value: str, text: str) -> widgets.ToggleButtons:
    "Buttons side by side, one of which is pressed; options: label to value."
    return widgets.ToggleButtons(options=list(options.items()), value=value, **named(text, button_width="auto"))


def typed(value: str, text: str) -> widgets.Text:
    return widgets.Text(value=value, continuous_update=False, **named(text))


def spoken(value: str, text: str) -> widgets.Textarea:
    return widgets.Textarea(value=value, continuous_update=False, **named(text))


def press(text: str, work: Callable[[widgets.Button], Any], **look) -> widgets.Button:
    "A button as wide as its text; work(button) when it is pressed."
    button = widgets.Button(description=text, layout={"width": "auto"}, **look)
    button.on_click(work)
    return button


def ticked(value: bool, text: str) -> widgets.Checkbox: return widgets.Checkbox(value=value, **named(text))


def whole(value: int, low: int, high: int, text: str) -> widgets.BoundedIntText:
    return widgets.BoundedIntText(value=value, min=low, max=high, **named(text))


def slide(value: float, low: float, high: float, step: float, text: str, unit: str = "") -> widgets.FloatSlider:
    "A slider that reports on its way; the browser keeps back what is out of date before the kernel can take it."
    text = f"{text}, {unit}" if unit else text
    return widgets.FloatSlider(value=value, min=low, max=high, step=step, **named(text))


class Dropped(widgets.Text):
    "The name of a file that was dropped, its `.placeholder`; the content, its `.value`, stays in the kernel."
    value = traitlets.Bytes()


def files(what: str, path: str, text: str, accept: str) -> dict:
    "Three ways to give a file, widgets by name: its path here, an upload, and what was dropped or recorded."
    return {f"{what}_path": typed(path, text), f"{what}_upload": widgets.FileUpload(accept=accept, description=text),
            f"{what}_drop": Dropped(placeholder="nothing yet", disabled=True, **named(text))}


class DropZone(anywidget.AnyWidget):
    """Takes pictures and sounds: dropped, chosen, or spoken into the microphone. `.said` is a sentence about the last.

    taken(kind, name, content) is called with each, kind "picture" or "sound", whatever its name; a file of neither kind
    becomes the sentence. `.files` are those on their way. The browser's half is dropzone.js."""
    _esm = Path(__file__).with_name("dropzone.js")
    _css = """.vasa-drop {border: 2px dashed #8888; border-radius: 6px; padding: 8px; margin: 2px; line-height: 1.5;
                          max-width: 44em}
              .vasa-over {border-color: #1976d2; background: #1976d222}
              .vasa-drop [role=status] {overflow-wrap: anywhere}"""
    files = traitlets.List().tag(sync=True, echo_update=False)
    said = traitlets.Unicode().tag(sync=True)

    def __init__(self, taken: Callable):
        super().__init__()
        self.taken = taken
        self.observe(self.came, names="files")

    def came(self, change: traitlets.Bunch) -> None:
        if not change["new"]: return
        self.said = " ".join(self.take(file["name"], bytes(file["content"])) for file in change["new"])
        self.files = []

    def take(self, name: str, content: bytes) -> str:
        try: kind = kind_of(content, name)
        except VasaError as error: return str(error)
        self.taken(kind, name, content)
        return f"Took {name} as the {'portrait' if kind == 'picture' else 'speech'}."


@contextmanager
def one_thread() -> Iterator[None]:
    "Inside, torch computes in one thread, which is as fast for one picture and leaves the other cores; then as before."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try: yield
    finally: torch.set_num_threads(before)


def soon(seconds: float, work: Callable, *given) -> asyncio.TimerHandle | None:
    "work(*given) after so many seconds, a handle to cancel it; None where no event loop runs: then it is done at once."
    try: return asyncio.get_running_loop().call_later(seconds, work, *given)
    except RuntimeError: loop = None
    work(*given)
    return loop


def headed(inputs: dict, heads: dict) -> list:
    "Widgets by name in a list, with headings before those named in `heads`."
    return [part for name, widget in inputs.items()
            for part in ([widgets.HTML(f"<b>{heads[name]}</b>")] if name in heads else []) + [widget]]


def columns(left: Iterable, right: Iterable) -> widgets.HBox:
    "Two columns side by side, or one below the other where there is no room."
    shape = ("1 1 26em", "44em"), ("1 1 20em", "34em")
    boxes = [widgets.VBox(list(what), layout={"flex": flex, "max_width": most})
             for what, (flex, most) in zip((left, right), shape)]
    return widgets.HBox(boxes, layout={"flex_flow": "row wrap"})


class Gallery:
    """Pictures to choose from, each with its number on a button: `.widget`; `show` draws others, one after the other.

    draw(number) gives an image (1, 3, H, W) in [0, 1]; chosen(number) is called when a button is pressed."""

    def __init__(self, draw: Callable[[int], Tensor], chosen: Callable[[int], Any], count: int = 4, width: int = 72):
        self.draw, self.dice = draw, torch.Generator().manual_seed(0)
        self.pictures = [widgets.Image(format="png", layout={"width": f"{width}px"}) for _ in range(count)]
        self.buttons = [press("", lambda button: button.description and chosen(int(button.description)))
                        for _ in range(count)]
        for button in self.buttons: button.layout.width = f"{width}px"
        self.widget = widgets.HBox([widgets.VBox(both) for both in zip(self.pictures, self.buttons)])

    def any(self) -> int: return int(torch.randint(1000, (1,), generator=self.dice))

    def show(self, button: widgets.Button | None = None) -> None:
        for place in range(len(self.buttons)): soon(place / 2, self.fill, place, self.any())

    def fill(self, place: int, number: int) -> None:
        with one_thread(): self.pictures[place].value = as_png(as_pictures(self.draw(number))[0])
        self.buttons[place].description = str(number)


def as_png(picture: Image.Image) -> bytes:
    "A PIL picture as PNG, packed lightly: a tenth of the time for a few more bytes."
    stream = io.BytesIO()
    picture.save(stream, "png", compress_level=1)
    return stream.getvalue()


def sentences(texts: Iterable[str], colour: str = "inherit") -> str:
    "Sentences as HTML that stays within its column; empty for none."
    parts = "<br>".join(html.escape(" ".join(text.split()), quote=False) for text in texts)
    style = f"max-width:30em;line-height:1.4;overflow-wrap:anywhere;color:{colour}"
    return f'<div style="{style}">{parts}</div>' if parts else ""


def folded(title: str, texts: Iterable[str]) -> str:
    "Texts such as code as HTML behind a title that opens them."
    style = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.3"
    texts = "".join(f'<pre style="{style}">{html.escape(text)}</pre>' for text in texts)
    return f"<details><summary>{html.escape(title)}</summary>{texts}</details>"
