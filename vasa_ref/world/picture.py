"""A picture of people: their surface, the light on it, what is behind them, and the camera."""
import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import VasaError
from .head import Heads, build_heads, load_mesh, move_heads, pose_points, project, smoothstep
from .people import HATS, People
from .raster import Fragments, interpolate, rasterise, to_image, vertex_normals
from .skin import coat_vertices, eye_colour, linear, skin_texture, teeth_shade, wrinkle_depths, wrinkle_maps
from .hair import Strands, grow
from .wardrobe import cloth_texture, dress, wear

SURFACES = ("skin", "eye", "teeth", "tongue", "lashes", "hair", "cloth", "glasses", "hat")
SHOTS = ("key_yaw", "key_pitch", "key", "warmth", "fill", "ambient", "rim", "exposure", "contrast", "saturation")


@dataclass
class Figures:
    "People ready to be drawn: all that stays the same from frame to frame."
    people: People
    heads: Heads
    coats: Tensor              # (B, V + N, 8): head, then strands
    texture: Tensor            # (B, 7, rows, columns)
    strands: Strands

    def __len__(self) -> int: return len(self.coats)

    def __getitem__(self, index):
        if isinstance(index, int): index = [index]
        return Figures(*(getattr(self, f.name)[index] for f in fields(self)))

    def expand(self, n: int) -> "Figures":
        "One person as n times the same, without a copy."
        if len(self) == n: return self
        each = lambda x: x.expand(n, *x.shape[1:]) if isinstance(x, Tensor) else type(x)(*(each(getattr(x, f.name)) for f in fields(x)))
        return each(self)


def make_figures(people: People, fine: bool = True) -> Figures:
    "Builds what `render` draws: once per person, some tenths of a second each."
    heads, mesh = build_heads(people.identity, fine), load_mesh(fine, str(people.look.device))
    heads = dress(people, heads, mesh)
    strands = grow(people, heads, mesh).beside(wear(people, heads, mesh))
    coats = torch.cat([coat_vertices(people, mesh), strands.coats], 1)
    colour, cover, height, mottle = skin_texture(people).split([3, 1, 1, 1], 1)
    cloth, there, folds = cloth_texture(people)
    texture = torch.cat([torch.lerp(colour, cloth, there), torch.maximum(cover, there), torch.lerp(height, folds, there),
                         mottle * (1 - there), there], 1)
    return Figures(people, heads, coats, texture, strands)


def random_shots(n: int, generator: torch.Generator | None = None) -> Tensor:
    "n ways to light and expose a picture (n, 10), named by SHOTS."
    u = lambda low, high: low + (high - low) * torch.rand(n, generator=generator)
    return torch.stack([u(-1.0, 1.0), u(-0.05, 0.75), u(0.55, 1.3), u(-0.6, 1), u(0.08, 0.35), u(0.30, 0.65), u(0, 0.8),
                        u(0.85, 1.2), u(0.9, 1.12), u(0.75, 1.15)], 1)


def studio(n: int = 1) -> Tensor:
    "n times the same friendly light."
    return torch.tensor([[-0.55, 0.45, 1.05, 0.35, 0.22, 0.48, 0.35, 1.0, 1.0, 1.0]]).expand(n, -1)


