"""Bytes of one PARAMETERS unit (docs/inr.md gives them one by one) and of the CONFIG unit.

Each matrix is coded under static tables or by the adaptive matrix coder, whichever is smaller. The
static ones share two rANS payloads: the row steps of their models, and their values under the
tables that these name. Integers only on the way back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nvc.bitstream.bits import pack_varint, read_varint, unzigzag, zigzag
from nvc.entropy import rans
from nvc.entropy.adaptive import decode_matrix, encode_matrix
from nvc.entropy.tables import SCALE_COUNT
from nvc.errors import StreamError, UsageError
from nvc.inr import config as parts
from nvc.inr.config import NetworkConfig
from nvc.inr.models import choose_model, table_indexes, weight_tables
from nvc.inr.network import parameter_shapes
from nvc.inr.parameters import STEP_CODE_LIMIT
from nvc.inr.quantised import QuantisedGroup, symbol_count

CONFIG_VERSION = 1
SYMBOLS_PER_BYTE = 4096  # more than any fit leaves: keeps a tiny payload from asking for gigabytes
_FAMILY = 64
_ROWS = 128
_ADAPTIVE = 255  # in place of a table of row steps
_DIFFERENCES = 1


def encode_config(config: NetworkConfig) -> bytes:
    """The CONFIG unit's payload: the network but for its widths, which each group has."""
    numbers = [
        CONFIG_VERSION,
        *config.grid,
        len(config.strides),
        *config.strides,
        *config.kernels,
        config.reduction_percent,
        config.head_kernel,
        *(names.index(getattr(config, field)) for field, names in _PARTS),
    ]
    return b"".join(pack_varint(number) for number in numbers)


def decode_config(payload: bytes, *, height: int, width: int) -> NetworkConfig:
    """The network a CONFIG payload describes, with widths of 1 until a group gives its own.

    Raises StreamError when it is not known here, out of bounds, or not for height x width.
    """
    reader = _Reader(payload)
    version = reader.number(255)
    if version != CONFIG_VERSION:
        raise StreamError(f"INR configuration {version} is not known; this nvc reads 1")
    grid = (reader.number(parts.MAX_GRID), reader.number(parts.MAX_GRID))
    stages = reader.number(parts.MAX_STAGES)
    strides = tuple(reader.number(parts.MAX_STRIDE) for _ in range(stages))
    kernels = tuple(reader.number(parts.MAX_KERNEL) for _ in range(stages))
    reduction = reader.number(1000)
    head_kernel = reader.number(parts.MAX_KERNEL)
    names = {}
    for field, allowed in _PARTS:
        number = reader.number(255)
        if number >= len(allowed):
            raise StreamError(f"this nvc knows no INR {field} number {number}")
        names[field] = allowed[number]
    reader.finish()
    try:
        config = NetworkConfig(
            grid=grid,
            strides=strides,
            kernels=kernels,
            stem_width=1,
            min_channels=1,
            embedding_channels=1,
            reduction_percent=reduction,
            head_kernel=head_kernel,
            **names,
        )
        config.check_size(height, width)
    except UsageError as error:
        raise StreamError(f"INR configuration: {error}") from None
    return config


def encode_group(group: QuantisedGroup) -> bytes:
    """The PARAMETERS unit's payload of a fitted group."""
    config = group.config
    widths = (config.stem_width, config.min_channels, config.embedding_channels)
    head = bytearray(b"".join(map(pack_varint, widths)))
    streams = _Streams()
    for symbols, step in zip(group.symbols, group.step_codes, strict=True):
        matrix = symbols.reshape(-1, symbols.shape[-1]) if symbols.ndim > 1 else symbols[None]
        head += _pack_step(step) + streams.add(_Candidate(matrix))
    means = _channel_means(group.embedding)
    direct, differences = (
        _Candidate(_embedding_matrix(group.embedding, means, differences=choice))
        for choice in (False, True)
    )
    best = min(direct, differences, key=lambda candidate: candidate.bits)
    head += _pack_step(group.embedding_step_code) + streams.add(best)
    head.append(_DIFFERENCES if best is differences else 0)
    head += b"".join(pack_varint(zigzag(int(mean))) for mean in means)
    return bytes(head) + streams.to_bytes()


