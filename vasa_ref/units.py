"""Numbers and names that every part agrees on. No torch here: a command line that only complains needs none."""
from numbers import Real

from .errors import VasaError

__all__ = ["FPS", "SAMPLE_RATE", "FRAME", "EMOTIONS", "UNITS", "UNIT", "SIDES", "PHONEMES", "check_strength",
           "emotion_offsets"]

FPS = 25                                   # frames of motion and of pictures in a second
SAMPLE_RATE = 16_000                       # samples of sound in a second
FRAME = SAMPLE_RATE // FPS                 # samples in a frame
EMOTIONS = ("neutral", "happy", "sad", "angry", "surprised", "afraid", "disgusted")
# What a face can do, under the names of ARKit, in the order that every model and file has; and each one's place.
UNITS = tuple("""eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft eyeWideLeft
    eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight eyeSquintRight eyeWideRight
    jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel mouthPucker mouthLeft mouthRight mouthSmileLeft
    mouthSmileRight mouthFrownLeft mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft
    mouthStretchRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight
    mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight browDownLeft browDownRight browInnerUp
    browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight
    tongueOut""".split())
UNIT = {name: i for i, name in enumerate(UNITS)}
# The place of what each becomes in a mirror: left and right change places, a unit without a side becomes itself.
SIDES = tuple(UNIT[name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")] for name in UNITS)
# Classes of sounds, the first one silence: what the audio encoder learns to hear. `world.voice` says which IPA letters
# fall into each.
PHONEMES = tuple("""_ i ɪ e ɛ æ a ɑ ɔ o ʊ u ʌ ə ɜ y ø ɨ p b t d k ɡ
    m n ŋ f v θ ð s z ʃ ʒ x h r l j w aɪ aʊ eɪ oʊ ɔɪ tʃ dʒ""".split())


def check_strength(strength: float) -> None:
    """VasaError unless the strength of an emotion is a number from 0 to 2."""
    if not isinstance(strength, Real) or not 0 <= strength <= 2:
        raise VasaError(f"emotion strength {strength!r} is out of range; accepted is a number from 0 to 2")


def emotion_offsets(emotion: str | dict[str, float] | None, strength: float = 1.0) -> list[float]:
    """The emotion offset, seven floats in the order of `EMOTIONS`; VASA-1's condition e (section 3.2).

    emotion: a name, a dict of names to weights, or None. None and "neutral" give zeros, no offset; strength from 0 to 2
    scales the rest. Raises `VasaError` for anything else."""
    weights = {} if emotion is None else {emotion: 1.0} if isinstance(emotion, str) else emotion
    names = ", ".join(EMOTIONS)
    if not isinstance(weights, dict):
        raise VasaError(f"emotion {emotion!r} is neither a name nor a dict of weights; accepted names are {names}")
    check_strength(strength)
    for name, weight in weights.items():
        if name not in EMOTIONS:
            raise VasaError(f"unknown emotion {name!r}; accepted are {names}")
        if not isinstance(weight, Real) or not 0 <= weight <= 2:
            raise VasaError(f"weight {weight!r} of emotion {name!r} is out of range; accepted is a number from 0 to 2")
    return [0.0] + [float(strength * weights.get(name, 0.0)) for name in EMOTIONS[1:]]
