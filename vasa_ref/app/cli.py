"""The command line: `vasa`, or `python -m vasa_ref`.

Checks go from cheap to dear: arguments, then files, then work. What a user did wrong is one line on stderr and exit
code 2; an output file appears only when it is complete. Heavy imports wait until a command needs them.
"""
import importlib
import io
import itertools
import json
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from ..app import live
from ..app.provenance import BARE, UNMARKED, heard, inspect, say_bare, what_made, world_made
from ..errors import VasaError
from ..motion.conditions import CONDITIONS, DEFAULT_SCALE, clip_conditions
from .arguments import make_parser

__all__ = ["main", "make_parser"]

TRAINERS = {   # part: module, function, where an earlier call left something to resume; face has one for each stage
    "audio": ("hearing.training", "train_audio", "audio/checkpoint.safetensors"),
    "face": ("face.training", "train_face", "face-*/checkpoint.safetensors"),
    "motion": ("motion.training", "train_motion", "motion/checkpoint.safetensors"),
    "metrics": ("measure.estimator", "train_metrics", "metrics/checkpoint.safetensors"),
    "sync": ("measure.lipsync", "train_sync", "sync/checkpoint.safetensors")}
SHARES = {"audio": 0.15, "face": 0.45, "motion": 0.25, "metrics": 0.1, "sync": 0.05}   # of `vasa train all`'s minutes


def check_output(path, *suffixes, inputs=()):
    """`path` if it can become an output file: known ending, existing folder, not read-only, none of the inputs."""
    from ..store import output_target
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise VasaError(f"output {path} should end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise VasaError(f"output {path} is a folder: expected a file name")
    if not (folder := output_target(path).parent).is_dir():
        missing = folder if path.is_symlink() else path.parent
        raise VasaError(f"no folder {missing} for the output {path.name}: make it first")
    if not os.access(folder, os.W_OK):
        raise VasaError(f"no permission to write into {folder}")
    if path.exists() and any(path.samefile(other) for other in inputs):
        raise VasaError(f"output {path} is also an input: choose another name")
    return path


def check_device(name):
    """A torch device that works here."""
    import torch
    there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name not in there and not (name == "cuda" and "cuda:0" in there):
        raise VasaError(f"device {name!r} is not on this machine: accepted are {', '.join(there)}")
    return torch.device(name)


def write_json(path, figures):
    from ..store import atomic_path
    with atomic_path(path) as beside:
        beside.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")


def print_table(figures):
    for key, value in figures.items():
        print(f"{key:<{max(map(len, figures))}}  {f'{value:.4g}' if isinstance(value, float) else value}")


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


def animate(args):
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
    if args.lookahead is not None and not args.stream:
        raise VasaError("--lookahead is for --stream: without it all of the sound is there")
    if args.audio == "-" and sys.stdin is None:
        raise VasaError("standard input is closed: expected 16 bit samples there, raw or as a WAV")
    strength = 1.0 if args.emotion_strength is None else args.emotion_strength
    folder = weights_folder(args.weights or args.preset or "laptop")
    files = [(args.portrait, "portrait", PICTURES)] + [(args.audio, "speech", SOUNDS)] * (args.audio != "-")
    films = {"pose": args.pose_from, "dynamics": args.dynamics_from}
    films = {part: existing_file(film, "video", VIDEOS) for part, film in films.items() if film}
    inputs = [existing_file(*file) for file in files] + list(films.values())
    out = "-" if args.out == "-" else check_output(args.out, ".mp4", inputs=inputs)
    args.made = what_made(args, to_file=out != "-")
    device = check_device(args.device)
    args.pipe = live.Pipe() if args.audio == "-" else None   # listens from here on, while weights are loaded

    from ..motion.network import MotionConfig
    from ..talking.directing import motion_controls
    motion_controls(MotionConfig(), emotion_strength=strength, **wanted)
    from ..talking.photograph import Photograph
    args.photo = Photograph.open(args.portrait, crop=args.crop, face=args.face)
    from ..talking.talker import Talker
    talker = Talker.from_pretrained(folder, device=device)
    if args.fast:
        from ..speed.faster import FastTalker, Tricks
        talker = FastTalker(talker, Tricks.best(device))
    read = {film: talker.read(film) for film in set(films.values())}
    wanted |= {part: read[film] for part, film in films.items()}
    wanted |= {name: getattr(args, name) for name in ("steps", "sampler", "temperature", "seed")}
    wanted |= dict(emotion_strength=strength, cfg_scale=DEFAULT_SCALE | dict(audio=args.cfg_audio, gaze=args.cfg_gaze))
    (play if args.stream else make_video)(args, talker, out, wanted)


def say_notes(args):   # once the film has begun: before that, an error is the one line
    bare = [f"the film {BARE}"] * (not args.credentials) + [UNMARKED] * (not args.watermark)
    for note in args.photo.notes + bare if not args.quiet else ():
        print(f"vasa: {note}", file=sys.stderr)


def size_of(args, talker):
    """The film's width and height, as words."""
    width, height = args.photo.film_size if args.full else (talker.size, talker.size)
    return f"{width} x {height}"


def make_video(args, talker, out, wanted):
    """The whole recording at once."""
    from tqdm import tqdm
    began, frames = time.perf_counter(), 0
    with tqdm(unit=" frames", leave=False, disable=args.quiet or None) as bar:   # None: only where a person looks

        def progress(done, total):
            nonlocal frames
            frames, bar.total = done, total
            bar.update()
            if done == 1:
                say_notes(args)

        portrait, through = args.photo.encode(talker), {"through": args.photo.paste} if args.full else {}
        talker.animate_to_file(out, portrait, args.audio, progress=progress, codec=args.codec, made=args.made,
                               **through, **wanted)
    took, length = time.perf_counter() - began, frames / 25
    if not args.quiet:
        print(f"{out}: {length:.1f} s of video, {size_of(args, talker)} pixels, made in {took:.1f} s "
              f"(real-time factor {took / length:.2f})")


def play(args, talker, out, wanted):
    """While the sound arrives. An interrupt ends the sound; a second one ends the work."""
    from ..media.clips import MADE, load_audio, save_video
    from ..media.files import ffmpeg_exe
    clock = live.Clock(keep=out != "-")
    if clock.keep:
        ffmpeg_exe()   # or say that there is none, before sound is lost
    if args.pipe:
        def stop(*_):
            args.pipe.stop()
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGINT, stop)
    ahead = {} if args.lookahead is None else {"lookahead": round(args.lookahead / 40)}
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


