"""The rasteriser against one that asks every pixel about every triangle; normals, and pictures."""

import math

import pytest
import torch
import torch.nn.functional as F

from vasa_ref.world.head import load_mesh
from vasa_ref.world.raster import Fragments, barycentric, counted, interpolate, rasterise, to_image, vertex_normals


def soup(seed, count=60, size=0.3, batch=1):
    """Random triangles of their own vertices: places (B, 3 N, 3) and triangles (N, 3)."""
    generator = torch.Generator().manual_seed(seed)
    middle = 2.2 * torch.rand(batch, count, 1, 3, generator=generator) - 1.1
    places = middle + size * torch.randn(batch, count, 3, 3, generator=generator)
    return places.view(batch, 3 * count, 3), torch.arange(3 * count).view(count, 3)


def by_force(screen, triangles, size):
    """(S, S) the nearest triangle, -1 for none; and its weights (S, S, 3). All pixels against all triangles."""
    corner = screen[triangles].double()
    at = (torch.arange(size, dtype=torch.float64) + 0.5) * 2 / size - 1
    p = torch.stack(
        [at.expand(size, size), -at[:, None].expand(size, size), torch.ones(size, size, dtype=torch.float64)], -1
    )
    system = torch.cat([corner[..., :2], torch.ones_like(corner[..., :1])], -1).transpose(1, 2)
    w = torch.einsum("tij,yxj->yxti", torch.linalg.inv(system), p)
    depth = (w * corner[..., 2]).sum(-1).masked_fill((w < 0).any(-1), -torch.inf)
    nearest = depth.argmax(-1)
    chosen = w.gather(2, nearest[..., None, None].expand(size, size, 1, 3))[:, :, 0]
    return torch.where(depth.amax(-1) > -torch.inf, nearest, -1), chosen


@pytest.mark.parametrize("seed, size, spread", [(0, 64, 0.3), (1, 64, 0.1), (2, 33, 0.02), (3, 20, 1.0), (4, 48, 0.3)])
def test_each_pixel_has_its_nearest_triangle(seed, size, spread):
    screen, triangles = soup(seed, size=spread)
    fragments = rasterise(screen, triangles, size)
    ours = torch.full((size * size,), -1).index_put((fragments.pixel,), fragments.triangle).view(size, size)
    true, weights = by_force(screen[0], triangles, size)
    agree = ours == true
    assert (~agree).float().mean() < 0.005
    both = agree & (true >= 0)
    image = to_image(fragments, fragments.weights)[0].permute(1, 2, 0)
    torch.testing.assert_close(image[both], weights[both].float(), atol=2e-3, rtol=0)


def test_weights_sum_to_one_and_mix_corners_into_the_pixel():
    screen, triangles = soup(7)
    f = rasterise(screen, triangles, 50)
    torch.testing.assert_close(f.weights.sum(1), torch.ones(len(f.pixel)))
    at = interpolate(f, triangles, screen)[:, :2]
    pixel = torch.stack([f.pixel % 50 + 0.5, f.pixel // 50 + 0.5], 1) * 2 / 50 - 1
    torch.testing.assert_close(at, pixel * torch.tensor([1.0, -1.0]), atol=1e-3, rtol=0)


def test_a_batch_is_its_pictures():
    screen, triangles = soup(8, batch=3)
    values = torch.randn(3, screen.shape[1], 2, generator=torch.Generator().manual_seed(0))
    f = rasterise(screen, triangles, 40)
    together = to_image(f, interpolate(f, triangles, values), 9.0)
    single = [rasterise(screen[i : i + 1], triangles, 40) for i in range(3)]
    for i, one in enumerate(single):
        torch.testing.assert_close(
            together[i : i + 1], to_image(one, interpolate(one, triangles, values[i : i + 1]), 9.0), atol=1e-4, rtol=0
        )
    joined = Fragments.cat(single, len(triangles))
    assert torch.equal(joined.pixel, f.pixel) and torch.equal(joined.triangle, f.triangle) and joined.batch == 3
    shared = interpolate(f, triangles, values[:1])  # the same values for all of the batch
    torch.testing.assert_close(
        to_image(f, shared)[0], to_image(single[0], interpolate(single[0], triangles, values[:1]))[0]
    )


def test_background_shows_where_nothing_is():
    screen = torch.tensor([[[5.0, 5, 0], [6, 5, 0], [5, 6, 0]]])
    f = rasterise(screen, torch.tensor([[0, 1, 2]]), 16)
    assert len(f.pixel) == 0
    assert torch.equal(to_image(f, torch.zeros(0, 3), 0.5), torch.full((1, 3, 16, 16), 0.5))


def test_the_order_of_triangles_does_not_matter():
    screen, triangles = soup(9)
    order = torch.randperm(len(triangles), generator=torch.Generator().manual_seed(1))
    a, b = rasterise(screen, triangles, 48), rasterise(screen, triangles[order], 48)
    assert torch.equal(a.pixel, b.pixel) and (a.triangle == order[b.triangle]).float().mean() > 0.999


def test_what_faces_away_is_left_out_unless_it_counts_from_both_sides():
    screen = torch.tensor([[[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.0, 0.5, 0.0]]])
    one_side, both = torch.tensor([False]), torch.tensor([True])
    facing, away = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 2, 1]])  # anticlockwise faces the viewer
    assert len(rasterise(screen, facing, 32, one_side).pixel) > 100
    assert len(rasterise(screen, away, 32, one_side).pixel) == 0
    assert len(rasterise(screen, away, 32, both).pixel) == len(rasterise(screen, away, 32).pixel) > 100


