"""Weights on disk: one safetensors file per model, its config and statistics as JSON in the file's metadata; and public
checkpoints, from a folder or the Hugging Face hub.

Nothing is unpickled, files appear only when complete, and whatever is wrong with a file is said in one sentence
(`VasaError`): absent, truncated, of another model, or with tensors that do not fit.
"""
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .errors import VasaError
from .precision import float32

__all__ = ["FILES", "atomic_path", "config_from", "load_into", "load_model", "load_weights", "output_target",
           "read_checkpoint", "read_tensors", "save_tensors", "save_weights", "shipped_presets", "weights_folder"]

FILES = ("audio.safetensors", "face.safetensors", "motion.safetensors", "quick.safetensors", "metrics.safetensors",
         "sync.safetensors", "sync-audio.safetensors", "frame-judges.safetensors")   # sync-audio: what sync hears with
PRETRAINED = Path(__file__).parent / "pretrained"


class Dataclass(Protocol):
    """An instance of some dataclass: a model's config."""
    __dataclass_fields__: ClassVar[dict]


Config, Model = TypeVar("Config", bound=Dataclass), TypeVar("Model", bound=nn.Module)


def output_target(path: str | Path) -> Path:
    """The file that is written when `path` (~ is home) is: what it points at, where it is a symbolic link.

    Raises VasaError for what is there and is read-only, or no file (a device, a pipe, a folder, links in a circle)."""
    target = Path(os.path.realpath(os.path.expanduser(path)))
    if target.is_symlink():   # of a circle no end is found
        raise VasaError(f"output {path} is a symbolic link that leads back to itself: remove it, or choose another "
                        "name")
    if target.exists() and not target.is_file():
        raise VasaError(f"output {path} is no file: expected the name of one")
    if target.exists() and not (os.access(target, os.W_OK) and target.stat().st_mode & 0o222):   # root may write all
        raise VasaError(f"output {path} is read-only: make it writable, or choose another name")
    return target


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there takes the place of `path` when the block ends well.

    A symbolic link stays, and what it points at is written. The temporary name keeps the suffix, which tells writers
    the format. On any error it is removed, `path` untouched. Raises VasaError as `output_target` does, OSError as the
    file system does (no such folder, no permission, disk full).
    """
    target = output_target(path)
    beside = target.with_name(f".{target.stem}.{os.getpid()}{Path(path).suffix}")
    try:
        yield beside
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def save_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write {name: tensor} and {name: JSON value} to one safetensors file, atomically; folders are made as needed."""
    Path(os.path.expanduser(path)).parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}  # copies: none share memory
    with atomic_path(path) as beside:
        try:
            save_file(tensors, beside, metadata={k: json.dumps(v) for k, v in metadata.items()})
            beside.chmod(0o644)   # safetensors writes for the owner's eyes only
        except SafetensorError as error:
            raise OSError(f"cannot write {path}: {error}") from error


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors {name: tensor} and metadata {name: JSON value} of a file of `save_tensors`; VasaError if it is none."""
    try:
        with safe_open(os.path.expanduser(path), framework="pt") as file:
            return ({k: file.get_tensor(k) for k in file.keys()},
                    {k: json.loads(v) for k, v in (file.metadata() or {}).items()})
    except (SafetensorError, OSError, ValueError) as error:
        raise VasaError(f"{path} is damaged or no safetensors file of this package ({error})") from error


def save_weights(path: str | Path, module: nn.Module, config: Dataclass, *, dtype: torch.dtype | None = None,
                 **metadata) -> None:
    """Save `module` with its `config` (a dataclass) and any JSON-able `metadata` to a safetensors file, atomically.

    `dtype` (for example torch.float16) stores floating-point tensors in that type; loading gives the module's own back.
    Of eight bits (torch.float8_e4m3fn) are only matrices; vectors, such as biases, then have sixteen.
    """
    def narrow(x):
        if dtype is None or not x.is_floating_point(): return x
        return x.to(torch.float16 if dtype.itemsize == 1 and x.ndim < 2 else dtype)
    tensors = {k: narrow(v) for k, v in module.state_dict().items()}
    reserved = {"config": dataclasses.asdict(config), "kind": type(config).__name__}
    if clash := reserved.keys() & metadata.keys():
        raise ValueError(f"metadata may not be called {', '.join(sorted(clash))}: these names are taken")
    save_tensors(path, tensors, reserved | metadata)


def load_weights(path: str | Path, kind: type | str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `save_weights`: (state_dict on the CPU, metadata with "config": dict, "kind": str, ...).

    `kind` is the config class expected (or its name). Raises VasaError when the file is absent, truncated, no
    safetensors file, not written by `save_weights`, or holds another kind of model.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        raise VasaError(f"no weights at {path}: expected a file such as `vasa train` writes")
    state, metadata = read_tensors(path)
    kind = kind if isinstance(kind, str) or kind is None else kind.__name__
    if not isinstance(metadata.get("config"), dict):
        raise VasaError(f"{path} has no config in its metadata: expected weights that this package saved")
    if kind not in (None, metadata.get("kind")):
        raise VasaError(f"{path} holds weights of kind {metadata.get('kind')}, expected {kind}")
    return state, metadata


def config_from(config_class: type[Config], metadata: dict[str, Any], path: str | Path) -> Config:
    """Rebuild a config dataclass from `metadata["config"]`; VasaError names fields that are unknown, or missing without
    a default.

    A field that came later has as its default what was true before it existed."""
    values = metadata["config"]
    fields = dataclasses.fields(config_class)
    needed = {f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING}
    if other := sorted((values.keys() - {f.name for f in fields}) | (needed - values.keys())):
        raise VasaError(f"{path} was made by another version: it differs in {', '.join(other)} of "
                        f"{config_class.__name__}")
    try:
        return config_class(**{k: _tuples(v) for k, v in values.items()})
    except (TypeError, ValueError) as error:
        raise VasaError(f"{path}: its config makes no {config_class.__name__} ({error})") from error


def _tuples(value):
    """JSON has no tuples: lists come back as the tuples that frozen configs hold."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def load_into(module: Model, state: dict[str, Tensor], path: str | Path) -> Model:
    """Load `state` into `module` and return it; VasaError names tensors that are missing, left over or misshapen.

    Checked before anything is written: on error the module is as it was.
    """
    own = module.state_dict()
    problems = [f"{k} is missing" for k in own if k not in state]
    problems += [f"{k} is not of this model" for k in state if k not in own]
    problems += [f"{k} is {tuple(state[k].shape)} and should be {tuple(own[k].shape)}"
                 for k in own if k in state and state[k].shape != own[k].shape]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise VasaError(f"{path} does not fit {type(module).__name__}: {'; '.join(problems[:3])}{more}")
    with torch.no_grad():
        module.load_state_dict(state)
    return module


