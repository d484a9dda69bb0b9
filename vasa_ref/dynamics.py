"""What z_dyn of the face model that copies holds: face units, gaze and shoulders, each in units of its spread."""
from typing import NamedTuple

import torch
from torch import Tensor

from .units import SIDES

__all__ = ["DYNAMICS", "BODY", "BODY_MIRROR", "SPREAD", "Dynamics", "to_z_dyn", "from_z_dyn", "mirror_dynamics"]

DYNAMICS, BODY = 57, 3                                                  # 52 face units, 2 of gaze, 3 of shoulders
BODY_MIRROR = (-1, -1, 1)                              # signs of the shoulders' turn, lean and lift in a mirror
SPREAD = torch.tensor([0.3] * 52 + [0.32, 0.22] + [0.14, 0.05, 0.017])            # about how much each varies


class Dynamics(NamedTuple):
    """Face units (..., 52) in the order of `world.head.UNITS`, in [0, 1]; gaze (..., 2), yaw and pitch of the eyes in
    the head, radians; body (..., 3): the shoulders' turn and lean, radians, and lift, head units."""
    units: Tensor
    gaze: Tensor
    body: Tensor


def to_z_dyn(units: Tensor, gaze: Tensor, body: Tensor) -> Tensor:
    "The code (..., 57) of units (..., 52), gaze (..., 2) and body (..., 3)."
    return torch.cat([units, gaze, body], -1) / SPREAD.to(units)


def from_z_dyn(z_dyn: Tensor) -> Dynamics:
    "What a code (..., 57) says, as it is: units may lie a little outside of [0, 1]."
    return Dynamics(*(z_dyn * SPREAD.to(z_dyn)).split([52, 2, 3], dim=-1))


def mirror_dynamics(z_dyn: Tensor) -> Tensor:
    """The code (..., 54 or 57), or plain units, gaze and shoulders, of the same in a mirror: units of both sides
    change places; the gaze to the side and the shoulders' turn and lean, where there are shoulders, change signs."""
    signs = z_dyn.new_tensor([1.0] * 52 + [-1, 1, *BODY_MIRROR])[:z_dyn.shape[-1]]
    return torch.cat([z_dyn[..., list(SIDES)], z_dyn[..., 52:]], -1) * signs
