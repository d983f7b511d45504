"""Stems: from a frame code to the first feature map, (B, stem_width, rows, columns)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from nvc.inr.blocks import ACTIVATION_FUNCTIONS, MatrixConv2d
from nvc.inr.config import NetworkConfig
from nvc.inr.timecode import encode_positions

FUSION_HEADS = 8


class PointwiseStem(nn.Module):
    """1x1 convolution and activation: (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, activation: str) -> None:
        super().__init__()
        self.conv = MatrixConv2d(in_channels, out_channels, 1)
        self.activation = ACTIVATION_FUNCTIONS[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.conv(x))


class TimeMlp(nn.Module):
    """Positional encoding of time and linear layers: (B,) float64 -> (B, widths[-1], 1, 1)."""

    def __init__(self, widths: tuple[int, ...], config: NetworkConfig) -> None:
        super().__init__()
        self.levels, self.base = config.time_levels, config.time_base_percent
        widths = (2 * self.levels, *widths)
        self.layers = nn.ModuleList(
            MatrixConv2d(inputs, outputs, 1) for inputs, outputs in pairwise(widths)
        )
        self.activation = ACTIVATION_FUNCTIONS[config.activation]

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        # (B, 2 * levels) -> (B, 2 * levels, 1, 1)
        x = encode_positions(times, self.levels, self.base)[:, :, None, None]
        for layer in self.layers:
            x = self.activation(layer(x))
        return x


class MlpStem(nn.Module):
    """NeRV's stem: an MLP of two layers on the encoded time, whose output is the first map."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.shape = (config.stem_width, *config.grid)
        cells = config.grid[0] * config.grid[1]
        self.mlp = TimeMlp((config.hidden_width, config.stem_width * cells), config)

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        # (B, C * rows * columns, 1, 1) -> (B, C, rows, columns)
        return self.mlp(times).view(-1, *self.shape)


class TransformerBlock(nn.Module):
    """Attention and a two-layer MLP, each on a normalised input and added to it: (B, N, C) -> same.

    The norms have no weights of their own, which the layers behind them would make redundant.
    """

    def __init__(self, width: int, *, heads: int, head_width: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.qkv = MatrixConv2d(width, 3 * inner, 1, bias=False)
        self.out = MatrixConv2d(inner, width, 1)
        self.expand = MatrixConv2d(width, hidden, 1)
        self.project = MatrixConv2d(hidden, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, count, width = x.shape
        normal = functional.layer_norm(x, (width,))
        qkv = _linear(self.qkv, normal)
        # (B, N, 3 * heads * d) -> three of (B, heads, N, d)
        q, k, v = qkv.view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        # (B, heads, N, d) -> (B, N, heads * d)
        x = x + _linear(self.out, y.transpose(1, 2).reshape(batch, count, -1))
        normal = functional.layer_norm(x, (width,))
        return x + _linear(self.project, functional.gelu(_linear(self.expand, normal)))


def _linear(layer: MatrixConv2d, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, layer.weight, layer.bias)


class FusionStem(nn.Module):
    """E-NeRV's stem (Li et al., ECCV 2022, section 3.2): what is said of time multiplies what is
    said of places, after one transformer block and before another.

    Widths as published for a hidden width of 512: time 512 and 256, places 256, heads of 64.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        hidden, width = config.hidden_width, config.hidden_width // 2
        self.grid = config.grid
        self.time = TimeMlp((hidden, width), config)
        self.place = MatrixConv2d(4 * config.time_levels, width, 1)
        sizes = {"head_width": max(hidden // 8, 1), "hidden": max(hidden // 4, 1)}
        self.place_block = TransformerBlock(width, heads=1, **sizes)
        self.block = TransformerBlock(width, heads=FUSION_HEADS, **sizes)
        self.out = MatrixConv2d(width, config.stem_width, 1)
        self.activation = ACTIVATION_FUNCTIONS[config.activation]
        self.levels, self.base = config.time_levels, config.time_base_percent

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        place = self.place_block(self.activation(_linear(self.place, self._places(times.device))))
        # (B, C, 1, 1) -> (B, 1, C), times (1, N, C)
        x = self.block(self.time(times).flatten(1)[:, None] * place)
        # (B, N, C) -> (B, C, rows, columns)
        return _linear(self.out, x).transpose(1, 2).unflatten(2, self.grid)

    def _places(self, device: torch.device) -> torch.Tensor:
        """(1, rows * columns, 4 * levels) encoding of the rows and columns."""
        rows, columns = (torch.arange(n, device=device) / n for n in self.grid)
        down = encode_positions(rows, self.levels, self.base)
        across = encode_positions(columns, self.levels, self.base)
        both = (
            down[:, None].expand(-1, len(columns), -1),
            across[None].expand(len(rows), -1, -1),
        )
        return torch.cat(both, dim=2).flatten(0, 1)[None]
