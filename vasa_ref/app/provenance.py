"""What the command line says of where a file is from: credentials that it writes, and credentials that it reads."""
import sys
import tempfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import VasaError
from .live import Clock

if TYPE_CHECKING:   # heavy, and loaded where a command needs it
    from ..trust.credentials import Made

__all__ = ["bare_notes", "heard", "inspect", "say_bare", "what_made", "world_made"]

BARE = "carries no credentials: nobody can read from it what made it"
UNMARKED = "the film carries no mark in its pixels: once its credentials are lost, nothing says that it was made"


def bare_notes(args: Namespace) -> list[str]:
    """What is missing in a film that goes without credentials, or without a mark."""
    return [f"the film {BARE}"] * (not args.credentials) + [UNMARKED] * (not args.watermark)


def try_key(key):
    """Signs a picture of one pixel; VasaError for a key that cannot, before there is anything to be signed."""
    from PIL import Image

    from ..trust.credentials import Made, sign
    with tempfile.TemporaryDirectory() as folder:
        Image.new("L", (1, 1)).save(pixel := Path(folder, "pixel.png"))
        sign(pixel, Made(source="world", key=key), "anything")


def what_made(args: Namespace, to_file: bool = True) -> "Made":
    """What the credentials of a film will say; or VasaError, for a key that cannot sign before there is something to be
    signed."""
    from ..trust.credentials import Made, digest
    from ..trust.watermark import mark_frames
    if not (args.credentials and to_file) and (args.consent is not None or args.key):
        where = "--no-credentials leaves" if to_file else "raw frames leave"
        raise VasaError(f"--consent and --key are for the credentials, which {where} out: expected one or the other")
    made = Made(digest(args.portrait), None if args.audio == "-" else digest(args.audio),
                "composite" if args.full else "trained", args.consent, args.key,
                mark_frames if args.watermark else None, watermark=args.watermark, credentials=args.credentials)
    if made.credentials and to_file:
        try_key(made.key)
    return made


def world_made(args: Namespace) -> "Made":
    """What the credentials of a picture of the world will say."""
    from ..trust.credentials import Made
    if args.key and not args.credentials:
        raise VasaError("--key is for the credentials, which --no-credentials leaves out: expected one or the other")
    made = Made(source="world", key=args.key, credentials=args.credentials)
    if made.credentials:
        try_key(made.key)
    return made


def say_bare(args: Namespace) -> None:
    """What is missing in a file that was written without credentials."""
    if not (args.credentials or args.quiet):
        print(f"vasa: {args.out} {BARE}", file=sys.stderr)


def heard(args: Namespace, clock: Clock) -> "Made":
    """What made the film, with the sound that came in the end."""
    from ..trust.credentials import digest
    return replace(args.made, sound=args.made.sound or digest(clock.sound()), mark=args.made.number)


def pixels(path, report):
    """What the mark in the pixels of a film or picture says, in words."""
    from ..media.clips import read_frames
    from ..trust.watermark import read_mark
    try:
        found = read_mark(read_frames(path))
    except VasaError:
        return "cannot be decoded"
    if found is None:
        return "no mark of this package is read from them"
    stated = report.facts.get("mark")
    same = ("" if stated is None else ", as the credentials say" if stated == f"{found.number:08x}" else
            ", NOT what the credentials say")
    return f"made by this package, mark {found.number:08x}{same}"


def inspect(args: Namespace) -> None:
    from ..trust import credentials
    report = credentials.inspect(args.file, args.key)
    if not args.quiet:
        print(f"{args.file}: {report}\n  {'pixels':<10} {pixels(args.file, report)}")
    if report.state in ("altered", "damaged"):
        raise VasaError(f"{args.file} is not as it was when it was signed: {', '.join(report.problems)}")
