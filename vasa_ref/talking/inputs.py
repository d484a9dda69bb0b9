"""What users hand to a talker, in any form: a picture, sound or a film becomes one kind of tensor, or one sentence says
why not."""
from collections.abc import Iterable
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from ..errors import VasaError
from ..face.networks import resize
from ..media.clips import Clip, load_audio, load_portrait, mono, read_frames
from ..media.files import FILES, File, PictureFile, tensor_of
from ..units import SAMPLE_RATE

__all__ = ["FILMS", "PORTRAITS", "WAVEFORMS", "FilmLike", "MotionLike", "PictureLike", "SoundLike", "film_frames",
           "motion_track", "picture_tensor", "portrait_tensor", "stream_chunks", "waveform_tensor"]

PORTRAITS = ("accepted are a picture's path or content, a PIL image, or an array (H, W), (H, W, C) or (C, H, W) of 1, "
             "3 or 4 channels, uint8 or float in [0, 1]")
WAVEFORMS = ("accepted are a file's path or content, samples (N,) at 16 kHz, or a pair of samples, (N,) or of up to 8 "
             "channels, and their rate; samples are float, int16, int32 or uint8")
FILMS = "accepted are a Clip with frames, a video's path or content, or frames uint8 (T, H, W, C) of 1, 3 or 4 channels"
CHUNKS = ("accepted is an iterable of chunks, samples (n,) at 16 kHz, such as a list of arrays or a generator; of a "
          "whole recording, `waveform.split(640)`")
# the same as types; MotionLike is motion (T, M), as `read` gives it
PictureLike = PictureFile | np.ndarray | Tensor
SoundLike = File | np.ndarray | Tensor | tuple[np.ndarray | Tensor, float] | tuple[float, np.ndarray | Tensor]
FilmLike = Clip | File | np.ndarray | Tensor
MotionLike = np.ndarray | Tensor
FULL = {torch.uint8: 2 ** 7, torch.int16: 2 ** 15, torch.int32: 2 ** 31}                    # what stands for 1


def kind(tensor: Tensor) -> str:
    "A tensor's dtype and shape, in words."
    return f"{str(tensor.dtype).removeprefix('torch.')} array {tuple(tensor.shape)}"


def picture_tensor(array: np.ndarray | Tensor) -> Tensor:
    "An array in any form of `PORTRAITS` -> float (3, H, W) in [0, 1]; or VasaError."
    image, channels = tensor_of(array, "portrait", PORTRAITS), (1, 3, 4)                    # grey, RGB, RGB and alpha
    given = kind(image)
    if image.dtype == torch.uint8: image = image / 255
    if image.ndim == 4 and len(image) == 1: image = image[0]
    if image.ndim == 2: image = image[None]
    if image.ndim == 3 and image.shape[0] not in channels and image.shape[2] in channels: image = image.permute(2, 0, 1)
    if image.ndim != 3 or image.shape[0] not in channels or not image.is_floating_point():
        raise VasaError(f"the portrait is a {given}; {PORTRAITS}")
    if min(image.shape[1:]) < 16:
        raise VasaError(f"the portrait is {image.shape[2]} x {image.shape[1]} px; accepted are 16 px and more")
    if not ((image >= 0) & (image <= 1)).all(): raise VasaError(f"the portrait has values outside [0, 1]; {PORTRAITS}")
    image = image.float()
    if len(image) == 4: image = image[:3] * image[3] + 0.5 * (1 - image[3])                 # alpha on mid grey
    return image.expand(3, -1, -1)


def portrait_tensor(portrait: PictureLike, size: int) -> Tensor:
    "A portrait in any form of `PORTRAITS` -> float (1, 3, size, size) in [0, 1], its centre square; or VasaError."
    if not isinstance(portrait, (np.ndarray, Tensor)): return load_portrait(portrait, size)
    image = picture_tensor(portrait)
    side = min(image.shape[1:])
    top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
    return resize(image[None, :, top:top + side, left:left + side], size).clamp(0, 1)


