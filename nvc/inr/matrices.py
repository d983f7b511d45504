"""Coded matrices of integers, the stuff every payload of weights is made of (docs/inr.md).

Each matrix is coded under static tables or by the adaptive matrix coder, whichever is smaller. The
static ones share two rANS payloads: the steps and levels of their models, and their values under
the tables that these name. Integers only on the way back.
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
from nvc.inr.models import (
    MAX_HISTOGRAMS,
    MAX_LEVELS,
    HistogramModel,
    ScaleModel,
    choose_model,
    dual_model,
    histogram_model,
    levels_are_valid,
    table_indexes,
    weight_tables,
    with_histograms,
)
from nvc.inr.parameters import STEP_CODE_LIMIT

_FAMILY = 64
_ROWS = 128
# In place of a table of row steps:
_ADAPTIVE = 255
_HISTOGRAM = 254
_COLUMNS = 253


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns) a tensor of this shape is coded as; a vector is one row, a tensor over time
    (steps, C, rows, columns) one row a step."""
    return (1, *shape) if len(shape) == 1 else (shape[0], math.prod(shape[1:]))


def as_matrix(symbols: np.ndarray) -> np.ndarray:
    """A tensor of any shape as the matrix it is coded as."""
    return symbols.reshape(matrix_shape(symbols.shape))


class Candidate:
    """A matrix and its cheapest coding among those a prior allows (FitConfig): `payload` of the
    adaptive coder, or None for `model`."""

    def __init__(self, matrix: np.ndarray, prior: str = "auto") -> None:
        self.matrix = matrix
        models: list[ScaleModel | HistogramModel] = []
        if prior in ("auto", "tensor", "adaptive"):
            models.append(choose_model(matrix, rows_allowed=prior == "auto"))
        if prior in ("auto", "dual"):
            models.append(dual_model(matrix))
        if prior in ("auto", "histogram"):
            models.append(histogram_model(matrix))
        self.model = min(models, key=lambda model: model.bits)
        self.bits = self.model.bits
        self.payload = None
        if prior in ("auto", "adaptive"):
            payload = encode_matrix(matrix)
            adaptive_bits = 8 * (len(payload) + len(pack_varint(len(payload))) + 1)
            if adaptive_bits < self.bits or prior == "adaptive":
                self.payload, self.bits = payload, adaptive_bits


class MatrixWriter:
    """Collects coded matrices, and the static ones' values for the two payloads they share.

    After to_bytes, `side_bytes` is what the models' steps and levels took.
    """

    def __init__(self) -> None:
        self._adaptive: list[bytes] = []
        self._steps: list[np.ndarray] = []
        self._step_tables: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._tables: list[np.ndarray] = []
        self._histograms: list[HistogramModel] = []
        self.side_bytes = 0

    def add(self, candidate: Candidate) -> bytes:
        """Take a matrix; the bytes that say how it is coded."""
        if candidate.payload is not None:
            self._adaptive.append(candidate.payload)
            return bytes((_ROWS, _ADAPTIVE)) + pack_varint(len(candidate.payload))
        matrix, model = candidate.matrix, candidate.model
        self._values.append(matrix.ravel())
        if isinstance(model, HistogramModel):
            self._tables.append(
                np.full(matrix.size, len(weight_tables()) + len(self._histograms), dtype=np.uint8)
            )
            self._histograms.append(model)
            table = self._add_steps(np.diff(model.levels, prepend=0).astype(np.int32))
            return bytes((_ROWS, _HISTOGRAM, table)) + pack_varint(len(model.levels))
        self._tables.append(model.indexes(*matrix.shape).ravel())
        first = model.base | _FAMILY * model.family
        if model.row_steps is None:
            return bytes((first,))
        table = self._add_steps(model.row_steps)
        if model.column_steps is None:
            return bytes((first | _ROWS, table))
        return bytes((first | _ROWS, _COLUMNS, table, self._add_steps(model.column_steps)))

    def _add_steps(self, steps: np.ndarray) -> int:
        """Take steps of a model; the Laplace table they are coded under."""
        table = choose_model(steps[None], rows_allowed=False).base
        self._steps.append(steps)
        self._step_tables.append(np.full(len(steps), table, dtype=np.uint8))
        return table

    def to_bytes(self) -> bytes:
        """The adaptive payloads, the length of the steps' payload, that one, the values'."""
        steps = _encode_static(self._steps, self._step_tables, [])
        values = _encode_static(self._values, self._tables, self._histograms)
        self.side_bytes = len(steps)
        return b"".join((*self._adaptive, pack_varint(len(steps)), steps, values))


