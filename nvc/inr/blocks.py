"""The layers a decoder network is made of.

Weights live as matrices (out, in * kernel * kernel), which is the shape Muon, row-wise priors and
the weight coder work on; they are viewed as kernels when they are used.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

ACTIVATION_FUNCTIONS = {
    "gelu": functional.gelu,
    "silu": functional.silu,
    "relu": functional.relu,
}


class MatrixConv2d(nn.Module):
    """Convolution of stride 1 that keeps its size: (B, in, H, W) -> (B, out, H, W).

    weight (out, in * k * k) and bias (out,) start uniform in +-1 / sqrt(in * k * k), as torch's own
    convolution does.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.kernel = in_channels, out_channels, kernel
        fan_in = in_channels * kernel * kernel
        bound = 1 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(out_channels, fan_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # (out, in * k * k) -> (out, in, k, k)
        kernel = self.weight.view(self.out_channels, self.in_channels, self.kernel, self.kernel)
        return functional.conv2d(x, kernel, self.bias, padding=self.kernel // 2)


def shuffle_pixels(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Pixel shuffle of (B, stride * stride * C, H, W), channels_last, to (B, C, H * s, W * s).

    The channels of a pixel come in the order (row, column, C), where torch's own shuffle has
    (C, row, column): a permutation of the convolution's rows, so the same family of networks, but
    whole runs of memory move at once: 4 times faster than torch's with its gradient on a CPU.
    """
    if stride == 1:
        return x
    batch, channels, height, width = x.shape
    channels //= stride * stride
    # (B, s * s * C, H, W) -> (B, H, W, s, s * C) -> (B, H, s, W, s * C) -> (B, H * s, W * s, C)
    rows = x.permute(0, 2, 3, 1).reshape(batch, height, width, stride, stride * channels)
    rows = rows.permute(0, 1, 3, 2, 4).reshape(batch, height * stride, width * stride, channels)
    return rows.permute(0, 3, 1, 2)


class PixelShuffleBlock(nn.Module):
    """HNeRV's upsampling block: convolution, pixel shuffle, activation.

    (B, in, H, W) -> (B, out, H * stride, W * stride)
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int, activation: str
    ) -> None:
        super().__init__()
        self.stride = stride
        self.conv = MatrixConv2d(in_channels, out_channels * stride * stride, kernel)
        self.activation = ACTIVATION_FUNCTIONS[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # (B, s * s * out, H, W) -> (B, out, H * s, W * s)
        return self.activation(shuffle_pixels(self.conv(x), self.stride))


class PointwiseStem(nn.Module):
    """1x1 convolution and activation: (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, activation: str) -> None:
        super().__init__()
        self.conv = MatrixConv2d(in_channels, out_channels, 1)
        self.activation = ACTIVATION_FUNCTIONS[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.conv(x))


class RgbHead(nn.Module):
    """Convolution to RGB and tanh(x) / 2 + 1/2: (B, in, H, W) -> (B, 3, H, W) in [0, 1]."""

    def __init__(self, in_channels: int, *, kernel: int) -> None:
        super().__init__()
        self.conv = MatrixConv2d(in_channels, 3, kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The output stays in float32 when autocast runs the convolution in less.
        return torch.tanh(self.conv(x).float()) * 0.5 + 0.5