def waveform_tensor(audio: SoundLike, chunk: bool = False) -> Tensor:
    """Sound in any form of `WAVEFORMS` -> float32 (N,) at 16 kHz in [-1, 1] on the CPU, by `mono`; or VasaError.

    As in a file, integers are full at their largest number, and sound louder than 1 is scaled down to it. A `chunk` of
    a stream is at 16 kHz and may be empty; in it, what is beyond 1 is cut off: no chunk knows how loud the others
    are."""
    rate, chunk_rates = None, range(SAMPLE_RATE, SAMPLE_RATE + 1)
    if isinstance(audio, (tuple, list)) and sorted(isinstance(x, Real) for x in audio) == [False, True]:
        audio, rate = sorted(audio, key=lambda x: isinstance(x, Real))
        if rate not in (rates := chunk_rates if chunk else range(1000, 1_000_001)):
            accepted = f"accepted is a whole number from {rates[0]} to {rates[-1]}"
            raise VasaError(f"the speech has a rate of {rate} Hz; {accepted}")
    elif not isinstance(audio, (np.ndarray, Tensor)): return load_audio(audio)
    waveform = tensor_of(audio, "speech", WAVEFORMS)
    given, shape = kind(waveform), tuple(waveform.shape)
    if full := FULL.get(waveform.dtype): waveform = (waveform.float() - full * (waveform.dtype == torch.uint8)) / full
    if waveform.ndim == 2 and rate and min(shape) <= 8:
        waveform = waveform.float().mean(1 if shape[0] >= shape[1] else 0)                  # of the channels
    if waveform.ndim != 1 or not waveform.is_floating_point() or not (chunk or len(waveform)):
        raise VasaError(f"the speech is a {given}; {WAVEFORMS}, with at least one sample")
    if not chunk: return mono(waveform.float()[:, None].numpy(), int(rate or SAMPLE_RATE))
    if not waveform.isfinite().all(): raise VasaError(f"the speech holds NaN or infinite samples; {WAVEFORMS}")
    return waveform.float().clamp(-1, 1)


def stream_chunks(chunks: Iterable[SoundLike]) -> Iterable[SoundLike]:
    "The chunks of a stream as they were given; VasaError where they are none, or where one of them is None."
    if isinstance(chunks, FILES) or not isinstance(chunks, Iterable):
        given = "missing (None)" if chunks is None else f"a {type(chunks).__name__}"
        raise VasaError(f"the speech of the stream is {given}; {CHUNKS}")

    def given():
        for number, chunk in enumerate(chunks):
            if chunk is None: raise VasaError(f"chunk {number} of the speech is missing (None); {CHUNKS}")
            yield chunk

    return given()


def film_frames(video: FilmLike) -> Iterable[Tensor]:
    "The frames uint8 (H, W, C) of a film, in any form of `FILMS`; or VasaError."
    if isinstance(video, FILES) or hasattr(video, "read"): return read_frames(video)
    frames = video.frames if isinstance(video, Clip) else video
    if not isinstance(frames, (np.ndarray, Tensor)): raise VasaError(f"the film is a {type(frames).__name__}; {FILMS}")
    frames = tensor_of(frames, "film", FILMS)
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[3] not in (1, 3, 4):
        raise VasaError(f"the film is a {kind(frames)}; {FILMS}")
    return frames


def motion_track(motion: MotionLike | None, width: int) -> Tensor | None:
    "Motion (T, width) as a tensor, None where there is none; or VasaError."
    if motion is None: return None
    given = motion if isinstance(motion, (np.ndarray, Tensor)) else torch.zeros(0)
    track = tensor_of(given, "track", f"accepted is motion (T, {width})")
    if track.ndim != 2 or track.shape[1] != width or not len(track) or not track.isfinite().all():
        given = f"array {tuple(track.shape)}" if len(track) else type(motion).__name__
        raise VasaError(f"a track is a {given}; accepted is finite motion (T, {width}), as `read` gives")
    return track.float()
