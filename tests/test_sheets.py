"""Figures of the notebooks: what is legible, what is named, and what is refused."""
import base64
import html
import io
import json
import re

import matplotlib
import pytest
import soundfile
import torch
from PIL import Image

from vasa_ref.sheets import amplified, panels, sheet, slider, table


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def opened(jpeg):
    return Image.open(io.BytesIO(jpeg.data))


@pytest.fixture
def drawing():
    with matplotlib.rc_context():
        import matplotlib.pyplot as plt
        plt.switch_backend("agg")
        yield plt
        plt.close("all")


def test_panels_are_named_legible_and_as_wide_as_the_column(drawing):
    axes = panels(["a", "b", "c"], "seconds", ["degrees", "mm", "%"], columns=2)
    figure = axes[0].figure
    assert [a.get_title() for a in axes] == ["a", "b", "c"] and [a.get_ylabel() for a in axes] == ["degrees", "mm", "%"]
    assert {a.get_xlabel() for a in axes} == {"seconds"} and len(figure.axes) == 3
    assert figure.get_size_inches()[0] * figure.dpi == pytest.approx(720)
    assert figure.get_size_inches()[1] == pytest.approx(5.2)
    figure.canvas.draw()
    texts = [text for a in axes for text in (a.title, a.xaxis.label, *a.get_xticklabels())]
    assert min(text.get_fontsize() for text in texts) >= 9
    assert panels("one", "s", "m").get_title() == "one"
    assert [a.get_ylabel() for a in panels(list("abc"), "s", "m", columns=2, sharey=True)] == ["m", "", "m"]


@pytest.mark.parametrize("wrong",
                         [("", "s", "m"), ("a", "", "m"), ("a", "s", ""), (["a", "b"], "s", ["m"]), ([], "s", "m"),
                          (["a", ""], "s", "m")])
def test_a_panel_without_a_name_is_refused(drawing, wrong):
    with pytest.raises(ValueError, match="each panel has a title"):
        panels(*wrong)


def test_a_table_rounds_numbers_and_nothing_else():
    assert table(["a", "b"],
                 [[1.23456, 12345], [None, "x"]]).data == "| a | b |\n| --- | --- |\n| 1.23 | 12345 |\n| None | x |"


def test_a_difference_is_amplified_about_grey():
    truth = torch.full((1, 3, 2, 2), 0.5)
    images = truth + torch.tensor([[0.02, -0.02], [0.4, 0.0]])
    expected = torch.tensor([[0.54, 0.46], [1.0, 0.5]]).expand(1, 3, 2, 2)
    torch.testing.assert_close(amplified(images, truth), expected)


def test_a_sheet_is_one_jpeg_of_the_right_size():
    images = rand(5, 3, 40, 30)
    plain = opened(sheet(images, columns=3))
    assert plain.size == (3 * 34 - 4, 2 * 44 - 4) and plain.format == "JPEG"
    labelled = opened(sheet(images, "abcde", ["one", "two"], columns=3))
    assert labelled.size[0] > plain.size[0] and labelled.size[1] == plain.size[1] + 2 * 20
    with pytest.raises(ValueError, match="2 titles"):
        sheet(images, ["a", "b"], columns=3)


def test_a_wide_sheet_is_made_smaller_and_its_text_larger():
    wide = opened(sheet(rand(8, 3, 256, 256)))
    assert 1400 <= wide.width <= 1440 and wide.height == 176
    narrow, titled = (opened(sheet(rand(n, 3, 176, 176), "12345678"[:n])) for n in (2, 8))
    assert narrow.height == 176 + 20 and titled.height == 176 + 28 + 6


def test_frames_and_images_make_the_same_sheet():
    frames = (rand(2, 16, 16, 3) * 255).round().byte()
    assert sheet(frames).data == sheet(frames.permute(0, 3, 1, 2) / 255).data


def embedded(page, kind="image/webp"):
    return [base64.b64decode(data) for data in re.findall(kind + r";base64,([^\"]+)", page)]


def test_a_slider_holds_its_frames_and_labels():
    page = slider(rand(3, 3, 16, 16), ['a "b"', "2", 3], "age").data
    frames = embedded(page)
    assert len(frames) == 3 and all(Image.open(io.BytesIO(f)).size == (16, 16) for f in frames)
    assert page.count('max="2"') == 1 and page.count("display:none") == 2
    labels = re.search(r'data-labels="([^"]*)"', page)[1]
    assert json.loads(html.unescape(labels)) == [['a "b"', "2", "3"]]
    assert re.findall(r'alt="([^"]*)"', page) == ["age: a &quot;b&quot;", "age: 2", "age: 3"]


def test_two_sliders_have_a_picture_for_each_pair():
    colours = torch.arange(6)[:, None, None, None].expand(6, 3, 8, 8) / 6
    page = slider(colours, [["left", "right"], [1, 2, 3]], ["gaze", "strength"], quality=100).data
    assert page.count('type="range"') == 2 and 'max="1"' in page and 'max="2"' in page
    assert re.findall(r'alt="([^"]*)"', page)[3] == "gaze: right, strength: 1"
    grey = [Image.open(io.BytesIO(f)).getpixel((4, 4))[0] for f in embedded(page)]
    assert grey == sorted(grey) and len(set(grey)) == 6


def test_a_slider_with_sound_holds_it_without_loss():
    sound = 0.5 * torch.sin(torch.arange(6400) / 9)
    page = slider(rand(10, 3, 8, 8), range(10), "frame", sound=sound).data
    samples, rate = soundfile.read(io.BytesIO(embedded(page, "audio/flac")[0]))
    assert rate == 16_000 and 'data-rate="25"' in page
    torch.testing.assert_close(torch.from_numpy(samples).float(), sound, atol=1 / 2 ** 15, rtol=0)


def test_a_slider_shows_figures_and_closes_them(drawing):
    figures = []
    for level in range(2):
        panels("a", "s", "m").axhline(level)
        figures.append(drawing.gcf())
    page = slider(figures, ["one", "two"], "level").data
    assert [Image.open(io.BytesIO(f)).size for f in embedded(page)] == [(720, 260)] * 2
    assert drawing.get_fignums() == []


@pytest.mark.parametrize("labels, name, options", [
    (["a", "b"], "age", {}), ([["a"], ["b", "c"]], ["x", "y"], {}), ([["a", "b", "c"]], ["x", "y"], {}),
    ([["a", "b", "c"], ["d"]], ["x", "y"], {"sound": torch.zeros(9)})])
def test_a_slider_without_a_label_for_each_picture_is_refused(labels, name, options):
    with pytest.raises(ValueError, match="pictures for|a sound goes"): slider(rand(3, 3, 8, 8), labels, name, **options)
