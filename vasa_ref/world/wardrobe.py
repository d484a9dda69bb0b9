"""Clothes painted on the shoulders, glasses bent from wire, and hats and scarves as shells about the head."""
import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .hair import Strands
from .head import SCALE, Heads, Mesh, load_mesh, smoothstep
from .people import HATS, NECKLINES, PATTERNS, People
from .raster import vertex_normals
from .skin import CHART, chart_noise, chart_points, linear, polyline

RING, TUBE = 28, 5                            # points about a rim, and about its wire
REST_CENTRE = (0.0, 7.284, 0.295)             # the head's centre in rest coordinates


def collar(people: People, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    "How far (B, ...) points of the head at rest lie below the edge of each person's clothes, decimetres."
    ax = x.abs()
    edge = 5.58 + 0.30 * smoothstep(0.15, 0.62, ax) + 0.30 * smoothstep(0.3, -0.5, z)
    kind = people.get("neckline").view(-1, *[1] * x.ndim)
    at = lambda name: (kind == NECKLINES.index(name)).float()
    front = smoothstep(0.2, 0.5, z)
    edge = edge + 0.55 * at("turtleneck") + 0.12 * at("shirt") - 0.22 * at("wide")
    opening = (0.75 * at("v") + 0.45 * at("shirt")) * (1 - ax / 0.42).clamp(min=0) * front
    return edge - opening - y


def cloth_texture(people: People, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    "Clothes in the chart: light they return (B, 3, *CHART), where they are (B, 1, *CHART), their height (B, 1, *CHART)."
    device, n = people.look.device, len(people)
    x, y, z = chart_points(str(device))
    below = collar(people, x, y, z)[:, None]
    column = lambda name: people.get(name)[:, None, None, None]
    main, trim = (linear(people.rgb(name))[:, :, None, None] for name in ("cloth", "trim"))
    kind = column("pattern")
    scale = 18 + 30 * column("pattern_scale")
    stripes = (torch.sin(scale * y) > 0.3).float()
    checks = 0.5 * ((torch.sin(scale * 0.7 * y) > 0).float() + (torch.sin(scale * 0.7 * x) > 0).float())
    mixed = stripes * (kind == PATTERNS.index("stripes")) + checks * (kind == PATTERNS.index("checks"))
    band = smoothstep(0.10, 0.08, below) * (column("neckline") != NECKLINES.index("turtleneck"))
    colour = torch.lerp(main, trim, (0.85 * mixed).clamp(max=1)) * (1 - 0.18 * band)
    shirt = (column("neckline") == NECKLINES.index("shirt")) * smoothstep(0.30, 0.27, below)
    colour = torch.lerp(colour, main * 1.15, shirt)
    folds = 0.5 * chart_noise(n, 14, 30, generator, device) + 0.25 * chart_noise(n, 40, 80, generator, device)
    colour = colour * (1 + 0.35 * folds) * (1 - 0.45 * smoothstep(0.03, 0.0, below))
    knit = torch.sin(150 * y) * torch.sin(150 * x) * (kind == PATTERNS.index("knit"))
    height = 0.010 * folds + 0.003 * knit + 0.010 * smoothstep(0.0, 0.02, below) + 0.02 * shirt
    return colour, smoothstep(-0.008, 0.008, below), height


def dress(people: People, heads: Heads, mesh: Mesh) -> Heads:
    "The same heads with room under the clothes: their shoulders grow by the thickness of cloth."
    below = collar(people, *mesh.rest.T)
    thick = (0.035 + 0.05 * smoothstep(0.1, 0.6, below)) * smoothstep(-0.02, 0.06, below)
    moved = heads.vertices + vertex_normals(heads.vertices, mesh.triangles) * (thick / SCALE)[..., None]
    return Heads(moved, heads.scale, heads.neck, heads.eyes)


def wire(path: Tensor, radius: float, closed: bool) -> tuple[Tensor, Tensor, Tensor]:
    "A tube about a path (B, K, 3): points (B, K * TUBE, 3), their normals, and triangles (T, 3)."
    ahead = path.roll(-1, 1) - path.roll(1, 1)
    if not closed: ahead = torch.cat([path[:, 1:2] - path[:, :1], ahead[:, 1:-1], path[:, -1:] - path[:, -2:-1]], 1)
    ahead = F.normalize(ahead, dim=-1)
    side = F.normalize(torch.linalg.cross(ahead, path.new_tensor([0.0, 0.05, 1.0]).expand_as(ahead)), dim=-1)
    up = torch.linalg.cross(side, ahead)
    turn = torch.arange(TUBE, device=path.device) * (2 * math.pi / TUBE)
    normal = side[:, :, None] * turn.cos()[:, None] + up[:, :, None] * turn.sin()[:, None]
    k = path.shape[1]
    i = torch.arange(k if closed else k - 1, device=path.device)[:, None] * TUBE
    j = torch.arange(TUBE, device=path.device)
    a, b = i + j, i + (j + 1) % TUBE
    c, d = ((q + TUBE) % (k * TUBE) for q in (a, b))
    triangles = torch.cat([torch.stack([a, b, d], -1).view(-1, 3), torch.stack([a, d, c], -1).view(-1, 3)])
    return (path[:, :, None] + radius * normal).flatten(1, 2), normal.flatten(1, 2), triangles


def glasses(people: People, heads: Heads, mesh: Mesh) -> tuple[Tensor, Tensor, Tensor]:
    "Rims, bridge and arms of glasses (B, N, 3) that fit each face, their normals, and triangles (T, 3)."
    spot = lambda *at: (mesh.rest - mesh.rest.new_tensor(at)).norm(dim=1).argmin()
    v = heads.vertices
    eyes, bridge = heads.eyes, v[:, spot(0, 7.33, 1.5)]
    ears = torch.stack([v[:, spot(side * 0.74, 7.36, 0.60)] for side in (1, -1)], 1)
    angle = torch.arange(RING, device=v.device) * (2 * math.pi / RING)
    power = (2.2 + 3.3 * (1 - people.get("roundness")))[:, None]
    size = 0.235 + 0.05 * people.get("roundness")[:, None]
    bend = lambda f: f.sign() * f.abs() ** (2 / power)
    forward = bridge[:, 2:3] + 0.055
    pieces = []
    for i, side in enumerate((1.0, -1.0)):
        x = eyes[:, i, 0:1] * 1.02 + side * 0.01 + size / SCALE * 1.05 * bend(angle.cos()[None])
        y = eyes[:, i, 1:2] - 0.012 + (0.17 + 0.06 * people.get("roundness")[:, None]) / SCALE * bend(angle.sin()[None])
        z = forward - 0.25 * x ** 2 / 0.35 + 0.02 * y
        pieces.append(wire(torch.stack([x, y, z.expand_as(x)], -1), 0.011, True))
        hinge = torch.stack([eyes[:, i, 0] * 1.02 + side * (size[:, 0] / SCALE * 1.05 + 0.005), eyes[:, i, 1] + 0.03,
                             forward[:, 0] - 0.19], 1)
        ear = ears[:, i] + v.new_tensor([side * 0.012, 0.02, 0.0])
        pieces.append(wire(torch.stack([torch.lerp(hinge, ear, t) for t in (0.0, 0.5, 1.0)], 1), 0.010, False))
    inner = eyes[:, :, 0] * 1.02 - v.new_tensor([1.0, -1.0]) * (size / SCALE * 1.05 - 0.01)
    arch = [torch.stack([torch.lerp(inner[:, 1], inner[:, 0], t), eyes.mean(1)[:, 1] + 0.03 + 0.05 * t * (1 - t), forward[:, 0] + 0.0 * inner[:, 0]], 1)
            for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    pieces.append(wire(torch.stack(arch, 1), 0.011, False))
    count, triangles = 0, []
    for points, _, own in pieces:
        triangles.append(own + count)
        count += points.shape[1]
    there = (people.get("glasses") > 0)[:, None, None]
    points = torch.cat([p for p, _, _ in pieces], 1)
    return torch.where(there, points, 0 * points), torch.cat([n for _, n, _ in pieces], 1), torch.cat(triangles)


@lru_cache(maxsize=4)
def shell_mesh(fine: bool, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    "The vertices that hats and scarves are made of, triangles among them, their normals' smoothing (V, V), places at rest."
    mesh = load_mesh(fine, device)
    skin = mesh.triangles[mesh.parts == 0]
    outside = (mesh.masks[:, 3] < 0.3) & (mesh.masks[:, 1] < 0.3)
    own = skin[outside[skin].all(1)]
    used = own.unique()
    number = torch.full((len(mesh.rest),), -1, device=device)
    number[used] = torch.arange(len(used), device=device)
    own = number[own]
    n = len(used)
    pairs = torch.cat([own[:, [0, 1]], own[:, [1, 2]], own[:, [2, 0]]])
    pairs = torch.cat([pairs, pairs.flip(1), torch.arange(n, device=device)[:, None].expand(n, 2)]).T
    counts = torch.zeros(n, device=device).index_add_(0, pairs[0], torch.ones(pairs.shape[1], device=device))
    smooth = torch.sparse_coo_tensor(pairs, 1 / counts[pairs[0]], (n, n)).coalesce()
    return used, own, smooth, mesh.rest[used]


def hats(people: People, heads: Heads, mesh: Mesh) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    "Hats and scarves (B, N, 3), normals, triangles (T, 3), and the head's vertex of each point (N,)."
    used, triangles, smooth, rest = shell_mesh(len(mesh.rest) > 10_000, str(mesh.rest.device))
    x, y, z = rest.T
    shell, n = heads.vertices[:, used], len(used)
    for _ in range(25): shell = torch.sparse.mm(smooth, shell.transpose(0, 1).flatten(1)).unflatten(1, (-1, 3)).transpose(0, 1)
    normal = vertex_normals(shell, triangles)
    kind = people.get("hat")[:, None]
    is_ = lambda name: kind == HATS.index(name)
    line = 7.72 + 0.10 * smoothstep(0.2, 1.2, z)
    cap_line = 7.62 + 0.14 * smoothstep(0.2, 1.2, z)
    face = ((x / 0.66) ** 2 + ((y - 7.10) / 0.92) ** 2).sqrt() - 1 - 5 * smoothstep(0.55, 0.2, z)
    inside = torch.where(is_("beanie"), y - line, torch.where(is_("cap"), y - cap_line, torch.where(
        is_("headscarf"), torch.minimum(face, y - 5.55 - 0.25 * x.abs()), -1 + 0 * y)))
    up = smoothstep(7.9, 8.5, y)
    thick = torch.where(is_("beanie"), 0.11 + 0.10 * up, torch.where(is_("cap"), 0.09 + 0.12 * up, 0.13 + 0.05 * up))
    points = shell + normal * (thick / SCALE)[..., None] * smoothstep(-0.02, 0.05, inside)[..., None]
    there = (inside > -0.02)[..., None]
    return torch.where(there, points, points.new_tensor([0.0, 0.0, -0.3])), normal, triangles, used


def wear(people: People, heads: Heads, mesh: Mesh) -> Strands:
    "Glasses and hats as points that move with the head."
    b, device = len(people), mesh.rest.device
    frame, frame_normal, frame_triangles = glasses(people, heads, mesh)
    hat, hat_normal, hat_triangles, used = hats(people, heads, mesh)
    brow = (mesh.rest - mesh.rest.new_tensor([0, 7.33, 1.5])).norm(dim=1).argmin()
    count = frame.shape[1]
    coat = lambda colour, gloss, n: torch.cat([linear(colour)[:, None].expand(b, n, 3), torch.zeros(b, n, 2, device=device),
        torch.full((b, n, 1), gloss, device=device), torch.zeros(b, n, 1, device=device), torch.ones(b, n, 1, device=device)], 2)
    triangles = torch.cat([frame_triangles, hat_triangles + count])
    parts = torch.cat([torch.full((len(frame_triangles),), 7, device=device), torch.full((len(hat_triangles),), 8, device=device)])
    still = torch.zeros(b, count + hat.shape[1], dtype=torch.long, device=device) + (mesh.rest[:, 1] - 8.4).abs().argmin()
    share = torch.cat([torch.ones(b, count, device=device), mesh.neck[used].expand(b, -1)], 1)
    return Strands(torch.cat([frame, hat], 1), still, share, torch.cat([frame_normal, hat_normal], 1),
                   torch.zeros(b, count + hat.shape[1], 3, device=device),
                   torch.cat([coat(people.rgb("frame"), 0.6, count), coat(people.rgb("hat"), 0.03, hat.shape[1])], 1),
                   triangles.expand(b, -1, -1), parts.expand(b, -1))
