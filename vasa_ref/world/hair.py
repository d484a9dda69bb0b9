"""Hair as strands: ribbons that grow from the scalp, are combed, fall, curl and are tied; and beards."""

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .head import SCALE, Heads, Mesh, load_mesh, pose_points, rotation_vector, smoothstep, turn
from .people import HATS, People, styled
from .raster import vertex_normals
from .skin import HAIRLINE, Dice, beard_area, bump, hair_edge, linear, polyline

HAIR, HAIR_POINTS = 2400, 8                                # strands of the scalp, points along each
BEARD, BEARD_POINTS = 1000, 4
FRINGE_END = 7.60                                          # the height of a fringe's lower edge, decimetres at rest
KNOT = 320  # how many of the scalp's strands make a bun, a tail or braids
STEPS = 3                                                  # of growth between two points
REST_CENTRE = (0.0, 7.284, 0.295)                          # the head's centre in rest coordinates, decimetres
HAIR_PART = 5                                              # index into picture.SURFACES


@dataclass
class Strands:
    "What B people wear of hair: N points each, the same triangles for all; a strand that is not there has no width."
    rest: Tensor               # (B, N, 3) head units, the head at rest
    root: Tensor               # (B, N) the head's vertex that a point hangs on
    share: Tensor              # (B, N) of the head's turn
    facing: Tensor             # (B, N, 3) normal at rest
    along: Tensor              # (B, N, 3) direction of the strand at rest
    coats: Tensor              # (B, N, 8)
    triangles: Tensor          # (B, T, 3), the same in every row
    parts: Tensor              # (B, T) index into picture.SURFACES

    def __getitem__(self, index): return Strands(*(getattr(self, f.name)[index] for f in fields(self)))

    def beside(self, other: "Strands") -> "Strands":
        "Both in one."
        both = {f.name: torch.cat([getattr(self, f.name), getattr(other, f.name)], 1) for f in fields(self)}
        both["triangles"] = torch.cat([self.triangles, other.triangles + self.rest.shape[1]], 1)
        return Strands(**both)

    def move(self, heads: Heads, mesh: Mesh, pose: Tensor, units: Tensor, body: Tensor | None):
        "Points and directions (B, N, 3) of the strands on heads in motion."
        moved = (units @ mesh.units).view(len(pose), -1, 3) * heads.scale
        hung = torch.gather(moved, 1, self.root[..., None].expand(-1, -1, 3))
        points = pose_points(self.rest + hung, self.share, heads, pose, body)
        return points, turn(self.along, rotation_vector(pose), self.share)

    def normals(self, pose: Tensor) -> Tensor: return turn(self.facing, rotation_vector(pose), self.share)


