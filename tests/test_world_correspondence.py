"""Which pixels of two frames are the same skin: with itself, warped by it, and where skin is hidden."""
import pytest
import torch
import torch.nn.functional as F

from vasa_ref.errors import VasaError
from vasa_ref.world.head import UNIT, load_mesh, neutral_pose
from vasa_ref.world.people import random_people
from vasa_ref.world.picture import SHOTS, make_figures, render, studio
from vasa_ref.world.raster import vertex_normals
from vasa_ref.world.truth import correspondence

SIZE = 128


@pytest.fixture(scope="module")
def figures(): return make_figures(random_people(1, torch.Generator().manual_seed(4), plain=True))


def cloudy():
    "Light from everywhere and no lamp: what a turn of the head changes least."
    shots = studio()
    shots = torch.where(torch.tensor([name in ("key", "fill", "rim") for name in SHOTS]), 0.0, shots)
    return torch.where(torch.tensor([name == "ambient" for name in SHOTS]), 1.3, shots)


def frame(figures, yaw=0.0, pitch=0.0, **units):
    "A picture of somebody and its truth."
    pose, face = neutral_pose(), torch.zeros(1, len(UNIT))
    pose[:, 0], pose[:, 1] = yaw, pitch
    for name, amount in units.items(): face[:, UNIT[name]] = amount
    return render(figures, pose, face, torch.zeros(1, 2), shots=cloudy(), size=SIZE, maps=True)


SMILE = dict(jawOpen=0.4, mouthSmileLeft=0.6, mouthSmileRight=0.6, browInnerUp=0.5)


@pytest.fixture(scope="module")
def straight(figures): return frame(figures)


@pytest.fixture(scope="module")
def turned(figures): return frame(figures, 0.25, -0.1, **SMILE)


def shown(truth):
    "(B, S, S) the pixels whose first sample shows somebody."
    return truth.depth[:, 0] > -2.9


def hidden(truth, other):
    "(B, S, S) the pixels whose skin faces well away from the viewer in the other frame."
    head = other.figures.heads.vertices.shape[1]
    mesh = load_mesh(head > 10_000)
    normal = torch.zeros_like(other.screen)
    normal[:, :head] = vertex_normals(other.screen[:, :head], mesh.triangles)
    return truth.look_up(normal, 1.0)[:, 2] < -0.3


def test_a_frame_with_itself_is_the_identity(straight):
    _, truth = straight
    at, there = correspondence(truth, truth.screen, truth.depth)
    same = F.affine_grid(torch.eye(2, 3)[None], (1, 1, SIZE, SIZE), align_corners=False)
    pixels = (at - same).norm(dim=-1) * SIZE / 2
    assert pixels[there[:, 0]].max() < 0.3
    assert there[:, 0][shown(truth)].float().mean() > 0.98 and not there[:, 0][~shown(truth)].any()


@pytest.mark.parametrize("yaw, units, bound", [(0.0, SMILE, 34), (0.25, {}, 27), (0.25, SMILE, 27), (-0.5, SMILE, 26)])
def test_one_frame_warped_is_the_other_where_visible(figures, straight, yaw, units, bound):
    (image, truth), (other, beside) = straight, frame(figures, yaw, **units)
    at, there = correspondence(truth, beside.screen, beside.depth)
    # not the edges, where the background mixes in
    inner = F.max_pool2d(1 - there.float(), 3, 1, 1)[:, 0] == 0
    psnr = lambda a, b: -10 * torch.log10(((a - b) ** 2).mean(1)[inner].mean()).item()
    warped, still = psnr(F.grid_sample(other, at, align_corners=False), image), psnr(other, image)
    print(f"yaw {yaw}, {len(units)} units: {there.float().mean():.0%} of the picture is seen in both; PSNR there "
          f"{warped:.1f} dB warped, {still:.1f} dB as it is")
    assert there.float().mean() > 0.25
    assert warped > bound and warped > still + 4


def test_there_and_back_is_where_one_was(straight, turned):
    (_, truth), (_, beside) = straight, turned
    at, there = correspondence(truth, beside.screen, beside.depth)
    back, seen = correspondence(beside, truth.screen, truth.depth)
    same = F.affine_grid(torch.eye(2, 3)[None], (1, 1, SIZE, SIZE), align_corners=False)
    round_trip = F.grid_sample(back.permute(0, 3, 1, 2), at, align_corners=False).permute(0, 2, 3, 1)
    both = there[:, 0] & (F.grid_sample(seen.float(), at, align_corners=False)[:, 0] > 0.99)
    pixels = ((round_trip - same).norm(dim=-1) * SIZE / 2)[both]
    assert both.float().mean() > 0.3 and pixels.median() < 0.3 and pixels.quantile(0.95) < 1.5


@pytest.mark.parametrize("yaw", [-1.1, 1.1])
def test_what_is_hidden_is_not_called_visible(figures, straight, yaw):
    (_, truth), (_, beside) = straight, frame(figures, yaw)
    _, there = correspondence(truth, beside.screen, beside.depth)
    away = hidden(truth, beside) & shown(truth)
    assert away.sum() > 100                                                          # the far cheek and ear
    assert there[:, 0][away].float().mean() < 0.03
    assert there[:, 0][shown(truth) & ~away].float().mean() > 0.4


def test_what_lies_outside_the_other_picture_is_not_called_visible(figures, straight):
    _, truth = straight
    pose = neutral_pose()
    # most of the head beyond the right border
    pose[:, 3] = 0.8
    _, beside = render(figures, pose, torch.zeros(1, len(UNIT)), torch.zeros(1, 2), size=SIZE, maps=True)
    at, there = correspondence(truth, beside.screen, beside.depth)
    assert there.any() and at[there[:, 0]].abs().max() < 1
    assert not there[:, 0][shown(truth) & (at[..., 0] > 1)].any()


def test_a_batch_is_its_frames_one_by_one(figures):
    generator = torch.Generator().manual_seed(0)
    pose = neutral_pose(3)
    pose[:, :3] = 0.3 * torch.randn(3, 3, generator=generator)
    units, gaze = 0.3 * torch.rand(3, len(UNIT), generator=generator), 0.2 * torch.randn(3, 2, generator=generator)
    images, truth = render(figures, pose, units, gaze, shots=studio(3), size=48, maps=True)
    for i in range(3):
        image, own = render(figures, pose[i:i + 1], units[i:i + 1], gaze[i:i + 1], size=48, maps=True)
        assert ((images[i:i + 1] - image) ** 2).mean() < 1e-5                        # 50 dB
        assert (truth.surface()[i:i + 1] == own.surface()).float().mean() > 0.999
        torch.testing.assert_close(truth.screen[i:i + 1], own.screen, atol=1e-5, rtol=0)
    assert torch.equal(truth.look_up(truth.screen).isfinite(), torch.ones(3, 3, 48, 48, dtype=torch.bool))


def test_numbers_of_frames_must_agree(figures):
    with pytest.raises(VasaError, match="2 units"):
        render(figures, neutral_pose(3), torch.zeros(2, len(UNIT)), torch.zeros(3, 2), size=16)
