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
from nvc.inr.quantised import QuantisedGroup, symbol_count

CONFIG_VERSION = 1
SYMBOLS_PER_BYTE = 4096  # more than any fit leaves: keeps a tiny payload from asking for gigabytes
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
    reader = PayloadReader(payload)
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


def encode_group(group: QuantisedGroup, base: QuantisedGroup | None = None) -> bytes:
    """The PARAMETERS unit's payload of a fitted group.

    With `base`, a group of the same widths and steps, neither is written and the weights are coded
    as differences from the base's (a residual group, docs/inr.md).
    """
    config = group.config
    head, streams = bytearray(), MatrixWriter()
    if base is None:
        widths = (config.stem_width, config.min_channels, config.embedding_channels)
        head += b"".join(map(pack_varint, widths))
        steps = [pack_step(step) for step in group.step_codes]
        weights = group.symbols
    else:
        steps = [b""] * len(group.symbols)
        weights = group.less(base)
    for symbols, step in zip(weights, steps, strict=True):
        head += step + streams.add(Candidate(as_matrix(symbols)))
    means = _channel_means(group.embedding)
    direct, differences = (
        Candidate(_embedding_matrix(group.embedding, means, differences=choice))
        for choice in (False, True)
    )
    best = min(direct, differences, key=lambda candidate: candidate.bits)
    head += pack_step(group.embedding_step_code) + streams.add(best)
    head.append(_DIFFERENCES if best is differences else 0)
    head += b"".join(pack_varint(zigzag(int(mean))) for mean in means)
    return bytes(head) + streams.to_bytes()


def decode_group(
    payload: bytes, config: NetworkConfig, frames: int, base: QuantisedGroup | None = None
) -> QuantisedGroup:
    """Undo encode_group for a stream's configuration and a unit of `frames` frames.

    Raises StreamError on anything encode_group does not write, before allocating for it.
    """
    reader = PayloadReader(payload)
    if base is None:
        names = ("stem_width", "min_channels", "embedding_channels")
        widths = {name: reader.number(parts.MAX_CHANNELS) for name in names}
        try:
            config = replace(config, **widths)
        except UsageError as error:
            raise StreamError(f"INR parameters: {error}") from None
    else:
        config = base.config
    shapes = list(parameter_shapes(config).values())
    count = symbol_count(config, frames)
    if count > min(parts.MAX_VALUES, SYMBOLS_PER_BYTE * (len(payload) + 16)):
        raise StreamError(f"INR parameters: {count} values cannot be in {len(payload)} bytes")
    grid = config.grid[0] * config.grid[1]
    matrices = [matrix_shape(shape) for shape in shapes]
    matrices.append((config.embedding_channels, frames * grid))
    steps, codings = [], []
    for number in range(len(matrices)):
        own = base is None or number == len(shapes)
        steps.append(reader.step() if own else base.step_codes[number])
        codings.append(reader.coding())
    flags = reader.byte()
    if flags > _DIFFERENCES:
        raise StreamError(f"INR parameters: flags {flags} are not known")
    limit = 1 << 22
    means = np.array([unzigzag(reader.number(limit)) for _ in range(config.embedding_channels)])
    values = decode_matrices(reader, matrices, codings)
    embedding = _embedding_from_matrix(
        values.pop(), means, (frames, config.embedding_channels, *config.grid), bool(flags)
    )
    group = QuantisedGroup(
        config=config,
        symbols=tuple(v.reshape(shape) for v, shape in zip(values, shapes, strict=True)),
        step_codes=tuple(steps[:-1]),
        embedding=embedding,
        embedding_step_code=steps[-1],
    )
    return group if base is None else group.plus(base)


_PARTS = (
    ("frame_code", parts.FRAME_CODES),
    ("stem", parts.STEMS),
    ("block", parts.BLOCKS),
    ("head", parts.HEADS),
    ("activation", parts.ACTIVATIONS),
)


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
