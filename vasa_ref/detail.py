"""A face model that copies: the volume carries where its points came from, so that freckles, hair and glasses survive."""
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dynamics import Dynamics, from_z_dyn
from .face import (FaceConfig, bound_pose, flow_at, group_norm, identity_grid, in_float32, modulate,
                   plane_coordinates, resize, rigid_matrix, rotation_matrix, sample, to_canonical_grid, transform)

__all__ = ["Appearance", "Drawn", "Window", "Block", "Reader", "MotionReader", "PlaneFlow", "DetailEncoder", "Completion",
           "DetailDecoder", "DetailFace", "double", "face_crop", "sample_map", "pixel_places", "read_flow"]


STEP = 0.05   # Adam moves all of a layer's weights at once: flows are measured in a unit that keeps a step small


class Appearance(NamedTuple):
    "All that frames of a portrait need of it, computed once (B or 1 portraits)."
    volume: Tensor       # (B, C, D, H, W) V_app, canonical
    hints: Tensor        # (B, w, 32, 32) what V_app tells the driver's flow
    flow: Tensor         # (B, 3, d, h, w) from canonical to the source's face
    pose: Tensor         # (B, 6) of the source
    image: Tensor        # (B, 3, S, S) the source
    maps: tuple          # its features (B, w, S/2, S/2), (B, w, S/4, S/4), (B, w, S/8, S/8)

    def repeat(self, n: int) -> "Appearance":
        "Each portrait n times in a row."
        again = lambda x: x.repeat_interleave(n, dim=0)
        return Appearance(*map(again, self[:-1]), tuple(map(again, self.maps)))

    def expand(self, n: int) -> "Appearance":
        "One portrait as n times the same, without a copy; n portraits as they are."
        wide = lambda x: x.expand(n, *x.shape[1:])
        return Appearance(*map(wide, self[:-1]), tuple(map(wide, self.maps)))


class Drawn(NamedTuple):
    "A frame and what it is made of."
    image: Tensor        # (B, 3, S, S) = shares[0] (copy + shade) + shares[1] source + shares[2] paint + shares[3] (mirrored + shade)
    copy: Tensor         # (B, 3, S, S) the source's pixels, moved
    mirrored: Tensor     # (B, 3, S, S) the same from the other half of the head
    shade: Tensor        # (B, 3, S, S) how the light on them changes: smooth
    paint: Tensor        # (B, 3, S, S) what is painted
    logits: Tensor       # (B, 4, S, S) of the shares: copied, left in its place, painted, mirrored
    place: Tensor        # (B, 2, S/2, S/2) where in the source, x right and y down in [-1, 1]
    depth: Tensor        # (B, 1, S/4, S/4) z of the surface that is seen, in voxel coordinates


def double(x: Tensor) -> Tensor: return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

def sample_map(image: Tensor, place: Tensor) -> Tensor:
    "Images (B, C, H, W) read at places (B, 2, h, w); at the border they continue."
    return F.grid_sample(image.float(), place.movedim(1, -1).float(), padding_mode="border", align_corners=False)

def pixel_places(height: int, width: int, device=None) -> Tensor:
    "The pixels' own places (1, 2, H, W), x right and y down in [-1, 1]."
    return identity_grid(1, height, width, device)[..., :2].movedim(-1, 1)


def double_places(place: Tensor) -> Tensor:
    "Places (B, 2, H, W) at twice the resolution: their offsets from the pixels' own places are interpolated, so that edges stay."
    own = lambda factor: pixel_places(factor * place.shape[2], factor * place.shape[3], place.device)
    return own(2) + double(place - own(1))


class Window(NamedTuple):
    "A square part of each picture, for training: `side` and corners (B, 2), row and column, in pixels of S/2."
    corners: Tensor
    side: int

    def crop(self, x: Tensor, scale: int = 1) -> Tensor:
        "The part of maps (B, C, scale S/2, scale S/2): (B, C, scale side, scale side)."
        side = scale * self.side
        return torch.stack([m[:, r:r + side, c:c + side] for m, (r, c) in zip(x, (scale * self.corners).tolist())])


