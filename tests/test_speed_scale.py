"""Scale: a ring sums exactly and sends what the formula says; arithmetic is arithmetic."""
import pytest
import torch

from vasa_ref.speed.scale import Training, budget, efficiency, ring_all_reduce, streams_carried


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shape", [(12,), (5, 3), (2,)])
def test_a_ring_gives_everybody_the_sum(n, shape):
    tensors = list(torch.randn(n, *shape, generator=torch.Generator().manual_seed(n), dtype=torch.float64))
    kept = [t.clone() for t in tensors]
    sums, sent = ring_all_reduce(tensors)
    assert len(sums) == n and all(torch.allclose(one, sum(kept)) and one.shape == shape for one in sums)
    assert all(torch.equal(a, b) for a, b in zip(tensors, kept)), "what was given is left as it was"
    if shape == (12,) and 12 % n == 0:
        assert sent == 2 * (n - 1) * 12 // n


def test_efficiency_by_hand():
    assert efficiency(1, 1.0, 1e12, 1.0) == 1
    # four processes: six rounds of a quarter of 8 bytes at 4 bytes a second, and of a second of latency
    assert efficiency(4, 9.0, 8.0, 4.0, latency=1.0) == pytest.approx(9 / (9 + 6 * (1 + 0.5)))
    shares = [efficiency(n, 0.3, 28e6, 1.25e8) for n in range(1, 17)]
    assert all(a > b for a, b in zip(shares, shares[1:]))


def test_a_budget_by_hand():
    one = Training(parameters=1e9, macs=2e12, batch=5, steps=1000, activations_gb=3.0)
    hours, memory, examples = budget(one, gpus=8, peak_macs=1e14, utilisation=0.5)
    assert hours == pytest.approx(3 * 2e12 * 5 * 1000 / 5e13 / 3600)
    assert memory == pytest.approx(20 + 15) and examples == 40_000
    assert budget(one, gpus=16, peak_macs=1e14, utilisation=0.5).hours == hours, "other batches, not fewer steps"


@pytest.mark.parametrize("seconds, options, streams", [(0.01, {"reserve": 0.0}, 4), (0.01, {}, 3), (0.05, {}, 0),
                                                       (0.01, {"cores": 8, "reserve": 0.0, "fps": 50}, 16)])
def test_streams_that_cores_carry(seconds, options, streams):
    assert streams_carried(seconds, **options) == streams
