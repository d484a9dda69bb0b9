"""Recordings of people: how they get labels, and how the audio encoder learns from them."""
import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vasa_ref.errors import VasaError
from vasa_ref.hearing import training
from vasa_ref.hearing.features import PhonemeRecogniser, load_recogniser
from vasa_ref.hearing.spectra import Wav2Vec2Config
from vasa_ref.hearing.training import (
    UNKNOWN,
    SpeechDataset,
    join_speakers,
    labelled,
    load_speech,
    make_speech,
    recogniser_loss,
    save_speech,
    train_audio,
)
from vasa_ref.store import save_tensors
from vasa_ref.world.voice import _CLASSES, PHONEMES, frame_labels, say

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import natural_voices as natural


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def speech():
    return say("My brother bought a big blue umbrella.", voice="theo")


@pytest.fixture
def voices():
    "Two speakers whose waveform tells the label: 16 000 samples of each label in turn."
    def speaker(labels):
        labels = torch.tensor(labels, dtype=torch.uint8).repeat_interleave(200)
        return labelled(labels.repeat_interleave(80) / 64, labels, pause=0)
    return join_speakers({"long": [speaker([1, 2, 3, 4]), speaker([5, 6, 7, 8])], "short": [speaker([9, 10])]})


def test_a_dataset_of_speakers_goes_to_a_file_and_back(tmp_path, voices):
    save_speech(tmp_path / "voices.safetensors", voices)
    again = load_speech(tmp_path / "voices.safetensors")
    assert again.speakers == voices.speakers == {"long": (0, 128_000), "short": (128_000, 160_000)}
    for part in ("waveform", "labels", "prosody"):
        assert torch.equal(getattr(again, part), getattr(voices, part))
    short = again.speaker("short")
    assert len(short.waveform) == 32_000 and set(short.labels.tolist()) == {9, 10} and short.prosody.shape == (3, 50)


def test_other_files_are_no_speech_dataset(tmp_path):
    save_tensors(tmp_path / "other.safetensors", {"waveform": torch.zeros(3)}, {})
    with pytest.raises(VasaError, match="no labelled speech"):
        load_speech(tmp_path / "other.safetensors")
    dataset = {"waveform": torch.zeros(1), "labels": torch.zeros(1), "prosody": torch.zeros(1)}
    save_tensors(tmp_path / "older.safetensors", dataset, {"speakers": {}, "phonemes": ["a"]})
    with pytest.raises(VasaError, match="other phoneme classes"):
        load_speech(tmp_path / "older.safetensors")


@pytest.mark.parametrize("rates", [(20,), (16,), (26,)])
def test_labels_stay_with_the_sound_however_fast(voices, rates):
    centres = torch.arange(400, 15_600, 160)
    speech, labels, prosody = voices.draw(40, 16_000, centres, seeded(), rates)
    assert speech.shape == (40, 16_000) and labels.shape == (40, 95) and prosody.shape == (40, 3, 95)
    told = (speech[:, centres] * 64).round()           # the waveform names its label
    assert (told == labels).float().mean() > 0.93


def test_pitch_falls_as_speech_is_slowed(speech):
    dataset = labelled(speech.waveform, frame_labels(speech, hop=80))
    slow = dataset.draw(20, 8000, torch.arange(640, 7000, 640), seeded(), rates=(26,))[2][:, 1]
    whole = dataset.prosody[1].float()
    assert (slow != 0).sum() > 20 and slow[slow != 0].max() <= whole[whole != 0].max() - 0.37     # log2(26 / 20) = 0.38


def test_who_speaks_little_is_heard_more_than_their_share(voices):
    starts = voices.starts(2000, 1600, seeded())
    assert starts.max() <= 160_000 - 1600 and (starts % 80 == 0).all()
    share = (starts >= 128_000).float().mean()
    assert 0.3 < share < 0.37                                   # by the root of the length 0.33; by the length 0.2


