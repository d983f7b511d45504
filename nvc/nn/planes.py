"""YUV 4:2:0 planes packed at stride 8, in units where squared error is the codec's distortion.

A sample is centred and scaled by the square root of its weight in
D = (6 MSE_Y + MSE_U + MSE_V) / 8, so that the plain sum of squares of a packed error, divided by
the number of luma pixels, is D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PACKED_CHANNELS = 96
LUMA_CHANNELS = 64  # the first of these
STRIDE = 8
LUMA_GAIN = math.sqrt(6 / 8)
CHROMA_GAIN = math.sqrt(4 / 8)  # a 4:2:0 chroma sample stands for four luma pixels

Planes = tuple[Tensor, ...]  # Y, U and V


def pack_planes(planes: Sequence[Tensor]) -> Tensor:
    """Y (B,1,H,W), U and V (B,1,H/2,W/2) in [0,1] -> (B, 96, H/8, W/8), channels_last.

    H and W are multiples of 8.
    """
    y, u, v = planes
    cells = (
        F.pixel_unshuffle(y, 8),  # (B, 64, H/8, W/8)
        F.pixel_unshuffle(u, 4),  # (B, 16, H/8, W/8)
        F.pixel_unshuffle(v, 4),
    )
    packed = torch.cat(cells, dim=1).contiguous(memory_format=torch.channels_last)
    gain = _gains(packed)
    return torch.addcmul(gain * -0.5, packed, gain)


def unpack_planes(packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 96, h, w) -> Y (B,1,8h,8w), U and V (B,1,4h,4w), unclipped, around [0,1]."""
    half = packed.new_full((1, PACKED_CHANNELS, 1, 1), 0.5)
    y, u, v = torch.addcmul(half, packed, 1 / _gains(packed)).split((64, 16, 16), dim=1)
    return F.pixel_shuffle(y, 8), F.pixel_shuffle(u, 4), F.pixel_shuffle(v, 4)


def _gains(like: Tensor) -> Tensor:
    """Scale of every packed channel, (1, 96, 1, 1)."""
    gains = like.new_full((1, PACKED_CHANNELS, 1, 1), CHROMA_GAIN)
    gains[:, :64] = LUMA_GAIN
    return gains


def shrink_planes(planes: Sequence[Tensor], factor: int) -> tuple[Tensor, ...]:
    """Area-average every plane by an integer factor: (B,1,h,w) -> (B,1,h/factor,w/factor)."""
    return tuple(F.avg_pool2d(plane, factor) for plane in planes)


def enlarge_planes(planes: Sequence[Tensor], factor: int) -> tuple[Tensor, ...]:
    """Bilinear enlargement by an integer factor: (B,1,h,w) -> (B,1,h*factor,w*factor)."""
    return tuple(
        F.interpolate(plane, scale_factor=factor, mode="bilinear", align_corners=False)
        for plane in planes
    )
