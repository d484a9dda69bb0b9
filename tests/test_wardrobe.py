"""The wardrobe: fields, outfits, and pictures that are dressed where they should be and nowhere else."""
import pytest
import torch

from vasa_ref.head import landmarks, neutral_pose, random_people, render
from vasa_ref.wardrobe import (AMOUNTS, HUES, Outfits, dress, field, jpeg, photograph, random_outfits, random_waves,
                               scene)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def sitting():
    "Three people, their poses, pictures and maps at 64 pixels."
    people, pose = random_people(3, seeded(2)), neutral_pose(3)
    pose[:, 0] = torch.tensor([-0.4, 0.0, 0.4])
    images, maps = render(people, pose, torch.zeros(3, 14), torch.zeros(3, 2), size=64, maps=True)
    return people, pose, images, maps


def wearing(n=3, **amounts):
    "Outfits of `n` people with these amounts and nothing else."
    outfits = random_outfits(n, seeded(1))
    outfits.amounts = torch.zeros(n, len(AMOUNTS))
    for name, amount in amounts.items():
        outfits.amounts[:, AMOUNTS.index(name)] = amount
    return outfits


def dressed(sitting, **amounts):
    people, pose, images, maps = sitting
    return dress(images, maps, people, pose, wearing(**amounts))


def test_parts_share_the_mask(sitting):
    parts, mask = sitting[3]["parts"], sitting[3]["mask"]
    assert parts.shape == (3, 7, 64, 64) and (parts >= 0).all()
    assert torch.allclose(parts.sum(1, keepdim=True), mask, atol=1e-5)
    assert (parts.mean((2, 3))[:, [0, 5, 6]] > 0.01).all()            # everybody has skin, hair and clothes


def test_fields_have_unit_variance_and_the_asked_frequencies():
    waves = random_waves(200, 12, 3, 30, seeded())
    size = waves[..., :3].norm(dim=2)
    assert waves.shape == (200, 12, 5) and size.min() >= 3 - 1e-4 and size.max() <= 30 + 1e-3
    points = torch.rand(1, 3, 40, 40, generator=seeded(1)) * 8 - 4
    values = field(waves, points)
    assert values.shape == (200, 1, 40, 40)
    assert abs(values.square().mean() - 1) < 0.1 and abs(values.mean()) < 0.1
    one = torch.tensor([[[2.0, 0, 0, 0.5, 3.0]]])
    assert torch.allclose(field(one, points), 3 * torch.sin(2 * points[:, :1] + 0.5))


def test_outfits_repeat_with_the_seed_and_index_like_people():
    a, b, c = random_outfits(6, seeded(3)), random_outfits(6, seeded(3)), random_outfits(6, seeded(4))
    assert all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values()))
    assert not torch.equal(a.hues, c.hues)
    assert len(a[2:5]) == 3 and torch.equal(a[torch.tensor([4])].amounts[0], a.amounts[4])
    assert a.hues.shape == (6, len(HUES), 3) and isinstance(a.to("cpu"), Outfits)


def test_share_of_plain_people_and_what_is_held_out():
    many = random_outfits(3000, seeded(5), plain=0.4)
    assert abs((many.amounts == 0).all(1).float().mean() - 0.4) < 0.05
    paint = [AMOUNTS.index(name) for name in ("paint", "posterise")]
    assert (many.amounts[:, paint] == 0).all()
    strange = random_outfits(50, seeded(6), held_out=True)
    assert (strange.amounts[:, paint] > 0).all() and strange.amounts.count_nonzero(dim=1).eq(2).all()


def test_who_wears_nothing_is_not_changed(sitting):
    assert torch.allclose(dressed(sitting), sitting[2], atol=1e-5)


def test_a_scene_changes_only_what_is_behind(sitting):
    _, _, images, maps = sitting
    changed = (dressed(sitting, scene=1.0, detail=0.5) - images).abs().amax(1, keepdim=True)
    assert changed[maps["mask"] > 0.999].max() < 1e-5 and changed[maps["mask"] < 0.001].mean() > 0.05


@pytest.mark.parametrize("name, part", [("pattern", 6), ("beard", 0), ("freckles", 0)])
def test_paint_stays_on_its_part(sitting, name, part):
    _, _, images, maps = sitting
    changed = (dressed(sitting, **{name: 1.0}) - images).abs().amax(1)
    assert changed[maps["parts"][:, part] == 0].max() < 1e-5 and changed.max() > 0.05


def test_glasses_go_round_the_eyes_and_a_hat_above_them(sitting):
    people, pose, images, maps = sitting
    marks = landmarks(people, pose, torch.zeros(3, 14))[1]            # the one who looks straight ahead
    c = (torch.arange(64) + 0.5) / 32 - 1
    rows = lambda changed: (changed.sum(1) * c).sum() / changed.sum()
    frame = (dressed(sitting, glasses=1.0)[1] - images[1]).abs().amax(0)
    hat = (dressed(sitting, hat=1.0)[1] - images[1]).abs().amax(0)
    assert abs(rows(frame) - marks[:2, 1].mean()) < 0.05 and rows(hat) < marks[:2, 1].mean() - 0.2
    at_eye = frame[round(32 * (float(marks[0, 1]) + 1)), round(32 * (float(marks[0, 0]) + 1))]
    assert at_eye < 0.05 < frame.max()                                 # clear glass


def test_everything_at_once_is_a_picture_and_one_row_does_not_touch_another(sitting):
    people, pose, images, maps = sitting
    outfits = random_outfits(3, seeded(9), plain=0.0)
    outfits.amounts[:] = 0.8
    every = dress(images, maps, people, pose, outfits)
    assert every.shape == images.shape and 0 <= every.min() and every.max() <= 1 and every.isfinite().all()
    alone = dress(images[1:2], {k: v[1:2] for k, v in maps.items()}, people[1], pose[1:2], outfits[1:2])
    assert torch.allclose(alone, every[1:2], atol=1e-5)


def test_scenes_differ_and_fit_the_size():
    rooms = scene(random_outfits(4, seeded(10), plain=0.0), 32)
    assert rooms.shape == (4, 3, 32, 32) and (rooms[0] - rooms[1]).abs().mean() > 0.05


@pytest.mark.parametrize("quality", [15, 50, 90])
def test_jpeg_agrees_with_pillow(sitting, quality):
    import io

    import numpy as np
    from PIL import Image
    images = dressed(sitting, scene=1.0, detail=1.0, texture=1.0)[..., :60, :50]          # no multiple of eight
    theirs = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality, subsampling=0)
        theirs.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255)
    ours = jpeg(images, torch.full((3,), float(quality)))
    gap, loss = (255 * (ours - other).abs().mean() for other in (torch.stack(theirs), images))
    assert ours.shape == images.shape and gap < 1.5 and gap < 0.7 * loss   # Pillow rounds on the way, to whole levels


def test_a_bad_camera_changes_each_picture_its_own_way(sitting):
    images = sitting[2]
    a, b = (photograph(images, seeded(1)) for _ in range(2))
    assert torch.equal(a, b) and 0 <= a.min() and a.max() <= 1
    gaps = (a - images).abs().mean((1, 2, 3))
    assert (gaps > 0).all() and (gaps < 0.08).all() and not torch.isclose(gaps[0], gaps[1])