def test_neighbours_leave_no_holes():
    grid = torch.linspace(-0.97, 0.97, 30)
    x, y = torch.meshgrid(grid, grid, indexing="xy")
    points = torch.stack([x, y, 0.3 * torch.sin(5 * x + 3 * y)], -1).view(1, -1, 3)
    i = (torch.arange(29)[:, None] * 30 + torch.arange(29)).flatten()
    triangles = torch.cat([torch.stack([i, i + 1, i + 31], 1), torch.stack([i, i + 31, i + 30], 1)])
    mask = to_image(f := rasterise(points, triangles, 200), torch.ones(len(f.pixel), 1))[0, 0]
    assert mask[4:-4, 4:-4].all()


def sphere(rings=24, columns=40):
    "A closed unit sphere: points (V, 3) and triangles (T, 3) that face outwards."
    theta, phi = torch.meshgrid(torch.arange(1, rings) * math.pi / rings, torch.arange(columns) * 2 * math.pi / columns,
                                indexing="ij")
    points = torch.stack([theta.sin() * phi.sin(), theta.cos(), theta.sin() * phi.cos()], -1).view(-1, 3)
    points = torch.cat([points, torch.tensor([[0.0, 1, 0], [0, -1, 0]])])
    i, j = torch.meshgrid(torch.arange(rings - 2), torch.arange(columns), indexing="ij")
    at = lambda i, j: (i * columns + j % columns).flatten()
    top, bottom, first = len(points) - 2, len(points) - 1, torch.arange(columns)
    last = first + (rings - 2) * columns
    after = lambda row: torch.cat([row[1:], row[:1]])
    return points, torch.cat([torch.stack([at(i, j), at(i + 1, j), at(i, j + 1)], 1),
                              torch.stack([at(i, j + 1), at(i + 1, j), at(i + 1, j + 1)], 1),
                              torch.stack([first.new_full((columns,), top), first, after(first)], 1),
                              torch.stack([last, last.new_full((columns,), bottom), after(last)], 1)])


@pytest.mark.parametrize("size", [31, 64, 200])
@pytest.mark.parametrize("sides", [False, True])
def test_a_closed_ball_covers_its_disc_without_holes(size, sides):
    points, triangles = sphere()
    screen = points[None] * torch.tensor([0.8, 0.8, 0.8]) + torch.tensor([0.013, -0.021, 0.0])
    f = rasterise(screen, triangles, size, torch.full((len(triangles),), sides))
    mask = to_image(f, torch.ones(len(f.pixel), 1))[0, 0] > 0
    at = (torch.arange(size) + 0.5) * 2 / size - 1
    away = ((at - 0.013) ** 2 + (-at[:, None] + 0.021) ** 2).sqrt()
    assert mask[away < 0.8 * math.cos(math.pi / 24) ** 2].all() and not mask[away > 0.801].any()
    assert (interpolate(f, triangles, screen)[:, 2] > -1e-3).all()                   # and nothing of its far side shows