def test_half_of_what_is_heard_are_recordings(voices):
    model, dataset = PhonemeRecogniser(Wav2Vec2Config.tiny()), make_speech(4, seed=3, workers=2, quiet=True)
    unsure = SpeechDataset(voices.waveform, torch.full_like(voices.labels, UNKNOWN), voices.prosody, voices.speakers)
    one, parts = recogniser_loss(model, dataset, seeded(), batch=4, seconds=1.0, voices=unsure)
    assert one.isfinite() and parts["voices_accuracy"].isnan()  # nothing is known, nothing is right
    two, parts = recogniser_loss(model, dataset, seeded(), batch=4, seconds=1.0, voices=voices)
    assert two != one and 0 <= parts["voices_accuracy"] <= 1


def test_training_with_recordings_resumes_exactly(tmp_path, monkeypatch, voices):
    monkeypatch.setitem(training.DATASET_SIZES, "tiny", 4)
    save_speech(tmp_path / "voices.safetensors", voices)
    options = dict(preset="tiny", quiet=True, voices=tmp_path / "voices.safetensors")
    once = train_audio(max_steps=4, out=tmp_path / "once", **options)
    train_audio(max_steps=2, out=tmp_path / "two", **options)
    two = train_audio(max_steps=4, out=tmp_path / "two", resume=tmp_path / "two", **options)
    without = train_audio(max_steps=4, preset="tiny", quiet=True)
    for a, b, c in zip(once.parameters(), two.parameters(), without.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_every_sound_has_an_english_neighbour():
    for name in PHONEMES[1:]:
        assert all(phone.isalpha() for phone in natural.english_phones(name))
    for letters in _CLASSES.values():
        assert all(len(natural.english_phones(letter)) == 1 for letter in letters)
    assert natural.english_phones("ɑːɹ") == ["AA", "R"] and natural.english_phones("ts") == ["T", "S"]


def test_the_best_path_takes_each_phoneme_in_order_and_pauses_where_it_is_silent():
    index = {name: PHONEMES.index(name) for name in "_mat"}
    sounds = "__mmmaa_tttta__"
    scores = torch.full((len(sounds), len(PHONEMES)), -5.0)
    for t, name in enumerate(sounds): scores[t, index[name]] = 0.0
    path = natural.best_path(scores, [["m", "a"], ["t", "a"]])
    assert path.tolist() == [index[name] for name in sounds]
    path = natural.best_path(scores, [["m", "a", "t", "a"]])                # no pause within a word
    assert path.tolist() == [index[name] for name in "__mmmaa"] + [path[7]] + [index[name] for name in "tttta__"]
    assert path[7] in (index["a"], index["t"])
    assert natural.best_path(scores[:3], [["m", "a"], ["t", "a"]]) is None


def test_labels_agree_within_a_few_steps():
    m, b, s = (PHONEMES.index(name) for name in "mbs")
    one, other = torch.tensor([m] * 20 + [s] * 20), torch.tensor([b] * 14 + [s] * 26)
    assert natural.agree(one, other, tolerance=6).all() and not natural.agree(one, other, tolerance=4).all()


def test_readers_find_sounds_with_their_texts(tmp_path, monkeypatch):
    for name in ("a.wav", "a.txt", "b.txt", "cat_desc_fr.ogg", "cat_desc_es.ogg", "sound/deep/cs/x-m-hi.ogg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("Hello.")
    found = list(natural.folder("en", tmp_path))
    assert found == [(tmp_path.name, tmp_path / "a.wav", "Hello.")]
    (tmp_path / "cat.txt").write_text("A cat.\nfr.utf8=Un chat.\nde.utf8=Eine Katze.\n")
    assert list(natural.tuxpaint("fr", tmp_path)) == [("tuxpaint-fr", tmp_path / "cat_desc_fr.ogg", "Un chat.")]
    assert not list(natural.tuxpaint("es", tmp_path))
    script = tmp_path / "script/deep/dialogs_cs.lua"
    script.parent.mkdir(parents=True)
    script.write_text('dialogId("x-m-hi", "small", "Hi.")\ndialogStr("Ahoj.")\n\n'
                      'dialogId("y-v-no", "big", "No.")\ndialogStr("Ne.")\n')
    assert list(natural.fillets("cs", tmp_path)) == [("fillets-cs-m", tmp_path / "sound/deep/cs/x-m-hi.ogg", "Ahoj.")]
    with pytest.raises(VasaError, match="install asterisk-core-sounds-xx"):
        list(natural.asterisk("xx", tmp_path))


def test_asterisk_lists_its_texts(tmp_path, monkeypatch):
    listed = tmp_path / "core.txt.gz"
    listed.write_bytes(gzip.compress(b"; a comment\n\nactivated: Activated.\nabsent: Not there.\n"))
    monkeypatch.setattr(natural, "ASTERISK_TEXTS", str(listed))
    (tmp_path / "activated.g722").touch()
    assert [found[2].strip() for found in natural.asterisk("en", tmp_path)] == ["Activated."]


def test_pocketsphinx_finds_what_espeak_said(speech):
    pytest.importorskip("pocketsphinx")
    pytest.importorskip("phonemizer")
    words = natural.phonemizer("en")(speech.text)
    assert len(words) == 7 and words[0] == ["m", "aɪ"]
    labels, truth = natural.Sphinx()(speech.waveform, words), frame_labels(speech, hop=80)
    assert len(labels) == len(truth)
    right = lambda labels: (natural.VISEME[labels.long()] == natural.VISEME[truth]).float().mean()
    assert right(labels) > 0.5 > right(labels.roll(160))


def test_world_keeps_the_time_and_moves_the_pitch(speech):
    pytest.importorskip("pyworld")
    import numpy as np
    moved = natural.shifted(speech.waveform, np.random.default_rng(1))
    assert moved.shape == speech.waveform.shape and moved.abs().max() <= 1
    octaves = lambda x: labelled(x, frame_labels(speech, hop=80)).prosody[1].float()
    before, after = octaves(speech.waveform), octaves(moved)
    both = (before != 0) & (after != 0)
    assert both.sum() > 20 and (after - before)[both].median().abs() > 0.05


def test_silence_is_labelled_where_the_sound_has_died_away():
    sound, labels = torch.zeros(16_000), torch.ones(200, dtype=torch.uint8)
    sound[2000:8000] = sound[8400:9000] = 0.4      # a gap of 25 ms, as of a plosive
    heard = natural.hushed(sound, labels)
    assert heard[25:112].all() and not heard[:20].any() and not heard[118:].any()


@pytest.mark.parametrize("program", ["that of the machine", "that of imageio"])
@pytest.mark.parametrize("ending", ["g722", "m4a"])
def test_sound_comes_whole_through_every_ffmpeg(tmp_path, monkeypatch, program, ending):
    import imageio_ffmpeg
    import soundfile

    from vasa_ref.media import files
    exe = shutil.which("ffmpeg") if program == "that of the machine" else imageio_ffmpeg.get_ffmpeg_exe()
    if exe is None: pytest.skip("no ffmpeg on this machine")
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(16_000) / 16_000)
    soundfile.write(tmp_path / "tone.wav", tone.numpy(), 16_000)
    subprocess.run([exe, "-loglevel", "error", "-i", tmp_path / "tone.wav", tmp_path / f"tone.{ending}"], check=True)
    monkeypatch.setattr(files, "ffmpeg_exe", lambda: exe)
    sound, rate = files.decode_audio(tmp_path / f"tone.{ending}")
    sound = torch.as_tensor(sound)[:, 0]
    assert rate == 16_000 and abs(len(sound) - 16_000) < 2100
    assert abs(sound[2000:14_000].square().mean().sqrt() - 0.3 / 2 ** 0.5) < 0.01


def test_what_is_heard_is_counted(speech):
    import hear_voices
    m, b, a, s = (PHONEMES.index(name) for name in "mbas")
    truth, heard = torch.tensor([0, 0, m, b, a, s, UNKNOWN]), torch.tensor([0, a, m, m, b, s, s])
    assert hear_voices.figures(heard, truth) == pytest.approx((3 / 6, 2 / 4, 3 / 4, 1.0, 2 / 3, 1 / 2))
    dataset = join_speakers({"theo": [labelled(speech.waveform, frame_labels(speech, hop=80))]})
    lines = hear_voices.table(dataset, {"laptop": load_recogniser("laptop")})
    assert len(lines) == 4 and lines[2].startswith("| theo |") and float(lines[3].split("|")[6]) > 0.5