def decode_group(payload: bytes, config: NetworkConfig, frames: int) -> QuantisedGroup:
    """Undo encode_group for a stream's configuration and a unit of `frames` frames.

    Raises StreamError on anything encode_group does not write, before allocating for it.
    """
    reader = _Reader(payload)
    names = ("stem_width", "min_channels", "embedding_channels")
    widths = {name: reader.number(parts.MAX_CHANNELS) for name in names}
    try:
        config = replace(config, **widths)
    except UsageError as error:
        raise StreamError(f"INR parameters: {error}") from None
    shapes = list(parameter_shapes(config).values())
    count = symbol_count(config, frames)
    if count > min(parts.MAX_VALUES, SYMBOLS_PER_BYTE * (len(payload) + 16)):
        raise StreamError(f"INR parameters: {count} values cannot be in {len(payload)} bytes")
    grid = config.grid[0] * config.grid[1]
    matrices = [(shape if len(shape) > 1 else (1, *shape)) for shape in shapes]
    matrices.append((config.embedding_channels, frames * grid))
    steps, codings = [], []
    for _ in matrices:
        steps.append(reader.step())
        codings.append(reader.coding())
    flags = reader.byte()
    if flags > _DIFFERENCES:
        raise StreamError(f"INR parameters: flags {flags} are not known")
    limit = 1 << 22
    means = np.array([unzigzag(reader.number(limit)) for _ in range(config.embedding_channels)])
    values = _decode_matrices(reader, matrices, codings)
    embedding = _embedding_from_matrix(
        values.pop(), means, (frames, config.embedding_channels, *config.grid), bool(flags)
    )
    return QuantisedGroup(
        config=config,
        symbols=tuple(v.reshape(shape) for v, shape in zip(values, shapes, strict=True)),
        step_codes=tuple(steps[:-1]),
        embedding=embedding,
        embedding_step_code=steps[-1],
    )


_PARTS = (
    ("frame_code", parts.FRAME_CODES),
    ("stem", parts.STEMS),
    ("block", parts.BLOCKS),
    ("head", parts.HEADS),
    ("activation", parts.ACTIVATIONS),
)


class _Candidate:
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


class _Streams:
    """Collects coded matrices, and the static ones' values for the two payloads they share."""

    def __init__(self) -> None:
        self._adaptive: list[bytes] = []
        self._steps: list[np.ndarray] = []
        self._step_tables: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._tables: list[np.ndarray] = []

    def add(self, candidate: _Candidate) -> bytes:
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
class _Coding:
    """How a matrix is coded, as its bytes say: static when `adaptive_length` is None."""

    family: int
    base: int
    step_table: int | None
    adaptive_length: int | None


def _decode_matrices(
    reader: _Reader, shapes: list[tuple[int, ...]], codings: list[_Coding]
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


def _pack_step(code: int) -> bytes:
    return (code & 0xFFFF).to_bytes(2, "little")


def _channel_means(embedding: np.ndarray) -> np.ndarray:
    """(channels,) integer means of (frames, channels, rows, columns)."""
    return np.rint(embedding.mean(axis=(0, 2, 3))).astype(np.int64)


def _embedding_matrix(embedding: np.ndarray, means: np.ndarray, *, differences: bool) -> np.ndarray:
    """(frames, C, rows, columns) -> (C, frames * rows * columns), less the channel's mean, or less
    the frame before in all frames but the first."""
    centred = embedding - means[:, None, None]
    if differences:
        centred[1:] -= centred[:-1].copy()
    return centred.transpose(1, 0, 2, 3).reshape(len(means), -1).astype(np.int32)


def _embedding_from_matrix(
    matrix: np.ndarray, means: np.ndarray, shape: tuple[int, int, int, int], differences: bool
) -> np.ndarray:
    frames, channels, rows, columns = shape
    # (C, frames * rows * columns) -> (frames, C, rows, columns)
    values = matrix.reshape(channels, frames, rows, columns).transpose(1, 0, 2, 3)
    if differences:
        values = np.cumsum(values, axis=0, dtype=np.int64)
    values = values + means[:, None, None]
    if np.abs(values).max(initial=0) >= 1 << 30:
        raise StreamError("INR parameters: the embedding is out of range")
    return values.astype(np.int32)


class _Reader:
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

    def coding(self) -> _Coding:
        first = self.byte()
        table = length = None
        if first & _ROWS:
            table = self.byte()
            if table == _ADAPTIVE:
                length = self.number(len(self.data))
            elif table >= SCALE_COUNT:
                raise StreamError(f"INR parameters: no table has number {table}")
        return _Coding((first & _FAMILY) // _FAMILY, first & (_FAMILY - 1), table, length)

    def rest(self) -> bytes:
        return self.take(len(self.data) - self._position)

    def finish(self) -> None:
        if self._position != len(self.data):
            raise StreamError("INR configuration: data after its end")
