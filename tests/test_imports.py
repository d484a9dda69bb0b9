"""What the package imports: nothing of the notebooks' tools, and little enough to train anywhere."""
import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vasa_ref

PACKAGE = Path(vasa_ref.__file__).parent
MODULES = sorted(".".join(p.relative_to(PACKAGE).with_suffix("").parts) for p in PACKAGE.rglob("*.py")
                 if not p.stem.startswith("_"))
TOOLS = {"nbdev", "fastcore", "execnb", "IPython", "ipywidgets", "anywidget", "matplotlib", "librosa", "soundfile",
         "ffmpeg", "PIL", "imageio_ffmpeg", "transformers", "diffusers", "c2pa", "cryptography"}
WORLD = ["world." + name for name in ("voice", "rooms", "head", "raster", "people", "skin", "hair", "wardrobe",
                                      "camera", "truth", "picture", "speaking", "prosody", "performer",
                                      "clips", "frames")]
ORDER = ["training", "media.clips", "trust.credentials", "trust.watermark", "trust.detector", *WORLD,
         "hearing.spectra", "hearing.moonshine", "hearing.features", "hearing.training",
         "face.warps", "face.networks", "face.perceptual", "face.adversary", "face.pretraining", "face.disentangle",
         "face.plain_training", "face.separation", "face.reading", "face.front", "face.detail", "face.encoders",
         "face.training", "motion.diffusion", "motion.conditions", "motion.latents", "motion.network",
         "motion.training", "motion.sampling", "motion.distillation", "talking.directing", "talking.offline",
         "talking.talker",
         "talking.photograph", "talking.controls", "talking.adapt", "measure.estimator",
         "measure.lipsync", "measure.frame_judges", "measure.metrics", "measure.tables", "measure.voices",
         "speed.faster", "speed.latency", "speed.scale", "footage.films", "footage.clips"]
ROOMS = ["media", "trust", "world", "hearing", "face", "motion", "talking", "measure", "speed", "footage", "app"]

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {tools}: raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Block())
"""


def python(code, *args, timeout=300):
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", BLOCK.format(tools=TOOLS) + code, *map(str, args)], env=env,
                          timeout=timeout,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def spin_count(code, *args, **variables):
    """How often a thread looks whether it may go on before it sleeps, as torch's OpenMP tells it when it is loaded."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    env |= {"PYTHONPATH": str(PACKAGE.parent), "OMP_DISPLAY_ENV": "verbose", **variables}
    told = subprocess.run([sys.executable, *code, *args], env=env, capture_output=True, text=True).stderr
    if "GOMP_SPINCOUNT" not in told:
        pytest.skip("torch's OpenMP is not GNU's, and does not tell how it waits")
    return int(told.split("GOMP_SPINCOUNT = '")[1].split("'")[0])


ENTRIES = {"vasa": ["-c", "import sys; from vasa_ref.app.cli import main; sys.exit(main())"],
           "python -m vasa_ref": ["-m", "vasa_ref"]}
IN_NEED_OF_TORCH = ["latency", "--device", "nowhere"]


@pytest.mark.parametrize("code", ENTRIES.values(), ids=ENTRIES)
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(code):
    assert spin_count(code, *IN_NEED_OF_TORCH) == 0
    assert spin_count(code, *IN_NEED_OF_TORCH, OMP_WAIT_POLICY="ACTIVE") > 0
    assert spin_count(["-c", "import torch"]) > 0     # or there would be nothing to change


def test_importers_get_sleeping_threads_too():
    assert spin_count(["-c", "from vasa_ref import Talker"]) == 0


def source(name):
    return PACKAGE / f"{name.replace('.', '/')}.py"


def imports(path):
    """(module, level) of every import statement outside functions."""
    def statements(body):
        for node in body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                yield node
            elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
                yield from statements(node.body)
    for node in statements(ast.parse(path.read_text()).body):
        names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        yield from ((name or "", getattr(node, "level", 0)) for name in names)


@pytest.mark.parametrize("name", [m for m in MODULES if m not in ("talking.controls", "widgets")])
def test_no_module_needs_the_notebooks_tools_to_be_imported(name):
    heavy = {module.split(".")[0] for module, level in imports(source(name)) if level == 0}
    assert not heavy & TOOLS


def test_all_modules_import_without_these_tools():
    names = [m for m in MODULES if m not in ("talking.controls", "widgets")]
    code = f"import importlib\nfor name in {names}: importlib.import_module('vasa_ref.' + name)\nprint(len({names}))"
    assert python(code) == f"{len(names)}\n"


