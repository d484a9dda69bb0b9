"""Triangles into pixels: a z-buffer in torch, what it knows of every pixel, and which pixels of two frames are the same skin."""
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 400_000                                             # rows of triangles filled at once


class Fragments(NamedTuple):
    "The N samples that a surface covers, of a batch of B pictures of `size` pixels."
    pixel: Tensor              # (N,) which sample, of B * size * size
    triangle: Tensor           # (N,) which triangle, of B * T
    weights: Tensor            # (N, 3) barycentric coordinates in it
    batch: int
    size: int

    @staticmethod
    def cat(parts, triangles: int) -> "Fragments":
        "Fragments of several batches of pictures, of so many triangles each, in one."
        before = [sum(p.batch for p in parts[:i]) for i in range(len(parts))]
        return Fragments(torch.cat([p.pixel + n * p.size ** 2 for p, n in zip(parts, before)]),
                         torch.cat([p.triangle + n * triangles for p, n in zip(parts, before)]),
                         torch.cat([p.weights for p in parts]), sum(p.batch for p in parts), parts[0].size)


def corners_of(screen: Tensor, triangles: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    "x right and y down in pixels and depth of the corners, each (3, B * T), of triangles (T, 3) at places (B, V, 3)."
    x, y, z = screen.unbind(-1)
    each = lambda values: torch.stack([values.index_select(1, corner).flatten() for corner in triangles.unbind(1)])
    return each((x + 1) * (size / 2)), each((1 - y) * (size / 2)), each(z)


def counted(counts: Tensor) -> tuple[Tensor, Tensor]:
    "Each index i, counts[i] times in a row; and the numbers 0, 1, ... within each run. Faster than repeat_interleave."
    ends = counts.cumsum(0)
    starts, total = ends - counts, int(ends[-1]) if len(ends) else 0
    marks = torch.zeros(total + 1, dtype=torch.int32, device=counts.device)
    marks.scatter_add_(0, starts, torch.ones_like(counts, dtype=torch.int32))           # how many runs start here
    which = marks.cumsum(0, dtype=torch.int32)[:total] - 1
    return which, torch.arange(total, dtype=torch.int32, device=counts.device) - starts.int().index_select(0, which)


class Halves(NamedTuple):
    """Triangles cut at the height of their middle corner, so that each row of a half (N,) lies between two edges.

    Edge a goes from the top to the bottom corner, edge b over the middle one; both start at the half's first row."""
    first: Tensor              # first row of pixels
    rows: Tensor               # how many
    a: Tensor                  # column of edge a in the first row
    a_step: Tensor             # columns further in each row
    b: Tensor
    b_step: Tensor
    depth: Tensor              # on edge a in the first row
    depth_step: Tensor         # more of it in each row
    slope: Tensor              # more of it in each column


def halves(x: Tensor, y: Tensor, z: Tensor, size: int) -> Halves:
    "The upper halves of triangles with corners x, y, z (3, N), then the lower ones."
    order = y.argsort(0)
    x, y, z = (v.gather(0, order) for v in (x, y, z))
    row = (y - 0.5).ceil().clamp(0, size)                                              # the first below each corner
    dx, dy, dz = ((v[[2, 1, 2]] - v[[0, 0, 1]]) for v in (x, y, z))                    # of the edges a, upper b, lower b
    step = dx / dy
    two = lambda upper, lower: torch.cat([upper, lower])
    below = lambda corner, r: row[r] + 0.5 - y[corner]
    slope = (dz[1] * dy[0] - dz[0] * dy[1]) / (dx[1] * dy[0] - dx[0] * dy[1])
    return Halves(two(row[0], row[1]), two(row[1] - row[0], row[2] - row[1]),
                  two(x[0] + step[0] * below(0, 0), x[0] + step[0] * below(0, 1)), two(step[0], step[0]),
                  two(x[0] + step[1] * below(0, 0), x[1] + step[2] * below(1, 1)), two(step[1], step[2]),
                  two(z[0] + dz[0] / dy[0] * below(0, 0), z[0] + dz[0] / dy[0] * below(0, 1)), two(dz[0] / dy[0], dz[0] / dy[0]),
                  two(slope, slope))


def rasterise(screen: Tensor, triangles: Tensor, size: int, both_sides: Tensor | None = None) -> Fragments:
    """The nearest triangle of each sample: places (B, V, 3) as `project` gives them, triangles (T, 3).

    both_sides (T,) bool: triangles that are seen from behind too; others face the viewer or are not drawn (None: all
    are seen from both sides). Triangles become rows of pixels, rows become pixels, and in each pixel the nearest stays."""
    b, t = len(screen), len(triangles)
    x, y, z = corners_of(screen, triangles, size)                                      # (3, B T) each
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])               # < 0: faces the viewer
    there = (area.abs() > 1e-9) & (x.amax(0) > 0.5) & (x.amin(0) < size) & (y.amax(0) > 0.5) & (y.amin(0) < size)
    if both_sides is not None: there &= (area < 0) | both_sides.repeat(b)
    index = torch.nonzero(there)[:, 0]
    half = halves(*(v.index_select(1, index) for v in (x, y, z)), size)
    start = (index // t * size).repeat(2) + half.first.long()                          # the first row, of B * size
    ones, rows = counted(half.rows.long())
    nearest = torch.full((b * size * size,), 2 ** 62, dtype=torch.int64, device=screen.device)
    for one, row in zip(ones.split(ROWS), rows.split(ROWS)):
        a, a_step, b_, b_step, depth, depth_step, slope = (v.index_select(0, one) for v in half[2:])
        a, b_ = a + a_step * row - 0.5, b_ + b_step * row - 0.5                        # pixels' centres lie at .5
        left = (torch.minimum(a, b_) - 1e-4).ceil().clamp(min=0)
        right = (torch.maximum(a, b_) + 1e-4).floor().clamp(max=size - 1)
        depth = depth + depth_step * row + slope * (left - a)
        at = (start.index_select(0, one) + row) * size + left.long()
        line, column = counted((right - left + 1).clamp(min=0).long())
        pick = lambda v: v.index_select(0, line)
        key = ((50 - pick(depth) - pick(slope) * column) * 2 ** 24).long() * 2 ** 26   # depth first, then the triangle
        nearest.scatter_reduce_(0, pick(at) + column, key + pick(index.repeat(2).index_select(0, one)), "amin")
    pixel = torch.nonzero(nearest < 2 ** 62)[:, 0]
    triangle = nearest.index_select(0, pixel) % 2 ** 26
    return Fragments(pixel, triangle, barycentric(pixel % size + 0.5, pixel // size % size + 0.5, *(
        v.index_select(1, triangle) for v in (x, y))), b, size)


