"""Frame codes that follow from a frame's time: positional encodings and interpolated grids."""

from __future__ import annotations

import math

import torch
from torch import nn


def encode_positions(positions: torch.Tensor, levels: int, base_percent: int) -> torch.Tensor:
    """Sines, then cosines, of pi * base**i * p for i under levels: (N,) -> (N, 2 * levels) float32.

    Computed in float64: the highest of 80 levels turns 1e7 times, where float32 holds no phase any
    more and every machine would get another one (NeRV, Chen et al., NeurIPS 2021, equation 1).
    """
    powers = torch.arange(levels, device=positions.device, dtype=torch.float64)
    frequencies = math.pi * torch.pow(base_percent / 100, powers)
    angles = positions.double()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


class TemporalGrid(nn.Module):
    """A learned tensor over time, interpolated linearly: (B,) in [0, 1] -> (B, C, rows, columns).

    table: (steps, C, rows, columns), normal of standard deviation `spread` at the start.
    """

    def __init__(self, steps: int, channels: int, cells: tuple[int, int], *, spread: float) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(steps, channels, *cells) * spread)

    def forward(self, position: torch.Tensor) -> torch.Tensor:
        last = self.table.shape[0] - 1
        place = position * last
        low = place.floor().clamp(0, last - 1)
        part = (place - low).to(self.table.dtype)[:, None, None, None]
        low = low.long()
        return self.table[low] * (1 - part) + self.table[low + 1] * part
