"""Recordings of people with their texts become labelled speech for `vasa train audio --voices FILE`.

    python tools/natural_voices.py OUT.safetensors KIND:LANGUAGE:FOLDER ... [--minutes M] [--check FOLDER] [--shifts N]

folder     one speaker: NAME.wav (flac, ogg, ...) with its text in NAME.txt
asterisk   one speaker: Debian's asterisk-core-sounds-LANGUAGE-g722; the texts are in asterisk-core-sounds-LANGUAGE
tuxpaint   one speaker per language: /usr/share/tuxpaint/stamps of Debian's tuxpaint-stamps-default
fillets    two speakers: /usr/share/games/fillets-ng of Debian's fillets-ng-data and fillets-ng-data-LANGUAGE

The phonemes of a text are espeak-ng's; pocketsphinx finds their times in the sound, other languages than English
through the English phones that come nearest. `--minutes M` takes at most so many of each speaker. `--check` is a folder
with the weights of a trained recogniser: it aligns as well, and labels on which the two disagree are left open.
`--shifts N` adds N copies of each recording with another pitch and other formants, by WORLD. Beside what the package
needs: pip install pocketsphinx phonemizer pyworld. Recordings keep their licence, and so does OUT.
"""
import argparse
import gzip
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vasa_ref.errors import VasaError
from vasa_ref.hearing.features import audio_features, load_recogniser
from vasa_ref.hearing.training import STEP, UNKNOWN, join_speakers, labelled, save_speech
from vasa_ref.media.files import decode_audio
from vasa_ref.world.voice import PHONEMES, SAMPLE_RATE, VISEMES, _ipa_letters, phoneme_class, resample, viseme_of

ESPEAK = {"en": "en-us", "fr": "fr-fr", "es": "es-419"}    # where espeak-ng's name is not the language's code
NEAREST = {                                                # English phones for our classes
    "i": "IY", "ɪ": "IH", "e": "EH", "ɛ": "EH", "æ": "AE", "a": "AA", "ɑ": "AA", "ɔ": "AO", "o": "AO", "ʊ": "UH",
    "u": "UW", "ʌ": "AH", "ə": "AH", "ɜ": "ER", "y": "UW", "ø": "ER", "ɨ": "IH", "p": "P", "b": "B", "t": "T",
    "d": "D", "k": "K", "ɡ": "G", "m": "M", "n": "N", "ŋ": "NG", "f": "F", "v": "V", "θ": "TH", "ð": "DH",
    "s": "S", "z": "Z", "ʃ": "SH", "ʒ": "ZH", "x": "HH", "h": "HH", "r": "R", "l": "L", "j": "Y", "w": "W",
    "aɪ": "AY", "aʊ": "AW", "eɪ": "EY", "oʊ": "OW", "ɔɪ": "OY", "tʃ": "CH", "dʒ": "JH"}
ASTERISK_TEXTS = "/usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz"
PLOSIVES = {"p", "b", "t", "d", "k", "ɡ", "tʃ", "dʒ"}
VISEME = torch.tensor([list(VISEMES).index(viseme_of(p)) for p in PHONEMES])


def folder(language, path):
    for text in sorted(path.glob("*.txt")):
        sound = next((f for f in sorted(path.glob(f"{text.stem}.*")) if f.suffix != ".txt"), None)
        if sound: yield path.name, sound, text.read_text()


def asterisk(language, path):
    listed = Path(ASTERISK_TEXTS.format(language=language))
    if not listed.is_file(): raise VasaError(f"no texts at {listed}: install asterisk-core-sounds-{language}")
    for line in gzip.open(listed, "rt", encoding="utf-8", errors="replace"):
        name, _, text = line.lstrip("\ufeff").partition(":")
        if (sound := path / f"{name.strip()}.g722").is_file(): yield f"asterisk-{path.name}", sound, text


def tuxpaint(language, path):
    for sound in sorted(path.rglob(f"*_desc_{language}.ogg")):
        texts = sound.with_name(sound.name.replace(f"_desc_{language}.ogg", ".txt"))
        told = texts.read_text(errors="replace") if texts.is_file() else ""
        if text := re.search(rf"^{language}\.utf8=(.*)$", told, re.M): yield f"tuxpaint-{language}", sound, text[1]


def fillets(language, path):
    line = re.compile(r'dialogId\("([^"]+)".*\)\s*dialogStr\("(.*)"\)')
    for script in sorted(path.glob(f"script/*/dialogs_{language}.lua")):
        for name, text in line.findall(script.read_text(errors="replace")):
            who = re.search(r"-([mv])-", name)
            sound = path / "sound" / script.parent.name / language / f"{name}.ogg"
            if who and sound.is_file(): yield f"fillets-{language}-{who[1]}", sound, text


READERS = {"folder": folder, "asterisk": asterisk, "tuxpaint": tuxpaint, "fillets": fillets}