@dataclass
class Truth:
    "What the renderer knows of B pictures besides their colours."
    mask: Tensor               # (B, 1, S, S) share of each pixel that a person covers
    screen: Tensor             # (B, V, 3) places of all surface points: x right, y up in [-1, 1], depth
    depth: Tensor              # (B, 1, S, S) of each pixel's first sample, -3 where nobody is
    fragments: Fragments
    triangles: Tensor
    of: Tensor                 # (T,) what each triangle is of, index into SURFACES
    figures: "Figures"
    samples: int

    def look_up(self, values: Tensor, empty: float = 0.0) -> Tensor:
        "Values (B or 1, V, C) at the surface points as pictures (B, C, S, S), read at each pixel's first sample."
        image = to_image(self.fragments, interpolate(self.fragments, self.triangles, values), empty)
        return image[..., ::self.samples, ::self.samples]

    def surface(self) -> Tensor:
        "Index into SURFACES of what each pixel shows (B, 1, S, S), -1 where nobody is."
        f = self.fragments
        what = self.of[f.triangle % len(self.triangles)][:, None].float()
        return to_image(f, what, -1.0)[..., ::self.samples, ::self.samples].long()

    def canonical(self) -> Tensor:
        "Where each pixel's surface point lies on the head at rest, (B, 3, S, S) in voxel coordinates: x right, y down, z away."
        rest = torch.cat([self.figures.heads.vertices, self.figures.strands.rest], 1)
        return self.look_up(rest * rest.new_tensor([1.0, -1.0, -1.0]))


def correspondence(truth: Truth, screen: Tensor, depth: Tensor, slack: float = 0.03) -> tuple[Tensor, Tensor]:
    """Where each pixel of a picture of people lies in another picture of the same people.

    truth: of the one; screen (B, V, 3) and depth (B, 1, S, S): from the `Truth` of the other. Returns places
    (B, S, S, 2) as for grid_sample, and where they are known and seen in the other (B, 1, S, S)."""
    size = truth.mask.shape[-1]
    x, y, z = truth.look_up(screen, float("nan")).unbind(1)
    aside = (1 - 1 / truth.samples) / size                          # from a pixel's first sample to its middle
    there = ~x.isnan()
    at = torch.stack([x.nan_to_num(0) + aside, -y.nan_to_num(0) + aside], -1)
    met = F.grid_sample(depth, at, mode="nearest", align_corners=False)
    inside = (at.abs() < 1).all(-1)
    return at, (there & inside & ((met[:, 0] - z.nan_to_num(0)) < slack))[:, None]


def blurred(image: Tensor, radius: int) -> Tensor:
    "Two box blurs of width 2 radius + 1."
    for _ in range(2): image = F.avg_pool2d(image, 2 * radius + 1, 1, radius, count_include_pad=False)
    return image


def openness(depth: Tensor, mask: Tensor) -> Tensor:
    """How open each point is to light from everywhere (B, 1, S, S): less where the surface about it is nearer to the viewer.

    Found in three coarser and coarser copies of the depth picture."""
    closed, weighed, weight = 0, depth * mask, mask
    radius = 6 / depth.shape[-1]                                                       # of the blur, head units
    for level in range(5):
        around = blurred(weighed, 1) / blurred(weight, 1).clamp(min=0.05)
        own = weighed / weight.clamp(min=0.05)
        strength = 6.0 * math.exp(-radius / 0.045) * (radius > 0.008)
        sunk = strength * (around - own).clamp(0, 0.12) * (weight > 0.05)
        closed = closed + F.interpolate(sunk, depth.shape[-2:], mode="bilinear")
        weighed, weight, radius = F.avg_pool2d(weighed, 2), F.avg_pool2d(weight, 2), 2 * radius
    return torch.exp(-closed)


def shadow(depth: Tensor, light: Tensor, steps: int = 12, reach: float = 0.85) -> Tensor:
    "How much of a lamp (B, 3) each point sees, (B, 1, S, S): rays march over the depth picture (B, 1, S, S)."
    b, _, s, _ = depth.shape
    c = (torch.arange(s, device=depth.device) + 0.5) * 2 / s - 1
    x, y = c.expand(b, s, s), c[:, None].expand(b, s, s)
    lit = torch.ones_like(depth)
    for k in range(1, steps + 1):
        far = reach * (k / steps) ** 1.7
        at = torch.stack([x + far * light[:, 0, None, None], y - far * light[:, 1, None, None]], -1)
        met = F.grid_sample(depth, at, align_corners=False, padding_mode="border")
        above = met - (depth + far * light[:, 2, None, None, None])
        hidden = smoothstep(0.012 + 0.01 * far, 0.035 + 0.06 * far, above) * (above < 0.9)
        lit = torch.minimum(lit, 1 - hidden)
    return lit


