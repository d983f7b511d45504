"""The loop filter of one plane on the CPU; what nvc.predictive.loop_filter does, without its maps.

Planes are (H, W) float32 in [0, 1]. Strips of one block's height and of so many columns that their
coefficients stay in a core's own cache.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from nvc.nn.fused import bits_of_float, float_of_bits
from nvc.predictive.loop_filter import (
    ACTIVITY_FLOOR,
    BLOCK,
    DIRECTIONS,
    LEVELS,
    RATIO_FLOOR,
    PlaneShape,
)

MADE_WITH = "49d043deb6f6a43f"  # see nvc.entropy.jit
_LEVELS = np.float32(LEVELS)
_FLOOR, _RATIO = np.float32(ACTIVITY_FLOOR), np.float32(RATIO_FLOOR)
_COLUMNS = 128  # of a strip
_DIRECTIONS = np.array(DIRECTIONS, np.float32)


def filter_plane(
    plane: NDArray[np.float32], table: NDArray[np.float32], shape: PlaneShape
) -> NDArray[np.float32]:
    """A plane under a table (classes, coefficients); a new array."""
    out = np.empty_like(plane)
    _filter(
        np.pad(plane, shape.radius, mode="edge"),
        shape.radius,
        np.ascontiguousarray(table),
        np.array(shape.taps, np.int64),
        np.array(shape.thresholds, np.float32) / _LEVELS,
        np.array(shape.activity, np.float32),
        out,
    )
    return out


@numba.njit(nogil=True, cache=True, fastmath=True)
def _apart(padded, reach, y, sums):  # type: ignore[no-untyped-def]
    """Second differences along rows, columns and diagonals of rows 2 y and 2 y + 1.

    sums (4, width / 2 + 2): means over cells of 2x2, of which the first and last are repeated.
    """
    cells = sums.shape[1] - 2
    sums[:] = np.float32(0)
    for dy in range(2):
        row = reach + 2 * y + dy
        above, here, below = padded[row - 1], padded[row], padded[row + 1]
        for cell in range(cells):
            a = b = c = d = np.float32(0)
            for dx in range(2):
                x = reach + 2 * cell + dx
                middle = here[x] + here[x]
                a += abs(middle - above[x] - below[x])
                b += abs(middle - here[x - 1] - here[x + 1])
                c += abs(middle - above[x - 1] - below[x + 1])
                d += abs(middle - above[x + 1] - below[x - 1])
            sums[0, cell + 1] += a
            sums[1, cell + 1] += b
            sums[2, cell + 1] += c
            sums[3, cell + 1] += d
    for axis in range(4):
        sums[axis, 0] = sums[axis, 1]
        sums[axis, cells + 1] = sums[axis, cells]


@numba.njit(nogil=True, fastmath=True, forceinline=True)
def _log2(value):  # type: ignore[no-untyped-def]
    """log2 of a positive normal number to 2e-6, without a call that would stand in a vector's way.

    value = 2^e m, m within root(2) of 1: log2 m = 2 / ln 2 atanh(z), z = (m - 1) / (m + 1).
    """
    bits = bits_of_float(value)
    exponent = np.int32(bits + np.uint32(0x4AFB0D) >> np.uint32(23)) - np.int32(127)
    m = float_of_bits(bits - (np.uint32(exponent) << np.uint32(23)))
    z = (m - np.float32(1)) / (m + np.float32(1))
    square = z * z
    series = np.float32(2.8853900818) + square * (
        np.float32(0.9617966939)
        + square * (np.float32(0.5770780164) + square * np.float32(0.4121985831))
    )
    return np.float32(exponent) + z * series


@numba.njit(nogil=True, fastmath=True, forceinline=True)
def _place(value, knots, last, place, part, at):  # type: ignore[no-untyped-def]
    """The knot below a value and how far it is from there to the next, into [at]."""
    low = knots[0]
    high = knots[1]
    number = np.int32(0)
    for knot in range(1, last):
        above = value >= knots[knot]
        low = knots[knot] if above else low
        high = knots[knot + 1] if above else high
        number += np.int32(above)
    place[at] = number
    part[at] = min(max((value - low) / (high - low), np.float32(0)), np.float32(1))


@numba.njit(nogil=True, cache=True, fastmath=True)
def _classify(rings, activity, places, parts):  # type: ignore[no-untyped-def]
    """Where every block of a row lies between knots, (3, blocks) each: activity and both ratios.

    rings (4, 4, cells): the four rows of cells around the blocks, by axis.
    """
    cells, blocks = rings.shape[2], places.shape[1]
    sums = np.empty((4, cells), np.float32)
    for axis in range(4):
        for x in range(cells):
            above = rings[0, axis, x] + rings[1, axis, x]
            sums[axis, x] = above + rings[2, axis, x] + rings[3, axis, x]
        for x in range(cells - 1):
            sums[axis, x] += sums[axis, x + 1]
    scale = _LEVELS / np.float32(64)  # sums are of 16 cells of 4 samples
    for x in range(blocks):
        a = (sums[0, 2 * x] + sums[0, 2 * x + 2]) * scale
        b = (sums[1, 2 * x] + sums[1, 2 * x + 2]) * scale
        c = (sums[2, 2 * x] + sums[2, 2 * x + 2]) * scale
        d = (sums[3, 2 * x] + sums[3, 2 * x + 2]) * scale
        _place(_log2(a + b + _FLOOR), activity, len(activity) - 1, places[0], parts[0], x)
        _place(_log2((a + _RATIO) / (b + _RATIO)), _DIRECTIONS, 2, places[1], parts[1], x)
        _place(_log2((c + _RATIO) / (d + _RATIO)), _DIRECTIONS, 2, places[2], parts[2], x)


@numba.njit(nogil=True, cache=True, fastmath=True)
def _choose(places, parts, left, columns, table, chosen, spread):  # type: ignore[no-untyped-def]
    """Coefficients of the blocks of a strip, into spread (n, columns), those of a block repeated.

    chosen (n,) is scratch.
    """
    count = table.shape[1]
    one = np.float32(1)
    for x in range(0, columns, BLOCK):
        block = (left + x) // BLOCK
        at = 9 * places[0, block] + 3 * places[1, block] + places[2, block]
        part, across, along = parts[0, block], parts[1, block], parts[2, block]
        # Of the eight rows around, first those of less activity, then those of more.
        a, b = (one - across) * (one - along), (one - across) * along
        c, d = across * (one - along), across * along
        rest = one - part
        for n in range(count):
            less = a * table[at, n] + b * table[at + 1, n]
            less += c * table[at + 3, n] + d * table[at + 4, n]
            more = a * table[at + 9, n] + b * table[at + 10, n]
            more += c * table[at + 12, n] + d * table[at + 13, n]
            chosen[n] = rest * less + part * more
        for n in range(count):
            for dx in range(BLOCK):
                spread[n, x + dx] = chosen[n]


@numba.njit(nogil=True, cache=True, fastmath=True)
def _filter(padded, reach, table, taps, thresholds, activity, out):  # type: ignore[no-untyped-def]
    """Into `out` (H, W); padded: the plane with `reach` samples around."""
    height, width = out.shape
    count = table.shape[1]
    rings = np.empty((4, 4, width // 2 + 2), np.float32)
    places = np.empty((3, width // BLOCK), np.int32)
    parts = np.empty((3, width // BLOCK), np.float32)
    chosen = np.empty(count, np.float32)
    spread = np.empty((count, _COLUMNS), np.float32)
    added = np.empty(_COLUMNS, np.float32)
    small, large = thresholds[0], thresholds[1]
    cells = height // 2
    # A block reads the cells from the one above it to the one below it: four rows of them, of which
    # the next block needs the last two again.
    for cell in range(-1, 1):
        _apart(padded, reach, max(cell, 0), rings[(cell + 1) % 4])
    for block in range(height // BLOCK):
        for cell in range(2 * block + 1, 2 * block + 3):
            _apart(padded, reach, min(cell, cells - 1), rings[(cell + 1) % 4])
        _classify(rings, activity, places, parts)
        for left in range(0, width, _COLUMNS):
            columns = min(_COLUMNS, width - left)
            _choose(places, parts, left, columns, table, chosen, spread)
            for y in range(BLOCK * block, BLOCK * block + BLOCK):
                here = padded[reach + y, reach + left : reach + left + columns]
                added[:] = np.float32(0)
                for tap in range(len(taps)):
                    row, shift = taps[tap, 0], taps[tap, 1]
                    at = reach + left + shift
                    one = padded[reach + y + row, at : at + columns]
                    at = reach + left - shift
                    other = padded[reach + y - row, at : at + columns]
                    first, second, whole = spread[3 * tap], spread[3 * tap + 1], spread[3 * tap + 2]
                    for x in range(columns):
                        a, b = one[x] - here[x], other[x] - here[x]
                        added[x] += (
                            first[x] * (min(max(a, -small), small) + min(max(b, -small), small))
                            + second[x] * (min(max(a, -large), large) + min(max(b, -large), large))
                            + whole[x] * (a + b)
                        )
                for x in range(columns):
                    value = here[x] + added[x]
                    out[y, left + x] = min(max(value, np.float32(0)), np.float32(1))
