"""The training of the plain face model: frames, stages, resuming."""
import dataclasses

import pytest
import torch

from vasa_ref.errors import VasaError
from vasa_ref.face import plain_training
from vasa_ref.face.detail import load_face
from vasa_ref.face.networks import FaceConfig, FaceModel
from vasa_ref.face.plain_training import FaceTraining, FreshFrames, inverse_sqrt, make_pool, shrink, train_face
from vasa_ref.store import load_weights, read_tensors, save_tensors, save_weights
from vasa_ref.world import frames as world_frames
from vasa_ref.world.frames import Pool

PLAN = FaceTraining(people=16, frames=3, pretrain_pairs=2, pretrain_frames=2, pretrain_steps=4, pairs=2, drivers=2,
                    steps=4, alone=2, adversary_from=2, lr=2e-3)


def generator(seed=0): return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pool(tmp_path_factory): return Pool.make(tmp_path_factory.mktemp("pool"), 16, 3, 32, quiet=True)


def train(pool, steps, plan=PLAN, **options):
    return train_face("tiny", max_steps=steps, training=plan, pool=pool, quiet=True, **options)


def test_a_pool_is_made_once_and_grows_where_its_minutes_had_ended(tmp_path, monkeypatch):
    plan = dataclasses.replace(PLAN, people=48, frames=1)
    assert len(make_pool(tmp_path, plan, 16, minutes=0)) == 16                        # one file in any case
    made = []
    drawn = lambda *truth: made.append(truth) or rendered(*truth)
    rendered = world_frames.render_frames
    monkeypatch.setattr(world_frames, "render_frames", drawn)
    assert len(make_pool(tmp_path, plan, 16, minutes=0)) == 16 and made == []
    assert len(make_pool(tmp_path, dataclasses.replace(plan, people=32), 16)) == 32 and len(made) == 1


def test_a_pool_of_other_numbers_is_another_pool(tmp_path, monkeypatch):
    folders = []
    monkeypatch.setattr(plain_training.Pool, "make", lambda folder, *numbers, **options: folders.append(folder))
    monkeypatch.setattr(plain_training.Pool, "open", lambda folder: folder)
    for plan, size, seed in ((PLAN, 32, 0), (PLAN, 64, 0), (PLAN, 32, 1), (dataclasses.replace(PLAN, frames=4), 32, 0)):
        make_pool(tmp_path, plan, size, seed)
    assert len(set(folders)) == 4 and all(folder.parent == tmp_path for folder in folders)


