"""Stage two: the losses that redraw a face and keep its factors apart."""
import pytest
import torch

from vasa_ref.face import disentangle
from vasa_ref.face.adversary import PatchDiscriminator
from vasa_ref.face.disentangle import LossWeights, face_loss, l_consist, l_cross_id, pixel_loss, region_weights
from vasa_ref.face.networks import FaceConfig, FaceModel
from vasa_ref.face.perceptual import VGG19, Critic, feature_loss
from vasa_ref.face.pretraining import Recogniser, agreement
from vasa_ref.world.frames import Pool


def generator(seed=0): return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pool(tmp_path_factory): return Pool.make(tmp_path_factory.mktemp("pool"), 16, 3, 32, quiet=True)


@pytest.fixture(scope="module")
def parts():
    "A tiny face model whose flows and pose are not at their zero start, a recogniser and a critic."
    torch.manual_seed(0)
    face = FaceModel(FaceConfig.tiny())
    for flow in (face.to_canonical, face.from_canonical): torch.nn.init.normal_(flow.out.weight, std=0.01)
    torch.nn.init.normal_(face.motion_encoder.pose.out.weight, std=0.02)
    recogniser = Recogniser(face.identity_encoder, face.config.z_id_dim)
    return face, recogniser, Critic(face.motion_encoder, recogniser)


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


def test_vgg_joins_the_losses(pool, parts):
    (face, _, critic), vgg = parts, VGG19()
    torch.manual_seed(0)                                                              # the drivers' augmentation
    loss, named = face_loss(face, critic, pool.draw(2, 3, generator()), LossWeights(vgg=3.0), 0.0, vgg=vgg)
    torch.manual_seed(0)
    without, others = face_loss(face, critic, pool.draw(2, 3, generator()), LossWeights(), 0.0)
    assert set(named) - set(others) == {"vgg"}
    assert loss.item() == pytest.approx(without.item() + named["vgg"].item(), rel=1e-4)


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
    discriminator = PatchDiscriminator((8, 16, 24)) if playing else None
    loss, named = face_loss(face, critic, pool.draw(2, 3, generator()), LossWeights(), share, discriminator)
    both = {"pixels", "structure", "features", "cycle",
            "contrast"} | ({"discriminator", "adversarial", "matching"} if playing else set())
    assert set(named) == (both if share == 0 else both | {"consist", "cross_id", "swap_cycle", "swap_contrast"})
    loss.backward()
    if playing:
        weights = [p for name, p in discriminator.named_parameters() if name.endswith("weight")]
        assert all(p.grad.abs().sum() > 0 for p in weights)
    dead = {n.split(".")[0] for n, p in face.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert dead == {"motion_encoder"}


def test_the_drivers_augmentation_comes_from_the_generator(pool, parts):
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
