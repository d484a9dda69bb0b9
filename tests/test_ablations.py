"""The tool that trains with one loss left out: what it changes, measures and keeps."""
import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
torch.set_num_threads(1)


@pytest.fixture
def ablations(monkeypatch):
    """The tool at a size that takes seconds: few people, one step, a judge that has learnt nothing."""
    import ablations as tool
    monkeypatch.setattr(tool, "PLAN", dataclasses.replace(tool.PLAN, people=8, frames=3, steps=1))
    monkeypatch.setattr(tool, "PEOPLE", 6)
    monkeypatch.setattr(tool, "FRAMES", 8)
    monkeypatch.setattr(tool, "judge_of", lambda folder: tool.Recogniser(tool.FaceModel(tool.SMALL).identity_encoder, 64).eval())
    return tool


def test_a_wider_z_dyn_draws_the_same(ablations):
    torch.manual_seed(0)
    face, image = ablations.FaceModel(ablations.FaceConfig.tiny()).eval(), torch.rand(2, 3, 32, 32)
    wide = ablations.widened(face, 4).eval()
    assert wide.config.z_dyn_dim == 4 * face.config.z_dyn_dim
    with torch.no_grad():
        z_dyn = wide.motion(image)[1]
        assert torch.allclose(z_dyn[:, :face.config.z_dyn_dim], face.motion(image)[1], atol=1e-6)
        assert z_dyn[:, face.config.z_dyn_dim:].abs().sum() > 0
        assert torch.allclose(wide(image, image.flip(0)), face(image, image.flip(0)), atol=1e-6)


def test_ablations_are_measured_and_not_made_twice(ablations, tmp_path, monkeypatch):
    from vasa_ref.weights import save_weights
    torch.manual_seed(0)
    config = ablations.FaceConfig.tiny()
    save_weights(tmp_path / "w/face.safetensors", ablations.FaceModel(config), config)
    names = ["before", "no consist", "z_dyn x 4"]
    argv = ["ablations", "--json", str(tmp_path / "a.json"), "--folder", str(tmp_path / "f"), "--weights", str(tmp_path / "w"), *names]
    (tmp_path / "f").mkdir()
    monkeypatch.setattr(sys, "argv", argv)
    changed = []
    for name in names[1:]:
        monkeypatch.setitem(ablations.VARIANTS, name, ablations.VARIANTS[name] | {"steps": 1})
    ablations.main()
    told = json.loads((tmp_path / "a.json").read_text())
    assert list(told) == names and all(set(row["linear"]) == {"V_app", "z_id", "pose", "z_dyn"} for row in told.values())
    assert told["no consist"]["trained"]["plan"]["weights"]["consist"] == 0 and told["z_dyn x 4"]["trained"]["plan"]["wider"] == 4
    assert all(0 <= told[name]["self_psnr"] < 40 for name in names)
    monkeypatch.setattr(ablations, "go_on", lambda *args: changed.append(args))
    ablations.main()
    assert not changed and json.loads((tmp_path / "a.json").read_text()) == told
