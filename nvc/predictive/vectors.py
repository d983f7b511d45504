"""Coding of the motion field: squares of 2x2 blocks, predicted vectors, adaptive bits.

The adaptive bits and their arithmetic are those of nvc.entropy.adaptive. A field depends on nothing
but itself, so that it can be read whatever was lost before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvc.entropy.adaptive_kernels import HALF
from nvc.errors import StreamError
from nvc.predictive import vector_kernels

MAX_VECTOR = 1 << 12  # quarter samples; a longer one marks a damaged stream


def encode_vectors(field: NDArray[np.int32]) -> bytes:
    """Bytes of a field (rows, columns, 2) in quarter samples; nothing for a field of zeros."""
    if not field.any():
        return b""
    if np.abs(field).max() > MAX_VECTOR:
        raise ValueError(f"a vector is longer than {MAX_VECTOR} quarter samples")
    copy = np.array(field, dtype=np.int32, order="C")
    output = np.empty(copy.size // 2 * vector_kernels.BYTES_PER_BLOCK + 256, dtype=np.uint8)
    used = vector_kernels.write(copy, _model(), MAX_VECTOR, output)
    return output[1:used].tobytes().rstrip(b"\0")


def decode_vectors(payload: bytes, rows: int, columns: int) -> NDArray[np.int32]:
    """The field (rows, columns, 2) int32 of these bytes. Raises StreamError on damaged ones."""
    field = np.zeros((rows, columns, 2), np.int32)
    if not payload:
        return field
    data = np.frombuffer(payload, dtype=np.uint8).copy()
    used = vector_kernels.read(data, _model(), MAX_VECTOR, field)
    if used == vector_kernels.BAD_START:
        raise StreamError("the motion field starts as none does")
    if used == vector_kernels.BAD_VECTOR:
        raise StreamError("the motion field holds vectors out of range")
    if data[-1] == 0 or used < len(data):
        raise StreamError("the motion field has bytes left over")
    return field


def _model() -> NDArray[np.int32]:
    """Even bits to begin with: fast and slow probability times 2**24, count; (CONTEXTS, 3)."""
    model = np.zeros((vector_kernels.CONTEXTS, 3), dtype=np.int32)
    model[:, :2] = HALF << 8
    return model
