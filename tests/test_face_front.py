"""The face from the front: where its pixels lie on a head, and the painter."""
import math

import pytest
import torch
import torch.nn.functional as F

from vasa_ref.face.detail import DetailFace, sample_map
from vasa_ref.face.front import RELIEF, FrontPainter, front_places, front_points, smooth
from vasa_ref.face.networks import FaceConfig
from vasa_ref.face.warps import rigid_matrix, transform
from vasa_ref.geometry import neutral_pose

TINY = FaceConfig.tiny_detail()


@pytest.fixture(scope="module")
def painter():
    torch.manual_seed(0)
    return FrontPainter(TINY).eval().requires_grad_(False)


def seeded(seed=0): return torch.Generator().manual_seed(seed)


def test_points_and_places_are_each_other_inverse():
    points = front_points(16)
    line = torch.linspace(-1 + 1 / 16, 1 - 1 / 16, 16)
    places = front_places(points.movedim(-1, 1))
    torch.testing.assert_close(places[0, 0], line.expand(16, 16))
    torch.testing.assert_close(places[0, 1], line[:, None].expand(16, 16))


def test_the_sheet_is_bent_as_its_numbers_say():
    x, y, z = front_points(8)[0].unbind(-1)
    torch.testing.assert_close(z, RELIEF[0] + RELIEF[1] * x ** 2 + RELIEF[2] * y + RELIEF[3] * y ** 2)
    assert z[:, 0].mean() > z[:, 4].mean() + 0.2                                   # temples lie behind the nose


def test_a_worn_face_is_the_one_that_was_unwrapped():
    "A picture that shows its own places, unwrapped in one pose and put on in another, is where the geometry says."
    turned = neutral_pose()
    turned[0, :3] = torch.tensor([0.4, -0.2, 0.3])
    points = front_points(64)
    there = transform(rigid_matrix(turned), points)
    back = transform(rigid_matrix(turned, inverse=True), there)
    line = torch.linspace(-1 + 1 / 64, 1 - 1 / 64, 64)
    own = torch.stack(torch.meshgrid(line, line, indexing="xy"))[None]
    torch.testing.assert_close(sample_map(own, front_places(back.movedim(-1, 1))), own, rtol=0, atol=1e-4)


def test_what_the_painter_gives(painter):
    hints = painter.hints(torch.rand(2, 3, 32, 32, generator=seeded()))
    codes = [torch.randn(2, n, generator=seeded(n)) for n in (TINY.z_id_dim, 6, TINY.z_dyn_dim)]
    painted = painter(hints, *codes)
    assert painted.shape == (2, 4, 32, 32) and 0 <= painted[:, :3].min() and painted[:, :3].max() <= 1
    alone = painter(tuple(h[1:] for h in hints), *(c[1:] for c in codes))
    torch.testing.assert_close(alone, painted[1:], rtol=1e-4, atol=1e-5)
    other = painter(hints, *codes[:2], codes[2] + 3)
    assert (other - painted).abs().mean() > 1e-3                                   # expression matters


def test_a_painter_that_adds_nothing_gives_the_portrait_back(painter):
    still = FrontPainter(TINY).eval().requires_grad_(False)
    still.out.weight.zero_(), still.out.bias.zero_()
    still.out.bias[12:16] = -30.0                                                  # `new`, behind 3 x 4 colours
    picture = torch.rand(1, 3, 32, 32, generator=seeded())
    painted = still(still.hints(picture), torch.zeros(1, TINY.z_id_dim), torch.zeros(1, 6),
                    torch.zeros(1, TINY.z_dyn_dim))
    torch.testing.assert_close(painted[:, :3], picture, rtol=0, atol=1e-5)


def test_the_filter_is_one_two_one_and_the_border_continues():
    image = torch.rand(2, 3, 9, 12, generator=seeded())
    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(3, 1, 3, 3)
    expected = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    torch.testing.assert_close(smooth(image), expected)


def test_no_chequered_pattern_leaves_the_painter(painter):
    """What the last layer alternates from pixel to pixel is gone behind the filter; the portrait's own pixels, which it
    copies, do not go through it."""
    still = FrontPainter(TINY).eval().requires_grad_(False)
    still.out.weight.zero_()
    still.out.bias.copy_(torch.tensor([5.0, -5, -5, 5]).repeat(5))                  # each channel, folded: chequered
    still.out.bias[12:16] = 30.0                                                   # `new`: all is painted
    codes = torch.zeros(1, TINY.z_id_dim), torch.zeros(1, 6), torch.zeros(1, TINY.z_dyn_dim)
    painted = still(still.hints(torch.rand(1, 3, 32, 32, generator=seeded())), *codes)[..., 1:-1, 1:-1]
    torch.testing.assert_close(painted[:, :3], torch.full_like(painted[:, :3], 0.5))


@pytest.mark.parametrize("yaw", [0.0, 0.5])
def test_beyond_its_edge_the_front_does_not_count(yaw):
    torch.manual_seed(1)
    face = DetailFace(TINY).eval().requires_grad_(False)
    image, pose = torch.rand(1, 3, 32, 32, generator=seeded()), neutral_pose()
    pose[0, 0] = yaw
    z_id = face.identity(image)
    drawn = face.draw(face.appearance(image, z_id, (pose, torch.zeros(1, 57))), z_id, pose, torch.zeros(1, 57))
    share, outside = drawn.logits.softmax(1)[:, 3:], drawn.at.abs().amax(1, keepdim=True) > 1.2
    assert outside.float().mean() > 0.3 and share[outside].max() < 0.01 < share[~outside].max()
    middle = (drawn.at.abs().amax(1) < 0.3).nonzero()[:, 1:].float().mean(0)
    assert abs(middle[0] - 19.5) < 4 and (yaw == 0) == math.isclose(middle[1], 15.5, abs_tol=1.5)
