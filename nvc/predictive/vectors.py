"""Coding of the motion field: squares of 2x2 blocks, predicted vectors, adaptive bits.

The adaptive bits and their arithmetic are those of nvc.entropy.adaptive. A field depends on nothing
but itself, and the second of a pair on the first, so that it can be read whatever was lost before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvc.errors import StreamError
from nvc.predictive import vector_kernels

Field = NDArray[np.int32]

MAX_VECTOR = 1 << 12  # quarter samples; a longer one marks a damaged stream


def encode_vectors(
    field: Field,
    model: NDArray[np.int32],
    *,
    first: Field | None = None,
    counts: NDArray[np.int64] | None = None,
) -> bytes:
    """Bytes of a field (rows, columns, 2) in quarter samples; nothing for a field of zeros.

    model (CONTEXTS, 3): where the adaptive bits begin (contexts.py); first: the first field of a
    pair, when this is the second; counts (CONTEXTS, 2): the bits written are added to it.
    """
    if not field.any():
        return b""
    if np.abs(field).max() > MAX_VECTOR:
        raise ValueError(f"a vector is longer than {MAX_VECTOR} quarter samples")
    copy = np.array(field, dtype=np.int32, order="C")
    digits = np.empty(copy.size // 2 * vector_kernels.BYTES_PER_BLOCK + 256, dtype=np.uint16)
    if counts is None:
        counts = np.zeros((vector_kernels.CONTEXTS, 2), dtype=np.int64)
    coded = vector_kernels.write(
        copy, _first(first, copy), model.copy(), counts, MAX_VECTOR, digits
    )
    return coded.tobytes().rstrip(b"\0")


def decode_vectors(
    payload: bytes,
    rows: int,
    columns: int,
    model: NDArray[np.int32],
    *,
    first: Field | None = None,
) -> Field:
    """The field (rows, columns, 2) int32 of these bytes. Raises StreamError on damaged ones."""
    field = np.zeros((rows, columns, 2), np.int32)
    if not payload:
        return field
    data = np.frombuffer(payload, dtype=np.uint8).copy()
    used = vector_kernels.read(data, _first(first, field), model.copy(), MAX_VECTOR, field)
    if used == vector_kernels.BAD_START:
        raise StreamError("the motion field starts as none does")
    if used == vector_kernels.BAD_VECTOR:
        raise StreamError("the motion field holds vectors out of range")
    if data[-1] == 0 or used < len(data):
        raise StreamError("the motion field has bytes left over")
    return field


def _first(first: Field | None, field: Field) -> Field:
    if first is None:
        return np.zeros_like(field)
    return np.ascontiguousarray(first, dtype=np.int32)
