"""Public checkpoints, from a folder or the Hugging Face hub: three files, read with clear errors, nothing unpickled."""
import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from .errors import VasaError

__all__ = ["read_checkpoint"]

NEEDED, OPTIONAL = ("config.json", "model.safetensors"), "preprocessor_config.json"


def read_checkpoint(folder_or_hub_name):
    """The parts of a public checkpoint: (config dict, preprocessor dict, {name: tensor}).

    Accepts a folder with config.json, model.safetensors and, if there is one, preprocessor_config.json (else the second
    part is empty); or a name of the Hugging Face hub such as "facebook/wav2vec2-base-960h", which is downloaded once.
    Raises VasaError when a file is absent or damaged, or the hub cannot be reached.
    """
    folder = Path(folder_or_hub_name).expanduser()
    if not folder.is_dir():
        folder = _download(str(folder_or_hub_name))
    for name in NEEDED:
        if not (folder / name).is_file():
            raise VasaError(f"{folder_or_hub_name} has no {name}: accepted are checkpoints with {' and '.join(NEEDED)}")
    try:
        config = json.loads((folder / NEEDED[0]).read_text(encoding="utf-8"))
        optional = folder / OPTIONAL
        preprocessor = json.loads(optional.read_text(encoding="utf-8")) if optional.is_file() else {}
        return config, preprocessor, load_file(folder / NEEDED[1])
    except (ValueError, SafetensorError) as error:
        raise VasaError(f"{folder_or_hub_name} is damaged: {error}") from error


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
        return Path(snapshot_download(name, allow_patterns=[*NEEDED, OPTIONAL]))
    except Exception as error:   # the hub's client raises errors of several libraries
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VasaError(f"{name} could not be had from the Hugging Face hub: {reason}") from error
