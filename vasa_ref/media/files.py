"""Files and arrays at the edge of the package: what can go wrong with pictures, sound and video, said in one sentence.

Every function that opens one raises `VasaError` with what was given, what is wrong, and what is accepted. The program
ffmpeg is the one on PATH, or the one of imageio-ffmpeg.
"""
import io
import os
import shutil
import stat
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, TypeVar, Union

import numpy as np

from ..errors import VasaError
from ..store import output_target

if TYPE_CHECKING:   # heavy, and loaded where a tensor is made
    from torch import Tensor

__all__ = ["FILES", "File", "NO_SHAPES", "PICTURES", "PictureFile", "SOUNDS", "VIDEOS", "as_jpeg", "called",
           "condense", "content_of", "decode_audio", "decoded", "existing_file", "ffmpeg_exe", "kind_of", "media_file",
           "open_picture", "run_ffmpeg", "shapeless", "tensor_of", "video_path"]

MIN_SIDE, MAX_PIXELS = 16, 100_000_000
PICTURES = "accepted are JPEG, PNG, WebP, TIFF, GIF and BMP pictures from 16 px on the short side to 100 megapixels"
SOUNDS = "accepted is any audio or video file with sound that ffmpeg can read, of any rate and channel count"
VIDEOS = "accepted is any video that ffmpeg can read"
NO_SHAPES = "the portrait shows no face: it has no shapes"   # see `shapeless`
FILES = str, os.PathLike, bytes, bytearray, memoryview   # a path, or the content of a file
File = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO   # the same, or an open file
PictureFile = Union[File, "PIL.Image.Image"]  # noqa: F821, UP007 - PIL is loaded where a picture is opened
T = TypeVar("T")


def existing_file(path: str | os.PathLike, role: str, accepted: str) -> Path:
    "`path` (~ is home) as a readable, non-empty file; the error names its `role` and what is `accepted`."
    if not isinstance(path, (str, os.PathLike)):
        raise VasaError(f"the {role} is {'missing (None)' if path is None else f'a {type(path).__name__}'}; {accepted}")
    path = os.path.expanduser(path)
    try:
        about = os.stat(path)
        if at_hand := stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode):
            open(path, "rb").close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VasaError(f"cannot read the {role} {str(path)!r}: {reason.lower()}; {accepted}") from None
    if not at_hand:  # to open a pipe is to wait for its writer, and it can be read only once
        raise VasaError(f"cannot read the {role} {str(path)!r}: it is a pipe or a device, save it as a file first; "
                        f"{accepted}")
    if about.st_size == 0:
        raise VasaError(f"cannot read the {role} {str(path)!r}: the file is empty (0 bytes); {accepted}")
    return Path(path)


def called(source: PictureFile, role: str) -> str:
    "What messages call a file: its role, and its path where it has one."
    return f"the {role} {str(source)!r}" if isinstance(source, (str, os.PathLike)) else f"the {role}"


def content_of(source: T | IO, role: str, accepted: str) -> T | bytes:
    "The content (bytes) of an open file, from its beginning where it can go back; anything else as it is."
    source = getattr(source, "buffer", source)   # of a file that was opened as text
    if not hasattr(source, "read"):
        return source
    if source.seekable():
        source.seek(0)
    if isinstance(content := source.read(), str):
        raise VasaError(f"the {role} is open as text: open it as bytes; {accepted}")
    return content


