"""Scenes stay in range and repeat; JPEG is Pillow's but for rounding; a camera changes what it should."""
import io

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vasa_ref.world.camera import PLACES, jpeg, photograph, random_scenes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n, size, seed=0):
    "Smooth pictures with edges, whole levels of 255."
    coarse = F.interpolate(torch.rand(n, 3, 9, 9, generator=seeded(seed)), (size, size), mode="bicubic")
    coarse[..., size // 3:size // 2, size // 4:] = torch.rand(n, 3, 1, 1, generator=seeded(seed + 1))
    return (coarse.clamp(0, 1) * 255).round() / 255


def through_pillow(images, quality):
    back = []
    for image in images:
        stream = io.BytesIO()
        pixels = (image * 255).round().byte().permute(1, 2, 0).contiguous()
        Image.fromarray(pixels.numpy()).save(stream, "jpeg", quality=quality, subsampling=0)
        read = torch.frombuffer(bytearray(Image.open(stream).tobytes()), dtype=torch.uint8)
        back.append(read.view(pixels.shape).permute(2, 0, 1) / 255)
    return torch.stack(back)


@pytest.mark.parametrize("size", [32, 100])
def test_scenes_are_in_range_and_the_same_for_a_seed(size):
    scenes = random_scenes(30, size, seeded(3))
    assert scenes.shape == (30, 3, size, size)
    assert scenes.min() >= 0 and scenes.max() <= 1 and scenes.isfinite().all()
    assert torch.equal(scenes, random_scenes(30, size, seeded(3)))
    assert not torch.equal(scenes, random_scenes(30, size, seeded(4)))
    means = scenes.mean((2, 3))
    assert torch.cdist(means, means).add(torch.eye(30)).min() > 0        # no two are the same
    assert means.std(0).min() > 0.05                                     # and they differ well


def test_scenes_of_a_seed_are_the_same_at_any_size():
    small, large = random_scenes(10, 48, seeded(1)), random_scenes(10, 192, seeded(1))
    assert (F.avg_pool2d(large, 4) - small).abs().mean() < 0.01


def test_scenes_are_out_of_focus():
    scenes = random_scenes(30, 96, seeded(0))
    again = F.interpolate(F.avg_pool2d(scenes, 2), (96, 96), mode="bilinear")
    assert (again - scenes).abs().mean() < 0.01
    assert len(PLACES) == 5


@pytest.mark.parametrize("quality", [10, 25, 50, 75, 90])
@pytest.mark.parametrize("size", [64, 75])
def test_jpeg_is_pillows_but_for_rounding(quality, size):
    images = pictures(3, size)
    ours = jpeg(images, torch.full((3,), float(quality)))
    apart, lost = (255 * (ours - through_pillow(images, quality)).abs(), 255 * (ours - images).abs())
    assert ours.shape == images.shape and ours.min() >= 0 and ours.max() <= 1
    assert apart.mean() < 1.5
    if quality <= 75: assert apart.mean() < lost.mean()


def test_each_picture_has_a_quality_of_its_own():
    images = pictures(1, 64).expand(3, -1, -1, -1)
    together = jpeg(images, torch.tensor([5.0, 50.0, 95.0]))
    lost = (together - images).square().mean((1, 2, 3)).tolist()
    assert lost == sorted(lost, reverse=True) and lost[0] > 4 * lost[2]
    assert torch.allclose(together[1:2], jpeg(images[:1], torch.tensor([50.0])), atol=1e-6)


def test_jpeg_keeps_a_flat_picture():
    flat = torch.full((1, 3, 24, 24), 0.5)
    assert (jpeg(flat, torch.tensor([90.0])) - flat).abs().max() < 2 / 255


def test_photographs_are_in_range_and_the_same_for_a_seed():
    images = pictures(1, 48).expand(24, -1, -1, -1)
    taken = photograph(images, seeded(0))
    assert taken.shape == images.shape and taken.min() >= 0 and taken.max() <= 1
    assert torch.equal(taken, photograph(images, seeded(0)))
    colours = taken.mean((2, 3))
    assert colours.std(0).min() > 0.02                                   # cameras see other colours
    assert torch.cdist(colours, colours).add(torch.eye(24)).min() > 0


def test_strength_0_leaves_all_but_jpeg_and_more_of_it_changes_more():
    images = pictures(1, 48).expand(64, -1, -1, -1)
    still = (photograph(images, seeded(1), 0.0) - images).abs().amax((1, 2, 3)) < 1e-3
    assert 16 < still.sum() < 48
    changes = [(photograph(images, seeded(1), s) - images).abs().mean().item() for s in (0.0, 0.5, 1.0)]
    assert changes == sorted(changes) and changes[2] > 2 * changes[0]
