"""Squared error of a block against a reference moved by a vector: what motion is searched by."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

BLOCK = 8
REACH = 256  # largest displacement in samples
MARGIN = 72  # samples of edge replication around the reference; vectors stay inside it


def _cubic_taps() -> NDArray[np.float32]:
    """Four taps for each quarter-sample phase of the cubic kernel with a = -0.75."""
    a = -0.75
    rows = []
    for phase in range(4):
        t = phase / 4
        near = [((a + 2) * s - (a + 3)) * s * s + 1 for s in (t, 1 - t)]
        far = [((a * s - 5 * a) * s + 8 * a) * s - 4 * a for s in (1 + t, 2 - t)]
        rows.append([far[0], near[0], near[1], far[1]])
    return np.array(rows, dtype=np.float32)


TAPS = _cubic_taps()


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _error_of(current, reference, top, left, size, mvx, mvy, taps, limit, rows):
    """See block_error; `size` is known where this is put, so that rows become vectors."""
    y0 = np.uint64(top + MARGIN + (mvy >> 2))
    x0 = np.uint64(left + MARGIN + (mvx >> 2))
    cy, cx = np.uint64(top), np.uint64(left)
    fy, fx = mvy & 3, mvx & 3
    one, two = np.uint64(1), np.uint64(2)
    total = np.float32(0.0)
    a, b, c, d = taps[fx, 0], taps[fx, 1], taps[fx, 2], taps[fx, 3]
    e, f, g, h = taps[fy, 0], taps[fy, 1], taps[fy, 2], taps[fy, 3]
    if fy != 0 and fx != 0:
        for y in range(3):
            ry = y0 + np.uint64(y) - one
            for x in range(size):
                at = x0 + np.uint64(x)
                rows[y, x] = (
                    a * reference[ry, at - one]
                    + b * reference[ry, at]
                    + c * reference[ry, at + one]
                    + d * reference[ry, at + two]
                )
    for y in range(size):
        yy, ry = cy + np.uint64(y), y0 + np.uint64(y)
        part = np.float32(0.0)
        if fx == 0 and fy == 0:
            for x in range(size):
                here, there = current[yy, cx + np.uint64(x)], reference[ry, x0 + np.uint64(x)]
                apart = np.float32(here) - np.float32(there)
                part += apart * apart
        elif fy == 0:
            for x in range(size):
                at = x0 + np.uint64(x)
                value = (
                    a * reference[ry, at - one]
                    + b * reference[ry, at]
                    + c * reference[ry, at + one]
                    + d * reference[ry, at + two]
                )
                apart = np.float32(current[yy, cx + np.uint64(x)]) - value
                part += apart * apart
        elif fx == 0:
            for x in range(size):
                at = x0 + np.uint64(x)
                value = (
                    e * reference[ry - one, at]
                    + f * reference[ry, at]
                    + g * reference[ry + one, at]
                    + h * reference[ry + two, at]
                )
                apart = np.float32(current[yy, cx + np.uint64(x)]) - value
                part += apart * apart
        else:
            for x in range(size):
                at = x0 + np.uint64(x)
                rows[y + 3, x] = (
                    a * reference[ry + two, at - one]
                    + b * reference[ry + two, at]
                    + c * reference[ry + two, at + one]
                    + d * reference[ry + two, at + two]
                )
            for x in range(size):
                value = (
                    e * rows[y, x] + f * rows[y + 1, x] + g * rows[y + 2, x] + h * rows[y + 3, x]
                )
                apart = np.float32(current[yy, cx + np.uint64(x)]) - value
                part += apart * apart
        total += part
        if total >= limit:
            break
    return total


@numba.njit(cache=True, nogil=True, fastmath=True)
def block_error(current, reference, top, left, size, mvx, mvy, taps, limit, rows):
    """Squared error of one block against the reference moved by (mvx, mvy) / 4.

    Of no meaning but to be too large once it reaches `limit`. rows (19, 16) float32 is written.
    """
    if size == 16:
        return _error_of(current, reference, top, left, 16, mvx, mvy, taps, limit, rows)
    return _error_of(current, reference, top, left, 8, mvx, mvy, taps, limit, rows)


@numba.njit(cache=True, nogil=True)
def clip_vector(mv, position, size, length):
    """Keep a block moved by mv (quarter samples) inside the replicated margin."""
    low = max(-REACH, -position - MARGIN + 4) * 4
    high = min(REACH, length + MARGIN - 4 - position - size) * 4
    return min(max(mv, low), high)
