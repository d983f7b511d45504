"""PFNR (Kang et al., ICLR 2024): one network for a sequence of videos, a sub-network for each.

A video's sub-network chooses a share of the weights: some that earlier videos have used, which stay
as they are, and some that are free, which it sets. So what earlier videos decode to never changes.
Every video has a head of its own. The body is NeRV's, with a Fourier operator in one stage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from nvc.bitstream.bits import pack_varint
from nvc.errors import StreamError, UsageError
from nvc.inr.coding import SYMBOLS_PER_BYTE, decode_config, encode_config
from nvc.inr.config import MAX_CHANNELS, MAX_VALUES, NetworkConfig
from nvc.inr.masks import decode_bits, encode_bits
from nvc.inr.matrices import (
    Candidate,
    MatrixWriter,
    PayloadReader,
    as_matrix,
    decode_matrices,
    matrix_shape,
    pack_step,
)
from nvc.inr.network import DecoderNetwork, build_network, parameter_shapes
from nvc.inr.quantised import dequantise
from nvc.inr.spectral import SpectralConv

CONFIG_VERSION = 1
MAX_MODES = 64
HEAD = "head."


@dataclass(frozen=True, kw_only=True)
class PfnrConfig(NetworkConfig):
    """A network whose stage number `fourier_stage` (from 0) has a Fourier operator of `modes`."""

    fourier_stage: int = 1
    modes: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.fourier_stage < len(self.strides):
            raise UsageError(
                f"the Fourier operator is in stage {self.fourier_stage}; the network has "
                f"{len(self.strides)}"
            )
        if not 1 <= self.modes <= MAX_MODES:
            raise UsageError(f"{self.modes} Fourier modes; allowed: 1 to {MAX_MODES}")

    @property
    def fourier_size(self) -> tuple[int, int]:
        """(rows, columns) the Fourier operator works at."""
        scale = math.prod(self.strides[: self.fourier_stage])
        return self.grid[0] * scale, self.grid[1] * scale


def pfnr_config(body: NetworkConfig, **own: int) -> PfnrConfig:
    """A body of the family with PFNR's own numbers."""
    values = {item.name: getattr(body, item.name) for item in fields(NetworkConfig)}
    return PfnrConfig(**values, **own)


@build_network.register
def _(config: PfnrConfig) -> DecoderNetwork:
    network = DecoderNetwork(config)
    stage = config.fourier_stage
    # In the place of a skip: what it gives is enlarged and added before the activation.
    network.blocks[stage].skip = SpectralConv(
        config.channels[stage],
        config.channels[stage + 1],
        modes=config.modes,
        size=config.fourier_size,
    )
    return network


@dataclass(frozen=True, eq=False)
class SharedWeights:
    """What the videos so far have set: values, float32, and which are used, a tensor of the body
    each; `tracks`: how many videos."""

    values: tuple[np.ndarray, ...]
    used: tuple[np.ndarray, ...]
    tracks: int = 0


def no_weights(config: PfnrConfig) -> SharedWeights:
    """The body before the first video."""
    shapes = body_shapes(config).values()
    return SharedWeights(
        tuple(np.zeros(shape, dtype=np.float32) for shape in shapes),
        tuple(np.zeros(shape, dtype=bool) for shape in shapes),
    )


