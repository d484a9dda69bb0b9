"""The encoder of Moonshine from the package that ships it, as audio.safetensors for `vasa train audio --start FOLDER`.

    python tools/moonshine.py FOLDER [--wheel FILE] [--public]
    python tools/moonshine.py FOLDER --probe LEARNT.safetensors ASKED.safetensors FIGURES.json

Downloads PyPI's moonshine-voice (MIT licence), whose assets hold the encoder in onnxruntime's format with matrices of
8 bits, and writes the lowest four layers at 50 states a second (--public: all six, as they are). --wheel takes a wheel
that is here already. --probe asks, for each layer of the public encoder, what a linear layer can read from it: trained
on one file of tools/natural_voices.py, asked about another. Beside what the package needs: pip install onnxruntime
flatbuffers.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from hear_voices import figures
from torch import nn
from tqdm import tqdm

from vasa_ref.errors import VasaError
from vasa_ref.hearing.features import load_recogniser
from vasa_ref.hearing.moonshine import Moonshine, MoonshineConfig, our_names
from vasa_ref.hearing.training import UNKNOWN, load_speech
from vasa_ref.store import load_into, save_weights
from vasa_ref.world.voice import PHONEMES

PACKAGE = "moonshine-voice==0.0.4"     # later ones keep the convolutions in 8 bits as well, or no weights at all
ENCODER = "moonshine_voice/assets/tiny-en/encoder_model.ort"
TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_}


def encoder_file(wheel=None):
    "The bytes of the encoder in a wheel, which is downloaded if none is given."
    with tempfile.TemporaryDirectory() as folder:
        if wheel is None:
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:",
                            "--platform", "manylinux_2_35_x86_64", "-d", folder, PACKAGE], check=True)
            wheel = next(Path(folder).glob("*.whl"))
        try:
            return zipfile.ZipFile(wheel).read(ENCODER)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise VasaError(f"{wheel} holds no encoder of Moonshine: expected a wheel of {PACKAGE}") from error


def ort_graph(data):
    "The tensors of an onnxruntime file by name, and its nodes (name, names of the inputs)."
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession
    graph = InferenceSession.GetRootAsInferenceSession(data, 0).Model().Graph()
    tensors = {}
    for found in map(graph.Initializers, range(graph.InitializersLength())):
        shape = found.DimsAsNumpy() if found.DimsLength() else ()
        values = np.frombuffer(found.RawDataAsNumpy().tobytes(), TYPES[found.DataType()])
        tensors[found.Name().decode()] = values.reshape(shape)
    nodes = [(node.Name().decode(), [node.Inputs(i).decode() for i in range(node.InputsLength())])
             for node in map(graph.Nodes, range(graph.NodesLength()))]
    return tensors, nodes


def encoder_tensors(tensors, nodes):
    "The float32 weights of the encoder by their public names: matrices of 8 bits times their scale."
    state = {name: values for name, values in tensors.items()
             if values.dtype == np.float32 and name.startswith(("conv", "layer"))}
    for name, inputs in nodes:
        for whole in (i for i in inputs if i.endswith("_quantized") and i in tensors):
            base = whole.removesuffix("_quantized")
            centred = tensors[whole].astype(np.float32) - tensors[base + "_zero_point"].astype(np.float32)
            layer = name.strip("/").removesuffix("/MatMul_quant").replace("/", ".")
            state[f"{layer}.weight"] = (centred * tensors[base + "_scale"]).T
        if name == "/groupnorm/Mul": state["groupnorm.weight"] = _channels(tensors, inputs)
        if name == "/groupnorm/Add": state["groupnorm.bias"] = _channels(tensors, inputs)
    return {name: torch.from_numpy(values.copy()) for name, values in state.items()}


def _channels(tensors, inputs):
    return next(tensors[i] for i in inputs if i in tensors).reshape(-1)


def encoder(data, config):
    "A Moonshine of `config` with the weights of the file."
    return load_into(Moonshine(config), our_names(encoder_tensors(*ort_graph(data)), config), ENCODER).eval()


@torch.no_grad()
def layer_states(model, dataset, seconds=900, piece=500):
    "The hidden states (layers + 1, T, hidden) at 50 Hz of the first `seconds`, and the labels (T,), in pieces of 10 s."
    edge, states = (model.config.receptive_field - 320) // 2, []
    frames = min(50 * seconds, len(dataset.waveform) // 320) // piece * piece
    waveform = F.pad(dataset.waveform[:frames * 320].float() / 32767, (edge, edge + 1))
    for first in tqdm(range(0, frames, piece), "states"):
        sound = waveform[None, first * 320:(first + piece) * 320 + 2 * edge + 1]
        states.append(torch.stack([x[0] for x in model.hidden_states(sound)]))
    return torch.cat(states, 1), dataset.labels.long()[2::4][:frames]


def probe(states, labels, epochs=3):
    "A linear layer from states (T, hidden) to phonemes, trained on the known labels (T,)."
    known, linear = labels != UNKNOWN, nn.Linear(states.shape[1], len(PHONEMES))
    states, labels = states[known], labels[known]
    adam = torch.optim.Adam(linear.parameters(), 2e-3)
    for rows in (rows for _ in range(epochs) for rows in torch.randperm(len(states)).split(256)):
        adam.zero_grad()
        F.cross_entropy(linear(states[rows]), labels[rows]).backward()
        adam.step()
    return linear


def probe_layers(model, learnt, asked):
    "Shares by name, one per layer, of `asked` in speech: phonemes, visemes, closed lips."
    torch.manual_seed(0)
    (states, labels), (others, truth) = layer_states(model, learnt), layer_states(model, asked)
    mean, deviation = states.mean(1, keepdim=True), states.std(1, keepdim=True)
    states, others, rows = (states - mean) / deviation, (others - mean) / deviation, []
    with tqdm(range(len(states)), "layers") as layers:
        for layer in layers:
            heard = probe(states[layer], labels)(others[layer]).argmax(-1)
            rows.append(figures(heard, truth)[1:4])
    return dict(zip(("phonemes", "visemes", "closed"), map(list, zip(*rows))))


def heard_before(recogniser, asked, seconds=900):
    "The same shares of the recogniser that is called so, with its own head."
    from hear_voices import hear
    heard, truth = hear(load_recogniser(recogniser), asked)
    return dict(zip(("phonemes", "visemes", "closed"), figures(heard[:50 * seconds], truth[:50 * seconds])[1:4]))


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--public", action="store_true")
    parser.add_argument("--probe", nargs=3, metavar=("LEARNT", "ASKED", "FIGURES"))
    parser.add_argument("--beside", metavar="FOLDER", help="weights of a recogniser to show beside the probes")
    args = parser.parse_args(args)
    data = encoder_file(args.wheel)
    if args.probe:
        learnt, asked = map(load_speech, args.probe[:2])
        model = encoder(data, MoonshineConfig(hop=320))
        told = {name: [round(share, 3) for share in shares]
                for name, shares in probe_layers(model, learnt, asked).items()}
        if args.beside:
            told["before"] = {name: round(share, 3) for name, share in heard_before(args.beside, asked).items()}
        Path(args.probe[2]).write_text(json.dumps(told, indent=1) + "\n")
        return
    config = MoonshineConfig.public() if args.public else MoonshineConfig.laptop()
    args.folder.mkdir(parents=True, exist_ok=True)
    path = args.folder / "audio.safetensors"
    save_weights(path, encoder(data, config), config, dtype=torch.float16, source=PACKAGE)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    try:
        main()
    except VasaError as error:
        sys.exit(f"error: {error}")
