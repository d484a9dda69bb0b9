"""A course in notebooks that builds VASA-1, and the package that comes out of it."""
import os

__version__ = "0.1.0"

# Torch's threads spin while they wait for one another, which takes the cores from whoever has work: where other
# programs run it costs far more than it gains. They sleep instead, unless the user says otherwise; read once, when
# torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Names of the package itself, each imported when it is first used: `from vasa_ref import Talker`.
_NAMES = {"VasaError": "errors", "Talker": "talking.talker", "Clip": "media.clips", "load_portrait": "media.clips",
          "load_audio": "media.clips", "make_clip": "world.clips", "say": "world.voice", "perform": "world.performer",
          "random_people": "world.people", "person": "world.people", "portraits": "world.picture",
          "render": "world.picture",
          "EMOTIONS": "units", "UNITS": "world.head"}
__all__ = sorted(_NAMES)


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    return getattr(import_module(f".{_NAMES[name]}", __name__), name)


def __dir__():
    return sorted({*globals(), *_NAMES})
