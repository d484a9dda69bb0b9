"""The discriminator: shapes, the hinge, and a game in which no gradient goes where it should not."""
import pytest
import torch

from vasa_ref.face.adversary import PatchDiscriminator, adversarial_losses, feature_matching, hinge_loss


def generator(seed=0): return torch.Generator().manual_seed(seed)


@pytest.fixture
def discriminator():
    torch.manual_seed(0)
    return PatchDiscriminator((8, 16, 24))


def pictures(n=2, seed=1): return torch.rand(n, 3, 32, 32, generator=generator(seed))


def test_one_logit_for_each_patch(discriminator):
    logits, maps = discriminator(pictures())
    assert logits.shape == (2, 1, 4, 4) and [tuple(m.shape[1:]) for m in maps] == [(8, 16, 16), (16, 8, 8), (24, 4, 4)]


def test_hinge_asks_for_no_more_than_one():
    assert hinge_loss(torch.tensor([1.0, 5.0]), torch.tensor([-1.0, -3.0])) == 0
    assert hinge_loss(torch.tensor([0.0]), torch.tensor([0.5])) == pytest.approx(1 + 1.5)


def test_feature_matching_is_zero_for_equals(discriminator):
    maps = discriminator(pictures())[1]
    assert feature_matching(maps, maps) == 0 and feature_matching(maps, discriminator(pictures(seed=2))[1]) > 0


def test_each_side_learns_from_its_own_loss_only(discriminator):
    drawn = pictures(seed=3).requires_grad_()
    losses = adversarial_losses(discriminator, drawn, pictures(seed=4))
    assert set(losses) == {"discriminator", "adversarial", "matching"}
    for name, teaches_discriminator in (("discriminator", True), ("adversarial", False), ("matching", False)):
        where = [drawn, *discriminator.parameters()]
        grads = torch.autograd.grad(losses[name], where, retain_graph=True, allow_unused=True)
        assert (grads[0] is None) == teaches_discriminator, name
        assert any(g is not None for g in grads[1:]) == teaches_discriminator, name


def test_the_losses_are_those_of_two_turns(discriminator):
    drawn, truth = pictures(seed=5), pictures(seed=6)
    losses = adversarial_losses(discriminator, drawn, truth)
    logits, maps = discriminator(drawn)
    true_logits, true_maps = discriminator(truth)
    assert torch.allclose(losses["discriminator"], hinge_loss(true_logits, logits))
    assert torch.allclose(losses["adversarial"], -logits.mean())
    assert torch.allclose(losses["matching"], feature_matching(maps, true_maps))


def test_the_discriminator_learns_to_tell(discriminator):
    optimiser = torch.optim.AdamW(discriminator.parameters(), lr=2e-3)
    sharp, soft = pictures(16, 7), torch.nn.functional.avg_pool2d(pictures(16, 8), 5, 1, 2)
    for _ in range(40):
        optimiser.zero_grad()
        adversarial_losses(discriminator, soft, sharp)["discriminator"].backward()
        optimiser.step()
    blurred = torch.nn.functional.avg_pool2d(pictures(4, 10), 5, 1, 2)
    assert discriminator(pictures(4, 9))[0].mean() > discriminator(blurred)[0].mean() + 0.5
