"""Bytes of one PARAMETERS unit (docs/inr.md gives them one by one) and of the CONFIG unit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nvc.bitstream.bits import pack_varint, unzigzag, zigzag
from nvc.errors import StreamError, UsageError
from nvc.inr import config as parts
from nvc.inr.config import NetworkConfig
from nvc.inr.matrices import (
    Candidate,
    MatrixWriter,
    PayloadReader,
    as_matrix,
    decode_matrices,
    matrix_shape,
    pack_step,
)
from nvc.inr.network import parameter_shapes
from nvc.inr.published import MinMaxGroup, decode_published, encode_published
from nvc.inr.quantised import QuantisedGroup, symbol_count

CONFIG_VERSION = 2
STILL_VERSION = 3  # the same, with the numbers of _STILL behind it
_STILL = (("camera", parts.CAMERAS), ("still", parts.STILLS))
SYMBOLS_PER_BYTE = 4096  # more than any fit leaves: keeps a tiny payload from asking for gigabytes
_DIFFERENCES = 1
# Numbers of the network that all groups share, and the largest each may be.
_NUMBERS = (
    ("first_percent", 1000),
    ("reduction_percent", 1000),
    ("head_kernel", parts.MAX_KERNEL),
    ("time_levels", 128),
    ("time_base_percent", 200),
    ("grid_levels", 8),
)


def encode_config(config: NetworkConfig) -> bytes:
    """The CONFIG unit's payload: the network but for its widths, which each group has."""
    more = [names.index(getattr(config, field)) for field, names in _STILL]
    numbers = [
        STILL_VERSION if any(more) else CONFIG_VERSION,
        *config.grid,
        len(config.strides),
        *config.strides,
        *config.kernels,
        *(getattr(config, field) for field, _ in _NUMBERS),
        *(names.index(getattr(config, field)) for field, names in parts.PARTS),
        parts.CODINGS.index(config.coding),
        *(more if any(more) else []),
    ]
    return b"".join(pack_varint(number) for number in numbers)


def decode_config(payload: bytes, *, height: int, width: int) -> NetworkConfig:
    """The network a CONFIG payload describes, with widths of 1 until a group gives its own.

    Raises StreamError when it is not known here, out of bounds, or not for height x width.
    """
    reader = PayloadReader(payload)
    version = reader.number(255)
    if version not in (CONFIG_VERSION, STILL_VERSION):
        raise StreamError(f"INR configuration {version} is not known; this nvc reads 2 and 3")
    grid = (reader.number(parts.MAX_GRID), reader.number(parts.MAX_GRID))
    stages = reader.number(parts.MAX_STAGES)
    strides = tuple(reader.number(parts.MAX_STRIDE) for _ in range(stages))
    kernels = tuple(reader.number(parts.MAX_KERNEL) for _ in range(stages))
    numbers = {field: reader.number(most) for field, most in _NUMBERS}
    names = {}
    fields = [*parts.PARTS, ("coding", parts.CODINGS)]
    if version == STILL_VERSION:
        fields += _STILL
    for field, allowed in fields:
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
            hidden_width=8,
            **numbers,
            **names,
        )
        config.check_size(height, width)
    except UsageError as error:
        raise StreamError(f"INR configuration: {error}") from None
    return config


def encode_group(
    group: QuantisedGroup | MinMaxGroup, base: QuantisedGroup | None = None, *, prior: str = "auto"
) -> bytes:
    """The PARAMETERS unit's payload of a fitted group.

    With `base`, a group of the same widths and steps, neither is written and the weights are coded
    as differences from the base's (a residual group, docs/inr.md). prior: see FitConfig.
    """
    if isinstance(group, MinMaxGroup):
        return encode_published(group)
    return _encode(group, base, prior)[0]


def side_information(
    group: QuantisedGroup | MinMaxGroup, base: QuantisedGroup | None = None, *, prior: str = "auto"
) -> int:
    """Bytes of the payload that are no coded values: widths, steps, codings, models, means."""
    if isinstance(group, MinMaxGroup):
        return len(encode_published(group)) - sum(symbols.size for symbols in group.symbols)
    return _encode(group, base, prior)[1]


def _encode(group: QuantisedGroup, base: QuantisedGroup | None, prior: str) -> tuple[bytes, int]:
    config = group.config
    head, streams = bytearray(), MatrixWriter()
    if base is None:
        head += b"".join(pack_varint(getattr(config, name)) for name in config.width_fields)
        steps = [pack_step(step) for step in group.step_codes]
        weights = group.symbols
    else:
        steps = [b""] * len(group.symbols)
        weights = group.less(base)
    for symbols, step in zip(weights, steps, strict=True):
        head += step
        matrix = as_matrix(symbols)
        if symbols.ndim < 4:
            head += streams.add(Candidate(matrix, prior))
            continue
        # A tensor over time: each step less the one before, where that is smaller.
        moved = np.diff(matrix, axis=0, prepend=np.zeros_like(matrix[:1]))
        head += _add_cheaper(streams, matrix, moved, prior)
    if config.code_channels:
        means = channel_means(group.embedding)
        direct, differences = (
            embedding_matrix(group.embedding, means, differences=choice) for choice in (False, True)
        )
        head += pack_step(group.embedding_step_code)
        head += _add_cheaper(streams, direct, differences, prior)
        head += b"".join(pack_varint(zigzag(int(mean))) for mean in means)
    body = streams.to_bytes()
    return bytes(head) + body, len(head) + streams.side_bytes


