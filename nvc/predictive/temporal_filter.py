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
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from nvc.predictive.level import qp_distortion
from nvc.predictive.motion_search import search_motion
from nvc.predictive.network import Planes
from nvc.predictive.planes_io import luma8
from nvc.predictive.row_planes import enlarged, moved, shrunk

# Weights are measured (docs/predictive.md), as multiples of that of the frame itself.
_BIT = 2.0  # cost of a bit of the motion between sources, times D: smooth fields are quick to find
_SHARE_AT, _FADES_AT = 3.0, 8.0  # times D: the error that halves a share; that takes e off a weight
_NEGLIGIBLE = 0.02  # of a frame's largest share: nothing beyond it is looked at
_CELLS = (8, 4, 4)  # samples a side, of Y, U and V, of the blocks that have a weight

Item = TypeVar("Item")


class Reach(NamedTuple):
    """How many frames before and after one are averaged with it, and what each counts at most.

    Before is towards the intra frame.
    """

    before: int
    after: int
    weight_before: float
    weight_after: float


INTRA_REACH = Reach(6, 6, 0.6, 0.6)
ANCHOR_REACH = Reach(3, 4, 0.3, 0.6)  # a P frame between B frames
CYCLE_REACH = Reach(0, 6, 0.0, 0.5)  # in low delay, a P frame finer than those after it


def surrounded(
    items: Iterable[Item], *, before: int, after: int
) -> Iterator[tuple[Item, dict[int, Item]]]:
    """Each item with those around it, by how much later they come.

    items: of one side of a GOP, from its intra frame on; before, after: how many on either side at
    most. Reads `after` items ahead.
    """
    known: deque[Item] = deque()
    done = 0  # of those known, handed out
    rest = iter(items)
    while True:
        known.extend(islice(rest, max(0, done + after + 1 - len(known))))
        if done == len(known):
            return
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
    same of the frame that comes so many after it, before it where negative; None where there is
    none.
    """
    distortion = 255**2 * qp_distortion(qp)
    planes, luma = _on_cpu(source), luma8(source)
    total = [plane.clone() for plane in planes]
    weights = [torch.ones_like(plane) for plane in planes]
    for side, many, most in (
        (-1, reach.before, reach.weight_before),
        (1, reach.after, reach.weight_after),
    ):
        field: NDArray[np.int32] | None = None
        share = torch.ones(())  # that reaches the frame, (1, 1, H / 8, W / 8)
        for step in range(1, many + 1):
            other = around(side * step)
            if other is None:
                break
            field = search_motion(luma, luma8(other), previous=field, weight=_BIT * distortion)
            there = moved(_on_cpu(other), field, 1)
            errors = [
                255**2 * shrunk(((a - b).square(),), size)[0]
                for a, b, size in zip(planes, there, _CELLS, strict=True)
            ]
            share = share / (1 + errors[0] / (_SHARE_AT * distortion))
            if share.max() < _NEGLIGIBLE:
                break
            for number, (error, size) in enumerate(zip(errors, _CELLS, strict=True)):
                weight = most * share * torch.exp(-error / (_FADES_AT * distortion))
                (weight,) = enlarged((weight,), size)
                total[number].addcmul_(weight, there[number])
                weights[number] += weight
    return tuple(
        (summed / weight).to(plane)
        for summed, weight, plane in zip(total, weights, source, strict=True)
    )


def _on_cpu(planes: Planes) -> Planes:
    """Planes as the kernels of the CPU take them."""
    return tuple(plane.float().cpu() for plane in planes)
