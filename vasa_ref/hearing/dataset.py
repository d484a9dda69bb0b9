"""The training set of the audio encoder: many short utterances on one long tape, with labels."""
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..errors import VasaError
from ..store import read_tensors, save_tensors
from ..training import within
from ..units import EMOTIONS, FRAME, SAMPLE_RATE
from ..world.prosody import fundamental, loudness
from ..world.voice import (LANGUAGES, PHONEMES, VOICES, Speech, Voice, frame_labels, random_text, resample,
                           say)

__all__ = ["STEP", "UNKNOWN", "Tape", "join_tapes", "labelled", "load_tape", "make_tape", "save_tape", "speech_of",
           "utterances"]

STEP = 80       # samples per phoneme label on the tape
UNKNOWN = 255   # the label of sound whose phoneme nobody vouches for
SAME_SCRIPT = ("de", "en", "es", "id", "it", "sw")
# Further voices of espeak-ng, for training only, besides those of `VOICES` that are not held out.
VARIANTS = """
    adam Alex Andrea Andy Denis Gene Gene2 Henrique Hugo Jacky Lee Mario Michael Mike Nguyen Reed RicishayMax
    Storm Tweaky anika aunty benjamin boris caleb david ed edward grandma grandpa gustave ian iven iven2 iven3
    john kaukovalta klatt klatt2 klatt3 klatt4 max michel miguel norbert pablo paul pedro quincy rob robert
    sandro victor zac m5 whisper
""".split()


