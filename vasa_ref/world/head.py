"""A human head as one mesh and sums of offsets: who it is, what its face does, how it is turned."""
import json
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

UNITS = tuple("""eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft eyeWideLeft
    eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight eyeSquintRight eyeWideRight
    jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel mouthPucker mouthLeft mouthRight mouthSmileLeft
    mouthSmileRight mouthFrownLeft mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft
    mouthStretchRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight
    mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight browDownLeft browDownRight browInnerUp
    browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight
    tongueOut""".split())
UNIT = {name: i for i, name in enumerate(UNITS)}
PARTS = ("skin", "eye", "teeth", "tongue", "lashes")
MASKS = ("lips", "eyelids", "ears", "inside-mouth", "face")
ORIGINS = ("african", "asian", "caucasian")
MACROS = (*ORIGINS, "male", "old", "muscle", "weight")     # shares that sum to 1; two shares; two from -1 to 1
SCALE = 1.7                                                # decimetres in a head unit: half a picture at distance 1
CAMERA = 8.0                                               # head units between the head and the camera at distance 1


def neutral_pose(n: int = 1) -> Tensor:
    "The pose (n, 6) of a head that looks straight at the camera from the mean distance."
    return torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]).repeat(n, 1)


def rotation_matrix(pose: Tensor) -> Tensor:
    "R = R_yaw R_pitch R_roll, (..., 3, 3), from pose (..., 6) in radians; columns are the head's axes in the world."
    (cy, cp, cr), (sy, sp, sr) = pose[..., :3].cos().unbind(-1), pose[..., :3].sin().unbind(-1)
    zero, one = torch.zeros_like(cy), torch.ones_like(cy)
    matrix = lambda *rows: torch.stack([torch.stack(row, -1) for row in rows], -2)
    yaw = matrix((cy, zero, sy), (zero, one, zero), (-sy, zero, cy))
    pitch = matrix((one, zero, zero), (zero, cp, sp), (zero, -sp, cp))
    roll = matrix((cr, sr, zero), (-sr, cr, zero), (zero, zero, one))
    return yaw @ pitch @ roll


def direction(angles: Tensor) -> Tensor:
    "Unit vector (..., 3) of (yaw, pitch) (..., 2) in radians; (0, 0) is +z, towards the viewer."
    yaw, pitch = angles.unbind(-1)
    return torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], -1)


def look_direction(pose: Tensor, gaze: Tensor) -> Tensor:
    "(yaw, pitch) (..., 2) of R v(gaze): where eyes with this gaze in the head look, as the camera sees it."
    x, y, z = (rotation_matrix(pose) @ direction(gaze)[..., None])[..., 0].unbind(-1)
    return torch.stack([torch.atan2(x, z), y.clamp(-1, 1).asin()], -1)


def smoothstep(low: float, high: float, x: Tensor) -> Tensor:
    "0 below `low`, 1 above `high`, smooth between."
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


@dataclass
class Targets:
    "The head's data: the mesh at rest in decimetres, and what each target adds to it."
    vertices: Tensor           # (V, 3)
    quads: Tensor              # (Q, 4) vertex numbers
    parts: Tensor              # (Q,) index into PARTS
    masks: Tensor              # (V, 5) in [0, 1], named by MASKS
    places: Tensor             # (V, 2) MakeHuman's texture coordinates
    units: Tensor              # (52, V, 3), in the order of UNITS
    macros: Tensor             # (M, V, 3), named by macro_names
    shapes: Tensor             # (2, S, V, 3): the negative and the positive side of each axis of SHAPES
    macro_names: tuple
    shape_names: tuple


