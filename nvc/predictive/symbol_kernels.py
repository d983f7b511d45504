"""The compiled walk over the symbols of a layer: the same steps write them and read them.

Symbols (C, H, W) come in two checkerboard halves (half 0: channel + row + column even), each
channel by channel, rows, columns. A symbol is a few adaptive bits - not zero, more than 1, more
than 2 ... - under contexts of its table index and of what was coded at its own place before: in
channels from coarse to fine detail, a place that had symbols will have more.
"""

from __future__ import annotations

import numpy as np

from nvc.entropy.adaptive_kernels import HALF, get, get_adaptive, put, put_adaptive
from nvc.entropy.jit import kernel

# Compiled code is cached by the text of this file alone: whoever edits adaptive_kernels.py must
# come here and set this to its new digest (a test compares), which makes the cache anew.
ADAPTIVE_KERNELS = "ed1949e5e0565154"

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


@kernel
def _activity(sum_before):  # type: ignore[no-untyped-def]
    """Class 0..5 of what was coded at a place before."""
    level = np.int64(sum_before >= 4) + np.int64(sum_before >= 20) + np.int64(sum_before >= 60)
    return level + np.int64(sum_before >= 140) + np.int64(sum_before >= 300)


@kernel
def _new_sums(height, width):  # type: ignore[no-untyped-def]
    """Sums of what was coded before, by parity of the column: a channel of a half has one in a row.

    A channel goes on to another sum of each place: `_forget` first, then what its symbols add.
    """
    return np.zeros((2, height, (width + 1) // 2), np.int32)


@kernel
def _forget(sums, after):  # type: ignore[no-untyped-def]
    """after = sums less an eighth, of one row."""
    for i in range(len(sums)):
        after[i] = sums[i] - (sums[i] >> 3)


@kernel
def _added(magnitude):  # type: ignore[no-untyped-def]
    """What a symbol adds to the sum of its place."""
    return np.int32(min(magnitude, 3) << 6)


@kernel
def _write(coder, data, model, context, table, symbol):  # type: ignore[no-untyped-def]
    magnitude = abs(symbol)
    put_adaptive(coder, data, model, context, np.int64(magnitude > 0))
    if magnitude == 0:
        return
    put(coder, data, HALF, np.int64(symbol < 0))
    put_adaptive(coder, data, model, FIRST_MORE + context, np.int64(magnitude > 1))
    if magnitude == 1:
        return
    first = FIRST_UNARY + table * (UNARY - 2) - 2
    for step in range(2, min(magnitude + 1, UNARY)):
        put_adaptive(coder, data, model, first + step, np.int64(magnitude > step))
    if magnitude >= UNARY:
        rest = magnitude - UNARY + 1
        length = np.int64(0)
        while rest >> (length + 1):
            length += 1
        for zero in range(length + 1):
            put(coder, data, HALF, np.int64(zero < length))
        for place in range(length - 1, -1, -1):
            put(coder, data, HALF, (rest >> place) & 1)


@kernel
def _read(coder, data, model, context, table):  # type: ignore[no-untyped-def]
    """One symbol; a magnitude beyond LARGEST for an escape that none writes."""
    if not get_adaptive(coder, data, model, context):
        return np.int64(0)
    negative = get(coder, data, HALF)
    magnitude = np.int64(1)
    if get_adaptive(coder, data, model, FIRST_MORE + context):
        magnitude = np.int64(2)
        first = FIRST_UNARY + table * (UNARY - 2) - 2
        while magnitude < UNARY and get_adaptive(coder, data, model, first + magnitude):
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
    return -magnitude if negative else magnitude


@kernel
def _cost(model, context, bit):  # type: ignore[no-untyped-def]
    """Bits of an adaptive bit as the model stands."""
    probability = (np.int64(model[context, 0]) + np.int64(model[context, 1])) >> 13
    return _COSTS[probability if bit else 4096 - probability]


@kernel
def _saved(model, context, table, magnitude):  # type: ignore[no-untyped-def]
    """Bits that the next smaller magnitude takes less than this one, 1 to _COSTED."""
    if magnitude == 1:
        saved = np.float32(1) + _cost(model, context, 1) - _cost(model, context, 0)
        return saved + _cost(model, FIRST_MORE + context, 0)
    own = FIRST_UNARY + table * (UNARY - 2) - 2 + magnitude
    below = FIRST_MORE + context if magnitude == 2 else own - 1
    return _cost(model, below, 1) - _cost(model, below, 0) + _cost(model, own, 0)


@kernel
def encode_half(coder, data, model, residual, mean, index, price, step, weight, half, k):  # type: ignore[no-untyped-def]
    """Choose the symbols of one half by rate and distortion, and write them.

    residual, mean (C, H, W) float32, mean of meaning in half 1 alone; index (C, H, W) uint8; price
    (H, W) float32, bits for a squared error; step (C,) float32; weight (C,) float32, of an error in
    a channel; symbols go into k (C, H, W) int32.
    A symbol is rounded, then made one smaller where that saves more bits than the error is worth.
    """
    channels, height, width = k.shape
    before = _new_sums(height, width)
    after = np.zeros(before.shape[2], np.int32)
    for c in range(channels):
        unit = step[c]
        worth = unit * unit * weight[c]
        for y in range(height):
            first = (c + y + half) % 2
            sums = before[first, y]
            _forget(sums, after)
            for x in range(first, width, 2):
                table = np.int64(index[c, y, x])
                if table < SKIP_BELOW:
                    continue
                value = residual[c, y, x]
                if half:
                    value -= mean[c, y, x]
                value /= unit
                symbol = min(max(np.rint(value), np.float32(-LARGEST)), np.float32(LARGEST))
                size = np.int64(abs(symbol))
                context = (half * INDICES + table) * ACTIVITIES + _activity(sums[x >> 1])
                if 0 < size <= _COSTED:
                    beside = np.float32(2) * (abs(value) - np.float32(size)) + np.float32(1)
                    saved = _saved(model, context, table, size)
                    if saved > price[y, x] * worth * beside:
                        size -= 1
                chosen = -size if symbol < 0 else size
                k[c, y, x] = chosen
                _write(coder, data, model, context, table, chosen)
                after[x >> 1] += _added(size)
            sums[:] = after


@kernel
def decode_half(coder, data, model, index, half, k):  # type: ignore[no-untyped-def]
    """Read the symbols of one half into k (C, H, W) int32, zeros before; False for a bad one."""
    channels, height, width = k.shape
    before = _new_sums(height, width)
    after = np.zeros(before.shape[2], np.int32)
    for c in range(channels):
        for y in range(height):
            first = (c + y + half) % 2
            sums, tables, row = before[first, y], index[c, y], k[c, y]
            _forget(sums, after)
            for x in range(first, width, 2):
                table = np.int64(tables[x])
                if table < SKIP_BELOW:
                    continue
                context = (half * INDICES + table) * ACTIVITIES + _activity(sums[x >> 1])
                symbol = _read(coder, data, model, context, table)
                if symbol == 0:
                    continue
                if abs(symbol) > LARGEST:
                    return False
                row[x] = symbol
                after[x >> 1] += _added(abs(symbol))
            sums[:] = after
    return True


@kernel
def count_half(k, index, half, counts):  # type: ignore[no-untyped-def]
    """Add the adaptive bits of one half to counts (CONTEXTS, 2), zeros and ones."""
    channels, height, width = k.shape
    before = _new_sums(height, width)
    after = np.zeros(before.shape[2], np.int32)
    for c in range(channels):
        for y in range(height):
            first = (c + y + half) % 2
            sums = before[first, y]
            _forget(sums, after)
            for x in range(first, width, 2):
                table = np.int64(index[c, y, x])
                if table < SKIP_BELOW:
                    continue
                magnitude = abs(np.int64(k[c, y, x]))
                context = (half * INDICES + table) * ACTIVITIES + _activity(sums[x >> 1])
                counts[context, min(magnitude, 1)] += 1
                if magnitude > 0:
                    counts[FIRST_MORE + context, min(magnitude - 1, 1)] += 1
                more = FIRST_UNARY + table * (UNARY - 2) - 2
                for step in range(2, min(magnitude + 1, UNARY)):
                    counts[more + step, np.int64(magnitude > step)] += 1
                after[x >> 1] += _added(magnitude)
            sums[:] = after