def unit(v: Tensor, dim: int = 1) -> Tensor:
    "Vectors of length 1; over pictures' channels many times faster than F.normalize."
    return v * (v * v).sum(dim, keepdim=True).clamp(min=1e-20).rsqrt()


def lamp(yaw: Tensor, pitch: Tensor) -> Tensor:
    "Unit vectors (B, 3) to lamps at so many radians to the right and up."
    return torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], 1)


def light_surface(colour, normal, depth, mask, coats, tangent, hairy, shots):
    "Light that comes back to the camera, (B, 3, S, S), from surfaces of that colour, normal and coats under the lamps of shots."
    shot = {name: shots[:, i, None, None, None] for i, name in enumerate(SHOTS)}
    gloss, soft, shade = coats
    key = lamp(shots[:, 0], shots[:, 1])
    half = F.avg_pool2d(depth, 2)
    seen = F.interpolate(blurred(shadow(half, key), 1), depth.shape[-2:], mode="bilinear")
    ao = F.interpolate(openness(half, F.avg_pool2d(mask, 2)), depth.shape[-2:], mode="bilinear") * shade
    along = lambda d: (normal * d[:, :, None, None]).sum(1, keepdim=True)
    warm = torch.cat([1 + 0.10 * shot["warmth"], 1 + 0 * shot["warmth"], 1 - 0.14 * shot["warmth"]], 1)
    wrap = soft * colour.new_tensor([0.42, 0.24, 0.17])[:, None, None] + 0.35 * hairy
    facing = ((along(key) + wrap) / (1 + wrap)).clamp(min=0)
    through = seen ** (1 - 0.35 * soft * colour.new_tensor([1.0, 0.3, 0.15])[:, None, None])
    other = lamp(-shots[:, 0] * 0.9 - 0.3 * shots[:, 0].sign(), 0.15 * torch.ones_like(shots[:, 0]))
    fill = (0.5 + 0.5 * along(other)).clamp(min=0) ** 1.5
    sky = 0.62 + 0.38 * normal[:, 1:2]
    light = 1.9 * shot["key"] * warm * facing * through + 0.9 * shot["fill"] * fill * ao + shot["ambient"] * sky * ao * (2 - warm) ** 0.5
    back = colour * light * (0.35 + 0.65 * ao ** (0.5 + 0.5 * soft))
    view = colour.new_tensor([0.0, 0.0, 1.0]).expand(len(key), 3)
    halfway = unit(key + view)
    cosine, away = along(halfway).clamp(min=0), (1 - normal[:, 2:3].clamp(0, 1))
    glint = 4.0 * smoothstep(0.987, 0.994, along(unit(0.45 * key + view)))                                    # what an eye shows of the lamp
    shine = torch.where(gloss > 1, glint, gloss * (0.30 * cosine ** 14 + 0.65 * gloss * cosine ** 60) * (1 + 3 * away ** 3))
    grazing = 0.10 * soft * away ** 4 * ao
    aligned = (1 - (tangent * halfway[:, :, None, None]).sum(1, keepdim=True) ** 2).clamp(min=0)
    sheen = hairy * ao * facing ** 0.5 * (0.06 * aligned ** 60 + 0.5 * colour * aligned ** 14)
    behind = lamp(shots[:, 0] + math.pi * 0.8, 0.4 * torch.ones_like(shots[:, 0]))
    rim = shot["rim"] * away ** 2.5 * along(behind).clamp(min=0) * torch.lerp(0.3 + colour, 0.02 + 1.2 * colour, hairy)
    return back + 1.1 * shot["key"] * warm * (shine * (1 - hairy) + sheen) * torch.where(gloss > 1, 1.0, seen) + grazing * shot["ambient"] + rim


