"""What the package imports: nothing of the notebooks' tools, and little enough to train anywhere."""
import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vasa_ref

PACKAGE = Path(vasa_ref.__file__).parent
MODULES = sorted(p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("_"))
TOOLS = {"nbdev", "fastcore", "execnb", "IPython", "ipywidgets", "matplotlib", "librosa", "soundfile", "ffmpeg", "PIL",
         "imageio_ffmpeg", "transformers", "diffusers"}
ORDER = ["anatomy", "head", "wardrobe", "voice", "performer", "clips", "audio", "face", "frames", "adversary", "disentangle", "separation", "diffusion", "latents", "motion",
         "talker", "controls", "estimator", "metrics", "latency", "provenance", "footage"]
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {tools}: raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Block())
"""


def python(code, *args, timeout=300):
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", BLOCK.format(tools=TOOLS) + code, *map(str, args)], env=env, timeout=timeout,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


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


@pytest.mark.parametrize("name", [m for m in MODULES if m != "controls"])
def test_no_module_needs_the_notebooks_tools_to_be_imported(name):
    heavy = {module.split(".")[0] for module, level in imports(PACKAGE / f"{name}.py") if level == 0}
    assert not heavy & TOOLS


def test_all_modules_import_without_these_tools():
    names = [m for m in MODULES if m != "controls"]
    assert python(f"import importlib\nfor name in {names}: importlib.import_module('vasa_ref.' + name)\nprint(len({names}))"
                  ) == f"{len(names)}\n"


def test_modules_import_only_from_modules_to_their_left():
    """The order of the notebooks is the order of imports; plain Python beside them is open to all."""
    for name in [m for m in MODULES if m in ORDER]:
        used = {module for module, level in imports(PACKAGE / f"{name}.py") if level == 1} & set(ORDER)
        late = {module for module in used if ORDER.index(module) >= ORDER.index(name)}
        assert not late, f"{name} imports {late}"


def test_training_runs_without_these_tools(tmp_path):
    """A GPU machine with torch and a handful of packages is enough; weights come out, and animate's loaders read them."""
    code = "from vasa_ref.cli import main\nsys.exit(main(sys.argv[1:]))"
    python(code, "train", "all", "--preset", "tiny", "--minutes", "0.2", "--quiet", "--out", tmp_path)
    from vasa_ref.weights import FILES, load_weights
    for name in FILES:
        state, metadata = load_weights(tmp_path / name)
        assert state and metadata["kind"].endswith("Config")
