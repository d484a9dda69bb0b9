"""Poses and looks as rotations: the conventions that the world, the face model and the measures share.

x points to the right in the picture, y up, z towards the viewer. A pose is yaw, pitch, roll in radians, a shift tx, ty
in the picture, and the distance, 1 being the mean one.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["neutral_pose", "rotation_matrix", "direction", "look_direction", "smooth_pose"]


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


def smooth_pose(pose: Tensor) -> Tensor:
    "Poses (T, 6), each the mean of its neighbours and itself."
    return F.avg_pool1d(pose.mT[None], 3, stride=1, padding=1, count_include_pad=False)[0].mT
