"""How generated lips follow recordings of people, speaker by speaker, as a table (and as JSON).

    python tools/natural_lips.py TAPE.safetensors FOLDER_OR_PRESET ... [--clips N] [--json FILE]

TAPE is a file of tools/natural_voices.py, of speakers whom nothing was trained on. The truth is the opening of the
mouth that the performer makes of the recording's alignment, 25 times a second. clips: how many pieces of a speaker, at
most; r: correlation of the generated opening with it, mean of the clips; loudness: that of the sound's loudness alone,
which a mouth that only follows the volume would reach; closed: the opening in frames of m, b and p, as a share of that
in the other frames of speech; performed: the same of the truth; met: closures of the truth at which the mouth shuts.
"""
import argparse
import json
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from vasa_ref.dynamics import from_z_dyn
from vasa_ref.errors import VasaError
from vasa_ref.hearing.features import load_audio_encoder
from vasa_ref.hearing.training import load_speech
from vasa_ref.measure.estimator import correlation, mouth_opening
from vasa_ref.measure.metrics import closures_met
from vasa_ref.motion.latents import recorded_clips
from vasa_ref.motion.network import load_motion
from vasa_ref.talking.offline import SpeechToMotion
from vasa_ref.units import FRAME, PHONEMES
from vasa_ref.world.prosody import loudness
from vasa_ref.world.voice import frame_labels, viseme_of

COLUMNS = "clips", "r", "loudness", "closed", "performed", "met"
SHUT = torch.tensor([viseme_of(phoneme) == "PP" for phoneme in PHONEMES])


def share_closed(opening, labels):
    "The mean opening of frames (T,) labelled m, b or p, as a share of that of other speech."
    shut, open_ = SHUT[labels], ~SHUT[labels] & (labels > 0)
    return (opening[shut].mean() / opening[open_].mean()).item()


def clean_clips(dataset, count):
    "The first `count` pieces as they were recorded: every third of `recorded_clips` hears noise, and is left out."
    for i, clip in enumerate(recorded_clips(dataset)):
        if count == 0: return
        if i % 3 == 2 or not torch.equal(clip.waveform, clip.truth.speech.waveform): continue
        count -= 1
        yield clip


def figures(maker, dataset, count):
    "The figures of COLUMNS for one speaker's dataset."
    rows, made, performed, labels, met = [], [], [], [], []
    for seed, clip in enumerate(tqdm(clean_clips(dataset, count), "clips", total=count, leave=False)):
        motion = maker.motion(clip.waveform, seed=seed)
        opening = mouth_opening(from_z_dyn(motion[:, 6:]).units)
        truth = mouth_opening(clip.truth.motion.units)[:len(opening)]
        loud = loudness(clip.waveform, len(opening))
        rows.append([correlation(opening, truth), correlation(loud, truth)])
        met += closures_met(clip.truth.motion.units, opening)
        made.append(opening), performed.append(truth)
        labels.append(frame_labels(clip.truth.speech, hop=FRAME)[:len(opening)])
    made, performed, labels = map(torch.cat, (made, performed, labels))
    r, loud = torch.tensor(rows).nanmean(0).tolist()
    return dict(zip(COLUMNS, (len(rows), r, loud, share_closed(made, labels), share_closed(performed, labels),
                              sum(met) / max(1, len(met)))))


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tape")
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(args)
    dataset, told = load_speech(args.tape), []
    print("| speaker | weights | " + " | ".join(COLUMNS) + " |\n" + "|---" * (2 + len(COLUMNS)) + "|")
    for name in args.weights:
        maker = SpeechToMotion(load_audio_encoder(name), load_motion(name))
        for speaker in dataset.speakers or ["all"]:
            row = figures(maker, dataset.speaker(speaker) if dataset.speakers else dataset, args.clips)
            told.append({"speaker": speaker, "weights": name} | row)
            cells = [f"{row['clips']}"] + [f"{row[column]:.2f}" for column in COLUMNS[1:]]
            print(f"| {speaker} | {name} | " + " | ".join(cells) + " |", flush=True)
    if args.json: args.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except VasaError as error:
        sys.exit(f"error: {error}")
