"""Coding of the motion field: squares of 2x2 blocks, predicted vectors, adaptive bits.

The adaptive bits and their arithmetic are those of nvc.entropy.adaptive. A field depends on nothing
but itself, and the second of a pair on the first, so that it can be read whatever was lost before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvc.errors import StreamError
from nvc.predictive import vector_kernels
from nvc.predictive.vector_conditions import CONTEXTS, beside_of

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
    unit: int = 1,
) -> bytes:
    """Bytes of a field (rows, columns, 2) int32 in quarter samples; nothing for one of zeros.

    model (CONTEXTS, 3): where the adaptive bits begin (contexts.py); first: the first field of a
    pair, when this is the second; counts (CONTEXTS, 2): the bits written are added to it; used (of
    squares of 2x2 blocks): where there are vectors to code, None everywhere. Elsewhere the field is
    given what a decoder finds there. unit: 1, 2 or 4, which all vectors are multiples of.
    """
    rows, columns, _ = field.shape
    if np.abs(field).max(initial=0) > MAX_VECTOR:
        raise ValueError(f"a vector is longer than {MAX_VECTOR} quarter samples")
    if used is not None:
        spread = used.repeat(2, axis=0).repeat(2, axis=1)[:rows, :columns]
        field[~spread] = 0
    if (field % unit).any():
        raise ValueError(f"a vector is no multiple of {unit} quarter samples")
    if not field.any():
        return b""
    copy = _even(field)
    digits = np.empty(copy.size // 2 * vector_kernels.BYTES_PER_BLOCK + 256, dtype=np.uint16)
    if counts is None:
        counts = np.zeros((CONTEXTS, 2), dtype=np.int64)
    beside = _beside(first, copy)
    coded = vector_kernels.write(
        copy, beside, _used(used, copy), model.copy(), counts, unit, MAX_VECTOR, digits
    )
    if used is not None:
        field[:] = copy[:rows, :columns]
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
    field = np.zeros((rows + rows % 2, columns + columns % 2, 2), np.int32)
    if payload:
        data = np.frombuffer(payload, dtype=np.uint8).copy()
        beside = _beside(first, field)
        looked_at = vector_kernels.read(
            data, beside, _used(used, field), model.copy(), MAX_VECTOR, field
        )
        if looked_at == vector_kernels.BAD_START:
            raise StreamError("the motion field starts as none does")
        if looked_at == vector_kernels.BAD_VECTOR:
            raise StreamError("the motion field holds vectors out of range")
        if data[-1] == 0 or looked_at < len(data):
            raise StreamError("the motion field has bytes left over")
    return np.ascontiguousarray(field[:rows, :columns])


def _even(field: Field) -> Field:
    """A copy with even sides, in which whole squares lie; the last row and column are repeated."""
    rows, columns, _ = field.shape
    sides = ((0, rows % 2), (0, columns % 2), (0, 0))
    return np.ascontiguousarray(np.pad(field, sides, mode="edge"), dtype=np.int32)


def _beside(first: Field | None, field: Field) -> NDArray[np.int32]:
    """What the coder is given of the first field of a pair."""
    return beside_of(None if first is None else _even(first), field.shape[:2])


def _used(used: Used | None, field: Field) -> Used:
    if used is not None:
        return np.ascontiguousarray(used)
    return np.ones((field.shape[0] // 2, field.shape[1] // 2), np.bool_)