@lru_cache(maxsize=1)
def load_targets() -> Targets:
    "The packed data of MakeHuman's head and its targets (CC0); see tools/make_head.py."
    with np.load(Path(__file__).parent / "head.npz", allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    names = json.loads(str(data["names"]))["targets"]
    rows = {name: slice(*data["starts"][i:i + 2]) for i, name in enumerate(names)}
    count = len(data["vertices"])

    def dense(name):
        out = torch.zeros(count, 3)
        if name in rows:
            which = torch.from_numpy(data["indices"][rows[name]].astype(np.int64))
            out[which] = torch.from_numpy(data["offsets"][rows[name]].astype(np.float32)) * float(data["unit"])
        return out

    macro_names = tuple(n[6:] for n in names if n.startswith("macro/"))
    shape_names = tuple(dict.fromkeys(n[6:-1] for n in names if n.startswith("shape/")))
    return Targets(
        torch.from_numpy(data["vertices"]), torch.from_numpy(data["quads"].astype(np.int64)),
        torch.from_numpy(data["parts"].astype(np.int64)), torch.from_numpy(data["masks"]).T.float() / 255,
        torch.from_numpy(data["places"]),
        torch.stack([dense(f"unit/{n}") for n in UNITS]), torch.stack([dense(f"macro/{n}") for n in macro_names]),
        torch.stack([torch.stack([dense(f"shape/{n}{sign}") for n in shape_names]) for sign in "-+"]),
        macro_names, shape_names)


def subdivide(quads: Tensor, vertices: int) -> tuple[Tensor, Tensor]:
    """One step of Catmull and Clark, 1978: quads (Q, 4) of so many vertices become 4 Q quads.

    Returns a sparse matrix (V', V), as each new vertex is a weighted mean of old ones, and the new quads (4 Q, 4)."""
    q = len(quads)
    edges = torch.stack([quads, quads.roll(-1, 1)], 2).view(-1, 2)                     # (4 Q, 2), quad by quad
    edges, of_side, sides = edges.sort(1).values.unique(dim=0, return_inverse=True, return_counts=True)
    e, v = len(edges), vertices
    face = lambda: torch.arange(q).repeat_interleave(4)
    ones = lambda n: torch.ones(n)
    sparse = lambda rows, columns, values, size: torch.sparse_coo_tensor(
        torch.stack([rows, columns]), values, size).coalesce()
    centres = sparse(face(), quads.flatten(), 0.25 * ones(4 * q), (q, v))              # mean of the corners
    middles = sparse(torch.arange(e).repeat_interleave(2), edges.flatten(), 0.5 * ones(2 * e), (e, v))
    border = sides == 1
    beside = sparse(of_side, face(), 1 / sides[of_side], (e, q))                       # mean of the quads beside an edge
    inner = (~border).float()
    scaled = lambda matrix, factor: sparse(*matrix.indices(), matrix.values() * factor[matrix.indices()[0]], matrix.shape)
    middles_of = scaled(middles, torch.where(border, 1.0, 0.5)) + scaled(beside @ centres, 0.5 * inner)

    touching = lambda rows, columns, size: sparse(rows, columns, ones(len(rows)), size)
    by_face = touching(quads.flatten(), face(), (v, q))
    n = torch.zeros(v).index_add_(0, quads.flatten(), ones(4 * q)).clamp(min=1)        # quads at a vertex
    by_edge = touching(edges.flatten(), torch.arange(e).repeat_interleave(2), (v, e))
    degree = torch.zeros(v).index_add_(0, edges.flatten(), ones(2 * e)).clamp(min=1)
    on_border = torch.zeros(v).index_add_(0, edges[border].flatten(), ones(2 * int(border.sum()))) > 0
    free = (~on_border).float()
    eye = sparse(torch.arange(v), torch.arange(v), ones(v), (v, v))
    corner = (scaled(by_face @ centres, free / n ** 2) + scaled(by_edge @ middles, 2 * free / (n * degree))
              + scaled(eye, torch.where(on_border, 0.5, (n - 3) / n)))
    rim = touching(edges[border].flatten(), torch.nonzero(border)[:, 0].repeat_interleave(2), (v, e))
    corner = corner + scaled(rim @ middles, torch.where(on_border, 0.25, 0.0))

    matrix = torch.cat([corner.coalesce(), middles_of.coalesce(), centres])
    of_side = of_side.view(q, 4) + v
    middle = torch.arange(q)[:, None].expand(q, 4) + v + e
    quads = torch.stack([quads, of_side, middle, of_side.roll(1, 1)], 2).view(-1, 4)
    return matrix.coalesce(), quads


@dataclass
class Mesh:
    "The head's mesh at one fineness, and what is the same in everybody; decimetres."
    rest: Tensor               # (V, 3) the base head: each surface point's name
    triangles: Tensor          # (T, 3)
    parts: Tensor              # (T,) index into PARTS
    masks: Tensor              # (V, 5)
    places: Tensor             # (V, 2)
    units: Tensor              # (52, V * 3)
    neck: Tensor               # (V,) share of the head's turn that a vertex takes: 0 shoulders, 1 head
    eyes: tuple                # the vertex numbers of the left and of the right eyeball
    finer: Tensor | None       # (V, V of the coarse mesh) sparse, None for the coarse mesh itself

    def to(self, device) -> "Mesh":
        move = lambda x: x.to(device) if isinstance(x, Tensor) else tuple(e.to(device) for e in x) if x else x
        return Mesh(**{f.name: move(getattr(self, f.name)) for f in fields(self)})


@lru_cache(maxsize=4)
def load_mesh(fine: bool = True, device: str = "cpu") -> Mesh:
    "The mesh: 5.6 thousand vertices, or subdivided once, 22 thousand, whose silhouettes look round at 512 pixels."
    data = load_targets()
    rest, quads, parts, masks, places = data.vertices, data.quads, data.parts, data.masks, data.places
    units, finer = data.units, None
    if fine:
        finer, quads = subdivide(quads, len(rest))
        parts = parts.repeat_interleave(4)
        each = lambda x: torch.sparse.mm(finer, x)
        units = each(units.transpose(0, 1).flatten(1)).unflatten(1, (len(UNITS), 3)).transpose(0, 1)
        rest, masks, places = each(rest), each(masks), each(places)
    triangles = torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    height = rest[:, 1] + 0.45 * rest[:, 2]
    eye = torch.zeros(len(rest), dtype=torch.bool)
    eye[quads[parts == PARTS.index("eye")]] = True
    eyes = tuple(torch.nonzero(eye & side)[:, 0] for side in (rest[:, 0] > 0, rest[:, 0] < 0))
    return Mesh(rest, triangles, parts.repeat(2), masks, places, units.flatten(1), smoothstep(5.7, 6.6, height),
                eyes, finer).to(device)


SHAPES = load_targets().shape_names


@dataclass
class Identity:
    "Who B people are: `macro` (B, 7), named by `MACROS`; `shape` (B, S), named by `SHAPES`, signed, about -1 to 1."
    macro: Tensor
    shape: Tensor

    def __len__(self) -> int: return len(self.macro)

    def __getitem__(self, index): return Identity(self.macro[index], self.shape[index])

    def to(self, device): return Identity(self.macro.to(device), self.shape.to(device))


SPREAD = {"head": 0.10, "forehead": 0.10, "eyebrows": 0.22, "eyes": 0.22, "nose": 0.24, "mouth": 0.24, "cheek": 0.22,
          "chin": 0.22, "ears": 0.22, "neck": 0.12, "asymmetry": 0.15}


def random_identities(n: int, generator: torch.Generator | None = None) -> Identity:
    "Draw n identities: mostly of one origin, of any adult age, each axis of shape normal with the `SPREAD` of its region."
    rand, randn = (lambda f: lambda *size: f(n, *size, generator=generator))(torch.rand), (
        lambda *size: torch.randn(n, *size, generator=generator))
    origin = torch.softmax(3 * randn(3), 1)
    male = torch.where(rand(1) < 0.5, 0.12 * rand(1), 1 - 0.12 * rand(1))
    old = rand(1) ** 1.6
    build = (0.45 * randn(2)).clamp(-1, 1)
    shape = randn(len(SHAPES)) * torch.tensor([SPREAD[name.split("/")[0]] for name in SHAPES])
    shape[:, SHAPES.index("mouth/mouth-angles-down-up")] += 0.25                        # the base head looks sullen
    return Identity(torch.cat([origin, male, old, build], 1), shape.clamp(-0.7, 0.7))


def macro_weights(macro: Tensor) -> Tensor:
    "How much of each macro target (B, M): the product of the shares that its name asks for."
    origin, male, old, muscle, weight = macro[:, :3], macro[:, 3], macro[:, 4], macro[:, 5], macro[:, 6]
    level = {"minmuscle": (-muscle).clamp(min=0), "averagemuscle": 1 - muscle.abs(), "maxmuscle": muscle.clamp(min=0),
             "minweight": (-weight).clamp(min=0), "averageweight": 1 - weight.abs(), "maxweight": weight.clamp(min=0),
             "male": male, "female": 1 - male, "old": old, "young": 1 - old, "universal": torch.ones_like(male)}
    level |= {name: origin[:, i] for i, name in enumerate(ORIGINS)}
    product = lambda name: torch.stack([level[word] for word in name.split("-")]).prod(0)
    return torch.stack([product(name) for name in load_targets().macro_names], 1)


@dataclass
class Heads:
    "B people's heads at rest, ready to move: computed once per person."
    vertices: Tensor           # (B, V, 3) in head units, the head's centre at 0
    scale: Tensor              # (B, 1, 1) head units in a decimetre
    neck: Tensor               # (B, 3) where the neck bends
    eyes: Tensor               # (B, 2, 3) centres of the left and the right eyeball

    def __len__(self) -> int: return len(self.vertices)

    def __getitem__(self, index): return Heads(*(getattr(self, f.name)[index] for f in fields(self)))


def build_heads(people: Identity, fine: bool = True) -> Heads:
    "The heads of people at rest: base + sum of targets, of one size, eyes at one height."
    device = people.macro.device
    data, mesh = load_targets(), load_mesh(fine, str(device))
    flat = lambda x: x.to(device).flatten(-2)
    v = flat(data.vertices) + macro_weights(people.macro) @ flat(data.macros)
    v = v + (-people.shape).clamp(min=0) @ flat(data.shapes[0]) + people.shape.clamp(min=0) @ flat(data.shapes[1])
    v = v.unflatten(1, (-1, 3))                                                        # (B, V, 3)
    if fine: v = torch.sparse.mm(mesh.finer, v.transpose(0, 1).flatten(1)).unflatten(1, (-1, 3)).transpose(0, 1)
    rest = mesh.rest
    face = torch.nonzero((mesh.neck > 0.999) & (rest[:, 2] > 0.3) & (rest[:, 1] < 7.6))[:, 0]
    spread = lambda x: (x - x.mean(-2, keepdim=True)).square().sum(-1).mean(-1).sqrt()
    scale = (spread(rest[face]) / spread(v[:, face]) / SCALE)[:, None, None]
    eyes = torch.stack([v[:, which].mean(1) for which in mesh.eyes], 1)                # (B, 2, 3)
    centre = eyes.mean(1, keepdim=True) + v.new_tensor([0, 0.0, -0.95])
    ring = (mesh.neck > 0.1) & (mesh.neck < 0.5)
    neck = v[:, ring].mean(1, keepdim=True)
    return Heads((v - centre) * scale, scale, ((neck - centre) * scale)[:, 0], (eyes - centre) * scale)


def rotation_vector(pose: Tensor) -> Tensor:
    "The axis of a pose's rotation times its angle: (B, 3)."
    r = rotation_matrix(pose)
    axis = torch.stack([r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], 1)
    length = axis.norm(dim=1, keepdim=True)
    angle = torch.atan2(length[:, 0], r.diagonal(dim1=1, dim2=2).sum(1) - 1)[:, None]
    return axis * torch.where(length > 1e-6, angle / length.clamp(min=1e-6), 0.5)


def turn(points: Tensor, vector: Tensor, share: Tensor) -> Tensor:
    """Points (B, V, 3) turned by a share (V,) or (B, V) of a rotation vector (B, 3): Rodrigues' formula.

    What lies along the axis stays, the rest takes its cosine, and what is at right angles to both its sine."""
    angle = vector.norm(dim=1, keepdim=True)
    axis = vector / angle.clamp(min=1e-9)
    x, y, z, zero = *axis.unbind(1), torch.zeros_like(axis[:, 0])
    along = axis[:, :, None] * axis[:, None]
    across = torch.stack([zero, z, -y, -z, zero, x, y, -x, zero], 1).view(-1, 3, 3)    # p @ across is axis x p
    stays, cosine, sine = (points @ torch.cat([along, torch.eye(3).to(along) - along, across], 2)).split(3, 2)
    part = (angle * share)[..., None]
    return stays + cosine * part.cos() + sine * part.sin()


def move_heads(heads: Heads, pose: Tensor, units: Tensor, gaze: Tensor, body: Tensor | None = None) -> Tensor:
    """Vertices (B, V, 3) of heads in pose (B, 6), units (B, 52) and gaze (B, 2), in head units as the camera sees them.

    The centre of the head stays at 0: place and distance belong to the camera. body (B, 3): the shoulders' own turn
    and lean, radians, and lift, head units. One head serves a whole batch."""
    mesh = load_mesh(heads.vertices.shape[1] > 10_000, str(pose.device))
    b = len(pose)
    v = heads.vertices + (units @ mesh.units).view(b, -1, 3) * heads.scale
    for which, centre, side in zip(mesh.eyes, heads.eyes.unbind(1), (1, -1)):
        looking = rotation_matrix(F.pad(gaze, (0, 4)))
        v[:, which] = (v[:, which] - centre[:, None]) @ looking.transpose(1, 2) + centre[:, None]
    return pose_points(v, mesh.neck, heads, pose, body)


def pose_points(points: Tensor, share: Tensor, heads: Heads, pose: Tensor, body: Tensor | None = None) -> Tensor:
    "Points (B, V, 3) on heads, turned by the pose (B, 6); a point with share (V,) or (B, V) below 1 bends with the neck."
    neck = heads.neck[:, None]
    moved = turn(points - neck, rotation_vector(pose), share)
    if body is not None:
        own = torch.stack([body[:, 0], torch.zeros_like(body[:, 0]), body[:, 1]], 1)
        moved = turn(moved, rotation_vector(F.pad(own, (0, 3))), 1 - share)
        moved = moved + (1 - share)[..., None] * F.pad(body[:, 2:], (1, 1))[:, None]
    return moved + (rotation_matrix(pose) @ heads.neck[..., None])[..., 0][:, None]


def project(points: Tensor, pose: Tensor) -> Tensor:
    "Image place of points (B, V, 3): x right and y up in [-1, 1] and the depth, larger is nearer; a camera of length 8."
    near = CAMERA / (CAMERA * pose[:, 5, None] - points[..., 2])
    return torch.cat([points[..., :2] * near[..., None] + pose[:, None, 3:5], points[..., 2:]], -1)
