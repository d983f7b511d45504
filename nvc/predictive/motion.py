"""Motion compensation: a pure gather by block vectors, the same for every scale and plane."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nvc.predictive.scales import magnitude_code

VECTOR_BLOCK = 8  # luma samples of the full picture per vector
VECTOR_UNIT = 4  # vectors are in quarter samples


def warp(plane: Tensor, flow: Tensor) -> Tensor:
    """Sample plane (B, 1, h, w) at each position moved by flow (B, 2, h, w), in its own samples.

    Cubic interpolation (a = -0.75), edges replicated; the order in flow is x, y.
    """
    height, width = plane.shape[-2:]
    x = torch.arange(width, device=plane.device, dtype=flow.dtype) + 0.5
    y = torch.arange(height, device=plane.device, dtype=flow.dtype) + 0.5
    grid_x = (flow[:, 0] + x[None, None, :]) * (2 / width) - 1
    grid_y = (flow[:, 1] + y[None, :, None]) * (2 / height) - 1
    grid = torch.stack((grid_x, grid_y), dim=-1)  # (B, h, w, 2)
    return F.grid_sample(plane, grid, mode="bicubic", padding_mode="border", align_corners=False)


def compensate(planes: Sequence[Tensor], vectors: Tensor, shrink: int) -> tuple[Tensor, ...]:
    """Move the Y, U, V planes of a scale by the vectors of the full picture.

    planes: (B, 1, H/shrink, W/shrink) and half of that for U, V; vectors (B, 2, H/8, W/8) in
    quarter samples of full luma.
    """
    moved = []
    for number, plane in enumerate(planes):
        scale = shrink * (1 if number == 0 else 2)
        flow = vectors.to(torch.float32) / (VECTOR_UNIT * scale)
        size = plane.shape[-2:]
        if size[0] >= flow.shape[-2]:
            flow = F.interpolate(flow, size=size, mode="nearest")
        else:
            flow = F.avg_pool2d(flow, flow.shape[-2] // size[0])
        moved.append(warp(plane, flow))
    return tuple(moved)


def motion_codes(vectors: Tensor, cell: int) -> Tensor:
    """What the scale path sees of the vectors: (B, 2, H/8, W/8) -> codes (B, 2, h, w).

    Disagreement with the left and upper vector, and length; the maximum over `cell` x `cell`
    vectors. Integers in, integers out.
    """
    v = vectors.to(torch.float32)
    left = F.pad(v, (1, 0, 0, 0), mode="replicate")[..., :-1]
    above = F.pad(v, (0, 0, 1, 0), mode="replicate")[..., :-1, :]
    apart = torch.maximum((v - left).abs().sum(1, keepdim=True), (v - above).abs().sum(1, True))
    length = v.abs().sum(1, keepdim=True)
    codes = magnitude_code(torch.cat((apart, length), dim=1))
    return F.max_pool2d(codes, cell)
