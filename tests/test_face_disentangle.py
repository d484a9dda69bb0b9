"""The losses of the face model, and its training."""
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from vasa_ref.errors import VasaError
from vasa_ref.face import disentangle
from vasa_ref.face.adversary import PatchDiscriminator
from vasa_ref.face.detail import load_face
from vasa_ref.face.disentangle import (
    FaceTraining,
    FreshFrames,
    LossWeights,
    Recogniser,
    agreement,
    arcface,
    contrastive_motion,
    cosface,
    dynamics_loss,
    face_loss,
    inverse_sqrt,
    l_consist,
    l_cross_id,
    make_pool,
    pixel_loss,
    pretrain_loss,
    region_weights,
    shrink,
    train_face,
)
from vasa_ref.face.networks import FaceConfig, FaceModel
from vasa_ref.face.perceptual import VGG19, Critic, feature_loss
from vasa_ref.store import load_weights, read_tensors, save_tensors, save_weights
from vasa_ref.world import frames as world_frames
from vasa_ref.world.frames import Pool
from vasa_ref.world.head import UNIT
from vasa_ref.world.people import random_people

PLAN = FaceTraining(people=16, frames=3, pretrain_pairs=2, pretrain_frames=2, pretrain_steps=4, pairs=2, drivers=2,
                    steps=4,
                    alone=2, judge=2, lr=2e-3)


def generator(seed=0): return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pool(tmp_path_factory): return Pool.make(tmp_path_factory.mktemp("pool"), 16, 3, 32, quiet=True)


def train(pool, steps, plan=PLAN, **options):
    return train_face("tiny", max_steps=steps, training=plan, pool=pool, quiet=True, **options)


@pytest.fixture(scope="module")
def parts():
    "A tiny face model whose flows and pose are not at their zero start, a recogniser and a critic."
    torch.manual_seed(0)
    face = FaceModel(FaceConfig.tiny())
    for flow in (face.to_canonical, face.from_canonical): torch.nn.init.normal_(flow.out.weight, std=0.01)
    torch.nn.init.normal_(face.motion_encoder.pose.out.weight, std=0.02)
    recogniser = Recogniser(face.identity_encoder, face.config.z_id_dim)
    return face, recogniser, Critic(face.motion_encoder, recogniser)


# Frames

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
    monkeypatch.setattr(disentangle.Pool, "make", lambda folder, *numbers, **options: folders.append(folder))
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


# Losses

def test_contrastive_motion_is_the_formula():
    a, b = torch.randn(5, 7, generator=generator(1)), torch.randn(5, 7, generator=generator(2))
    s, m = 5.0, 0.2
    cos = lambda x, y: F.cosine_similarity(x, y, dim=0).item()
    def one_way(p, q):
        total = 0.0
        for i in range(5):
            own = math.exp(s * (cos(p[i], q[i]) - m))
            total -= math.log(own / (own + sum(math.exp(s * cos(p[i], q[j])) for j in range(5) if j != i)))
        return total / 5
    assert contrastive_motion(a, b).item() == pytest.approx((one_way(a, b) + one_way(b, a)) / 2, abs=1e-5)


def test_cosface_knows_each_codes_own_key():
    keys = torch.eye(4)
    right, wrong = torch.tensor([2, 2, 0]), torch.tensor([1, 3, 1])
    by_hand = -math.log(math.exp(5 * 0.8) / (math.exp(5 * 0.8) + 3))
    assert cosface(3 * keys[right], keys, right).item() == pytest.approx(by_hand, abs=1e-5)
    assert cosface(keys[right], keys, wrong) > cosface(keys[right], keys, right) + 3


