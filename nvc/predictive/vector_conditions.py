"""What the adaptive bits of a motion field are coded under: the vectors around, known by then.

Lengths count by their octaves, in units of the field (1, 2 or 4 quarter samples). Beside the second
of a pair of fields stands the first, `beside` (rows, columns, 3): its vector and the octave of the
longest of its vectors in and around the square, in quarter samples; zeros where there is none.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nvc.entropy.jit import kernel

MAX_UNIT = 4  # quarter samples: vectors are multiples of 1, 2 or 4
CANDIDATES = 5
_OF_FIRST = 2  # the candidate that is of the first field of a pair
EXPONENTS = 13  # largest exponent of a magnitude
COUNTED = 2  # bits of a magnitude under its first that are adaptive, the rest are even

_OCTAVES = 7  # classes of the lengths around: 0, 1, up to 3, 7, 15, 31, more
_FIRST_PREDICTOR = 6 * 3 * 4 * 3  # contexts before it: do the four vectors of a square differ
_FIRST_CANDIDATE = _FIRST_PREDICTOR + 4 * 2 * 5 * 3 * 3
_FIRST_ZERO = _FIRST_CANDIDATE + CANDIDATES * 2 * 3 * 4
_FIRST_EXPONENT = _FIRST_ZERO + 3 * _OCTAVES * 2 * 3
_FIRST_MANTISSA = _FIRST_EXPONENT + _OCTAVES * EXPONENTS * 3 * 2
_FIRST_SIGN = _FIRST_MANTISSA + 8 * 3 * _OCTAVES
FIRST_UNIT = _FIRST_SIGN + 3 * 3 * 5
CONTEXTS = FIRST_UNIT + 2


def beside_of(first: NDArray[np.int32] | None, shape: tuple[int, int]) -> NDArray[np.int32]:
    """`beside` for a field of this shape, its sides even; first: the other of a pair, or None."""
    beside = np.zeros((*shape, 3), np.int32)
    if first is None or not first.any():
        return beside
    beside[..., :2] = first
    lengths = np.pad(np.abs(first).sum(axis=-1), 2)
    rows, columns = shape
    largest = np.zeros((rows // 2, columns // 2), np.int64)
    for down in range(6):
        for across in range(6):
            part = lengths[down : down + rows : 2, across : across + columns : 2]
            np.maximum(largest, part[: rows // 2, : columns // 2], out=largest)
    octaves = np.frexp(largest.astype(np.float64))[1]  # bits of a whole number
    beside[..., 2] = octaves.repeat(2, axis=0).repeat(2, axis=1)
    return beside


class Known(NamedTuple):
    """What is known where a vector is to come.

    px, py: the predictor; around: is it there, x, y of the left, the upper vector, that of the
    first field, the upper right and the upper left one; apart: bit 0 the left, bit 1 the upper one
    is not its predictor; same: how many around, but for the first field's, equal the predictor;
    split: whether it is a block's; held, held_around: octaves of the first field.
    """

    px: int
    py: int
    around: tuple[tuple[int, int, int], ...]
    apart: int
    same: int
    split: int
    held: int
    held_around: int


class Nearby(NamedTuple):
    """What is known of the difference to the predictor, of x and of y, where there is one.

    nearby: octave of how far those around are from the predictor and their own predictors;
    towards: the side on which they lie; first, first_side: octave and side of the first field's;
    split: as Known has it.
    """

    nearby: tuple[int, int]
    towards: tuple[int, int]
    first: tuple[int, int]
    first_side: tuple[int, int]
    split: int


@kernel
def octave(value):  # type: ignore[no-untyped-def]
    """Bits of a magnitude: 0 for 0, 1 for 1, 2 for 2 and 3 ..."""
    bits = np.int64(0)
    value = abs(value)
    while value > 0:
        value >>= 1
        bits += 1
    return bits


@kernel
def side(value):  # type: ignore[no-untyped-def]
    """0 for 0, 1 for positive, 2 for negative numbers."""
    return np.int64(value > 0) + 2 * np.int64(value < 0)


@kernel
def median(a, b, c):  # type: ignore[no-untyped-def]
    return max(min(a, b), min(max(a, b), c))


@kernel
def predict(field, row, column, size, axis):  # type: ignore[no-untyped-def]
    """Median of the left, upper and upper-right vector, or what of them is known by then.

    size: 1 for a block, 2 for a square of four. The block at the lower right of a square, and one
    at the right edge, take the upper-left vector for the upper-right.
    """
    if row == 0:
        return np.int64(field[0, column - 1, axis]) if column > 0 else np.int64(0)
    above = np.int64(field[row - 1, column, axis])
    if column == 0:
        return above
    corner = column + size
    if corner >= field.shape[1] or (row & 1 and column & 1):
        corner = column - 1
    left = np.int64(field[row, column - 1, axis])
    return median(left, above, np.int64(field[row - 1, corner, axis]))


@kernel
def is_split(field, row, column):  # type: ignore[no-untyped-def]
    """Whether the four vectors of a square differ, 0 or 1."""
    for k in range(1, 4):
        for axis in range(2):
            if field[row + k // 2, column + k % 2, axis] != field[row, column, axis]:
                return np.int64(1)
    return np.int64(0)


@kernel
def _at(field, row, column, there):  # type: ignore[no-untyped-def]
    if not there:
        return np.int64(0), np.int64(0), np.int64(0)
    return np.int64(1), np.int64(field[row, column, 0]), np.int64(field[row, column, 1])


@kernel
def _length(field, row, column):  # type: ignore[no-untyped-def]
    return abs(np.int64(field[row, column, 0])) + abs(np.int64(field[row, column, 1]))


@kernel
def known_of(field, apart, beside, row, column, size, unit):  # type: ignore[no-untyped-def]
    """Known of a block or square at its upper-left block."""
    px, py = predict(field, row, column, size, 0), predict(field, row, column, size, 1)
    corner = column + size
    right = row > 0 and corner < field.shape[1] and not (row & 1 and column & 1)
    left, above = _at(field, row, column - 1, column > 0), _at(field, row - 1, column, row > 0)
    upper_right = _at(field, row - 1, corner, right)
    upper_left = _at(field, row - 1, column - 1, row > 0 and column > 0)
    fx, fy = np.int64(beside[row, column, 0]), np.int64(beside[row, column, 1])
    held = np.int64(0)
    if fx != 0 or fy != 0:
        held = octave((abs(fx) + abs(fy)) // unit)
        fx, fy = fx // unit * unit, fy // unit * unit
    around = (left, above, (np.int64(1), fx, fy), upper_right, upper_left)
    same, apart_from = np.int64(0), np.int64(0)
    for k in range(CANDIDATES):
        there, x, y = around[k]
        same += np.int64(there and k != _OF_FIRST and x == px and y == py)
    for k in range(2):
        r, c = row - k, column - 1 + k
        if r >= 0 and c >= 0:
            apart_from += np.int64(_length(apart, r, c) > 0) << k
    split, around_first = np.int64(size == 1), np.int64(beside[row, column, 2])
    return Known(px, py, around, apart_from, same, split, held, around_first)


@kernel
def nearby_of(known, apart, beside, row, column, unit):  # type: ignore[no-untyped-def]
    """Nearby of a block or square of which `known` is known."""
    near_x, near_y, to_x, to_y = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for k in range(CANDIDATES):
        there, x, y = known.around[k]
        if there and k != _OF_FIRST:
            near_x += abs(x - known.px)
            near_y += abs(y - known.py)
            to_x += x - known.px
            to_y += y - known.py
    for k in range(2):
        r, c = row - k, column - 1 + k
        if r >= 0 and c >= 0:
            near_x += abs(np.int64(apart[r, c, 0]))
            near_y += abs(np.int64(apart[r, c, 1]))
    fx = np.int64(beside[row, column, 0]) // unit
    fy = np.int64(beside[row, column, 1]) // unit
    return Nearby(
        (
            min(octave(near_x // unit), _OCTAVES - 1),
            min(octave(near_y // unit), _OCTAVES - 1),
        ),
        (side(to_x), side(to_y)),
        (min(octave(fx), 2), min(octave(fy), 2)),
        (side(fx), side(fy)),
        known.split,
    )


@kernel
def decided(apart, row, column, size, dx, dy):  # type: ignore[no-untyped-def]
    """Note how far the vector of a block or square is from its predictor."""
    for k in range(size * size):
        apart[row + k // 2, column + k % 2, 0] = dx
        apart[row + k // 2, column + k % 2, 1] = dy


@kernel
def split_context(field, apart, beside, row, column, unit):  # type: ignore[no-untyped-def]
    """Of: do the four vectors of the square at an even row and column differ."""
    splits, around, longest = np.int64(0), np.int64(0), np.int64(0)
    for k in range(4):
        longest = max(longest, _length(beside, row + k // 2, column + k % 2))
    if column > 0:
        around += _length(apart, row, column - 1)
        splits += is_split(field, row, column - 2)
    if row > 0:
        around += _length(apart, row - 1, column)
        splits += is_split(field, row - 2, column)
    context = min(np.int64(beside[row, column, 2]), 5) * 3 + splits
    return (context * 4 + min(octave(around // unit), 3)) * 3 + min(octave(longest // unit), 2)


@kernel
def predictor_context(known):  # type: ignore[no-untyped-def]
    """Of: is the vector its predictor."""
    context = ((known.apart * 2 + known.split) * 5 + known.same) * 3 + min(known.held, 2)
    return _FIRST_PREDICTOR + context * 3 + min(known.held_around, 2)


@kernel
def is_candidate(known, number):  # type: ignore[no-untyped-def]
    """Whether the vector number `number` around is there, and none that was asked for before."""
    there, x, y = known.around[number]
    if not there or (x == known.px and y == known.py):
        return False
    for k in range(number):
        before, ox, oy = known.around[k]
        if before and ox == x and oy == y:
            return False
    return True


@kernel
def candidate_context(known, number):  # type: ignore[no-untyped-def]
    """Of: is the vector candidate `number`."""
    _, x, y = known.around[number]
    agree = np.int64(0)
    for k in range(number + 1, CANDIDATES):
        there, ox, oy = known.around[k]
        agree += np.int64(there and ox == x and oy == y)
    context = (number * 2 + known.split) * 3 + min(agree, 2)
    return _FIRST_CANDIDATE + context * 4 + known.apart


@kernel
def zero_context(near, axis, other):  # type: ignore[no-untyped-def]
    """Of: is a component of the difference not zero; other: see vector_kernels._difference."""
    context = (other * _OCTAVES + near.nearby[axis]) * 2 + near.split
    return _FIRST_ZERO + context * 3 + near.first[axis]


@kernel
def exponent_context(near, axis, other, exponent):  # type: ignore[no-untyped-def]
    """Of: is the exponent of a magnitude over this one."""
    context = (near.nearby[axis] * EXPONENTS + exponent) * 3 + near.first[axis]
    return _FIRST_EXPONENT + context * 2 + min(other, 1)


@kernel
def mantissa_context(near, axis, exponent, place, found):  # type: ignore[no-untyped-def]
    """Of the bit of a magnitude at a place under its first; found: the bits over it."""
    top = 0 if place == exponent - 1 else 1 + (found & 1)
    context = min(exponent, 7) * 3 + top
    return _FIRST_MANTISSA + context * _OCTAVES + near.nearby[axis]


@kernel
def sign_context(near, axis, exponent):  # type: ignore[no-untyped-def]
    """Of the sign of a component."""
    context = near.towards[axis] * 3 + near.first_side[axis]
    return _FIRST_SIGN + context * 5 + min(exponent, 4)
