"""Where a frame's code comes from while fitting; the file holds only the resulting table."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # (B, C, H, W) -> (B, H, W, C) and back: a view where x is channels_last
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """ConvNeXt block (Liu et al., CVPR 2022): depthwise 7x7, norm, 4x expansion, residual."""

    def __init__(self, channels: int, *, layer_scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 4 * channels)
        self.project = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # (B, C, H, W) -> (B, H, W, C) and back
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.project(functional.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


class FrameEncoder(nn.Module):
    """HNeRV's ConvNeXt encoder, discarded after the fit: (B, 3, H, W) -> (B, channels, h, w).

    H and W are h and w times the product of the strides; pictures are RGB in [0, 1]. One block a
    stage at `width` channels, the last stage at `channels` (Chen et al., CVPR 2023, section 3.1).
    """

    def __init__(self, strides: tuple[int, ...], *, channels: int = 16, width: int = 64) -> None:
        super().__init__()
        widths = [3, *[width] * (len(strides) - 1), channels]
        stages: list[nn.Module] = []
        for index, stride in enumerate(strides):
            inputs, outputs = widths[index], widths[index + 1]
            patches = nn.Conv2d(inputs, outputs, stride, stride)
            # The first stage normalises after its patches, the others before.
            if index == 0:
                stages += [patches, ChannelNorm(outputs)]
            else:
                stages += [ChannelNorm(inputs), patches]
            stages.append(ConvNextBlock(outputs, layer_scale=1e-6))
        self.stages = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.stages(pictures)


class NoCodes(nn.Module):
    """Codes of no channels, for networks that need none: (B,) -> (B, 0, rows, columns)."""

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(indices), 0, *self.grid, device=indices.device)


class EmbeddingTable(nn.Module):
    """One free code a frame: indices (B,) int64 -> (B, channels, rows, columns)."""

    def __init__(self, frames: int, channels: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(frames, channels, *grid) / math.sqrt(channels))

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        return self.table[indices]
