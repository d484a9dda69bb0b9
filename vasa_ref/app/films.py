"""`vasa animate`: one film from its arguments, at once or while the sound arrives."""
import itertools
import json
import os
import signal
import sys
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import VasaError
from ..motion.conditions import CONDITIONS, clip_conditions
from . import live
from .checks import check_device, check_output
from .provenance import bare_notes, heard, what_made

if TYPE_CHECKING:   # heavy, and loaded once the arguments are checked
    from ..talking.offline import Portrait
    from ..talking.talker import Talker

__all__ = ["animate", "talker_for", "make_video", "open_portrait", "prepare"]


def read_curves(path, given):
    """{"gaze": {seconds: value}, ...} of a --curves file; `given` are the options that would contradict it."""
    try:
        written = json.loads(Path(path).read_text(encoding="utf-8-sig"))   # a byte-order mark is no part of it
        curves = {name: {float(t): value for t, value in curve.items()} for name, curve in written.items()}
    except (ValueError, AttributeError, RecursionError):
        raise VasaError(f"--curves {path}: accepted is a JSON object of objects, seconds to values") from None
    if unknown := sorted(set(curves) - set(clip_conditions())):
        raise VasaError(f"--curves {path} has {', '.join(unknown)}: accepted are {', '.join(clip_conditions())}")
    if twice := sorted(set(curves) & given):
        raise VasaError(f"{', '.join(twice)}: either in --curves or as an option of its own, not both")
    for name, curve in curves.items():
        if not curve or len(curve) < len(written[name]):
            raise VasaError(f"--curves {path}: {name} has {'two key frames at one time' if curve else 'no key frames'}")
    return curves


def animate(args: Namespace) -> None:
    """One film, or with --jobs many."""
    if args.jobs:
        from .jobs import make_films
        return make_films(args)
    if args.skip_existing:
        raise VasaError("--skip-existing is for --jobs: without it there is one film")
    prepare(args)
    open_portrait(args)
    talker = talker_for(args)
    (play if args.stream else make_video)(args, talker)


def prepare(args: Namespace) -> None:
    """All checks that need no weights. Into `args` come: wanted (the controls), films (whose motion is taken), target,
    folder (of weights), where (the device), made, pipe (of live sound)."""
    from ..media.files import PICTURES, SOUNDS, VIDEOS, existing_file
    from ..store import weights_folder
    wanted = {name: value for name in clip_conditions() if (value := getattr(args, name)) is not None}
    if args.curves:
        wanted |= read_curves(existing_file(args.curves, "curves", "accepted is a JSON file"), set(wanted))
    if "emotion" not in wanted and args.emotion_strength is not None:
        raise VasaError("--emotion-strength needs an --emotion: " + CONDITIONS["emotion"].accepted)
    for name in wanted:
        if (film := CONDITIONS[name].track) and getattr(args, f"{film}_from"):
            raise VasaError(f"{name} is part of what --{film}-from sets: expected one of them")
    if "-" in (args.audio, args.out) and not args.stream:
        raise VasaError("- stands for standard input and output with --stream only: expected a file")
    if not args.stream and (only := [name for name in ("lookahead", "new_frames") if getattr(args, name) is not None]):
        raise VasaError(f"--{only[0].replace('_', '-')} is for --stream: without it all of the sound is there")
    if args.audio == "-" and sys.stdin is None:
        raise VasaError("standard input is closed: expected 16 bit samples there, raw or as a WAV")
    strength = 1.0 if args.emotion_strength is None else args.emotion_strength
    args.folder = weights_folder(args.weights or args.preset or "laptop")
    files = [(args.portrait, "portrait", PICTURES)] + [(args.audio, "speech", SOUNDS)] * (args.audio != "-")
    films = {"pose": args.pose_from, "dynamics": args.dynamics_from}
    args.films = {part: existing_file(film, "video", VIDEOS) for part, film in films.items() if film}
    inputs = [existing_file(*file) for file in files] + list(args.films.values())
    args.target = "-" if args.out == "-" else check_output(args.out, ".mp4", inputs=inputs)
    args.made = what_made(args, to_file=args.target != "-")
    args.where = check_device(args.device)
    args.pipe = live.Pipe() if args.audio == "-" else None   # listens from here on, while weights are loaded

    from ..motion.network import MotionConfig
    from ..talking.directing import motion_controls
    motion_controls(MotionConfig(), emotion_strength=strength, **wanted)
    wanted |= {name: getattr(args, name) for name in ("steps", "sampler", "temperature", "seed")}
    scales = {"audio": args.cfg_audio, "gaze": args.cfg_gaze}
    wanted |= dict(emotion_strength=strength, cfg_scale={name: x for name, x in scales.items() if x is not None})
    args.wanted = wanted


