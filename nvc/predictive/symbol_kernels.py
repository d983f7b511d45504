"""The compiled walk over the symbols of a layer: the same steps write them and read them.

Symbols (C, H, W) come in two checkerboard halves (half 0: channel + row + column even), each
channel by channel, rows, columns. A symbol is a few adaptive bits - not zero, more than 1, more
than 2 ... - under contexts of its table index and of what was coded at its own place before: in
channels from coarse to fine detail, a place that had symbols will have more.
"""

from __future__ import annotations

import numpy as np

from nvc.entropy.adaptive_kernels import HALF, get, get_adaptive, put, put_adaptive
from nvc.entropy.jit import inlined, kernel

MADE_WITH = "016132193597dc50"  # see nvc.entropy.jit

# Here, not imported: see the note in nvc.entropy.jit on constants. A test compares.
SKIP_BELOW = 4  # of nvc.predictive.scales
INDICES = 64
LARGEST = 1 << 20  # symbols are held to this
ACTIVITIES = 6
UNARY = 15  # magnitudes from here on are escapes
FIRST_MORE = 2 * INDICES * ACTIVITIES  # contexts before it: is it more than 0
FIRST_UNARY = 2 * FIRST_MORE  # and before this: is it more than 1
CONTEXTS = FIRST_UNARY + INDICES * (UNARY - 2)

BYTES_PER_SYMBOL = 28  # no symbol takes more: an adaptive bit costs up to 12
_PREFIX = 21  # leading zeros an escape may have
_COSTED = UNARY - 1  # magnitudes above it are rounded plainly

_COSTS = (-np.log2(np.maximum(np.arange(4097), 0.5) / 4096)).astype(np.float32)
# Indices are unsigned where it counts, as then none is looked at for being from the end.
_MORE, _ONE = np.uint64(FIRST_MORE), np.uint64(1)


@inlined
def _activity(sum_before):  # type: ignore[no-untyped-def]
    """Class 0..5 of what was coded at a place before."""
    level = np.int64(sum_before >= 4) + np.int64(sum_before >= 20) + np.int64(sum_before >= 60)
    return level + np.int64(sum_before >= 140) + np.int64(sum_before >= 300)


