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


class Plane(NamedTuple):
    "A quantity that is linear over each of N triangles: its value at the triangle's first pixel, its slopes along x and y."
    value: Tensor
    along_x: Tensor
    along_y: Tensor


def corners_of(screen: Tensor, triangles: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    "x right and y down in pixels and depth of the corners, each (3, B * T), of triangles (T, 3) at places (B, V, 3)."
    x, y, z = screen.unbind(-1)
    each = lambda values: torch.stack([values[:, triangles[:, i]].flatten() for i in range(3)])
    return each((x + 1) * (size / 2)), each((1 - y) * (size / 2)), each(z)


def barycentric(px: Tensor, py: Tensor, x: Tensor, y: Tensor) -> tuple[Plane, Plane]:
    "The second and third barycentric coordinate about the points px, py (N,) of triangles with corners x, y (3, N)."
    e1x, e1y, e2x, e2y = x[1] - x[0], y[1] - y[0], x[2] - x[0], y[2] - y[0]
    dx, dy, area = px - x[0], py - y[0], e1x * e2y - e1y * e2x
    return (Plane((dx * e2y - dy * e2x) / area, e2y / area, -e2x / area),
            Plane((dy * e1x - dx * e1y) / area, -e1y / area, e1x / area))


def counted(counts: Tensor) -> tuple[Tensor, Tensor]:
    "Each index i, counts[i] times in a row; and the numbers 0, 1, ... within each run."
    which = torch.repeat_interleave(counts)
    return which, torch.arange(len(which), device=counts.device) - (counts.cumsum(0) - counts)[which]


def rasterise(screen: Tensor, triangles: Tensor, size: int, both_sides: Tensor | None = None) -> Fragments:
    """The nearest triangle of each sample: places (B, V, 3) as `project` gives them, triangles (T, 3).

    both_sides (T,) bool: triangles that are seen from behind too; others face the viewer or are not drawn (None: all
    are seen from both sides). Triangles become rows of pixels, rows become pixels, and in each pixel the nearest stays."""
    b, t = len(screen), len(triangles)
    x, y, z = corners_of(screen, triangles, size)                                      # (3, B T) each
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])               # < 0: faces the viewer
    first, last = ((y.amin(0) - 0.5).ceil().clamp(min=0), (y.amax(0) - 0.5).floor().clamp(max=size - 1))
    there = (last >= first) & (area.abs() > 1e-9) & (x.amax(0) > 0) & (x.amin(0) < size)
    if both_sides is not None: there &= (area < 0) | both_sides.repeat(b)
    index = torch.nonzero(there)[:, 0]
    x, y, z, first = x[:, index], y[:, index], z[:, index], first[index]
    start = (x.amin(0) - 0.5).ceil().clamp(min=0)                                      # pixel centres lie at .5
    u, v = barycentric(start + 0.5, first + 0.5, x, y)
    w = Plane(1 - u.value - v.value, -u.along_x - v.along_x, -u.along_y - v.along_y)
    near = [w[i] * z[0] + u[i] * z[1] + v[i] * z[2] for i in range(3)]                 # depth is linear too
    one, row = counted((last[index] - first + 1).int())                               # rows of triangles
    nearest = torch.full((b * size * size,), 2 ** 62, dtype=torch.int64, device=screen.device)
    for one, row in zip(one.split(ROWS), row.split(ROWS)):
        low, high = 0 * start[one], size - 1 - start[one]
        for value, along_x, along_y in (u, v, w):                                      # where each is not negative
            slope = along_x[one]
            crossing = -(value[one] + along_y[one] * row) / slope
            low = torch.where(slope > 0, torch.maximum(low, crossing), low)
            high = torch.where(slope < 0, torch.minimum(high, crossing), high)
        low, high = (low - 1e-4).ceil().clamp(min=0), (high + 1e-4).floor()
        line, column = counted((high - low + 1).clamp(min=0).nan_to_num(0).int())      # pixels of rows
        depth, slope = near[0][one] + near[1][one] * low + near[2][one] * row, near[1][one]
        at = (index[one] // t) * size ** 2 + ((first[one] + row) * size + start[one] + low).long()
        key = ((50 - depth[line] - slope[line] * column) * 2 ** 24).long() * 2 ** 26   # depth first, then the triangle
        nearest.scatter_reduce_(0, at[line] + column, key + index[one][line], "amin")
    pixel = torch.nonzero(nearest < 2 ** 62)[:, 0]
    triangle = nearest[pixel] % 2 ** 26
    place = torch.full((b * t,), -1, device=screen.device)
    place[index] = torch.arange(len(index), device=screen.device)
    own = place[triangle]
    u, v = barycentric(pixel % size + 0.5, pixel // size % size + 0.5, x[:, own], y[:, own])
    return Fragments(pixel, triangle, torch.stack([1 - u.value - v.value, u.value, v.value], 1), b, size)


def interpolate(fragments: Fragments, triangles: Tensor, values: Tensor) -> Tensor:
    "Values (B or 1, V, C) at the vertices, mixed by the fragments' weights: (N, C)."
    t, b = len(triangles), len(values)
    frame = fragments.triangle // t
    corner = triangles[fragments.triangle % t] + (frame * values.shape[1] if b > 1 else 0 * frame)[:, None]
    flat, w = values.reshape(-1, values.shape[-1]), fragments.weights
    return sum(flat[corner[:, i]] * w[:, i, None] for i in range(3))


def to_image(fragments: Fragments, values: Tensor, background: float = 0.0) -> Tensor:
    "Fragments' values (N, C) as pictures (B, C, size, size)."
    image = values.new_full((fragments.batch * fragments.size ** 2, values.shape[1]), background)
    image[fragments.pixel] = values
    return image.view(fragments.batch, fragments.size, fragments.size, -1).permute(0, 3, 1, 2)


def vertex_normals(points: Tensor, triangles: Tensor) -> Tensor:
    "Unit normals (B, V, 3) at the vertices: the sum of the triangles' about them, weighed by area."
    corner = points[:, triangles]                                                      # (B, T, 3, 3)
    normal = torch.linalg.cross(corner[:, :, 1] - corner[:, :, 0], corner[:, :, 2] - corner[:, :, 0])
    total = torch.zeros_like(points)
    for i in range(3): total.index_add_(1, triangles[:, i], normal)
    return F.normalize(total, dim=-1)
