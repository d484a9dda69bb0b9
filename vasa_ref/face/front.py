"""Eyes and mouth are painted where they always are: on a picture of the face from the front, which the head then wears."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .networks import FaceConfig
from .reading import FACE_CENTRE, FACE_REACH, Block

MIDDLE = FACE_CENTRE[0], -FACE_CENTRE[1]              # of the picture, x right and y down on the head
RELIEF = (-0.705, 1.99, -0.24, 0.65)                  # z of a mean face: a + b x^2 + c y + d y^2


def front_points(size: int, device=None) -> Tensor:
    "Where on the head the pixels of a picture from the front lie, (1, size, size, 3) in voxel coordinates."
    line = torch.linspace(-1 + 1 / size, 1 - 1 / size, size, device=device) * FACE_REACH
    y, x = torch.meshgrid(line + MIDDLE[1], line + MIDDLE[0], indexing="ij")
    a, b, c, d = RELIEF
    return torch.stack([x, y, a + b * x.square() + c * y + d * y.square()], dim=-1)[None]


def front_places(points: Tensor) -> Tensor:
    "Points (B, 3, H, W) on the head as places (B, 2, H, W) in the picture from the front; beyond 1 is outside of it."
    return (points[:, :2] - points.new_tensor(MIDDLE)[:, None, None]) / FACE_REACH


class FrontPainter(nn.Module):
    """The face from the front with another expression.

    It sees the portrait's own face from the front, at rest as well as the warps can, paints over it, and says how much
    each pixel of it should count in the frame."""
    def __init__(self, config: FaceConfig):
        super().__init__()
        c, (w4, w2) = config, config.front_widths
        self.size, cond = c.front_size, 2 * w4
        self.codes = nn.Linear(c.z_dyn_dim + c.z_id_dim + 6, cond)
        self.see4, self.see2 = nn.Conv2d(48, w4, 3, padding=1), nn.Conv2d(12, w2, 3, padding=1)
        self.place = nn.Parameter(0.1 * torch.randn(1, w4, self.size // 4, self.size // 4))
        self.blocks4 = nn.ModuleList([Block(w4, cond_dim=cond) for _ in range(3)])
        self.up2, self.block2 = nn.Conv2d(w4, 4 * w2, 1), Block(w2, cond_dim=cond)
        self.out = nn.Conv2d(w2, 20, 3, padding=1)

    def hints(self, picture: Tensor) -> tuple:
        "What the painter sees of the face from the front (B, 3, P, P), once per portrait: features and the picture."
        x = picture * 2 - 1
        return self.see4(F.pixel_unshuffle(x, 4)) + self.place, self.see2(F.pixel_unshuffle(x, 2)), picture

    def forward(self, hints: tuple, z_id: Tensor, pose: Tensor, z_dyn: Tensor) -> Tensor:
        "Colours and how much they count, (B, 4, P, P); the last is a logit."
        h, fine, picture = hints
        cond = F.silu(self.codes(torch.cat([z_id, pose, z_dyn], dim=1)))
        for block in self.blocks4: h = block(h, cond)                             # (B, w, P/4, P/4)
        h = self.block2(F.pixel_shuffle(self.up2(F.silu(h)), 2) + fine, cond)     # (B, w, P/2, P/2)
        paint, new, logit = F.pixel_shuffle(self.out(F.silu(h)).float(), 2).split([3, 1, 1], dim=1)
        return torch.cat([torch.lerp(picture, torch.sigmoid(paint), torch.sigmoid(new)), logit], dim=1)
