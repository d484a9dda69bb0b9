"""The mark: read back after what people do to films, absent where there is none, and in every file that the talker
writes."""
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vasa_ref.app import cli
from vasa_ref.media.clips import read_frames, save_video
from vasa_ref.talking.talker import Talker
from vasa_ref.trust import watermark
from vasa_ref.trust.credentials import Made, inspect
from vasa_ref.trust.watermark import CHIPS, FALSE_ALARM, chips_of, decode, encode, mark_frames, read_mark, viterbi
from vasa_ref.world.people import person
from vasa_ref.world.picture import portraits

torch.set_num_threads(1)
NUMBER = 0x5EED1234


@pytest.fixture(scope="module")
def film():
    """Nine frames of a person of the world, with a little noise, uint8 (9, 256, 256, 3)."""
    frame, generator = portraits(person(311), 256)[0].permute(1, 2, 0), torch.Generator().manual_seed(0)
    return torch.stack([((frame + 0.01 * torch.randn(frame.shape, generator=generator)).clamp(0, 1) * 255).byte()
                        for _ in range(9)])


@pytest.fixture(scope="module")
def marked(film):
    return torch.stack(list(mark_frames(film, NUMBER)))


def psnr(a, b):
    return -10 * torch.log10(((a.float() - b.float()) / 255).square().mean()).item()


def test_the_code_gives_back_what_went_in():
    for number in (0, 1, 2**32 - 1, NUMBER):
        assert decode(chips_of(number)[None]) == [number]
        assert viterbi(encode(number)[None] * 2.0 - 1).shape == (1, 56)


def test_the_code_repairs_a_quarter_of_wrong_chips():
    generator = torch.Generator().manual_seed(1)
    chips = torch.stack([chips_of(n) for n in range(50)])
    wrong = chips * torch.where(torch.rand(chips.shape, generator=generator) < 0.22, -1.0, 1.0)
    assert sum(a == b for a, b in zip(decode(wrong), range(50))) >= 49


def test_noise_is_no_mark():
    generator = torch.Generator().manual_seed(2)
    assert decode(torch.randn(5000, CHIPS, generator=generator)) == [None] * 5000
    assert decode(torch.zeros(1, CHIPS)) == decode(torch.ones(1, CHIPS)) == decode(-torch.ones(1, CHIPS)) == [None]
    assert FALSE_ALARM < 1e-6


def test_marked_frames_look_the_same_and_say_the_number(film, marked):
    assert marked.dtype == torch.uint8 and marked.shape == film.shape and psnr(film, marked) > 41.5
    assert read_mark(marked, every=1).number == NUMBER
    assert read_mark(film, every=1) is None


@pytest.mark.parametrize("size", [(64, 64), (180, 320), (512, 512), (17, 33), (720, 540)])
def test_frames_of_any_size(film, size):
    small = torch.nn.functional.interpolate(film.permute(0, 3, 1, 2).float(), size, mode="bilinear", antialias=True)
    frames = small.round().byte().permute(0, 2, 3, 1)
    out = torch.stack(list(mark_frames(frames.numpy(), NUMBER)))
    assert out.shape == frames.shape and psnr(frames, out) > 40
    if min(size) >= 64: assert read_mark(out, every=1).number == NUMBER


@pytest.mark.parametrize("crf", [23, 28, 35])
def test_it_survives_h264(marked, tmp_path, crf):
    path = save_video(tmp_path / "a.mp4", marked, torch.zeros(9 * 640), crf=crf)
    assert read_mark(read_frames(path), every=1).number == NUMBER


def test_it_survives_half_size_cuts_jpeg_and_gamma(marked):
    x = marked.permute(0, 3, 1, 2).float()
    back = lambda x: x.round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    half = torch.nn.functional.interpolate(x, (128, 128), mode="area")
    files = [io.BytesIO() for _ in marked]
    for frame, file in zip(marked, files): Image.fromarray(frame.numpy()).save(file, "jpeg", quality=50)
    jpegs = torch.stack([torch.from_numpy(np.array(Image.open(file))) for file in files])
    for name, film in {"half": back(half), "cut": marked[:, 13:243, 13:243], "corner": marked[:, 26:, :230],
                       "jpeg": jpegs, "gamma": back(255 * (x / 255) ** 1.3)}.items():
        found = read_mark(film, every=1)
        assert found and found.number == NUMBER, name


def test_unmarked_films_have_none(film):
    generator = torch.Generator().manual_seed(3)
    for other in (torch.zeros(3, 64, 64, 3).byte(), torch.full((2, 64, 64, 3), 255).byte(), film.flip(2),
                  torch.randint(0, 256, (4, 96, 96, 3), generator=generator).byte()):
        assert read_mark(other, every=1) is None


def test_the_talkers_films_are_marked_when_they_are_saved(tmp_path, film):
    talker = Talker.random("tiny")                           # its frames are too small for the mark to survive a codec
    clip = replace(talker.animate(film[0].numpy(), torch.zeros(6 * 640)), frames=film[:6])
    path = clip.save(tmp_path / "a.mp4", crf=12)
    facts = inspect(path).facts
    assert facts["mark"] == f"{clip.made.number:08x}" == f"{read_mark(read_frames(path), every=1).number:08x}"
    bare = talker.animate(film[0].numpy(), torch.zeros(6 * 640), made=Made(watermark=False))
    bare = replace(bare, frames=film[:6]).save(tmp_path / "b.mp4", crf=12)
    assert inspect(bare).facts["mark"] == "not stated" and read_mark(read_frames(bare), every=1) is None


def test_inspect_compares_mark_and_credentials(tmp_path, marked, capsys):
    path = save_video(tmp_path / "a.mp4", marked, torch.zeros(9 * 640))
    assert cli.main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "no credentials" in out and f"made by this package, mark {NUMBER:08x}" in out
    Made(mark=NUMBER, marks=mark_frames).sign(path)
    assert cli.main(["inspect", str(path)]) == 0 and ", as the credentials say" in capsys.readouterr().out
    Made(mark=1, marks=mark_frames).sign(path)
    assert cli.main(["inspect", str(path)]) == 0 and ", NOT what the credentials say" in capsys.readouterr().out


def test_the_weights_are_small():
    path = watermark.PRETRAINED / "laptop" / "watermark.safetensors"
    assert path.stat().st_size < 500_000
