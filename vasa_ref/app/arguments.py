"""The words of the command line: what each command takes, what is accepted, and the help texts."""
import argparse

from .. import __version__
from ..motion.conditions import CONDITIONS, clip_conditions

__all__ = ["make_parser"]

SEXES, ORIGINS = ("female", "male"), ("african", "asian", "caucasian")   # world.head.ORIGINS
LOOKS = ("bald", "buzz", "short", "side parting", "quiff", "fringe", "bob", "long", "wavy", "curly", "afro",
         "tied back", "bun", "braids",
         "receding")   # world.people.HAIR_STYLES
PRESETS = ("tiny", "laptop", "paper")
SAMPLERS = ("ddim", "ddpm", "dpm")   # motion.diffusion.SAMPLERS
CODECS = "libx264", "h264_nvenc"
PARTS = ("audio", "face", "motion", "quick", "metrics", "sync", "frame-judges")


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


class Numbers(argparse.Action):
    """Several numbers of a condition, with ranges of their own."""

    def __call__(self, parser, namespace, values, option_string=None):
        row = CONDITIONS[self.dest]
        for value, name, (low, high) in zip(values, row.metavar, row.limits):
            if not low <= value <= high:
                accepted = f"{low:g} to {high:g}, {row.unit}"
                raise argparse.ArgumentError(self, f"{name} {value:g} is out of range: accepted is {accepted}")
        setattr(namespace, self.dest, tuple(values))


def add_condition(sub, row):
    """The option of a condition, from its row."""
    option, about = "--" + row.name.replace("_", "-"), {"help": row.usage}
    if row.choices:
        sub.add_argument(option, choices=row.choices, metavar=row.metavar[0], **about)
    elif row.size == 1:
        sub.add_argument(option, type=number(*row.limits[0]), metavar=row.metavar[0], **about)
    else:
        sub.add_argument(option, nargs=row.size, type=float, metavar=row.metavar, action=Numbers, **about)


# options that several commands share

def with_weights(sub):
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--preset", metavar="NAME", help="shipped weights (default: laptop)")
    which.add_argument("--weights", metavar="FOLDER", help="a folder of weights that `vasa train` wrote")


def with_crop(sub):
    sub.add_argument("--crop", choices=("auto", "none"), default="auto", metavar="auto|none",
                     help="auto: the face is found and placed as in training, unless its place is right already; "
                     "none: the picture's centre square as it is (default: auto, which takes "
                     "pip install 'vasa_ref[photo]')")
    sub.add_argument("--face", type=number(1, 100, kind=int), metavar="N",
                     help="which face of the picture: 1 is the largest (default: 1)")


def with_seed(sub, what):
    sub.add_argument("--seed", type=number(0, 2**31 - 1, kind=int), default=0, metavar="N",
                     help=what + " (default: 0)")


def with_credentials(sub):
    sub.add_argument("--key", metavar="FILE",
                     help="sign the credentials with this key: a PEM file with the private key and its "
                     "certificates (default: one made on first use, in $VASA_HOME or ~/.config/vasa_ref)")
    sub.add_argument("--no-credentials", dest="credentials", action="store_false",
                     help="leave the signed credentials out, which say what made the file and from what")


def with_device(sub):
    sub.add_argument("--device", default="cpu", metavar="D", help="where torch computes: cpu, cuda, cuda:1, mps "
                     "(default: cpu)")


def with_clips(sub, written, fewer):
    "Of what measures weights on held-out clips."
    sub.add_argument("--json", metavar="FILE", help=f"write {written}")
    sub.add_argument("--quick", action="store_true", help=f"fewer clips: {fewer}")
    with_seed(sub, "of the held-out clips")
    with_weights(sub)
    with_device(sub)


def with_files(sub, jobs):
    "Portrait, sound and film of `vasa animate`, or its table of them."
    if jobs:
        sub.set_defaults(portrait=None, audio=None)
    else:
        sub.add_argument("portrait", metavar="PORTRAIT", help="a picture of any format and size, of a person "
                         "who has agreed to it; the shipped weights have seen nobody real")
        sub.add_argument("audio", metavar="AUDIO",
                         help="speech of any format, rate and number of channels; with --stream also -, "
                         "for 16 bit, 16 kHz, mono on standard input, raw or as a WAV")
    sub.add_argument("-o", "--out", required=not jobs, metavar="OUT.mp4",
                     help="the video: H.264 and AAC, 25 frames per second; with --stream also -, for raw RGB frames on "
                     "standard output")
    sub.add_argument("--jobs", metavar="FILE",
                     help="in place of PORTRAIT, AUDIO and -o, many films in one call: a CSV with a header, or a line "
                     "of JSON for each, with portrait, audio, out and any of these options; what is given here holds "
                     "for all that do not say otherwise")
    sub.add_argument("--skip-existing", action="store_true",
                     help="with --jobs: films that are there already, whole, are not made again")


