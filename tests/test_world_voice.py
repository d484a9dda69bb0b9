import subprocess
import sys

import pytest
import torch

from vasa_ref.errors import VasaError
from vasa_ref.world.sentences import HELD_OUT_WORDS, WORDS
from vasa_ref.world.voice import (
    EMOTIONS,
    LANGUAGES,
    PHONEMES,
    SAMPLE_RATE,
    TRAINING_LANGUAGES,
    VISEMES,
    VOICES,
    Voice,
    frame_labels,
    phoneme_class,
    phoneme_index,
    random_text,
    random_voice,
    resample,
    say,
    viseme_of,
)


@pytest.fixture(scope="module")
def speech():
    return say("Bob put my mop up. He hopes that it helps!", voice="noah")


def assert_tiles(speech):
    assert speech.waveform.dtype == torch.float32 and speech.waveform.abs().max() <= 1
    assert len(speech.phonemes) == len(speech.starts) == len(speech.ends)
    assert speech.starts[0] == 0 and speech.ends[-1] == len(speech.waveform)
    assert torch.equal(speech.starts[1:], speech.ends[:-1]) and (speech.ends > speech.starts).all()


def test_same_arguments_same_bits(speech):
    say("Something else in between.")
    again = say("Bob put my mop up. He hopes that it helps!", voice="noah")
    assert torch.equal(speech.waveform, again.waveform) and speech.phonemes == again.phonemes
    assert torch.equal(speech.starts, again.starts)


def test_same_bits_from_another_process_and_folder(tmp_path):
    code = "from vasa_ref.world.voice import say; print(say('Same here.', voice='omar').waveform.double().sum().item())"
    from pathlib import Path

    import vasa_ref
    root = str(Path(vasa_ref.__file__).parents[1])
    out = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {code}"], cwd=tmp_path,
                         capture_output=True, text=True, check=True).stdout
    assert float(out) == say("Same here.", voice="omar").waveform.double().sum().item()


def test_phonemes_tile_the_waveform_and_pauses_are_quiet(speech):
    assert_tiles(speech)
    assert speech.phonemes[0] == speech.phonemes[-1] == "_"
    for name, start, end in zip(speech.phonemes, speech.starts, speech.ends):
        rms = speech.waveform[start:end].square().mean().sqrt()
        assert name != "_" or rms < 0.02
    assert speech.seconds == len(speech.waveform) / SAMPLE_RATE


def test_a_plosive_contains_its_closure(speech):
    plosives = [i for i, p in enumerate(speech.phonemes) if phoneme_class(p) == "p"]
    lengths = [(speech.ends[i] - speech.starts[i]).item() / SAMPLE_RATE for i in plosives]
    assert len(plosives) >= 3 and min(lengths) > 0.03 and max(lengths) > 0.06


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_speaks_known_phonemes(language):
    entry = LANGUAGES[language]
    heard = language in TRAINING_LANGUAGES
    assert (len(entry.sentences) >= 5) == heard and len(entry.held_out) >= (2 if heard else 8)
    assert not set(entry.sentences) & set(entry.held_out)
    speech = say(entry.held_out[0], language=language)
    assert_tiles(speech)
    classes = {phoneme_class(p) for p in speech.phonemes}
    assert len(classes) > 6 and classes <= set(PHONEMES)


def test_language_by_name():
    assert say("Hallo", language="german").language == "de"


def test_an_unknown_variant_is_refused():
    with pytest.raises(VasaError, match="unknown variant of a voice 'mia'; accepted are .*, f2, "):
        say("Nobody knows.", Voice("mia"))


@pytest.mark.parametrize("voice", VOICES)
def test_every_voice_speaks(voice):
    speech = say("Nobody knows.", voice=voice)
    assert 0.15 < speech.waveform.abs().max() <= 1 and speech.seconds > 0.6


def test_voices_differ_and_held_out_variants_are_not_trained_on():
    assert len(VOICES) >= 20 and len({tuple(vars(v).values()) for v in VOICES.values()}) == len(VOICES)
    held = {v.variant for v in VOICES.values() if v.held_out}
    assert held and not held & {v.variant for v in VOICES.values() if not v.held_out}


def test_emotions_colour_the_voice():
    spoken = {e: say("I never thought that you would come.", emotion=e) for e in EMOTIONS}
    level = {e: s.waveform.square().mean().item() for e, s in spoken.items()}
    assert level["angry"] > level["neutral"] > level["sad"]
    assert spoken["sad"].seconds > spoken["neutral"].seconds > spoken["afraid"].seconds
    none = say("I never thought that you would come.", emotion="sad", emotion_strength=0)
    assert torch.equal(none.waveform, spoken["neutral"].waveform)


