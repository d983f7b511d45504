"""The compiled walk over a motion field: the same steps write it and read it.

Squares of 2x2 blocks in raster order: one bit says whether the four differ, then come one vector or
four. A vector equals its median predictor, or the left, the upper or the zero vector, or is its
difference to the predictor; every decision is an adaptive bit under what is known around it, and in
the second of a pair of fields under what the first holds in the same place. A square that the
reference takes no part in has the predictor, and no bits.
"""

import numpy as np

from nvc.entropy.adaptive_kernels import (
    CODER_SIZE,
    HALF,
    bytes_read,
    finish_writing,
    get,
    get_adaptive,
    put,
    put_adaptive,
    start_reading,
    start_writing,
)
from nvc.entropy.jit import kernel

MADE_WITH = "016132193597dc50"  # see nvc.entropy.jit

BAD_VECTOR = (
    -1
)  # returned by `read` for a vector beyond the limit, BAD_START for no payload's start
BAD_START = -2
BYTES_PER_BLOCK = 64  # no vector takes more, should every bit of it cost 12

_UNARY = 14  # steps of a difference before the Exp-Golomb escape
_PREFIX = 16  # leading zeros an escape may have
_COMPANIONS = 3  # classes of what the first field of a pair holds: nothing, up to 3, more
_SPREADS = 4  # classes of the differences around: 0, up to 3, up to 10, more
_FIRST_CANDIDATE = 12 * _COMPANIONS  # contexts before it: does the vector equal its predictor
_FIRST_SPLIT = _FIRST_CANDIDATE + 12 * _COMPANIONS
_FIRST_DIFFERENCE = _FIRST_SPLIT + 3 * _COMPANIONS * _SPREADS
CONTEXTS = _FIRST_DIFFERENCE + _COMPANIONS * _SPREADS * 3 * (_UNARY + 1)


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
def _bit(coder, data, model, counts, context, bit, writing):  # type: ignore[no-untyped-def]
    if writing:
        counts[context, bit] += 1
        put_adaptive(coder, data, model, context, bit)
        return bit
    return get_adaptive(coder, data, model, context)


@kernel
def _even_bit(coder, data, bit, writing):  # type: ignore[no-untyped-def]
    if writing:
        put(coder, data, HALF, bit)
        return bit
    return get(coder, data, HALF)


@kernel
def _difference(coder, data, model, counts, context, value, nonzero, writing):  # type: ignore[no-untyped-def]
    """One component: a zero bit unless it is known, sign, unary magnitude, Exp-Golomb escape."""
    bit = np.int64(value != 0)
    if not nonzero and not _bit(coder, data, model, counts, context, bit, writing):
        return np.int64(0)
    negative = _even_bit(coder, data, np.int64(value < 0), writing)
    rest = abs(value) - 1
    steps = np.int64(0)
    while steps < _UNARY and _bit(
        coder, data, model, counts, context + 1 + steps, np.int64(steps < rest), writing
    ):
        steps += 1
    magnitude = steps + 1
    if steps == _UNARY:
        rest -= _UNARY - 1  # 1 and more
        length = np.int64(0)
        while _even_bit(coder, data, np.int64(rest >> (length + 1) > 0), writing):
            length += 1
            if length == _PREFIX:
                break
        number = np.int64(1)
        for j in range(length - 1, -1, -1):
            number = number << 1 | _even_bit(coder, data, (rest >> j) & 1, writing)
        magnitude += number - 1
    return -magnitude if negative else magnitude


@kernel
def _length(field, row, column):  # type: ignore[no-untyped-def]
    return abs(np.int64(field[row, column, 0])) + abs(np.int64(field[row, column, 1]))


@kernel
def _spread(around):  # type: ignore[no-untyped-def]
    """Class of differences around, 0.._SPREADS - 1."""
    return np.int64(around > 0) + np.int64(around > 3) + np.int64(around > 10)


@kernel
def surroundings(field, apart, row, column):  # type: ignore[no-untyped-def]
    """Of a block or square: differences to the left and above, and whether vectors there agree."""
    left, above, alike = np.int64(0), np.int64(0), 0
    if column > 0:
        left = _length(apart, row, column - 1)
    if row > 0:
        above = _length(apart, row - 1, column)
        if column > 0:
            alike = int(
                field[row, column - 1, 0] == field[row - 1, column, 0]
                and field[row, column - 1, 1] == field[row - 1, column, 1]
            )
    return left, above, alike


@kernel
def candidate_vector(field, row, column, candidate):  # type: ignore[no-untyped-def]
    """Whether there is a candidate (left, above, zero) and what it is."""
    if candidate == 0:
        if column == 0:
            return False, np.int64(0), np.int64(0)
        return True, np.int64(field[row, column - 1, 0]), np.int64(field[row, column - 1, 1])
    if candidate == 1:
        if row == 0:
            return False, np.int64(0), np.int64(0)
        return True, np.int64(field[row - 1, column, 0]), np.int64(field[row - 1, column, 1])
    return True, np.int64(0), np.int64(0)