def adapt(args):
    from ..media.files import PICTURES, existing_file
    from ..store import weights_folder
    folder, device = weights_folder(args.weights or args.preset or "laptop"), check_device(args.device)
    from ..talking import adapt as chapter
    notes = chapter.adapt(existing_file(args.portrait, "portrait", PICTURES), args.out, weights=folder, device=device,
                          minutes=args.minutes, crop=args.crop, face=args.face, seed=args.seed, quiet=args.quiet)
    if not args.quiet:
        sys.stderr.writelines(f"vasa: {note}\n" for note in notes)
        print(f"{args.out}: weights for this one portrait; "
              f"vasa animate {args.portrait} SPEECH -o OUT.mp4 --weights {args.out}")


def portrait(args):
    out, device = check_output(args.out, ".png", ".jpg", ".jpeg"), check_device(args.device)
    made = world_made(args)
    from PIL import Image
    from ..store import atomic_path
    from ..world.people import person
    from ..world.picture import portraits
    somebody = person(args.seed, args.age, args.sex, args.origin, args.look).to(device)
    pixels = (portraits(somebody, args.size, smile=0.15)[0].cpu().permute(1, 2, 0) * 255).round().byte().numpy()
    with atomic_path(out) as beside:
        Image.fromarray(pixels).save(beside)
        made.sign(beside, out.name)
    say_bare(args)
    if not args.quiet:
        print(f"{out}: person {args.seed}, {args.size} x {args.size} pixels")


def say(args):
    out = check_output(args.out, ".wav", ".flac")
    from ..store import atomic_path
    from ..world import voice
    chosen = {} if args.voice is None else {"voice": args.voice}
    speech = voice.say(args.text, language=args.language, **chosen)
    import soundfile
    encoded = io.BytesIO()   # in memory, because soundfile does not say why a disk refuses
    soundfile.write(encoded, speech.waveform.numpy(), voice.SAMPLE_RATE, subtype="PCM_16", format=out.suffix[1:])
    with atomic_path(out) as beside:
        beside.write_bytes(encoded.getvalue())
    if not args.quiet:
        seconds = len(speech.waveform) / voice.SAMPLE_RATE
        print(f"{out}: {seconds:.1f} s, voice {speech.voice}, language {speech.language}")


def preset_of(args):
    """The preset of a training: the one asked for, the one of the folder to resume, or laptop."""
    if not args.resume:
        return args.preset or "laptop"
    if not Path(args.resume).is_dir():
        raise VasaError(f"cannot resume: no folder {args.resume}, expected one that `vasa train` wrote")
    if not (preset := args.preset or told_preset(args.resume)):
        raise VasaError(f"{args.resume} does not tell its preset: say --preset")
    return preset


def told_preset(folder):
    """The preset that an earlier training left word of in `folder`; None if there is no word."""
    record = Path(folder) / "training.json"
    try:
        return json.loads(record.read_text())["preset"] if record.is_file() else None
    except (ValueError, KeyError, TypeError):
        raise VasaError(f"{record} is damaged: remove it, and say --preset") from None