def phonemizer(language):
    "A function from texts to words, each a list of espeak-ng's IPA names."
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper
    from phonemizer.separator import Separator
    EspeakWrapper.set_library(str(espeakng_loader.get_library_path()))
    EspeakWrapper.set_data_path(str(espeakng_loader.get_data_path()))
    backend = EspeakBackend(ESPEAK.get(language, language), language_switch="remove-flags", with_stress=False)

    def words_of(text):
        words = backend.phonemize([text], Separator(phone=" ", word="|"))[0].split("|")
        words = ([name for name in word.split() if _ipa_letters(name)] for word in words)
        return [word for word in words if word]
    return words_of


def english_phones(name):
    "The English phones that come nearest to an IPA name of espeak-ng's."
    known = phoneme_class(name)
    return [NEAREST[known]] if len(known) > 1 else [NEAREST[letter] for letter in _ipa_letters(name)]


class Sphinx:
    """Forced alignment by pocketsphinx: a waveform (N,) at 16 kHz and the words said, each a list of IPA names, ->
    labels (ceil(N / 80),), or None if the words do not fit the sound."""
    def __init__(self):
        import pocketsphinx
        hmm = pocketsphinx.get_model_path("en-us/en-us")
        wide = dict.fromkeys(("beam", "pbeam", "wbeam"), 1e-200)               # wide enough for foreign sounds
        self.decoder, self.known = pocketsphinx.Decoder(hmm=hmm, lm=None, dict=None, bestpath=False, maxhmmpf=-1,
                                                        loglevel="FATAL", **wide), {}

    def name(self, word):
        "The dictionary's name of a word, which is entered when new."
        phones = " ".join(phone for name in word for phone in english_phones(name))
        if phones not in self.known:
            self.known[phones] = f"w{len(self.known)}"
            self.decoder.add_word(self.known[phones], phones, True)
        return self.known[phones]

    def hear(self, sound):
        self.decoder.start_utt()
        self.decoder.process_raw(sound, full_utt=True)
        self.decoder.end_utt()

    def __call__(self, waveform, words):
        sound = (waveform * 32767).to(torch.int16).numpy().tobytes()
        self.decoder.set_align_text(" ".join(self.name(word) for word in words))
        try:
            self.hear(sound)
            self.decoder.set_alignment()                                    # the words are placed; now their phones
            self.hear(sound)
        except RuntimeError:                                                # the words do not fit the sound
            return None
        labels, words, pause = torch.zeros(-(-len(waveform) // STEP), dtype=torch.uint8), iter(words), 99
        for found in self.decoder.get_alignment():
            if not re.match(r"w\d", found.name):
                pause = found.duration
                continue
            spelt = [phoneme_class(name) for name in next(words) for _ in english_phones(name)]
            closing = pause if spelt[0] in PLOSIVES and pause < 8 else 0    # a pause under 80 ms is the stop's closure
            for phone, name in zip(found, spelt, strict=True):
                first, last = 10 * (phone.start - closing), 10 * (phone.start + phone.duration)
                closing = 0                                                 # 10 ms later: the middle of a 25 ms window
                labels[(first + 10) // 5:(last + 10) // 5] = PHONEMES.index(name)
            pause = 99
        return labels if next(words, None) is None else None


def best_path(scores, words):
    """Labels (T,) of the likeliest path through log-probabilities (T, 48): the phonemes of the words in order, each for
    a frame or more, silence between words or not; None if the words do not fit into T frames."""
    states, optional = [0], [True]
    for word in words:
        states += [PHONEMES.index(phoneme_class(name)) for name in word] + [0]
        optional += [False] * len(word) + [True]
    states, skip = np.array(states), np.r_[False, False, np.array(optional)[1:-1]]        # from two before?
    emitted, far = scores.numpy()[:, states], -1e9
    total, back = np.where(np.arange(len(states)) < 2, emitted[0], far), np.zeros(emitted.shape, int)
    for t in range(1, len(emitted)):
        ways = np.stack([total, np.r_[far, total[:-1]], np.where(skip, np.r_[far, far, total[:-2]], far)])
        back[t] = ways.argmax(0)
        total = ways.max(0) + emitted[t]
    at = len(states) - 1 if total[-1] > total[-2] else len(states) - 2
    if total[at] < far / 2: return None
    path = np.empty(len(emitted), int)
    for t in range(len(emitted) - 1, -1, -1):
        path[t], at = at, at - back[t, at]
    return torch.from_numpy(states[path]).to(torch.uint8)


def agree(labels, others, tolerance=8):
    "True where the viseme of the labels (T,) is among those of the others within `tolerance` steps of 5 ms."
    one, other = VISEME[labels.long()], VISEME[others.long()]
    near = torch.nn.functional.pad(other, (tolerance, tolerance), value=-1).unfold(0, 2 * tolerance + 1, 1)
    return (near == one[:, None]).any(1)


def shifted(waveform, rng):
    "The waveform with its pitch up to 5 semitones and its formants up to 18 % elsewhere, by WORLD (Morise 2016)."
    import pyworld
    x = waveform.double().numpy()
    f0, times = pyworld.dio(x, SAMPLE_RATE, frame_period=10.0)
    f0 = pyworld.stonemask(x, f0, times, SAMPLE_RATE)
    envelope, aperiodicity = pyworld.cheaptrick(x, f0, times, SAMPLE_RATE), pyworld.d4c(x, f0, times, SAMPLE_RATE)
    bins = np.arange(envelope.shape[1])
    at = np.clip(bins / rng.uniform(0.84, 1.19), 0, bins[-1])
    low = at.astype(int).clip(max=bins[-1] - 1)
    warp = lambda a: np.ascontiguousarray(a[:, low] * (1 - (at - low)) + a[:, low + 1] * (at - low))
    f0 = f0 * 2 ** rng.uniform(-5 / 12, 5 / 12)
    y = pyworld.synthesize(f0, warp(envelope), warp(aperiodicity), SAMPLE_RATE, 10.0)
    y = torch.from_numpy(y[:len(x)]).float()
    return torch.nn.functional.pad(y, (0, len(x) - len(y))).clamp(-1, 1)


def sound_of(path):
    "A recording as (N,) at 16 kHz with its peak at half of full scale, or None: too short, too long or silent."
    samples, rate = decode_audio(path)
    waveform = resample(torch.as_tensor(samples).float().mean(1), rate, SAMPLE_RATE)
    if not 0.3 < len(waveform) / SAMPLE_RATE < 60 or waveform.abs().max() < 0.01: return None
    return torch.nn.functional.pad(waveform / waveform.abs().max() / 2, (1600, 1600))


def hushed(waveform, labels, peak=0.5, steps=20):
    "The labels with silence wherever the sound stays 40 dB under its peak for 100 ms: a last phoneme likes to run on."
    pool = torch.nn.functional.max_pool1d
    loud = pool(waveform.abs()[None], STEP, STEP, ceil_mode=True)                           # (1, T)
    quiet = (loud < peak / 100).float()
    lasting = 1 - pool(1 - quiet, steps, 1, steps // 2)[:, :len(labels)]                # in the middle of 100 ms
    return torch.where(pool(lasting, steps - 1, 1, steps // 2 - 1)[0, :len(labels)] > 0, 0, labels).to(torch.uint8)


def label(align, check, waveform, words):
    "Labels (ceil(N / 80),) with UNKNOWN where `check` hears something else, or None where too little is sure."
    labels = align(waveform, words)
    if labels is None: return None
    labels = hushed(waveform, labels)
    if check is None: return labels
    scores = check.phonemes(audio_features(check.encoder, waveform, rate=50)).log_softmax(-1)
    others = best_path(scores, words)
    if others is None: return None
    sure = agree(labels, others.repeat_interleave(4)[:len(labels)])
    return torch.where(sure, labels, UNKNOWN).to(torch.uint8) if sure.float().mean() > 0.6 else None


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("sources", nargs="+", metavar="KIND:LANGUAGE:FOLDER")
    parser.add_argument("--check", metavar="FOLDER")
    parser.add_argument("--shifts", type=int, default=0, metavar="N")
    parser.add_argument("--minutes", type=float, default=float("inf"), metavar="M")
    args = parser.parse_args(args)
    check = args.check and load_recogniser(args.check)
    align, rng, datasets, lost, spoken = Sphinx(), np.random.default_rng(0), {}, 0, Counter()
    for source in args.sources:
        kind, _, rest = source.partition(":")
        language, _, path = rest.partition(":")
        if kind not in READERS or not Path(path).is_dir():
            raise VasaError(f"{source!r} is no source: expected KIND:LANGUAGE:FOLDER, KIND one of {', '.join(READERS)}")
        words_of = phonemizer(language)
        for speaker, sound, text in tqdm(list(READERS[kind](language, Path(path))), desc=source):
            if spoken[speaker] >= args.minutes: continue
            waveform, words = sound_of(sound), words_of(re.sub(r"\[.*?\]|<.*?>", " ", text))
            labels = label(align, check, waveform, words) if waveform is not None and words else None
            if labels is None:
                lost += 1
                continue
            spoken[speaker] += len(waveform) / SAMPLE_RATE / 60
            copies = [waveform, *(shifted(waveform, rng) for _ in range(args.shifts))]
            datasets.setdefault(speaker, []).extend(labelled(copy, labels) for copy in copies)
    if not datasets: raise VasaError("no recording could be aligned with its text")
    save_speech(args.out, join_speakers(datasets))
    for speaker, said in datasets.items():
        minutes = sum(len(dataset.waveform) for dataset in said) / SAMPLE_RATE / 60
        sure = (torch.cat([dataset.labels for dataset in said]) != UNKNOWN).float().mean()
        print(f"{speaker}: {len(said)} utterances, {minutes:.1f} minutes, {sure:.0%} of the labels sure")
    print(f"{args.out}: {lost} recordings left out, for they do not go with their text")


if __name__ == "__main__":
    try:
        main()
    except VasaError as error:
        sys.exit(f"error: {error}")
