"""Weights on disk: what is saved comes back, and what is wrong with a file is said in one sentence."""
import ast
import dataclasses
import importlib
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import vasa_ref.store as weights
from vasa_ref.errors import VasaError
from vasa_ref.store import (
    atomic_path,
    config_from,
    load_into,
    load_model,
    load_weights,
    save_tensors,
    save_weights,
    shipped_presets,
    weights_folder,
)


@dataclasses.dataclass(frozen=True)
class SmallConfig:
    width: int = 3
    sizes: tuple = (1, 2)
    name: str = "small"


@dataclasses.dataclass
class OtherConfig:
    depth: int = 1


@pytest.fixture
def saved(tmp_path):
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    path = tmp_path / "deep" / "face.safetensors"
    save_weights(path, module, SmallConfig(), steps=7, scores={"psnr": 21.5})
    return module, path


def test_round_trip(saved):
    module, path = saved
    state, metadata = load_weights(path, SmallConfig)
    assert metadata["steps"] == 7 and metadata["scores"] == {"psnr": 21.5} and metadata["kind"] == "SmallConfig"
    assert config_from(SmallConfig, metadata, path) == SmallConfig()
    other = load_into(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), state, path)
    x = torch.randn(5, 3)
    assert torch.equal(module.eval()(x), other.eval()(x))
    assert [p.name for p in path.parent.iterdir()] == ["face.safetensors"]


def test_half_precision_on_disk_is_the_modules_own_in_memory(saved):
    module, path = saved
    whole = path.stat().st_size
    big = nn.Linear(100, 100)
    save_weights(path, big, SmallConfig(), dtype=torch.float16)
    state, _ = load_weights(path)
    assert state["weight"].dtype == torch.float16 and path.stat().st_size < 100 * 100 * 4 > whole
    other = load_into(nn.Linear(100, 100), state, path)
    assert other.weight.dtype == torch.float32
    assert (other.weight - big.weight).abs().max() < 1e-4


def test_shared_tensors_are_saved(tmp_path):
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    save_weights(tmp_path / "w.safetensors", tied, SmallConfig())
    state, _ = load_weights(tmp_path / "w.safetensors")
    assert torch.equal(state["0.weight"], state["1.weight"])


def test_what_cannot_be_read_is_said(saved, tmp_path):
    _, path = saved
    with pytest.raises(VasaError, match="no weights at .*nowhere"):
        load_weights(tmp_path / "nowhere.safetensors")
    with pytest.raises(VasaError, match="kind SmallConfig, expected OtherConfig"):
        load_weights(path, OtherConfig)
    save_tensors(tmp_path / "bare.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(VasaError, match="no config"):
        load_weights(tmp_path / "bare.safetensors")


@settings(max_examples=40, deadline=None)
@given(cut=st.floats(0, 0.999), junk=st.binary(max_size=64), prefix=st.booleans())
def test_damage_is_said_whatever_it_is(tmp_path_factory, cut, junk, prefix):
    """A file cut anywhere, or with other bytes at its front: VasaError, never another exception."""
    folder = tmp_path_factory.mktemp("damage")
    path = folder / "w.safetensors"
    save_weights(path, nn.Linear(3, 2), SmallConfig())
    whole = path.read_bytes()
    path.write_bytes((junk if prefix else b"") + whole[: int(cut * len(whole))])
    with pytest.raises(VasaError, match="damaged|no config"):
        load_weights(path)


def test_tensors_that_do_not_fit_are_named_and_nothing_is_overwritten(saved):
    _, path = saved
    state, _ = load_weights(path)
    wrong = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    before = wrong[1].weight.clone()
    with pytest.raises(VasaError) as error:
        load_into(wrong, state, path)
    message = str(error.value)
    assert str(path) in message and "1.running_mean is not of this model" in message and "\n" not in message
    assert message.endswith("and 4 more")
    assert torch.equal(wrong[1].weight, before)
    with pytest.raises(VasaError, match=r"0.weight is \(2, 3\) and should be \(4, 3\)"):
        load_into(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), state, path)
    with pytest.raises(VasaError, match="2.weight is missing"):
        load_into(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(1, 1)), state, path)


