"""Stage one: the losses of pose, dynamics and identity."""
import math

import pytest
import torch
import torch.nn.functional as F

from vasa_ref.face.networks import FaceConfig, FaceModel
from vasa_ref.face.pretraining import (
    Recogniser,
    agreement,
    arcface,
    contrastive_motion,
    cosface,
    dynamics_loss,
    pretrain_loss,
)
from vasa_ref.world.frames import Pool
from vasa_ref.world.head import UNIT
from vasa_ref.world.people import random_people


def generator(seed=0): return torch.Generator().manual_seed(seed)


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


def test_contrast_and_agreement_are_least_for_equal_codes():
    a = torch.randn(6, 8, generator=generator(1))
    other = torch.randn(6, 8, generator=generator(2))
    assert agreement(a, a) == 0 and agreement(a, other) > 1
    assert contrastive_motion(a, a) < 0.5 * contrastive_motion(a, other)
    alike = pytest.approx(agreement(a, other).item(), rel=1e-4)
    assert agreement(7 * a, 7 * other).item() == alike, "small codes pay too"


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
    assert torch.allclose(arcface(3 * codes, 5 * centres, who), arcface(codes, centres, who), atol=1e-4)   # angles only
    exact = centres[who].requires_grad_()
    loss = arcface(exact, centres, who)
    loss.backward()
    assert exact.grad.isfinite().all() and loss < arcface(codes, centres, who)
    with torch.autocast("cpu", torch.bfloat16):
        close = centres[who].clone().requires_grad_()
        arcface(close, centres, who).backward()
    assert close.grad.isfinite().all()
    assert arcface(codes, centres, who, margin=0.5) > arcface(codes, centres, who, margin=0.0)


def test_pretrain_loss_teaches_every_parameter(tmp_path):
    torch.manual_seed(0)
    face, pool = FaceModel(FaceConfig.tiny()), Pool.make(tmp_path, 16, 2, 32, quiet=True)
    torch.nn.init.normal_(face.motion_encoder.pose.out.weight, std=0.02)               # not at its zero start
    recogniser = Recogniser(face.identity_encoder, face.config.z_id_dim)
    loss, named = pretrain_loss(face.motion_encoder, recogniser, pool.draw(2, 2, generator()), generator())
    assert set(named) == {"pose", "dynamics", "person", "arcface", "contrast"}
    assert loss.item() == pytest.approx(sum(v.item() for v in named.values()))
    loss.backward()
    dead = [n for module in (face.motion_encoder, recogniser) for n, p in module.named_parameters()
            if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []
