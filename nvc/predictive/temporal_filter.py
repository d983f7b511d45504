"""Sources of frames that others refer to, averaged along the motion with the frames around them.

An error of a reference is inherited by the frames that are predicted from it, so the picture that
serves them all is no source but a mean: with the frame itself every frame around counts by the
share of an error here that would reach it, D / (e + D) at each step for the error e of its motion
compensation and the distortion D of coding. What differs between the frames, noise above all, is
neither coded nor handed on. After the GOP-based temporal filter of HM and VTM (J. Enhorn,
R. Sjoberg, P. Wennersten, ICIP 2020), with these shares for weights. The encoder alone knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvc.entropy.jit import kernel
from nvc.predictive import plane_kernels
from nvc.predictive.level import qp_distortion
from nvc.predictive.motion_search import search_motion
from nvc.predictive.network import Planes
from nvc.predictive.planes_io import to_levels

# Weights are measured (docs/predictive.md), as multiples of that of the frame itself.
_BIT = 2.0  # cost of a bit of the motion between sources, times D: smooth fields are quick to find
_SHARE_AT, _FADES_AT = 3.0, 8.0  # times D: the error that halves a share; that takes e off a weight
_NEGLIGIBLE = 0.02  # of a frame's largest share: nothing beyond it is looked at
_CELL = 8  # luma samples a side of the blocks that have a weight
_SCALES = (1, 2, 2)  # luma samples to one of Y, U, V

Item = TypeVar("Item")


class Reach(NamedTuple):
    """How many frames before and after one are averaged with it, and what each counts at most."""

    before: int
    after: int
    weight_before: float
    weight_after: float


INTRA_REACH = Reach(0, 6, 0.0, 0.9)
ANCHOR_REACH = Reach(3, 4, 0.3, 0.6)  # a P frame between B frames
CYCLE_REACH = Reach(0, 6, 0.0, 0.5)  # in low delay, a P frame finer than those after it


def surrounded(
    items: Iterable[Item], *, gop: int, before: int, after: int
) -> Iterator[tuple[Item, dict[int, Item]]]:
    """Each item with those around it in its GOP, by how much later they come.

    items: from the start of a GOP on; before, after: how many on either side at most. Reads `after`
    items ahead, never past the end of a GOP.
    """
    known: deque[Item] = deque()  # of one GOP, `done` of them handed out
    done = 0
    numbered = enumerate(items)
    upcoming = next(numbered, None)
    while upcoming is not None or done < len(known):
        while upcoming is not None and len(known) - done <= after:
            number, item = upcoming
            if number % gop == 0 and known:
                break
            known.append(item)
            upcoming = next(numbered, None)
        if done == len(known):  # the GOP is at its end
            known.clear()
            done = 0
            continue
        low, high = max(0, done - before), min(len(known), done + after + 1)
        yield known[done], {at - done: known[at] for at in range(low, high) if at != done}
        done += 1
        if done > before:
            known.popleft()
            done -= 1


def filtered(
    source: Planes, around: Callable[[int], Planes | None], qp: int, reach: Reach
) -> Planes:
    """A frame averaged with those around it, as it is to be coded at `qp`.

    source: Y (1, 1, H, W), U, V (1, 1, H/2, W/2) in [0, 1], H and W multiples of 16; around: the
    same of the frame that comes so many later, earlier where negative; None where there is none.
    """
    distortion = 255**2 * qp_distortion(qp)
    planes = [_array(plane) for plane in source]
    luma = to_levels(source[0][0, 0], 255).cpu().numpy()
    total = [plane.copy() for plane in planes]
    weights = [np.ones_like(plane) for plane in planes]
    for side, many, most in (
        (-1, reach.before, reach.weight_before),
        (1, reach.after, reach.weight_after),
    ):
        field: NDArray[np.int32] | None = None
        share = np.float32(1)  # that reaches the frame, (H / 8, W / 8)
        for step in range(1, many + 1):
            other = around(side * step)
            if other is None:
                break
            seen = to_levels(other[0][0, 0], 255).cpu().numpy()
            field = search_motion(luma, seen, previous=field, weight=_BIT * distortion)
            moved = [_moved(*each, field) for each in zip(other, _SCALES, strict=True)]
            errors = [_cell_errors(*each) for each in zip(planes, moved, _SCALES, strict=True)]
            share = share / (1 + errors[0] / (_SHARE_AT * distortion))
            if share.max() < _NEGLIGIBLE:
                break
            for number, error in enumerate(errors):
                weight = most * share * np.exp(-error / (_FADES_AT * distortion))
                _add(total[number], weights[number], moved[number], weight.astype(np.float32))
    return tuple(
        torch.from_numpy(summed / weight).to(plane)[None, None]
        for summed, weight, plane in zip(total, weights, source, strict=True)
    )


def _array(plane: Tensor) -> NDArray[np.float32]:
    """(1, 1, H, W) -> (H, W) on the CPU."""
    return np.ascontiguousarray(plane[0, 0].float().cpu().numpy())


def _moved(plane: Tensor, scale: int, field: NDArray[np.int32]) -> NDArray[np.float32]:
    """A plane moved by a field, `scale` luma samples to one of its own."""
    samples = _array(plane)
    out = np.empty_like(samples)
    plane_kernels.move(samples, field, scale, out)
    return out


def _cell_errors(
    plane: NDArray[np.float32], other: NDArray[np.float32], scale: int
) -> NDArray[np.float32]:
    """Mean squared differences of the cells of a plane, in levels of 255."""
    size = _CELL // scale
    out = np.empty((plane.shape[0] // size, plane.shape[1] // size), np.float32)
    _sum_squares(plane, other, size, out)
    return out * np.float32(255**2 / size**2)


@kernel
def _sum_squares(plane, other, size, out):  # type: ignore[no-untyped-def]
    """Squared differences summed over cells of size x size."""
    out[:] = 0
    for y in range(out.shape[0] * size):
        for column in range(out.shape[1]):
            part = np.float32(0)
            for x in range(column * size, (column + 1) * size):
                apart = plane[y, x] - other[y, x]
                part += apart * apart
            out[y // size, column] += part


@kernel
def _add(total, weights, plane, weight):  # type: ignore[no-untyped-def]
    """Add a plane, weighted by cells, the weights interpolated linearly between their centres."""
    rows, columns = weight.shape
    size = plane.shape[0] // rows
    mixed = np.empty(columns, np.float32)
    half = np.float32(0.5)
    for y in range(plane.shape[0]):
        place = max((np.float32(y) + half) / np.float32(size) - half, np.float32(0))
        top = int(place)
        part = place - np.float32(top)
        below = min(top + 1, rows - 1)
        for column in range(columns):
            mixed[column] = weight[top, column] * (1 - part) + weight[below, column] * part
        for column in range(columns):
            for k in range(size):
                across = (np.float32(k) + half) / np.float32(size) - half
                if across < 0:
                    beside = mixed[max(column - 1, 0)]
                else:
                    beside = mixed[min(column + 1, columns - 1)]
                value = mixed[column] + (beside - mixed[column]) * abs(across)
                x = column * size + k
                total[y, x] += value * plane[y, x]
                weights[y, x] += value