def test_a_model_comes_from_its_config_and_is_frozen(saved):
    module, path = saved
    made = []

    def make(config):
        made.append(config)
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model, metadata = load_model(path, make, SmallConfig)
    assert made == [SmallConfig()] and metadata["steps"] == 7
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert all(map(torch.equal, model.state_dict().values(), module.state_dict().values()))
    with pytest.raises(VasaError, match="expected OtherConfig"): load_model(path, make, OtherConfig)
    with pytest.raises(VasaError, match="does not fit Linear"):
        load_model(path, lambda config: nn.Linear(3, 2), SmallConfig)


def test_a_config_of_another_version_is_said(saved):
    _, path = saved
    _, metadata = load_weights(path)
    with pytest.raises(VasaError, match="made by another version: it differs in .*name, sizes, width of OtherConfig"):
        config_from(OtherConfig, metadata, path)
    metadata["config"].pop("width")                       # a field that came later: its default is what was true before
    assert config_from(SmallConfig, metadata, path).width == SmallConfig().width
    with pytest.raises(ValueError, match="may not be called kind"):
        save_weights(path, nn.Linear(1, 1), SmallConfig(), **{"kind": "other"})


def test_a_failed_write_leaves_what_was_there(saved, monkeypatch):
    module, path = saved
    before = path.read_bytes()

    def full(tensors, filename, metadata):
        filename.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(path, module, SmallConfig())
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_path_appears_only_when_complete(tmp_path):
    out = tmp_path / "clip.mp4"
    with atomic_path(out) as beside:
        assert beside.parent == tmp_path and beside.suffix == ".mp4"
        beside.write_text("done")
        assert not out.exists()
    assert out.read_text() == "done"
    with pytest.raises(KeyboardInterrupt), atomic_path(out) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert out.read_text() == "done" and os.listdir(tmp_path) == ["clip.mp4"]


def test_an_output_that_is_a_link_is_written_through(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "old.bin").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "second.json")
    (tmp_path / "second.json").symlink_to("real/old.bin")                 # a link to a link, relative
    with atomic_path(tmp_path / "link.json") as beside:
        assert beside.parent == tmp_path / "real" and beside.suffix == ".json"
        beside.write_text("new")
    assert (tmp_path / "real" / "old.bin").read_text() == "new"
    assert os.readlink(tmp_path / "second.json") == "real/old.bin"
    assert (tmp_path / "link.json").is_symlink() and os.listdir(tmp_path / "real") == ["old.bin"]
    save_tensors(tmp_path / "link.json", {"a": torch.ones(2)}, {})
    assert (tmp_path / "link.json").is_symlink()
    assert weights.read_tensors(tmp_path / "real" / "old.bin")[0]["a"].tolist() == [1, 1]


def test_links_that_lead_in_a_circle_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink("self.json", "self.json")
    os.symlink("b.json", "a.json"), os.symlink("a.json", "b.json"), os.symlink("a.json", "to-circle.json")
    for name in ("self.json", "a.json", "to-circle.json"):
        with pytest.raises(VasaError, match=f"{name} is a symbolic link that leads back to itself: remove it") as error:
            with atomic_path(name): pytest.fail("nothing is to be written")
        assert "\n" not in str(error.value)
        with pytest.raises(VasaError, match="back to itself"): save_tensors(name, {"a": torch.ones(2)}, {})
    assert sorted(os.listdir()) == ["a.json", "b.json", "self.json", "to-circle.json"]
    assert os.readlink("self.json") == "self.json"


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir(), here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    with atomic_path("~/a.json") as beside:
        assert beside.parent == home
        beside.write_text("new")
    save_tensors("~/new/w.safetensors", {"a": torch.arange(3)}, {"n": 1})
    tensors, metadata = weights.read_tensors("~/new/w.safetensors")
    assert tensors["a"].tolist() == [0, 1, 2] and metadata == {"n": 1}
    assert (home / "a.json").read_text() == "new" and not os.listdir(here)


