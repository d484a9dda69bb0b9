"""The command line: `vasa`, or `python -m vasa_ref`.

Checks go from cheap to dear: arguments, then files, then work. What a user did wrong is one line on stderr and exit
code 2; an output file appears only when it is complete. Heavy imports wait until a command needs them.
"""
import importlib
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

from ..errors import VasaError
from .arguments import make_parser
from .checks import check_device, check_output, write_json
from .detection import detect
from .films import animate
from .provenance import inspect, say_bare, world_made

__all__ = ["main", "make_parser"]

TRAINERS = {   # part: module, function, where an earlier call left something to resume; face has one for each stage
    "audio": ("hearing.training", "train_audio", "audio/checkpoint.safetensors"),
    "face": ("face.training", "train_face", "face-*/checkpoint.safetensors"),
    "motion": ("motion.training", "train_motion", "motion/checkpoint.safetensors"),
    "quick": ("motion.distillation", "distil_motion", "quick/checkpoint.safetensors"),
    "metrics": ("measure.estimator", "train_metrics", "metrics/checkpoint.safetensors"),
    "sync": ("measure.lipsync", "train_sync", "sync/checkpoint.safetensors"),
    "frame-judges": ("measure.frame_judges", "train_frame_judges", "frame-judges/checkpoint.safetensors")}
SHARES = {"audio": 0.15, "face": 0.4, "motion": 0.2, "quick": 0.05, "metrics": 0.1, "sync": 0.05,
          "frame-judges": 0.05}   # of `train all`


def print_table(figures):
    for key, value in figures.items():
        print(f"{key:<{max(map(len, figures))}}  {f'{value:.4g}' if isinstance(value, float) else value}")


def adapt(args):
    from ..media.files import PICTURES, existing_file
    from ..store import weights_folder
    args.out = os.path.expanduser(args.out)
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


def clips(args):
    from ..store import weights_folder
    if args.size % 2:
        raise VasaError(f"--size {args.size} is odd: films have even sizes")
    weights, device = str(weights_folder(args.weights or args.preset or "laptop")), check_device(args.device)
    from ..footage import clips as chapter
    pages = chapter.make_clips(args.folder, args.out, size=args.size, weights=weights, device=device, quiet=args.quiet)
    for page in filter(lambda page: "problem" in page, pages):
        print(f"vasa: {page['film']}: {page['problem']}", file=sys.stderr)
    if not args.quiet:
        seconds = sum(page.get("clip_seconds", 0) for page in pages)
        print(f"{args.out}: {sum(len(page['clips']) for page in pages)} clips, {seconds / 60:.1f} of "
              f"{sum(page.get('seconds', 0) for page in pages) / 60:.1f} minutes, from {len(pages)} films")
        print(*(f"lost: {line}" for line in chapter.lost_of(pages)), sep="\n")


def preset_of(args):
    """The preset of a training: the one asked for, the one of the folder to resume, or laptop."""
    if not args.resume:
        return args.preset or "laptop"
    if not Path(args.resume).is_dir():
        raise VasaError(f"cannot resume: no folder {args.resume}, expected one that `vasa train` wrote")
    if not (preset := args.preset or recorded_preset(args.resume)):
        raise VasaError(f"{args.resume} does not tell its preset: say --preset")
    return preset


def recorded_preset(folder):
    """The preset that an earlier training left word of in `folder`; None if there is no word."""
    record = Path(folder) / "training.json"
    try:
        return json.loads(record.read_text())["preset"] if record.is_file() else None
    except (ValueError, KeyError, TypeError):
        raise VasaError(f"{record} is damaged: remove it, and say --preset") from None


