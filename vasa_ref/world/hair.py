"""Hair as strands: ribbons that grow from the scalp, are combed, fall and curl; and beards, which are hair elsewhere."""
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .head import SCALE, Heads, Mesh, load_mesh, pose_points, rotation_vector, smoothstep, turn
from .people import HATS, People, styled
from .raster import vertex_normals
from .skin import HAIRLINE, beard_area, hair_edge, linear, polyline

STRANDS, BEARD, POINTS = 1900, 700, 8                      # strands of scalp and beard, points along each


@dataclass
class Strands:
    "What B people wear of hair: N points each, with the same triangles for everybody; a strand that is not there has no width."
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
    """Where strands may grow, the same for everybody: the mesh's vertex next to each root (N,), the other two of its
    triangle (N, 2), and the weights (N, 3). The first STRANDS lie on the scalp, the others where beards grow."""
    mesh = load_mesh(True, "cpu")
    skin = mesh.triangles[mesh.parts == 0]
    corner = mesh.rest[skin]
    x, y, z = corner.mean(1).unbind(1)
    area = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]).norm(dim=1)
    ear = mesh.masks[skin][..., 2].mean(1)
    scalp = smoothstep(-0.08, 0.02, y - polyline(z, *HAIRLINE)) * (ear < 0.5) * (x.abs() < 1.0)
    generator = torch.Generator().manual_seed(1)
    chosen = [torch.multinomial(area * weight, n, True, generator=generator)
              for weight, n in ((scalp, STRANDS), (beard_area(x, y, z), BEARD))]
    r = torch.rand(STRANDS + BEARD, 2, generator=generator).sort(1).values
    weights = torch.stack([r[:, 0], r[:, 1] - r[:, 0], 1 - r[:, 1]], 1)
    return skin[torch.cat(chosen)].to(device), weights.to(device)


def ellipsoid(heads: Heads, rest: Tensor) -> tuple[Tensor, Tensor]:
    "Centre and radii (B, 1, 3) of the skull, about which hair lies."
    v = heads.vertices
    crown = (rest[:, 1] > 7.55) & (rest[:, 0].abs() < 1.2)
    low, high = v[:, crown].amin(1), v[:, crown].amax(1)
    centre = torch.stack([0 * low[:, 0], low[:, 1] * 0.75 + high[:, 1] * 0.25 - 0.06, (low[:, 2] + high[:, 2]) / 2], 1)
    radii = torch.stack([high[:, 0] * 1.03, high[:, 1] - centre[:, 1], (high[:, 2] - low[:, 2]) / 2], 1)
    return centre[:, None], radii[:, None]


