"""The loop filter of one plane on the CPU; what nvc.predictive.loop_filter does, without its maps.

Planes are (H, W) float32 in [0, 1]. Strips of one block's height and of so many columns that their
coefficients stay in a core's own cache.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from nvc.predictive.loop_filter import (
    ACTIVITY_FLOOR,
    BLOCK,
    DIRECTIONS,
    LEVELS,
    RATIO_FLOOR,
    PlaneShape,
)

MADE_WITH = ""  # see nvc.entropy.jit
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
        table.reshape(len(shape.activity), len(DIRECTIONS), len(DIRECTIONS), -1),
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


@numba.njit(nogil=True, cache=True, fastmath=True)
def _between(value, knots):  # type: ignore[no-untyped-def]
    """The knot below a value and how far it is from there to the next."""
    last = len(knots) - 1
    value = min(max(value, knots[0]), knots[last])
    low = 0
    while low < last - 1 and value >= knots[low + 1]:
        low += 1
    return low, (value - knots[low]) / (knots[low + 1] - knots[low])


@numba.njit(nogil=True, cache=True, fastmath=True)
def _coefficients(means, table, activity, chosen):  # type: ignore[no-untyped-def]
    """Coefficients (n,) of a block from its mean second differences (4,), into `chosen`."""
    total, part = _between(np.log2(means[0] + means[1] + _FLOOR), activity)
    ratio = np.log2((means[0] + _RATIO) / (means[1] + _RATIO))
    straight, across = _between(ratio, _DIRECTIONS)
    ratio = np.log2((means[2] + _RATIO) / (means[3] + _RATIO))
    diagonal, along = _between(ratio, _DIRECTIONS)
    one = np.float32(1)
    chosen[:] = np.float32(0)
    for corner in range(8):
        i, j, k = corner >> 2, corner >> 1 & 1, corner & 1
        weight = part if i else one - part
        weight *= across if j else one - across
        weight *= along if k else one - along
        row = table[total + i, straight + j, diagonal + k]
        for n in range(len(row)):
            chosen[n] += weight * row[n]


@numba.njit(nogil=True, cache=True, fastmath=True)
def _filter(padded, reach, table, taps, thresholds, activity, out):  # type: ignore[no-untyped-def]
    """Into `out` (H, W); padded: the plane with `reach` samples around."""
    height, width = out.shape
    count = table.shape[3]
    each = count // len(taps)
    rings = np.empty((4, 4, width // 2 + 2), np.float32)
    means, chosen = np.empty(4, np.float32), np.empty(count, np.float32)
    spread = np.empty((count, _COLUMNS), np.float32)
    added = np.empty(_COLUMNS, np.float32)
    scale = _LEVELS / np.float32(64)  # sums are over 16 cells of 4 samples
    cells = height // 2
    # A block reads the cells from the one above it to the one below it: four rows of them, of which
    # the next block needs the last two again.
    for cell in range(-1, 1):
        _apart(padded, reach, max(cell, 0), rings[(cell + 1) % 4])
    for block in range(height // BLOCK):
        for cell in range(2 * block + 1, 2 * block + 3):
            _apart(padded, reach, min(cell, cells - 1), rings[(cell + 1) % 4])
        for left in range(0, width, _COLUMNS):
            columns = min(_COLUMNS, width - left)
            for x in range(0, columns, BLOCK):
                first = (left + x) // 2
                for axis in range(4):
                    total = np.float32(0)
                    for ring in range(4):
                        for near in range(4):
                            total += rings[ring, axis, first + near]
                    means[axis] = total * scale
                _coefficients(means, table, activity, chosen)
                for n in range(count):
                    for dx in range(BLOCK):
                        spread[n, x + dx] = chosen[n]
            for dy in range(BLOCK):
                y = BLOCK * block + dy
                here = padded[reach + y, reach + left : reach + left + columns]
                added[:] = np.float32(0)
                for tap in range(len(taps)):
                    row, shift = taps[tap, 0], taps[tap, 1]
                    at = reach + left + shift
                    one = padded[reach + y + row, at : at + columns]
                    at = reach + left - shift
                    other = padded[reach + y - row, at : at + columns]
                    for part in range(each - 1):
                        most = thresholds[part]
                        weight = spread[tap * each + part]
                        for x in range(columns):
                            a = min(max(one[x] - here[x], -most), most)
                            b = min(max(other[x] - here[x], -most), most)
                            added[x] += weight[x] * (a + b)
                    weight = spread[tap * each + each - 1]
                    for x in range(columns):
                        added[x] += weight[x] * (one[x] + other[x] - here[x] - here[x])
                for x in range(columns):
                    value = here[x] + added[x]
                    out[y, left + x] = min(max(value, np.float32(0)), np.float32(1))