@dataclass
class Tape:
    """Utterances one after another, M samples at 16 kHz: waveform int16 (M,), labels uint8 (M / 80,) indices into
    `PHONEMES` or UNKNOWN, prosody float16 (3, M / 640): loudness in units of 20 dB below full scale (-3 to 0), pitch in
    octaves above 150 Hz (0 where unvoiced), and 1 where voiced. `speakers`: name -> its first sample, and the one after
    its last; empty where nobody asks."""
    waveform: torch.Tensor
    labels: torch.Tensor
    prosody: torch.Tensor
    speakers: dict = field(default_factory=dict)

    def crops(self, starts, length):
        "Pieces (B, length) of the waveform, float in [-1, 1], from the sample positions `starts` (B,) on."
        return torch.stack([self.waveform[s:s + length] for s in starts.tolist()]).float() / 32767

    def starts(self, rows, length, generator):
        """(rows,) random positions from which `length` samples lie on the tape, whole STEPs.

        Speakers are drawn by the root of how long they speak; at the end of one, the next may come in."""
        spans = torch.tensor(list(self.speakers.values()) or [(0, len(self.waveform))])
        room = (spans[:, 1].clamp(max=len(self.waveform) - length) - spans[:, 0]).clamp(min=0)
        who = torch.multinomial(room.double().sqrt(), rows, replacement=True, generator=generator)
        return (spans[who, 0] + (torch.rand(rows, generator=generator) * room[who]).long()) // STEP * STEP

    def draw(self, rows, length, centres, generator, rates=(20,)):
        """Random crops: speech (rows, length), and at the sample positions `centres` (T,) in them labels (rows, T) and
        prosody (rows, 3, T). Each takes a twentieth of one of the `rates` as long as it did, and is so much lower."""
        crops = []
        for rate in [rates[k] for k in torch.randint(len(rates), (rows,), generator=generator)]:
            needed = -(-length * 20 // rate)
            start = self.starts(1, needed, generator)
            speech, at = self.crops(start, needed)[0], start + centres * 20 // rate
            if rate != 20:
                speech = resample(speech, 20, rate, zeros=12)[:length]
            loud, octaves, voiced = self.prosody[:, at // FRAME].float()
            lower = voiced * (octaves - math.log2(rate / 20))
            crops.append((speech, self.labels[at // STEP].long(), torch.stack([loud, lower, voiced])))
        return [torch.stack(parts) for parts in zip(*crops)]

    def speaker(self, name):
        "The part of the tape on which the speaker called `name` speaks."
        start, stop = self.speakers[name]
        return Tape(self.waveform[start:stop], self.labels[start // STEP:stop // STEP],
                    self.prosody[:, start // FRAME:stop // FRAME])


def utterance(seed, held_out=False):
    """One random utterance and a pause of up to 0.6 s, as a short Tape.

    Half of the texts get their words shuffled, and some of those are read by the rules of another language, so that the
    encoder learns sounds and not sentences. Three voices in four are from `VARIANTS`, and half of all utterances are
    stretched by up to 15 %, pitch and formants with them, as if the throat were shorter or longer (vocal tract length
    perturbation, Jaitly and Hinton 2013). `held_out`: voices, words and sentences that never occur without it.
    """
    generator = torch.Generator().manual_seed(seed)
    pick = lambda options: options[int(torch.randint(len(options), (), generator=generator))]
    uniform = lambda a, b: a + (b - a) * float(torch.rand((), generator=generator))
    language = "en" if uniform(0, 1) < 0.3 else pick(sorted(LANGUAGES))
    text, words = random_text(generator, language, held_out), uniform(0, 1)
    if words < 0.5 and not held_out:
        text = " ".join(sorted(text.split(), key=lambda word: uniform(0, 1)))
        if words < 0.2 and text.isascii():
            language = pick(SAME_SCRIPT)
    voice = pick([name for name, voice in VOICES.items() if voice.held_out == held_out])
    if not held_out and uniform(0, 1) < 0.75:
        voice = Voice(pick(VARIANTS))
    emotion = pick(EMOTIONS) if uniform(0, 1) < 0.5 else "neutral"
    speech = say(text, voice=voice, language=language, rate=uniform(120, 240), pitch=uniform(25, 75), emotion=emotion)
    if not held_out and uniform(0, 1) < 0.5:
        speech = stretch(speech, pick(range(17, 24)), 20)
    return labelled(speech.waveform, frame_labels(speech, hop=STEP), pause=int(uniform(0, 15)))


def labelled(waveform, labels, pause=5):
    "A Tape of one waveform (N,) in [-1, 1] with labels (ceil(N / 80),), and `pause` frames of silence behind it."
    frames = -(-len(waveform) // FRAME) + pause
    waveform = F.pad(waveform, (0, frames * FRAME - len(waveform)))
    labels = F.pad(labels, (0, frames * FRAME // STEP - len(labels)))   # 0 is silence
    pitch = fundamental(waveform, frames)
    octaves = torch.where(pitch > 0, (pitch.clamp(min=1) / 150).log2(), torch.zeros(()))
    prosody = torch.stack([loudness(waveform, frames).clamp(min=1e-3).log10(), octaves, (pitch > 0).float()])
    return Tape((waveform * 32767).to(torch.int16), labels.to(torch.uint8), prosody.half())


def stretch(speech, up, down):
    "The speech made up / down times as long by resampling."
    waveform, starts = resample(speech.waveform, down, up).clamp(-1, 1), speech.starts * up // down
    ends = torch.cat([starts[1:], torch.tensor([len(waveform)])])
    return replace(speech, waveform=waveform, starts=starts, ends=ends)


def make_tape(n, seed=0, held_out=False, minutes=None, workers=None, quiet=False):
    "A Tape of `n` random utterances, or those spoken within `minutes`, in parallel; a seed gives the same tape."
    seeds = torch.randint(2 ** 62, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:   # each `say` starts a process of its own
        coming = tqdm(pool.map(lambda s: utterance(s, held_out), seeds), total=n, desc="speaking", disable=quiet)
        spoken = list(within(coming, minutes))
        pool.shutdown(wait=False, cancel_futures=True)
    return replace(join_tapes({"": spoken}), speakers={})


def join_tapes(spoken):
    "One Tape of {speaker: [Tape, ...]}, speaker after speaker."
    tapes, speakers, start = [tape for one in spoken.values() for tape in one], {}, 0
    for name, one in spoken.items():
        speakers[name] = (start, start := start + sum(len(tape.waveform) for tape in one))
    return Tape(torch.cat([tape.waveform for tape in tapes]), torch.cat([tape.labels for tape in tapes]),
                torch.cat([tape.prosody for tape in tapes], 1), speakers)


def save_tape(path, tape):
    "Write a Tape to a safetensors file."
    tensors = {"waveform": tape.waveform, "labels": tape.labels, "prosody": tape.prosody}
    save_tensors(path, tensors, {"speakers": tape.speakers, "phonemes": PHONEMES})


def load_tape(path):
    "The Tape of a file of `save_tape`. Raises VasaError for any other file, and for one with other phoneme classes."
    tensors, metadata = read_tensors(path)
    if tensors.keys() != {"waveform", "labels", "prosody"} or "speakers" not in metadata:
        raise VasaError(f"{path} is no labelled speech: expected a file that tools/natural_voices.py wrote")
    if tuple(metadata["phonemes"]) != PHONEMES:
        raise VasaError(f"{path} was labelled with other phoneme classes: make it anew")
    return Tape(**tensors, speakers={name: tuple(span) for name, span in metadata["speakers"].items()})


def speech_of(tape, first, last):
    """The sound of a tape from label `first` to `last` as a `Speech`, which `perform` can speak.

    What nobody vouches for goes to the sound before it."""
    labels = tape.labels[first:last].long()
    known = torch.where(labels == UNKNOWN, 0, torch.arange(len(labels))).cummax(0).values
    labels = torch.where(labels[known] == UNKNOWN, 0, labels[known])
    cuts = torch.cat([torch.tensor([0]), labels.diff().nonzero()[:, 0] + 1, torch.tensor([len(labels)])]) * STEP
    waveform = tape.waveform[first * STEP:last * STEP].float() / 32767
    return Speech(waveform, [PHONEMES[i] for i in labels[cuts[:-1] // STEP]], cuts[:-1], cuts[1:])


def utterances(tape, least=1.5, most=8.0, pause=0.3, sure=0.8):
    """(first, last) label of the pieces of a tape that stand between pauses of `pause` seconds or more, from `least` to
    `most` seconds long, of which at least the share `sure` has a known phoneme."""
    per_second = SAMPLE_RATE // STEP
    silent, edges = tape.labels == 0, [0]
    changes = torch.cat([torch.tensor([0]), silent.int().diff().nonzero()[:, 0] + 1, torch.tensor([len(silent)])])
    for first, last in zip(changes[:-1].tolist(), changes[1:].tolist()):
        if silent[first] and last - first >= pause * per_second: edges.append((first + last) // 2)
    edges.append(len(silent))
    whole = lambda a, b: least * per_second <= b - a <= most * per_second
    known = lambda a, b: (tape.labels[a:b] != UNKNOWN).float().mean() >= sure
    frame = FRAME // STEP
    return [(a // frame * frame, b // frame * frame) for a, b in zip(edges[:-1], edges[1:])
            if whole(a, b) and known(a, b)]