@pytest.mark.parametrize("change, message", [
    ({"voice": "nobody"}, "accepted are ada"), ({"language": "tlh"}, "accepted are en"),
    ({"rate": 79}, "from 80 to 400"), ({"rate": float("nan")}, "from 80 to 400"), ({"rate": "fast"}, "from 80 to 400"),
    ({"pitch": 100}, "from 0 to 99"), ({"emotion": "bored"}, "accepted are neutral"),
    ({"emotion_strength": 1.5}, "from 0 to 1"), ({"text": ""}, "nothing to speak"), ({"text": "?! ..."}, "nothing to"),
    ({"text": None}, "nothing to speak")])
def test_errors_say_what_is_accepted(change, message):
    with pytest.raises(VasaError, match=message):
        say(**{"text": "Hello.", **change})


def test_control_characters_and_markup_are_harmless():
    assert torch.equal(say("Hello\x00\n\tthere.").waveform, say("Hello there.").waveform)
    assert_tiles(say("<speak>Hi</speak> [[h@]] & 12.5 %"))


def test_resample_matches_a_tone_and_leaves_no_alias():
    phase = torch.arange(11025, dtype=torch.float64) / 22050
    tone = lambda hz: torch.sin(2 * torch.pi * (hz * phase % 1)).float()
    target = torch.sin(2 * torch.pi * (1000 * torch.arange(8000, dtype=torch.float64) / 16000 % 1)).float()
    out = resample(tone(1000), 22050, 16000)
    assert len(out) == 8000
    torch.testing.assert_close(out[500:-500], target[500:-500], atol=1e-5, rtol=0)
    assert resample(tone(9000), 22050, 16000)[500:-500].abs().max() < 1e-4
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resample(x, 16000, 16000, rolloff=1.0)[50:60], x[50:60], atol=1e-5, rtol=0)


def test_inventory():
    assert PHONEMES[0] == "_" and len(PHONEMES) == len(set(PHONEMES)) <= 48
    assert sorted(p for group in VISEMES.values() for p in group) == sorted(PHONEMES) and 12 <= len(VISEMES) <= 14
    assert all(phoneme_class(p) == p for p in PHONEMES)
    expected = {"ˈaɪ": "aɪ", "əʊ": "oʊ", "iː": "i", "tɕʰ": "tʃ", "ts": "s", "ç": "x", "aɪə": "aɪ", "iɑu": "aʊ",
                "ʔi": "i", "m̩": "m", "": "_", "ɪə": "ɪ", "ua": "a"}
    assert {name: phoneme_class(name) for name in expected} == expected
    assert phoneme_index("") == 0 and viseme_of("ˈʌ") == "AA" and viseme_of("b") == "PP"
    with pytest.raises(VasaError, match="IPA"):
        phoneme_class("7")


def test_frame_labels_follow_the_phonemes(speech):
    labels = frame_labels(speech)
    assert labels.dtype == torch.int64 and len(labels) == -(-len(speech.waveform) // 320)
    assert labels[0] == 0 and labels[-1] == 0 and labels.max() < len(PHONEMES)
    for name, start, end in zip(speech.phonemes, speech.starts.tolist(), speech.ends.tolist()):
        inside = [k for k in range(len(labels)) if start <= k * 320 + 160 < end]
        assert all(labels[k] == phoneme_index(name) for k in inside)


def test_random_text_is_seeded_and_holds_words_out():
    draw = lambda seed, **kw: [random_text(g, **kw) for g in [torch.Generator().manual_seed(seed)] for _ in range(30)]
    assert draw(0) == draw(0) != draw(1)
    assert len(set(draw(2))) > 20
    assert set(draw(3, language="fr")) <= set(LANGUAGES["fr"].sentences)
    assert set(draw(3, language="fr", held_out=True)) <= set(LANGUAGES["fr"].held_out)
    assert set(draw(3, language="Tamil")) <= set(LANGUAGES["ta"].held_out)
    kinds = ("name", "noun", "adjective", "do", "did")
    trained = {w for k in kinds for w in WORDS[k].lower().split()}
    kept = {w for k in kinds for w in HELD_OUT_WORDS[k].lower().split()}
    assert not trained & kept
    spoken = {w.strip(".,?!").lower() for text in draw(4) for w in text.split()}
    assert not spoken & kept
    with pytest.raises(VasaError):
        random_text(torch.Generator(), language="xx")


def test_random_voice_keeps_the_held_out_ones_apart():
    generator = torch.Generator().manual_seed(0)
    assert not any(VOICES[random_voice(generator)].held_out for _ in range(40))
    assert all(VOICES[random_voice(generator, held_out=True)].held_out for _ in range(10))