@float32()
def load_model(path: str | Path, make: Callable[[Config], Model],
               config_class: type[Config]) -> tuple[Model, dict[str, Any]]:
    """The model of a file of `save_weights`, on the CPU, eval and frozen, and the file's metadata: `make` gives it from
    its config. Raises VasaError as `load_weights`, `config_from` and `load_into` do."""
    state, metadata = load_weights(path, config_class)
    model = load_into(make(config_from(config_class, metadata, path)), state, path)
    return model.eval().requires_grad_(False), metadata


def shipped_presets() -> list[str]:
    """Names of the presets whose weights come with the package."""
    return sorted(p.name for p in PRETRAINED.iterdir() if p.is_dir()) if PRETRAINED.is_dir() else []


def weights_folder(name_or_path: str | Path = "laptop") -> Path:
    """The folder of a shipped preset ("laptop") or of weights trained here; VasaError says what is accepted."""
    name = str(name_or_path)
    if name in shipped_presets():
        return PRETRAINED / name
    folder = Path(name).expanduser()
    shipped = ", ".join(shipped_presets()) or "none"
    if not folder.is_dir():
        raise VasaError(f"no weights called {name!r}: accepted are a shipped preset ({shipped}) or "
                        "a folder of `vasa train`")
    if not any((folder / file).is_file() for file in FILES):
        raise VasaError(f"no weights in {folder}: expected {', '.join(FILES[:3])}, as `vasa train` writes")
    return folder


NEEDED = "config.json", "model.safetensors"
PROCESSOR, PREPROCESSOR = OPTIONAL = "processor_config.json", "preprocessor_config.json"   # newer, older transformers


def read_checkpoint(folder_or_hub_name: str | Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    """The parts of a public checkpoint: (config dict, preprocessor dict, {name: tensor}).

    Accepts a folder with config.json, model.safetensors and, if there is one, preprocessor_config.json or a
    processor_config.json with a feature_extractor (else the second part is empty); or a name of the Hugging Face hub
    such as "facebook/wav2vec2-base-960h", which is downloaded once.
    Raises VasaError when a file is absent or damaged, or the hub cannot be reached.
    """
    folder = Path(folder_or_hub_name).expanduser()
    if not folder.is_dir():
        folder = _download(str(folder_or_hub_name))
    for name in NEEDED:
        if not (folder / name).is_file():
            raise VasaError(f"{folder_or_hub_name} has no {name}: accepted are checkpoints with {' and '.join(NEEDED)}")
    try:
        config, processor, preprocessor = (_json_object(folder / name) for name in (NEEDED[0], *OPTIONAL))
        preprocessor = _object(processor.get("feature_extractor", preprocessor), PROCESSOR)   # as transformers prefers
        return config, preprocessor, load_file(folder / NEEDED[1])
    except (ValueError, RecursionError, OSError, SafetensorError) as error:
        raise VasaError(f"{folder_or_hub_name} is damaged: {error}") from error


def _json_object(path):
    """The JSON object in a file; {} where there is no file, ValueError where it holds something else."""
    return _object(json.loads(path.read_text(encoding="utf-8")), path.name) if path.is_file() else {}


def _object(value, name):
    if not isinstance(value, dict):
        raise ValueError(f"{name} holds {json.dumps(value)[:40]}, expected a JSON object")
    return value


def _download(name):
    """The local copy of a model of the hub."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise VasaError(f"no folder {name!r}: accepted are a folder with {' and '.join(NEEDED)}, "
                        "and a name of the Hugging Face hub such as facebook/wav2vec2-base-960h")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise VasaError(f"{name}: `pip install huggingface_hub` to load from the Hugging Face hub") from error
    try:
        return Path(snapshot_download(name, allow_patterns=[*NEEDED, *OPTIONAL]))
    except Exception as error:   # the hub's client raises errors of several libraries
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VasaError(f"{name} could not be had from the Hugging Face hub: {reason}") from error
