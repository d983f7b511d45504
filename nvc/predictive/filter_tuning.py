"""What is sent of the loop filter: by how much a frame's tables are not those that were fitted.

The fitted tables suit clips on average. What least squares would change of them for one frame is
much the same from frame to frame and mostly lies along a few ways (LoopFilter.ways, the first ones
most), so a frame sends how far along each of these its tables are moved, in steps of STEP: whole
numbers, as differences to those of a reference like it. (The adaptive loop filter of VVC sends
the coefficients of its classes themselves: Karczewicz et al., TCSVT 31-10, 2021.) The encoder finds
them by least squares over strips of the picture and sends what pays for its bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvc.bitstream.bits import BitReader, BitWriter, unzigzag, zigzag
from nvc.errors import StreamError
from nvc.nn.planes import Planes
from nvc.predictive.loop_filter import SHAPES, PlaneShape, differences
from nvc.predictive.rounding import CHROMA_WORTH

Tuning = tuple[tuple[int, ...], ...]  # of Y, U and V, in steps along each way
# Given planes as the networks made them, and what makes of these what is shown untuned: how far the
# tables of each plane are moved along its ways, None for not at all.
Tuner = Callable[[Planes, Callable[[], Planes]], "Sequence[Tensor] | None"]

STEP = 1 / 32
MOST = 255  # steps along a way
_REACH_BITS = 6
_REACHES = (3, 6, 12, 20)  # of how many ways from the first on the encoder tries, beside all
_STRIP = 16  # rows that are looked at in one go
_SAMPLES = 1 << 17  # of a plane that are looked at, about
_WORTH = (6 / 8, CHROMA_WORTH / 8, CHROMA_WORTH / 8)  # of squared errors in Y, U and V


def encode_tuning(tuning: Tuning, expected: Tuning) -> bytes:
    """Bytes of a tuning, given the one that is expected (FrameCoder has it from the references)."""
    bits = BitWriter()
    for levels, before in zip(tuning, expected, strict=True):
        apart = [level - past for level, past in zip(levels, before, strict=True)]
        reach = max((place for place, value in enumerate(apart, start=1) if value), default=0)
        bits.write(int(reach > 0), 1)
        if reach:
            bits.write(reach - 1, _REACH_BITS)
        for value in apart[:reach]:
            bits.exp_golomb(zigzag(value))
    return bits.to_bytes()


def decode_tuning(payload: bytes, expected: Tuning) -> Tuning:
    """The tuning of these bytes. Raises StreamError on damaged ones.

    Where the reference was lost what is expected is not what it was: held to MOST steps.
    """
    bits = BitReader(payload)
    planes = []
    for before in expected:
        reach = bits.read(_REACH_BITS) + 1 if bits.read(1) else 0
        if reach > len(before):
            raise StreamError(f"a tuning of the loop filter along {reach} of {len(before)} ways")
        levels = list(before)
        for place in range(reach):
            apart = unzigzag(bits.exp_golomb())
            if abs(apart) > 2 * MOST:
                raise StreamError(f"a tuning of the loop filter moves over {2 * MOST} steps")
            levels[place] = min(max(levels[place] + apart, -MOST), MOST)
        planes.append(tuple(levels))
    bits.finish()
    return tuple(planes)


def tuned(
    loop_filter: Callable[..., Planes],
    made: Planes,
    qp: Tensor,
    form: Tensor,
    tuner: Tuner | None,
    *,
    fitted: bool,
) -> Planes:
    """What is shown of planes that the networks made.

    loop_filter: LoopFilter or what stands in for it; fitted: whether it has tables for this form,
    else nothing is filtered that is not tuned.
    """
    plain = cache(lambda: loop_filter(made, qp, form) if fitted else made)
    moves = None if tuner is None else tuner(made, plain)
    return plain() if moves is None else loop_filter(made, qp, form, moves, fitted=fitted)


def moves_of(tuning: Tuning) -> list[Tensor] | None:
    """What a Tuner returns for this one."""
    if not any(map(any, tuning)):
        return None
    return [STEP * torch.tensor(levels, dtype=torch.float32) for levels in tuning]


def untuned(counts: Sequence[int]) -> Tuning:
    """Of no effect; counts: ways of each plane."""
    return tuple((0,) * count for count in counts)


def choose_tuning(
    ways: Sequence[Tensor],
    made: Planes,
    plain: Planes,
    source: Planes,
    expected: Tuning,
    *,
    shown: tuple[int, int],
    price: float,
) -> Tuning:
    """What to send for a frame.

    ways: of each plane (count, coefficients); made: planes (1, 1, H, W) as the networks made
    them, plain: behind the fitted tables; shown: rows and columns that are seen; price: bits that a
    mean squared error of 1, samples in [0, 1], is worth a pixel.
    """
    chosen = []
    for number, shape in enumerate(SHAPES):
        size = tuple(-(-side >> int(number > 0)) for side in shown)
        products, wanted, seen = _moments(
            ways[number], made[number], plain[number], source[number], shape, size
        )
        worth = price * _WORTH[number] * math.prod(shown) / seen
        chosen.append(_settle(products * worth, wanted * worth, expected[number]))
    return tuple(chosen)


def _moments(
    ways: Tensor,
    made: Tensor,
    plain: Tensor,
    source: Tensor,
    shape: PlaneShape,
    size: Sequence[int],
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Normal equations of the steps, (count, count) and (count,), and how many samples."""
    height, width = size
    every = max(1, -(-height * width // _SAMPLES))
    strips = range(0, max(height - _STRIP, 0) + 1, _STRIP)
    products, wanted, seen = 0, 0, 0
    for top in strips[min(every // 2, len(strips) - 1) :: every]:
        first, last = max(top - shape.radius, 0), min(top + _STRIP, height) + shape.radius
        parts = differences(made[..., first:last, :], shape)[0]
        inner = parts[:, top - first :, :width][:, : min(_STRIP, height - top)].flatten(1)
        rows = slice(top, min(top + _STRIP, height))
        left = (source[..., rows, :width] - plain[..., rows, :width]).flatten()
        products = products + (inner @ inner.t()).double()  # of coefficients
        wanted = wanted + (inner @ left).double()
        seen += left.numel()
    step = STEP * ways.double()
    return (step @ products @ step.t()).cpu().numpy(), (step @ wanted).cpu().numpy(), seen


def _settle(
    products: NDArray[np.float64], wanted: NDArray[np.float64], expected: tuple[int, ...]
) -> tuple[int, ...]:
    """Steps of least cost, a bit costing 1.

    For several reaches the least squares of so many ways, rounded, then one after the other.
    """
    count = len(expected)
    before = np.array(expected, np.float64)
    plain = float(before @ products @ before - 2 * wanted @ before)
    best, levels = plain, expected
    for reach in {*_REACHES, count}:
        if reach > count:
            continue
        inner = products[:reach, :reach]
        ridge = 1e-6 * max(float(np.trace(inner)) / reach, 1e-9) * np.eye(reach)
        found = before.copy()
        right = wanted[:reach] - products[:reach, reach:] @ before[reach:]
        found[:reach] = np.linalg.solve(inner + ridge, right).round().clip(-MOST, MOST)
        slope = products @ found - wanted
        for place in (*range(reach), *range(reach)):
            past, own = before[place], found[place]
            offers = [(0.0, own)]
            for other in (past, own - 1, own + 1):
                apart = other - own
                if apart and abs(other) <= MOST:
                    error = apart * (apart * products[place, place] + 2 * slope[place])
                    bits = _bits(int(other - past)) - _bits(int(own - past))
                    offers.append((error + bits, other))
            taken = min(offers)[1]
            slope += (taken - own) * products[:, place]
            found[place] = taken
        cost = float(found @ products @ found - 2 * wanted @ found) + 1 + _REACH_BITS
        cost += sum(_bits(int(value)) for value in (found - before)[:reach])
        if cost < best:
            best, levels = cost, tuple(map(int, found))
    return levels


def _bits(value: int) -> int:
    """Of a difference, as an Exp-Golomb code."""
    return 2 * (zigzag(value) + 1).bit_length() - 1
