"""Planes to packed rows and back, enlarged and moved by vectors: kernels for inference on the CPU.

Rows are (cells, channels), float32 or bfloat16 (nvc.nn.fused); a cell is 8x8 luma samples and its
96 packed channels are those of nvc.nn.planes. Planes are (H, W) float32 in [0, 1]. Every function
here does what its namesake in nvc.nn.planes, nvc.predictive.motion does, in one pass over memory.
"""

from __future__ import annotations

import numba
import numpy as np

from nvc.nn.fused import load, multiply_add, store
from nvc.nn.planes import CHROMA_GAIN, LUMA_GAIN

MADE_WITH = "03394f8c4da0c96a"  # see nvc.entropy.jit
_LUMA, _CHROMA = np.float32(LUMA_GAIN), np.float32(CHROMA_GAIN)
_HALF = np.float32(0.5)


@numba.njit(nogil=True, cache=True, fastmath=True)
def pack(y, u, v, rows, at):  # type: ignore[no-untyped-def]
    """Planes into rows[:, at : at + 96]."""
    height, width = y.shape[0] // 8, y.shape[1] // 8
    for i in range(height):
        for j in range(width):
            row = rows[i * width + j]
            for dy in range(8):
                line = y[8 * i + dy]
                for dx in range(8):
                    store(row, at + 8 * dy + dx, (line[8 * j + dx] - _HALF) * _LUMA)
            for dy in range(4):
                first, second = u[4 * i + dy], v[4 * i + dy]
                for dx in range(4):
                    place = at + 64 + 4 * dy + dx
                    store(row, place, (first[4 * j + dx] - _HALF) * _CHROMA)
                    store(row, place + 16, (second[4 * j + dx] - _HALF) * _CHROMA)


