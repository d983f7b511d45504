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
STRIDE = 8
LUMA_GAIN = math.sqrt(6 / 8)
CHROMA_GAIN = math.sqrt(4 / 8)  # a 4:2:0 chroma sample stands for four luma pixels


def pack_planes(planes: Sequence[Tensor]) -> Tensor:
    """Y (B,1,H,W), U and V (B,1,H/2,W/2) in [0,1] -> (B, 96, H/8, W/8); H, W multiples of 8."""
    y, u, v = planes
    return torch.cat(
        (
            F.pixel_unshuffle((y - 0.5) * LUMA_GAIN, 8),  # (B, 64, H/8, W/8)
            F.pixel_unshuffle((u - 0.5) * CHROMA_GAIN, 4),  # (B, 16, H/8, W/8)
            F.pixel_unshuffle((v - 0.5) * CHROMA_GAIN, 4),
        ),
        dim=1,
    )


def unpack_planes(packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 96, h, w) -> Y (B,1,8h,8w), U and V (B,1,4h,4w), unclipped, around [0,1]."""
    y, u, v = packed.split((64, 16, 16), dim=1)
    return (
        F.pixel_shuffle(y, 8) / LUMA_GAIN + 0.5,
        F.pixel_shuffle(u, 4) / CHROMA_GAIN + 0.5,
        F.pixel_shuffle(v, 4) / CHROMA_GAIN + 0.5,
    )


def shrink_planes(planes: Sequence[Tensor], factor: int) -> tuple[Tensor, ...]:
    """Area-average every plane by an integer factor: (B,1,h,w) -> (B,1,h/factor,w/factor)."""
    return tuple(F.avg_pool2d(plane, factor) for plane in planes)


def enlarge_planes(planes: Sequence[Tensor], factor: int) -> tuple[Tensor, ...]:
    """Bilinear enlargement by an integer factor: (B,1,h,w) -> (B,1,h*factor,w*factor)."""
    return tuple(
        F.interpolate(plane, scale_factor=factor, mode="bilinear", align_corners=False)
        for plane in planes
    )
