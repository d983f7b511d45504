"""Frames of any chroma format and depth to padded 4:2:0 planes in [0, 1], and back."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nvc.predictive import plane_kernels
from nvc.predictive.network import Planes
from nvc.video.frames import Frame, VideoInfo


def to_planes(frame: Frame, info: VideoInfo, size: tuple[int, int], like: Tensor) -> Planes:
    """Frame -> Y (1,1,H,W), U, V (1,1,H/2,W/2) in [0,1], edges repeated up to `size`.

    4:2:2 and 4:4:4 chroma is averaged down; a grey picture gets neutral chroma. The result has the
    device and dtype of `like`.
    """
    peak = (1 << info.bit_depth) - 1
    planes = []
    for number, plane in enumerate(frame.planes):
        value = plane.to(like.device).to(like.dtype)[None, None] / peak
        if number and info.chroma in ("422", "444"):
            value = _halve(value, rows=True, columns=info.chroma == "444")
        high, wide = (size[0] // 2, size[1] // 2) if number else size
        bottom, right = high - value.shape[-2], wide - value.shape[-1]
        planes.append(F.pad(value, (0, right, 0, bottom), mode="replicate"))
    if info.chroma == "400":
        grey = planes[0].new_full(
            (1, 1, size[0] // 2, size[1] // 2), (1 << (info.bit_depth - 1)) / peak
        )
        planes += [grey, grey]
    return tuple(planes)


def to_frame(planes: Planes, info: VideoInfo, pts: int) -> Frame:
    """Planes in [0,1] -> a frame of the video's format, cropped, rounded, on the CPU or GPU."""
    peak = (1 << info.bit_depth) - 1
    shown = []
    for number, (plane, shape) in enumerate(zip(planes, info.plane_shapes(), strict=False)):
        value = plane
        if number and info.chroma in ("422", "444"):
            scale = (2.0, 2.0 if info.chroma == "444" else 1.0)
            value = F.interpolate(value, scale_factor=scale, mode="bilinear", align_corners=False)
        shown.append(to_levels(value[0, 0], peak, tuple(shape)))
    return Frame(planes=tuple(shown), pts=pts)


def to_levels(plane: Tensor, peak: int, shape: tuple[int, int] | None = None) -> Tensor:
    """Samples in [0, 1] (H, W), rounded to 0..peak: uint8, or uint16 for a peak beyond 255.

    shape: rows and columns to keep of them.
    """
    rows, columns = plane.shape if shape is None else shape
    dtype = torch.uint8 if peak < 256 else torch.uint16
    if plane.device.type == "cpu":
        out = torch.empty(rows, columns, dtype=dtype)
        samples = plane.detach().float().contiguous().numpy()
        plane_kernels.to_levels(samples, np.float32(peak), out.numpy())
        return out
    value = plane[:rows, :columns].float().mul(peak).add_(0.5).clamp_(0, peak)
    return value.to(torch.int32).to(dtype)


def luma8(planes: Planes) -> NDArray[np.uint8]:
    """Y (1, 1, H, W) in [0, 1] -> (H, W) uint8 on the CPU, for the motion search."""
    return to_levels(planes[0][0, 0], 255).cpu().numpy()


def _halve(plane: Tensor, *, rows: bool, columns: bool) -> Tensor:
    """Average pairs of rows and columns, the last one repeated where the count is odd."""
    down, across = (2 if rows else 1), (2 if columns else 1)
    pad = (0, plane.shape[-1] % across, 0, plane.shape[-2] % down)
    return F.avg_pool2d(F.pad(plane, pad, mode="replicate"), (down, across))
