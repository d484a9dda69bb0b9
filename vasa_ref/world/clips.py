"""Clips of the world: a person who speaks, sound and pictures, and the truth about both; made from seeds."""
import json

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..clips import CLIP_FILES, Clip, Truth, draw, plan_clip, speak
from ..errors import VasaError
from ..files import existing_file
from ..voice import Speech
from ..weights import save_tensors
from .camera import random_scenes
from .people import People, random_people
from .performer import Motion, perform
from .picture import Figures, make_figures, random_shots, render

MOTION = ("pose", "units", "gaze", "body", "main_gaze", "emotion", "style")


def render_motion(figures: Figures, motion: Motion, size: int, shots: Tensor | None = None, scenes: Tensor | None = None,
                  batch: int = 4, **options) -> Tensor:
    "Frames uint8 (T, size, size, 3) on the CPU of one person in `motion`, `batch` at a time, in one light (1, 10) and scene."
    device = figures.coats.device
    parts = zip(*(getattr(motion, name).to(device).split(batch) for name in ("pose", "units", "gaze", "body")))
    all_of = lambda x, n: None if x is None else x.to(device).expand(n, *x.shape[1:])
    images = torch.cat([(render(figures, *part, all_of(shots, len(part[0])), all_of(scenes, len(part[0])), size=size, **options)
                         * 255).round().byte().cpu() for part in parts])
    return images.permute(0, 2, 3, 1).contiguous()


def make_clip(seed: int, size: int = 256, seconds: float | None = None, held_out: bool = False, language: str | None = None,
              render_frames: bool = True, device="cpu", **options) -> Clip:
    """Clip number `seed` of the world, with its truth: the same on every call.

    size: pixels; seconds: exact length, or None for one whole sentence; held_out: people, voices and sentences never
    used in training; language: a key of `voice.LANGUAGES`, or None to let the seed decide; render_frames False leaves
    `frames` None; device renders; options: of `render`. Stands for the paper's 500 k clips of real video (VASA-1 sec. 4)."""
    plan = plan_clip(seed, held_out, language)
    speech, people = speak(plan, seconds), random_people(1, draw(seed, "person", held_out))
    motion = perform(speech, gaze=plan.gaze, distance=plan.distance, emotion=plan.emotion,
                     emotion_strength=plan.emotion_strength, generator=draw(seed, "performance", held_out))
    frames = None
    if render_frames:
        stage = draw(seed, "stage", held_out)
        shots, scenes = random_shots(1, stage), random_scenes(1, size, stage)
        frames = render_motion(make_figures(people.to(device)), motion, size, shots, scenes, **options)
    return Clip(frames, speech.waveform, truth=Truth(people, motion, speech))


def write_clip(path, clip: Clip, recipe: dict | None = None) -> None:
    "One clip with its truth as a safetensors file; `recipe` (how it was made) is kept as JSON. Atomic."
    people, motion, speech = clip.truth.people, clip.truth.motion, clip.truth.speech
    tensors = {name: getattr(motion, name) for name in MOTION}
    tensors |= {"waveform": clip.waveform, "starts": speech.starts, "ends": speech.ends, "people": people.flat()}
    if clip.frames is not None: tensors["frames"] = clip.frames
    words = {name: getattr(speech, name) for name in ("phonemes", "text", "voice", "language")}
    save_tensors(path, tensors, {"speech": words, "distance": motion.distance, "fps": clip.fps, "recipe": recipe or {}})


def read_clip(path, recipe_only: bool = False):
    "The clip that `write_clip` wrote, or only its recipe; `VasaError` for any other file."
    try:
        with safe_open(existing_file(path, "clip", CLIP_FILES), "pt") as file:
            about = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            if recipe_only: return about["recipe"]
            data = {name: file.get_tensor(name) for name in file.keys()}
        motion = Motion(**{name: data.pop(name) for name in MOTION}, distance=about["distance"])
        speech = Speech(data["waveform"], starts=data["starts"], ends=data["ends"], **about["speech"])
        truth = Truth(People.unflat(data["people"]), motion, speech)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise VasaError(f"cannot read the clip {str(path)!r}: {error}; {CLIP_FILES}") from error
    return Clip(data.get("frames"), data["waveform"], about["fps"], truth)