@numba.njit(nogil=True, cache=True, fastmath=True)
def compose(y, u, v, fine, coarse, at, down, y_out, u_out, v_out):  # type: ignore[no-untyped-def]
    """Planes plus what the networks add, clamped to [0, 1], into planes.

    fine: (cells, 96) to be added, in samples; coarse: (blocks, down^2 * 96) likewise, the cells of
    a block behind each other in raster order; at (cells / down^2,) int32: which of its blocks, or
    -1 where nothing is added.
    """
    height, width = y.shape[0] // 8, y.shape[1] // 8
    zero, one = np.float32(0), np.float32(1)
    none = np.zeros(down * down * 96, coarse.dtype)
    for i in range(height):
        for j in range(width):
            row = fine[i * width + j]
            number = at[(i // down) * (width // down) + j // down]
            block = none if number < 0 else coarse[number]
            cell = 96 * ((i % down) * down + j % down)
            for dy in range(8):
                line, out = y[8 * i + dy], y_out[8 * i + dy]
                for dx in range(8):
                    c = 8 * dy + dx
                    value = line[8 * j + dx] + load(row[c]) + load(block[cell + c])
                    out[8 * j + dx] = min(max(value, zero), one)
            for dy in range(4):
                first, second = u[4 * i + dy], v[4 * i + dy]
                first_out, second_out = u_out[4 * i + dy], v_out[4 * i + dy]
                for dx in range(4):
                    c = 64 + 4 * dy + dx
                    value = first[4 * j + dx] + load(row[c]) + load(block[cell + c])
                    first_out[4 * j + dx] = min(max(value, zero), one)
                    c += 16
                    value = second[4 * j + dx] + load(row[c]) + load(block[cell + c])
                    second_out[4 * j + dx] = min(max(value, zero), one)


@numba.njit(nogil=True, cache=True, fastmath=True)
def unpack_cells(rows, down, out):  # type: ignore[no-untyped-def]
    """(blocks, down^2 * C) with `down` rows of `down` cells in each -> out (cells, C).

    out (H, W, C) tells the grid of cells.
    """
    height, width, channels = out.shape
    for i in range(height):
        for j in range(width):
            block = rows[(i // down) * (width // down) + j // down]
            at = channels * ((i % down) * down + j % down)
            target = out[i, j]
            for c in range(channels):
                target[c] = block[at + c]


@numba.njit(nogil=True, cache=True, fastmath=True)
def difference(y, u, v, ref_y, ref_u, ref_v, fine, rows):  # type: ignore[no-untyped-def]
    """Source planes, and source less prediction, packed into rows (cells, 192).

    The prediction is the reference planes plus fine (cells, 96), in samples.
    """
    height, width = y.shape[0] // 8, y.shape[1] // 8
    for i in range(height):
        for j in range(width):
            row, added = rows[i * width + j], fine[i * width + j]
            for dy in range(8):
                line, other = y[8 * i + dy], ref_y[8 * i + dy]
                for dx in range(8):
                    c, x = 8 * dy + dx, 8 * j + dx
                    store(row, c, (line[x] - _HALF) * _LUMA)
                    store(row, 96 + c, (line[x] - other[x] - load(added[c])) * _LUMA)
            for dy in range(4):
                for dx in range(4):
                    c, r, x = 64 + 4 * dy + dx, 4 * i + dy, 4 * j + dx
                    store(row, c, (u[r, x] - _HALF) * _CHROMA)
                    store(row, 96 + c, (u[r, x] - ref_u[r, x] - load(added[c])) * _CHROMA)
                    c += 16
                    store(row, c, (v[r, x] - _HALF) * _CHROMA)
                    store(row, 96 + c, (v[r, x] - ref_v[r, x] - load(added[c])) * _CHROMA)


@numba.njit(nogil=True, cache=True)
def to_levels(plane, peak, out):  # type: ignore[no-untyped-def]
    """Samples in [0, 1] rounded to integers 0..peak, for as many rows and columns as `out` has."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            value = plane[i, j] * peak + _HALF
            out[i, j] = np.int32(min(max(value, np.float32(0)), peak))


@numba.njit(nogil=True, cache=True)
def leave(source, moved):  # type: ignore[no-untyped-def]
    """moved (H, W) float32 becomes twice the source, (H, W) uint8, less what it was."""
    for i in range(moved.shape[0]):
        for j in range(moved.shape[1]):
            moved[i, j] = np.float32(2) * np.float32(source[i, j]) - moved[i, j]


@numba.njit(nogil=True, cache=True, fastmath=True)
def blend(first, second, share):  # type: ignore[no-untyped-def]
    """first (H, W) becomes its mix with second by share (rows, columns), of squares or their means.

    Either there are as many samples as squares or more, or a power of two fewer.
    """
    height, width = first.shape
    if height >= share.shape[0]:
        size = height // share.shape[0]
        for i in range(height):
            for j in range(width // size):
                part = share[i // size, j]
                for x in range(j * size, (j + 1) * size):
                    first[i, x] += (second[i, x] - first[i, x]) * part
        return
    many = share.shape[0] // height
    whole = np.float32(1) / np.float32(many * many)
    for i in range(height):
        for j in range(width):
            part = np.float32(0)
            for k in range(many * many):
                part += share[i * many + k // many, j * many + k % many]
            first[i, j] += (second[i, j] - first[i, j]) * (part * whole)


@numba.njit(nogil=True, cache=True, fastmath=True)
def shrink(plane, factor, out):  # type: ignore[no-untyped-def]
    """Area average of factor x factor samples."""
    share = np.float32(1 / (factor * factor))
    sums = np.empty(plane.shape[1], np.float32)
    for i in range(out.shape[0]):
        sums[:] = np.float32(0)
        for dy in range(factor):
            sums += plane[factor * i + dy]
        for j in range(out.shape[1]):
            total = np.float32(0)
            for dx in range(factor):
                total += sums[factor * j + dx]
            out[i, j] = total * share


@numba.njit(nogil=True, cache=True, fastmath=True)
def enlarge(plane, factor, out):  # type: ignore[no-untyped-def]
    """Bilinear enlargement by an integer factor, corners not aligned."""
    height, width = plane.shape
    mixed = np.empty(width + 2, np.float32)  # a row, its ends repeated
    for i in range(out.shape[0]):
        place = (np.float32(i) + _HALF) / np.float32(factor) - _HALF
        place = max(place, np.float32(0))
        top = int(place)
        below = min(top + 1, height - 1)
        part = place - np.float32(top)
        mixed[1 : width + 1] = plane[top] * (np.float32(1) - part) + plane[below] * part
        mixed[0], mixed[width + 1] = mixed[1], mixed[width]
        line = out[i]
        for phase in range(factor):
            across = (np.float32(phase) + _HALF) / np.float32(factor) - _HALF
            left = 0 if across < 0 else 1
            share = across + np.float32(1) if across < 0 else across
            for j in range(width):
                line[factor * j + phase] = (
                    mixed[j + left] * (np.float32(1) - share) + mixed[j + left + 1] * share
                )


@numba.njit(nogil=True, cache=True)
def _taps(phases):  # type: ignore[no-untyped-def]
    """(phases, 4): weights of cubic interpolation with a = -0.75 at the fractions n / phases."""
    a = np.float32(-0.75)
    one = np.float32(1)
    taps = np.empty((phases, 4), np.float32)
    for phase in range(phases):
        t = np.float32(phase) / np.float32(phases)
        for k in range(4):
            s = abs(t - np.float32(k - 1))
            if s <= one:
                taps[phase, k] = ((a + 2) * s - (a + 3)) * s * s + one
            else:
                taps[phase, k] = ((a * s - 5 * a) * s + 8 * a) * s - 4 * a
    return taps


@numba.njit(nogil=True, forceinline=True)
def _blend(weights, p, q, r, s):  # type: ignore[no-untyped-def]
    """Four samples weighed, in an order that no compiler chooses."""
    total = multiply_add(weights[1], np.float32(q), weights[0] * np.float32(p))
    total = multiply_add(weights[2], np.float32(r), total)
    return multiply_add(weights[3], np.float32(s), total)


# forceinline, since a call, and inline="always" as well, counts references to all the arrays.
@numba.njit(nogil=True, forceinline=True)
def _move_block(plane, top, left, size, x0, y0, across, down, rows, out):  # type: ignore[no-untyped-def]
    """One block of `out` at (top, left) from around (y0, x0) of plane, edges repeated.

    across, down: four weights each; rows (11, 8) is written.
    """
    height, width = plane.shape
    inside = x0 >= 1 and x0 + size + 2 <= width
    at_top, at_left = np.uint64(top), np.uint64(left)
    if inside and across[1] == 1 and down[1] == 1 and y0 >= 0 and y0 + size <= height:
        from_top, from_left = np.uint64(y0), np.uint64(x0)
        for r in range(size):
            for x in range(size):
                value = plane[from_top + np.uint64(r), from_left + np.uint64(x)]
                out[at_top + np.uint64(r), at_left + np.uint64(x)] = value
        return
    for r in range(size + 3):
        y = np.uint64(min(max(y0 + r - 1, 0), height - 1))
        if inside:
            begin = np.uint64(x0 - 1)
            for x in range(size):
                at = begin + np.uint64(x)
                rows[r, x] = _blend(
                    across, plane[y, at], plane[y, at + np.uint64(1)],
                    plane[y, at + np.uint64(2)], plane[y, at + np.uint64(3)],
                )  # fmt: skip
        else:
            for x in range(size):
                p = plane[y, min(max(x0 + x - 1, 0), width - 1)]
                q = plane[y, min(max(x0 + x, 0), width - 1)]
                s = plane[y, min(max(x0 + x + 1, 0), width - 1)]
                t = plane[y, min(max(x0 + x + 2, 0), width - 1)]
                rows[r, x] = _blend(across, p, q, s, t)
    for r in range(size):
        for x in range(size):
            value = _blend(down, rows[r, x], rows[r + 1, x], rows[r + 2, x], rows[r + 3, x])
            out[at_top + np.uint64(r), at_left + np.uint64(x)] = value


@numba.njit(nogil=True, cache=True, fastmath=True)
def move(plane, vectors, scale, out):  # type: ignore[no-untyped-def]
    """Plane moved by vectors (rows, columns, 2) int32, quarter luma samples, one for 8x8 of them.

    plane (H, W) float32 or uint8, out float32.
    scale: luma samples of the full picture a sample of this plane stands for, 1 to 16 and a power
    of two. Where several vectors fall on a sample it is their mean.
    """
    rows = np.empty((11, 8), np.float32)
    size = max(8 // scale, 1)
    many = max(scale // 8, 1)  # vectors down and across for a sample
    phases = 4 * scale * many * many  # units of the sum of those vectors in a sample
    bits = 0
    while phases >> (bits + 1):
        bits += 1
    taps = _taps(phases)
    for i in range(out.shape[0] // size):
        for j in range(out.shape[1] // size):
            vx = vy = np.int64(0)
            for di in range(many):
                for dj in range(many):
                    vx += vectors[i * many + di, j * many + dj, 0]
                    vy += vectors[i * many + di, j * many + dj, 1]
            # Weights in variables: else the compiler reads them again at every sample.
            x, y = np.uint64(vx & (phases - 1)), np.uint64(vy & (phases - 1))
            across = taps[x, 0], taps[x, 1], taps[x, 2], taps[x, 3]
            down = taps[y, 0], taps[y, 1], taps[y, 2], taps[y, 3]
            top, left = i * size, j * size
            x0, y0 = left + (vx >> bits), top + (vy >> bits)
            if size == 8:  # sizes the compiler knows are unrolled
                _move_block(plane, top, left, 8, x0, y0, across, down, rows, out)
            elif size == 4:
                _move_block(plane, top, left, 4, x0, y0, across, down, rows, out)
            elif size == 2:
                _move_block(plane, top, left, 2, x0, y0, across, down, rows, out)
            else:
                _move_block(plane, top, left, 1, x0, y0, across, down, rows, out)
