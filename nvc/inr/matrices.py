"""Coded matrices of integers, the stuff every payload of weights is made of (docs/inr.md).

Each matrix is coded under static tables or by the adaptive matrix coder, whichever is smaller. The
static ones share two rANS payloads: the row steps of their models, and their values under the
tables that these name. Integers only on the way back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nvc.bitstream.bits import pack_varint, read_varint
from nvc.entropy import rans
from nvc.entropy.adaptive import decode_matrix, encode_matrix
from nvc.entropy.tables import SCALE_COUNT
from nvc.errors import StreamError
from nvc.inr.models import choose_model, table_indexes, weight_tables
from nvc.inr.parameters import STEP_CODE_LIMIT

_FAMILY = 64
_ROWS = 128
_ADAPTIVE = 255  # in place of a table of row steps


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns) a tensor of this shape is coded as; a vector is one row."""
    return (1, *shape) if len(shape) == 1 else (math.prod(shape[:-1]), shape[-1])


def as_matrix(symbols: np.ndarray) -> np.ndarray:
    """A tensor of any shape as the matrix it is coded as."""
    return symbols.reshape(matrix_shape(symbols.shape))


class Candidate:
    """A matrix and its cheaper coding: `payload` of the adaptive coder, or None for static."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix
        self.model = choose_model(matrix)
        self.bits = self.model.bits
        payload = encode_matrix(matrix)
        adaptive_bits = 8 * (len(payload) + len(pack_varint(len(payload))) + 1)
        self.payload = None
        if adaptive_bits < self.bits:
            self.payload, self.bits = payload, adaptive_bits


class MatrixWriter:
    """Collects coded matrices, and the static ones' values for the two payloads they share."""

    def __init__(self) -> None:
        self._adaptive: list[bytes] = []
        self._steps: list[np.ndarray] = []
        self._step_tables: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._tables: list[np.ndarray] = []

    def add(self, candidate: Candidate) -> bytes:
        """Take a matrix; the bytes that say how it is coded."""
        if candidate.payload is not None:
            self._adaptive.append(candidate.payload)
            return bytes((_ROWS, _ADAPTIVE)) + pack_varint(len(candidate.payload))
        matrix, model = candidate.matrix, candidate.model
        self._values.append(matrix.ravel())
        self._tables.append(model.indexes(*matrix.shape).ravel())
        first = model.base | _FAMILY * model.family
        if model.row_steps is None:
            return bytes((first,))
        table = choose_model(model.row_steps[None]).base
        self._steps.append(model.row_steps)
        self._step_tables.append(np.full(len(model.row_steps), table, dtype=np.uint8))
        return bytes((first | _ROWS, table))

    def to_bytes(self) -> bytes:
        """The adaptive payloads, the length of the row steps' payload, that one, the values'."""
        steps = _encode_static(self._steps, self._step_tables)
        values = _encode_static(self._values, self._tables)
        return b"".join((*self._adaptive, pack_varint(len(steps)), steps, values))


def _encode_static(values: list[np.ndarray], tables: list[np.ndarray]) -> bytes:
    if not values:
        return b""
    return rans.encode(np.concatenate(values), np.concatenate(tables), weight_tables())


def _decode_static(payload: bytes, tables: list[np.ndarray]) -> np.ndarray:
    if tables:
        return rans.decode(payload, np.concatenate(tables), weight_tables())
    if payload:
        raise StreamError("INR parameters: bytes that no matrix asks for")
    return np.empty(0, dtype=np.int32)


@dataclass(frozen=True)
class MatrixCoding:
    """How a matrix is coded, as its bytes say: static when `adaptive_length` is None."""

    family: int
    base: int
    step_table: int | None
    adaptive_length: int | None


def decode_matrices(
    reader: PayloadReader, shapes: list[tuple[int, ...]], codings: list[MatrixCoding]
) -> list[np.ndarray]:
    """The int32 matrices of these (rows, columns) and codings."""
    matrices: list[np.ndarray | None] = []
    static = []
    for shape, coding in zip(shapes, codings, strict=True):
        if coding.adaptive_length is None:
            static.append((shape, coding))
            matrices.append(None)
        else:
            matrices.append(decode_matrix(reader.take(coding.adaptive_length), *shape))
    steps = _decode_static(
        reader.take(reader.number(len(reader.data))),
        [
            np.full(shape[0], coding.step_table, dtype=np.uint8)
            for shape, coding in static
            if coding.step_table is not None
        ],
    )
    tables, used = [], 0
    for (rows, columns), coding in static:
        row_steps = None
        if coding.step_table is not None:
            row_steps = steps[used : used + rows]
            used += rows
        tables.append(table_indexes(coding.family, coding.base, row_steps, rows, columns).ravel())
    values = _decode_static(reader.rest(), tables)
    rest = iter(np.split(values, np.cumsum([len(table) for table in tables])[:-1]))
    return [
        next(rest).reshape(shape) if matrix is None else matrix
        for shape, matrix in zip(shapes, matrices, strict=True)
    ]


def pack_step(code: int) -> bytes:
    return (code & 0xFFFF).to_bytes(2, "little")


class PayloadReader:
    """Reads fields from a payload, never past its end."""

    def __init__(self, data: bytes) -> None:
        self.data = bytes(data)
        self._position = 0

    def number(self, limit: int) -> int:
        value, self._position = read_varint(self.data, self._position, len(self.data), limit=limit)
        return value

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self._position:
            raise StreamError("INR parameters end too early")
        self._position += count
        return self.data[self._position - count : self._position]

    def byte(self) -> int:
        return self.take(1)[0]

    def step(self) -> int:
        code = int.from_bytes(self.take(2), "little", signed=True)
        if abs(code) > STEP_CODE_LIMIT:
            raise StreamError(f"INR parameters: step code {code} is out of range")
        return code

    def coding(self) -> MatrixCoding:
        first = self.byte()
        table = length = None
        if first & _ROWS:
            table = self.byte()
            if table == _ADAPTIVE:
                length = self.number(len(self.data))
            elif table >= SCALE_COUNT:
                raise StreamError(f"INR parameters: no table has number {table}")
        return MatrixCoding((first & _FAMILY) // _FAMILY, first & (_FAMILY - 1), table, length)

    def rest(self) -> bytes:
        return self.take(len(self.data) - self._position)

    def finish(self) -> None:
        if self._position != len(self.data):
            raise StreamError("INR configuration: data after its end")
