"""What a microphone hears: levels, timing, and the laws that the names promise."""
import math

import librosa
import numpy as np
import pytest
import torch

from vasa_ref.world.rooms import as_heard, coloured_noise, level, mu_law, music, reverberate, telephone, uniform


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def speech(rows=4, n=16000):
    "Bursts of tones, half a second loud and half a second soft."
    t = torch.arange(n) / 16000
    tones = torch.stack([torch.sin(2 * math.pi * f * t) for f in range(200, 200 + 150 * rows, 150)])
    return 0.3 * tones * torch.where(t < 0.5, 1.0, 0.01)


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_falls_by_its_slope(slope):
    power = torch.fft.rfft(coloured_noise(8, 32000, torch.full((8, 1), slope), seeded())).abs().square().mean(0)
    octave = lambda low: power[2 * low:4 * low].mean()                                 # low Hz to 2 low Hz
    assert abs(10 * (octave(250) / octave(2000)).log10() / 3 - 10 * math.log10(2) * slope) < 0.3


def test_a_room_keeps_level_and_timing_and_fades_as_said():
    dry, times, ratios = speech(2), torch.tensor([[0.2], [0.6]]), torch.tensor([[-10.0], [0.0]])
    wet = reverberate(dry, times, ratios, seeded())
    assert torch.allclose(level(wet), level(dry)) and wet.shape == dry.shape
    click = torch.zeros(2, 16000)
    click[:, 100] = 1
    heard = reverberate(click, times, ratios, seeded())
    assert heard[:, :100].abs().max() <= 1e-5 and (heard.abs().argmax(1) == 100).all()
    energy = heard.square()
    assert torch.allclose(10 * (energy[:, 101:].sum(1) / energy[:, 100]).log10(), ratios[:, 0], atol=0.05)
    late = energy.flip(1).cumsum(1).flip(1)
    for row, seconds in enumerate(times[:, 0].tolist()):
        assert abs(10 * (late[row, 101] / late[row, 101 + int(8000 * seconds)]).log10() - 30) < 1.5


def test_mu_law_equals_librosa():
    x = np.linspace(-1, 1, 5001, dtype=np.float32)
    squeezed = np.round(librosa.mu_compress(x, mu=255, quantize=False) * 128) / 128
    assert np.allclose(mu_law(torch.tensor(x)), librosa.mu_expand(squeezed, mu=255.0, quantize=False), atol=1e-5)


def test_a_telephone_passes_its_band():
    t = torch.arange(16000) / 16000
    tones = torch.stack([0.5 * torch.sin(2 * math.pi * f * t) for f in (100, 1000, 5000)])
    assert torch.allclose(level(telephone(tones)), level(tones) * torch.tensor([[0.0], [1.0], [0.0]]), atol=5e-3)


def test_music_has_its_beat():
    song = music(3, 48000, seeded())
    assert song.isfinite().all() and (level(song) > 0.1).all() and not torch.allclose(song[0], song[1])
    assert torch.equal(song, music(3, 48000, seeded()))
    loud = song.square().unfold(1, 400, 400).mean(-1).sqrt()                           # every 25 ms
    for row in loud:
        rise = (row[1:] / row[:-1]).log().clamp(min=0)                                 # onsets, in a row of their own
        again = torch.tensor([float((rise[:-k] * rise[k:]).sum() / rise.square().sum()) for k in range(8, 40)])
        beat = 8 + int(again.argmax())                                                 # 0.25 to 0.75 s
        assert again.max() > 0.4 and 9 <= beat <= 32


def test_numbers_lie_between_their_limits():
    drawn = uniform(500, -3, 5, seeded())
    assert drawn.shape == (500, 1) and drawn.min() >= -3 and drawn.max() < 5 and abs(drawn.mean() - 1) < 0.3


def test_what_is_heard_is_as_loud_as_said_and_made_by_its_seed():
    dry = speech(64)
    heard, gain = as_heard(dry, dry.flip(0), seeded())
    assert heard.abs().max() <= 1 and 10 ** (-26 / 20) <= gain.min() and gain.max() <= 10 ** (6 / 20)
    untouched = ((heard - gain * dry).abs().amax(1) < 1e-6).float().mean()
    # 0.25 x 0.7 x 0.85, and some clip
    assert 0.03 < untouched < 0.35
    again = as_heard(dry, dry.flip(0), seeded())[0]
    assert torch.equal(heard, again) and not torch.equal(heard, as_heard(dry, dry.flip(0), seeded(1))[0])


def test_silence_gets_noise_that_is_heard():
    heard, _ = as_heard(torch.zeros(200, 1600), torch.randn(200, 1600, generator=seeded()), seeded())
    assert 0.6 < (heard.abs().amax(1) > 0).float().mean() < 0.9