class Block(nn.Module):
    """Norm, SiLU, conv, SiLU, conv, beside a shortcut, in 2 or 3 dimensions; a code (B, cond_dim) may modulate the middle.

    One norm instead of two and no weight standardisation: on a CPU, norms cost more than convolutions."""
    def __init__(self, width_in: int, width: int | None = None, dims: int = 2, cond_dim: int | None = None):
        super().__init__()
        width, conv = width or width_in, nn.Conv2d if dims == 2 else nn.Conv3d
        self.norm, self.conv1, self.conv2 = group_norm(width_in), conv(width_in, width, 3, padding=1), conv(width, width, 3, padding=1)
        self.skip = nn.Identity() if width_in == width else conv(width_in, width, 1, bias=False)
        self.cond = nn.Linear(cond_dim, 2 * width) if cond_dim else None
        with torch.no_grad(): self.conv2.weight.mul_(0.5)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm(x)))
        if self.cond is not None: h = modulate(h, *self.cond(cond).chunk(2, dim=1))
        return self.skip(x) + self.conv2(F.silu(h))


class Reader(nn.Module):
    "A small residual network: image (B, 3, S, S) in [0, 1] to a vector (B, out_dim); keeps where things are."
    def __init__(self, size: int, widths: tuple, out_dim: int):
        super().__init__()
        self.size = size
        self.stem = nn.Sequential(nn.Conv2d(12, widths[0], 3, padding=1), nn.SiLU(), nn.Conv2d(widths[0], widths[0], 2, stride=2))
        self.levels = nn.ModuleList([Block(widths[0])])
        for a, b in zip(widths[:-1], widths[1:]): self.levels.append(nn.Sequential(nn.Conv2d(a, b, 2, stride=2), Block(b)))
        side = size // 4 // 2 ** (len(widths) - 1)
        self.norm, self.squeeze = group_norm(widths[-1]), nn.Conv2d(widths[-1], 32, 1)
        self.out = nn.Linear(32 * side * side, out_dim)

    def features(self, images: Tensor) -> list:
        "Feature maps of all levels, fine to coarse: S/4, S/8 ..."
        h, maps = self.stem(F.pixel_unshuffle(resize(images, self.size) * 2 - 1, 2)), []
        for level in self.levels: maps.append(h := level(h))
        return maps

    def head(self, maps: list) -> Tensor:
        h = self.squeeze(F.silu(self.norm(maps[-1])))                             # (B, 32, s, s)
        return self.out(F.silu(h).flatten(1))                                     # (B, out_dim)

    def forward(self, images: Tensor) -> Tensor: return self.head(self.features(images))


FACE_CENTRE, FACE_REACH = (0.0, -0.22, 0.68), 0.45         # of the face, from the head's origin, head units