def with_motion(sub):
    "What the motion is asked to do."
    sub.add_argument("--curves", metavar="FILE", help=f"JSON with {', '.join(clip_conditions())} or some "
                     "of them, each an object of "
                     'seconds to values, such as {"gaze": {"0": [0, 0], "2": [15, 0]}, '
                     '"emotion": {"1": "neutral", "3": "happy"}}')
    sub.add_argument("--pose-from", metavar="VIDEO", help="the head moves as in this video of one face")
    sub.add_argument("--dynamics-from", metavar="VIDEO",
                     help="lips, expression and eyes move as in this video of one face")
    for name in clip_conditions():
        add_condition(sub, CONDITIONS[name])
    sub.add_argument("--emotion-strength", type=number(0.0, 2.0), metavar="S",
                     help="of --emotion, 0 to 2 (default: 1)")
    sub.add_argument("--cfg-audio", type=number(0.0, 10.0), metavar="L",
                     help="guidance towards the audio, 0 to 10 (default: the weights' own, as shipped 1; "
                     "the paper's is 0.5)")
    sub.add_argument("--cfg-gaze", type=number(0.0, 10.0), metavar="L",
                     help="guidance towards the gaze, 0 to 10 (default: the weights' own, as shipped 0; "
                     "the paper's is 1)")


def animate(command, jobs=False):
    "A portrait and speech to a video. jobs: the files are in the rows of --jobs."
    sub = command("animate", "portrait and speech in, video of the speaking portrait out",
                  "vasa animate her.png morning.wav -o out.mp4\n"
                  "vasa animate her.png morning.wav -o out.mp4 --gaze -20 5 --distance 1.2 --emotion sad\n"
                  "vasa animate her.png morning.wav -o out.mp4 --curves story.json\n"
                  "vasa animate photo.jpg morning.wav -o out.mp4 --full\n"
                  "vasa animate --jobs films.csv --emotion happy\n"
                  "arecord -q -t raw -f S16_LE -r 16000 | vasa animate her.png --stream - -o - |\n"
                  "    ffplay -f rawvideo -pixel_format rgb24 -video_size 256x256 -framerate 25 -")
    with_files(sub, jobs)
    with_crop(sub)
    sub.add_argument("--full", action="store_true", help="the video shows the whole picture, up to 1280 pixels wide "
                     "or high, and the face in it moves")
    sub.add_argument("--stream", action="store_true", help="make frames while the sound arrives, and say how late they "
                     "are; a recording is played at its own pace, and an interrupt ends live sound")
    sub.add_argument("--lookahead", type=number(0, 1000), metavar="MS", help="with --stream: how much of the sound "
                     "that comes after a frame is waited for, 0 to 1000 ms, in steps of 40 (default: 200); more makes "
                     "surer lips, less an earlier answer")
    sub.add_argument("--new-frames", type=number(1, 25, kind=int), metavar="N", help="with --stream: how many frames "
                     "are made at once, 1 to 25 (default: 3); fewer answer earlier, and cost more")
    with_motion(sub)
    sub.add_argument("--steps", type=number(1, 500, kind=int), metavar="N",
                     help="denoising steps per window, 1 to 500 (default: the weights' own)")
    sub.add_argument("--sampler", choices=SAMPLERS, default="ddim", metavar="NAME",
                     help=", ".join(SAMPLERS) + ": how the steps are made (default: ddim); dpm does more with few")
    sub.add_argument("--fast", action="store_true",
                     help="all tricks of chapter speed/01_faster; on a GPU bfloat16 and compiled, after "
                     "a minute's wait")
    sub.add_argument("--codec", choices=CODECS, default="libx264", metavar="NAME",
                     help="encoder of the video: libx264, or NVIDIA's hardware, h264_nvenc (default: libx264)")
    sub.add_argument("--temperature", type=number(0.0, 2.0), metavar="T",
                     help="of the noise that the motion starts from, 0 to 2: less is calmer, and keeps closer to the "
                     "gaze (default: the weights' own)")
    sub.add_argument("--consent", metavar="TEXT",
                     help="the consent of the person shown, in your words: it stands in the credentials")
    with_credentials(sub)
    sub.add_argument("--no-watermark", dest="watermark", action="store_false",
                     help="leave the invisible mark out, which stays in the pixels when the credentials are lost")
    with_seed(sub, "the same seed gives the same video")
    with_weights(sub)
    with_device(sub)