def test_an_output_that_is_read_only_or_no_file_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_text("mine")
    path.chmod(0o444)
    (tmp_path / "link").symlink_to(path)
    for name in ("w.safetensors", "link"):
        with pytest.raises(VasaError, match=f"{name} is read-only"):
            save_tensors(tmp_path / name, {"a": torch.ones(2)}, {})
    (tmp_path / "device").symlink_to(os.devnull)
    with pytest.raises(VasaError, match="is no file"), atomic_path(tmp_path / "device"):
        pytest.fail("a device is never replaced")
    assert path.read_text() == "mine" and sorted(os.listdir(tmp_path)) == ["device", "link", "w.safetensors"]


def test_a_config_that_is_no_object_is_no_config(tmp_path):
    for config in ([], "x", 3, None):
        save_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, {"config": config, "kind": "SmallConfig"})
        with pytest.raises(VasaError, match="no config"):
            load_weights(tmp_path / "w.safetensors", SmallConfig)


def test_folders(tmp_path, monkeypatch):
    with pytest.raises(VasaError, match="no weights called 'nobody': accepted are"):
        weights_folder("nobody")
    with pytest.raises(VasaError, match="expected audio.safetensors"):
        weights_folder(tmp_path)
    save_weights(tmp_path / "face.safetensors", nn.Linear(1, 1), SmallConfig())
    assert weights_folder(str(tmp_path)) == tmp_path
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path / "pretrained")
    assert shipped_presets() == []
    (tmp_path / "pretrained" / "pocket").mkdir(parents=True)
    assert weights_folder("pocket") == tmp_path / "pretrained" / "pocket"


LOADERS = ("face.detail.load_face", "hearing.features.load_recogniser", "hearing.features.load_audio_encoder",
           "motion.network.load_motion", "motion.network.load_quick", "measure.estimator.load_metrics",
           "measure.lipsync.load_judges", "measure.frame_judges.load_frame_judges", "measure.metrics.load_instruments")
NO_WEIGHTS = {"training.load_checkpoint", "talking.photograph.load_picture", "hearing.training.load_speech",
              "media.clips.load_audio", "media.clips.load_portrait", "world.head.load_mesh",
              "world.head.load_targets",
              "trust.watermark.load_watermark", "trust.detector.load_detector"}    # one of each for all presets


@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_takes_a_preset_and_a_folder(name):
    """By a preset's name, the same weights as from its folder (a path or its text), eval and frozen; else one
    sentence."""
    module, function = name.rsplit(".", 1)
    load = getattr(importlib.import_module(f"vasa_ref.{module}"), function)
    def weights_of(loaded):
        modules = [m for m in vars(loaded).values()
                   if isinstance(m, nn.Module)] if not isinstance(loaded, nn.Module) else [loaded]
        assert modules and not any(m.training or any(p.requires_grad for p in m.parameters()) for m in modules)
        return [x for m in modules for x in m.state_dict().values()]
    by_name, folder = weights_of(load("laptop")), weights_folder("laptop")
    for form in (folder, str(folder)):
        assert all(map(torch.equal, by_name, weights_of(load(form))))
    with pytest.raises(VasaError, match="no weights called 'nobody': accepted are a shipped preset"):
        load("nobody")


def test_no_loader_is_missing_above():
    package = Path(weights.__file__).parent
    found = {".".join([*path.relative_to(package).with_suffix("").parts, node.name]) for path in package.rglob("*.py")
             if path.stem != "store"
             for node in ast.parse(path.read_text()).body
             if isinstance(node, ast.FunctionDef) and node.name.startswith("load_")}
    assert found == {*LOADERS} | NO_WEIGHTS


def test_the_shipped_weights_say_what_they_are():
    """Every file that ships is read, is of its kind and knows its config; all together stay small."""
    assert "laptop" in shipped_presets()
    assert sum(path.stat().st_size for path in weights_folder("laptop").iterdir()) < 40e6
    for preset in shipped_presets():
        for path in weights_folder(preset).glob("*.safetensors"):
            state, metadata = load_weights(path)
            assert state and metadata["kind"].endswith("Config"), path
            assert json.loads(json.dumps(metadata["config"])) == metadata["config"]
            assert all(t.float().isfinite().all() for t in state.values() if t.is_floating_point()), path
