"""The training set of the audio encoder: many short utterances on one long tape, with labels, made on the spot."""
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from tqdm import tqdm

from .performer import fundamental, loudness
from .training import within
from .voice import EMOTIONS, LANGUAGES, VOICES, Voice, frame_labels, random_text, resample, say

__all__ = ["FRAME", "STEP", "Tape", "make_tape"]

FRAME, STEP = 640, 80   # samples per frame of video, and per phoneme label on the tape
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
    `PHONEMES`, prosody float16 (3, M / 640): loudness in units of 20 dB below full scale (-3 to 0), pitch in octaves
    above 150 Hz (0 where unvoiced), and 1 where voiced."""
    waveform: torch.Tensor
    labels: torch.Tensor
    prosody: torch.Tensor

    def crops(self, starts, length):
        "Pieces (B, length) of the waveform, float in [-1, 1], from the sample positions `starts` (B,) on."
        return torch.stack([self.waveform[s:s + length] for s in starts.tolist()]).float() / 32767


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
    frames = -(-len(speech.waveform) // FRAME) + int(uniform(0, 15))
    waveform = F.pad(speech.waveform, (0, frames * FRAME - len(speech.waveform)))
    labels, pitch = frame_labels(speech, hop=STEP), fundamental(waveform, frames)
    labels = F.pad(labels, (0, frames * FRAME // STEP - len(labels)))   # 0 is silence
    octaves = torch.where(pitch > 0, (pitch.clamp(min=1) / 150).log2(), torch.zeros(()))
    prosody = torch.stack([loudness(waveform, frames).clamp(min=1e-3).log10(), octaves, (pitch > 0).float()])
    return Tape((waveform * 32767).to(torch.int16), labels.to(torch.uint8), prosody.half())


def stretch(speech, up, down):
    "The speech made up / down times as long by resampling."
    waveform, starts = resample(speech.waveform, down, up).clamp(-1, 1), speech.starts * up // down
    ends = torch.cat([starts[1:], torch.tensor([len(waveform)])])
    return replace(speech, waveform=waveform, starts=starts, ends=ends)


def make_tape(n, seed=0, held_out=False, minutes=None, workers=None, quiet=False):
    """A Tape of `n` random utterances, or those spoken within `minutes`, in parallel processes; a seed gives the same tape."""
    seeds = torch.randint(2 ** 62, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:   # each `say` starts a process of its own
        coming = tqdm(pool.map(lambda s: utterance(s, held_out), seeds), total=n, desc="speaking", disable=quiet)
        spoken = list(within(coming, minutes))
        pool.shutdown(wait=False, cancel_futures=True)
    return Tape(torch.cat([u.waveform for u in spoken]), torch.cat([u.labels for u in spoken]),
                torch.cat([u.prosody for u in spoken], 1))