def test_fresh_frames_are_drawn_by_the_generator():
    a, b, c = (FreshFrames(16, "cpu").draw(1, 1, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(a.images, b.images) and not torch.equal(a.images, c.images)
    assert torch.equal(a.dynamics[0], a.dynamics[1])


def test_shrinking_averages_pixels_and_keeps_the_rest(pool):
    drawn = pool.draw(1, 2, generator())
    small = shrink(drawn, 8)
    assert small.images.shape == (2, 2, 3, 8, 8) and small.masks.shape == (2, 2, 1, 8, 8)
    assert torch.allclose(small.images[0, 0, :, 0, 0], drawn.images[0, 0, :, :4, :4].mean(dim=(1, 2)), atol=1e-6)
    assert small.pose is drawn.pose and shrink(drawn, 32) is drawn


def test_all_encoders_learn_together(pool, tmp_path):
    "Stage two moves the motion encoder only where the plan says so."
    for together in (False, True):
        out = tmp_path / str(together)
        face = train(pool, 2, dataclasses.replace(PLAN, together=together), out=out)
        first = read_tensors(out / "face-pretrained.safetensors")[0]
        moved = any(not torch.equal(x, first[f"motion/{name}"]) for name, x in face.motion_encoder.state_dict().items())
        assert moved == together


def test_the_discriminator_is_clipped_apart(pool, tmp_path, monkeypatch):
    seen, fit = [], plain_training.fit
    monkeypatch.setattr(plain_training, "fit",
                        lambda recipe, *args, **options: seen.append(recipe) or fit(recipe, *args, **options))
    train(pool, 2, dataclasses.replace(PLAN, adversary_from=1), out=tmp_path)
    assert [recipe.apart for recipe in seen] == [(), ("discriminator",)] and "discriminator" in seen[1].modules


def test_training_writes_weights_that_load(pool, tmp_path):
    face = train(pool, 2, out=tmp_path)
    loaded = load_face(tmp_path)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    images = torch.rand(2, 3, 32, 32, generator=generator())
    for name, kept in loaded.state_dict().items():
        assert torch.equal(kept, face.state_dict()[name].half().float()), name
    with torch.no_grad(): assert torch.allclose(loaded(images, images), face(images, images), atol=5e-3)
    assert loaded.config == FaceConfig.tiny()
    assert {p.name for p in tmp_path.iterdir()} >= {"face.safetensors", "face-pretrained.safetensors", "face-joint"}


def test_frames_are_rendered_where_none_are_given(pool, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(plain_training, "make_pool", lambda *args: asked.append(args) or pool)
    train_face("tiny", max_steps=1, training=PLAN, out=tmp_path, minutes=10, seed=3, quiet=True)
    [(folder, plan, size, seed, minutes, quiet)] = asked
    assert (folder, plan, size, seed, quiet) == (tmp_path / "face-pool", PLAN, 32, 3, True) and 1.5 < minutes <= 2


def test_a_first_stage_that_was_cut_goes_on(pool, tmp_path):
    train(pool, 1, out=tmp_path)
    assert load_weights(tmp_path / "face.safetensors")[1]["steps"] == {"encoders": 1, "all": 1}
    before = load_face(tmp_path).motion_encoder.state_dict()
    train(pool, 3, resume=tmp_path)
    assert load_weights(tmp_path / "face.safetensors")[1]["steps"] == {"encoders": 3, "all": 3}
    after = load_face(tmp_path).motion_encoder.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)


def test_there_must_be_something_to_resume(pool, tmp_path):
    with pytest.raises(VasaError, match="holds no face training"):
        train(pool, 1, resume=tmp_path)


def test_weights_of_an_unknown_field_are_refused(tmp_path):
    tensors, metadata = {}, {"kind": "FaceConfig", "config": {"colour": 3}}
    save_tensors(tmp_path / "face.safetensors", tensors | {"x": torch.zeros(1)}, metadata)
    with pytest.raises(VasaError, match="differs in .*colour.* of FaceConfig"):
        load_face(tmp_path)


def test_the_second_stage_resumes_exactly(pool, tmp_path):
    """From one and the same first stage, four steps in one go are those in two goes."""
    train(pool, 1, out=tmp_path)
    folders = tmp_path / "once", tmp_path / "twice"
    for folder in folders:
        folder.mkdir()
        (folder / "face-pretrained.safetensors").write_bytes((tmp_path / "face-pretrained.safetensors").read_bytes())
    train(pool, 4, resume=folders[0])
    for steps in (2, 4): train(pool, steps, resume=folders[1])
    a, b = (read_tensors(folder / "face-joint" / "checkpoint.safetensors")[0] for folder in folders)
    assert all(torch.equal(a[k], b[k]) for k in a if k.startswith(("raw/", "average/", "adam/")))


def test_the_first_stage_resumes_exactly_where_its_checkpoint_is(pool, tmp_path):
    whole = train(pool, 4)
    train(pool, 2, out=tmp_path)
    for name in ("face-pretrained.safetensors", "face.safetensors", "face-joint/checkpoint.safetensors"):
        (tmp_path / name).unlink()
    resumed = train(pool, 4, out=tmp_path, resume=tmp_path)
    a, b = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_training_says_what_is_wrong(tmp_path):
    with pytest.raises(VasaError, match="tiny or paper"): train_face("huge", max_steps=1)


def test_loading_says_what_is_wrong(tmp_path):
    with pytest.raises(VasaError, match="no weights"): load_face(tmp_path)
    face, path = FaceModel(FaceConfig.tiny()), tmp_path / "face.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(VasaError, match="damaged"): load_face(tmp_path)
    save_weights(path, face, PLAN)
    with pytest.raises(VasaError, match="FaceTraining"): load_face(path)
    config = FaceConfig.tiny()
    config.z_dyn_dim = 8
    save_weights(path, face, config)
    with pytest.raises(VasaError, match="does not fit FaceModel"): load_face(path)


def test_learning_rate_stays_and_falls():
    rate = inverse_sqrt(1e-3, 100)
    assert rate(0) == rate(99) == 1e-3 and rate(399) == pytest.approx(5e-4)
