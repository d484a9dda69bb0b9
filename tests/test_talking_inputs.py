"""What users hand to a talker: pictures and sound in every form keep their values, or are refused in one sentence."""
import io
import math

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from talking_parts import speech

from vasa_ref.errors import VasaError
from vasa_ref.talking.inputs import portrait_tensor, waveform_tensor


def test_portraits_of_any_kind_become_the_same_tensor(tmp_path):
    pixels = (torch.rand(48, 48, 3, generator=torch.Generator().manual_seed(1)) * 255).byte()
    Image.fromarray(pixels.numpy()).save(tmp_path / "p.png")
    as_float = pixels.permute(2, 0, 1) / 255
    forms = [pixels, pixels.numpy(), as_float, as_float[None], as_float.numpy(), Image.fromarray(pixels.numpy()),
             tmp_path / "p.png"]
    for form in forms:
        torch.testing.assert_close(portrait_tensor(form, 48), as_float[None], atol=1e-6, rtol=0)


def test_portrait_is_cut_from_the_centre():
    wide = torch.zeros(3, 20, 60)
    wide[:, :, 20:40] = 1
    assert portrait_tensor(wide, 16).min() > 0.99


def content(image):
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream                                                    # which stands at its end


def test_portraits_in_any_layout_keep_their_values():
    generator = torch.Generator().manual_seed(1)
    rgba = (torch.rand(48, 48, 4, generator=generator) * 255).byte().numpy()
    rgb, grey = rgba[..., :3], rgba[..., 0]
    told = lambda array: torch.from_numpy(array.copy()).movedim(-1, 0)[None] / 255
    alpha = told(rgba[..., 3:])
    expected = {"plain": told(rgb), "bgr": told(rgb[..., ::-1]), "grey": told(grey[..., None]).expand(-1, 3, -1, -1),
                "rgba": told(rgb) * alpha + 0.5 * (1 - alpha)}
    backwards = lambda array: np.ascontiguousarray(array[::-1])[::-1]        # the same values, negative strides
    image = Image.fromarray(rgb)
    forms = [("bgr", rgb[:, :, ::-1]), ("plain", backwards(rgb)), ("plain", np.asfortranarray(rgb)),
             ("plain", rgb.transpose(2, 0, 1)),
             ("plain", (rgb / 255).astype(">f4")), ("plain", rgb / 255), ("plain", (rgb / 255).astype(np.float16)),
             ("plain", np.asarray(image)), ("plain", content(image)), ("plain", content(image).getvalue()),
             ("plain", expected["plain"].requires_grad_()),
             ("grey", grey), ("grey", grey[None]), ("grey", torch.from_numpy(grey.copy()) / 255), ("rgba", rgba),
             ("rgba", rgba.transpose(2, 0, 1)),
             ("rgba", rgba / 255), ("rgba", Image.fromarray(rgba))]
    for name, form in forms:
        torch.testing.assert_close(portrait_tensor(form, 48), expected[name].detach(), atol=1e-3
                                   if getattr(form, "dtype", 0) == np.float16 else 1e-6, rtol=0)


@pytest.mark.parametrize("wrong",
                         [torch.zeros(64), torch.zeros(5, 64, 64), torch.zeros(2, 3, 64, 64),
                          torch.full((3, 64, 64), 2.0), torch.zeros(3, 8, 64),
                          torch.full((3, 64, 64), math.nan), torch.zeros(3, 64, 64, dtype=torch.int64),
                          torch.zeros(64, 64, dtype=torch.bool),
                          np.full((64, 64), "a"), np.zeros((64, 64), complex), np.zeros((64, 64, 3), np.longdouble),
                          np.zeros(()),
                          None, 7, [[0.5]], b"", b"no picture", io.BytesIO(), io.StringIO("x")], ids=str)
def test_wrong_portraits_are_refused(wrong):
    with pytest.raises(VasaError, match="the portrait.*accepted") as error:
        portrait_tensor(wrong, 32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong",
                         [torch.zeros(0), torch.zeros(2, 9), torch.tensor([1, 2]), torch.tensor([math.inf]),
                          np.array(["a"])[:0].astype(float),
                          np.array(["a"]), np.array([None]), np.zeros(9, complex), np.float32(1), None, 7, [0.1, 0.2],
                          b"", b"no sound", io.BytesIO(),
                          (torch.zeros(9), 0), (torch.zeros(9), math.nan), (torch.zeros(9), True),
                          (torch.zeros(9), 1e9), (torch.zeros(9, 9), 8000),
                          (torch.zeros(0), 8000), (None, 8000), ("s.wav", 8000), (torch.zeros(9), torch.zeros(9))],
                         ids=str)
def test_wrong_waveforms_are_refused(wrong):
    with pytest.raises(VasaError, match="the speech") as error:
        waveform_tensor(wrong)
    assert "\n" not in str(error.value)


def test_sound_in_any_layout_keeps_its_values():
    rising = torch.linspace(-1, 0.75, 8)
    whole = (rising * 2 ** 15).to(torch.int16)
    forms = [rising, rising.double().numpy(), rising.numpy()[::-1].copy()[::-1], rising.numpy().astype(">f4"),
             rising.half(), rising.bfloat16(), whole,
             whole.numpy().astype(">i2"), whole.to(torch.int32) * 2 ** 16, (rising * 128 + 128).byte(),
             (rising.numpy(), 16_000), (16_000, whole.numpy()),
             [rising, 16_000.0], (torch.stack([rising, rising]), 16_000),
             (torch.stack([rising, rising], 1), np.int64(16_000))]
    for form in forms:
        heard = waveform_tensor(form)
        assert heard.dtype == torch.float32
        torch.testing.assert_close(heard, rising, atol=0, rtol=0)
    torch.testing.assert_close(waveform_tensor((torch.stack([rising, 0 * rising], 1), 16_000)), rising / 2)
    torch.testing.assert_close(waveform_tensor(4 * rising), rising)                          # as load_audio does
    torch.testing.assert_close(waveform_tensor(4 * rising, chunk=True), (4 * rising).clamp(-1, 1))
    assert waveform_tensor(torch.zeros(0), chunk=True).shape == (0,)
    with pytest.raises(VasaError, match="8000 Hz"):
        waveform_tensor((rising, 8000), chunk=True)


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
def test_sound_of_any_rate_keeps_its_pitch(rate):
    tone = lambda rate: 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(rate) / rate)
    heard = waveform_tensor((tone(rate), rate))
    assert len(heard) == 16_000 and (heard - tone(16_000))[320:-320].abs().max() < 1e-3


def test_sound_as_content_is_that_of_the_file(tmp_path):
    soundfile.write(tmp_path / "s.wav", speech(0.2).numpy(), 16_000)
    expected, data = waveform_tensor(tmp_path / "s.wav"), (tmp_path / "s.wav").read_bytes()
    assert expected.abs().max() > 0.2
    with open(tmp_path / "s.wav", "rb") as file, open(tmp_path / "s.wav") as as_text:
        for form in (data, bytearray(data), io.BytesIO(data), file, file, as_text):
            assert torch.equal(waveform_tensor(form), expected)
