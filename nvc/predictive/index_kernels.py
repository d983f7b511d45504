"""The integer scale path in integers: kernels for inference on the CPU.

nvc.predictive.scales carries exact integers in float32, on any device; here they are int8 and
int32, so the indices are the same by definition. Activations a of 0..255 go into the int8 products
as a - 128. Everything is channel by channel, (C, H, W), the order the symbols are coded in. Of a
checkerboard, half 0 is where y + x + channel is even.
"""

from __future__ import annotations

import numba
import numpy as np

from nvc.predictive.scales import (
    INDEX_MAX,
    INDEX_SHIFT,
    WEIGHT_UNIT,
    magnitude_table,
)

MADE_WITH = "9280d8b6752ae482"  # see nvc.entropy.jit
_WEIGHT_BITS = WEIGHT_UNIT.bit_length() - 1  # shifts right round down, as the text says
_INDEX_BITS = INDEX_SHIFT.bit_length() - 1
CODES = magnitude_table().numpy().astype(np.uint8)  # of the magnitudes 0..255


@numba.njit(nogil=True, cache=True)
def origins(vectors, cell, height, width, at):  # type: ignore[no-untyped-def]
    """Where the motion of each cell came from, as nvc.predictive.motion.align_codes says."""
    unit = cell * cell * 32 * cell
    for y in range(height):
        for x in range(width):
            sx = sy = np.int64(0)
            for i in range(cell):
                for j in range(cell):
                    sx += vectors[y * cell + i, x * cell + j, 0]
                    sy += vectors[y * cell + i, x * cell + j, 1]
            row = min(max(y + (sy + unit // 2) // unit, 0), height - 1)
            column = min(max(x + (sx + unit // 2) // unit, 0), width - 1)
            at[y * width + x] = row * width + column


@numba.njit(nogil=True, cache=True)
def gather(codes, at, out):  # type: ignore[no-untyped-def]
    """out[c, i] = codes[c, at[i]] - 128, int8; codes (C, n) uint8."""
    for c in range(codes.shape[0]):
        source, target = codes[c], out[c]
        for i in range(len(at)):
            target[i] = np.int8(np.int16(source[at[i]]) - 128)


@numba.njit(nogil=True, cache=True)
def gather_mean(codes, at, out):  # type: ignore[no-untyped-def]
    """As gather, and the mean of that and what out held, rounded down."""
    for c in range(codes.shape[0]):
        source, target = codes[c], out[c]
        for i in range(len(at)):
            total = np.int16(source[at[i]]) + np.int16(target[i]) + 128
            target[i] = np.int8((total >> 1) - 128)


@numba.njit(nogil=True, cache=True)
def spread_out(codes, out):  # type: ignore[no-untyped-def]
    """codes (C, h, w) uint8 repeated over out (C, H, W) int8, less 128."""
    down, across = out.shape[1] // codes.shape[1], out.shape[2] // codes.shape[2]
    for c in range(out.shape[0]):
        for y in range(out.shape[1]):
            source, target = codes[c, y // down], out[c, y]
            for x in range(out.shape[2]):
                target[x] = np.int8(np.int16(source[x // across]) - 128)


@numba.njit(nogil=True, cache=True)
def motion_codes(vectors, cell, out):  # type: ignore[no-untyped-def]
    """What the scale path sees of vectors (H, W, 2) int32, as nvc.predictive.motion says.

    out (2, H / cell, W / cell) int8, codes less 128, keeps what is larger than that.
    """
    for y in range(vectors.shape[0]):
        for x in range(vectors.shape[1]):
            up, left = max(y - 1, 0), max(x - 1, 0)
            vx, vy = vectors[y, x, 0], vectors[y, x, 1]
            beside = abs(vx - vectors[y, left, 0]) + abs(vy - vectors[y, left, 1])
            above = abs(vx - vectors[up, x, 0]) + abs(vy - vectors[up, x, 1])
            apart = np.int16(CODES[min(max(beside, above), 255)]) - 128
            length = np.int16(CODES[min(abs(vx) + abs(vy), 255)]) - 128
            i, j = y // cell, x // cell
            out[0, i, j] = np.int8(max(apart, np.int16(out[0, i, j])))
            out[1, i, j] = np.int8(max(length, np.int16(out[1, i, j])))


@numba.njit(nogil=True, cache=True)
def first_codes(k, out):  # type: ignore[no-untyped-def]
    """What step 2 sees of the symbols k (C, H, W) of the first half: codes less 128, int8.

    k is 0 in the second half, where the four neighbours' mean stands, rounded down.
    """
    channels, height, width = k.shape
    plane = np.zeros((height + 2, width + 2), np.int32)
    for c in range(channels):
        any_symbol = False
        for y in range(height):
            here = np.int32(0)
            for x in range(width):
                plane[y + 1, x + 1] = 0
                here |= k[c, y, x]
            if here:  # few rows have symbols, and only in these are codes looked up
                any_symbol = True
                for x in range(width):
                    plane[y + 1, x + 1] = CODES[min(abs(np.int32(k[c, y, x])), 255)]
        if not any_symbol:
            out[c] = np.int8(-128)
            continue
        for y in range(height):
            above, here, below = plane[y], plane[y + 1], plane[y + 2]
            target = out[c, y]
            for x in range(width):
                cross = above[x + 1] + below[x + 1] + here[x] + here[x + 2]
                target[x] = np.int8(here[x + 1] + (cross >> 2) - 128)


@numba.njit(nogil=True, cache=True)
def activate(total, bias, spread, out):  # type: ignore[no-untyped-def]
    """First accumulators -> depthwise 3x3 -> second activations less 128.

    total (C, H, W) int32, bias (C,), spread (C, 9) int32 -> out (C, H, W) int8.
    """
    channels, height, width = total.shape
    hidden = np.zeros((height + 2, width + 2), np.int32)
    for c in range(channels):
        added = bias[c] + WEIGHT_UNIT // 2
        for y in range(height):
            source, target = total[c, y], hidden[y + 1]
            for x in range(width):
                target[x + 1] = min(max((source[x] + added) >> _WEIGHT_BITS, 0), 255)
        weight = spread[c]
        for y in range(height):
            above, here, below = hidden[y], hidden[y + 1], hidden[y + 2]
            target = out[c, y]
            for x in range(width):
                value = (
                    above[x] * weight[0]
                    + above[x + 1] * weight[1]
                    + above[x + 2] * weight[2]
                    + here[x] * weight[3]
                    + here[x + 1] * weight[4]
                    + here[x + 2] * weight[5]
                    + below[x] * weight[6]
                    + below[x + 1] * weight[7]
                    + below[x + 2] * weight[8]
                )
                value = (value + WEIGHT_UNIT // 2) >> _WEIGHT_BITS
                target[x] = np.int8(min(max(value, 0), 255) - 128)


@numba.njit(nogil=True, cache=True)
def requantise(total, bias, out):  # type: ignore[no-untyped-def]
    """Accumulators (C, n) int32 plus bias (C,) -> activations less 128, int8."""
    for c in range(total.shape[0]):
        added = bias[c] + WEIGHT_UNIT // 2
        source, target = total[c], out[c]
        for i in range(len(source)):
            target[i] = np.int8(min(max((source[i] + added) >> _WEIGHT_BITS, 0), 255) - 128)


@numba.njit(nogil=True, cache=True)
def indices(total, bias, out):  # type: ignore[no-untyped-def]
    """Accumulators (C, n) int32 plus bias (C,) -> table indices, uint8."""
    for c in range(total.shape[0]):
        added = bias[c] + INDEX_SHIFT // 2
        source, target = total[c], out[c]
        for i in range(len(source)):
            value = (source[i] + added) >> _INDEX_BITS
            target[i] = np.uint8(min(max(value, 0), INDEX_MAX))


@numba.njit(nogil=True, cache=True)
def known_of_first(k, step, out):  # type: ignore[no-untyped-def]
    """What the mean of the second half is made of: k * step, or the four neighbours' sum of it.

    k (C, H, W), 0 in the second half; step (C,) float32; out (C, H, W) float32. Returns whether any
    of it differs from 0.
    """
    channels, height, width = k.shape
    plane = np.zeros((height + 2, width + 2), np.int32)
    found = False
    for c in range(channels):
        any_symbol = False
        for y in range(height):
            for x in range(width):
                plane[y + 1, x + 1] = k[c, y, x]
                any_symbol |= k[c, y, x] != 0
        if not any_symbol:
            out[c] = np.float32(0)
            continue
        found = True
        for y in range(height):
            above, here, below = plane[y], plane[y + 1], plane[y + 2]
            target = out[c, y]
            for x in range(width):
                total = here[x + 1] + above[x + 1] + below[x + 1] + here[x] + here[x + 2]
                target[x] = np.float32(total) * step[c]
    return found


@numba.njit(nogil=True, cache=True)
def remember(k, average, goes_on, codes, averages):  # type: ignore[no-untyped-def]
    """What symbols k (C, n) leave: their codes, and the running average with those before.

    average (C, n) int8, less 128; goes_on False: the average starts anew; both results uint8.
    """
    for c in range(k.shape[0]):
        found = False
        for i in range(k.shape[1]):
            found |= k[c, i] != 0
        if found:
            for i in range(k.shape[1]):
                codes[c, i] = CODES[min(abs(np.int32(k[c, i])), 255)]
        else:
            codes[c] = np.uint8(0)
        if goes_on:
            for i in range(k.shape[1]):
                total = np.int16(3) * (np.int16(average[c, i]) + np.int16(128))
                averages[c, i] = np.uint8((total + np.int16(codes[c, i])) >> 2)
        else:
            averages[c] = codes[c]


@numba.njit(nogil=True, cache=True)
def dequantise(mean, k, step):  # type: ignore[no-untyped-def]
    """mean (C, H, W) float32 becomes the residual: mean of the second half + k * step."""
    for c in range(k.shape[0]):
        for y in range(k.shape[1]):
            row, symbols = mean[c, y], k[c, y]
            first = (c + y) % 2
            for x in range(len(row)):
                own = np.float32((x ^ first) & 1)  # 0 in the first half
                row[x] = row[x] * own + np.float32(symbols[x]) * step[c]


@numba.njit(nogil=True, cache=True)
def places_used(residual):  # type: ignore[no-untyped-def]
    """Places (int64, in order) of residual (C, n) float32 where any channel differs from 0."""
    channels, count = residual.shape
    used = np.zeros(count, np.uint32)
    for c in range(channels):
        row = residual[c].view(np.uint32)
        for i in range(count):
            used[i] |= row[i] << np.uint32(1)  # 0 for either zero
    places = np.empty(count, np.int64)
    found = 0
    for i in range(count):
        places[found] = i
        found += used[i] != 0
    return places[:found].copy()