def talker_for(args: Namespace) -> "Talker":
    """The talker that the arguments ask for."""
    from ..talking.talker import Talker
    talker = Talker.from_pretrained(args.folder, device=args.where)
    live = getattr(args, "stream", False)
    if args.fast or live:
        from ..speed.faster import FastTalker, Tricks
        tricks = (Tricks.live if live else Tricks.best)(args.where)
        talker = FastTalker(talker, tricks if args.fast else replace(tricks, compiled=False, graph=False))   # no wait
        if live and talker.device.type == "cpu":
            import torch
            torch.set_num_threads(1)   # one core makes motion, another the frames
    return talker


def open_portrait(args: Namespace) -> None:
    """The photograph, `args.photo`; VasaError where no face is found."""
    from ..talking.photograph import Photograph
    args.photo = Photograph.open(args.portrait, crop=args.crop, face=args.face)


def with_films(args, talker):
    """The controls, with the motion of the films whose motion is taken."""
    read = {film: talker.read(film) for film in set(args.films.values())}
    return args.wanted | {part: read[film] for part, film in args.films.items()}


def say_notes(args):   # once the film has begun: before that, an error is the one line
    for note in args.photo.notes + bare_notes(args) if not args.quiet else ():
        print(f"vasa: {note}", file=sys.stderr)


def size_of(args, talker):
    """The film's width and height, as words."""
    width, height = args.photo.film_size if args.full else (talker.size, talker.size)
    return f"{width} x {height}"


def make_video(args: Namespace, talker: "Talker", portrait: "Portrait | None" = None) -> None:
    """The whole recording at once; `portrait` where it is encoded already."""
    from tqdm import tqdm
    began, frames, out, wanted = time.perf_counter(), 0, args.target, with_films(args, talker)
    with tqdm(unit=" frames", leave=False, disable=args.quiet or None) as bar:   # None: only where a person looks

        def progress(done, total):
            nonlocal frames
            frames, bar.total = done, total
            bar.update()
            if done == 1:
                say_notes(args)

        portrait, through = portrait or args.photo.encode(talker), {"through": args.photo.paste} if args.full else {}
        talker.animate_to_file(out, portrait, args.audio, progress=progress, codec=args.codec, made=args.made,
                               **through, **wanted)
    took, length = time.perf_counter() - began, frames / 25
    if not args.quiet:
        print(f"{out}: {length:.1f} s of video, {size_of(args, talker)} pixels, made in {took:.1f} s "
              f"(real-time factor {took / length:.2f})")


def play(args, talker):
    """While the sound arrives. An interrupt ends the sound; a second one ends the work."""
    from ..media.clips import MADE, load_audio, save_video
    from ..media.files import ffmpeg_exe
    out, wanted = args.target, with_films(args, talker)
    clock = live.Clock(keep=out != "-")
    if clock.keep:
        ffmpeg_exe()   # or say that there is none, before sound is lost
    if args.pipe:
        def stop(*_):
            args.pipe.stop()
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGINT, stop)
    ahead = {} if args.lookahead is None else {"lookahead": round(args.lookahead / 40)}
    ahead |= {} if args.new_frames is None else {"new_frames": args.new_frames}
    sound = clock.heard(args.pipe or live.in_real_time(load_audio(args.audio)))
    frames = talker.stream(args.photo.encode(talker), sound, **ahead, **wanted)
    frames = clock.shown(args.photo.paste(frames) if args.full else frames)
    if (first := next(frames, None)) is None:
        raise VasaError("no sound came: expected 16 bit samples on standard input, raw or as a WAV")
    say_notes(args)
    frames = args.made.marked(itertools.chain([first], frames))
    try:
        (live.to_pipe(frames) if out == "-" else
         save_video(out, frames, clock.sound, codec=args.codec, comment=MADE,
                    finish=lambda file: heard(args, clock).sign(file, out.name)))
    except BrokenPipeError:   # who watched has gone
        sys.stdout = open(os.devnull, "w")
    if not args.quiet:
        words = f"look-ahead {talker.delay(**ahead):.2f} s, {clock.words()}"
        print(f"{out}: {len(clock.left) / 25:.1f} s of video, {size_of(args, talker)} pixels, {words}",
              file=sys.stderr if out == "-" else sys.stdout)