def test_the_contrast_of_drawn_pictures_compares_with_the_drivers_code(pool, parts, monkeypatch):
    face, _, critic = parts
    drawn, seen = pool.draw(3, 3, generator()), []
    monkeypatch.setattr(disentangle, "cosface",
                        lambda codes, keys, which: seen.append((codes, keys, which)) or codes.sum() * 0)
    face_loss(face, critic, drawn, LossWeights(), 1.0)
    (own, keys, mine), (swapped, same, others) = seen
    with torch.no_grad(): z_dyn = critic.motion(drawn.images.flatten(0, 1))[1].unflatten(0, (6, 3))
    assert len(own) == len(swapped) == 6 and keys.shape == (9, face.config.z_dyn_dim) and len(keys.unique(dim=0)) == 9
    assert torch.equal(keys, same) and not keys.requires_grad
    for person in range(6):                 # the key is the code of the pair's first, of the frame that drove
        assert torch.allclose(keys[mine[person]], z_dyn[person // 2 * 2, 1], atol=1e-5)
        assert torch.allclose(keys[others[person]], z_dyn[(person - 2) % 6 // 2 * 2, 2], atol=1e-5)


@pytest.mark.parametrize("together", [False, True])
def test_what_is_read_back_is_compared_with_the_critics_reading(pool, monkeypatch, together):
    torch.manual_seed(0)
    face = FaceModel(FaceConfig.tiny())
    torch.nn.init.normal_(face.motion_encoder.pose.out.weight, std=0.02)
    for flow in (face.to_canonical, face.from_canonical): torch.nn.init.normal_(flow.out.weight, std=0.01)
    critic = Critic(face.motion_encoder, Recogniser(face.identity_encoder, face.config.z_id_dim))
    drawn, told = pool.draw(2, 3, generator()), []
    if together:
        # it has learnt, the critic has not
        with torch.no_grad(): face.motion_encoder.dynamics.out.weight.add_(0.3)
    face.motion_encoder.requires_grad_(together)
    monkeypatch.setattr(disentangle, "agreement", lambda codes, target: told.append(target) or agreement(codes, target))
    face_loss(face, critic, drawn, LossWeights(), 1.0)[0].backward()
    own, swapped = told
    with torch.no_grad():
        pose = face.motion_encoder.read_pose(drawn.images.flatten(0, 1))
        expected = critic.motion.read_z_dyn(drawn.images.flatten(0, 1), pose).unflatten(0, (4, 3))
    assert torch.allclose(own, expected[:, 1], atol=1e-5)
    assert torch.allclose(swapped, expected[torch.arange(4).roll(2), 2], atol=1e-5)
    assert not own.requires_grad
    for p in (face.motion_encoder.dynamics.out.weight, face.motion_encoder.pose.out.weight):
        assert (p.grad is not None and p.grad.abs().sum() > 0) == together


def test_a_critic_does_not_move_its_crop(parts):
    _, _, critic = parts
    pose = torch.tensor([[0.1, 0, 0, 0, 0, 1.0]], requires_grad=True)
    image = torch.rand(1, 3, 32, 32, generator=generator()).requires_grad_()
    critic.look(image, pose)[1].sum().backward()
    assert pose.grad is None and image.grad.abs().sum() > 0


def test_all_encoders_learn_together(pool, tmp_path):
    "Stage two moves the motion encoder only where the plan says so."
    for together in (False, True):
        out = tmp_path / str(together)
        face = train(pool, 2, dataclasses.replace(PLAN, together=together), out=out)
        first = read_tensors(out / "face-pretrained.safetensors")[0]
        moved = any(not torch.equal(x, first[f"motion/{name}"]) for name, x in face.motion_encoder.state_dict().items())
        assert moved == together


def test_vgg_joins_the_losses(pool, parts):
    (face, _, critic), vgg = parts, VGG19()
    torch.manual_seed(0)                                                              # the disguise of the drivers
    loss, named = face_loss(face, critic, pool.draw(2, 3, generator()), LossWeights(vgg=3.0), 0.0, vgg=vgg)
    torch.manual_seed(0)
    without, others = face_loss(face, critic, pool.draw(2, 3, generator()), LossWeights(), 0.0)
    assert set(named) - set(others) == {"vgg"}
    assert loss.item() == pytest.approx(without.item() + named["vgg"].item(), rel=1e-4)


def test_contrast_and_agreement_are_least_for_equal_codes():
    a = torch.randn(6, 8, generator=generator(1))
    other = torch.randn(6, 8, generator=generator(2))
    assert agreement(a, a) == 0 and agreement(a, other) > 1
    assert contrastive_motion(a, a) < 0.5 * contrastive_motion(a, other)
    small, large = agreement(a, other).item(), agreement(7 * a, 7 * other).item()
    assert large == pytest.approx(small, rel=1e-4), "small codes pay too"


def test_closed_eyes_are_not_asked_where_they_look():
    shut = torch.zeros(1, 54)
    shut[0, UNIT["eyeBlinkRight"]] = 1
    wrong = F.pad(torch.full((1, 2), 0.5), (52, 0))
    assert dynamics_loss(shut + wrong, shut) == 0
    assert dynamics_loss(wrong, 0 * shut).item() == pytest.approx(2 * 0.25 / 54 / 0.05)


def test_the_recogniser_standardises_people_and_forgets_their_seed():
    recogniser = Recogniser(FaceModel(FaceConfig.tiny()).identity_encoder, 32)
    people = random_people(500, generator(1)).flat()
    told = recogniser.standardise(people)
    assert told.shape == (500, people.shape[1] - 1) and told.abs().max() <= 4
    assert told.mean(0).abs().max() < 0.3 and told.std(0).median().item() == pytest.approx(1, abs=0.1)
    people[:, -1] += 1
    assert torch.equal(recogniser.standardise(people), told)


def test_arcface_is_the_formula_and_wants_its_margin():
    codes, centres = torch.randn(5, 6, generator=generator(1)), torch.randn(4, 6, generator=generator(2))
    who = torch.tensor([0, 3, 1, 2, 3])
    cosine = F.cosine_similarity(codes[:, None], centres, dim=2)
    logits = 16 * cosine
    for i, y in enumerate(who): logits[i, y] = 16 * math.cos(math.acos(cosine[i, y]) + 0.3)
    assert torch.allclose(arcface(codes, centres, who), F.cross_entropy(logits, who), atol=1e-4)
    # angles only
    assert torch.allclose(arcface(3 * codes, 5 * centres, who), arcface(codes, centres, who), atol=1e-4)
    exact = centres[who].requires_grad_()
    loss = arcface(exact, centres, who)
    loss.backward()
    assert exact.grad.isfinite().all() and loss < arcface(codes, centres, who)
    with torch.autocast("cpu", torch.bfloat16):
        close = centres[who].clone().requires_grad_()
        arcface(close, centres, who).backward()
    assert close.grad.isfinite().all()
    assert arcface(codes, centres, who, margin=0.5) > arcface(codes, centres, who, margin=0.0)


def test_pretrain_loss_teaches_every_parameter(pool, parts):
    face, recogniser, _ = parts
    face.zero_grad()
    recogniser.zero_grad()
    loss, named = pretrain_loss(face.motion_encoder, recogniser, pool.draw(2, 2, generator()), generator())
    assert set(named) == {"pose", "dynamics", "person", "arcface", "contrast"}
    assert loss.item() == pytest.approx(sum(v.item() for v in named.values()))
    loss.backward()
    dead = [n for module in (face.motion_encoder, recogniser) for n, p in module.named_parameters()
            if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_region_weights_look_at_eyes_and_mouth(pool):
    drawn = pool.draw(2, 1, generator())
    masks, marks, pose = (x.flatten(0, 1) for x in (drawn.masks, drawn.marks, drawn.pose))
    weights = region_weights(masks, marks, pose[:, 5])
    assert weights.shape == (4, 1, 32, 32) and torch.allclose(weights.mean(dim=(1, 2, 3)), torch.ones(4), atol=1e-5)
    for i in range(4):
        x, y = ((marks[i] + 1) * 16).long().clamp(0, 31).T
        background = weights[i, 0][masks[i, 0] == 0].median()
        assert (weights[i, 0, y, x] > 5 * background).all() and weights[i, 0][masks[i, 0] == 1].min() > background


def test_pixel_and_feature_losses_are_zero_for_equals():
    a, b = torch.rand(2, 3, 16, 16, generator=generator(1)), torch.rand(2, 3, 16, 16, generator=generator(2))
    weights = torch.ones(2, 1, 16, 16)
    assert pixel_loss(a, a, weights) == 0 and feature_loss([a, b], [a, b]) == 0
    flat = pixel_loss(a + 0.1, a, weights).item()
    assert flat == pytest.approx(0.3, abs=1e-5), "a constant error counts once at each of three sizes, and has no edges"
    assert feature_loss([2 * a], [a]).item() == pytest.approx(1, abs=1e-5)


def test_l_consist_is_zero_when_both_frames_give_the_same_volume(parts):
    face, _, _ = parts
    i, j = torch.rand(2, 2, 3, 32, 32, generator=generator())
    pose, z_dyn = face.motion(i)
    one, other = (face.appearance(x) for x in (i, j))
    z_id = face.identity(i)
    assert l_consist(face, one, z_id, one, z_id, pose, z_dyn) == 0
    assert l_consist(face, one, z_id, other, face.identity(j), pose, z_dyn) > 1e-4


def test_l_cross_id_teaches_the_face_model_and_not_the_recogniser(parts):
    face, _, critic = parts
    face.zero_grad()
    source, driver = torch.rand(2, 2, 3, 32, 32, generator=generator())
    image = face(source, driver)
    pose, _ = face.motion(driver)
    code = critic.look(image, pose)[3]
    l_cross_id(code, critic.recogniser(source)).backward()
    assert all(p.grad is None for frozen in (critic.recogniser, critic.motion) for p in frozen.parameters())
    for part in (face.decoder, face.appearance_encoder, face.canonical, face.to_canonical, face.from_canonical):
        assert sum(p.grad.abs().sum() for p in part.parameters()) > 0
    assert l_cross_id(code, code).item() == pytest.approx(0, abs=1e-6)
    assert l_cross_id(code, -code).item() == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("playing", [False, True])
def test_face_loss_teaches_everything_but_the_motion_encoder(pool, parts, share, playing):
    face, _, critic = parts
    face.zero_grad(set_to_none=True)
    face.motion_encoder.requires_grad_(False)
    judge = PatchDiscriminator((8, 16, 24)) if playing else None
    loss, named = face_loss(face, critic, pool.draw(2, 3, generator()), LossWeights(), share, judge)
    both = {"pixels", "structure", "features", "cycle",
            "contrast"} | ({"judge", "adversarial", "matching"} if playing else set())
    assert set(named) == (both if share == 0 else both | {"consist", "cross_id", "swap_cycle", "swap_contrast"})
    loss.backward()
    if playing: assert all(p.grad.abs().sum() > 0 for name, p in judge.named_parameters() if name.endswith("weight"))
    dead = {n.split(".")[0] for n, p in face.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert dead == {"motion_encoder"}


def test_the_drivers_disguise_comes_from_the_generator(pool, parts):
    face, _, critic = parts
    face.motion_encoder.requires_grad_(True)
    def loss(ours, others):
        torch.manual_seed(others)
        with torch.enable_grad():
            return face_loss(face, critic, pool.draw(2, 3, generator()), LossWeights(),
                             generator=generator(ours))[0].item()
    assert loss(1, 0) == loss(1, 7) != loss(2, 0)
    before = torch.random.get_rng_state()
    face_loss(face, critic, pool.draw(2, 3, generator()), LossWeights(), generator=generator())
    assert torch.equal(torch.random.get_rng_state(), before)
    face.motion_encoder.requires_grad_(False)


# Training

def test_the_discriminator_is_clipped_apart(pool, tmp_path, monkeypatch):
    seen, fit = [], disentangle.fit
    monkeypatch.setattr(disentangle, "fit",
                        lambda recipe, *args, **options: seen.append(recipe) or fit(recipe, *args, **options))
    train(pool, 2, dataclasses.replace(PLAN, judge=1), out=tmp_path)
    assert [recipe.apart for recipe in seen] == [(), ("judge",)] and "judge" in seen[1].modules


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
    monkeypatch.setattr(disentangle, "make_pool", lambda *args: asked.append(args) or pool)
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
