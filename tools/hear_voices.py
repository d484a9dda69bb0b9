"""What trained recognisers hear in labelled recordings, speaker by speaker, as a table.

    python tools/hear_voices.py TAPE.safetensors FOLDER_OR_PRESET ... [--ahead STATES ...]

TAPE is a file of tools/natural_voices.py, of speakers that no recogniser was trained on. Shares of its 20 ms frames:
right: the phoneme; in speech: the same where somebody speaks; viseme: the mouth shape where somebody speaks;
closed: of the frames of m, b, p, those heard as m, b or p; truly closed: of the frames so heard, those that are;
silence: of the silent frames, those heard so. A dash stands where there are no such frames. ahead: how many states of
20 ms the encoder may look ahead, for each number a row of its own; without it as far as the weights do.
"""
import argparse
import sys

import torch

from vasa_ref.errors import VasaError
from vasa_ref.hearing.features import audio_features, load_recogniser
from vasa_ref.hearing.moonshine import looking_ahead
from vasa_ref.hearing.training import UNKNOWN, load_speech
from vasa_ref.world.voice import PHONEMES, VISEMES, viseme_of

VISEME = torch.tensor([list(VISEMES).index(viseme_of(phoneme)) for phoneme in PHONEMES])
CLOSED = list(VISEMES).index("PP")
COLUMNS = ("right", "in speech", "viseme", "closed", "truly closed", "silence")


def figures(heard, truth):
    "The shares of COLUMNS, nan where there is nothing to share, of heard and true phonemes (T,)."
    heard, truth = heard[truth != UNKNOWN], truth[truth != UNKNOWN]
    viseme, true = VISEME[heard], VISEME[truth]
    speech, right = truth > 0, heard == truth
    share = lambda what, among: what[among].float().mean().item()
    return (right.float().mean().item(), share(right, speech), share(viseme == true, speech),
            share(viseme == CLOSED, true == CLOSED), share(true == CLOSED, viseme == CLOSED),
            share(heard == 0, ~speech))


def hear(recogniser, dataset):
    "Heard and true phonemes (T,) of a dataset's 20 ms frames."
    scores = recogniser.phonemes(audio_features(recogniser.encoder, dataset.waveform.float() / 32767, rate=50))
    truth = dataset.labels.long()[2::4]                                       # each 5 ms -> the middle of each 20 ms
    return scores.argmax(-1)[:len(truth)], truth


def with_lookaheads(names, ahead):
    "{name: recogniser} of weights; with `ahead`, one for each look-ahead."
    for name in names:
        if not ahead: yield name, load_recogniser(name)
        for states in ahead:
            recogniser = load_recogniser(name)
            recogniser.encoder = looking_ahead(recogniser.encoder, states)
            yield f"{name}, {states} ahead", recogniser


def table(dataset, recognisers):
    "Lines of Markdown: each speaker of the dataset, and all of them, as each of {name: recogniser} hears them."
    lines = ["| speaker | seconds | weights | " + " | ".join(COLUMNS) + " |", "|---" * (3 + len(COLUMNS)) + "|"]
    for speaker in [*dataset.speakers, None]:
        part = dataset.speaker(speaker) if speaker else dataset
        for name, recogniser in recognisers.items():
            cells = ["-" if x != x else f"{x:.2f}" for x in figures(*hear(recogniser, part))]
            seconds = len(part.waveform) / 16000
            lines.append(f"| {speaker or 'all'} | {seconds:.0f} | {name} | " + " | ".join(cells) + " |")
    return lines


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--ahead", type=int, nargs="+", default=[], metavar="STATES")
    args = parser.parse_args(args)
    print("\n".join(table(load_speech(args.dataset), dict(with_lookaheads(args.weights, args.ahead)))))


if __name__ == "__main__":
    try:
        main()
    except VasaError as error:
        sys.exit(f"error: {error}")