def train(args):
    preset, device = preset_of(args), check_device(args.device)
    out = Path(args.out or args.resume or f"runs/{preset}")
    parts = list(TRAINERS) if args.part == "all" else [args.part]
    if args.vgg19 and "face" not in parts:
        raise VasaError(f"--vgg19 is for the training of the face, not of {args.part}: expected vasa train face or all")
    if args.vgg19 and preset != "paper":
        raise VasaError(f"--vgg19 is of no use to the preset {preset}, which copies detail: expected --preset paper")
    if args.vgg19 and not Path(args.vgg19).is_file():
        raise VasaError(f"no file at {args.vgg19}: expected VGG19's weights as safetensors")
    if args.audio and args.part != "motion":
        raise VasaError(f"--audio is what motion learns from, not {args.part}: expected vasa train motion")
    if args.voices and not {"audio", "motion"} & set(parts):
        raise VasaError(f"--voices is for audio and motion, not for {args.part}: expected vasa train audio or motion")
    if args.voices and not Path(args.voices).is_file():
        raise VasaError(f"no file at {args.voices}: expected labelled speech that tools/natural_voices.py wrote")
    for folder in {str(out), str(args.resume or out)}:
        if (before := told_preset(folder)) not in (None, preset):
            raise VasaError(f"{folder} was trained with --preset {before}, not {preset}: one folder, one preset")
    begun = lambda part: (out / f"{part}.safetensors").is_file() or any(out.glob(TRAINERS[part][2]))
    if (not args.resume or Path(args.resume) != out) and (there := [part for part in parts if begun(part)]):
        raise VasaError(f"{out} holds trained weights ({', '.join(there)}): go on with --resume {out}, "
                        "or give another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "training.json", {"preset": preset})
    began = time.monotonic()
    for i, part in enumerate(parts):
        left = args.minutes - (time.monotonic() - began) / 60   # what one part did not need, the next ones share
        minutes = max(left, 0.0) * SHARES[part] / sum(SHARES[p] for p in parts[i:])
        module, function, checkpoint = TRAINERS[part]
        resume = args.resume
        if resume and args.part == "all" and not any(Path(resume).glob(checkpoint)):
            resume = None   # an earlier `train all` had not come to this part
        if not args.quiet:
            origin = f"resumed from {resume}" if resume else "from the start"
            print(f"{part}: {minutes:.1f} minutes, {origin}", flush=True)
        trainer = getattr(importlib.import_module(f"vasa_ref.{module}"), function)
        asked = {"face": {"vgg19": args.vgg19}, "motion": {"audio": args.audio, "voices": args.voices},
                 "audio": {"voices": args.voices}}
        extra = {name: value for name, value in asked.get(part, {}).items() if value}
        same = {"out": out, "device": device, "seed": args.seed, "quiet": args.quiet}
        trainer(preset, minutes=minutes, resume=resume, **same, **extra)
    if not args.quiet:
        print(f"{out}: weights of {', '.join(parts)} after {(time.monotonic() - began) / 60:.1f} minutes")


def bench(args):
    from ..store import weights_folder
    folder = weights_folder(args.weights or args.preset or "laptop")
    out = args.json and check_output(args.json, ".json")
    device = check_device(args.device)
    from ..measure import metrics
    report(metrics.bench(folder, quick=args.quick, seed=args.seed, quiet=args.quiet, device=device), out, args.quiet)


def tables(args):
    from ..store import weights_folder
    folder = weights_folder(args.weights or args.preset or "laptop")
    out = args.json and check_output(args.json, ".json")
    device = check_device(args.device)
    from ..measure import tables as paper
    measured = paper.paper_tables(folder, quick=args.quick, seed=args.seed, quiet=args.quiet, device=device)
    report(measured, out, args.quiet, show=lambda figures: print(paper.as_text(figures)))


def latency(args):
    out = args.json and check_output(args.json, ".json")
    device = check_device(args.device)
    from ..speed import latency as measure
    report(measure.latency(args.preset, device, tricks=args.tricks), out, args.quiet)


def report(figures, out, quiet, show=print_table):
    """Print figures, and write them to `out` if there is one."""
    if not quiet:
        show(figures)
    if out:
        write_json(out, figures)


COMMANDS = {run.__name__: run for run in (animate, adapt, portrait, say, inspect, train, bench, tables, latency)}


@contextmanager
def ended_in_order():
    """Inside the block, a signal that ends the process (SIGTERM, SIGHUP) leaves as an exception does, so that nothing
    temporary stays; the exit code is 128 and its number."""
    def stop(number, frame):
        for other in before:
            signal.signal(other, signal.SIG_IGN)   # one is enough
        raise SystemExit(128 + number)
    here = threading.current_thread() is threading.main_thread()   # no other may listen
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if here and hasattr(signal, name)]
    before = {number: signal.SIG_DFL for number in numbers if signal.getsignal(number) == signal.SIG_DFL}  # not nohup's
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv=None):
    """Run one command; the exit code is 0, or 2 with one line on stderr."""
    for stream in filter(None, (sys.stdout, sys.stderr)):   # a terminal may lack the letters of a file's name
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    args = make_parser().parse_args(argv)
    try:
        with ended_in_order():
            COMMANDS[args.command](args)
    except (VasaError, OSError, FloatingPointError, MemoryError) as error:
        print(f"vasa: {explain(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":   # torch's, of an accelerator: torch is not imported here
            raise
        print("vasa: not enough memory on the device", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vasa: interrupted", file=sys.stderr)
        return 130
    return 0


def explain(error):
    """An exception as one line."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())
