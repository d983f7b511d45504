"""A second look at a motion field, with the bits that its coder really spends.

The search goes from square to square with rough bits and knows nothing of what comes behind, whose
predictor every vector is. Here each square is offered the vectors around it, on all sides, and
small steps from its own, and takes what costs least in squared errors and in the bits of itself and
of the squares it predicts (iterated conditional modes: J. Besag, J. R. Stat. Soc. B 48-3, 1986).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numpy.typing import NDArray

from nvc.predictive.block_error import BLOCK, MARGIN, TAPS, block_error, clip_vector
from nvc.predictive.vector_kernels import predict
from nvc.predictive.vector_rates import field_bits, is_split, local_bits

MADE_WITH = "95be1c4e9b3b6f3a"  # see nvc.entropy.jit
_PASSES = 2
_TWO_BANDS = 128  # rows of blocks from which the upper and lower half are done side by side
_STEP_BITS = np.float32(4)  # at least what a step away from the predictor adds
_NO_LIMIT = np.float32(1e30)


@numba.njit(cache=True, nogil=True)
def _put(field, row, column, x, y):  # type: ignore[no-untyped-def]
    for k in range(4):
        field[row + k // 2, column + k % 2, 0] = x
        field[row + k // 2, column + k % 2, 1] = y


@numba.njit(cache=True, nogil=True)
def _add(offered, count, x, y):  # type: ignore[no-untyped-def]
    """Offer a vector that was not offered yet; the new count."""
    for k in range(count):
        if offered[k, 0] == x and offered[k, 1] == y:
            return count
    offered[count, 0], offered[count, 1] = x, y
    return count + 1


@numba.njit(cache=True, nogil=True)
def _around(offered, count, field, row, column, size):  # type: ignore[no-untyped-def]
    """Offer the predictor of a block or square, the zero vector and those of its neighbours."""
    rows, columns = field.shape[0], field.shape[1]
    px, py = predict(field, row, column, size, 0), predict(field, row, column, size, 1)
    count = _add(offered, count, px, py)
    count = _add(offered, count, 0, 0)
    for k in range(6):
        r = row + (0, -1, 0, size, -1, size)[k]
        c = column + (-1, 0, size, 0, size, -1)[k]
        if 0 <= r < rows and 0 <= c < columns:
            count = _add(offered, count, np.int64(field[r, c, 0]), np.int64(field[r, c, 1]))
    return count


@numba.njit(cache=True, nogil=True, fastmath=True)
def _blocks_error(current, reference, field, row, column, begin, ox, oy, taps, lines):  # type: ignore[no-untyped-def]
    """Squared error of the four blocks of a square, each with its own vector."""
    total = np.float32(0)
    for k in range(4):
        r, c = row + k // 2, column + k % 2
        x, y = np.int64(field[r, c, 0]) + ox, np.int64(field[r, c, 1]) + oy
        total += block_error(
            current, reference, (begin + r) * BLOCK, c * BLOCK, BLOCK, x, y, taps, _NO_LIMIT, lines
        )
    return total


@numba.njit(cache=True, nogil=True)
def _near(changed, row, column):  # type: ignore[no-untyped-def]
    """Whether one of the squares around has changed."""
    for r in range(max(row - 1, 0), min(row + 2, changed.shape[0])):
        for c in range(max(column - 1, 0), min(column + 2, changed.shape[1])):
            if changed[r, c]:
                return True
    return False


@numba.njit(cache=True, nogil=True, fastmath=True)
def _settle(current, reference, expected, first, weight, taps, costs, passes, field, begin):  # type: ignore[no-untyped-def]
    """Change field, the band of block rows from `begin` on; see settled."""
    height, width = current.shape
    rows, columns = field.shape[0], field.shape[1]
    lines = np.empty((19, 16), np.float32)
    apart = np.zeros((rows, columns, 2), np.int32)
    field_bits(costs, field, apart, first)
    offered = np.zeros((16, 2), np.int64)
    own = np.zeros((4, 2), np.int64)
    changed = np.ones((rows // 2, columns // 2), np.bool_)
    for _ in range(passes):
        before = changed.copy()
        changed[:] = False
        for r in range(0, rows, 2):
            for c in range(0, columns, 2):
                if not (_near(before, r // 2, c // 2) or _near(changed, r // 2, c // 2)):
                    continue
                top, left = (begin + r) * BLOCK, c * BLOCK
                ox, oy = np.int64(expected[r, c, 0]), np.int64(expected[r, c, 1])
                error = _blocks_error(current, reference, field, r, c, begin, ox, oy, taps, lines)
                cost = error + weight * local_bits(costs, field, apart, first, r, c)
                count = 0
                for k in range(4):
                    own[k, 0], own[k, 1] = field[r + k // 2, c + k % 2]
                    count = _add(offered, count, own[k, 0], own[k, 1])
                split = is_split(field, r, c)
                skipped = 0 if split else 1  # a square as it is has been reckoned with
                count = _around(offered, count, field, r, c, 2)
                bx, by, better = np.int64(0), np.int64(0), False
                for k in range(skipped, count):
                    x = clip_vector(offered[k, 0] + ox, left, 16, width) - ox
                    y = clip_vector(offered[k, 1] + oy, top, 16, height) - oy
                    _put(field, r, c, x, y)
                    rate = weight * local_bits(costs, field, apart, first, r, c)
                    if rate >= cost:
                        continue
                    found = rate + block_error(
                        current, reference, top, left, 16, x + ox, y + oy, taps, cost - rate, lines
                    )
                    if found < cost:
                        cost, bx, by, better = found, x, y, True
                if better:
                    split = np.int64(0)
                    changed[r // 2, c // 2] = True
                elif not split:
                    bx, by = own[0, 0], own[0, 1]
                if split:
                    for k in range(4):
                        field[r + k // 2, c + k % 2, 0] = own[k, 0]
                        field[r + k // 2, c + k % 2, 1] = own[k, 1]
                    for k in range(4):
                        i, j = r + k // 2, c + k % 2
                        stop, sleft = (begin + i) * BLOCK, j * BLOCK
                        bx, by = own[k, 0], own[k, 1]
                        cost = block_error(
                            current, reference, stop, sleft, BLOCK, bx + ox, by + oy, taps,
                            _NO_LIMIT, lines,
                        )  # fmt: skip
                        cost += weight * local_bits(costs, field, apart, first, r, c)
                        count = _around(offered, _add(offered, 0, bx, by), field, i, j, 1)
                        for q in range(1, count):
                            x = clip_vector(offered[q, 0] + ox, sleft, BLOCK, width) - ox
                            y = clip_vector(offered[q, 1] + oy, stop, BLOCK, height) - oy
                            field[i, j, 0], field[i, j, 1] = x, y
                            rate = weight * local_bits(costs, field, apart, first, r, c)
                            if rate >= cost:
                                continue
                            found = rate + block_error(
                                current, reference, stop, sleft, BLOCK, x + ox, y + oy, taps,
                                cost - rate, lines,
                            )  # fmt: skip
                            if found < cost:
                                cost, bx, by = found, x, y
                                changed[r // 2, c // 2] = True
                        field[i, j, 0], field[i, j, 1] = bx, by
                else:
                    _put(field, r, c, bx, by)
                    px, py = predict(field, r, c, 2, 0), predict(field, r, c, 2, 1)
                    steps = 16 if bx != px or by != py or cost > _STEP_BITS * weight else 0
                    sx, sy = bx, by
                    for k in range(steps):
                        unit, side = 2 - k // 8, k % 8
                        if side == 0:
                            sx, sy = bx, by
                        x = sx + unit * (1, -1, 0, 0, 1, -1, 1, -1)[side]
                        y = sy + unit * (0, 0, 1, -1, 1, -1, -1, 1)[side]
                        if clip_vector(x + ox, left, 16, width) != x + ox:
                            continue
                        if clip_vector(y + oy, top, 16, height) != y + oy:
                            continue
                        _put(field, r, c, x, y)
                        rate = weight * local_bits(costs, field, apart, first, r, c)
                        if rate < cost:
                            found = rate + block_error(
                                current, reference, top, left, 16, x + ox, y + oy, taps,
                                cost - rate, lines,
                            )  # fmt: skip
                            if found < cost:
                                cost, bx, by = found, x, y
                                changed[r // 2, c // 2] = True
                    _put(field, r, c, bx, by)
                local_bits(costs, field, apart, first, r, c)


def settled(
    current: NDArray[np.uint8] | NDArray[np.float32],
    reference: NDArray[np.uint8],
    field: NDArray[np.int32],
    *,
    expected: NDArray[np.int32],
    weight: float,
    costs: NDArray[np.float32],
    first: NDArray[np.int32] | None = None,
) -> NDArray[np.int32]:
    """A field (rows, columns, 2) int32, rows and columns even, changed for the better.

    All as search_motion has it, which finds the field.
    """
    padded = np.pad(reference, MARGIN, mode="edge")
    apart = field - expected
    held = np.zeros_like(field) if first is None else np.ascontiguousarray(first, np.int32)

    def settle(begin: int, end: int) -> None:
        _settle(
            current, padded, expected[begin:end], held[begin:end], np.float32(weight), TAPS, costs,
            _PASSES, apart[begin:end], begin,
        )  # fmt: skip

    in_bands(len(field), settle)
    return apart + expected


def in_bands(rows: int, work: Callable[[int, int], None]) -> None:
    """Do work(begin, end) on rows of blocks, of large pictures on two halves side by side.

    The lower half knows no vector of the upper one: two threads, whatever their number.
    """
    if rows < _TWO_BANDS:
        work(0, rows)
        return
    half = rows // 4 * 2
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, 0, half), pool.submit(work, half, rows)]:
            done.result()