def barycentric(px: Tensor, py: Tensor, x: Tensor, y: Tensor) -> Tensor:
    "The weights (N, 3) that mix the corners x, y (3, N) of triangles into the points px, py (N,)."
    e1x, e1y, e2x, e2y = x[1] - x[0], y[1] - y[0], x[2] - x[0], y[2] - y[0]
    dx, dy, area = px - x[0], py - y[0], e1x * e2y - e1y * e2x
    u, v = (dx * e2y - dy * e2x) / area, (dy * e1x - dx * e1y) / area
    return torch.stack([1 - u - v, u, v], 1)


def interpolate(fragments: Fragments, triangles: Tensor, values: Tensor) -> Tensor:
    "Values (B or 1, V, C) at the vertices, mixed by the fragments' weights: (N, C)."
    t, b = len(triangles), len(values)
    corner = triangles.index_select(0, fragments.triangle % t)
    if b > 1: corner = corner + (fragments.triangle // t * values.shape[1])[:, None]
    return F.embedding_bag(corner, values.flatten(0, 1), mode="sum", per_sample_weights=fragments.weights)


def to_image(fragments: Fragments, values: Tensor, background: float = 0.0) -> Tensor:
    "Fragments' values (N, C) as pictures (B, C, size, size)."
    b, n, size = fragments.batch, len(values), fragments.size
    row = torch.full((b * size ** 2,), n, device=values.device)                        # of each sample: its own, or the last
    row[fragments.pixel] = torch.arange(n, device=values.device)
    table = torch.cat([values.T, values.new_full((values.shape[1], 1), background)], 1)
    return table.index_select(1, row).view(-1, b, size, size).transpose(0, 1)


def vertex_normals(points: Tensor, triangles: Tensor) -> Tensor:
    "Unit normals (B, V, 3) at the vertices: the sum of the triangles' about them, weighed by area."
    corner = points[:, triangles]                                                      # (B, T, 3, 3)
    normal = torch.linalg.cross(corner[:, :, 1] - corner[:, :, 0], corner[:, :, 2] - corner[:, :, 0])
    total = torch.zeros_like(points)
    for vertex, own in zip(total, normal):
        for i in range(3): vertex.index_add_(0, triangles[:, i], own)
    return F.normalize(total, dim=-1)
