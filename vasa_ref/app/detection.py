"""`vasa detect`: what a small detector says of a film or picture, of its pixels and of its lips."""
import sys
from argparse import Namespace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import VasaError

if TYPE_CHECKING:   # heavy, and loaded where a command needs it
    from torch import Tensor

    from ..talking.photograph import Similarity
    from ..trust.detector import Verdict

__all__ = ["SECONDS", "SHORTEST", "detect", "first_sound", "look", "place_of_face"]

ACCEPTED = "accepted are films, and pictures such as JPEG and PNG"
SECONDS, SHORTEST = 10, 2.0          # looked at; of a film whose lips are judged
REACH = 10                           # frames by which sound is shifted against lips
CAVEAT = ("it learnt from this package's models on drawn people, and knows nothing of other generators and of real "
          "films; credentials and marks say more: vasa inspect")


def first_sound(path: str | Path) -> "Tensor | None":
    """The first seconds of a film's sound, a waveform (N,) at 16 kHz; None where it has none, or only silence."""
    import torch
    from ..media.clips import read_sound
    try:
        heard = torch.cat([*islice(read_sound(path), SECONDS)])
    except VasaError:
        return None
    return heard if heard.abs().max() > 0.003 else None


def place_of_face(frame: "Tensor") -> "tuple[Similarity | None, list[str]]":
    """(where the largest face of a frame uint8 (H, W, 3) is, None for the centre square; notes). VasaError for no face.

    Where mediapipe is not installed, it is the centre square, and a note says so."""
    from ..talking import photograph
    square = photograph.centre_square(*frame.shape[:2])
    notes = [f"the face is enlarged from {2 * square.scale:.0f} px, and what is enlarged looks soft, as made faces do"]
    if not photograph.can_find_faces():
        notes.append("mediapipe is not installed, so no face is looked for, and the centre square is judged: "
                     f"{photograph.INSTALL}")
        return None, notes[square.scale >= 100:]
    faces = photograph.find_faces(frame.numpy())
    if not faces:
        raise VasaError("no face was found in it; accepted are films and pictures that begin with a face in view")
    if photograph.as_trained(photograph.pose_in(faces[0], square)):
        return None, notes[square.scale >= 100:]
    notes[0] = notes[0].replace(f"{2 * square.scale:.0f}", f"{2 * faces[0].place.scale:.0f}")
    return faces[0].place, notes[faces[0].place.scale >= 100:]


def look(path: str | Path) -> "tuple[Verdict, Verdict | None, list[str]]":
    """(what the pixels say, what the lips say or None, notes) of a film or picture: two `trust.detector.Verdict`."""
    import torch
    import torch.nn.functional as F
    from ..media.clips import read_frames
    from ..measure.estimator import load_metrics
    from ..measure.lipsync import load_judges
    from ..talking.photograph import crop_picture
    from ..trust.detector import detect, detect_lips, load_detector, to_size
    from ..units import FPS
    as_bytes = lambda image: (255 * image[0].clamp(0, 1)).round().byte().movedim(0, -1)
    size, place, notes, looked, small = load_detector()[0].config.size, None, [], [], []
    for number, frame in enumerate(islice(read_frames(path), SECONDS * FPS)):
        if number == 0: place, notes = place_of_face(frame)
        square = (to_size(frame[None], size) if place is None else
                  crop_picture(frame.movedim(-1, 0), place, size))
        if number % 5 == 0: looked.append(as_bytes(square))
        small.append(as_bytes(F.interpolate(square, (128, 128), mode="bilinear", antialias=True)))   # as it reads lips
    if not looked: raise VasaError(f"it holds no frames; {ACCEPTED}")
    pixels, sound = detect(looked, every=1), first_sound(path) if len(small) > 1 else None
    if len(small) == 1: return pixels, None, notes
    if sound is None: return pixels, None, [*notes, "there is no sound in it, so lips are not judged"]
    if min(len(small) / FPS, len(sound) / 16_000) < SHORTEST:
        return pixels, None, [*notes, f"lips are judged from {SHORTEST:g} s on"]
    with torch.inference_mode():
        curve = load_judges().sync_curve(load_metrics().read(torch.stack(small)).units, sound, REACH)
    return pixels, detect_lips(curve), notes


def detect(args: Namespace) -> None:
    """What the detector says, as lines or as JSON."""
    from ..media.files import existing_file
    from .checks import check_output, write_json
    path = existing_file(args.file, "film or picture", ACCEPTED)
    out = check_output(args.json, ".json", inputs=[path]) if args.json else None
    try:
        pixels, lips, notes = look(path)
    except VasaError as error:
        raise VasaError(f"{path}: {error}") from None
    if out:
        figures = {"made": pixels.made, "score": pixels.score, "threshold": pixels.threshold,
                   "frames": len(pixels.frames)}
        figures |= {} if lips is None else {"lips_off": lips.made, "lips_score": lips.score,
                                            "lips_threshold": lips.threshold}
        write_json(out, figures)
    if args.quiet: return
    say = lambda verdict, yes, no: (f"{yes if verdict.made else no}: {verdict.score:+.2f}, and 95 of 100 true films of "
                                    f"the world stay below {verdict.threshold:+.2f}")
    print(f"{path}:\n  {'pixels':<7} {say(pixels, 'look made', 'do not look made')} "
          f"({len(pixels.frames)} frame{'s' * (len(pixels.frames) > 1)})")
    if lips: print(f"  {'lips':<7} {say(lips, 'do not fit the sound', 'fit the sound')}")
    sys.stderr.writelines(f"vasa: {note}\n" for note in [*notes, CAVEAT])
