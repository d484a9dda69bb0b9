"""`vasa animate --jobs FILE`: many films in one call, with one talker."""
import contextlib
import csv
import io
import json
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

from ..errors import VasaError
from ..motion.conditions import CONDITIONS
from .arguments import make_parser
from .films import talker_for, make_video, open_portrait, prepare
from .provenance import bare_notes

__all__ = ["make_films", "read_jobs"]

NEEDED = "portrait", "audio", "out"
FLAGS = "full", "fast", "no-credentials", "no-watermark"
ALONE = "jobs", "stream", "lookahead", "new-frames", "skip-existing", "quiet", "help"   # of the whole call, or live


def read_jobs(path: str | Path) -> list[dict]:
    """The rows of a file, each a dictionary: a CSV with a header, or JSON objects, one in each line."""
    from ..media.files import existing_file
    accepted = "accepted is a CSV with a header, or a file of JSON objects, one in each line"
    path = existing_file(path, "list of jobs", accepted)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if text.lstrip()[:1] == "{":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = list(csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True))
    except (ValueError, csv.Error, RecursionError):
        raise VasaError(f"--jobs {path} cannot be read: {accepted}") from None
    if not rows:
        raise VasaError(f"--jobs {path} has no jobs: {accepted}")
    return rows


def words_of(row):
    """A row as words of the command line."""
    if not isinstance(row, dict) or None in row:
        raise VasaError("the row has more values than the header has names")
    row = {str(name).strip().replace("_", "-"): value for name, value in row.items()}
    if missing := [name for name in NEEDED if not isinstance(row.get(name), str) or not row[name].strip()]:
        raise VasaError(f"no {' and no '.join(missing)}: expected {', '.join(NEEDED)} in each row")
    if alone := sorted(set(row) & set(ALONE)):
        raise VasaError(f"{', '.join(alone)}: not of a single job, but of the whole call")
    words = [word for name, value in row.items() if name not in NEEDED for word in option(name, value)]
    files = [row[name].strip() for name in NEEDED]
    if "-" in files:
        raise VasaError("- stands for live sound and pictures: expected files")
    return ["-o", files[2], *words, "--", *files[:2]]


def option(name, value):
    """One option with its value, as words; none where the value is empty."""
    condition = CONDITIONS.get(name.replace("-", "_"))
    if isinstance(value, str) and name in FLAGS:
        named = {"": False, "no": False, "false": False, "0": False, "yes": True, "true": True, "1": True}
        if (value := named.get(value.strip().lower())) is None:
            raise VasaError(f"{name}: accepted is yes or no")
    if value is None or value is False or value == "":
        return []
    if value is True:
        return [f"--{name}"]
    if isinstance(value, str) and condition and condition.size > 1 and not condition.choices:
        value = value.split()
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}={value}"]


def parsed(words):
    """The arguments of `vasa animate`; VasaError where the parser would end the process."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return make_parser().parse_args(["animate", *words])
    except SystemExit:
        raise VasaError(said.getvalue().strip().removeprefix("vasa: ").split(" (see `")[0]) from None


def without(words, name, values):
    """The words without an option and its values."""
    kept, skip = [], 0
    for word in words:
        if skip:
            skip -= 1
        elif word == name:
            skip = values
        elif not word.startswith(name + "="):
            kept.append(word)
    return kept


def checked(rows, common):
    """The arguments of all rows; VasaError with a line for each that is wrong."""
    jobs, wrong, outs = [], [], {}
    for number, row in enumerate(rows, 1):
        try:
            args = parsed([*common, *words_of(row)])
            prepare(args)
            if (before := outs.setdefault(Path(args.out).expanduser().resolve(), number)) != number:
                raise VasaError(f"{args.out} is the film of row {before} as well: each needs a file of its own")
            jobs.append(args)
        except VasaError as error:
            wrong.append(f"row {number}: {error}")
    if wrong:
        raise VasaError("; ".join(wrong) + ". No film was made")
    return jobs


def make_films(args: Namespace) -> None:
    """All films of --jobs, one after another. Rows are checked before the first is made; a job that fails then is
    said, the others go on, and the call ends with an error."""
    from tqdm import tqdm
    if args.out:
        raise VasaError("--jobs has portrait, audio and out in its rows: expected no -o beside it")
    if args.stream or args.lookahead is not None or args.new_frames is not None:
        raise VasaError("--jobs makes films of recordings: expected no --stream")
    common = without(without(args.words[1:], "--jobs", 1), "--skip-existing", 0)
    jobs, failed, talkers, faces = checked(read_jobs(args.jobs), common), [], {}, {}
    notes = Counter()                                    # and how many films each of them is of
    there = [args.skip_existing and is_whole(job.target) for job in jobs]
    later = Counter(map(portrait_of, jobs))              # films that each portrait is still needed for
    bar = tqdm(jobs, unit="film", disable=args.quiet or None)
    for number, (job, done) in enumerate(zip(bar, there), 1):
        if not done:
            try:
                make_film(job, talkers, faces)
                notes.update([*(f"{job.portrait}: {note}" for note in job.photo.notes), *bare_notes(job)])
            except (VasaError, OSError) as error:
                failed.append(number)
                tqdm.write(f"vasa: row {number}: {' '.join(str(error).split())}", file=sys.stderr)
        job.photo = None
        later[portrait_of(job)] -= 1
        if not later[portrait_of(job)]:
            faces.pop(portrait_of(job), None)            # a photograph is large, and jobs may be thousands
    if not args.quiet:
        made = len(jobs) - len(failed) - sum(there)
        sys.stderr.writelines(f"vasa: {note} ({count} of {made} films)\n" for note, count in notes.items())
        print(f"{made} films made" + f", {sum(there)} were there" * any(there))
    if failed:
        raise VasaError(f"{len(failed)} of {len(jobs)} jobs failed, of rows {', '.join(map(str, failed))}")


def is_whole(path):
    """Whether a film is there to its end: MP4 is a row of boxes, each of which begins with its size, and a film that
    was cut, as in a copy that broke off, ends within one or lacks the box with its index."""
    if not path.is_file():
        return False
    place, end, kinds = 0, path.stat().st_size, set()
    with path.open("rb") as file:
        while place < end:
            file.seek(place)
            head = file.read(16)
            size, kind = int.from_bytes(head[:4], "big"), head[4:8]
            size = {0: end - place, 1: int.from_bytes(head[8:16], "big")}.get(size, size)   # to the end; 64 bits
            if size < 8:
                return False
            kinds.add(kind)
            place += size
    return place == end and {b"ftyp", b"moov", b"mdat"} <= kinds


def weights_of(job):
    """What a talker is kept by."""
    return str(job.folder), str(job.where), job.fast


def portrait_of(job):
    """What an encoded portrait is kept by."""
    return *weights_of(job), str(Path(job.portrait).resolve()), job.crop, job.face


def make_film(job, talkers, faces):
    """One film; talkers, and portraits as photograph and latents, are kept for later jobs."""
    weights, portrait = weights_of(job), portrait_of(job)
    if portrait not in faces:
        open_portrait(job)                               # a face that is not found costs no weights
        if weights not in talkers:
            talkers[weights] = talker_for(job)
        faces[portrait] = job.photo, job.photo.encode(talkers[weights])
    job.photo, encoded = faces[portrait]
    job.quiet = True                                     # the bar is that of the films
    make_video(job, talkers[weights], encoded)