def comb(people: People, rest: Tensor, normal: Tensor, points: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    "Which way (B, N, 3) hair is combed at roots, and how long it is (B, N), decimetres."
    b, n = len(people), len(rest)
    x, y, z = rest.unbind(-1)
    rand = lambda *s: torch.rand(b, n, *s, generator=generator).to(rest)
    randn = lambda *s: torch.randn(b, n, *s, generator=generator).to(rest)
    field = lambda name: styled(people, name)
    parting = 0.35 * people.get("parting")[:, None] * (people.get("parting")[:, None].abs() > 0.3)
    away = torch.tanh((x - parting) * 6)
    top, front = smoothstep(7.6, 8.0, y), smoothstep(0.75, 1.05, z)
    way = field("comb") + 0 * normal
    way[..., 0] += field("part") * away * (0.5 + 0.5 * top)
    way[..., 1] -= 0.6 * (1 - top) * (field("lift") < 0.95)
    way[..., 2] -= 0.5 * front * field("part") * (field("length") > 0.9)
    forward = field("fringe") * front * top
    way = torch.lerp(way, rest.new_tensor([0.0, -0.15, 1.0]) + 0.35 * away[..., None] * rest.new_tensor([1.0, 0, 0]), forward[..., None])
    knot = field("knot")
    tied = (knot.abs().sum(-1) > 0).float()
    to_knot = (knot - rest.new_tensor([0, 7.284, 0.295])) / SCALE - points
    way = torch.lerp(way, F.normalize(to_knot, dim=-1), tied[..., None])
    loose = torch.where(field("length") > 1.2, 0.08, 0.22) * (1 - 0.6 * tied)
    way = way + loose[..., None] * randn(3)
    length = field("length") * (0.65 + 0.6 * people.get("hair_length")[:, None]) * (0.85 + 0.3 * rand())
    length = length * torch.lerp(field("side"), torch.ones_like(field("side")), smoothstep(7.45, 7.95, y))
    nape = smoothstep(6.9, 7.4, y + 0.25 * (z < 0))
    length = length * torch.where(field("length") > 1.2, 1.0, 0.35 + 0.65 * nape)
    length = torch.lerp(length, 0.52 + 0.12 * rand(), forward * (field("length") > 0.5))
    length = torch.where(tied > 0, (to_knot.norm(dim=-1) * SCALE).clamp(max=2.0), length)
    edge = hair_edge(people, rest)
    return F.normalize(way, dim=-1), length * smoothstep(-0.01, 0.05, edge) * (edge > 0.0)


def grow(people: People, heads: Heads, mesh: Mesh) -> Strands:
    "Grows the hair and the beards of people on their heads."
    b, device = len(people), people.look.device
    corners, weights = roots(str(device))
    generator = torch.Generator().manual_seed(int(people.seed[0]) + 17)
    rand = lambda *s: torch.rand(b, len(corners), *s, generator=generator).to(device)
    fine = load_mesh(True, str(device))
    at = lambda values: (values[:, corners] * weights[..., None]).sum(2)               # (B, N, 3)
    if len(mesh.rest) != len(fine.rest): corners = nearest(fine, mesh, corners)
    normals = vertex_normals(heads.vertices, mesh.triangles)
    root, normal, rest = at(heads.vertices), F.normalize(at(normals), dim=-1), at(mesh.rest[None])[0]
    x, y, z = rest.unbind(-1)
    beard = torch.arange(len(rest), device=device) >= STRANDS
    way, length = comb(people, rest, normal, root, generator)
    down = torch.stack([0.9 * x.sign() * (x.abs() > 0.12) * (y > 6.66) + 0.15 * x, -1 + 0 * x, 0.45 + 0 * x], -1)
    way = torch.where(beard[:, None], F.normalize(down + 0.5 * (rand(3) - 0.5), dim=-1), way)
    full = people.get("beard")[:, None] * smoothstep(0, 1, people.get("beard_shape")[:, None] * 2.2 - x.abs() - 1.2 * smoothstep(6.6, 7.0, y) + 0.25)
    hairs = full * (0.07 + 0.30 * people.get("beard")[:, None] * smoothstep(6.75, 6.3, y)) * (0.6 + 0.8 * rand())
    length = torch.where(beard, torch.where(full > 0.12, hairs.clamp(min=0.05), 0 * hairs), length)
    hat = people.get("hat")[:, None]
    length = torch.where(~beard & (hat == HATS.index("headscarf")), 0 * length, length)
    covered = ((hat == HATS.index("beanie")) | (hat == HATS.index("cap"))) & (y > 7.55 + 0.12 * z)
    length = torch.where(~beard & covered, 0 * length, length)
    there = length > 0.01
    centre, radii = ellipsoid(heads, mesh.rest)
    lift = torch.where(beard, 0.15, styled(people, "lift") * (0.6 + 0.8 * people.get("hair_volume")[:, None]))
    fall = torch.where(beard, 0.2, styled(people, "fall"))
    long = (styled(people, "length") > 0.9) * (styled(people, "curl") == 0)
    clear = 0.02 + 0.05 * people.get("hair_volume")[:, None] * (styled(people, "length") > 0.5) * rand()
    step = length / SCALE / (POINTS - 1)
    curl = torch.where(beard, 0.25 * step, styled(people, "curl") / SCALE + 0.03 / SCALE * people.get("curl")[:, None] ** 2 * (styled(people, "length") > 0.3))
    phase, pitch = 6.3 * rand(), 2.2 + 1.5 * rand()
    point, heading = root + 0.004 * normal, F.normalize(normal * lift[..., None] + way * (1 - 0.7 * lift[..., None]), dim=-1)
    path, gravity = [point], root.new_tensor([0.0, -1.0, 0.0])
    sides = F.normalize(torch.linalg.cross(heading, normal + 0.01), dim=-1)
    for k in range(1, POINTS):
        share = k / (POINTS - 1)
        heading = F.normalize(heading + 0.5 * (1 - share) ** 3 * (1 - lift[..., None]) * way + fall[..., None] * (0.3 + 3 * share) * gravity, dim=-1)
        point = point + heading * step[..., None]
        out = (point - centre) / radii
        inside = (1 + clear[..., None] * (1 + share)) / out.norm(dim=-1, keepdim=True).clamp(min=1e-3)
        pushed = centre + out * radii * inside.clamp(1, 1.12)
        point = torch.where(beard[:, None], point, part_curtain(pushed, rest, long))
        twist = curl * min(1.0, 2 * share)
        wave = torch.sin(phase + pitch * k)[..., None] * sides + torch.cos(phase + pitch * k)[..., None] * normal
        path.append(point + twist[..., None] * wave)
    path = torch.stack(path, 2)                                                        # (B, N, K, 3)
    along = F.normalize(torch.cat([path[:, :, 1:2] - path[:, :, :1], path[:, :, 1:] - path[:, :, :-1]], 2), dim=-1)
    outward = F.normalize((path - centre[:, :, None]) / radii[:, :, None] ** 2, dim=-1)
    outward = torch.where(beard[:, None, None], normal[:, :, None].expand_as(outward), outward)
    across = F.normalize(torch.linalg.cross(along, outward + 0.5 * (rand(1, 3) - 0.5)), dim=-1)
    taper = torch.tensor([0.8, 1, 1, 1, 0.95, 0.85, 0.6, 0.2], device=device)
    broad = torch.where(beard, 0.007, torch.where(styled(people, "length") < 0.35, 0.016 - 0.008 * (styled(people, "length") < 0.1), torch.where(long > 0, 0.032, 0.024))) * (0.7 + 0.6 * rand())
    half = (broad / SCALE * there)[..., None] * taper
    ribbon = torch.stack([path - across * half[..., None], path + across * half[..., None]], 3)   # (B, N, K, 2, 3)
    each = lambda v: v[:, :, :, None].expand(*v.shape[:3], 2, *v.shape[3:]).flatten(1, 3)
    colour = hair_colour(people, beard, rand)                                          # (B, N, 3)
    shade = torch.linspace(0.45, 1.0, POINTS, device=device) ** 0.7
    two = torch.stack([0.85 + 0.1 * rand(), 1.0 + 0.15 * rand()], -1)[:, :, None, :, None]          # (B, N, 1, 2, 1)
    lit = (colour[:, :, None, None] * two * shade[:, None, None]).expand(-1, -1, POINTS, -1, -1).flatten(1, 3)
    blank = torch.zeros_like(lit[..., :1])
    coats = torch.cat([lit, blank, blank, blank + 0.05, blank, blank + 1], 2)
    height = (ribbon.flatten(1, 3) * SCALE)[..., 1] + 7.284 + 0.45 * ((ribbon.flatten(1, 3) * SCALE)[..., 2] + 0.295)
    share = torch.where(each(beard[None, :, None].expand(b, -1, POINTS)), 1.0, smoothstep(5.2, 6.4, height))
    return Strands(ribbon.flatten(1, 3), each(corners[:, 0][None, :, None].expand(b, -1, POINTS)), share,
                   F.normalize(each(outward) + 0.35 * each(across * 0 + (rand(1, 3) - 0.5)), dim=-1), each(along), coats, *ribbons(b, device))


def part_curtain(points: Tensor, rest: Tensor, long: Tensor) -> Tensor:
    "Long hair that hangs before the face is drawn to its side: points (B, N, 3) of strands with roots at `rest` (N, 3)."
    x, y, z = points.unbind(-1)
    least = 0.42 * smoothstep(0.46, 0.12, y) * smoothstep(0.15, 0.4, z) * long
    side = torch.where(rest[:, 0] > 0, 1.0, -1.0)
    return torch.stack([side * torch.maximum(x * side, least), y, z], -1)


def hair_colour(people: People, beard: Tensor, rand) -> Tensor:
    "Light that each strand (B, N, 3) returns: the person's colour, lighter and darker, some strands grey."
    colour = linear(people.rgb("hair"))[:, None] * (0.8 + 0.4 * rand(1))
    grey = people.get("grey")[:, None, None] * (0.5 + 0.5 * rand(1))
    return torch.lerp(colour, colour.new_tensor([0.42, 0.41, 0.40]), grey)


def ribbons(b: int, device) -> tuple[Tensor, Tensor]:
    "Triangles (B, T, 3) of all ribbons, and what they are of (B, T): hair."
    start = (torch.arange(STRANDS + BEARD, device=device)[:, None] * POINTS + torch.arange(POINTS - 1, device=device)).flatten() * 2
    quad = torch.stack([start, start + 1, start + 3, start + 2], 1)
    triangles = torch.cat([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
    return triangles.expand(b, -1, -1), torch.full((b, len(triangles)), 5, device=device)


def nearest(fine: Mesh, mesh: Mesh, corners: Tensor) -> Tensor:
    "The coarse mesh's vertices next to vertices of the fine one."
    return torch.cdist(fine.rest[corners.flatten()], mesh.rest).argmin(1).view(corners.shape)