def _add_cheaper(
    streams: MatrixWriter, direct: np.ndarray, differences: np.ndarray, prior: str
) -> bytes:
    """Add the matrix that takes fewer bits; how it is coded, and the flag that says which it is."""
    one, two = Candidate(direct, prior), Candidate(differences, prior)
    best = min(one, two, key=lambda candidate: candidate.bits)
    return streams.add(best) + bytes((_DIFFERENCES if best is two else 0,))


def decode_group(
    payload: bytes,
    config: NetworkConfig,
    frames: int,
    base: QuantisedGroup | MinMaxGroup | None = None,
) -> QuantisedGroup | MinMaxGroup:
    """Undo encode_group for a stream's configuration and a unit of `frames` frames.

    Raises StreamError on anything encode_group does not write, before allocating for it.
    """
    if config.coding == "paper":
        if base is not None:
            raise StreamError("INR parameters: a group of the published coding has no base")
        return decode_published(payload, config, frames)
    if isinstance(base, MinMaxGroup):
        raise StreamError("INR parameters: the base of a group is coded in another way")
    reader = PayloadReader(payload)
    if base is None:
        widths = {name: reader.number(parts.MAX_CHANNELS) for name in config.width_fields}
        try:
            config = replace(config, **widths).for_frames(frames)
        except UsageError as error:
            raise StreamError(f"INR parameters: {error}") from None
    else:
        config = _like(base.config, frames)
    shapes = list(parameter_shapes(config).values())
    count = symbol_count(config, frames)
    if count > min(parts.MAX_VALUES, SYMBOLS_PER_BYTE * (len(payload) + 16)):
        raise StreamError(f"INR parameters: {count} values cannot be in {len(payload)} bytes")
    matrices = [matrix_shape(shape) for shape in shapes]
    steps, codings, flags = [], [], []
    for number, shape in enumerate(shapes):
        steps.append(reader.step() if base is None else base.step_codes[number])
        codings.append(reader.coding())
        flags.append(reader.flag() if len(shape) == 4 else False)
    embedding_step, embedding_flag, means = 0, False, np.empty(0, dtype=np.int64)
    if config.code_channels:
        matrices.append((config.code_channels, frames * config.grid[0] * config.grid[1]))
        embedding_step = reader.step()
        codings.append(reader.coding())
        embedding_flag = reader.flag()
        limit = 1 << 22
        means = np.array([unzigzag(reader.number(limit)) for _ in range(config.code_channels)])
    values = decode_matrices(reader, matrices, codings)
    shape = (frames, config.code_channels, *config.grid)
    embedding = np.zeros(shape, dtype=np.int32)
    if config.code_channels:
        embedding = _embedding_from_matrix(values.pop(), means, shape, embedding_flag)
    symbols = [
        _summed(matrix, differences).reshape(shape)
        for matrix, shape, differences in zip(values, shapes, flags, strict=True)
    ]
    group = QuantisedGroup(
        config=config,
        symbols=tuple(symbols),
        step_codes=tuple(steps),
        embedding=embedding,
        embedding_step_code=embedding_step,
    )
    return group if base is None else group.plus(base)


def _like(config: NetworkConfig, frames: int) -> NetworkConfig:
    """A base's network for a group on it; StreamError where that has other tensors."""
    try:
        own = config.for_frames(frames)
    except UsageError as error:
        raise StreamError(f"INR parameters: {error}") from None
    if parameter_shapes(own) != parameter_shapes(config):
        raise StreamError(f"INR parameters: {frames} frames cannot build on the group before")
    return own


def _summed(matrix: np.ndarray, differences: bool) -> np.ndarray:
    """Undo the differences down the rows of a matrix that holds them."""
    if not differences:
        return matrix
    values = np.cumsum(matrix, axis=0, dtype=np.int64)
    if np.abs(values).max(initial=0) >= 1 << 24:
        raise StreamError("INR parameters: a weight is out of range")
    return values.astype(np.int32)


def channel_means(embedding: np.ndarray) -> np.ndarray:
    """(channels,) integer means of (frames, channels, rows, columns)."""
    return np.rint(embedding.mean(axis=(0, 2, 3))).astype(np.int64)


def embedding_matrix(embedding: np.ndarray, means: np.ndarray, *, differences: bool) -> np.ndarray:
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
