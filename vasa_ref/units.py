"""Numbers and names that every part agrees on. No torch here: a command line that only complains needs none."""

__all__ = ["FPS", "SAMPLE_RATE", "FRAME", "EMOTIONS"]

FPS = 25                                   # frames of motion and of pictures in a second
SAMPLE_RATE = 16_000                       # samples of sound in a second
FRAME = SAMPLE_RATE // FPS                 # samples in a frame
EMOTIONS = ("neutral", "happy", "sad", "angry", "surprised", "afraid", "disgusted")
