"""The command line: `vasa`, or `python -m vasa_ref`.

Checks go from cheap to dear: arguments, then files, then work. What a user did wrong is one line on stderr and exit
code 2; an output file appears only when it is complete. Heavy imports wait until a command needs them.
"""
import argparse
import importlib
import io
import json
import os
import sys
import time
from pathlib import Path

from . import __version__
from .errors import VasaError

__all__ = ["main", "make_parser"]

EMOTIONS = ("neutral", "happy", "sad", "angry", "surprised", "afraid", "disgusted")   # performer.EMOTIONS
PRESETS = ("tiny", "laptop", "paper")
TRAINERS = {   # part: module, function, where an earlier call left something to resume
    "audio": ("audio", "train_audio", "checkpoint.safetensors"),
    "face": ("disentangle", "train_face", "face-*/checkpoint.safetensors"),
    "motion": ("motion", "train_motion", "motion-training/checkpoint.safetensors"),
    "metrics": ("estimator", "train_metrics", "metrics/checkpoint.safetensors")}
SHARES = {"audio": 0.15, "face": 0.5, "motion": 0.25, "metrics": 0.1}   # of the minutes of `vasa train all`


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"vasa: {' '.join(message.split())} (see `{self.prog} --help`)\n")


def number(low, high, unit="", kind=float):
    """An argument type: a number from `low` to `high`."""
    def parse(text):
        low_high = f"{low} to {high}" if kind is int else f"{low:g} to {high:g}"
        accepted = f"{'a whole number' if kind is int else 'a number'} from {low_high}{unit and ' ' + unit}"
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {accepted}") from None
        if not low <= value <= high:   # also refuses NaN
            raise argparse.ArgumentTypeError(f"{text} is out of range: accepted is {accepted}")
        return value
    return parse


