"""Block motion search of the encoder: one quarter-pel vector for each 8x8 block of luma.

Rate-aware hierarchical search on the reconstruction: a full search on pictures shrunk by eight and
a small one on pictures shrunk by four give a start far away, predictors from decided neighbours and
the previous field give the likely ones, a diamond refines to whole, half and quarter samples, and a
16x16 block splits only where that pays. The decoder sees nothing of this: any field is valid.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from nvc.predictive.block_error import BLOCK, MARGIN, TAPS, block_error, clip_vector
from nvc.predictive.coarse_search import NEAR, coarse_search
from nvc.predictive.motion_price import ERROR_SLOPE, Price, on_grid, weight_at
from nvc.predictive.motion_settling import in_bands, settled
from nvc.predictive.vector_conditions import predict

MADE_WITH = "12bf61f65ed28fcd"  # see nvc.entropy.jit


@numba.njit(cache=True, nogil=True)
def _component_bits(d, unit):
    """Rough cost in bits of a vector difference component under the vector coder."""
    d = abs(d) // unit
    bits = np.float32(0.6)
    if d > 0:
        bits = np.float32(3.0)
        while d > 1:
            d >>= 1
            bits += np.float32(1.6)
    return bits


@numba.njit(cache=True, nogil=True)
def _vector_bits(x, y, known, unit):
    """Rough cost in bits of a vector; known (4, 2): see _know."""
    if x == known[0, 0] and y == known[0, 1]:
        return np.float32(0.3)
    for k in range(1, 4):
        if x == known[k, 0] and y == known[k, 1]:
            return np.float32(1.5 + k)
    bits = _component_bits(x - known[0, 0], unit) + _component_bits(y - known[0, 1], unit)
    return np.float32(3.5) + bits


@numba.njit(cache=True, nogil=True)
def _know(known, field, row, column, size):
    """Fill known (4, 2) with what is cheap to send: predictor, left, upper and zero vector."""
    for axis in range(2):
        known[0, axis] = predict(field, row, column, size, axis)
        known[1, axis] = field[row, column - 1, axis] if column > 0 else 0
        known[2, axis] = field[row - 1, column, axis] if row > 0 else 0
        known[3, axis] = 0


@numba.njit(cache=True, nogil=True, fastmath=True)
def _refine(
    current, reference, top, left, size, mvx, mvy, cost, known, weight, unit, taps, step, rounds,
    lines, ox, oy,
):  # fmt: skip
    """Diamond descent in steps of `step` quarter samples; returns the best vector and its cost.

    Vectors are less (ox, oy), the one expected; unit: that of vectors, at most `step`.
    """
    height, width = current.shape
    last_x, last_y = mvx + 4 * step, mvy  # not near what is looked at first
    for _ in range(rounds):
        bx, by = mvx, mvy
        for k in range(8):
            dx = step * (1 if k in (0, 4, 6) else (-1 if k in (1, 5, 7) else 0))
            dy = step * (1 if k in (2, 4, 5) else (-1 if k in (3, 6, 7) else 0))
            nx, ny = mvx + dx, mvy + dy
            if abs(nx - last_x) <= step and abs(ny - last_y) <= step:
                continue  # seen from where the last round began
            ax, ay = nx + ox, ny + oy
            if clip_vector(ax, left, size, width) != ax or clip_vector(ay, top, size, height) != ay:
                continue
            rate = weight * _vector_bits(nx, ny, known, unit)
            if rate >= cost:
                continue
            error = rate + block_error(
                current, reference, top, left, size, ax, ay, taps, cost - rate, lines
            )
            if error < cost:
                cost, bx, by = error, nx, ny
        if bx == mvx and by == mvy:
            break
        last_x, last_y = mvx, mvy
        mvx, mvy = bx, by
    return mvx, mvy, cost


@numba.njit(cache=True, nogil=True)
def _seen(candidates, count):
    """Whether candidate number `count` is one of those before it."""
    for k in range(count):
        if candidates[k, 0] == candidates[count, 0] and candidates[k, 1] == candidates[count, 1]:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _at_its_price(price, weight, cost, size, x, y, known):
    """Cost of a square with the weight that its error asks for, and that weight.

    cost: with `weight` for a bit of the vector (x, y).
    """
    bits = _vector_bits(x, y, known, price.unit)
    error = cost - np.float32(weight * bits)
    own = weight_at(price, error, size)
    return error + np.float32(own * bits), own


@numba.njit(cache=True, nogil=True, fastmath=True)
def _search(current, reference, coarse, previous, expected, price, taps, field, begin):
    """Fill field (rows, columns, 2), the band of block rows from `begin` on, less what is expected.

    previous, expected: likewise; what is expected is one vector in each square of 2x2.
    """
    height, width = current.shape
    rows, columns = field.shape[0], field.shape[1]
    weight, unit = price.weight, price.unit
    candidates = np.zeros((12, 2), np.int64)
    known = np.zeros((4, 2), np.int64)
    lines = np.empty((19, 16), np.float32)
    for r in range(0, rows, 2):
        for c in range(0, columns, 2):
            top, left = (begin + r) * BLOCK, c * BLOCK
            size = 2 * BLOCK
            ox, oy = np.int64(expected[r, c, 0]), np.int64(expected[r, c, 1])
            _know(known, field, r, c, 2)
            candidates[:4] = known
            n = 4
            if r > 0 and c + 2 < columns:
                candidates[n] = field[r - 1, c + 2, 0], field[r - 1, c + 2, 1]
                n += 1
            candidates[n] = previous[r, c, 0] - ox, previous[r, c, 1] - oy
            n += 1
            cr, cc = (begin + r) // 4, c // 4
            below = (begin + r) % 4 >= 2
            for k in range(3):
                kr = min(max(cr + (k == 1) * (1 if below else -1), 0), coarse.shape[0] - 1)
                kc = min(max(cc + (k == 2) * (1 if c % 4 >= 2 else -1), 0), coarse.shape[1] - 1)
                candidates[n] = coarse[kr, kc, 0] * 16 - ox, coarse[kr, kc, 1] * 16 - oy
                n += 1
            cost = np.float32(1e30)
            mvx = mvy = np.int64(0)
            for k in range(n):
                if _seen(candidates, k):
                    continue
                nx = on_grid(candidates[k, 0], left, size, width, ox, unit)
                ny = on_grid(candidates[k, 1], top, size, height, oy, unit)
                rate = np.float32(weight * _vector_bits(nx, ny, known, unit))
                error = rate + block_error(
                    current, reference, top, left, size, nx + ox, ny + oy, taps, cost - rate,
                    lines,
                )  # fmt: skip
                if error < cost:
                    cost, mvx, mvy = error, nx, ny
            cost, own = _at_its_price(price, weight, cost, size, mvx, mvy, known)
            for step, rounds in ((4, 16), (2, 2), (1, 2)):
                if step >= unit:
                    mvx, mvy, cost = _refine(
                        current, reference, top, left, size, mvx, mvy, cost, known, own, unit,
                        taps, step, rounds, lines, ox, oy,
                    )  # fmt: skip
            for k in range(4):
                field[r + k // 2, c + k % 2, 0] = mvx
                field[r + k // 2, c + k % 2, 1] = mvy
            if cost < size * size:  # already about one level a sample: no split
                continue
            split = np.zeros((4, 2), np.int64)
            cost, own = _at_its_price(price, own, cost, size, mvx, mvy, known)
            split_cost = np.float32(2 * own)
            for k in range(4):
                sr, sc = r + k // 2, c + k % 2
                stop, sleft = (begin + sr) * BLOCK, sc * BLOCK
                _know(known, field, sr, sc, 1)
                candidates[:4] = known
                candidates[4] = mvx, mvy
                candidates[5] = previous[sr, sc, 0] - ox, previous[sr, sc, 1] - oy
                best = np.float32(1e30)
                bx = by = np.int64(0)
                for q in range(6):
                    if _seen(candidates, q):
                        continue
                    nx = on_grid(candidates[q, 0], sleft, BLOCK, width, ox, unit)
                    ny = on_grid(candidates[q, 1], stop, BLOCK, height, oy, unit)
                    rate = np.float32(own * _vector_bits(nx, ny, known, unit))
                    error = rate + block_error(
                        current, reference, stop, sleft, BLOCK, nx + ox, ny + oy, taps,
                        best - rate, lines,
                    )  # fmt: skip
                    if error < best:
                        best, bx, by = error, nx, ny
                for step, rounds in ((4, 4), (2, 1), (1, 1)):
                    if step >= unit:
                        bx, by, best = _refine(
                            current, reference, stop, sleft, BLOCK, bx, by, best, known, own,
                            unit, taps, step, rounds, lines, ox, oy,
                        )  # fmt: skip
                split[k] = bx, by
                split_cost += best
                field[sr, sc, 0], field[sr, sc, 1] = bx, by
                if split_cost >= cost:
                    break
            if split_cost >= cost:
                for k in range(4):
                    field[r + k // 2, c + k % 2, 0] = mvx
                    field[r + k // 2, c + k % 2, 1] = mvy


def search_motion(
    current: NDArray[np.uint8] | NDArray[np.float32],
    reference: NDArray[np.uint8],
    *,
    previous: NDArray[np.int32] | None = None,
    weight: float = 40.0,
    expected: NDArray[np.int32] | None = None,
    coarse_of: NDArray[np.uint8] | None = None,
    costs: NDArray[np.float32] | None = None,
    first: NDArray[np.int32] | None = None,
    unit: int = 1,
    reach: int = NEAR,
) -> NDArray[np.int32]:
    """Vectors (H/8, W/8, 2) int32 (x, y) in quarter samples, from current into reference.

    `current`, `reference` (H, W) uint8 luma with H, W multiples of 16; `previous` the last field;
    `weight` the cost of one bit in squared levels of 255. `expected`: a field, one vector in each
    square of 2x2 blocks, from which differences cost. `current` may be float32, of any range; then
    `coarse_of` is what the coarse search looks at. `costs`: bits of every decision of the vector
    coder (vector_rates.code_lengths), by which what was found is settled (motion_settling.py), with
    `first`, of a pair of fields the differences of the first, when this is the second. Then a bit
    is the dearer the larger the error of its square is, too (motion_price.py). `unit`: quarter
    samples that vectors, less what is expected, are multiples of: 1, 2 or 4; `reach`: samples that
    the coarse search goes; others may lead on to REACH.
    """
    height, width = current.shape
    if current.shape != reference.shape or height % 16 or width % 16:
        raise ValueError(
            f"motion search needs two pictures of one size in multiples of 16, "
            f"not {current.shape} and {reference.shape}"
        )
    if previous is None:
        previous = np.zeros((height // BLOCK, width // BLOCK, 2), np.int32)
    if expected is None:
        expected = np.zeros_like(previous)
    seen = current if coarse_of is None else coarse_of
    coarse = coarse_search(seen, reference, reach=reach)  # type: ignore[arg-type]
    current = np.ascontiguousarray(current, np.float32)  # so that kernels are compiled once
    padded = np.pad(reference, MARGIN, mode="edge")
    field = np.zeros((height // BLOCK, width // BLOCK, 2), np.int32)

    slope = 0.0 if costs is None else ERROR_SLOPE
    price = Price(np.float32(weight), np.float32(slope), unit)

    def search(begin: int, end: int) -> None:
        _search(
            current, padded, coarse, previous[begin:end], expected[begin:end], price, TAPS,
            field[begin:end], begin,
        )  # fmt: skip

    in_bands(len(field), search)
    found = field + expected
    if costs is None:
        return found
    return settled(
        current,
        reference,
        found,
        expected=expected,
        weight=weight,
        costs=costs,
        first=first,
        unit=unit,
    )
