"""The compiled walk over the shares of squares, which writes and reads them, and their errors.

In raster order every square has one bit: is it as most are; and if not, another: which of the other
two it is. Both are adaptive, under what the left and the upper square are.
"""

import numpy as np

from nvc.entropy.adaptive_kernels import (
    CODER_SIZE,
    bytes_read,
    finish_writing,
    get_adaptive,
    put_adaptive,
    start_reading,
    start_writing,
)
from nvc.entropy.jit import kernel

MADE_WITH = "016132193597dc50"  # see nvc.entropy.jit

BAD_START = -1  # returned by `read` for no payload's start
CONTEXTS = 6  # three of either bit
BYTES_PER_SQUARE = 4  # two bits of at most 12 take less


@kernel
def _walk(coder, data, model, ranks, writing):  # type: ignore[no-untyped-def]
    """Write or read the ranks (rows, columns) int32: 0 for what most squares are, 1, 2."""
    rows, columns = ranks.shape
    for row in range(rows):
        for column in range(columns):
            left = ranks[row, column - 1] if column > 0 else np.int32(0)
            above = ranks[row - 1, column] if row > 0 else np.int32(0)
            rank = ranks[row, column]
            context = np.int64(left > 0) + np.int64(above > 0)
            bit = np.int64(rank > 0)
            if writing:
                put_adaptive(coder, data, model, context, bit)
            else:
                bit = get_adaptive(coder, data, model, context)
            if not bit:
                ranks[row, column] = 0
                continue
            lean = np.int64(left == 2) + np.int64(above == 2)
            lean -= np.int64(left == 1) + np.int64(above == 1)
            context = np.int64(4) + np.int64(lean > 0) - np.int64(lean < 0)
            bit = np.int64(rank == 2)
            if writing:
                put_adaptive(coder, data, model, context, bit)
            else:
                bit = get_adaptive(coder, data, model, context)
            ranks[row, column] = np.int32(1) + np.int32(bit)


@kernel
def write(ranks, model, digits):  # type: ignore[no-untyped-def]
    """The bytes, (n,) uint8; digits: room for them, uint16."""
    coder = np.zeros(CODER_SIZE, dtype=np.int64)
    start_writing(coder)
    _walk(coder, digits, model, ranks, True)
    return finish_writing(coder, digits)


@kernel
def read(data, model, ranks):  # type: ignore[no-untyped-def]
    """Fill ``ranks`` (zeros); the bytes looked at, or BAD_START."""
    coder = np.zeros(CODER_SIZE, dtype=np.int64)
    if not start_reading(coder, data):
        return np.int64(BAD_START)
    _walk(coder, data, model, ranks, False)
    return bytes_read(coder)


@kernel
def square_errors(source, first, second, size, errors):  # type: ignore[no-untyped-def]
    """Squared errors of squares: errors (3, rows, columns) float32, of the mean of both, of each.

    source (H, W) uint8, first, second (H, W) float32 in levels of 255; sides multiples of size.
    """
    half = np.float32(0.5)
    for row in range(errors.shape[1]):
        for column in range(errors.shape[2]):
            both = one = other = np.float32(0)
            for i in range(row * size, (row + 1) * size):
                for j in range(column * size, (column + 1) * size):
                    value = np.float32(source[i, j])
                    a, b = first[i, j] - value, second[i, j] - value
                    mean = (a + b) * half
                    both += mean * mean
                    one += a * a
                    other += b * b
            errors[0, row, column] = both
            errors[1, row, column] = one
            errors[2, row, column] = other
