"""Where to begin the motion search: movements too far away for any neighbour to know of.

A full search on pictures shrunk by eight, and a farther one on pictures shrunk by sixteen where it
is asked for, then small ones around what they found, down to pictures shrunk by four.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_SHRINK = 4
_COARSE_BLOCK = 8
NEAR = 64  # samples that the full search on pictures shrunk by eight reaches


@numba.njit(cache=True, nogil=True, fastmath=True)
def _best_of(current, reference, top, bottom, left, right, fields, count, reach, span, best):
    """The vector (dx, dy) of least absolute difference within `reach` of the first `count` fields.

    Whole samples, no longer than span; `best` is what it has to be under, else (0, 0). And what it
    has, or `best`.
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
    return found_x, found_y, best


@numba.njit(cache=True, nogil=True)
def _difference(current, reference, top, bottom, left, right):
    total = np.float32(1)
    for y in range(top, bottom):
        for x in range(left, right):
            total += abs(np.float32(current[y, x]) - np.float32(reference[y, x]))
    return total


@numba.njit(cache=True, nogil=True)
def _around(field, row, column, starts):
    """Fill starts with twice the vectors of a block and its four neighbours, once each; how many.

    field: vectors (rows, columns, 2) on pictures half as large.
    """
    rows, columns = field.shape[0], field.shape[1]
    count = 0
    for dr, dc in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
        r, c = min(max(row + dr, 0), rows - 1), min(max(column + dc, 0), columns - 1)
        x, y = 2 * field[r, c, 0], 2 * field[r, c, 1]
        new = True
        for k in range(count):
            if starts[k, 0] == x and starts[k, 1] == y:
                new = False
        if new:
            starts[count, 0], starts[count, 1] = x, y
            count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _window(row, column, size, shape):
    """Top, bottom, left and right of a block of so many samples with as many in all around it."""
    half = size // 2
    top, left = max(row * size - half, 0), max(column * size - half, 0)
    bottom, right = (row + 1) * size + half, (column + 1) * size + half
    return top, min(bottom, shape[0]), left, min(right, shape[1])


@numba.njit(cache=True, nogil=True)
def _far_search(current, reference, reach, field):
    """Fill field, for blocks of 4x4 of pictures shrunk by 16: full search of windows of 8x8."""
    starts = np.zeros((1, 2), np.int64)
    for r in range(field.shape[0]):
        for c in range(field.shape[1]):
            top, bottom, left, right = _window(r, c, 4, current.shape)
            # No more than where nothing moves, so that most places are left after a row or two.
            still = _difference(current, reference, top, bottom, left, right)
            x, y, _ = _best_of(
                current, reference, top, bottom, left, right, starts, 1, reach, reach, still
            )
            field[r, c] = x, y


@numba.njit(cache=True, nogil=True)
def _near_search(current, reference, far, near, reach, shape):
    """A vector for each block (shape: rows, columns) of 4x4 of pictures shrunk by eight.

    Full search of a window of 8x8 around each, within `near` of where it is; then close to what was
    found far away.
    """
    field = np.zeros((shape[0], shape[1], 2), np.int64)
    starts, nothing = np.zeros((6, 2), np.int64), np.zeros((1, 2), np.int64)
    for r in range(shape[0]):
        for c in range(shape[1]):
            top, bottom, left, right = _window(r, c, 4, current.shape)
            best = _difference(current, reference, top, bottom, left, right)
            field[r, c, 0], field[r, c, 1], best = _best_of(
                current, reference, top, bottom, left, right, nothing, 1, near, near, best
            )
            count = _around(far, r // 2, c // 2, starts)
            x, y, found = _best_of(
                current, reference, top, bottom, left, right, starts, count, 1, reach, best
            )
            if found < best:
                field[r, c] = x, y
    return field


@numba.njit(cache=True, nogil=True)
def _coarse_search(current, reference, before, reach):
    """A whole-sample vector for each 8x8 block of pictures shrunk by four, near those before."""
    height, width = current.shape
    rows, columns = before.shape[0], before.shape[1]
    starts = np.zeros((6, 2), np.int64)
    result = np.zeros((rows, columns, 2), np.int32)
    for r in range(rows):
        for c in range(columns):
            count = _around(before, r, c, starts)
            top, left = r * _COARSE_BLOCK, c * _COARSE_BLOCK
            bottom, right = min(top + _COARSE_BLOCK, height), min(left + _COARSE_BLOCK, width)
            still = _difference(current, reference, top, bottom, left, right)
            x, y, _ = _best_of(
                current, reference, top, bottom, left, right, starts, count, 1, reach, still
            )
            result[r, c] = x, y
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
    small, small_before = _shrunk(seen, 2), _shrunk(before, 2)
    blocks = tuple(-(-side // _COARSE_BLOCK) for side in seen.shape)
    far = np.zeros((-(-blocks[0] // 2), -(-blocks[1] // 2), 2), np.int64)
    if reach > NEAR:
        _far_search(_shrunk(small, 2), _shrunk(small_before, 2), reach // (4 * _SHRINK), far)
    near, by = min(reach, NEAR), 2 * _SHRINK
    field = _near_search(small, small_before, far, near // by, reach // by, blocks)
    return _coarse_search(seen, before, field, reach // _SHRINK)
