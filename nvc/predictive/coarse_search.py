"""Where to begin the motion search: movements too far away for any neighbour to know of.

A full search on pictures shrunk by eight, then a small one on pictures shrunk by four.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_SHRINK = 4
_COARSE_BLOCK = 8


@numba.njit(cache=True, nogil=True, fastmath=True)
def _best_of(current, reference, top, bottom, left, right, fields, count, reach, span, best):
    """The vector (dx, dy) of least absolute difference within `reach` of the first `count` fields.

    Whole samples, no longer than span; `best` is what it has to be under, else (0, 0).
    """
    height, width = current.shape
    found_x = found_y = np.int64(0)
    for start in range(count):
        for dy in range(fields[start, 1] - reach, fields[start, 1] + reach + 1):
            if top + dy < 0 or bottom + dy > height or abs(dy) > span:
                continue
            for dx in range(fields[start, 0] - reach, fields[start, 0] + reach + 1):
                if left + dx < 0 or right + dx > width or abs(dx) > span:
                    continue
                total = np.float32(8 * (abs(dx) + abs(dy) > 0) + abs(dx) + abs(dy))
                for y in range(top, bottom):
                    cy, ry = np.uint64(y), np.uint64(y + dy)
                    cx, rx = np.uint64(left), np.uint64(left + dx)
                    part = np.float32(0.0)
                    if right - left == _COARSE_BLOCK:  # a length the compiler knows
                        for x in range(_COARSE_BLOCK):
                            a = current[cy, cx + np.uint64(x)]
                            b = reference[ry, rx + np.uint64(x)]
                            part += abs(np.float32(a) - np.float32(b))
                    else:
                        for x in range(right - left):
                            a = current[cy, cx + np.uint64(x)]
                            b = reference[ry, rx + np.uint64(x)]
                            part += abs(np.float32(a) - np.float32(b))
                    total += part
                    if total >= best:
                        break
                if total < best:
                    best, found_x, found_y = total, dx, dy
    return found_x, found_y


@numba.njit(cache=True, nogil=True)
def _difference(current, reference, top, bottom, left, right):
    total = np.float32(1)
    for y in range(top, bottom):
        for x in range(left, right):
            total += abs(np.float32(current[y, x]) - np.float32(reference[y, x]))
    return total


@numba.njit(cache=True, nogil=True)
def _coarse_search(current, reference, smaller, smaller_reference, reach):
    """A whole-sample vector for each 8x8 block of pictures shrunk by four.

    Full search on pictures half as large, of a window of 8x8 around each block's 4x4; then near
    what was found for the block and its four neighbours.
    """
    height, width = current.shape
    rows, columns = -(-height // _COARSE_BLOCK), -(-width // _COARSE_BLOCK)
    field = np.zeros((rows, columns, 2), np.int64)
    starts = np.zeros((6, 2), np.int64)
    small_height, small_width = smaller.shape
    for r in range(rows):
        for c in range(columns):
            top, left = max(r * 4 - 2, 0), max(c * 4 - 2, 0)
            bottom, right = min(r * 4 + 6, small_height), min(c * 4 + 6, small_width)
            # No more than where nothing moves, so that most places are left after a row or two.
            still = _difference(smaller, smaller_reference, top, bottom, left, right)
            field[r, c] = _best_of(
                smaller, smaller_reference, top, bottom, left, right, starts, 1,
                reach // 2, reach // 2, still,
            )  # fmt: skip
    result = np.zeros((rows, columns, 2), np.int32)
    for r in range(rows):
        for c in range(columns):
            count = 0
            for dr, dc in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
                near_r, near_c = min(max(r + dr, 0), rows - 1), min(max(c + dc, 0), columns - 1)
                x, y = 2 * field[near_r, near_c, 0], 2 * field[near_r, near_c, 1]
                new = True
                for k in range(count):
                    if starts[k, 0] == x and starts[k, 1] == y:
                        new = False
                if new:
                    starts[count, 0], starts[count, 1] = x, y
                    count += 1
            top, left = r * _COARSE_BLOCK, c * _COARSE_BLOCK
            bottom, right = min(top + _COARSE_BLOCK, height), min(left + _COARSE_BLOCK, width)
            still = _difference(current, reference, top, bottom, left, right)
            result[r, c] = _best_of(
                current, reference, top, bottom, left, right, starts, count, 1, reach, still
            )
    return result


@numba.njit(cache=True, nogil=True)
def _shrunk(picture, by):
    """Area average (H // by, W // by) uint8 of (H, W) uint8, rounded down."""
    height, width = picture.shape[0] // by, picture.shape[1] // by
    out = np.empty((height, width), np.uint8)
    sums = np.empty(width * by, np.uint32)
    for y in range(height):
        sums[:] = np.uint32(0)
        for dy in range(by):
            line = picture[y * by + dy]
            for x in range(len(sums)):
                sums[x] += np.uint32(line[x])
        target = out[y]
        for x in range(width):
            total = np.uint32(0)
            for dx in range(by):
                total += sums[np.uint64(x * by + dx)]
            target[x] = total // np.uint32(by * by)
    return out


def coarse_search(
    current: NDArray[np.uint8], reference: NDArray[np.uint8], *, reach: int
) -> NDArray[np.int32]:
    """Vectors (H/32, W/32, 2) rounded up, in units of 4 samples, from current into reference.

    Both (H, W) luma; reach: the longest component in samples.
    """
    seen, before = _shrunk(current, _SHRINK), _shrunk(reference, _SHRINK)
    return _coarse_search(seen, before, _shrunk(seen, 2), _shrunk(before, 2), reach // _SHRINK)
