"""How much of the frames to come hangs on each place of a frame; the encoder alone knows.

An error at a place is inherited by whatever refers to it. Between sources that motion compensation
predicts with squared error s, an inter frame at distortion D inherits the share D / (s + D) of an
error in its reference: nearly all of it where nothing is coded, little where the residual is.
Summed backward along the motion this gives the importance of a place, 1 and more: how many errors
follow from one here. After the macroblock tree of x264 (J. Garrett-Glaser, 2009), with the share of
rate-distortion theory in place of that of costs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numba
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nvc.nn.blocks import QP_COUNT
from nvc.predictive.level import LAMBDA_FIRST, LAMBDA_LAST, qp_distortion
from nvc.predictive.motion import VECTOR_BLOCK, VECTOR_UNIT, warp
from nvc.predictive.motion_search import search_motion
from nvc.predictive.network import Planes
from nvc.predictive.planes_io import to_levels

SHRINK = 2  # motion is searched in pictures of half the size
CELL = SHRINK * VECTOR_BLOCK  # samples of the picture a cell of importance is wide
AHEAD = 32  # frames
# How far the QP of a frame and the price of an error in a place follow their importance; 1 would be
# lambda in proportion to it. OFFSET keeps the rate of a QP about where it is without (measured); it
# doubles from the middle to the last QP, so that the smallest rates can still be had.
STRENGTH, PLACE_STRENGTH, OFFSET = 0.7, 0.6, 12.0
_MIDDLE = 32
_MOTION_WEIGHT = 60.0
# Settled on training clips (docs/predictive.md): the distortion at which shares are compared, in
# squared samples, how far apart frames are, and by how much the shares may differ.
_STEADY_AT, _FAR, _STEADY = 24 / 255**2, 8, 0.08
_QPS_PER_HALVING = (QP_COUNT - 1) / math.log2(LAMBDA_FIRST / LAMBDA_LAST)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Link:
    """How a source frame follows from the one before, by cells of 16x16 samples.

    error: mean squared error of its motion compensation, samples in [0, 1], (rows, columns)
    float32; field: its vectors in cells, (rows, columns, 2) float32, x and y.
    """

    error: NDArray[np.float32]
    field: NDArray[np.float32]


def link(current: NDArray[np.uint8], previous: NDArray[np.uint8]) -> Link:
    """The link of two luma pictures of half size, (H, W) with sides multiples of 8."""
    field = search_motion(current, previous, previous=None, weight=_MOTION_WEIGHT)
    flow = torch.from_numpy(field).permute(2, 0, 1)[None].float() / VECTOR_UNIT
    flow = F.interpolate(flow, size=current.shape, mode="nearest")
    pictures = [torch.from_numpy(part)[None, None].float() / 255 for part in (current, previous)]
    error = (pictures[0] - warp(pictures[1], flow, mode="bilinear")).square()
    cells = F.avg_pool2d(error, VECTOR_BLOCK)[0, 0].numpy()
    return Link(cells, (field / (VECTOR_UNIT * VECTOR_BLOCK)).astype(np.float32))


def importance(links: Sequence[Link], distortion: float, grid: tuple[int, int]) -> NDArray:
    """Importance of every cell of the frame the first link refers to: (rows, columns) float32.

    links: of the frames that follow it, in order, none of them intra; distortion: squared error of
    the coded frames, samples in [0, 1].
    """
    ahead = np.ones(grid, np.float32)
    for step in reversed(links):
        ahead = _handed_back(ahead, step.error, step.field, np.float32(distortion))
    return ahead


@numba.njit(cache=True, nogil=True)
def _handed_back(ahead, error, field, distortion):
    """1 and what the cells of the next frame inherit, split over the four cells a vector meets."""
    rows, columns = ahead.shape
    total = np.ones((rows, columns), np.float32)
    for row in range(rows):
        for column in range(columns):
            amount = ahead[row, column] * distortion / (error[row, column] + distortion)
            y = min(max(row + field[row, column, 1], 0.0), rows - 1.0)
            x = min(max(column + field[row, column, 0], 0.0), columns - 1.0)
            top, left = int(y), int(x)
            down, right = y - top, x - left
            bottom, beside = min(top + 1, rows - 1), min(left + 1, columns - 1)
            total[top, left] += amount * (1 - down) * (1 - right)
            total[top, beside] += amount * (1 - down) * right
            total[bottom, left] += amount * down * (1 - right)
            total[bottom, beside] += amount * down * right
    return total


def linked(
    frames: Iterable[Item], luma: Callable[[Item], NDArray[np.uint8]]
) -> Iterator[tuple[Item, list[Link]]]:
    """Each frame with the links of up to AHEAD that follow it.

    frames: of one side of a GOP, from its intra frame on; luma: their luma at half size. Reads
    AHEAD frames ahead.
    """
    waiting: deque[tuple[Item, Link | None]] = deque()
    last: NDArray[np.uint8] | None = None
    for frame in frames:
        picture = luma(frame)
        waiting.append((frame, None if last is None else link(picture, last)))
        last = picture
        if len(waiting) > AHEAD:
            yield _handed_out(waiting)
    while waiting:
        yield _handed_out(waiting)


def _handed_out(waiting: deque[tuple[Item, Link | None]]) -> tuple[Item, list[Link]]:
    frame, _ = waiting.popleft()
    return frame, [joined for _, joined in waiting if joined is not None]


def is_steady(frames: Sequence[Item], luma: Callable[[Item], NDArray[np.uint8]]) -> bool:
    """Whether the first frames of a GOP serve one _FAR frames on as well as the next one, nearly.

    So it is where what differs is noise, which does not grow with the distance. luma: as in linked.
    """
    shares = [
        [
            float((_STEADY_AT / (link(luma(frames[at + step]), before).error + _STEADY_AT)).mean())
            for step in (1, _FAR)
        ]
        for at in range(0, len(frames) - _FAR, _FAR)
        for before in (luma(frames[at]),)
    ]
    if len(shares) < 2:
        return False
    near, far = np.mean(shares, axis=0)
    return bool(near - far < _STEADY)


def composed(links: Sequence[Link], grid: tuple[int, int]) -> NDArray[np.int32]:
    """Motion over several frames: from the last one back to the one the first link refers to.

    links: of frames that follow each other; grid: rows and columns of 8x8 blocks. Returns vectors
    (rows, columns, 2) int32 in quarter samples, one for each square of 2x2 blocks.
    """
    rows, columns = grid[0] // 2, grid[1] // 2
    start = np.stack(np.mgrid[:rows, :columns][::-1], axis=-1).astype(np.float32)  # x, y in cells
    at = start.copy()
    for step in reversed(links):
        x = np.rint(at[..., 0]).astype(np.int64).clip(0, columns - 1)
        y = np.rint(at[..., 1]).astype(np.int64).clip(0, rows - 1)
        at += step.field[y, x]
    moved = np.rint((at - start) * (CELL * VECTOR_UNIT)).astype(np.int32)
    return np.ascontiguousarray(moved.repeat(2, axis=0).repeat(2, axis=1))


def half_luma(planes: Planes) -> NDArray[np.uint8]:
    """Y (1, 1, H, W) in [0, 1] -> (H / 2, W / 2) uint8 on the CPU."""
    half = F.avg_pool2d(planes[0].float(), SHRINK)[0, 0]
    return to_levels(half, 255).cpu().numpy()


def plan(
    sides: Sequence[Sequence[Link]], qp: int, size: tuple[int, int], *, offset: float = OFFSET
) -> tuple[float, Tensor]:
    """What a frame's QP changes by, and what an error of each place is worth among its places.

    sides: links of the frames that follow it in coding order, of an intra frame to either side; qp:
    of the encode; size: padded height and width; offset: as OFFSET. The worth is
    (1, 1, H / 16, W / 16) float32 of geometric mean 1.
    """
    total = np.ones((size[0] // CELL, size[1] // CELL), np.float32)
    for links in sides:
        total += importance(links, qp_distortion(qp), total.shape) - 1
    cells = np.log2(total)
    offset *= 1 + max(0, qp - _MIDDLE) / (QP_COUNT - 1 - _MIDDLE)
    change = offset - STRENGTH * _QPS_PER_HALVING * float(cells.mean())
    worth = np.exp2(PLACE_STRENGTH * (cells - cells.mean())).astype(np.float32)
    return change, torch.from_numpy(worth)[None, None]