class Gaze(argparse.Action):
    """Two angles with ranges of their own."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value, name, limit in zip(values, ("YAW", "PITCH"), (45, 30)):
            if not -limit <= value <= limit:
                accepted = f"-{limit} to {limit} degrees"
                raise argparse.ArgumentError(self, f"{name} {value:g} is out of range: accepted is {accepted}")
        setattr(namespace, self.dest, tuple(values))


def make_parser():
    """The parser of the whole command line."""
    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = Parser(prog="vasa", **layout, description="A portrait speaks: a reference implementation of VASA-1.\n"
                    "The shipped weights know the people of a synthetic world, and nobody real.",
                    epilog="examples:\n  vasa portrait -o her.png --seed 3\n"
                    "  vasa say \"Good morning.\" -o morning.wav\n"
                    "  vasa animate her.png morning.wav -o out.mp4 --gaze 15 0 --emotion happy")
    parser.add_argument("--version", action="version", version=f"vasa_ref {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def command(name, run, summary, example):
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".",
                                  epilog="examples:\n  " + "\n  ".join(example.split("\n")), **layout)
        sub.set_defaults(run=run)
        sub.add_argument("--quiet", action="store_true", help="print nothing but errors")
        return sub

    def with_weights(sub):
        which = sub.add_mutually_exclusive_group()
        which.add_argument("--preset", metavar="NAME", help="shipped weights (default: laptop)")
        which.add_argument("--weights", metavar="FOLDER", help="a folder of weights that `vasa train` wrote")

    def with_seed(sub, what):
        sub.add_argument("--seed", type=number(0, 2**31 - 1, kind=int), default=0, metavar="N",
                         help=what + " (default: 0)")

    def with_device(sub):
        sub.add_argument("--device", default="cpu", metavar="D", help="where torch computes: cpu, cuda, cuda:1, mps "
                         "(default: cpu)")

    sub = command("animate", animate, "portrait and speech in, video of the speaking portrait out",
                  "vasa animate her.png morning.wav -o out.mp4\n"
                  "vasa animate her.png morning.wav -o out.mp4 --gaze -20 5 --distance 1.2 --emotion sad")
    sub.add_argument("portrait", metavar="PORTRAIT", help="a picture of any format and size")
    sub.add_argument("audio", metavar="AUDIO", help="speech of any format, rate and number of channels")
    sub.add_argument("-o", "--out", required=True, metavar="OUT.mp4",
                     help="the video: H.264 and AAC, 25 frames per second")
    sub.add_argument("--gaze", nargs=2, type=float, default=(0.0, 0.0), metavar=("YAW", "PITCH"), action=Gaze,
                     help="main gaze in degrees: yaw -45 to 45, positive to the viewer's right; pitch -30 to 30, "
                     "positive upwards (default: 0 0, at the viewer); the shipped weights have learnt -20 to 20 and "
                     "-12 to 12")
    sub.add_argument("--distance", type=number(0.5, 2.0), default=1.0, metavar="X",
                     help="distance of head and camera relative to the mean, 0.5 to 2 (default: 1); the shipped weights "
                     "have learnt 0.85 to 1.25")
    sub.add_argument("--emotion", choices=EMOTIONS, metavar="NAME",
                     help=", ".join(EMOTIONS) + " (default: what the audio says)")
    sub.add_argument("--emotion-strength", type=number(0.0, 2.0), metavar="S",
                     help="of --emotion, 0 to 2 (default: 1)")
    sub.add_argument("--cfg-audio", type=number(0.0, 10.0), default=0.5, metavar="L",
                     help="guidance towards the audio, 0 to 10 (default: 0.5)")
    sub.add_argument("--cfg-gaze", type=number(0.0, 10.0), default=0.0, metavar="L",
                     help="guidance towards the gaze, 0 to 10 (default: 0; the paper's is 1)")
    sub.add_argument("--steps", type=number(1, 500, kind=int), metavar="N",
                     help="denoising steps per window, 1 to 500 (default: the weights' own)")
    sub.add_argument("--temperature", type=number(0.0, 2.0), metavar="T",
                     help="of the noise that the motion starts from, 0 to 2: less is calmer, and keeps closer to the gaze "
                     "(default: the weights' own)")
    with_seed(sub, "the same seed gives the same video")
    with_weights(sub)
    with_device(sub)

    sub = command("portrait", portrait, "a person of the synthetic world",
                  "vasa portrait -o her.png --seed 3 --size 512")
    sub.add_argument("-o", "--out", required=True, metavar="P.png", help="the picture: .png or .jpg")
    with_seed(sub, "which person")
    sub.add_argument("--size", type=number(16, 2048, "pixels", int), default=256, metavar="PX",
                     help="width and height in pixels, 16 to 2048 (default: 256)")

    sub = command("say", say, "speech of the synthetic world", "vasa say \"Good morning.\" -o morning.wav\n"
                  "vasa say \"Guten Morgen.\" -o morgen.wav --language de")
    sub.add_argument("text", metavar="TEXT", help="what to say")
    sub.add_argument("-o", "--out", required=True, metavar="S.wav",
                     help="the sound: 16 kHz, mono, 16 bit; .wav or .flac")
    sub.add_argument("--voice", metavar="NAME", help="a voice of the package; a wrong name lists them")
    sub.add_argument("--language", metavar="L", default="en",
                     help="a language of the package, such as en, de, fr; a wrong name lists them (default: en)")

    sub = command("train", train, "train on the synthetic world, which needs no download",
                  "vasa train all --preset tiny --minutes 4 --out runs/tiny\n"
                  "vasa train face --minutes 10 --resume runs/laptop --device cuda")
    sub.add_argument("part", choices=[*TRAINERS, "all"], metavar="PART",
                     help=", ".join(TRAINERS) + ", or all of them in turn")
    sub.add_argument("--preset", choices=PRESETS, metavar="NAME",
                     help=", ".join(PRESETS) + " (default: that of --resume, else laptop)")
    sub.add_argument("--minutes", type=number(0.01, 100_000), default=10.0, metavar="M",
                     help="wall clock of this call; all parts share it (default: 10)")
    sub.add_argument("--resume", metavar="FOLDER", help="continue what an earlier call left there")
    sub.add_argument("--out", metavar="FOLDER",
                     help="weights and checkpoints (default: the folder of --resume, else runs/NAME)")
    sub.add_argument("--vgg19", metavar="FILE", help="VGG19's weights as safetensors: the face is compared by its features too")
    with_seed(sub, "of the first weights and of the draws; motion always has the same clips")
    with_device(sub)

    sub = command("bench", bench, "every quality figure of the weights, on held-out people, voices and words",
                  "vasa bench --quick\nvasa bench --json bench.json")
    sub.add_argument("--json", metavar="FILE", help="write the figures as one flat object")
    sub.add_argument("--quick", action="store_true", help="fewer clips: a minute instead of many, and wider error bars")
    with_seed(sub, "of the held-out clips")
    with_weights(sub)

    sub = command("latency", latency, "what each frame costs, offline and streaming",
                  "vasa latency\nvasa latency --preset paper --device cuda --json latency.json")
    sub.add_argument("--preset", choices=PRESETS, default="laptop", metavar="NAME",
                     help=", ".join(PRESETS) + "; sizes count here, so weights are random (default: laptop)")
    sub.add_argument("--json", metavar="FILE", help="write the figures as one flat object")
    with_device(sub)
    return parser


def check_output(path, *suffixes, inputs=()):
    """`path` if it can become an output file: known ending, existing folder, none of the inputs."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise VasaError(f"output {path} should end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise VasaError(f"output {path} is a folder: expected a file name")
    if not path.parent.is_dir():
        raise VasaError(f"no folder {path.parent} for the output {path.name}: make it first")
    if not os.access(path.parent, os.W_OK):
        raise VasaError(f"no permission to write into {path.parent}")
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
    from .weights import atomic_path
    with atomic_path(path) as beside:
        beside.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")


def print_table(figures):
    width = max(map(len, figures))
    for key, value in figures.items():
        print(f"{key:<{width}}  {f'{value:.4g}' if isinstance(value, float) else value}")


