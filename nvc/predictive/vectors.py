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
Used = NDArray[np.bool_]

MAX_VECTOR = 1 << 12  # quarter samples; a longer one marks a damaged stream


def encode_vectors(
    field: Field,
    model: NDArray[np.int32],
    *,
    first: Field | None = None,
    counts: NDArray[np.int64] | None = None,
    used: Used | None = None,
) -> bytes:
    """Bytes of a field (rows, columns, 2) int32 in quarter samples; nothing for one of zeros.

    model (CONTEXTS, 3): where the adaptive bits begin (contexts.py); first: the first field of a
    pair, when this is the second; counts (CONTEXTS, 2): the bits written are added to it; used (of
    squares of 2x2 blocks): where there are vectors to code, None everywhere. Elsewhere the field is
    given what a decoder finds there.
    """
    if np.abs(field).max(initial=0) > MAX_VECTOR:
        raise ValueError(f"a vector is longer than {MAX_VECTOR} quarter samples")
    if used is not None:
        spread = used.repeat(2, axis=0).repeat(2, axis=1)[: field.shape[0], : field.shape[1]]
        field[~spread] = 0
    if not field.any():
        return b""
    copy = np.array(field, dtype=np.int32, order="C")
    digits = np.empty(copy.size // 2 * vector_kernels.BYTES_PER_BLOCK + 256, dtype=np.uint16)
    if counts is None:
        counts = np.zeros((vector_kernels.CONTEXTS, 2), dtype=np.int64)
    coded = vector_kernels.write(
        copy, _first(first, copy), _used(used, copy), model.copy(), counts, MAX_VECTOR, digits
    )
    if used is not None:
        field[:] = copy
    return coded.tobytes().rstrip(b"\0")


def decode_vectors(
    payload: bytes,
    rows: int,
    columns: int,
    model: NDArray[np.int32],
    *,
    first: Field | None = None,
    used: Used | None = None,
) -> Field:
    """The field (rows, columns, 2) int32 of these bytes. Raises StreamError on damaged ones.

    model, first, used: as encode_vectors had them.
    """
    field = np.zeros((rows, columns, 2), np.int32)
    if not payload:
        return field
    data = np.frombuffer(payload, dtype=np.uint8).copy()
    looked_at = vector_kernels.read(
        data, _first(first, field), _used(used, field), model.copy(), MAX_VECTOR, field
    )
    if looked_at == vector_kernels.BAD_START:
        raise StreamError("the motion field starts as none does")
    if looked_at == vector_kernels.BAD_VECTOR:
        raise StreamError("the motion field holds vectors out of range")
    if data[-1] == 0 or looked_at < len(data):
        raise StreamError("the motion field has bytes left over")
    return field


def _first(first: Field | None, field: Field) -> Field:
    if first is None:
        return np.zeros_like(field)
    return np.ascontiguousarray(first, dtype=np.int32)


def _used(used: Used | None, field: Field) -> Used:
    if used is not None:
        return np.ascontiguousarray(used)
    return np.ones((-(-field.shape[0] // 2), -(-field.shape[1] // 2)), np.bool_)
