"""Coding of the motion field: differences to a median predictor through the adaptive coder."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from nvc.bitstream.bits import pack_varint, read_varint
from nvc.entropy.adaptive import decode_matrix, encode_matrix
from nvc.errors import StreamError

MAX_VECTOR = 1 << 12  # quarter samples; a longer one marks a damaged stream


@numba.njit(cache=True, nogil=True)
def _median(a, b, c):
    return max(min(a, b), min(max(a, b), c))


@numba.njit(cache=True, nogil=True)
def _predict(field, row, column, axis):
    """Median of the left, upper and upper-right (else upper-left) vector, or what is there."""
    if row == 0:
        return field[row, column - 1, axis] if column > 0 else np.int32(0)
    above = field[row - 1, column, axis]
    if column == 0:
        return above
    corner = column + 1 if column + 1 < field.shape[1] else column - 1
    return _median(field[row, column - 1, axis], above, field[row - 1, corner, axis])


@numba.njit(cache=True, nogil=True)
def _differences(field, out):
    for row in range(field.shape[0]):
        for column in range(field.shape[1]):
            for axis in range(2):
                out[axis, row, column] = field[row, column, axis] - _predict(
                    field, row, column, axis
                )


@numba.njit(cache=True, nogil=True)
def _rebuild(differences, field, limit):
    for row in range(field.shape[0]):
        for column in range(field.shape[1]):
            for axis in range(2):
                value = differences[axis, row, column] + _predict(field, row, column, axis)
                if abs(value) > limit:
                    return False
                field[row, column, axis] = value
    return True


def encode_vectors(field: NDArray[np.int32]) -> bytes:
    """Bytes of a field (rows, columns, 2) in quarter samples; nothing for a field of zeros."""
    if not field.any():
        return b""
    rows, columns, _ = field.shape
    differences = np.empty((2, rows, columns), np.int32)
    _differences(np.ascontiguousarray(field, dtype=np.int32), differences)
    x, y = encode_matrix(differences[0]), encode_matrix(differences[1])
    return pack_varint(len(x)) + x + y


def decode_vectors(payload: bytes, rows: int, columns: int) -> NDArray[np.int32]:
    """The field (rows, columns, 2) int32 of these bytes. Raises StreamError on damaged ones."""
    field = np.zeros((rows, columns, 2), np.int32)
    if not payload:
        return field
    length, start = read_varint(payload, 0, len(payload), limit=len(payload))
    middle = start + length
    if middle > len(payload):
        raise StreamError("the motion field is cut off")
    differences = np.stack(
        (
            decode_matrix(payload[start:middle], rows, columns),
            decode_matrix(payload[middle:], rows, columns),
        )
    )
    if np.abs(differences).max() > 4 * MAX_VECTOR or not _rebuild(differences, field, MAX_VECTOR):
        raise StreamError("the motion field holds vectors out of range")
    return field