def adapt(command):
    "Weights that know one portrait."
    sub = command("adapt", "weights that know one portrait better, learned from that portrait",
                  "vasa adapt photo.jpg -o weights/anna --minutes 5\n"
                  "vasa animate photo.jpg morning.wav -o out.mp4 --weights weights/anna")
    sub.add_argument("portrait", metavar="PORTRAIT",
                     help="a picture of any format and size, of a person who has agreed to it: "
                     "the weights become his or her likeness, and may be passed on only with that consent")
    sub.add_argument("-o", "--out", required=True, metavar="WEIGHTS", help="a new folder, for `vasa animate --weights`")
    sub.add_argument("--minutes", type=number(0.01, 1000), default=5.0, metavar="M",
                     help="wall clock of this call (default: 5)")
    with_crop(sub)
    with_seed(sub, "of the frames that are learned from")
    with_weights(sub)
    with_device(sub)


def portrait(command):
    "A person of the world."
    sub = command("portrait", "a person of the synthetic world",
                  "vasa portrait -o her.png --seed 3 --size 512\n"
                  "vasa portrait -o him.png --seed 3 --sex male --age 70 --look \"side parting\"")
    sub.add_argument("-o", "--out", required=True, metavar="P.png", help="the picture: .png or .jpg")
    with_seed(sub, "which person")
    sub.add_argument("--age", type=number(18, 90, "years"), metavar="YEARS",
                     help="18 to 90 (default: the seed decides)")
    for name, accepted, what in (("sex", SEXES, ""), ("origin", ORIGINS, ""),
                                 ("look", LOOKS, "how the hair is worn: ")):
        sub.add_argument(f"--{name}", choices=accepted, metavar="NAME" if name != "sex" else "|".join(SEXES),
                         help=f"{what}{', '.join(accepted)} (default: the seed decides)")
    sub.add_argument("--size", type=number(16, 2048, "pixels", int), default=256, metavar="PX",
                     help="width and height in pixels, 16 to 2048 (default: 256)")
    with_device(sub)
    with_credentials(sub)


def inspect(command):
    "Who made a film."
    sub = command("inspect", "who made a film or picture, from what, and whether it was changed since: its "
                  "credentials, and the mark in its pixels",
                  "vasa inspect out.mp4\nvasa inspect out.mp4 --key theirs.pem")
    sub.add_argument("file", metavar="FILE", help="a film or picture, of any maker")
    sub.add_argument("--key", metavar="FILE",
                     help="the signer that you expect: a PEM file with certificates, the signer's and its root's "
                     "(default: your own)")


def detect(command):
    "Whether a face is made."
    sub = command("detect", "is this face made? What a small detector says of the pixels, the lips and the sound; it "
                  "knows this package's models and drawn people",
                  "vasa detect out.mp4\nvasa detect out.mp4 --json verdict.json")
    sub.add_argument("file", metavar="FILE", help="a film or picture with a face; of a film, the first ten seconds")
    sub.add_argument("--json", metavar="FILE", help="write the scores as one flat object")


def say(command):
    "Speech of the world."
    sub = command("say", "speech of the synthetic world", "vasa say \"Good morning.\" -o morning.wav\n"
                  "vasa say \"Guten Morgen.\" -o morgen.wav --language de")
    sub.add_argument("text", metavar="TEXT", help="what to say")
    sub.add_argument("-o", "--out", required=True, metavar="S.wav",
                     help="the sound: 16 kHz, mono, 16 bit; .wav or .flac")
    sub.add_argument("--voice", metavar="NAME", help="a voice of the package; a wrong name lists them")
    sub.add_argument("--language", metavar="L", default="en",
                     help="a language of the package, such as en, de, fr; a wrong name lists them (default: en)")


def clips(command):
    "Films to training clips."
    sub = command("clips", "films of people talking become training clips",
                  "vasa clips films -o clips\n"
                  "vasa train motion --clips clips --out runs/footage --minutes 30")
    sub.add_argument("folder", metavar="FOLDER",
                     help="films of any format, of people who have agreed to it, in any folders, also those of "
                     "VoxCeleb2 and HDTF; CONSENT.txt in it says who agreed to what (a template is written)")
    sub.add_argument("-o", "--out", required=True, metavar="CLIPS",
                     help="a folder outside of FOLDER: films that are done are not read again")
    sub.add_argument("--size", type=number(64, 1024, "pixels", int), default=256, metavar="PX",
                     help="width and height of the clips, even, 64 to 1024 (default: 256)")
    with_weights(sub)
    with_device(sub)


