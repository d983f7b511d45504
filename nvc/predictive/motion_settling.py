"""A second look at a motion field, with the bits that its coder really spends.

The search goes from square to square with rough bits and knows nothing of what comes behind, whose
predictor every vector is. Here each square is offered the vectors around it, on all sides, and
small steps from its own, and takes what costs least in squared errors and in the bits of itself and
of the squares it predicts (iterated conditional modes: J. Besag, J. R. Stat. Soc. B 48-3, 1986).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from nvc.predictive.block_error import BLOCK, MARGIN, TAPS, block_error
from nvc.predictive.motion_price import ERROR_SLOPE, Price, on_grid, weight_at
from nvc.predictive.vector_conditions import beside_of, is_split, predict
from nvc.predictive.vector_rates import field_bits, local_bits

MADE_WITH = "0f333a471d8bc967"  # see nvc.entropy.jit
_PASSES = 2
_TWO_BANDS = 128  # rows of blocks from which the upper and lower half are done side by side
_STEP_BITS = np.float32(4)  # worth of the error from which small steps are tried
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


class _Views(NamedTuple):
    """What block_error is given beside a block and a vector."""

    current: NDArray[np.float32]
    reference: NDArray[np.uint8]  # with MARGIN samples around
    taps: NDArray[np.float32]
    lines: NDArray[np.float32]


class _Square(NamedTuple):
    """A square of a band of a field, at an even row and column, and what its bits depend on."""

    costs: NDArray[np.float32]
    field: NDArray[np.int32]
    apart: NDArray[np.int32]
    beside: NDArray[np.int32]
    price: Price
    weight: np.float32  # of a bit here
    begin: int  # the band's first row in the picture
    row: int
    column: int
    ox: int  # the vector expected
    oy: int


@numba.njit(cache=True, nogil=True)
def _rate(square):  # type: ignore[no-untyped-def]
    return square.weight * local_bits(
        square.costs, square.field, square.apart, square.beside, square.row, square.column,
        square.price.unit,
    )  # fmt: skip


@numba.njit(cache=True, nogil=True, fastmath=True)
def _error(views, square, at, size, x, y, limit):  # type: ignore[no-untyped-def]
    """Squared error of the block or square `at` moved by (x, y) from what is expected."""
    top, left = (square.begin + at[0]) * BLOCK, at[1] * BLOCK
    x, y = x + square.ox, y + square.oy
    return block_error(
        views.current, views.reference, top, left, size, x, y, views.taps, limit, views.lines
    )


@numba.njit(cache=True, nogil=True)
def _inside(views, square, at, size, x, y):  # type: ignore[no-untyped-def]
    """The vector nearest to (x, y) that the block or square `at` may have."""
    height, width = views.current.shape
    top, left = (square.begin + at[0]) * BLOCK, at[1] * BLOCK
    unit = square.price.unit
    x = on_grid(x, left, size, width, square.ox, unit)
    return x, on_grid(y, top, size, height, square.oy, unit)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _offer(views, square, at, size, x, y, cost):  # type: ignore[no-untyped-def]
    """Cost of a square with (x, y) in its block or square `at` of so many samples, put there.

    Of no meaning but to be too large once it reaches `cost`.
    """
    field = square.field
    r, c = at
    if size == BLOCK:
        field[r, c, 0], field[r, c, 1] = x, y
    else:
        _put(field, r, c, x, y)
    rate = _rate(square)
    if rate >= cost:
        return cost
    return rate + _error(views, square, at, size, x, y, cost - rate)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _best_of(views, square, at, size, offered, count, start, cost):  # type: ignore[no-untyped-def]
    """The cheapest of the vectors offered from `start` on: its number or -1, and its cost."""
    best = -1
    for k in range(start, count):
        x, y = _inside(views, square, at, size, offered[k, 0], offered[k, 1])
        offered[k, 0], offered[k, 1] = x, y
        found = _offer(views, square, at, size, x, y, cost)
        if found < cost:
            best, cost = k, found
    return best, cost


@numba.njit(cache=True, nogil=True, fastmath=True)
def _step(views, square, at, x, y, cost):  # type: ignore[no-untyped-def]
    """The best of small steps from the vector of a square, which is put there."""
    field, (row, column) = square.field, at
    _put(field, row, column, x, y)
    # Steps make smaller errors and seldom fewer bits.
    if cost - _rate(square) > _STEP_BITS * square.weight:
        for double in (2, 1):
            unit = double * square.price.unit
            from_x, from_y = x, y
            for k in range(8):
                nx = from_x + unit * (1, -1, 0, 0, 1, -1, 1, -1)[k]
                ny = from_y + unit * (0, 0, 1, -1, 1, -1, -1, 1)[k]
                ax, ay = _inside(views, square, at, 16, nx, ny)
                if ax != nx or ay != ny:
                    continue
                found = _offer(views, square, at, 16, nx, ny, cost)
                if found < cost:
                    cost, x, y = found, nx, ny
    _put(field, row, column, x, y)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _settle_blocks(views, square, offered):  # type: ignore[no-untyped-def]
    """Blocks of a square whose vectors differ, one after the other."""
    field, row, column = square.field, square.row, square.column
    for k in range(4):
        at = (row + k // 2, column + k % 2)
        x, y = np.int64(field[at[0], at[1], 0]), np.int64(field[at[0], at[1], 1])
        cost = _offer(views, square, at, BLOCK, x, y, _NO_LIMIT)
        count = _around(offered, _add(offered, 0, x, y), field, at[0], at[1], 1)
        best, _ = _best_of(views, square, at, BLOCK, offered, count, 1, cost)
        if best >= 0:
            x, y = offered[best, 0], offered[best, 1]
        field[at[0], at[1], 0], field[at[0], at[1], 1] = x, y


@numba.njit(cache=True, nogil=True)
def _priced(square, weight):  # type: ignore[no-untyped-def]
    return _Square(
        square.costs, square.field, square.apart, square.beside, square.price, weight, square.begin,
        square.row, square.column, square.ox, square.oy,
    )  # fmt: skip


@numba.njit(cache=True, nogil=True, fastmath=True)
def _settle_square(views, square, offered, own):  # type: ignore[no-untyped-def]
    """Give a square what costs least; whether that is something else. offered, own: scratch."""
    field, row, column = square.field, square.row, square.column
    at = (row, column)
    cost = np.float32(0)
    count = 0
    for k in range(4):
        block = (row + k // 2, column + k % 2)
        x, y = np.int64(field[block[0], block[1], 0]), np.int64(field[block[0], block[1], 1])
        own[k, 0], own[k, 1] = x, y
        count = _add(offered, count, x, y)
        cost += _error(views, square, block, BLOCK, x, y, _NO_LIMIT)
    square = _priced(square, weight_at(square.price, cost, 16))
    cost += _rate(square)
    split = is_split(field, row, column)
    count = _around(offered, count, field, row, column, 2)
    # A square that is one vector already has been reckoned with.
    best, cost = _best_of(views, square, at, 16, offered, count, 0 if split else 1, cost)
    if best < 0 and split:
        for k in range(4):
            field[row + k // 2, column + k % 2, 0] = own[k, 0]
            field[row + k // 2, column + k % 2, 1] = own[k, 1]
        _settle_blocks(views, square, offered)
    else:
        best = max(best, 0)
        _step(views, square, at, offered[best, 0], offered[best, 1], cost)
    _rate(square)  # leaves what is apart as it is now
    changed = False
    for k in range(4):
        for axis in range(2):
            changed |= field[row + k // 2, column + k % 2, axis] != own[k, axis]
    return changed


@numba.njit(cache=True, nogil=True)
def _alone(field, row, column):  # type: ignore[no-untyped-def]
    """Whether no block in or around a square has another vector, so that nothing is offered."""
    for r in range(max(row - 1, 0), min(row + 3, field.shape[0])):
        for c in range(max(column - 1, 0), min(column + 3, field.shape[1])):
            for axis in range(2):
                if field[r, c, axis] != field[row, column, axis]:
                    return False
    return True


@numba.njit(cache=True, nogil=True)
def _near(changed, row, column):  # type: ignore[no-untyped-def]
    """Whether one of the squares around has changed."""
    for r in range(max(row - 1, 0), min(row + 2, changed.shape[0])):
        for c in range(max(column - 1, 0), min(column + 2, changed.shape[1])):
            if changed[r, c]:
                return True
    return False


@numba.njit(cache=True, nogil=True, fastmath=True)
def _settle(current, reference, expected, beside, price, taps, costs, passes, field, begin):  # type: ignore[no-untyped-def]
    """Change field, the band of block rows from `begin` on; see settled."""
    rows, columns = field.shape[0], field.shape[1]
    views = _Views(current, reference, taps, np.empty((19, 16), np.float32))
    apart = np.zeros((rows, columns, 2), np.int32)
    field_bits(costs, field, apart, beside, price.unit)
    offered, own = np.zeros((16, 2), np.int64), np.zeros((4, 2), np.int64)
    changed = np.ones((rows // 2, columns // 2), np.bool_)
    for _ in range(passes):
        before = changed.copy()
        changed[:] = False
        for r in range(0, rows, 2):
            for c in range(0, columns, 2):
                if _alone(field, r, c):
                    continue
                if _near(before, r // 2, c // 2) or _near(changed, r // 2, c // 2):
                    ox, oy = np.int64(expected[r, c, 0]), np.int64(expected[r, c, 1])
                    square = _Square(
                        costs, field, apart, beside, price, price.weight, begin, r, c, ox, oy
                    )
                    changed[r // 2, c // 2] = _settle_square(views, square, offered, own)


def settled(
    current: NDArray[np.uint8] | NDArray[np.float32],
    reference: NDArray[np.uint8],
    field: NDArray[np.int32],
    *,
    expected: NDArray[np.int32],
    weight: float,
    costs: NDArray[np.float32],
    first: NDArray[np.int32] | None = None,
    unit: int = 1,
) -> NDArray[np.int32]:
    """A field (rows, columns, 2) int32, rows and columns even, changed for the better.

    All as search_motion has it, which finds the field.
    """
    current = np.ascontiguousarray(current, np.float32)
    padded = np.pad(reference, MARGIN, mode="edge")
    apart = field - expected
    price = Price(np.float32(weight), np.float32(ERROR_SLOPE), unit)
    beside = beside_of(first, field.shape[:2])

    def settle(begin: int, end: int) -> None:
        _settle(
            current, padded, expected[begin:end], beside[begin:end], price, TAPS, costs, _PASSES,
            apart[begin:end], begin,
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
