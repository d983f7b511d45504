"""What is shown where units were lost: motion goes on, older detail covers a bare base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvc.nn.planes import enlarge_planes
from nvc.predictive.network import Memory, Planes
from nvc.predictive.records import Field

_LIKE = 10 / 255  # luma difference up to which the past counts as the same content


def carried_motion(last: Field, older: Field | None = None) -> Field:
    """Motion of a frame whose own is lost, from that of the last two P frames.

    Fields (rows, columns, 2), over as many frames as the lost one; component by component the
    smaller one where both have the same sign, else 0: a pan goes on, and what moved only once (or
    is all that is known) stands still.
    """
    if older is None:
        return np.zeros_like(last)
    smaller = np.minimum(np.abs(last), np.abs(older)) * np.sign(last)
    return np.where(np.sign(last) == np.sign(older), smaller, 0).astype(last.dtype)


def detail_of_past(intra: Memory, past: Memory, lost: int, shrinks: Sequence[int]) -> Memory:
    """`intra`, with the detail of `past` in the layers from `lost` on, which did not arrive.

    intra: an intra frame, of which layers under `lost` (1 or more) are whole and the others but
    enlarged from them; past: the same frame as predicted from the frames before it; shrinks: that
    of each layer. Where the two agree at the finest whole layer, the layers above take the
    prediction, corrected by what still differs there; elsewhere (a new scene) they stay blurred.
    """
    difference = tuple(
        a - b for a, b in zip(intra.pictures[lost - 1], past.pictures[lost - 1], strict=True)
    )
    pictures = list(intra.pictures)
    trust = _trust(difference[0])
    for layer in range(lost, len(pictures)):
        factor = shrinks[lost - 1] // shrinks[layer]
        raised = enlarge_planes(difference, factor)
        pictures[layer] = _mixed(
            intra.pictures[layer], past.pictures[layer], raised, enlarge_planes([trust], factor)[0]
        )
    return replace(intra, pictures=pictures)


def _trust(luma: Tensor) -> Tensor:
    """1 where luma differs by less than _LIKE around a sample, 0 from twice that: (B, 1, h, w)."""
    around = F.avg_pool2d(luma.abs(), 3, stride=1, padding=1, count_include_pad=False)
    return (2 - around / _LIKE).clamp(0, 1)


def _mixed(blurred: Planes, past: Planes, raised: Planes, trust: Tensor) -> Planes:
    """Plane by plane: trust * (past + raised) + (1 - trust) * blurred."""
    half = F.avg_pool2d(trust, 2)
    return tuple(
        torch.lerp(a, (b + change).clamp(0, 1), trust if number == 0 else half)
        for number, (a, b, change) in enumerate(zip(blurred, past, raised, strict=True))
    )
