"""Motion compensation: a pure gather by block vectors, the same for every scale and plane."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nvc.predictive.scales import magnitude_code

VECTOR_BLOCK = 8  # luma samples of the full picture per vector
VECTOR_UNIT = 4  # vectors are in quarter samples


def warp(plane: Tensor, flow: Tensor, *, mode: str = "bicubic") -> Tensor:
    """Sample plane (B, C, h, w) at each position moved by flow (B, 2, h, w), in its own samples.

    Cubic interpolation (a = -0.75) unless `mode` says bilinear, edges replicated; the order in flow
    is x, y.
    """
    height, width = plane.shape[-2:]
    x = torch.arange(width, device=plane.device, dtype=flow.dtype) + 0.5
    y = torch.arange(height, device=plane.device, dtype=flow.dtype) + 0.5
    grid_x = (flow[:, 0] + x[None, None, :]) * (2 / width) - 1
    grid_y = (flow[:, 1] + y[None, :, None]) * (2 / height) - 1
    grid = torch.stack((grid_x, grid_y), dim=-1)  # (B, h, w, 2)
    return F.grid_sample(plane, grid, mode=mode, padding_mode="border", align_corners=False)


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


def align_codes(codes: Tensor, vectors: Tensor, cell: int) -> Tensor:
    """Gather codes (B, C, h, w) from where the motion of each cell came, to the nearest cell.

    vectors (B, 2, h * cell, w * cell) in quarter samples, integers in any dtype. Sums and divisors
    are integers under 2^24, the divisors powers of two, so that every device finds the same cell.
    """
    height, width = codes.shape[-2:]
    total = F.avg_pool2d(vectors.to(torch.float32), cell, divisor_override=1)  # (B, 2, h, w)
    unit = cell**2 * VECTOR_UNIT * VECTOR_BLOCK * cell
    moved = torch.floor(total / unit + 0.5).long()
    rows = (torch.arange(height, device=codes.device)[:, None] + moved[:, 1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=codes.device) + moved[:, 0]).clamp(0, width - 1)
    batch = torch.arange(len(codes), device=codes.device)[:, None, None]
    at = ((batch * height + rows) * width + columns).flatten()  # (Bhw,)
    cells = codes.permute(0, 2, 3, 1).flatten(0, 2)  # (Bhw, C)
    return cells.index_select(0, at).unflatten(0, (-1, height, width)).permute(0, 3, 1, 2)


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