@kernel
def _vector(coder, data, model, counts, field, apart, beside, row, column, size, writing):  # type: ignore[no-untyped-def]
    """Code the vector of one block or square at its upper-left block; sets field and apart there.

    apart (rows, columns, 2): differences to the predictor of the vectors so far; beside: class of
    what the first field of a pair holds here.
    """
    px, py = predict(field, row, column, size, 0), predict(field, row, column, size, 1)
    x, y = np.int64(field[row, column, 0]), np.int64(field[row, column, 1])
    left, above, alike = surroundings(field, apart, row, column)
    spread = _spread(left + above)
    split = int(size == 1)
    context = ((int(left > 0) + int(above > 0)) * 4 + alike * 2 + split) * _COMPANIONS + beside
    if _bit(coder, data, model, counts, context, np.int64(x == px and y == py), writing):
        x, y = px, py
    else:
        found = False
        for candidate in range(3):
            there, qx, qy = candidate_vector(field, row, column, candidate)
            if not there or (qx == px and qy == py):
                continue
            context = candidate * 4 + split * 2 + int(spread > 1)
            context = _FIRST_CANDIDATE + context * _COMPANIONS + beside
            if _bit(coder, data, model, counts, context, np.int64(x == qx and y == qy), writing):
                x, y = qx, qy
                found = True
                break
        if not found:
            context = _FIRST_DIFFERENCE + (beside * _SPREADS + spread) * 3 * (_UNARY + 1)
            dx = _difference(coder, data, model, counts, context, x - px, False, writing)
            context += (1 if dx == 0 else 2) * (_UNARY + 1)
            dy = _difference(coder, data, model, counts, context, y - py, dx == 0, writing)
            x, y = px + dx, py + dy
    field[row, column, 0], field[row, column, 1] = x, y
    apart[row, column, 0], apart[row, column, 1] = x - px, y - py


@kernel
def _companion(length):  # type: ignore[no-untyped-def]
    return np.int64(length > 0) + np.int64(length > 3)


@kernel
def _walk(coder, data, model, counts, field, first, used, limit, writing):  # type: ignore[no-untyped-def]
    """Write or read the field; False for a vector beyond the limit.

    used: by square, whether it has a vector at all; the field is given one where it has not.
    """
    rows, columns, _ = field.shape
    apart = np.zeros((rows, columns, 2), np.int32)
    splits = np.zeros(((rows + 1) // 2 + 1, (columns + 1) // 2 + 1), np.int64)
    for row in range(0, rows, 2):
        for column in range(0, columns, 2):
            bottom, right = min(row + 2, rows), min(column + 2, columns)
            if not used[row // 2, column // 2]:
                px, py = predict(field, row, column, 2, 0), predict(field, row, column, 2, 1)
                for r in range(row, bottom):
                    for c in range(column, right):
                        field[r, c, 0], field[r, c, 1] = px, py
                continue
            split, longest = np.int64(0), np.int64(0)
            for r in range(row, bottom):
                for c in range(column, right):
                    longest = max(longest, _length(first, r, c))
                    for axis in range(2):
                        split |= np.int64(field[r, c, axis] != field[row, column, axis])
            # Row and column 0 of splits stand for what lies outside.
            at, beside = row // 2 + 1, column // 2 + 1
            around = np.int64(0)
            if column > 0:
                around += _length(apart, row, column - 1)
            if row > 0:
                around += _length(apart, row - 1, column)
            context = splits[at - 1, beside] + splits[at, beside - 1]
            context = (context * _COMPANIONS + _companion(longest)) * _SPREADS + _spread(around)
            split = _bit(coder, data, model, counts, _FIRST_SPLIT + context, split, writing)
            splits[at, beside] = split
            for r in range(row, bottom):
                for c in range(column, right):
                    if split or (r == row and c == column):
                        size, held = (1, _length(first, r, c)) if split else (2, longest)
                        _vector(
                            coder, data, model, counts, field, apart, _companion(held), r, c, size,
                            writing,
                        )  # fmt: skip
                    else:
                        for axis in range(2):
                            field[r, c, axis] = field[row, column, axis]
                            apart[r, c, axis] = apart[row, column, axis]
                    if max(abs(field[r, c, 0]), abs(field[r, c, 1])) > limit:
                        return False
    return True


@kernel
def write(field, first, used, model, counts, limit, digits):  # type: ignore[no-untyped-def]
    """The bytes, (n,) uint8; digits: room for them, uint16. Vectors not used are set in `field`.

    first: of a pair the first field, when this is the second, else zeros; used: (rows / 2, columns
    / 2) bool, rounded up; counts (CONTEXTS, 2): the bits written are added to it.
    """
    coder = np.zeros(CODER_SIZE, dtype=np.int64)
    start_writing(coder)
    _walk(coder, digits, model, counts, field, first, used, limit, True)
    return finish_writing(coder, digits)


@kernel
def read(data, first, used, model, limit, field):  # type: ignore[no-untyped-def]
    """Fill ``field`` (zeros); the bytes looked at, BAD_VECTOR or BAD_START."""
    coder = np.zeros(CODER_SIZE, dtype=np.int64)
    if not start_reading(coder, data):
        return np.int64(BAD_START)
    counts = np.zeros((1, 2), dtype=np.int64)
    if not _walk(coder, data, model, counts, field, first, used, limit, False):
        return np.int64(BAD_VECTOR)
    return bytes_read(coder)