@lru_cache(maxsize=2)
def roots(device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Where strands may grow, the same for everybody: the corners (N, 3) of each root's triangle of the fine mesh, and
    their weights (N, 3). The first HAIR lie on the scalp, the others where beards grow."""
    mesh = load_mesh(True, "cpu")
    skin = mesh.triangles[mesh.parts == 0]
    corner = mesh.rest[skin]
    x, y, z = corner.mean(1).unbind(1)
    area = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]).norm(dim=1)
    ear = mesh.masks[skin][..., 2].mean(1)
    scalp = smoothstep(-0.08, 0.02, y - polyline(z, *HAIRLINE)) * (ear < 0.5) * (x.abs() < 1.0)
    generator = torch.Generator().manual_seed(1)
    chosen = [torch.multinomial(area * weight, n, True, generator=generator)
              for weight, n in ((scalp, HAIR), (beard_area(x, y, z) * (1 + 2 * (y > 6.65) * (x.abs() < 0.4)), BEARD))]
    r = torch.rand(HAIR + BEARD, 2, generator=generator).sort(1).values
    weights = torch.stack([r[:, 0], r[:, 1] - r[:, 0], 1 - r[:, 1]], 1)
    return skin[torch.cat(chosen)].to(device), weights.to(device)


@dataclass
class Roots:
    "Where N strands of B people begin."
    point: Tensor              # (B, N, 3) head units
    normal: Tensor             # (B, N, 3)
    rest: Tensor               # (N, 3) the same points of the head at rest, decimetres
    vertex: Tensor             # (N,) the head's vertex next to each


def root_points(heads: Heads, mesh: Mesh) -> Roots:
    "The roots of all strands on people's heads."
    corners, weights = roots(str(mesh.rest.device))
    fine = load_mesh(True, str(mesh.rest.device))
    if len(mesh.rest) != len(fine.rest):
        corners = torch.cdist(fine.rest[corners.flatten()], mesh.rest).argmin(1).view(corners.shape)
    at = lambda values: (values[:, corners] * weights[..., None]).sum(2)
    normals = vertex_normals(heads.vertices, mesh.triangles)
    return Roots(at(heads.vertices), F.normalize(at(normals), dim=-1), at(mesh.rest[None])[0], corners[:, 0])


@dataclass
class Skull:
    "The ellipsoid about which hair lies, and how thick it lies there."
    centre: Tensor             # (B, 1, 3) head units
    radii: Tensor              # (B, 1, 3)
    clear: Tensor              # (B, N) room below each strand, as a share of the radius
    slack: Tensor              # (B, N) how much further out it may go
    opening: Tensor            # (B, N) half the angle that the face is left free by, radians
    side: Tensor               # (B, N) 1 or -1: where a strand goes when it is combed out of the face


def skull_of(heads: Heads, rest: Tensor) -> tuple[Tensor, Tensor]:
    "Centre and radii (B, 1, 3) of the ellipsoid that fits each skull."
    v = heads.vertices
    crown = (rest[:, 1] > 7.55) & (rest[:, 0].abs() < 1.2)
    low, high = v[:, crown].amin(1), v[:, crown].amax(1)
    centre = torch.stack([0 * low[:, 0], low[:, 1] * 0.75 + high[:, 1] * 0.25 - 0.06, (low[:, 2] + high[:, 2]) / 2], 1)
    radii = torch.stack([high[:, 0] * 1.03, high[:, 1] - centre[:, 1], (high[:, 2] - low[:, 2]) / 2], 1)
    return centre[:, None], radii[:, None]


def around(points: Tensor, skull: Skull, grown: float) -> Tensor:
    """Points (B, N, 3) of strands brought to where hair can lie, when a share `grown` of their length is behind them.

    Above the skull's middle that is a shell about an ellipsoid, below it one about a cylinder, and not before the face.
    """
    x, y, z = ((points - skull.centre) / skull.radii).unbind(-1)
    least = 1 + skull.clear * min(1.0, 2 * grown) + 0.14 * smoothstep(0.0, -1.0, y) * (skull.opening > 0)
    distance = (x ** 2 + y.clamp(min=0) ** 2 + z ** 2).sqrt().clamp(min=1e-3)
    factor = torch.minimum(distance.clamp(min=least), least + skull.slack) / distance
    x, y, z = x * factor, torch.where(y > 0, y * factor, y), z * factor
    arch = ((0.36 - y) / 0.5).clamp(1e-4, 1).sqrt() * min(1.0, 4 * grown) + 0.40 * smoothstep(0.0, -0.8, y)
    angle, flat = torch.atan2(x, z), (x ** 2 + z ** 2).sqrt()
    least = skull.opening * arch
    angle = torch.where(
        (least > 0.25) & (angle.abs() < 1.5), torch.maximum(angle * skull.side, least) * skull.side, angle
    )
    y = y.clamp(max=1.6)
    moved = torch.stack([flat * angle.sin(), y, flat * angle.cos()], -1) * skull.radii + skull.centre
    return over_shoulders(moved)


def over_shoulders(points: Tensor) -> Tensor:
    "Points (..., 3) that are inside the shoulders, an ellipsoid, are pushed out of it."
    centre, radii = points.new_tensor([0.0, -1.42, -0.20]), points.new_tensor([1.35, 0.70, 0.42])
    out = (points - centre) / radii
    return centre + out * out.norm(dim=-1, keepdim=True).clamp(min=1e-3).reciprocal().clamp(min=1.0) * radii


def comb(people: People, roots: Roots, dice: Dice) -> tuple[Tensor, Tensor, Tensor]:
    "Which way (B, N, 3) hair is combed, its length (B, N) in decimetres, and which strands (B, N) are a fringe."
    x, y, z = roots.rest.unbind(-1)
    n, field = len(x), lambda name: styled(people, name)
    parting = parting_of(people)
    away = torch.where(x > parting, 1.0, -1.0) * (0.6 + 0.4 * torch.tanh((x - parting).abs() * 6))
    top, front = smoothstep(7.6, 8.0, y), smoothstep(0.75, 1.05, z)
    hangs = (field("cut") > 0).float()
    way = field("comb").expand(-1, n, -1).clone()
    way[..., 0] += field("part") * away * (0.4 + 0.6 * top)
    way[..., 1] -= 0.6 * (1 - top) * (field("lift") < 0.95)
    way[..., 2] -= 1.1 * front * hangs
    forward = field("fringe") * (front * smoothstep(7.75, 7.95, y) > 0.3)
    ahead = torch.stack([0.25 * away, -0.2 + 0 * away, 1 + 0 * away], -1)
    way = torch.lerp(way, ahead.expand_as(way), forward[..., None])
    locks = torch.sin(roots.rest @ (8 * dice.normal(3, 3)) + 6.3 * dice.uniform(1, 3))  # neighbours go together
    way = way + field("loose")[..., None] * (0.35 * locks + 0.6 * dice.normal(n, 3))
    length = field("length") * (0.7 + 0.6 * people.get("hair_length")[:, None]) * (0.85 + 0.3 * dice.uniform(n))
    sides = torch.lerp(field("side"), torch.ones_like(field("side")), smoothstep(7.55, 8.0, y))
    length = length * sides * torch.where(hangs > 0, 1.0, 0.35 + 0.65 * smoothstep(6.9, 7.4, y))
    length = torch.where(
        hangs > 0, 1.15 * (y - cut_height(people)).clamp(min=0) + 0.45 * smoothstep(7.6, 8.3, y), length
    )
    length = torch.lerp(length, (0.62 + 0.10 * dice.uniform(n)) * (0.85 + 0.5 * (y - 7.9)), forward)
    edge = hair_edge(people, roots.rest)
    return F.normalize(way, dim=-1), length * smoothstep(-0.02, 0.06, edge), forward


def parting_of(people: People) -> Tensor:
    "Where (B, 1) hair is parted, decimetres from the middle: there, or at a side; hanging hair never far from it."
    at = people.get("parting")[:, None]
    return torch.where(styled(people, "cut") > 0, 0.12, 0.35) * at * (at.abs() > 0.3)


def cut_height(people: People) -> Tensor:
    "The height (B, 1) at which hanging hair ends, decimetres at rest."
    return styled(people, "cut") - 0.4 * (people.get("hair_length")[:, None] - 0.5)


def flow(
    people: People, roots: Roots, way: Tensor, length: Tensor, skull: Skull, forward: Tensor, dice: Dice
) -> Tensor:
    "Paths (B, N, HAIR_POINTS, 3) of strands that leave their roots, turn to where they are combed, fall and curl."
    n, field = len(roots.rest), lambda name: styled(people, name)
    lift = field("lift") * (0.6 + 0.6 * people.get("hair_volume")[:, None]).clamp(max=1.0)
    lift = (lift * torch.lerp(torch.ones_like(lift), smoothstep(6.9, 8.0, roots.rest[:, 1]), 0.6))[..., None]
    step = (length / SCALE / ((HAIR_POINTS - 1) * STEPS))[..., None]
    gravity, fall = way.new_tensor([0.0, -1.0, 0.0]), field("fall")[..., None]
    end = torch.where(forward > 0, FRINGE_END, cut_height(people)) + 0.06 * dice.uniform(n)
    end = torch.where(field("cut") > 0, (end - REST_CENTRE[1]) / SCALE, -9.0)
    heading = F.normalize(roots.normal * lift + way * (1 - 0.7 * lift), dim=-1)
    point, path = roots.point + 0.002 * roots.normal, [roots.point - 0.004 * roots.normal]
    for k in range(1, (HAIR_POINTS - 1) * STEPS + 1):
        grown = k / ((HAIR_POINTS - 1) * STEPS)
        heading = F.normalize(
            heading + (0.25 * (1 - grown) ** 3 * (1 - lift) * way + fall * (0.1 + grown) * gravity) * (3 / STEPS),
            dim=-1,
        )
        moved = around(point + heading * step, skull, grown)
        moved = torch.where(moved[..., 1:2] < end[..., None], point, moved)
        heading = F.normalize(heading + F.normalize(moved - point, dim=-1), dim=-1)
        point = moved
        if k % STEPS == 0: path.append(point)
    return curled(torch.stack(path, 2), people, roots, dice)


def curled(path: Tensor, people: People, roots: Roots, dice: Dice) -> Tensor:
    "Paths (B, N, K, 3) wound into waves or curls."
    n, field = len(roots.rest), lambda name: styled(people, name)
    own = 0.035 * people.get("curl")[:, None] ** 2 * (field("length") > 0.3)
    size = ((field("curl") + own) / SCALE * (0.7 + 0.6 * dice.uniform(n)))
    size = (size * (1 - 0.7 * smoothstep(0.8, 1.05, roots.rest[:, 2])))[..., None, None]  # not into the face
    ahead = F.normalize(path[:, :, 1:] - path[:, :, :-1], dim=-1)
    ahead = torch.cat([ahead, ahead[:, :, -1:]], 2)
    sides = F.normalize(torch.linalg.cross(ahead, roots.normal[:, :, None] + 0.01), dim=-1)
    up = torch.linalg.cross(sides, ahead)
    k = torch.arange(path.shape[2], device=path.device)
    first, each = 6.3 * dice.uniform(n) * (1 - 0.5 * field("part")), 1.0 + 0.5 * dice.uniform(n)
    turns = first[..., None] + each[..., None] * k
    wave = turns.sin()[..., None] * sides + turns.cos()[..., None] * up
    return path + size * (k / 3).clamp(max=1)[:, None] * wave


def cloud(people: People, roots: Roots, length: Tensor, dice: Dice) -> Tensor:
    "Paths (B, N, HAIR_POINTS, 3) of an afro: loops at all heights above the scalp."
    n = len(roots.rest)
    height = length * (0.05 + 0.95 * dice.uniform(n) ** 0.7) / SCALE
    top = roots.point + height[..., None] * F.normalize(roots.normal + 0.12 * dice.normal(n, 3), dim=-1)
    a = F.normalize(dice.normal(n, 3), dim=-1)
    b = F.normalize(torch.linalg.cross(a, dice.normal(n, 3)), dim=-1)
    turns = 6.3 * dice.uniform(n, 1) + torch.arange(HAIR_POINTS, device=top.device) * 0.95
    size = (0.020 + 0.020 * dice.uniform(n, 1))[..., None]
    return top[:, :, None] + size * (turns.sin()[..., None] * a[:, :, None] + turns.cos()[..., None] * b[:, :, None])


def tied(people: People, roots: Roots, skull: Skull, dice: Dice) -> tuple[Tensor, Tensor]:
    "Paths (B, N, HAIR_POINTS, 3) of hair drawn to a knot, or to one at each side, and each strand's knot (B, N, 3)."
    n = len(roots.rest)
    knot = (styled(people, "knot") - roots.rest.new_tensor(REST_CENTRE)) / SCALE                    # (B, 1, 3)
    knot = knot * torch.stack([skull.side, 1 + 0 * skull.side, 1 + 0 * skull.side], -1)
    t = torch.linspace(0, 1, HAIR_POINTS, device=knot.device)
    path = [torch.lerp(roots.point, knot + 0.03 * dice.normal(n, 3), float(s)) for s in t]
    return torch.stack([around(p, skull, 0.3 + 0.5 * float(s)) for p, s in zip(path, t)], 2), knot


def bundle(people: People, knot: Tensor, dice: Dice) -> Tensor:
    "Paths (B, N, HAIR_POINTS, 3) of what hangs on knots (B, N, 3): a bun, a tail, or plaits."
    n, hang = knot.shape[1], styled(people, "tail")[..., None] / SCALE
    t = torch.linspace(0, 1, HAIR_POINTS, device=knot.device)
    a = F.normalize(dice.normal(n, 3), dim=-1)
    b = F.normalize(torch.linalg.cross(a, dice.normal(n, 3)), dim=-1)
    radius = (0.15 + 0.02 * dice.uniform(n, 1))[..., None]
    ball = a[:, :, None] * (3.5 * t).cos()[:, None] + b[:, :, None] * (3.5 * t).sin()[:, None]
    bun = knot[:, :, None] + radius * ball
    thick = 0.085 * (1 - 0.75 * t ** 2) * (0.25 + t).clamp(max=0.5) * 2
    down = torch.stack([0 * t, -t, -0.25 * torch.sin(3 * t)], -1) * hang[..., None]
    tail = knot[:, :, None] + down + thick[:, None] * a[:, :, None] * dice.uniform(n, 1)[..., None].sqrt()
    turns = 2 * math.pi * (torch.arange(n, device=t.device) % 3 / 3)[:, None] + 7.5 * t
    woven = [0.045 * turns.sin(), -t * hang, 0.028 * (2 * turns).sin() + 0.22 * smoothstep(0, 0.7, t)]
    plait = torch.stack(torch.broadcast_tensors(*woven), -1)
    plait = knot[:, :, None] + plait + 0.028 * a[:, :, None]
    return over_shoulders(
        torch.where(hang[..., None] == 0, bun, torch.where(knot[:, :, None, :1].abs() > 0.1, plait, tail))
    )


def scalp_hair(people: People, heads: Heads, mesh: Mesh, roots: Roots, dice: Dice) -> Strands:
    "The hair of people's heads."
    n, field = len(roots.rest), lambda name: styled(people, name)
    way, length, forward = comb(people, roots, dice)
    y, z = roots.rest[:, 1], roots.rest[:, 2]
    hat = people.get("hat")[:, None]
    worn = torch.where(hat == HATS.index("headscarf"), y > 0, (hat > 0) & (y > 7.50 + 0.12 * z))
    length = torch.where(worn, 0 * length, length)
    volume = torch.where(hat > 0, -0.3, people.get("hair_volume")[:, None])             # a hat flattens what it leaves
    hangs, knotted = field("cut") > 0, field("knot").abs().sum(-1) > 0
    side = torch.where(roots.rest[:, 0] > parting_of(people), 1.0, -1.0)
    opening = 0.78 + 0.10 * people.get("parting")[:, None].abs() + 0.12 * dice.uniform(n)
    opening = torch.where(hangs, opening, 0.0) * (1 - forward)
    skull = Skull(
        *skull_of(heads, mesh.rest),
        torch.where(hangs | knotted, 0.02 + field("body") * (0.10 + 0.20 * volume) * dice.uniform(n), -0.1),
        torch.where(hangs | knotted, 0.03 + 1.5 * field("curl"), 0.03 + 0.6 * field("lift") * length),
        opening,
        side
    )
    path = flow(people, roots, way, length, skull, forward, dice)
    drawn, knot = tied(people, roots, skull, dice)
    hung = torch.cat([drawn[:, :-KNOT], bundle(people, knot[:, -KNOT:], dice)], 1)
    path = torch.where(knotted[..., None, None], hung, path)
    path = torch.where((field("lift") == 1)[..., None, None], cloud(people, roots, length, dice), path)
    outward = F.normalize((path - skull.centre[:, :, None]) / skull.radii[:, :, None] ** 2, dim=-1)
    last = torch.arange(n, device=y.device) >= n - KNOT
    length = torch.where(knotted & last & (hat > 0) & (field("tail") == 0), 0 * length, length)        # no bun over a hat
    inmost = torch.where(field("tail")[..., None] > 0, torch.lerp(knot, path.mean(2), 0.9), knot)
    from_knot = F.normalize(path - inmost[:, :, None], dim=-1)
    outward = torch.where(knotted[..., None, None] & last[:, None, None], from_knot, outward)
    broad = torch.where(field("length") < 0.1, 0.006, torch.where(field("cut") > 0, 0.026, 0.013))
    broad = torch.where(field("curl") > 0, 0.020, broad)
    half = broad * (0.6 + 0.8 * dice.uniform(n)) / SCALE * (length > 0.01)
    shade = torch.linspace(0.62, 1.0, HAIR_POINTS, device=y.device) ** 0.7
    return ribbons(path, outward, half, hair_colour(people, roots, dice), shade, roots.vertex, dice)


def beard(people: People, roots: Roots, dice: Dice) -> Strands:
    "Beards of people: stubble and moustaches too long to be painted, and full beards."
    n, much = len(roots.rest), people.get("beard")[:, None]
    x, y, z = roots.rest.unbind(-1)
    full = much * smoothstep(
        0, 1, people.get("beard_shape")[:, None] * 2.2 - x.abs() - 1.2 * smoothstep(6.6, 7.0, y) + 0.25
    )
    hairs = full * (0.07 + 0.24 * much ** 3 * bump((x, 0, 0.40), (y, 6.3, 0.30))) * (0.6 + 0.8 * dice.uniform(n))
    length = torch.where(full > 0.12 + 0.25 * dice.uniform(n), hairs.clamp(min=0.04), 0 * hairs)
    down = torch.stack([0.9 * x.sign() * (x.abs() > 0.12) * (y > 6.66) - 0.25 * x, -1 + 0 * x, 0.20 + 0 * x], -1)
    way = F.normalize(down + 0.22 * dice.normal(n, 3), dim=-1)
    t = torch.linspace(0, 1, BEARD_POINTS, device=x.device)[:, None]
    bend = roots.normal[:, :, None] * (0.35 * t * (1 - 0.5 * t)) + way[:, :, None] * t
    path = roots.point[:, :, None] - 0.003 * roots.normal[:, :, None] + bend * (length / SCALE)[..., None, None]
    half = 0.0045 * (0.6 + 0.8 * dice.uniform(n)) / SCALE * (length > 0)
    shade = torch.linspace(0.7, 1.0, BEARD_POINTS, device=x.device)
    facing = roots.normal[:, :, None].expand_as(path)
    return ribbons(path, facing, half, hair_colour(people, roots, dice) * 0.8, shade, roots.vertex, dice)


def hair_colour(people: People, roots: Roots, dice: Dice) -> Tensor:
    "Light that each strand (B, N, 3) returns: the person's colour, lock by lock lighter and darker, some strands grey."
    n = len(roots.rest)
    lock = 0.5 + 0.5 * torch.sin(roots.rest @ (7 * dice.normal(3, 1)))
    colour = linear(people.rgb("hair"))[:, None] * (0.72 + 0.26 * lock + 0.3 * dice.uniform(n, 1))
    grey = (people.get("grey")[:, None, None] * (0.55 + 0.9 * dice.uniform(n, 1))).clamp(max=1)
    return torch.lerp(colour, colour.new_tensor([0.42, 0.41, 0.40]), grey)


def ribbons(
    path: Tensor, outward: Tensor, half: Tensor, colour: Tensor, shade: Tensor, vertex: Tensor, dice: Dice
) -> Strands:
    """Ribbons about paths (B, N, K, 3), which lie across `outward` (B, N, K, 3): half as wide as `half` (B, N), of a
    colour (B, N, 3) that is darker where `shade` (K,) is below 1, and hang on a vertex (N,) of the head."""
    b, n, k, _ = path.shape
    ahead = torch.cat([path[:, :, 1:2] - path[:, :, :1], path[:, :, 1:] - path[:, :, :-1]], 2)
    along = F.normalize(ahead, dim=-1)
    across = F.normalize(torch.linalg.cross(along, outward + 0.25 * dice.normal(n, 1, 3)), dim=-1)
    taper = 1 - torch.linspace(0, 1, k, device=path.device) ** 3 * 0.9
    half = (half[..., None] * taper)[..., None]
    points = torch.stack([path - across * half, path + across * half], 3).flatten(1, 3)
    each = lambda v: v[:, :, :, None].expand(*v.shape[:3], 2, *v.shape[3:]).flatten(1, 3)
    edges = colour.new_tensor([0.88, 1.12])[:, None]
    light = (colour[:, :, None, None] * edges * shade[:, None, None]).flatten(1, 3)
    blank = torch.zeros_like(light[..., :1])
    coats = torch.cat([light, blank, blank, blank + 0.05, blank, blank + 1], 2)
    place = points * SCALE + points.new_tensor(REST_CENTRE)
    share = smoothstep(5.2, 6.4, place[..., 1] + 0.45 * place[..., 2])
    sides = points.new_tensor([-0.35, 0.35]).repeat(n * k)[:, None]                    # a ribbon's edges look aside
    facing = F.normalize(each(outward + 0.22 * dice.normal(n, 1, 3)) + sides * each(across), dim=-1)
    start = (torch.arange(n, device=path.device)[:, None] * k + torch.arange(k - 1, device=path.device)).flatten() * 2
    quads = torch.stack([start, start + 1, start + 3, start + 2], 1)
    triangles = torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).expand(b, -1, -1)
    return Strands(points, each(vertex[:, None].expand(b, -1, k)), share, facing, each(along), coats, triangles,
                   torch.full(triangles.shape[:2], HAIR_PART, device=path.device))


def grow(people: People, heads: Heads, mesh: Mesh) -> Strands:
    "Grows the hair and the beards of people on their heads."
    dice, everywhere = Dice(people.seed, 17), root_points(heads, mesh)
    some = lambda which: Roots(
        everywhere.point[:, which], everywhere.normal[:, which], everywhere.rest[which], everywhere.vertex[which]
    )
    return scalp_hair(people, heads, mesh, some(slice(HAIR)), dice).beside(beard(people, some(slice(HAIR, None)), dice))
