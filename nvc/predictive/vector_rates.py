"""Bits of a motion field as its coder would spend them, square by square, without coding it.

The decisions are those of vector_kernels; each costs what it would where adaptive bits begin, so
that the price of one square can be asked for over and over (motion_settling.py). A test holds the
sum over a field to the decisions that its coder makes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvc.entropy.jit import kernel
from nvc.predictive.vector_conditions import (
    CANDIDATES,
    COUNTED,
    EXPONENTS,
    candidate_context,
    decided,
    exponent_context,
    is_candidate,
    is_split,
    known_of,
    mantissa_context,
    nearby_of,
    predictor_context,
    sign_context,
    split_context,
    zero_context,
)

MADE_WITH = "9b17f545ee49d124"  # see nvc.entropy.jit
_LEAST = 0.002  # probability; adaptive bits move on, so none stays dearer or cheaper for long


def code_lengths(model: NDArray[np.int32]) -> NDArray[np.float32]:
    """Bits of a zero and of a one in every context, (contexts, 2); model: contexts.Contexts."""
    ones = (model[:, 0].astype(np.float64) + model[:, 1]) / (1 << 25)
    ones = ones.clip(_LEAST, 1 - _LEAST)
    return -np.log2(np.stack((1 - ones, ones), axis=1)).astype(np.float32)


@kernel
def _difference_bits(costs, near, axis, other, value):  # type: ignore[no-untyped-def]
    """Of one component in units."""
    bits = np.float32(0)
    if other != 1:
        bits += costs[zero_context(near, axis, other), np.int64(value != 0)]
        if value == 0:
            return bits
    magnitude, exponent = abs(value), np.int64(0)
    while exponent < EXPONENTS:
        more = np.int64(magnitude >> (exponent + 1) > 0)
        bits += costs[exponent_context(near, axis, other, exponent), more]
        if not more:
            break
        exponent += 1
    for place in range(exponent - 1, -1, -1):
        if place >= exponent - COUNTED:
            context = mantissa_context(near, axis, exponent, place, magnitude >> (place + 1))
            bits += costs[context, (magnitude >> place) & 1]
        else:
            bits += np.float32(1)
    return bits + costs[sign_context(near, axis, exponent), np.int64(value < 0)]


@kernel
def _vector_bits(costs, field, apart, beside, row, column, size, unit):  # type: ignore[no-untyped-def]
    """Of the vector of a block or square, which sets apart there; see vector_kernels._vector."""
    known = known_of(field, apart, beside, row, column, size, unit)
    x, y = np.int64(field[row, column, 0]), np.int64(field[row, column, 1])
    dx, dy = x - known.px, y - known.py
    decided(apart, row, column, size, dx, dy)
    same = np.int64(dx == 0 and dy == 0)
    bits = costs[predictor_context(known), same]
    if same:
        return bits
    for number in range(CANDIDATES):
        if is_candidate(known, number):
            _, qx, qy = known.around[number]
            same = np.int64(x == qx and y == qy)
            bits += costs[candidate_context(known, number), same]
            if same:
                return bits
    near = nearby_of(known, apart, beside, row, column, unit)
    bits += _difference_bits(costs, near, 0, 0, dx // unit)
    return bits + _difference_bits(costs, near, 1, 1 if dx == 0 else 2, dy // unit)


@kernel
def square_bits(costs, field, apart, beside, row, column, unit):  # type: ignore[no-untyped-def]
    """Bits of the square at an even row and column of a field with even sides; sets apart there.

    costs: code_lengths; apart: differences to the predictors, of the squares before as square_bits
    has set them; beside: see vector_conditions; unit: what vectors are multiples of.
    """
    split = is_split(field, row, column)
    bits = costs[split_context(field, apart, beside, row, column, unit), split]
    if not split:
        return bits + _vector_bits(costs, field, apart, beside, row, column, 2, unit)
    for k in range(4):
        r, c = row + k // 2, column + k % 2
        bits += _vector_bits(costs, field, apart, beside, r, c, 1, unit)
    return bits


@kernel
def local_bits(costs, field, apart, beside, row, column, unit):  # type: ignore[no-untyped-def]
    """Bits of a square and of those whose predictors it takes part in; sets apart in all of them.

    What these change for the squares behind them is left out.
    """
    rows, columns = field.shape[0], field.shape[1]
    bits = square_bits(costs, field, apart, beside, row, column, unit)
    if column + 2 < columns:
        bits += square_bits(costs, field, apart, beside, row, column + 2, unit)
    if row + 2 < rows:
        if column > 0:
            bits += square_bits(costs, field, apart, beside, row + 2, column - 2, unit)
        bits += square_bits(costs, field, apart, beside, row + 2, column, unit)
    return bits


@kernel
def field_bits(costs, field, apart, beside, unit):  # type: ignore[no-untyped-def]
    """Bits of a whole field; sets all of apart."""
    total = 0.0
    for row in range(0, field.shape[0], 2):
        for column in range(0, field.shape[1], 2):
            total += square_bits(costs, field, apart, beside, row, column, unit)
    return total