def animate(args):
    from .files import PICTURES, SOUNDS, existing_file
    from .weights import weights_folder
    if args.emotion is None and args.emotion_strength is not None:
        raise VasaError("--emotion-strength needs an --emotion: " + ", ".join(EMOTIONS))
    strength = 1.0 if args.emotion_strength is None else args.emotion_strength
    device = check_device(args.device)
    folder = weights_folder(args.weights or args.preset or "laptop")
    inputs = [existing_file(args.portrait, "portrait", PICTURES), existing_file(args.audio, "speech", SOUNDS)]
    out = check_output(args.out, ".mp4", inputs=inputs)

    from tqdm import tqdm
    from .talker import Talker
    talker = Talker.from_pretrained(folder, device=device)
    began, frames = time.perf_counter(), 0
    with tqdm(unit=" frames", leave=False, disable=args.quiet or None) as bar:   # None: only where a person looks

        def progress(done, total):
            nonlocal frames
            frames, bar.total = done, total
            bar.update()

        talker.animate_to_file(out, *map(str, inputs), gaze=args.gaze, distance=args.distance, emotion=args.emotion,
                               emotion_strength=strength, steps=args.steps, temperature=args.temperature, seed=args.seed,
                               cfg_scale={"audio": args.cfg_audio, "gaze": args.cfg_gaze}, progress=progress)
    took, length = time.perf_counter() - began, frames / 25
    if not args.quiet:
        print(f"{out}: {length:.1f} s of video, {talker.size} x {talker.size} pixels, made in {took:.1f} s "
              f"(real-time factor {took / length:.2f})")


def portrait(args):
    out = check_output(args.out, ".png", ".jpg", ".jpeg")
    import torch
    from PIL import Image
    from .head import EXPRESSIONS, neutral_pose, random_people, render
    from .weights import atomic_path
    people = random_people(1, generator=torch.Generator().manual_seed(args.seed))
    image = render(people, neutral_pose(), torch.zeros(1, len(EXPRESSIONS)), torch.zeros(1, 2), size=args.size)
    pixels = (image[0].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().cpu().numpy()
    with atomic_path(out) as beside:
        Image.fromarray(pixels).save(beside)
    if not args.quiet:
        print(f"{out}: person {args.seed}, {args.size} x {args.size} pixels")


def say(args):
    out = check_output(args.out, ".wav", ".flac")
    from . import voice
    from .weights import atomic_path
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
    told = Path(folder) / "training.json"
    try:
        return json.loads(told.read_text())["preset"] if told.is_file() else None
    except (ValueError, KeyError, TypeError):
        raise VasaError(f"{told} is damaged: remove it, and say --preset") from None


def train(args):
    preset, device = preset_of(args), check_device(args.device)
    out = Path(args.out or args.resume or f"runs/{preset}")
    parts = list(TRAINERS) if args.part == "all" else [args.part]
    if args.vgg19 and "face" not in parts:
        raise VasaError(f"--vgg19 is for the training of the face, not of {args.part}: expected vasa train face or all")
    if args.vgg19 and not Path(args.vgg19).is_file():
        raise VasaError(f"no file at {args.vgg19}: expected VGG19's weights as safetensors")
    for folder in {str(out), str(args.resume or out)}:
        if (before := told_preset(folder)) not in (None, preset):
            raise VasaError(f"{folder} was trained with --preset {before}, not {preset}: one folder, one preset")
    begun = lambda part: (out / f"{part}.safetensors").is_file() or any(out.glob(TRAINERS[part][2]))
    if (not args.resume or Path(args.resume) != out) and (there := [part for part in parts if begun(part)]):
        raise VasaError(f"{out} holds trained weights ({', '.join(there)}): go on with --resume {out}, or give another --out")
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
        trainer = getattr(importlib.import_module(f".{module}", __package__), function)
        extra = {"vgg19": args.vgg19} if part == "face" and args.vgg19 else {}
        trainer(preset, minutes=minutes, resume=resume, out=out, device=device, seed=args.seed, quiet=args.quiet, **extra)
    if not args.quiet:
        print(f"{out}: weights of {', '.join(parts)} after {(time.monotonic() - began) / 60:.1f} minutes")


def bench(args):
    from .weights import weights_folder
    folder = weights_folder(args.weights or args.preset or "laptop")
    out = args.json and check_output(args.json, ".json")
    from . import metrics
    report(metrics.bench(folder, quick=args.quick, seed=args.seed, quiet=args.quiet), out, args.quiet)


def latency(args):
    out = args.json and check_output(args.json, ".json")
    device = check_device(args.device)
    from . import latency as measure
    report(measure.latency(args.preset, device), out, args.quiet)


def report(figures, out, quiet):
    """Print figures, and write them to `out` if there is one."""
    if not quiet:
        print_table(figures)
    if out:
        write_json(out, figures)


def main(argv=None):
    """Run one command; the exit code is 0, or 2 with one line on stderr."""
    args = make_parser().parse_args(argv)
    try:
        args.run(args)
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
