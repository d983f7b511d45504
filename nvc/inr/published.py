"""The published pipeline, for comparison: weights of a float fit rounded to 8 bits between their
minimum and maximum, a tensor at a time, and coded with Huffman (HNeRV, Chen et al., CVPR 2023,
section 4.2). Nothing in the fit knows of it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace

import numpy as np
import torch

from nvc.bitstream.bits import pack_varint
from nvc.errors import StreamError, UsageError
from nvc.inr.config import NetworkConfig
from nvc.inr.huffman import decode_bytes, encode_bytes
from nvc.inr.matrices import PayloadReader
from nvc.inr.network import DecoderNetwork, parameter_shapes

LEVELS = 255
_RANGE = struct.Struct("<ff")


@dataclass(frozen=True, eq=False)
class MinMaxGroup:
    """A group whose tensors are bytes between two numbers; the same interface as QuantisedGroup.

    symbols: uint8, one array a parameter and last the embedding (frames, channels, rows, columns);
    ranges: (minimum, step) of each, as float32 has them.
    """

    config: NetworkConfig
    symbols: tuple[np.ndarray, ...]
    ranges: tuple[tuple[float, float], ...]

    @property
    def frames(self) -> int:
        """Frames the group decodes to."""
        return self.symbols[-1].shape[0]

    def network(self, device: torch.device | str) -> DecoderNetwork:
        """The decoder network with the dequantised weights, float32, ready to run."""
        with torch.device("meta"):
            network = DecoderNetwork(self.config)
        names = parameter_shapes(self.config)
        tensors = {name: self._tensor(i, device) for i, name in enumerate(names)}
        network.load_state_dict(tensors, assign=True)
        return network.eval().requires_grad_(False)

    def codes(self, device: torch.device | str) -> torch.Tensor:
        """(frames, channels, rows, columns) float32 dequantised embedding."""
        return self._tensor(len(self.symbols) - 1, device)

    def _tensor(self, index: int, device: torch.device | str) -> torch.Tensor:
        low, step = self.ranges[index]
        values = low + step * self.symbols[index].astype(np.float64)
        return torch.from_numpy(values.astype(np.float32)).to(device)


def min_max_group(
    config: NetworkConfig, parameters: list[torch.Tensor], codes: torch.Tensor
) -> MinMaxGroup:
    """Round a float fit to 256 levels a tensor."""
    symbols, ranges = [], []
    for tensor in (*parameters, codes):
        values = tensor.detach().float().cpu().numpy()
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        step = float(np.float32((high - low) / LEVELS)) or 1.0
        symbols.append(np.clip(np.rint((values - low) / step), 0, LEVELS).astype(np.uint8))
        ranges.append((low, step))
    return MinMaxGroup(config, tuple(symbols), tuple(ranges))


def encode_published(group: MinMaxGroup) -> bytes:
    """The PARAMETERS payload: widths, minimum and step of each tensor, one Huffman code for all."""
    head = b"".join(pack_varint(getattr(group.config, name)) for name in group.config.width_fields)
    ranges = b"".join(_RANGE.pack(*pair) for pair in group.ranges)
    values = np.concatenate([symbols.ravel() for symbols in group.symbols])
    return head + ranges + encode_bytes(values)


def decode_published(payload: bytes, config: NetworkConfig, frames: int) -> MinMaxGroup:
    """Undo encode_published. Raises StreamError on what it does not write, before allocating."""
    reader = PayloadReader(payload)
    try:
        config = replace(config, **{name: reader.number(1 << 16) for name in config.width_fields})
    except UsageError as error:
        raise StreamError(f"INR parameters: {error}") from None
    config = config.for_frames(frames)
    shapes = list(parameter_shapes(config).values())
    shapes.append((frames, config.code_channels, *config.grid))
    ranges = tuple(_RANGE.unpack(reader.take(_RANGE.size)) for _ in shapes)
    if not all(math.isfinite(value) for pair in ranges for value in pair):
        raise StreamError("INR parameters: a range is not finite")
    sizes = [math.prod(shape) for shape in shapes]
    values = np.split(decode_bytes(reader.rest(), sum(sizes)), np.cumsum(sizes)[:-1])
    symbols = tuple(v.reshape(shape) for v, shape in zip(values, shapes, strict=True))
    return MinMaxGroup(config, symbols, ranges)