def test_triangles_that_cross_the_border_are_cut_there():
    screen = torch.tensor([[[-3.0, 0.0, 0], [3, 3, 0], [3, -3, 0], [0.9, 0.9, 1], [1.5, 0.9, 1], [0.9, 1.5, 1]]])
    f = rasterise(screen, torch.tensor([[0, 1, 2], [3, 4, 5]]), 20)
    # the first one covers the whole picture
    assert len(f.pixel) == 400
    # of the second, one corner pixel is inside
    assert (f.triangle == 1).nonzero()[:, 0].tolist() == [19]
    torch.testing.assert_close(f.weights.sum(1), torch.ones(400))


def test_triangles_without_an_area_or_a_place_are_left_out():
    good = [[-0.5, -0.5, 0.0], [0.5, -0.5, 0], [0, 0.5, 0]]
    line, point = [[-1.0, 0, 1], [0, 0, 1], [1, 0, 1]], [[0.0, 0, 1]] * 3
    lost = [[float("nan"), 0, 1], [0.5, 0.5, 1], [0, 0.5, 1]]
    screen, triangles = torch.tensor([good + line + point + lost]), torch.arange(12).view(4, 3)
    alone, among = rasterise(screen, triangles[:1], 32), rasterise(screen, triangles, 32)
    assert torch.equal(alone.pixel, among.pixel) and (among.triangle == 0).all() and among.weights.isfinite().all()
    assert len(rasterise(screen, triangles[1:], 32).pixel) == 0


def test_slivers_keep_depths_between_their_corners():
    generator = torch.Generator().manual_seed(3)
    one = 2 * torch.rand(1, 400, 1, 3, generator=generator) - 1
    along = 0.5 * torch.randn(1, 400, 1, 3, generator=generator)
    thin = 1e-3 * torch.randn(1, 400, 1, 3, generator=generator)
    screen = torch.cat([one, one + along, one + 0.4 * along + thin], 2).view(1, -1, 3)
    triangles = torch.arange(1200).view(-1, 3)
    f = rasterise(screen, triangles, 96)
    corner = screen[0, triangles[f.triangle]][..., 2]
    depth = interpolate(f, triangles, screen)[:, 2]
    assert len(f.pixel) > 100
    assert ((depth > corner.amin(1) - 0.02) & (depth < corner.amax(1) + 0.02)).float().mean() > 0.99


def test_counted_lists_runs():
    which, number = counted(torch.tensor([2, 0, 3]))
    assert which.tolist() == [0, 0, 2, 2, 2] and number.tolist() == [0, 1, 0, 1, 2]
    assert len(counted(torch.tensor([0, 0]))[0]) == 0


def test_barycentric_coordinates_of_corners_and_middle():
    x, y = torch.tensor([[1.0], [7.0], [2.5]]), torch.tensor([[1.0], [2.0], [7.0]])
    middle = barycentric(x.mean(0), y.mean(0), x, y)
    torch.testing.assert_close(middle, torch.full((1, 3), 1 / 3))
    corners = barycentric(x[:, 0], y[:, 0], x.expand(3, 3), y.expand(3, 3))
    torch.testing.assert_close(corners, torch.eye(3), atol=1e-6, rtol=0)


def test_normals_of_a_ball_point_outwards():
    mesh = load_mesh()
    which = mesh.eyes[0]  # an eyeball is one
    centre = mesh.rest[which].mean(0)
    inside = torch.zeros(len(mesh.rest), dtype=torch.bool)
    inside[which] = True
    normals = vertex_normals(mesh.rest[None], mesh.triangles[inside[mesh.triangles].all(1)])[0, which]
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(len(which)))
    cosine = (normals * F.normalize(mesh.rest[which] - centre, dim=1)).sum(1)
    assert cosine.min() > 0.98 and cosine.median() > 0.995
