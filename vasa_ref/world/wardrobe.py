"""Clothes painted on the shoulders, glasses bent from wire, and hats and scarves as shells about the head."""
import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .hair import REST_CENTRE, Strands, skull_of
from .head import MASKS, PARTS, SCALE, Heads, Mesh, load_mesh, smoothstep
from .people import HATS, NECKLINES, PATTERNS, People
from .raster import vertex_normals
from .skin import CHART, Dice, chart_noise, chart_points, linear, resized

RING, TUBE = 28, 5                            # points about a rim, and about its wire
LENS, GOLD = (0.10, 0.09, 0.09), (0.85, 0.66, 0.33)
ROWS, COLUMNS, NEAR = 30, 57, 14              # of the grid of hats, from crown to rim and about; vertices looked at
REST_SKULL = (0.0, 7.71, 0.57), (0.78, 0.84, 0.96)   # centre and radii of the skull at rest, decimetres


def collar(people: People, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    "How far (B, ...) points of the head at rest lie below the edge of each person's clothes, decimetres."
    ax = x.abs()
    edge = 5.58 + 0.30 * smoothstep(0.15, 0.62, ax) + 0.30 * smoothstep(0.3, -0.5, z)
    kind = people.get("neckline").view(-1, *[1] * x.ndim)
    at = lambda name: (kind == NECKLINES.index(name)).float()
    front = smoothstep(0.2, 0.5, z)
    edge = edge + 0.55 * at("turtleneck") + 0.12 * at("shirt") - 0.22 * at("wide")
    opening = (0.75 * at("v") + 0.45 * at("shirt")) * (1 - ax / 0.42).clamp(min=0) * front
    return edge + smoothstep(0.70, 1.10, ax) - opening - y                               # shoulders are always covered


def cloth_texture(people: People) -> tuple[Tensor, Tensor, Tensor]:
    "Clothes in the chart: light they return (B, 3, *CHART), where they are and their height (B, 1, *CHART)."
    dice = Dice(people.seed, 50)
    x, y, z = chart_points(str(people.look.device))
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
    half = (CHART[0] // 2, CHART[1] // 2)
    folds = resized(0.5 * chart_noise(dice, 14, 30, half) + 0.25 * chart_noise(dice, 40, 80, half))
    colour = colour * (1 + 0.35 * folds) * (1 - 0.45 * smoothstep(0.03, 0.0, below))
    knit = torch.sin(150 * y) * torch.sin(150 * x) * (kind == PATTERNS.index("knit"))
    height = 0.010 * folds + 0.003 * knit + 0.010 * smoothstep(0.0, 0.02, below) + 0.02 * shirt
    return colour, smoothstep(-0.008, 0.008, below), height


@lru_cache(maxsize=4)
def lashes(fine: bool, device: str) -> tuple[Tensor, Tensor, Tensor]:
    "The vertices of lashes (N,), the vertex at the lid that each belongs to (N,), and whether it is a lower lash."
    mesh = load_mesh(fine, device)
    part = torch.zeros(len(mesh.rest), dtype=torch.long, device=device)
    part[mesh.triangles.flatten()] = mesh.parts.repeat_interleave(3)
    lash, lid = (torch.nonzero(part == PARTS.index(name))[:, 0] for name in ("lashes", "skin"))
    lid = lid[mesh.masks[lid, MASKS.index("eyelids")] > 0.02]
    off = torch.cdist(mesh.rest[lash], mesh.rest[lid]).min(1).values
    base = lash[off < 0.008]
    root = base[torch.cdist(mesh.rest[lash], mesh.rest[base]).argmin(1)]
    return lash, root, mesh.rest[lash, 1] < 7.27 + 0.12 * (mesh.rest[lash, 0].abs() - 0.3)


def trim_lashes(people: People, heads: Heads, mesh: Mesh) -> Heads:
    "The same heads with lashes as long as theirs are, in tufts: the mesh's are strips."
    lash, root, lower = lashes(len(mesh.rest) > 10_000, str(mesh.rest.device))
    female = 1 - people.identity.macro[:, 3, None]
    tuft = Dice(people.seed, 90).uniform(len(lash))
    length = torch.where(lower, 0.10 + 0.10 * female, 0.35 + 0.35 * female) * (0.4 + 0.9 * tuft)
    moved = heads.vertices.clone()
    moved[:, lash] = torch.lerp(moved[:, root], moved[:, lash], length[..., None])
    return Heads(moved, heads.scale, heads.neck, heads.eyes)


def dress(people: People, heads: Heads, mesh: Mesh) -> Heads:
    "The same heads with lashes of their own length, and shoulders that are thicker by their clothes."
    below = collar(people, *mesh.rest.T)
    heads = trim_lashes(people, heads, mesh)
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


def nearest_to(mesh: Mesh, *place: float) -> Tensor:
    "The vertex that lies nearest to a place of the head at rest."
    return (mesh.rest - mesh.rest.new_tensor(place)).norm(dim=1).argmin()


def lens(rim: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    "A disc that fills a rim (B, RING, 3): points, normals, and triangles."
    points = torch.cat([rim, rim.mean(1, keepdim=True)], 1)
    bulge = F.normalize(points - points[:, -1:] + points.new_tensor([0.0, 0.03, 0.5]), dim=-1)
    i = torch.arange(RING, device=rim.device)
    return points, bulge, torch.stack([i, (i + 1) % RING, torch.full_like(i, RING)], 1)


def trinkets(people: People, heads: Heads, mesh: Mesh) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Glasses that fit each face, dark lenses and rings in the ears, for who wears them: points (B, N, 3), normals,
    the light that they return (B, N, 3), and triangles (T, 3)."""
    v, eyes, roundness = heads.vertices, heads.eyes, people.get("roundness")[:, None]
    bridge = v[:, nearest_to(mesh, 0, 7.33, 1.5)]
    angle = torch.arange(RING, device=v.device) * (2 * math.pi / RING)
    bend = lambda f: f.sign() * f.abs() ** (2 / (2.2 + 3.3 * (1 - roundness)))
    width, height = (0.235 + 0.05 * roundness) / SCALE * 1.05, (0.17 + 0.06 * roundness) / SCALE
    forward, middle = bridge[:, 2:3] + 0.055, eyes[:, :, 0] * 1.02
    frame, glass, gold = (
        linear(c).expand(len(v), 3) for c in (people.rgb("frame"), v.new_tensor(LENS), v.new_tensor(GOLD))
    )
    worn, dark, rings = people.get("glasses") > 0, people.get("glasses") > 1, people.get("earrings") > 0
    pieces = []  # geometry, who wears it, its light
    for i, side in enumerate((1.0, -1.0)):
        x = middle[:, i, None] + side * 0.01 + width * bend(angle.cos()[None])
        y = eyes[:, i, 1:2] - 0.012 + height * bend(angle.sin()[None])
        rim = torch.stack([x, y, forward - 0.71 * x ** 2 + 0.02 * y], -1)
        hinge = torch.stack(
            [middle[:, i] + side * (width[:, 0] + 0.005), eyes[:, i, 1] + 0.03, forward[:, 0] - 0.19], 1
        )
        ear = v[:, nearest_to(mesh, side * 0.74, 7.36, 0.60)] + v.new_tensor([side * 0.012, 0.02, 0.0])
        arm = torch.stack([hinge, torch.lerp(hinge, ear, 0.5) + v.new_tensor([side * 0.035, 0.0, 0.0]), ear], 1)
        lobe = v[:, nearest_to(mesh, side * 0.78, 6.98, 0.58)]
        circle = torch.stack([0 * angle, angle.sin() - 1, angle.cos()], -1)[::2]
        hoop = lobe[:, None] + (0.018 + 0.035 * roundness)[..., None] * circle
        pieces += [(wire(rim, 0.011, True), worn, frame), (wire(arm, 0.010, False), worn, frame),
                   (lens(rim), dark, glass), (wire(hoop, 0.006, True), rings, gold)]
    inner = middle - v.new_tensor([1.0, -1.0]) * (width - 0.01)
    t = torch.linspace(0, 1, 5, device=v.device)
    arch = torch.stack([torch.lerp(inner[:, 1:], inner[:, :1], t), eyes.mean(1)[:, 1:2] + 0.03 + 0.05 * t * (1 - t),
                        forward.expand(-1, 5)], -1)
    pieces.append((wire(arch, 0.011, False), worn, frame))
    starts = [0]
    for (points, _, _), _, _ in pieces: starts.append(starts[-1] + points.shape[1])
    shown = lambda points, who: torch.where(who[:, None, None], points, 0 * points)
    return (torch.cat([shown(points, who) for (points, _, _), who, _ in pieces], 1),
            torch.cat([normal for (_, normal, _), _, _ in pieces], 1),
            torch.cat([light[:, None].expand_as(points) for (points, _, _), _, light in pieces], 1),
            torch.cat([own + start for ((_, _, own), _, _), start in zip(pieces, starts)]))


@lru_cache(maxsize=4)
def lathe(fine: bool, device: str) -> tuple[Tensor, Tensor]:
    """The grid that hats are made of, ROWS times COLUMNS points about the skull with a seam in front: its triangles
    (T, 3), and the NEAR vertices (ROWS * COLUMNS, NEAR) of the mesh that a scarf's points must stay outside of."""
    mesh = load_mesh(fine, device)
    (_, cy, cz), (_, ry, _) = REST_SKULL
    skin = torch.zeros(len(mesh.rest), dtype=torch.bool, device=device)
    skin[mesh.triangles[mesh.parts == 0].flatten()] = True
    outward = F.normalize(mesh.rest[:, [0, 2]] - mesh.rest.new_tensor([0.0, cz]), dim=1)
    faces = (vertex_normals(mesh.rest[None], mesh.triangles)[0][:, [0, 2]] * outward).sum(1)
    vertex = torch.nonzero(skin & (faces > 0.2) & (mesh.masks[:, MASKS.index("inside-mouth")] < 0.3))[:, 0]
    x, y, z = mesh.rest[vertex].T
    of = torch.stack([torch.atan2(x, z - cz), 1.2 * (y - cy) / ry], 1)
    angle, height = scarf_grid(torch.zeros(1, device=device))
    at = torch.stack([torch.remainder(angle + math.pi, 2 * math.pi) - math.pi, 1.2 * height], -1).view(-1, 2)
    close = torch.cdist(at, of).topk(NEAR, largest=False).indices
    i = torch.arange(ROWS - 1, device=device)[:, None] * COLUMNS + torch.arange(COLUMNS - 1, device=device)
    a, b, c, d = (i + k for k in (0, 1, COLUMNS + 1, COLUMNS))
    return torch.stack([a, d, c, a, c, b], -1).view(-1, 3), vertex[close]


def scarf_grid(width: Tensor) -> tuple[Tensor, Tensor]:
    "Of a headscarf's points (B, ROWS, COLUMNS): angle from the front, height above the skull's middle in its radii."
    column = torch.linspace(0, 1, COLUMNS, device=width.device)
    over, face, under = 7, 13, ROWS - 20                    # rows above the face, beside it, below it
    turn = torch.linspace(0, math.pi, face, device=width.device)
    low, high = -1.92, 0.30
    beside = (low + high) / 2 + (high - low) / 2 * turn.cos()
    height = torch.cat([torch.linspace(1.06, high, over + 1, device=width.device)[:-1], beside,
                        torch.linspace(low, -2.6, under + 1, device=width.device)[1:]])
    free = F.pad(0.86 * turn.sin().clamp(min=0) ** 0.8, (over, under))[:, None] + 0 * width[:, None, None]
    return free + (2 * math.pi - 2 * free) * column, height[:, None].expand(len(width), ROWS, COLUMNS)


def hats(people: People, heads: Heads, mesh: Mesh) -> tuple[Tensor, Tensor, Tensor]:
    "Hats and scarves (B, N, 3), the light that they return (B, N, 3), and triangles (T, 3)."
    triangles, close = lathe(len(mesh.rest) > 10_000, str(mesh.rest.device))
    centre, radii = skull_of(heads, mesh.rest)
    b, t = len(people), torch.linspace(0, 1, ROWS, device=mesh.rest.device)[:, None]
    kind = people.get("hat")[:, None, None]
    is_ = lambda name: kind == HATS.index(name)
    angle, height = scarf_grid(people.look[:, 0])
    round_ = (torch.linspace(0, 2 * math.pi, COLUMNS, device=t.device) + 0 * t).expand_as(angle)
    front = 0.5 + 0.5 * round_.cos()
    # what lies close to the skull: a dome down to a rim, then the cuff of a beanie, the brim of a cap or a top hat
    dome = (t / 0.7).clamp(max=1)
    past = ((t - 0.7) / 0.3).clamp(min=0)
    rim = torch.where(is_("cap"), 0.0, -0.06) + 0.16 * front
    polar = dome * (math.pi / 2 - rim.clamp(min=0))
    y_dome, out_dome = 1.10 * polar.cos().clamp(min=0) ** 0.85, polar.sin() ** 0.85
    cuff = smoothstep(0.0, 0.15, past) * (past > 0)
    y_beanie, out_beanie = y_dome + 0.30 * cuff - 0.40 * past + 0.06 * (1 - dome) ** 2, 1.07 * out_dome + 0.055 * cuff
    reach = 0.62 * smoothstep(0.64, 0.92, front)
    y_cap, out_cap = y_dome - reach * 0.22 * past - 0.03 * past, 1.05 * out_dome + reach * past
    wall = ((t - 0.2) / 0.5).clamp(0, 1)
    y_top, out_top = 1.95 - 1.68 * wall - 0.02 * past, (t / 0.2).clamp(max=1) * (1.10 - 0.05 * wall) + 0.42 * past
    y_top = y_top + 0.10 * past * (2 * round_).cos().neg()
    thick = 0.070 + 0.010 * torch.sin(5 * angle + 4 * height) * smoothstep(0.0, 0.3, angle.minimum(2 * math.pi - angle))
    about = heads.vertices[:, close] - centre[:, None]                                  # (B, N, NEAR, 3)
    around_skull = about[..., [0, 2]].norm(dim=-1).amax(-1).view(b, ROWS, COLUMNS).clamp(max=0.75)
    around_skull = torch.maximum(
        around_skull, 0.85 * around_skull.cummax(1).values
    )  # cloth hangs from where it is widest
    for _ in range(3):
        around_skull = F.avg_pool2d(F.pad(around_skull[:, None], (1, 1, 1, 1), mode="replicate"), 3, 1)[:, 0]
    ellipse = ((angle.sin() / radii[..., 0:1]) ** 2 + (angle.cos() / radii[..., 2:3]) ** 2).rsqrt()
    capped = ellipse * (1 - (height / 1.06) ** 2).clamp(min=0).sqrt()
    scarf = torch.lerp(around_skull, capped, smoothstep(0.0, 0.35, height)) + thick * smoothstep(1.06, 0.95, height)
    y = torch.where(is_("beanie"), y_beanie, torch.where(is_("cap"), y_cap, torch.where(is_("top hat"), y_top, height)))
    out = torch.where(is_("beanie"), out_beanie, torch.where(is_("cap"), out_cap, out_top))
    wrapped = is_("headscarf")
    angle = torch.where(wrapped, angle, round_)
    x = torch.where(wrapped, scarf, out * radii[..., 0:1]) * angle.sin()
    z = torch.where(wrapped, scarf, out * radii[..., 2:3]) * angle.cos()
    points = (torch.stack([x, y * radii[..., 1:2], z], -1) + centre[:, None]).flatten(1, 2)
    points = torch.where(kind > 0, points, points.new_tensor([0.0, 0.0, -0.3]))
    ribs = (
        1
        - 0.22 * (is_("beanie") & (torch.arange(COLUMNS, device=t.device) % 2 == 0))
        - 0.25 * (is_("top hat") & (wall > 0.82) & (past == 0))
    )
    light = linear(people.rgb("hat"))[:, None] * ribs.expand(b, ROWS, COLUMNS).flatten(1)[..., None]
    return points, light, triangles


def wear(people: People, heads: Heads, mesh: Mesh) -> Strands:
    "Glasses, rings and hats as points that move with the head."
    b, device = len(people), mesh.rest.device
    frame, frame_normal, frame_light, frame_triangles = trinkets(people, heads, mesh)
    hat, hat_light, hat_triangles = hats(people, heads, mesh)
    grid = vertex_normals(hat, hat_triangles).view(b, ROWS, COLUMNS, 3)
    seam = F.normalize(grid[:, :, :1] + grid[:, :, -1:], dim=-1)
    hat_normal = torch.cat([seam, grid[:, :, 1:-1], seam], 2).flatten(1, 2)
    count, blank = frame.shape[1], lambda n: torch.zeros(b, n, 1, device=device)
    coat = lambda light, gloss: torch.cat([light, *(blank(light.shape[1]) + v for v in (0, 0, gloss, 0, 1))], 2)
    triangles = torch.cat([frame_triangles, hat_triangles + count])
    parts = torch.cat(
        [torch.full((len(frame_triangles),), 7, device=device), torch.full((len(hat_triangles),), 8, device=device)]
    )
    points = torch.cat([frame, hat], 1)
    still = torch.zeros(points.shape[:2], dtype=torch.long, device=device) + (mesh.rest[:, 1] - 8.4).abs().argmin()
    place = points * SCALE + points.new_tensor(REST_CENTRE)
    coats = torch.cat([coat(frame_light, 0.6), coat(hat_light, 0.03)], 1)
    return Strands(points, still, smoothstep(5.2, 6.4, place[..., 1] + 0.45 * place[..., 2]),
                   torch.cat([frame_normal, hat_normal], 1), torch.zeros_like(points), coats,
                   triangles.expand(b, -1, -1), parts.expand(b, -1))
