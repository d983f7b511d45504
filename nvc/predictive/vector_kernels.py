"""The compiled walk over a motion field: the same steps write it and read it.

Squares of 2x2 blocks in raster order: one bit says whether the four differ, then come one vector or
four. A vector equals its median predictor, or one of the vectors around it, or in the second of a
pair of fields that of the first in the same place, or it is its difference to the predictor; every
decision is an adaptive bit under what is known around it (vector_conditions.py). A square that the
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
from nvc.predictive.vector_conditions import (
    CANDIDATES,
    COUNTED,
    EXPONENTS,
    FIRST_UNIT,
    MAX_UNIT,
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

MADE_WITH = "a6a0b014111e0993"  # see nvc.entropy.jit

# Returned by `read` for a vector beyond the limit, and for no payload's start.
BAD_VECTOR = -1
BAD_START = -2
BYTES_PER_BLOCK = 96  # no vector takes more, should every bit of it cost 12


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
def _difference(coder, data, model, counts, near, axis, other, value, writing):  # type: ignore[no-untyped-def]
    """One component in units: is it zero, its magnitude as an exponent and bits, its sign.

    other: 0 for the first component, 1 behind a zero, when this is none, 2 behind another.
    """
    bit = np.int64(value != 0)
    if other != 1:
        context = zero_context(near, axis, other)
        if not _bit(coder, data, model, counts, context, bit, writing):
            return np.int64(0)
    magnitude = abs(value)
    exponent = np.int64(0)
    while exponent < EXPONENTS:
        context = exponent_context(near, axis, other, exponent)
        more = np.int64(magnitude >> (exponent + 1) > 0)
        if not _bit(coder, data, model, counts, context, more, writing):
            break
        exponent += 1
    found = np.int64(1)
    for place in range(exponent - 1, -1, -1):
        bit = (magnitude >> place) & 1
        if place >= exponent - COUNTED:
            context = mantissa_context(near, axis, exponent, place, found)
            bit = _bit(coder, data, model, counts, context, bit, writing)
        else:
            bit = _even_bit(coder, data, bit, writing)
        found = found << 1 | bit
    context = sign_context(near, axis, exponent)
    negative = _bit(coder, data, model, counts, context, np.int64(value < 0), writing)
    return -found if negative else found


@kernel
def _vector(coder, data, model, counts, field, apart, beside, row, column, size, unit, writing):  # type: ignore[no-untyped-def]
    """Code the vector at the upper-left block of a block or square; sets field and apart there."""
    known = known_of(field, apart, beside, row, column, size, unit)
    px, py = known.px, known.py
    x, y = np.int64(field[row, column, 0]), np.int64(field[row, column, 1])
    context = predictor_context(known)
    found = _bit(coder, data, model, counts, context, np.int64(x == px and y == py), writing)
    if found:
        x, y = px, py
    number = 0
    while not found and number < CANDIDATES:
        if is_candidate(known, number):
            _, qx, qy = known.around[number]
            context = candidate_context(known, number)
            same = np.int64(x == qx and y == qy)
            if _bit(coder, data, model, counts, context, same, writing):
                x, y = qx, qy
                found = np.int64(1)
        number += 1
    if not found:
        near = nearby_of(known, apart, beside, row, column, unit)
        dx, dy = (x - px) // unit, (y - py) // unit
        dx = _difference(coder, data, model, counts, near, 0, 0, dx, writing)
        other = 1 if dx == 0 else 2
        dy = _difference(coder, data, model, counts, near, 1, other, dy, writing)
        x, y = px + dx * unit, py + dy * unit
    field[row, column, 0], field[row, column, 1] = x, y
    decided(apart, row, column, size, x - px, y - py)


@kernel
def _unit(coder, data, model, counts, unit, writing):  # type: ignore[no-untyped-def]
    """What vectors are multiples of: 1, 2 or 4 quarter samples."""
    found = np.int64(1)
    while found < MAX_UNIT:
        context = FIRST_UNIT + found - 1
        if not _bit(coder, data, model, counts, context, np.int64(unit > found), writing):
            break
        found *= 2
    return found


@kernel
def _walk(coder, data, model, counts, field, beside, used, unit, limit, writing):  # type: ignore[no-untyped-def]
    """Write or read the field; False for a vector beyond the limit. Its sides are even."""
    rows, columns, _ = field.shape
    unit = _unit(coder, data, model, counts, unit, writing)
    apart = np.zeros((rows, columns, 2), np.int32)
    for row in range(0, rows, 2):
        for column in range(0, columns, 2):
            if not used[row // 2, column // 2]:
                known = known_of(field, apart, beside, row, column, 2, unit)
                _spread(field, row, column, known.px, known.py)
                continue
            split = is_split(field, row, column)
            context = split_context(field, apart, beside, row, column, unit)
            split = _bit(coder, data, model, counts, context, split, writing)
            for k in range(4 if split else 1):
                r, c, size = row + k // 2, column + k % 2, 1 if split else 2
                _vector(coder, data, model, counts, field, apart, beside, r, c, size, unit, writing)
                if max(abs(field[r, c, 0]), abs(field[r, c, 1])) > limit:
                    return False
            if not split:
                x, y = field[row, column, 0], field[row, column, 1]
                _spread(field, row, column, x, y)
    return True


@kernel
def _spread(field, row, column, x, y):  # type: ignore[no-untyped-def]
    """Give all four blocks of a square one vector."""
    for k in range(4):
        field[row + k // 2, column + k % 2, 0] = x
        field[row + k // 2, column + k % 2, 1] = y


@kernel
def write(field, beside, used, model, counts, unit, limit, digits):  # type: ignore[no-untyped-def]
    """The bytes, (n,) uint8; digits: room for them, uint16. Vectors not used are set in `field`.

    field (rows, columns, 2) int32, its sides even; beside: see vector_conditions; used (rows / 2,
    columns / 2) bool; unit: what the vectors are multiples of; counts (CONTEXTS, 2): the bits
    written are added to it.
    """
    coder = np.zeros(CODER_SIZE, dtype=np.int64)
    start_writing(coder)
    _walk(coder, digits, model, counts, field, beside, used, unit, limit, True)
    return finish_writing(coder, digits)


@kernel
def read(data, beside, used, model, limit, field):  # type: ignore[no-untyped-def]
    """Fill ``field`` (zeros); the bytes looked at, BAD_VECTOR or BAD_START."""
    coder = np.zeros(CODER_SIZE, dtype=np.int64)
    if not start_reading(coder, data):
        return np.int64(BAD_START)
    counts = np.zeros((1, 2), dtype=np.int64)
    if not _walk(coder, data, model, counts, field, beside, used, 1, limit, False):
        return np.int64(BAD_VECTOR)
    return bytes_read(coder)