def train(command):
    "Every training."
    sub = command("train", "train on the synthetic world, which needs no download, or on footage too",
                  "vasa train all --preset tiny --minutes 4 --out runs/tiny\n"
                  "vasa train face --minutes 10 --resume runs/laptop --device cuda")
    sub.add_argument("part", choices=[*PARTS, "all"], metavar="PART",
                     help=", ".join(PARTS) + ", or all of them in turn; quick is a student of motion for streams")
    sub.add_argument("--preset", choices=PRESETS, metavar="NAME",
                     help=", ".join(PRESETS) + " (default: that of --resume, else laptop)")
    sub.add_argument("--minutes", type=number(0.01, 100_000), default=10.0, metavar="M",
                     help="wall clock of this call; all parts share it (default: 10)")
    sub.add_argument("--resume", metavar="FOLDER", help="continue what an earlier call left there")
    sub.add_argument("--out", metavar="FOLDER",
                     help="weights and checkpoints (default: the folder of --resume, else runs/NAME)")
    sub.add_argument("--vgg19", metavar="FILE",
                     help="VGG19's weights as safetensors: the paper preset's face is compared by its features too")
    sub.add_argument("--audio", metavar="NAME",
                     help="motion learns from the features of this encoder: a folder with audio.safetensors, or "
                     "a public checkpoint of Wav2Vec2 or Moonshine, a folder with config.json or a name such as "
                     "facebook/wav2vec2-base-960h")
    sub.add_argument("--voices", metavar="FILE",
                     help="audio, motion and quick learn from these recordings too: labelled speech that "
                     "tools/natural_voices.py wrote")
    sub.add_argument("--teacher", metavar="FOLDER",
                     help="audio starts from this encoder, and stays near what it says when it hears all: what "
                     "tools/moonshine.py wrote")
    sub.add_argument("--clips", metavar="CLIPS",
                     help="motion goes on from the shipped weights and learns from this folder too, which `vasa clips` "
                     "wrote: half of it, and half of the synthetic world")
    with_seed(sub, "of the first weights and of the draws; motion always has the same clips")
    with_device(sub)


def bench(command):
    "Every quality figure."
    sub = command("bench", "every quality figure of the weights, on held-out people, voices and words",
                  "vasa bench --quick\nvasa bench --json bench.json")
    with_clips(sub, "the figures as one flat object",
               "three minutes instead of ten, and wider error bars")


def tables(command):
    "The paper's tables."
    sub = command("tables", "tables 3 to 5 of VASA-1, measured again with these weights, beside the paper's figures",
                  "vasa tables --quick\nvasa tables --json tables.json")
    with_clips(sub, "the tables as one object",
               "five minutes instead of twenty; compare its video distance with nothing else")


def latency(command):
    "What a frame costs."
    sub = command("latency", "what each frame costs, offline and streaming",
                  "vasa latency\nvasa latency --preset paper --device cuda --json latency.json")
    sub.add_argument("--preset", choices=PRESETS, default="laptop", metavar="NAME",
                     help=", ".join(PRESETS) + "; sizes count here, so weights are random (default: laptop)")
    sub.add_argument("--tricks", action="store_true",
                     help="measure each of the tricks of chapter speed/01_faster as well")
    sub.add_argument("--json", metavar="FILE", help="write the figures as one flat object")
    with_device(sub)


def make_parser(jobs: bool = False) -> Parser:
    """The parser of the whole command line. jobs: `vasa animate` has its files in the rows of --jobs, so it takes
    none."""
    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = Parser(prog="vasa", **layout, description="A portrait speaks: a reference implementation of VASA-1.\n"
                    "The shipped weights know the people of a synthetic world, and nobody real.",
                    epilog="examples:\n  vasa portrait -o her.png --seed 3\n"
                    "  vasa say \"Good morning.\" -o morning.wav\n"
                    "  vasa animate her.png morning.wav -o out.mp4 --gaze 15 0 --emotion happy")
    parser.add_argument("--version", action="version", version=f"vasa_ref {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def command(name, summary, example):
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".",
                                  epilog="examples:\n  " + "\n  ".join(example.split("\n")), **layout)
        sub.add_argument("--quiet", action="store_true", help="print nothing but errors")
        return sub

    animate(command, jobs)
    for add in (adapt, portrait, inspect, detect, say, clips, train, bench, tables, latency): add(command)
    return parser
