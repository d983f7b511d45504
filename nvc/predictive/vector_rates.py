"""Bits of a motion field as its coder would spend them, square by square, without coding it.

The decisions are those of vector_kernels; each costs what it would where adaptive bits begin, so
that the price of one square can be asked for over and over (motion_settling.py). A test holds the
sum over a field to the decisions that its coder makes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvc.entropy.jit import kernel
from nvc.predictive.vector_kernels import (
    _COMPANIONS,
    _FIRST_CANDIDATE,
    _FIRST_DIFFERENCE,
    _FIRST_SPLIT,
    _SPREADS,
    _UNARY,
    _companion,
    _length,
    _spread,
    candidate_vector,
    predict,
    surroundings,
)

MADE_WITH = "ac240fd42c51624e"  # see nvc.entropy.jit
_LEAST = 0.002  # probability; adaptive bits move on, so none stays dearer or cheaper for long


def code_lengths(model: NDArray[np.int32]) -> NDArray[np.float32]:
    """Bits of a zero and of a one in every context, (contexts, 2); model: contexts.Contexts."""
    ones = (model[:, 0].astype(np.float64) + model[:, 1]) / (1 << 25)
    ones = ones.clip(_LEAST, 1 - _LEAST)
    return -np.log2(np.stack((1 - ones, ones), axis=1)).astype(np.float32)


@kernel
def _difference_bits(costs, context, value, nonzero):  # type: ignore[no-untyped-def]
    bits = np.float32(0)
    if not nonzero:
        bits += costs[context, np.int64(value != 0)]
        if value == 0:
            return bits
    bits += np.float32(1)  # the sign
    rest = abs(value) - 1
    for steps in range(_UNARY):
        more = np.int64(steps < rest)
        bits += costs[context + 1 + steps, more]
        if not more:
            return bits
    rest -= _UNARY - 1
    length = np.int64(0)
    while rest >> (length + 1) > 0:
        length += 1
    return bits + np.float32(2 * length + 1)


@kernel
def _vector_bits(costs, field, apart, beside, row, column, size):  # type: ignore[no-untyped-def]
    """Of the vector of a block or square, which sets apart there; see vector_kernels._vector."""
    px, py = predict(field, row, column, size, 0), predict(field, row, column, size, 1)
    x, y = np.int64(field[row, column, 0]), np.int64(field[row, column, 1])
    left, above, alike = surroundings(field, apart, row, column)
    apart[row, column, 0], apart[row, column, 1] = x - px, y - py
    spread, split = _spread(left + above), int(size == 1)
    context = ((int(left > 0) + int(above > 0)) * 4 + alike * 2 + split) * _COMPANIONS + beside
    same = np.int64(x == px and y == py)
    bits = costs[context, same]
    if same:
        return bits
    for candidate in range(3):
        there, qx, qy = candidate_vector(field, row, column, candidate)
        if not there or (qx == px and qy == py):
            continue
        context = candidate * 4 + split * 2 + int(spread > 1)
        same = np.int64(x == qx and y == qy)
        bits += costs[_FIRST_CANDIDATE + context * _COMPANIONS + beside, same]
        if same:
            return bits
    context = _FIRST_DIFFERENCE + (beside * _SPREADS + spread) * 3 * (_UNARY + 1)
    bits += _difference_bits(costs, context, x - px, False)
    context += (1 if x == px else 2) * (_UNARY + 1)
    return bits + _difference_bits(costs, context, y - py, x == px)


@kernel
def is_split(field, row, column):  # type: ignore[no-untyped-def]
    """Whether the four vectors of a square differ, 0 or 1."""
    for k in range(1, 4):
        for axis in range(2):
            if field[row + k // 2, column + k % 2, axis] != field[row, column, axis]:
                return np.int64(1)
    return np.int64(0)


@kernel
def square_bits(costs, field, apart, first, row, column):  # type: ignore[no-untyped-def]
    """Bits of the square at an even row and column of a field with even sides; sets apart there.

    costs: code_lengths; apart: differences to the predictors, of the squares before as square_bits
    has set them; first: of a pair the first field, when this is the second, else zeros.
    """
    longest, around = np.int64(0), np.int64(0)
    for k in range(4):
        longest = max(longest, _length(first, row + k // 2, column + k % 2))
    context = np.int64(0)
    if column > 0:
        around += _length(apart, row, column - 1)
        context += is_split(field, row, column - 2)
    if row > 0:
        around += _length(apart, row - 1, column)
        context += is_split(field, row - 2, column)
    context = (context * _COMPANIONS + _companion(longest)) * _SPREADS + _spread(around)
    split = is_split(field, row, column)
    bits = costs[_FIRST_SPLIT + context, split]
    if not split:
        bits += _vector_bits(costs, field, apart, _companion(longest), row, column, 2)
        for k in range(1, 4):
            for axis in range(2):
                apart[row + k // 2, column + k % 2, axis] = apart[row, column, axis]
        return bits
    for k in range(4):
        r, c = row + k // 2, column + k % 2
        bits += _vector_bits(costs, field, apart, _companion(_length(first, r, c)), r, c, 1)
    return bits


@kernel
def local_bits(costs, field, apart, first, row, column):  # type: ignore[no-untyped-def]
    """Bits of a square and of those whose predictors it takes part in; sets apart in all of them.

    What these change for the squares behind them is left out.
    """
    rows, columns = field.shape[0], field.shape[1]
    bits = square_bits(costs, field, apart, first, row, column)
    if column + 2 < columns:
        bits += square_bits(costs, field, apart, first, row, column + 2)
    if row + 2 < rows:
        if column > 0:
            bits += square_bits(costs, field, apart, first, row + 2, column - 2)
        bits += square_bits(costs, field, apart, first, row + 2, column)
    return bits


@kernel
def field_bits(costs, field, apart, first):  # type: ignore[no-untyped-def]
    """Bits of a whole field; sets all of apart."""
    total = 0.0
    for row in range(0, field.shape[0], 2):
        for column in range(0, field.shape[1], 2):
            total += square_bits(costs, field, apart, first, row, column)
    return total
