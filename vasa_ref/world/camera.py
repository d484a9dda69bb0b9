"""What is behind people, and what a camera makes of a picture: blur, noise, colour, JPEG."""
import math

import torch
import torch.nn.functional as F
from torch import Tensor

PLACES = ("wall", "room", "lights", "outdoors", "colours")


def random_scenes(n: int, size: int, generator: torch.Generator | None = None) -> Tensor:
    "n out-of-focus backgrounds (n, 3, size, size) in [0, 1]: walls, rooms, lights at night, gardens, and plain colours."
    rand = lambda *s: torch.rand(n, *s, generator=generator)
    small = 48
    c = (torch.arange(small) + 0.5) / small
    x, y = c.expand(small, small), c[:, None].expand(small, small)
    base, other = 0.15 + 0.7 * rand(3, 1, 1), 0.1 + 0.8 * rand(3, 1, 1)
    grey = base.mean(1, keepdim=True)
    muted = grey + 0.22 * (base - grey)
    wall = muted * (1.1 - 0.5 * (rand(1, 1, 1) - 0.5) * x - 0.35 * y)
    room = wall.clone()
    for _ in range(7):                                              # furniture, windows, books: boxes
        left, top, wide, high = rand(1, 1, 1), rand(1, 1, 1), 0.06 + 0.3 * rand(1, 1, 1), 0.1 + 0.6 * rand(1, 1, 1)
        box = (x > left) & (x < left + wide) & (y > top) & (y < top + high)
        room = torch.where(box, muted * 0.2 + 0.8 * (0.1 + 0.9 * rand(1, 1, 1)) * (0.7 + 0.3 * rand(3, 1, 1)), room)
    lights = 0.12 * base + 0.02
    for _ in range(14):
        near = ((x - rand(1, 1, 1)) ** 2 + (y - rand(1, 1, 1)) ** 2).sqrt()
        lights = lights + (near < 0.02 + 0.05 * rand(1, 1, 1)) * rand(1, 1, 1) * torch.tensor([1.0, 0.8, 0.55])[:, None, None]
    leaves = F.interpolate(rand(1, 14, 14), (small, small), mode="bicubic")
    sky = torch.tensor([0.75, 0.85, 0.95])[:, None, None] * (1.05 - 0.2 * y)
    garden = torch.lerp(torch.tensor([0.20, 0.30, 0.12])[:, None, None] * (0.6 + leaves), sky, ((0.25 + 0.5 * rand(1, 1, 1) - y) * 12 + leaves * 2 - 1).sigmoid())
    colours = torch.lerp(muted, grey + 0.5 * (other - other.mean(1, keepdim=True)), F.interpolate(rand(1, 5, 5), (small, small), mode="bicubic").clamp(0, 1))
    kinds = torch.stack([wall, room, lights, garden, colours], 1)
    image = kinds[torch.arange(n), torch.randint(len(PLACES), (n,), generator=generator)].clamp(0, 1)
    soft = F.avg_pool2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), 5, 1)
    image = torch.lerp(image, soft, (0.4 + rand(1, 1, 1)).clamp(max=1))
    return F.interpolate(image, (size, size), mode="bilinear", align_corners=False).clamp(0, 1)


def _table(numbers): return torch.tensor([float(x) for x in numbers.split()]).view(8, 8)

JPEG_LUMINANCE = _table("""16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
    18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99""")
JPEG_COLOUR = _table("17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99" + 36 * " 99")


def jpeg(images, quality):
    "Images (B, 3, H, W) in [0, 1] as JPEG of quality (B,), 1 to 100, gives them back (ITU T.81, no subsampling)."
    height, width = images.shape[-2:]
    x = F.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate") * 255
    u = torch.arange(8, device=images.device)
    waves = torch.cos((2 * u + 1) * u[:, None] * math.pi / 16) * torch.where(u > 0, 0.5, 0.125 ** 0.5)[:, None]
    to_ycc = x.new_tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    blocks = torch.einsum("kc,bchw->bkhw", to_ycc, x).unflatten(3, (-1, 8)).unflatten(2, (-1, 8))       # (B, 3, h, 8, w, 8)
    blocks = blocks - x.new_tensor([128.0, 0, 0])[:, None, None, None, None]
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)[:, None, None, None].to(x)
    table = torch.stack([JPEG_LUMINANCE, JPEG_COLOUR, JPEG_COLOUR]).to(x)
    table = (table * scale).round().clamp(1, 255)[:, :, None, :, None, :]                               # (B, 3, 1, 8, 1, 8)
    kept = (torch.einsum("ui,bkhiwj,vj->bkhuwv", waves, blocks, waves) / table).round() * table
    blocks = torch.einsum("ui,bkhuwv,vj->bkhiwj", waves, kept, waves) + x.new_tensor([128.0, 0, 0])[:, None, None, None, None]
    x = torch.einsum("ck,bkhw->bchw", to_ycc.inverse(), blocks.flatten(4, 5).flatten(2, 3))
    return (x[..., :height, :width] / 255).clamp(0, 1)


def photograph(images: Tensor, generator: torch.Generator | None = None, strength: float = 1.0) -> Tensor:
    """What some camera makes of images (B, 3, S, S) in [0, 1]: colours, exposure, softness, noise, half of them JPEG.

    The generator is on the CPU; strength 0 changes nothing but half of the pictures' JPEG."""
    rand = lambda *shape: torch.rand(len(images), *shape, generator=generator).to(images)
    gamma = 1 + 0.35 * strength * (rand(1, 1, 1) - 0.5)
    tint = 1 + 0.20 * strength * (rand(3, 1, 1) - 0.5)
    x = (images.clamp(min=1e-4) ** gamma * tint * (1 + 0.25 * strength * (rand(1, 1, 1) - 0.5))).clamp(0, 1)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 - strength * 0.9 * rand(1, 1, 1) * (rand(1, 1, 1) < 0.3))
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    x = torch.lerp(x, soft, strength * rand(1, 1, 1))
    x = (x + 0.04 * strength * rand(1, 1, 1) * torch.randn(x.shape, generator=generator).to(x)).clamp(0, 1)
    return torch.where(rand(1, 1, 1) < 0.5, jpeg(x, 25 + 70 * rand()), x)
