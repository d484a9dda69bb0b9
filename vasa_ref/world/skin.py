"""Skin, lips, brows, eyes and teeth: colour on the vertices, and a fine texture over it."""
import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .head import MASKS, PARTS, Mesh, load_mesh, smoothstep
from .people import People, styled
from .raster import interpolate, rasterise, to_image

CHART = (512, 1024)                          # rows and columns of the texture
CHART_Y = (5.0, 8.7)                         # decimetres that the rows span
AXIS = 0.1                                   # z of the axis about which the chart is rolled up
SKIN_TONES = (
    (0.905, 0.755, 0.675),
    (0.850, 0.665, 0.545),
    (0.710, 0.510, 0.385),
    (0.490, 0.330, 0.240),
    (0.290, 0.195, 0.150),
)
COATS = ("red", "green", "blue", "u", "v", "gloss", "skin", "shade")
HAIRLINE = (
    (-1.0, -0.5, -0.2, 0.2, 0.42, 0.55, 0.66, 0.74, 0.85, 1.0, 1.2, 1.5),
    (6.35, 6.40, 6.60, 6.90, 7.15, 7.22, 7.22, 7.45, 7.66, 7.84, 7.95, 7.99),
)  # z and height of the hair's edge
WRINKLES = ("forehead", "frown", "crow's feet", "nasolabial", "under the eye")


def linear(srgb: Tensor) -> Tensor:
    "Colour values as a screen shows them into amounts of light."
    return srgb.clamp(min=0) ** 2.2


def bump(*terms) -> Tensor:
    "A bell: exp(-sum ((value - centre) / width)^2) over terms (value, centre, width)."
    return torch.exp(-sum(((x - c) / w) ** 2 for x, c, w in terms))


def polyline(x: Tensor, xs: tuple, ys: tuple) -> Tensor:
    "Piecewise linear interpolation through the points (xs, ys), constant outside."
    xs, ys = x.new_tensor(xs), x.new_tensor(ys)
    i = torch.searchsorted(xs, x.contiguous()).clamp(1, len(xs) - 1)
    t = ((x - xs[i - 1]) / (xs[i] - xs[i - 1])).clamp(0, 1)
    return ys[i - 1] + t * (ys[i] - ys[i - 1])


def chart(rest: Tensor) -> Tensor:
    "Where a point (..., 3) of the head at rest lies in the texture: (..., 2) in [-1, 1], as for grid_sample."
    x, y, z = rest.unbind(-1)
    low, high = CHART_Y
    return torch.stack([torch.atan2(x, z - AXIS) / math.pi, 1 - 2 * (y - low) / (high - low)], -1)


@lru_cache(maxsize=2)
def chart_points(device: str = "cpu") -> Tensor:
    "The point of the head at rest in each texel: (3, rows, columns) decimetres; where there is none, the nearest."
    mesh = load_mesh(True, device)
    at = chart(mesh.rest)
    depth = (mesh.rest[:, [0, 2]] - mesh.rest.new_tensor([0, AXIS])).norm(dim=1)
    screen = torch.stack([at[:, 0], -at[:, 1], depth], 1)[None]
    own = mesh.triangles[
        (mesh.parts == 0) & (at[mesh.triangles][..., 0].amax(1) - at[mesh.triangles][..., 0].amin(1) < 0.5)
    ]
    fragments = rasterise(screen, own, CHART[1])
    image = to_image(fragments, interpolate(fragments, own, mesh.rest[None]), float("nan"))
    image = F.interpolate(image, CHART, mode="nearest")[0]
    bare = image[:1].isnan()
    u = torch.linspace(-math.pi, math.pi, CHART[1], device=device)
    v = torch.linspace(CHART_Y[1], CHART_Y[0], CHART[0], device=device)[:, None].expand(CHART)
    filler = torch.stack([u.sin().expand(CHART), v, u.cos().expand(CHART) + AXIS])
    return torch.where(bare, filler, image)