def train(args):
    args.out, args.resume = (folder and os.path.expanduser(folder) for folder in (args.out, args.resume))
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
    if args.voices and not {"audio", "motion", "quick"} & set(parts):
        raise VasaError(f"--voices is for audio, motion and quick, not for {args.part}: expected vasa train with one "
                        "of these")
    if args.voices and not Path(args.voices).is_file():
        raise VasaError(f"no file at {args.voices}: expected labelled speech that tools/natural_voices.py wrote")
    if args.teacher and args.part != "audio":
        raise VasaError(f"--teacher is for audio, not for {args.part}: expected vasa train audio")
    if args.teacher and not (Path(args.teacher) / "audio.safetensors").is_file():
        raise VasaError(f"no audio.safetensors in {args.teacher}: expected a folder that tools/moonshine.py wrote")
    if args.clips and args.part != "motion":
        raise VasaError(f"--clips is for motion, not for {args.part}: expected vasa train motion; the face needs the "
                        "true place of every pixel, which only the synthetic world has")
    footage = {}
    if args.clips:
        from ..footage.clips import open_clips
        footage = {"footage": open_clips(args.clips)}
        from ..store import shipped_presets
        if not args.resume and preset in shipped_presets():
            footage["start"] = preset
    for folder in {str(out), str(args.resume or out)}:
        if (before := recorded_preset(folder)) not in (None, preset):
            raise VasaError(f"{folder} was trained with --preset {before}, not {preset}: one folder, one preset")
    begun = lambda part: (out / f"{part}.safetensors").is_file() or any(out.glob(TRAINERS[part][2]))
    if (not args.resume or Path(args.resume) != out) and (there := [part for part in parts if begun(part)]):
        raise VasaError(f"{out} holds trained weights ({', '.join(there)}): go on with --resume {out}, "
                        "or give another --out")
    from ..training import team
    args.quiet = args.quiet or team()[0] > 0   # of several processes, the first one speaks
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "training.json", {"preset": preset})
    began = time.monotonic()
    for i, part in enumerate(parts):
        left = args.minutes - (time.monotonic() - began) / 60   # what one part did not need, the next ones share
        minutes = max(left, 0.0) * (SHARES[part] / sum(SHARES[p] for p in parts[i:]))
        module, function, checkpoint = TRAINERS[part]
        resume = args.resume
        if resume and args.part == "all" and not any(Path(resume).glob(checkpoint)):
            resume = None   # an earlier `train all` had not come to this part
        if not args.quiet:
            begins = "from the shipped weights" if "start" in footage else "from the start"
            origin = f"resumed from {resume}" if resume else begins
            print(f"{part}: {minutes:.1f} minutes, {origin}", flush=True)
        trainer = getattr(importlib.import_module(f"vasa_ref.{module}"), function)
        asked = {"face": {"vgg19": args.vgg19}, "motion": {"audio": args.audio, "voices": args.voices, **footage},
                 "audio": {"voices": args.voices, "teacher": args.teacher}, "quick": {"voices": args.voices}}
        extra = {name: value for name, value in asked.get(part, {}).items() if value}
        same = {"out": out, "device": device, "seed": args.seed, "quiet": args.quiet}
        trainer(preset, minutes=minutes, resume=resume, **same, **extra)
    if not args.quiet:
        print(f"{out}: weights of {', '.join(parts)} after {(time.monotonic() - began) / 60:.1f} minutes")


def measuring(args):
    """The weights' folder, the JSON file to be written, and the device of a command that measures."""
    from ..store import weights_folder
    folder = weights_folder(args.weights or args.preset or "laptop")
    return folder, args.json and check_output(args.json, ".json"), check_device(args.device)


def bench(args):
    folder, out, device = measuring(args)
    from ..measure import metrics
    report(metrics.bench(folder, quick=args.quick, seed=args.seed, quiet=args.quiet, device=device), out, args.quiet)


def tables(args):
    folder, out, device = measuring(args)
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


COMMANDS = {run.__name__: run for run in (animate, adapt, portrait, say, inspect, detect, clips, train, bench, tables,
                                          latency)}


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


def main(argv: Iterable[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 2 with one line on stderr."""
    for stream in filter(None, (sys.stdout, sys.stderr)):   # a terminal may lack the letters of a file's name
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if argv is None else list(argv)
    args = make_parser(jobs=any(word.split("=")[0] == "--jobs" for word in words)).parse_args(words)
    args.words = words
    with ended_in_order():
        try:
            COMMANDS[args.command](args)
        except (VasaError, OSError, FloatingPointError, MemoryError) as error:
            return ended(explain(error), 2)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":   # torch's, of an accelerator: torch is not imported here
                raise
            return ended("not enough memory on the device", 2)
        except KeyboardInterrupt:
            return ended("interrupted", 130)
        except SystemExit as stop:
            if several() and stop.code == 128 + signal.SIGTERM:   # so a launcher ends those who are left
                ended("ended from outside, as when another process has failed: go on with --resume FOLDER", stop.code)
            raise
    return 0


def several():
    """Whether this process trains together with others."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def ended(text, code):
    """Why the command ended, as a line on stderr; the exit code. Of processes that train together, the first that ends
    says why; what the others would say follows from it."""
    first = True
    if several():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)   # a launcher's, while the line is said
        from datetime import timedelta
        from torch.distributed import TCPStore
        try:
            store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=timedelta(seconds=5))
            first = store.add("vasa/ended", 1) == 1
        except (RuntimeError, KeyError):   # whoever kept the store has ended
            pass
    if first:
        print(f"vasa: {text}", file=sys.stderr, flush=True)
    return code


def explain(error):
    """An exception as one line."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())
