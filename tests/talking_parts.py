"""Sound that is no speech, and long enough, for the tests of the talker's modules."""
import torch


def speech(seconds, seed=0):
    return 0.1 * torch.randn(round(seconds * 16_000), generator=torch.Generator().manual_seed(seed),
                             dtype=torch.float32)