def body_shapes(config: PfnrConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what the videos share, in the order they are coded."""
    shapes = parameter_shapes(config)
    return {name: shape for name, shape in shapes.items() if not name.startswith(HEAD)}


@dataclass(frozen=True, eq=False)
class PfnrTrack:
    """One video's sub-network and head in integers, on top of what was there before it.

    reuse: which of the used weights it takes, a boolean array a tensor of the body; symbols, int32,
    and step_codes: of all tensors, the body's first, 0 where it sets nothing.
    """

    config: PfnrConfig
    before: SharedWeights
    reuse: tuple[np.ndarray, ...]
    symbols: tuple[np.ndarray, ...]
    step_codes: tuple[int, ...]

    @property
    def frames(self) -> int:
        """Frames the track decodes to."""
        return self.config.frames

    def network(self, device: torch.device | str) -> torch.nn.Module:
        """The video's own network with the dequantised weights, float32, ready to run."""
        with torch.device("meta"):
            network = build_network(self.config)
        tensors = {}
        for place, name in enumerate(parameter_shapes(self.config)):
            value = dequantise(self.symbols[place], self.step_codes[place], device)
            if place < len(self.reuse):
                kept = np.where(self.reuse[place], self.before.values[place], np.float32(0))
                value = value + torch.from_numpy(kept).to(device)
            tensors[name] = value
        network.load_state_dict(tensors, assign=True)
        return network.eval().requires_grad_(False)

    def codes(self, device: torch.device | str) -> torch.Tensor:
        """(frames, 0, rows, columns): its frames have no codes."""
        return torch.zeros(self.frames, 0, *self.config.grid, device=device)

    def after(self) -> SharedWeights:
        """What a next video finds: the weights that this one has set are used too."""
        values, used = [], []
        for place, before in enumerate(self.before.values):
            new = self.symbols[place] != 0
            own = dequantise(self.symbols[place], self.step_codes[place], "cpu").numpy()
            values.append(np.where(new, own, before))
            used.append(self.before.used[place] | new)
        return SharedWeights(tuple(values), tuple(used), self.before.tracks + 1)


def encode_body(track: PfnrTrack) -> bytes:
    """The CONFIG payload of a track: the network for the first, then reuse and new weights."""
    config, first = track.config, track.before.tracks == 0
    head = bytearray(pack_varint(CONFIG_VERSION) + pack_varint(track.before.tracks))
    if first:
        body = encode_config(config)
        head += pack_varint(len(body)) + body
        numbers = [config.fourier_stage, config.modes]
        numbers += [getattr(config, name) for name in config.width_fields]
        head += b"".join(map(pack_varint, numbers))
    writer = MatrixWriter()
    for place, used in enumerate(track.before.used):
        symbols = track.symbols[place]
        # Used weights are no part of what is coded: the free ones are one row.
        matrix = as_matrix(symbols) if first else symbols[~used][None]
        head += pack_step(track.step_codes[place]) + writer.add(Candidate(matrix))
    bits = encode_bits(
        [reuse[used] for reuse, used in zip(track.reuse, track.before.used, strict=True)]
    )
    return bytes(head) + pack_varint(len(bits)) + bits + writer.to_bytes()


def encode_head(track: PfnrTrack) -> bytes:
    """The PARAMETERS payload of a track: its head."""
    head, writer = bytearray(), MatrixWriter()
    for place in range(len(track.reuse), len(track.symbols)):
        head += pack_step(track.step_codes[place])
        head += writer.add(Candidate(as_matrix(track.symbols[place])))
    return bytes(head) + writer.to_bytes()


@dataclass(frozen=True, eq=False)
class PfnrBody:
    """A CONFIG payload as read: all of a track but its head and its number of frames."""

    config: PfnrConfig
    before: SharedWeights
    reuse: tuple[np.ndarray, ...]
    symbols: tuple[np.ndarray, ...]
    step_codes: tuple[int, ...]

    def with_head(self, payload: bytes, frames: int) -> PfnrTrack:
        """The track of a PARAMETERS payload for `frames` frames; StreamError."""
        reader = PayloadReader(payload)
        shapes = list(parameter_shapes(self.config).values())[len(self.symbols) :]
        steps, codings = [], []
        for _ in shapes:
            steps.append(reader.step())
            codings.append(reader.coding())
        matrices = decode_matrices(reader, [matrix_shape(shape) for shape in shapes], codings)
        own = tuple(m.reshape(shape) for m, shape in zip(matrices, shapes, strict=True))
        return PfnrTrack(
            self.config.for_frames(frames),
            self.before,
            self.reuse,
            self.symbols + own,
            self.step_codes + tuple(steps),
        )

    def after(self) -> SharedWeights:
        """What a next video finds."""
        return PfnrTrack(
            self.config, self.before, self.reuse, self.symbols, self.step_codes
        ).after()


def decode_body(payload: bytes, previous: PfnrBody | None, *, height: int, width: int) -> PfnrBody:
    """Undo encode_body; `previous` is the track before, None for the first.

    Raises StreamError on anything encode_body does not write, before allocating for it.
    """
    reader = PayloadReader(payload)
    version = reader.number(255)
    if version != CONFIG_VERSION:
        raise StreamError(f"PFNR configuration {version} is not known; this nvc reads 1")
    expected = 0 if previous is None else previous.before.tracks + 1
    if reader.number(1 << 16) != expected:
        raise StreamError("PFNR: the weights of an earlier track are missing")
    if previous is None:
        config = _read_network(reader, height=height, width=width)
    else:
        config = previous.config
    shapes = list(body_shapes(config).values())
    count = sum(math.prod(shape) for shape in shapes)
    if count > min(MAX_VALUES, SYMBOLS_PER_BYTE * (len(payload) + 16)):
        raise StreamError(f"PFNR: {count} values cannot be in {len(payload)} bytes")
    before = no_weights(config) if previous is None else previous.after()
    steps, codings = [], []
    for _ in shapes:
        steps.append(reader.step())
        codings.append(reader.coding())
    bits = reader.take(reader.number(len(payload)))
    masks = decode_bits(bits, [int(used.sum()) for used in before.used])
    rows = [
        matrix_shape(shape) if previous is None else (1, int((~used).sum()))
        for shape, used in zip(shapes, before.used, strict=True)
    ]
    matrices = decode_matrices(reader, rows, codings)
    reuse, symbols = [], []
    for used, mask, matrix in zip(before.used, masks, matrices, strict=True):
        taken = np.zeros(used.shape, dtype=bool)
        taken[used] = mask
        own = np.zeros(used.shape, dtype=np.int32)
        own[~used] = matrix.ravel()
        reuse.append(taken)
        symbols.append(own)
    return PfnrBody(config, before, tuple(reuse), tuple(symbols), tuple(steps))


def _read_network(reader: PayloadReader, *, height: int, width: int) -> PfnrConfig:
    body = decode_config(reader.take(reader.number(1 << 10)), height=height, width=width)
    own: dict[str, Any] = {"fourier_stage": reader.number(16), "modes": reader.number(MAX_MODES)}
    widths = {name: reader.number(MAX_CHANNELS) for name in body.width_fields}
    try:
        return pfnr_config(replace(body, **widths), **own)
    except UsageError as error:
        raise StreamError(f"PFNR configuration: {error}") from None
