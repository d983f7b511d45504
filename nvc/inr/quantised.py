"""A fitted group as the integers the file holds, and the tensors they stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from nvc.errors import StreamError
from nvc.inr.config import NetworkConfig
from nvc.inr.network import build_network, parameter_shapes
from nvc.inr.parameters import SYMBOL_LIMIT, step_code, step_value


@dataclass(frozen=True, eq=False)
class QuantisedGroup:
    """One group's network and codes in integers.

    symbols: one int32 array a parameter, in the order and shapes of parameter_shapes(config);
    step_codes: their 16-bit steps; embedding: int32 (frames, channels, rows, columns) with its own
    step code.
    """

    config: NetworkConfig
    symbols: tuple[np.ndarray, ...]
    step_codes: tuple[int, ...]
    embedding: np.ndarray
    embedding_step_code: int

    @property
    def frames(self) -> int:
        """Frames the group decodes to."""
        config = self.config
        return self.embedding.shape[0] if config.code_channels else config.frames

    def less(self, base: QuantisedGroup) -> tuple[np.ndarray, ...]:
        """The weights as differences from another group's of the same widths and steps."""
        config = base.config.for_frames(self.frames)
        if (self.config, self.step_codes) != (config, base.step_codes):
            raise ValueError("a residual group has the widths and the steps of its base")
        return tuple(mine - other for mine, other in zip(self.symbols, base.symbols, strict=True))

    def plus(self, base: QuantisedGroup) -> QuantisedGroup:
        """Undo `less`: this group's symbols are differences. StreamError when one is too large."""
        summed = []
        for mine, other in zip(self.symbols, base.symbols, strict=True):
            values = mine.astype(np.int64) + other
            if np.abs(values).max(initial=0) >= 1 << 24:
                raise StreamError("INR parameters: a weight is out of range")
            summed.append(values.astype(np.int32))
        return replace(self, symbols=tuple(summed))

    def network(self, device: torch.device | str) -> torch.nn.Module:
        """The decoder network with the dequantised weights, float32, ready to run."""
        with torch.device("meta"):
            network = build_network(self.config)
        tensors = {
            name: dequantise(symbols, code, device)
            for name, symbols, code in zip(
                parameter_shapes(self.config), self.symbols, self.step_codes, strict=True
            )
        }
        network.load_state_dict(tensors, assign=True)
        return network.eval().requires_grad_(False)

    def codes(self, device: torch.device | str) -> torch.Tensor:
        """(frames, channels, rows, columns) float32 dequantised embedding."""
        return dequantise(self.embedding, self.embedding_step_code, device)


@dataclass(frozen=True, eq=False)
class Base:
    """What a residual group starts from: the group before it, and the state of its code source."""

    group: QuantisedGroup
    source: dict[str, torch.Tensor]


def dequantise(symbols: np.ndarray, code: int, device: torch.device | str) -> torch.Tensor:
    """Integers times their step, float32, same shape."""
    values = symbols.astype(np.float64) * step_value(code)
    return torch.from_numpy(values.astype(np.float32)).to(device)


def quantise(values: torch.Tensor, log2_step: float) -> tuple[np.ndarray, int]:
    """float32 values of any shape to int32 symbols and the step code they are multiples of."""
    code = step_code(log2_step)
    scaled = values.detach().double().cpu().numpy() / step_value(code)
    limit = SYMBOL_LIMIT - 1
    return np.clip(np.rint(scaled), -limit, limit).astype(np.int32), code


def quantise_group(
    config: NetworkConfig,
    parameters: list[torch.Tensor],
    log2_steps: list[float],
    codes: torch.Tensor,
    log2_embedding_step: float,
) -> QuantisedGroup:
    """Round a fitted group to what the file will hold."""
    rounded = [quantise(p, step) for p, step in zip(parameters, log2_steps, strict=True)]
    embedding, embedding_code = quantise(codes, log2_embedding_step)
    return QuantisedGroup(
        config=config,
        symbols=tuple(symbols for symbols, _ in rounded),
        step_codes=tuple(code for _, code in rounded),
        embedding=embedding,
        embedding_step_code=embedding_code,
    )


def symbol_count(config: NetworkConfig, frames: int) -> int:
    """Integers a group of `frames` frames holds."""
    decoder = sum(math.prod(shape) for shape in parameter_shapes(config).values())
    return decoder + frames * config.embedding_values