@kernel
def _new_sums(height, width):  # type: ignore[no-untyped-def]
    """Sums of what was coded before, by parity of the column: a channel of a half has one in a row.

    A channel goes on to another sum of each place: what `_begin_row` leaves of it, and what its
    symbols add.
    """
    return np.zeros((2, height, (width + 1) // 2), np.int32)


@inlined
def _added(magnitude):  # type: ignore[no-untyped-def]
    """What a symbol adds to the sum of its place."""
    return np.int32(min(magnitude, 3) << 6)


@inlined
def _begin_row(tables, sums, first, half, columns, contexts):  # type: ignore[no-untyped-def]
    """Columns and contexts (uint64) of the symbols of a row that are coded, and how many.

    The sums lose an eighth. All at once, since to list the columns takes no branch, and a branch at
    each that cannot be foreseen would take longer.
    """
    count = np.uint64(0)
    for x in range(first, len(tables), 2):
        columns[count] = x
        count += np.uint64(tables[np.uint64(x)] >= SKIP_BELOW)
    for i in range(count):
        x = columns[i]
        table = half * INDICES + np.int64(tables[x])
        contexts[i] = table * ACTIVITIES + _activity(sums[x >> _ONE])
    for i in range(len(sums)):
        sums[i] -= sums[i] >> 3
    return count


@inlined
def _unary(table, magnitude):  # type: ignore[no-untyped-def]
    """Context of whether a magnitude of 2 and more goes on."""
    return np.uint64(FIRST_UNARY + table * (UNARY - 2) - 2 + magnitude)


@inlined
def _write_more(coder, digits, model, table, magnitude):  # type: ignore[no-untyped-def]
    """What a magnitude is beyond 1."""
    for step in range(2, min(magnitude + 1, UNARY)):
        put_adaptive(coder, digits, model, _unary(table, step), np.int64(magnitude > step))
    if magnitude >= UNARY:
        rest = magnitude - UNARY + 1
        length = np.int64(0)
        while rest >> (length + 1):
            length += 1
        for zero in range(length + 1):
            put(coder, digits, HALF, np.int64(zero < length))
        for place in range(length - 1, -1, -1):
            put(coder, digits, HALF, (rest >> place) & 1)


@inlined
def _read_more(coder, data, model, table):  # type: ignore[no-untyped-def]
    """A magnitude beyond 1; one beyond LARGEST for an escape that none writes."""
    magnitude = np.int64(2)
    while magnitude < UNARY and get_adaptive(coder, data, model, _unary(table, magnitude)):
        magnitude += 1
    if magnitude == UNARY:
        length = np.int64(0)
        while get(coder, data, HALF):
            length += 1
            if length == _PREFIX:
                return np.int64(2 * LARGEST)
        rest = np.int64(1)
        for _ in range(length):
            rest = rest << 1 | get(coder, data, HALF)
        magnitude += rest - 1
    return magnitude


@inlined
def _count(counts, context, table, magnitude):  # type: ignore[no-untyped-def]
    """Add the adaptive bits of a symbol to counts (CONTEXTS, 2), zeros and ones."""
    counts[context, min(magnitude, 1)] += 1
    if magnitude > 0:
        counts[_MORE + context, min(magnitude - 1, 1)] += 1
    for step in range(2, min(magnitude + 1, UNARY)):
        counts[_unary(table, step), np.int64(magnitude > step)] += 1


@inlined
def _cost(model, context, bit):  # type: ignore[no-untyped-def]
    """Bits of an adaptive bit as the model stands."""
    probability = (np.int64(model[context, 0]) + np.int64(model[context, 1])) >> 13
    return _COSTS[np.uint64(probability if bit else 4096 - probability)]


@inlined
def _saved(model, context, table, magnitude):  # type: ignore[no-untyped-def]
    """Bits that the next smaller magnitude takes less than this one, 1 to _COSTED."""
    if magnitude == 1:
        saved = np.float32(1) + _cost(model, context, 1) - _cost(model, context, 0)
        return saved + _cost(model, _MORE + context, 0)
    own = _unary(table, magnitude)
    below = _MORE + context if magnitude == 2 else own - _ONE
    return _cost(model, below, 1) - _cost(model, below, 0) + _cost(model, own, 0)


@kernel
def encode_half(coder, digits, model, residual, mean, index, price, step, weight, half, k, counts):  # type: ignore[no-untyped-def]
    """Choose the symbols of one half by rate and distortion, and write them.

    residual, mean (C, H, W) float32, mean of meaning in half 1 alone; index (C, H, W) uint8; price
    (H, W) float32, bits for a squared error; step (C,) float32; weight (C,) float32, of an error in
    a channel; symbols go into k (C, H, W) int32, zeros before; adaptive bits are added to counts
    (CONTEXTS, 2), or (0, 2) where none is counted.
    A symbol is rounded, then made one smaller where that saves more bits than the error is worth.
    """
    channels, height, width = k.shape
    before = _new_sums(height, width)
    columns, contexts = np.empty((2, width // 2 + 2), np.uint64)
    for c in range(channels):
        unit = step[c]
        worth = unit * unit * weight[c]
        for y in range(height):
            first = (c + y + half) % 2
            sums, tables, row = before[first, y], index[c, y], k[c, y]
            wanted, prices = residual[c, y], price[y]
            for i in range(_begin_row(tables, sums, first, half, columns, contexts)):
                x, context = columns[i], contexts[i]
                table = np.int64(tables[x])
                value = wanted[x]
                if half:
                    value -= mean[c, y, x]
                value /= unit
                rounded = np.rint(abs(value))
                if not rounded <= np.float32(LARGEST):  # nor is a value that is no number
                    rounded = np.float32(LARGEST)
                size = np.int64(rounded)
                if 0 < size <= _COSTED:
                    beside = np.float32(2) * (abs(value) - np.float32(size)) + np.float32(1)
                    if _saved(model, context, table, size) > prices[x] * worth * beside:
                        size -= 1
                if len(counts):
                    _count(counts, context, table, size)
                put_adaptive(coder, digits, model, context, np.int64(size > 0))
                if size == 0:
                    continue
                row[x] = -size if value < 0 else size
                sums[x >> _ONE] += _added(size)
                put(coder, digits, HALF, np.int64(value < 0))
                put_adaptive(coder, digits, model, _MORE + context, np.int64(size > 1))
                if size > 1:
                    _write_more(coder, digits, model, table, size)


@kernel
def decode_half(coder, data, model, index, half, k):  # type: ignore[no-untyped-def]
    """Read the symbols of one half into k (C, H, W) int32, zeros before; False for a bad one."""
    channels, height, width = k.shape
    before = _new_sums(height, width)
    columns, contexts = np.empty((2, width // 2 + 2), np.uint64)
    for c in range(channels):
        for y in range(height):
            first = (c + y + half) % 2
            sums, tables, row = before[first, y], index[c, y], k[c, y]
            for i in range(_begin_row(tables, sums, first, half, columns, contexts)):
                x, context = columns[i], contexts[i]
                if not get_adaptive(coder, data, model, context):
                    continue
                negative = get(coder, data, HALF)
                magnitude = np.int64(1)
                if get_adaptive(coder, data, model, _MORE + context):
                    magnitude = _read_more(coder, data, model, np.int64(tables[x]))
                    if magnitude > LARGEST:
                        return False
                row[x] = -magnitude if negative else magnitude
                sums[x >> _ONE] += _added(magnitude)
    return True