class Dice:
    "Random numbers of B people with seeds (B,): the same whoever else is in the batch, and on every device."

    def __init__(self, seeds: Tensor, salt: int): self.seeds, self.salt = seeds.long(), salt

    def uniform(self, *shape: int) -> Tensor:
        "New numbers in (0, 1) of shape (B, *shape), from an integer hash (C. Wellons, 2018)."
        self.salt += 1
        n, most = math.prod(shape), 0xFFFFFFFF
        x = (
            self.seeds[:, None] * 0x9E3779B1
            + self.salt * 0x85EBCA77
            + torch.arange(n, device=self.seeds.device) * 0xC2B2AE3D
        ) & most
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)): x = ((x ^ (x >> shift)) * factor) & most
        return ((x + 0.5) / 2 ** 32).float().clamp(1e-6, 1 - 1e-6).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        "New numbers of a normal distribution, (B, *shape)."
        return torch.special.ndtri(self.uniform(*shape))


def chart_noise(dice: Dice, rows: int, columns: int, size: tuple = CHART) -> Tensor:
    "Smooth random fields (B, 1, *size) about 0, with so many grains down and across."
    return resized(dice.uniform(1, rows, columns) - 0.5, size, "bicubic")


def resized(image: Tensor, size: tuple = CHART, mode: str = "bilinear") -> Tensor:
    "Images (B, C, H, W) in another size."
    return image if image.shape[-2:] == size else F.interpolate(image, size, mode=mode, align_corners=False)