def develop(light: Tensor, shots: Tensor) -> Tensor:
    "Amounts of light into the values of a picture, 0 to 1: exposure, a film's curve, saturation, contrast."
    shot = {name: shots[:, i, None, None, None] for i, name in enumerate(SHOTS)}
    x = light * shot["exposure"] * 0.72
    x = (1 - torch.exp(-1.25 * x)).clamp(min=1e-5) ** (1 / 2.2) * 1.02
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * 1.2 * shot["saturation"]
    return ((x - 0.45) * shot["contrast"] + 0.45).clamp(0, 1)


def surfaces(figures: Figures) -> tuple[Tensor, Tensor, Tensor]:
    "Triangles (T, 3) of head and strands, what each is of (T,) by SURFACES, and which are seen from both sides (T,)."
    mesh = load_mesh(figures.heads.vertices.shape[1] > 10_000, str(figures.coats.device))
    triangles = torch.cat([mesh.triangles, figures.strands.triangles[0] + len(mesh.rest)])
    of = torch.cat([mesh.parts, figures.strands.parts[0]])
    return triangles, of, of > 1


@torch.no_grad()
def render(figures: Figures, pose: Tensor, units: Tensor, gaze: Tensor, body: Tensor | None = None, shots: Tensor | None = None,
           scenes: Tensor | None = None, size: int = 256, maps: bool = False, samples: int = 2):
    """Draws figures (B) in pose (B, 6), units (B, 52), gaze (B, 2) and body (B, 3): images (B, 3, size, size) in [0, 1].

    One figure serves a whole batch. `samples` squared rays meet in a pixel. With `maps`, also a `Truth`."""
    b = len(pose)
    if not len(figures) in (1, b) or not len(units) == len(gaze) == b:
        raise VasaError(f"{len(figures)} figures, {b} poses, {len(units)} units, {len(gaze)} gazes: give as many of each, or one figure")
    shots = studio(b).to(pose) if shots is None else shots
    surface = surfaces(figures)
    at_once = max(1, (2 ** 24 if pose.is_cuda else 2 ** 18) // (size * samples) ** 2)   # a processor's cache holds no more
    drawn = []
    for part in torch.arange(b).split(at_once):
        i = slice(int(part[0]), int(part[-1]) + 1)
        drawn.append(draw(figures.expand(len(part)) if len(figures) == 1 else figures[i], surface, pose[i], units[i], gaze[i],
                          None if body is None else body[i], shots[i], None if scenes is None else scenes[i], size, samples))
    images, cover, screen, depth, fragments = zip(*drawn)
    if not maps: return torch.cat(images)
    return torch.cat(images), Truth(torch.cat(cover), torch.cat(screen), torch.cat(depth), Fragments.cat(fragments, len(surface[0])),
                                    *surface[:2], figures.expand(b), samples)


def draw(figures: Figures, surface: tuple, pose, units, gaze, body, shots, scenes, size: int, samples: int) -> tuple:
    "One batch of `render`, whole at once: images, and the cover, screen, depth, fragments of its `Truth`."
    b, (triangles, of, both) = len(pose), surface
    mesh = load_mesh(figures.heads.vertices.shape[1] > 10_000, str(pose.device))
    head = move_heads(figures.heads, pose, units, gaze, body)
    points, tangents = figures.strands.move(figures.heads, mesh, pose, units, body)
    screen = project(torch.cat([head, points], 1), pose)
    s = size * samples
    fragments = rasterise(screen, triangles, s, both)
    what = of[fragments.triangle % len(triangles)]
    normals = torch.cat([vertex_normals(head, mesh.triangles), figures.strands.normals(pose)], 1)
    tangents = torch.cat([torch.zeros_like(head), tangents], 1)
    coats = interpolate(fragments, triangles, torch.cat([figures.coats, normals, tangents, screen[..., 2:]], 2))
    eyes = torch.nonzero(what == 1)[:, 0]
    if len(eyes): coats[eyes, :3] = eyes_of(figures, fragments, eyes, triangles, mesh)
    teeth = torch.nonzero(what == 2)[:, 0]
    if len(teeth):
        part = Fragments(fragments.pixel[teeth], fragments.triangle[teeth], fragments.weights[teeth], b, s)
        coats[teeth, :3] *= teeth_shade(interpolate(part, triangles, mesh.rest[None]))[:, None]
    coats = torch.cat([coats, (what == 5)[:, None].float(), (what == 1)[:, None].float(), torch.ones(len(what), 1)], 1)
    image = to_image(fragments, coats)
    colour, place, gloss, soft, shade, normal, tangent, depth, hairy, eye, mask = image.split([3, 2, 1, 1, 1, 3, 3, 1, 1, 1, 1], 1)
    depth = torch.where(mask > 0, depth, -3.0)
    depths = wrinkle_depths(units, figures.people.identity.macro[:, 4])
    wrinkles = -0.007 * torch.einsum("bk,krc->brc", depths, wrinkle_maps(str(pose.device)))[:, None]
    texture = torch.cat([figures.texture[:, :4], figures.texture[:, 4:5] + wrinkles, figures.texture[:, 5:]], 1)
    on_skin = soft
    over = F.grid_sample(texture, place.permute(0, 2, 3, 1), align_corners=False, padding_mode="border") * (soft > 0.4)
    colour = torch.lerp(colour, over[:, :3], over[:, 3:4]) * (1 + over[:, 5:6])
    soft, gloss = soft * (1 - over[:, 6:]), gloss * (1 - 0.9 * over[:, 6:])
    normal = bumped(unit(normal), over[:, 4:5], on_skin, s)
    gloss = torch.where(eye > 0, 1.6, gloss)
    light = light_surface(colour, normal, depth, mask, (gloss, soft, shade), unit(tangent), hairy, shots)
    picture = develop(light, shots)
    cover = F.avg_pool2d(mask, samples)
    behind = picture.new_tensor([0.55, 0.57, 0.60])[:, None, None].expand(b, 3, size, size) if scenes is None else scenes
    images = F.avg_pool2d(picture * mask, samples) + behind * (1 - cover)
    return images, cover, screen, depth[:, :, ::samples, ::samples], fragments


def bumped(normal: Tensor, height: Tensor, soft: Tensor, size: int) -> Tensor:
    "Normals (B, 3, S, S) bent by the slope of a height (B, 1, S, S) in head units, as the camera sees it."
    pixel = 2 / size
    slope_x = F.pad((height[..., 2:] - height[..., :-2]) / (2 * pixel), (1, 1, 0, 0))
    slope_y = F.pad((height[..., :-2, :] - height[..., 2:, :]) / (2 * pixel), (0, 0, 1, 1))
    same = F.pad((soft[..., 2:] > 0.4) & (soft[..., :-2] > 0.4), (1, 1, 0, 0)) & F.pad((soft[..., 2:, :] > 0.4) & (soft[..., :-2, :] > 0.4), (0, 0, 1, 1))
    slope = torch.cat([slope_x, slope_y, torch.zeros_like(slope_x)], 1).clamp(-0.9, 0.9) * same
    return unit(normal - slope)


def eyes_of(figures: Figures, fragments: Fragments, eyes: Tensor, triangles: Tensor, mesh) -> Tensor:
    "Light (N, 3) from the eyeballs' fragments, by where they lie on the eyeball at rest."
    part = Fragments(fragments.pixel[eyes], fragments.triangle[eyes], fragments.weights[eyes], fragments.batch, fragments.size)
    rest = interpolate(part, triangles, mesh.rest[None])
    centres = torch.stack([mesh.rest[which].mean(0) for which in mesh.eyes])
    local = unit(rest - torch.where(rest[:, :1] > 0, centres[0], centres[1]))
    frame = part.triangle // len(triangles)
    return eye_colour(local, figures.people.rgb("iris")[frame], figures.people.get("pupil")[frame])