def face_crop(images: Tensor, pose: Tensor, size: int) -> Tensor:
    "The face upright, in the middle, of one height: crops (B, 3, size, size) of images (B, 3, H, W) by pose (B, 6)."
    roll, distance = pose[:, 2], pose[:, 5]
    centre = rotation_matrix(pose) @ pose.new_tensor(FACE_CENTRE) / distance[:, None]       # (B, 3)
    x, y = centre[:, 0] + pose[:, 3], -(centre[:, 1] + pose[:, 4])
    c, s = roll.cos() * FACE_REACH / distance, roll.sin() * FACE_REACH / distance
    theta = torch.stack([torch.stack([c, -s, x], 1), torch.stack([s, c, y], 1)], 1)         # (B, 2, 3)
    grid = F.affine_grid(theta.float(), (len(images), 3, size, size), align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


class MotionReader(nn.Module):
    """Images to pose (B, 6) and dynamics z_dyn (B, 57).

    The face is read in a crop of its own. The shoulders lie outside of it, so what reads the pose in the whole picture
    adds a part to z_dyn."""
    def __init__(self, config: FaceConfig):
        super().__init__()
        c = config
        self.size = c.motion_size
        self.whole = Reader(c.pose_size, c.pose_widths, 6 + c.z_dyn_dim)
        self.dynamics = Reader(c.motion_size, c.motion_widths, c.z_dyn_dim)
        nn.init.zeros_(self.whole.out.weight), nn.init.zeros_(self.whole.out.bias)

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        "Whole images (B, 3, S, S) to pose (B, 6) and their part of the code (B, M)."
        out = self.whole(images).float()
        return bound_pose(out[:, :6]), out[:, 6:]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pose, part = self.see(images)
        return pose, self.dynamics(face_crop(images, pose.detach(), self.size)).float() + part


class PlaneFlow(nn.Module):
    """A flow (B, 3, d, h, w) in voxel coordinates from codes (B, M) and hints (B, w, h', w'); starts at 0.

    Two-dimensional blocks; the d planes lie side by side in the channels, as in the fold of the volume."""
    def __init__(self, config: FaceConfig):
        super().__init__()
        c, widths = config, config.plane_widths
        cond = 2 * widths[0]
        self.fold = 3, c.flow_planes
        self.codes = nn.Linear(c.z_id_dim + c.z_dyn_dim + 6, cond)
        self.start = nn.Parameter(0.5 * torch.randn(1, widths[0], 8, 8))
        self.see = nn.Conv2d(c.volume_channels * c.volume_depth, widths[-2], 1)
        self.blocks = nn.ModuleList([Block(a, b, cond_dim=cond) for a, b in zip((widths[0], *widths), widths)])
        self.side = 8 * 2 ** (len(widths) - 1)
        self.out = nn.Conv2d(widths[-1], 4 * 3 * c.flow_planes, 3, padding=1)
        nn.init.zeros_(self.out.weight), nn.init.zeros_(self.out.bias)

    def hints(self, volume: Tensor) -> Tensor:
        "What a volume (B, C, D, H, W) tells the flow: (B, w, h', h'), half the flow's height."
        return self.see(resize(volume.flatten(1, 2), self.side))

    def forward(self, hints: Tensor, z_id: Tensor, z_dyn: Tensor, pose: Tensor) -> Tensor:
        cond = F.silu(self.codes(torch.cat([z_id, z_dyn, pose], dim=1)))          # (B, 2w)
        h = self.start
        for i, block in enumerate(self.blocks):                                   # 8 x 8, 16 x 16, 32 x 32
            if i: h = F.interpolate(h, scale_factor=2.0)
            h = block(h + hints if i == len(self.blocks) - 1 else h, cond)
        flow = F.pixel_shuffle(self.out(F.silu(h)), 2).float() * STEP
        return flow.unflatten(1, self.fold)                                       # (B, 3, d, 64, 64)


class DetailEncoder(nn.Module):
    "Image (B, 3, S, S) to the posed volume (B, C, D, H, W) and the maps of its levels, fine to coarse."
    def __init__(self, config: FaceConfig):
        super().__init__()
        c, widths = config, config.appearance_widths
        w, self.fold = widths[-1], (c.volume_channels, c.volume_depth)
        self.stem = nn.Conv2d(12, widths[0], 3, padding=1)                        # behind pixel-unshuffle: S/2
        self.levels = nn.ModuleList([nn.SiLU()])
        for a, b in zip(widths[:-1], widths[1:]):
            self.levels.append(nn.Sequential(nn.Conv2d(a, b, 2, stride=2), *[Block(b) for _ in range(c.appearance_blocks)]))
        self.around = nn.Sequential(nn.AvgPool2d(2), Block(w), nn.AvgPool2d(2), Block(w), nn.Upsample(scale_factor=4))
        self.out = nn.Sequential(Block(w), group_norm(w), nn.Conv2d(w, c.volume_channels * c.volume_depth, 1))
        self.blocks = nn.Sequential(*[Block(c.volume_channels, dims=3) for _ in range(c.volume_blocks)])

    def forward(self, images: Tensor) -> tuple[Tensor, tuple]:
        h, maps = self.stem(F.pixel_unshuffle(images * 2 - 1, 2)), []             # (B, w, S/2, S/2)
        for level in self.levels: maps.append(h := level(h))
        maps[-1] = h = h + self.around(h)                                         # (B, w, H, W)
        return self.blocks(self.out(h).unflatten(1, self.fold)), tuple(maps)      # (B, C, D, H, W)


class Completion(nn.Module):
    "G3D: a small 3D U-Net (B, C, D, H, W) to the same shape that fills in what the pose hid."
    def __init__(self, config: FaceConfig):
        super().__init__()
        w = (config.volume_channels, *config.canonical_widths)
        self.down = nn.ModuleList([Block(a, b, 3) for a, b in zip(w[:-1], w[1:])])
        self.up = nn.ModuleList([Block(b + a, a, 3) for a, b in zip(w[:-1], w[1:])][::-1])

    def forward(self, volume: Tensor) -> Tensor:
        h, skips = volume, []
        for block in self.down:
            skips.append(h)
            h = block(F.avg_pool3d(h, (2 if h.shape[2] > 4 else 1, 2, 2)))
        for block, skip in zip(self.up, reversed(skips)):
            h = block(torch.cat([F.interpolate(h, skip.shape[2:]), skip], dim=1))
        return h                                                                  # (B, C, D, H, W)


class Plain(nn.Module):
    "Two convolutions without norms, for where there are many pixels."
    def __init__(self, width_in: int, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.conv1(x))
        return F.silu(h + self.conv2(h))


class DetailDecoder(nn.Module):
    """The posed volume and the source to a frame: finds the surface, its places in the source, and what to copy.

    At S/8 the volume tells the depth of the surface; through both warps that gives each pixel of S/4 a place in the source.
    At S/4 and S/2 the source's features are read there, and the places are corrected; at S pixels are copied and mixed."""
    def __init__(self, config: FaceConfig):
        super().__init__()
        c, (w8, w4, w2) = config, config.decoder_widths
        f2, f4, f8 = c.appearance_widths
        cond = 2 * w8
        self.codes = nn.Linear(c.z_dyn_dim + c.z_id_dim + 6, cond)
        self.project = nn.Conv2d(c.volume_channels * c.volume_depth + 4 + f8, w8, 1)
        self.blocks = nn.ModuleList([Block(w8, cond_dim=cond) for _ in range(c.decoder_blocks)])
        self.depth = nn.Conv2d(w8, 4, 3, padding=1)
        self.up4, self.join4 = nn.Conv2d(w8, 4 * w4, 1), nn.Conv2d(w4 + 2 * f4 + 2, w4, 1)
        self.block4 = Block(w4, cond_dim=cond)
        self.move, self.shade = nn.Conv2d(w4, 8, 3, padding=1), nn.Conv2d(w4, 3, 3, padding=1)
        self.up2, self.block2 = nn.Conv2d(w4, 4 * w2, 1), Plain(w2 + f2 + 18, w2)
        self.out = nn.Conv2d(w2, 28, 3, padding=1)
        for conv in (self.depth, self.move, self.shade): nn.init.zeros_(conv.weight), nn.init.zeros_(conv.bias)

    def surface(self, volume: Tensor, a: Appearance, z_id: Tensor, pose: Tensor, z_dyn: Tensor):
        "The trunk: features (B, w, S/8, S/8), the depth of the surface (B, 1, S/4, S/4), the codes' modulation."
        cond = F.silu(self.codes(torch.cat([z_id, pose, z_dyn], dim=1)))          # (B, 2w)
        places = plane_coordinates(pose, *volume.shape[3:])                       # (B, 4, S/8, S/8)
        h = self.project(torch.cat([volume.flatten(1, 2), places, a.maps[2]], dim=1))
        for block in self.blocks: h = block(h, cond)
        depth = torch.tanh(F.pixel_shuffle(self.depth(F.silu(h)), 2).float() * 4 * STEP - 0.3)
        return h, depth, cond

    def middle(self, h: Tensor, place: Tensor, moved: Tensor, stays: Tensor, cond: Tensor):
        "At S/4: corrected places (B, 2, S/2, S/2), features for S/2, and the change of light (B, 3, S/4, S/4)."
        h = F.pixel_shuffle(self.up4(h), 2)
        offset = place - pixel_places(*place.shape[2:], place.device)
        h = self.block4(self.join4(torch.cat([h, moved.to(h), stays, offset.to(h)], dim=1)), cond)
        active = F.silu(h)
        place = double_places(place) + STEP * F.pixel_shuffle(self.move(active), 2).float()
        return place, F.pixel_shuffle(self.up2(h), 2), self.shade(active).float() * 4 * STEP

    def mix(self, h: Tensor, moved: Tensor, pictures: tuple):
        "At S/2, from copy, source and mirrored (B, 3, S, S): painted pixels (B, 3, S, S) and the logits of the shares (B, 4, S, S)."
        copy, *others = pictures
        seen = [x.to(h) for x in (F.pixel_unshuffle(copy, 2), *(F.avg_pool2d(x, 2) for x in others))]
        out = self.out(self.block2(torch.cat([h, moved.to(h), *seen], dim=1))).float()
        paint, logits = F.pixel_shuffle(out, 2).split([3, 4], dim=1)
        return torch.sigmoid(paint), logits


class DetailFace(nn.Module):
    "The face latent space of VASA-1 sec. 3.1 with a path for detail; the same methods as `FaceModel`."
    def __init__(self, config: FaceConfig):
        super().__init__()
        c = self.config = config
        self.appearance_encoder = DetailEncoder(c)
        self.identity_encoder = Reader(c.identity_size, c.identity_widths, c.z_id_dim)
        self.motion_encoder = MotionReader(c)
        self.to_canonical, self.from_canonical = PlaneFlow(c), PlaneFlow(c)
        self.canonical = Completion(c)
        self.decoder = DetailDecoder(c)
        for module in self.modules():                                             # the fast layout, same numbers
            if isinstance(module, nn.Conv2d): module.to(memory_format=torch.channels_last)
            if isinstance(module, nn.Conv3d): module.to(memory_format=torch.channels_last_3d)

    def identity(self, images: Tensor) -> Tensor:
        "Images (B, 3, S, S) in [0, 1] to z_id (B, z_id_dim)."
        return self.identity_encoder(images).float()

    def motion(self, images: Tensor) -> tuple[Tensor, Tensor]:
        "Images (B, 3, S, S) in [0, 1] to pose (B, 6) and z_dyn (B, z_dyn_dim)."
        return self.motion_encoder(images)

    def read_dynamics(self, z_dyn: Tensor) -> Dynamics:
        "z_dyn (B, 57) to units, gaze and shoulders."
        return from_z_dyn(z_dyn)

    def appearance(self, images: Tensor, z_id: Tensor | None = None, motion: tuple | None = None) -> Appearance:
        "Images (B, 3, S, S) to `Appearance`; z_id and motion (pose, z_dyn) are computed if not given."
        z_id = self.identity(images) if z_id is None else z_id
        pose, z_dyn = self.motion(images) if motion is None else motion
        posed, maps = self.appearance_encoder(images)                             # (B, C, D, H, W)
        still = to_canonical_grid(pose, posed.new_zeros(len(pose), 3, 1, 1, 1), posed.shape[2:])
        flow = self.to_canonical(self.to_canonical.hints(sample(posed, still)), z_id, z_dyn, pose)
        volume = self.canonical(sample(posed, to_canonical_grid(pose, flow, posed.shape[2:])))
        return Appearance(volume, self.from_canonical.hints(volume), flow, pose, images, maps)

    def find_rest(self, points: Tensor, pose: Tensor, flow: Tensor) -> Tensor:
        "Where points (B, ..., 3) of driven frames lie on the canonical head, the same shape."
        with in_float32(points.device):
            rest = transform(rigid_matrix(pose.float(), inverse=True), points)
            return rest + read_flow(flow, rest)

    def find_source(self, rest: Tensor, a: Appearance) -> Tensor:
        "Where canonical points (B, ..., 3) lie in the source's picture and depth, the same shape."
        with in_float32(rest.device): return transform(rigid_matrix(a.pose.float()), rest + read_flow(a.flow, rest))

    def drive(self, a: Appearance, z_id: Tensor, pose: Tensor, z_dyn: Tensor) -> Tensor:
        "The flow (B, 3, d, h, w) from a driven frame to canonical."
        return self.from_canonical(a.hints, z_id, z_dyn, pose)

    def draw(self, a: Appearance, z_id: Tensor, pose: Tensor, z_dyn: Tensor, flow: Tensor | None = None,
             window: Window | None = None) -> Drawn:
        "The portraits (B) with the driver's pose (B, 6) and z_dyn (B, .), or a window of that, and what the frames are made of."
        flow = self.drive(a, z_id, pose, z_dyn) if flow is None else flow
        d = self.decoder
        grid = identity_grid(*a.volume.shape[2:], device=pose.device)[None].expand(len(pose), -1, -1, -1, -1)
        grid = self.find_rest(grid, pose, flow)                                   # (B, D, H, W, 3)
        h, depth, cond = d.surface(sample(a.volume, grid), a, z_id, pose, z_dyn)
        xy = pixel_places(*depth.shape[2:], depth.device).expand(len(pose), -1, -1, -1)
        points = torch.cat([xy, depth], dim=1).movedim(1, -1)                     # (B, S/4, S/4, 3)
        rest = self.find_rest(points, pose, flow)
        other = rest * rest.new_tensor([-1.0, 1.0, 1.0])                          # heads are nearly symmetric
        place, other = (self.find_source(x, a)[..., :2].movedim(-1, 1) for x in (rest, other))   # (B, 2, S/4, S/4)
        place, h, shade = d.middle(h, place, sample_map(a.maps[1], place), a.maps[1], cond)
        far, other, light, source = double_places(place), double_places(double_places(other)), double(double(shade)), a.image
        near = place
        if window is not None:
            h, near = window.crop(h), window.crop(place)
            far, other, light, source = (window.crop(x, 2) for x in (far, other, light, source))
        copy, mirrored = sample_map(a.image, far), sample_map(a.image, other)     # (B, 3, S, S)
        paint, logits = d.mix(h, sample_map(a.maps[0], near), (copy, source, mirrored))
        shares = logits.softmax(dim=1)
        pictures = copy + light, source, paint, mirrored + light
        image = sum(share * picture for share, picture in zip(shares.split(1, dim=1), pictures))
        return Drawn(image, copy, mirrored, light, paint, logits, place, depth)

    def decode(self, appearance: Appearance, z_id: Tensor, pose: Tensor, z_dyn: Tensor) -> Tensor:
        "`Appearance` (B or 1), z_id (B or 1, .), pose (B, 6), z_dyn (B, .) to images (B, 3, S, S) in [0, 1]."
        n = len(pose)
        return self.draw(appearance.expand(n), z_id.expand(n, -1), pose, z_dyn).image.clamp(0, 1)

    def forward(self, source: Tensor, driver: Tensor) -> Tensor:
        "The source's person with the driver's motion, both (B, 3, S, S)."
        return self.decode(self.appearance(source), self.identity(source), *self.motion(driver))


def read_flow(flow: Tensor, points: Tensor) -> Tensor:
    "A flow (B, 3, d, h, w) at points (B, ..., 3): offsets of the same shape."
    b = len(points)
    return flow_at(flow, points.reshape(b, 1, 1, -1, 3)).view(points.shape)