@contextmanager
def media_file(source: File, role: str, accepted: str) -> Iterator[Path]:
    """Yields the path of an `existing_file`, or of a temporary one with the content that `source` is: bytes or an open
    file."""
    content = content_of(source, role, accepted)
    if not isinstance(content, (bytes, bytearray, memoryview)):
        yield existing_file(content, role, accepted)
        return
    if not len(content):
        raise VasaError(f"the {role} is empty (0 bytes); {accepted}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "content"
        path.write_bytes(content)
        yield path


def tensor_of(values: "np.ndarray | Tensor", role: str, accepted: str) -> "Tensor":
    "Numbers in an array of any memory layout, or in a tensor, as a tensor on the CPU; or VasaError."
    import torch
    if isinstance(values, torch.Tensor):
        return values.detach().cpu()
    values = np.asarray(values)
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
        raise VasaError(f"the {role} is an array of {values.dtype.name}; {accepted}")
    return torch.from_numpy(np.require(values, values.dtype.newbyteorder("="), ["C", "W"]))


def shapeless(picture: "Tensor") -> bool:
    "Whether a picture, a tensor uint8 (3, H, W), is all of one colour, or noise: neighbours are unalike."
    import torch
    grey = picture.float().mean(0)
    pairs = torch.stack([grey[:, :-1].flatten(), grey[:, 1:].flatten()])
    return bool(grey.std() < 2 or torch.corrcoef(pairs)[0, 1] < 0.7)


def video_path(path: str | os.PathLike) -> Path:
    "`path` (~ is home) as a possible .mp4 output: right ending, no folder, in a folder that exists and may be written."
    path = Path(os.path.expanduser(path))
    problem = ("videos are MP4; give a name that ends in .mp4" if path.suffix.lower() != ".mp4"
               else "that is a folder; give the name of a file" if path.is_dir()
               else f"there is no folder {str(folder)!r}; make it first"
               if not (folder := output_target(path).parent).is_dir()
               else "permission denied; give a folder that may be written" if not os.access(folder, os.W_OK)
               else None)
    if problem:
        raise VasaError(f"cannot write the video {str(path)!r}: {problem}")
    return path


@contextmanager
def open_picture(path: PictureFile, draft_size: int) -> Iterator["PIL.Image.Image"]:  # noqa: F821
    """Yields a picture file (its path, content, or PIL image) as an upright PIL image, neither tiny nor enormous.

    A JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves more than `draft_size` px on both sides. Errors raised
    while the picture is decoded, which may be inside the block, become a `VasaError` too.
    """
    from PIL import Image
    given, name = isinstance(path, Image.Image), called(path, "portrait")
    with nullcontext(path) if given else media_file(path, "portrait", PICTURES) as path:
        try:
            with warnings.catch_warnings():   # of large pictures, and of metadata that nobody needs
                warnings.simplefilter("ignore")
                opened = nullcontext(path) if given else Image.open(path)
            with opened as image:
                if min(image.size) < MIN_SIDE or image.width * image.height > MAX_PIXELS:
                    raise VasaError(f"{name} has {image.width} x {image.height} px; {PICTURES}")
                if not given:
                    image.draft(None, (draft_size, draft_size))
                yield upright(image)
        except VasaError:
            raise
        except Image.DecompressionBombError:
            raise VasaError(f"{name} has more than 100 megapixels; {PICTURES}") from None
        except Exception as error:  # decoders of damaged files raise nearly anything
            reason = "it is no picture" if isinstance(error, Image.UnidentifiedImageError) else str(error)
            raise VasaError(f"cannot read {name}: {reason}; {PICTURES}") from error


def upright(image):
    """The PIL image turned as its metadata says.

    PIL's own exif_transpose writes all metadata again, and fails where an entry that nobody needs is out of range.
    Metadata that cannot be read say nothing: the picture stays as it is."""
    from PIL.Image import Transpose as T
    turns = {2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE, 6: T.ROTATE_270,
             7: T.TRANSVERSE, 8: T.ROTATE_90}
    turn = None
    with warnings.catch_warnings(), suppress(Exception):   # damaged metadata raise nearly anything
        warnings.simplefilter("ignore")
        turn = turns.get(image.getexif().get(0x0112))
    return image if turn is None else image.transpose(turn)


def decoded(path: File, role: str = "speech", rate: int | None = None,
            block: int = 1 << 16) -> Iterator[tuple[np.ndarray, int]]:
    """Yields (samples (n, channels) float32, rate in Hz) with n = `block` of any file (path or content) in which ffmpeg
    finds sound; the last ones have fewer, or none. rate: to be changed to this one.

    They come through a pipe as AU: six numbers, then bare samples to the end. No header's word is taken for the length.
    Where a track begins later than the pictures beside it, it begins with silence, so that it stays in time.
    """
    import ffmpeg
    with media_file(path, role, SOUNDS) as file:
        sound = ffmpeg.input(f"file:{file}")["a:0"]
        sound = sound.filter("aresample", *filter(None, [rate]), **{"async": 1, "first_pts": 0})
        stream = sound.output("pipe:", format="au", acodec="pcm_f32be")
        with run_ffmpeg(stream, f"cannot read {called(path, role)}", SOUNDS, stdout=subprocess.PIPE) as process:
            if head := process.stdout.read(24):
                _, start, _, _, rate, channels = struct.unpack(">6I", head)
                process.stdout.read(start - 24)
            while head:
                head = process.stdout.read(4 * channels * block)
                whole = len(head) // (4 * channels) * channels
                yield np.frombuffer(head, ">f4", whole).reshape(-1, channels).astype(np.float32), rate


def kind_of(content: bytes, name: str) -> str:
    "'picture' or 'sound', as the content (bytes) says; VasaError, which calls it `name`, where it is neither."
    from PIL import Image
    with warnings.catch_warnings(), suppress(Exception):   # decoders raise nearly anything
        warnings.simplefilter("ignore")
        Image.open(io.BytesIO(content)).close()
        return "picture"
    with suppress(VasaError):
        for samples, _ in decoded(content, block=1 << 12):
            if len(samples):
                return "sound"
    raise VasaError(f"{name} is neither a picture nor a sound; {PICTURES}, and any audio or video file with sound")


def decode_audio(path: File) -> tuple[np.ndarray, int]:
    "All samples (N, channels) float32 of `decoded`, and their rate in Hz."
    blocks = list(decoded(path))
    return np.concatenate([samples for samples, _ in blocks]), blocks[0][1]


@lru_cache
def ffmpeg_exe() -> str:
    "The ffmpeg program: the one on PATH if it writes H.264, else that of imageio-ffmpeg."
    on_path = shutil.which("ffmpeg")
    if on_path and b"libx264" in subprocess.run([on_path, "-encoders"], capture_output=True).stdout:
        return on_path
    try:
        import imageio_ffmpeg
        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise VasaError("there is no ffmpeg with libx264 here; install one, or pip install imageio-ffmpeg") from None


REASONS = {"No space left": "the disk is full", "Permission denied": "permission denied",
           "Read-only file system": "the file system is read-only",
           "does not contain any stream": "the sound or the picture is missing in it",
           "matches no streams": "the sound or the picture is missing in it",
           "Invalid data found": "it is no sound or video file that ffmpeg can read"}


def condense(log: str) -> str:
    "The one line of ffmpeg's messages that says what went wrong, without its bracketed prefix."
    for phrase, reason in REASONS.items():
        if phrase in log:
            return reason
    lines = [line.split("] ", 1)[-1] if line.startswith("[") else line for line in log.splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else "ffmpeg ended without saying why"


@contextmanager
def run_ffmpeg(stream: "ffmpeg.nodes.OutputStream", doing: str, advice: str,  # noqa: F821
               **pipes) -> Iterator[subprocess.Popen]:
    """Runs an ffmpeg-python `stream` and yields its process; a `VasaError` "`doing`: reason; `advice`" if it fails.

    pipes: `stdin` and `stdout` of subprocess.Popen. The process has ended when the block is left, however it is left.
    """
    import ffmpeg
    stream = stream.global_args("-nostdin", "-hide_banner", "-loglevel", "error")
    command = ffmpeg.compile(stream, cmd=ffmpeg_exe(), overwrite_output=True)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **pipes}
    with tempfile.TemporaryFile() as log:  # not a pipe: nobody reads while frames flow, and a full pipe stops both
        process = subprocess.Popen(command, stderr=log, start_new_session=True, **pipes)  # our interrupts are ours
        gone = False  # ffmpeg closed its input before we were done
        try:
            yield process
        except BrokenPipeError:
            gone = True
        except BaseException:
            process.kill()
            raise
        finally:
            for pipe in filter(None, (process.stdin, process.stdout)):
                with suppress(BrokenPipeError):
                    pipe.close()
            process.wait()
        if process.returncode or gone:
            log.seek(0)
            raise VasaError(f"{doing}: {condense(log.read().decode(errors='replace'))}; {advice}")

def as_jpeg(image: "PIL.Image.Image", quality: int = 88) -> "IPython.display.Image":  # noqa: F821
    "A PIL image as a JPEG for a notebook's page: a fifth of what a PNG takes."
    from IPython.display import Image
    stream = io.BytesIO()
    image.save(stream, "jpeg", quality=quality)
    return Image(stream.getvalue(), format="jpeg")
