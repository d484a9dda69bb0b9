"""Numbers and names that every part agrees on. No torch here: a command line that only complains needs none."""

__all__ = ["FPS", "SAMPLE_RATE", "FRAME", "EMOTIONS", "UNITS", "UNIT", "PHONEMES"]

FPS = 25                                   # frames of motion and of pictures in a second
SAMPLE_RATE = 16_000                       # samples of sound in a second
FRAME = SAMPLE_RATE // FPS                 # samples in a frame
EMOTIONS = ("neutral", "happy", "sad", "angry", "surprised", "afraid", "disgusted")
# What a face can do, under the names of ARKit, in the order in which every model and file has them; and the place of each.
UNITS = tuple("""eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft eyeWideLeft
    eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight eyeSquintRight eyeWideRight
    jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel mouthPucker mouthLeft mouthRight mouthSmileLeft
    mouthSmileRight mouthFrownLeft mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft
    mouthStretchRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight
    mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight browDownLeft browDownRight browInnerUp
    browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight
    tongueOut""".split())
UNIT = {name: i for i, name in enumerate(UNITS)}
# Classes of sounds, the first one silence: what the audio encoder learns to hear. `world.voice` says which IPA letters
# fall into each.
PHONEMES = tuple("""_ i ɪ e ɛ æ a ɑ ɔ o ʊ u ʌ ə ɜ y ø ɨ p b t d k ɡ
    m n ŋ f v θ ð s z ʃ ʒ x h r l j w aɪ aʊ eɪ oʊ ɔɪ tʃ dʒ""".split())
