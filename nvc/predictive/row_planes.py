"""Planes of one frame on the CPU: shrunk, enlarged, moved, by compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvc.predictive import plane_kernels
from nvc.predictive.network import Planes


def arrays(planes: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """Planes (1, 1, H, W) as (H, W) arrays of the same memory."""
    return [plane[0, 0].numpy() for plane in planes]


def shrunk(planes: Planes, factor: int) -> Planes:
    """shrink_planes, of one frame."""
    if factor == 1:
        return planes
    return _each(planes, 1 / factor, lambda source, out: plane_kernels.shrink(source, factor, out))


def enlarged(planes: Planes, factor: int) -> Planes:
    """enlarge_planes, of one frame."""
    return _each(planes, factor, lambda source, out: plane_kernels.enlarge(source, factor, out))


def moved(planes: Planes, vectors: NDArray[np.int32], shrink: int) -> Planes:
    """compensate, of one frame; vectors (H/8, W/8, 2)."""
    scales = iter((shrink, 2 * shrink, 2 * shrink))
    return _each(
        planes, 1, lambda source, out: plane_kernels.move(source, vectors, next(scales), out)
    )


def blended(first: Planes, second: Planes, share: Tensor | None) -> Planes:
    """blend, of one frame; the first is written over."""
    if share is None:
        return tuple(a.add_(b).mul_(0.5) for a, b in zip(first, second, strict=True))
    parts = share[0, 0].float().contiguous().numpy()
    for a, b in zip(arrays(first), arrays(second), strict=True):
        plane_kernels.blend(a, b, parts)
    return first


def _each(planes: Planes, factor: float, kernel) -> Planes:  # type: ignore[no-untyped-def]
    out = []
    for plane in planes:
        sides = (round(side * factor) for side in plane.shape[-2:])
        out.append(torch.empty(1, 1, *sides))
        kernel(plane[0, 0].contiguous().numpy(), out[-1][0, 0].numpy())
    return tuple(out)


def grey(size: tuple[int, int], shrink: int) -> Planes:
    """Planes that pack to zeros."""
    height, width = size[0] // shrink, size[1] // shrink
    half = torch.full((1, 1, height // 2, width // 2), 0.5)
    return torch.full((1, 1, height, width), 0.5), half, half