def beard_area(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    "Where beards grow, 0 to 1, at points of the head at rest."
    ax = x.abs()
    line = polyline(ax, (0.0, 0.30, 0.36, 0.50, 0.62, 0.70, 0.74), (6.60, 6.62, 6.72, 6.78, 6.95, 7.20, 7.30))
    jaw = smoothstep(-0.02, 0.24, line - y) * smoothstep(5.98, 6.30, y + 0.1 * z) * smoothstep(0.35, 0.70, z)
    lip = smoothstep(6.67, 6.73, y) * smoothstep(6.90, 6.80, y) * smoothstep(0.38, 0.24, ax) * (z > 1.2)
    mouth = bump((x, 0, 0.27), (y, 6.605, 0.075)) * (z > 1.2)
    return torch.maximum(jaw * (1 - smoothstep(0.25, 0.7, mouth)), lip)


def hair_edge(people: People, rest: Tensor) -> Tensor:
    "How far (B, N) points (N, 3) of the head at rest lie above each person's hairline, decimetres; below it negative."
    x, y, z = rest.unbind(-1)
    old_male = people.identity.macro[:, 4:5] * people.identity.macro[:, 3:4]
    recede = styled(people, "recede")
    back = 0.30 * smoothstep(0.25, 0.9, old_male) + 0.5 * recede
    temples = smoothstep(0.35, 0.7, z) * (0.4 + 0.6 * smoothstep(0.1, 0.45, x.abs()))
    return (
        y
        - polyline(z, *HAIRLINE)
        - 0.03 * torch.sin(9 * x)
        - back * temples
        - 0.45 * recede * smoothstep(8.1, 8.45, y)
    )


@lru_cache(maxsize=4)
def wrinkle_maps(device: str = "cpu") -> Tensor:
    "How deep each kind of WRINKLES lies at each texel: (5, *CHART), 0 to 1."
    x, y, z = chart_points(device)
    ax, groove = x.abs(), lambda distance, width: torch.exp(-(distance / width) ** 2)
    wave = 0.018 * torch.sin(7 * x) - 0.12 * x * x
    lines = sum(groove(y - h - wave, 0.016) * a for h, a in ((7.66, 0.7), (7.755, 0.9), (7.85, 0.8), (7.935, 0.5)))
    forehead = lines * smoothstep(0.55, 0.35, ax) * (z > 0.8)
    frown = (
        groove(ax - 0.065 - 0.03 * (y - 7.45), 0.014)
        * smoothstep(7.34, 7.42, y)
        * smoothstep(7.62, 7.54, y)
        * (z > 1)
    )
    angle, reach = torch.atan2(y - 7.285, ax - 0.40), ((ax - 0.40) ** 2 + (y - 7.285) ** 2).sqrt()
    crow = sum(groove(angle - a, 0.07) for a in (-0.55, -0.2, 0.15, 0.5)) * smoothstep(0.09, 0.13, reach) * smoothstep(
        0.30, 0.18, reach) * (z > 0.5)
    fold = polyline(y, (6.50, 6.60, 6.75, 6.90, 6.98), (0.40, 0.375, 0.32, 0.235, 0.20))
    nasolabial = groove(ax - fold, 0.020) * smoothstep(6.48, 6.58, y) * smoothstep(7.0, 6.92, y) * (z > 0.9)
    arc = ((ax - 0.305) / 0.20) ** 2
    bags = groove(y - 7.105 - 0.06 * arc, 0.014) * (arc < 1.3) * smoothstep(1.3, 0.6, arc) * (z > 0.8)
    return torch.stack([forehead, frown, crow, nasolabial, bags])


def wrinkle_depths(units: Tensor, old: Tensor) -> Tensor:
    "How deep each of WRINKLES is cut (B, 5) in a face with units (B, 52) of people so old (B,)."
    from .head import UNIT
    u = lambda *names: sum(units[:, UNIT[n]] for n in names) / len(names)
    moved = torch.stack([u("browInnerUp", "browOuterUpLeft", "browOuterUpRight"), u("browDownLeft", "browDownRight"),
                         u("mouthSmileLeft", "mouthSmileRight", "eyeSquintLeft", "eyeSquintRight"),
                         0.7 * u("mouthSmileLeft", "mouthSmileRight") + 0.4 * u("noseSneerLeft", "noseSneerRight"),
                         0.5 * u("cheekSquintLeft", "cheekSquintRight")], 1)
    still = old[:, None] ** 1.5 * old.new_tensor([0.6, 0.35, 0.7, 0.55, 0.7])
    return still + moved * (0.25 + 0.9 * old[:, None])


def coat_vertices(people: People, mesh: Mesh) -> Tensor:
    "The coats (B, V, 8), named by COATS, of the head's vertices."
    x, y, z = mesh.rest.T
    ax, mask = x.abs(), dict(zip(MASKS, mesh.masks.T))
    amount = lambda name: people.get(name)[:, None]
    melanin, old, male = amount("melanin"), people.identity.macro[:, 4:5], people.identity.macro[:, 3:4]
    mix = lambda a, b, w: a + (b - a) * w[..., None]
    tones = mesh.rest.new_tensor(SKIN_TONES)
    step = (melanin * (len(tones) - 1)).clamp(0, len(tones) - 1.001)
    tone = torch.lerp(tones[step.long()], tones[step.long() + 1], (step - step.long())[..., None])       # (B, 1, 3)
    flush = (
        0.9 * bump((ax, 0.45, 0.22), (y, 6.98, 0.18), (z, 1.25, 0.3))
        + 0.7 * bump((x, 0, 0.12), (y, 6.93, 0.12), (z, 1.66, 0.2))
        + 0.5 * mask["ears"]
        + 0.4 * bump((x, 0, 0.2), (y, 6.25, 0.12), (z, 1.4, 0.3))
    )
    flush = flush * (0.3 + 0.7 * amount("redness")) * (1 - 0.6 * melanin)
    shadow = bump((ax, 0.29, 0.15), (y, 7.17, 0.05), (z, 1.4, 0.2)) * (0.25 + 0.5 * old) + 0.35 * bump(
        (ax, 0.16, 0.06), (y, 7.30, 0.08), (z, 1.4, 0.2))
    colour = tone * (1 - flush[..., None] * tone.new_tensor([0.02, 0.16, 0.15]))
    colour = colour * (1 - (shadow + 0.25 * mask["eyelids"])[..., None] * tone.new_tensor([0.16, 0.24, 0.20]))
    blue = beard_area(x, y, z) * (0.30 * amount("stubble")).clamp(max=1)
    colour = colour * (1 - blue[..., None] * tone.new_tensor([0.50, 0.42, 0.34]))
    colour = mix(colour, people.rgb("hair")[:, None].expand_as(colour), 0.6 * beard_area(x, y, z) * amount("beard"))
    covered = (
        smoothstep(-0.04, 0.16, hair_edge(people, mesh.rest)) * (1 - mask["ears"]) * (styled(people, "length") > 0)
    )
    roots = (
        torch.lerp(people.rgb("hair"), tone.new_tensor([0.66, 0.65, 0.64]), people.get("grey")[:, None])[:, None]
        * 0.88
    )
    roots = roots.expand_as(colour)
    colour = mix(colour, roots, covered)
    lip = tone * tone.new_tensor([0.86, 0.61, 0.62]) * (1 - 0.06 * male[..., None])
    lip = mix(lip, tone.new_tensor([0.62, 0.11, 0.16]).expand_as(lip), 0.75 * amount("lipstick"))
    lips = (1.25 * mask["lips"]).clamp(max=1) * (1 - smoothstep(0.3, 0.7, mask["inside-mouth"]))
    colour = mix(colour, lip, (0.85 * lips).expand(len(people), -1))
    colour = mix(
        colour,
        colour * tone.new_tensor([0.55, 0.42, 0.50]),
        smoothstep(0.1, 0.6, mask["eyelids"]) * amount("eye_shadow"),
    )
    inside = smoothstep(0.4, 0.8, mask["inside-mouth"])
    line = bump((mask["inside-mouth"], 0.35, 0.20)) * (mask["lips"] > 0.2)               # where the lips meet
    colour = mix(colour, colour * tone.new_tensor([0.55, 0.45, 0.45]), (0.8 * line).expand(len(people), -1))
    colour = mix(colour, tone.new_tensor([0.46, 0.15, 0.15]).expand_as(colour), inside.expand(len(people), -1))
    part = torch.zeros(len(x), dtype=torch.long, device=x.device)
    part[mesh.triangles.flatten()] = mesh.parts.repeat_interleave(3)
    for name, rgb in (
        ("eye", (0.86, 0.83, 0.81)),
        ("teeth", (0.86, 0.81, 0.72)),
        ("tongue", (0.66, 0.32, 0.32)),
        ("lashes", (0.05, 0.04, 0.04)),
    ):
        colour[:, part == PARTS.index(name)] = tone.new_tensor(rgb)
    deep = ((part == 2) | (part == 3)) * (1 - smoothstep(0.95, 1.42, z))  # teeth and tongue darken to the back
    colour = colour * (1 - deep[:, None] * tone.new_tensor([0.55, 0.72, 0.75]))
    is_skin = (part == 0).float()
    hidden = 1 - (1 - smoothstep(0.75, 1.5, z)) * torch.maximum(inside, (part == 2).float() + (part == 3).float())
    wet = torch.maximum(lips * (0.35 + 0.5 * amount("lipstick")), inside * 0.5 + (part == 3) * 0.5)
    gloss = torch.maximum(wet, 0.12 + 0.25 * amount("gloss") * (0.5 + bump((x, 0, 0.35), (z, 1.6, 0.35))))
    soft = (is_skin * (1 - 0.5 * inside) + 0.5 * (part == 3)).expand(len(people), -1)
    place = chart(mesh.rest).expand(len(people), -1, -1)
    return torch.cat([linear(colour), place, torch.stack([gloss, soft, hidden.expand_as(soft)], 2)], 2)


def brow_hairs(people: People, dice: Dice, hairs: int = 200) -> Tensor:
    "How dense brow hairs lie in each texel, (B, 1, *CHART): drawn one by one as thin triangles in the chart."
    rand = lambda: dice.uniform(2, hairs)
    get = lambda name: people.get(name)[:, None, None]
    thick, side = 0.5 + get("brow_thickness"), rand().new_tensor([1.0, -1.0])[None, :, None]
    t, across = rand(), rand() * 2 - 1
    across = across * (1 - 0.15 * across.abs())
    male = people.identity.macro[:, 3, None, None]
    curve = polyline(t, (0.0, 0.35, 0.7, 1.0), (7.490, 7.505, 7.515, 7.460)) + 0.018 * get("brow_height") - 0.015 * male
    half = polyline(t, (0.0, 0.15, 0.5, 1.0), (0.018, 0.034, 0.030, 0.006)) * thick
    x, y = 0.095 + 0.42 * t, curve + half * across
    lean = (
        polyline(t, (0.0, 0.2, 0.6, 1.0), (1.35, 0.75, 0.25, -0.35))
        - 0.55 * across * (t > 0.15)
        + 0.25 * (rand() - 0.5)
    )
    length, width = (0.05 + 0.03 * rand()) * (0.6 + 0.4 * thick), 0.0045 + 0.002 * rand()
    dx, dy = lean.cos(), lean.sin()
    keep = rand() < get("brow_density") * (0.55 + 0.45 * smoothstep(0, 0.1, t))
    corners = torch.stack(
        [
            torch.stack([x - width * dy, y + width * dx], -1),
            torch.stack([x + width * dy, y - width * dx], -1),
            torch.stack([x + length * dx, y + length * dy], -1),
        ],
        3,
    )  # (B, 2, H, 3, 2)
    corners = corners * keep[..., None, None]
    z = 1.53 - 1.0 * corners[..., 0] ** 2
    at = chart(torch.stack([corners[..., 0] * side[..., None], corners[..., 1], z], -1)).flatten(1, 3)
    triangles = torch.arange(at.shape[1], device=at.device).view(-1, 3)
    screen = torch.stack([at[..., 0], -at[..., 1], 0 * at[..., 0]], -1)
    low = 1 - 2 * (7.47 - CHART_Y[0]) / (CHART_Y[1] - CHART_Y[0])
    window = torch.stack(
        [screen[..., 0] / 0.25, (screen[..., 1] + low) / 0.125, screen[..., 2]], -1
    )  # the brows fill it
    size = int(CHART[1] * 0.25 * 3)
    fragments = rasterise(window, triangles, size)
    drawn = to_image(fragments, torch.ones(len(fragments.pixel), 1, device=screen.device))
    rows, columns = int(CHART[0] * 0.125), int(CHART[1] * 0.25)
    drawn = F.adaptive_avg_pool2d(drawn, (rows, columns))
    top, left = round((low + 1) / 2 * CHART[0] - rows / 2), CHART[1] // 2 - columns // 2
    return F.pad(drawn, (left, CHART[1] - left - columns, top, CHART[0] - top - rows))


def skin_texture(people: People) -> Tensor:
    """What lies over the skin's colour, (B, 6, *CHART): light it returns (3), how much of it (1), height of pores and
    hairs (1), and how much lighter or darker the skin is (1)."""
    dice, half = Dice(people.seed, 0), (CHART[0] // 2, CHART[1] // 2)
    x, y, z = chart_points(str(people.look.device))
    amount = lambda name: people.get(name)[:, None, None, None]
    noise = lambda rows, columns: chart_noise(dice, rows, columns, half)
    middle, fine = resized(noise(*half)), chart_noise(dice, *CHART)
    mottle = resized(0.12 * noise(24, 48) + 0.09 * noise(90, 180)) + 0.10 * middle
    height = amount("pores") * (0.6 * fine + 0.5 * middle) * 0.0016
    face = (smoothstep(0.3, 0.7, z) * smoothstep(6.1, 6.3, y))[None, None]
    freckled = bump((x.abs(), 0.26, 0.36), (y, 7.02, 0.26)) * face
    spots = smoothstep(0.14, 0.24, chart_noise(dice, 200, 400)) * amount("freckles") * freckled
    moles = resized(smoothstep(0.60, 0.64, noise(60, 120))) * face * (amount("moles") > 0.5)
    stubble = smoothstep(0.10, 0.26, fine) * beard_area(x, y, z) * torch.maximum(
        amount("stubble"), amount("beard").sqrt())
    coarse = torch.stack([x, y, z], -1)[::2, ::2].reshape(-1, 3)
    edge = resized(hair_edge(people, coarse).view(-1, 1, *half))
    streaks = resized(dice.uniform(1, 48, CHART[1]) - 0.5)
    has_hair = (styled(people, "length") > 0)[..., None, None]
    mottle = mottle + smoothstep(0.0, 0.2, edge) * has_hair * (0.7 * streaks + 0.5 * fine)
    border = smoothstep(-0.06, 0.14, edge + 0.16 * streaks) * (1 - smoothstep(0.14, 0.30, edge)) * has_hair
    stripes = (bump((x.abs(), 0.42, 0.16), (y, 7.0, 0.028)) + bump((x.abs(), 0.42, 0.16), (y, 6.88, 0.028))
               + bump((x, 0, 0.04), (y, 7.75, 0.16))).clamp(max=1) * face
    hair, pigment = (linear(people.rgb(name))[:, :, None, None] for name in ("hair", "trim"))
    brown, black = (
        hair.new_tensor([0.30, 0.14, 0.07])[:, None, None],
        hair.new_tensor([0.10, 0.05, 0.035])[:, None, None],
    )
    light, cover = mottle.new_zeros(len(people), 3, *CHART), mottle.new_zeros(len(people), 1, *CHART)
    for weight, paint in ((0.6 * spots, brown), (0.75 * moles, black),
                          ((0.45 + 0.4 * amount("beard")) * stubble, hair * 0.6),
                          (0.55 * border * (streaks > -0.1), hair * 0.7),
                          ((1.4 * brow_hairs(people, dice)).clamp(max=0.9), hair * 0.6),
                          (smoothstep(0.25, 0.45, stripes) * amount("face_paint"), pigment)):
        light, cover = torch.lerp(light, paint, weight), torch.lerp(cover, torch.ones_like(cover), weight)
    height = height + 0.004 * mottle * amount("pores")
    return torch.cat([light / cover.clamp(min=1e-3), cover, height, mottle], 1)


def eye_colour(local: Tensor, iris: Tensor, pupil: Tensor) -> Tensor:
    "Light (N, 3) from eyeballs: unit vectors in the eye (N, 3), z along the gaze; iris (N, 3), pupil (N,) 0 to 1."
    angle = torch.atan2(local[:, :2].norm(dim=1), local[:, 2])
    around = torch.atan2(local[:, 1], local[:, 0])
    fibres = (
        0.5
        + 0.25 * torch.sin(29 * around + 4 * torch.sin(5 * around))
        + 0.25 * torch.sin(53 * around + 9 * angle / 0.4)
    )
    edge = lambda at, width: torch.sigmoid((at - angle) / width)
    white = local.new_tensor([0.67, 0.635, 0.615]) * (1 - 0.28 * smoothstep(0.5, 1.3, angle))[:, None]
    white = white * (1 - 0.10 * smoothstep(0.6, 1.2, angle)[:, None] * local.new_tensor([0.0, 1.0, 1.0]))
    inner = linear(iris) * (0.7 + 0.9 * fibres * smoothstep(0.15, 0.42, angle))[:, None]
    inner = inner * (1 - 0.65 * smoothstep(0.37, 0.46, angle))[:, None]
    colour = torch.lerp(white, inner, edge(0.46, 0.018)[:, None])
    colour = torch.lerp(colour, local.new_full((3,), 0.004), edge(0.14 + 0.06 * pupil, 0.012)[:, None])
    return colour * (0.35 + 0.65 * smoothstep(0.62, 0.20, local[:, 1]))[:, None]  # the upper lid's shadow


def teeth_shade(rest: Tensor) -> Tensor:
    "How light (N,) the teeth are at points (N, 3) of the head at rest: gaps between them, gums above."
    x, y, z = rest.unbind(-1)
    along = torch.atan2(x, z - 1.0)
    gap = torch.cos(along * 17.0) ** 2
    return (1 - 0.45 * gap ** 8) * (0.62 + 0.38 * smoothstep(1.0, 1.40, z))