def _encode_static(
    values: list[np.ndarray], tables: list[np.ndarray], histograms: list[HistogramModel]
) -> bytes:
    if not values:
        return b""
    own = with_histograms(histograms) if histograms else weight_tables()
    return rans.encode(np.concatenate(values), np.concatenate(tables), own)


def _decode_static(
    payload: bytes, tables: list[np.ndarray], histograms: list[HistogramModel]
) -> np.ndarray:
    if tables:
        own = with_histograms(histograms) if histograms else weight_tables()
        return rans.decode(payload, np.concatenate(tables), own)
    if payload:
        raise StreamError("INR parameters: bytes that no matrix asks for")
    return np.empty(0, dtype=np.int32)


@dataclass(frozen=True)
class MatrixCoding:
    """How a matrix is coded, as its bytes say: by the adaptive coder, by a histogram of `levels`
    magnitudes, or under a scale whose row and column steps have tables where there are any."""

    family: int = 0
    base: int = 0
    row_table: int | None = None
    column_table: int | None = None
    adaptive_length: int | None = None
    levels: int | None = None

    def step_tables(self, rows: int, columns: int) -> list[np.ndarray]:
        """The table of each step or level, for each set of them the matrix has."""
        first = rows if self.levels is None else self.levels
        counts = ((self.row_table, first), (self.column_table, columns))
        return [np.full(n, t, dtype=np.uint8) for t, n in counts if t is not None]


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
    tables = [coding.step_tables(*shape) for shape, coding in static]
    flat = [table for own in tables for table in own]
    steps = _decode_static(reader.take(reader.number(len(reader.data))), flat, [])
    rest = iter(np.split(steps, np.cumsum([len(table) for table in flat])[:-1]))
    histograms: list[HistogramModel] = []
    indexes = []
    for ((rows, columns), coding), own in zip(static, tables, strict=True):
        sets = [next(rest) for _ in own]
        if coding.levels is not None:
            indexes.append(np.full(rows * columns, _histogram(histograms, sets[0]), dtype=np.uint8))
            continue
        row_steps = sets[0] if sets else None
        column_steps = sets[1] if len(sets) > 1 else None
        found = table_indexes(
            coding.family, coding.base, row_steps, rows, columns, column_steps=column_steps
        )
        indexes.append(found.ravel())
    values = _decode_static(reader.rest(), indexes, histograms)
    rest = iter(np.split(values, np.cumsum([len(table) for table in indexes])[:-1]))
    return [
        next(rest).reshape(shape) if matrix is None else matrix
        for shape, matrix in zip(shapes, matrices, strict=True)
    ]


def _histogram(histograms: list[HistogramModel], differences: np.ndarray) -> int:
    """Put one more histogram into the list; the number of its table."""
    levels = np.cumsum(differences.astype(np.int64))
    if len(histograms) >= MAX_HISTOGRAMS or not levels_are_valid(levels):
        raise StreamError("INR parameters: levels that no histogram has")
    histograms.append(HistogramModel(levels, 0.0))
    return len(weight_tables()) + len(histograms) - 1


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

    def flag(self) -> bool:
        """A byte that is 0 or 1."""
        value = self.byte()
        if value > 1:
            raise StreamError(f"INR parameters: flags {value} are not known")
        return bool(value)

    def coding(self) -> MatrixCoding:
        """The bytes that say how a matrix is coded."""
        first = self.byte()
        scale = {"family": (first & _FAMILY) // _FAMILY, "base": first & (_FAMILY - 1)}
        if not first & _ROWS:
            return MatrixCoding(**scale)
        kind = self.byte()
        if kind == _ADAPTIVE:
            return MatrixCoding(adaptive_length=self.number(len(self.data)))
        if kind == _HISTOGRAM:
            return MatrixCoding(row_table=self._table(), levels=self.number(MAX_LEVELS))
        if kind == _COLUMNS:
            return MatrixCoding(**scale, row_table=self._table(), column_table=self._table())
        return MatrixCoding(**scale, row_table=self._table(kind))

    def _table(self, number: int | None = None) -> int:
        number = self.byte() if number is None else number
        if number >= SCALE_COUNT:
            raise StreamError(f"INR parameters: no table has number {number}")
        return number

    def rest(self) -> bytes:
        return self.take(len(self.data) - self._position)

    def finish(self) -> None:
        if self._position != len(self.data):
            raise StreamError("INR configuration: data after its end")