def used_by(name):
    """What a module imports of the package, at its top or in a function: modules, or rooms and names of them."""
    # level 1 is a module's own room, 2 the one about it
    room, found = name.split(".")[:-1], set()
    for node in ast.walk(ast.parse(source(name).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "vasa_ref"):
            base = room[:len(room) + 1 - node.level] if node.level else []
            base = base + [part for part in (node.module or "").split(".")
                           if part and (node.level or part != "vasa_ref")]
            found |= {".".join(base)} | {".".join([*base, alias.name]) for alias in node.names}
    return found & set(MODULES)


def test_rooms_import_only_from_rooms_above():
    assert {m.split(".")[0] for m in MODULES if "." in m} == set(ROOMS)
    room = lambda name: "media" if name in ("sheets", "widgets") else name.rpartition(".")[0]
    height = lambda name: ROOMS.index(room(name)) if room(name) else -1
    for name in MODULES:
        late = {module for module in used_by(name) if height(module) > height(name)}
        assert not late, f"{name} imports {late}"


def test_modules_import_only_from_modules_to_their_left():
    """The order of the notebooks is the order of imports; plain Python beside them is open to all."""
    chapters = {m for m in MODULES if "AUTOGENERATED" in source(m).read_text()[:400]}
    assert chapters <= set(ORDER), f"chapters without a place in the order: {chapters - set(ORDER)}"
    for name in [m for m in MODULES if m in ORDER]:
        late = {module for module in used_by(name) & set(ORDER) if ORDER.index(module) >= ORDER.index(name)}
        assert not late, f"{name} imports {late}"


TRAINING = ["vasa_ref.world", "vasa_ref.training", "vasa_ref.hearing.training", "vasa_ref.face.perceptual",
            "vasa_ref.face.adversary", "vasa_ref.face.pretraining", "vasa_ref.face.disentangle",
            "vasa_ref.face.plain_training", "vasa_ref.face.separation", "vasa_ref.face.encoders",
            "vasa_ref.face.training", "vasa_ref.motion.latents", "vasa_ref.motion.training", "vasa_ref.measure",
            "vasa_ref.footage"]


def test_inference_imports_no_training():
    """What animates a portrait is networks, sampling, files and weights: no losses, no data sets, no world."""
    code = "import sys, vasa_ref.talking.talker\nprint(*sys.modules)"
    loaded = python(code).split()
    assert {"vasa_ref.motion.network", "vasa_ref.motion.sampling"} <= set(loaded)
    assert not [m for m in loaded if any(m == name or m.startswith(name + ".") for name in TRAINING)]


def test_directing_with_an_emotion_imports_no_world():
    """What a user asks for is translated without the world that the model learned from."""
    code = ("import sys\nfrom vasa_ref.motion.network import MotionConfig\n"
            "from vasa_ref.talking.directing import motion_controls\n"
            "told = motion_controls(MotionConfig.tiny(), emotion={0: 'sad', 2: 'happy'}, gaze=(5, 0), "
            "head_motion=1.2)\n"
            "told['emotion'](1.0)\nprint(*sys.modules)")
    assert not [m for m in python(code).split() if any(m == name or m.startswith(name + ".") for name in TRAINING)]


def test_the_table_of_conditions_and_the_options_need_no_torch():
    code = ("import sys, vasa_ref.motion.conditions\nfrom vasa_ref.app import cli\n"
            "words = 'animate p.png s.wav -o o.mp4 --gaze 1 2 --emotion sad --blink-rate 9'.split()\n"
            "cli.make_parser().parse_args(words)\n"
            "print([m for m in ('torch', 'numpy') if m in sys.modules])")
    assert python(code) == "[]\n"


@pytest.mark.parametrize("name", ["face.warps", "face.networks", "face.reading", "face.front", "face.detail",
                                  "face.perceptual", "face.adversary", "motion.diffusion"])
def test_models_need_no_world(name):
    code = f"import sys, vasa_ref.{name}\nprint([m for m in sys.modules if m.startswith('vasa_ref.world')])"
    assert python(code) == "[]\n"


def test_training_runs_without_these_tools(tmp_path):
    """A GPU machine with torch and a handful of packages is enough; weights come out, and animate's loaders read
    them."""
    code = "from vasa_ref.app.cli import main\nsys.exit(main(sys.argv[1:]))"
    python(code, "train", "all", "--preset", "tiny", "--minutes", "0.2", "--quiet", "--out", tmp_path)
    from vasa_ref.store import FILES, load_weights
    for name in FILES:
        state, metadata = load_weights(tmp_path / name)
        assert state and metadata["kind"].endswith("Config")
