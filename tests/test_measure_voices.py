"""Songs and situations: pitch, phoneme times, and sounds that leave the truth as it is."""
import pytest
import torch

from vasa_ref.errors import VasaError
from vasa_ref.measure.voices import behind, breath, join, sing, situations, spoken_truth
from vasa_ref.world.prosody import fundamental
from vasa_ref.world.voice import LANGUAGES, SILENCE, say


@pytest.fixture(scope="module")
def found():
    return situations(1)


def test_words_are_joined_with_their_times():
    parts = [say("boat"), say("gently", voice="noah")]
    joined = join(parts)
    assert joined.text == "boat gently" and SILENCE not in (joined.phonemes[0], joined.phonemes[-1])
    assert joined.starts[0] == 0 and joined.ends[-1] == len(joined.waveform)
    assert torch.equal(joined.starts[1:], joined.ends[:-1])
    first = parts[0]
    begin = int(next(s for s, name in zip(first.starts, first.phonemes) if name != SILENCE))
    kept = sum(name != SILENCE for name in first.phonemes)
    assert torch.equal(joined.waveform[:1000], first.waveform[begin:begin + 1000])
    assert joined.starts[1] == first.starts[first.phonemes.index(joined.phonemes[1])] - begin
    assert kept <= len(joined.phonemes)


def test_a_song_follows_its_notes():
    low, high = (sing("la la la", [note] * 3, voice="f2") for note in (20, 70))
    pitch = [p[p > 0] for p in (fundamental(s.waveform, -(-len(s.waveform) // 640)) for s in (low, high))]
    assert pitch[1].median() > 1.3 * pitch[0].median()
    assert all(p.quantile(0.9) < 1.15 * p.quantile(0.1) for p in pitch)              # each holds its note
    with pytest.raises(VasaError, match="one note per word"):
        sing("la la", [50])


def test_sounds_behind_a_voice_are_as_soft_as_said():
    truth = spoken_truth(say("The river was frozen."), 0)
    voice = truth.speech.waveform
    heard = behind(truth, torch.randn(len(voice), generator=torch.Generator().manual_seed(0)), 10)
    added = heard.speech.waveform - voice
    rms = lambda x: x.square().mean().sqrt()
    assert torch.equal(heard.motion.units, truth.motion.units)
    assert abs(20 * (rms(voice) / rms(added)).log10() - 10) < 0.5


def test_situations_are_all_there_and_fit_their_truth(found):
    assert sum(name.startswith("in ") for name in found) == len(LANGUAGES) >= 20
    assert {"whispered", "sung", "noise, 10 dB", "music, 10 dB", "a bare hall", "telephone"} <= set(found)
    for name, truths in found.items():
        for truth in truths:
            assert len(truth.motion) == -(-len(truth.speech.waveform) // 640), name
            assert truth.speech.waveform.isfinite().all() and truth.speech.waveform.abs().max() <= 1.0
    clean, noisy = found["in English"][0], found["noise, 10 dB"][0]
    assert torch.equal(clean.motion.pose, noisy.motion.pose)
    assert not torch.equal(clean.speech.waveform, noisy.speech.waveform)


def test_breath_swells_and_pauses():
    sound = breath(64_000, torch.Generator().manual_seed(0))
    assert torch.equal(sound, breath(64_000, torch.Generator().manual_seed(0)))
    loud = sound.view(40, 1600).square().mean(1).sqrt()                          # each 0.1 s
    assert loud[16:32].max() == 0 and 0.5 < sound.abs().max() <= 1               # 1.6 s of pause
    assert loud[6:10].min() > 3 * loud[[1, 14]].max()
