"""The layers a decoder network is made of.

Weights live as matrices (out, in * kernel * kernel), which is the shape Muon, row-wise priors and
the weight coder work on; they are viewed as kernels when they are used.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from nvc.inr.config import NetworkConfig
from nvc.inr.timecode import TemporalGrid

ACTIVATION_FUNCTIONS = {
    "gelu": functional.gelu,
    "silu": functional.silu,
    "relu": functional.relu,
    "sine": torch.sin,
}


class MatrixConv2d(nn.Module):
    """Convolution of stride 1 that keeps its size: (B, in, H, W) -> (B, out, H, W).

    weight (out, in / groups * k * k) and bias (out,), when there is one, start uniform in
    +-1 / sqrt(in / groups * k * k), as torch's own convolution does.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        bias: bool = True,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.out_channels, self.kernel, self.groups = out_channels, kernel, groups
        self.in_channels = in_channels // groups
        fan_in = self.in_channels * kernel * kernel
        bound = 1 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(out_channels, fan_in).uniform_(-bound, bound))
        self.bias = (
            nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound)) if bias else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # (out, in * k * k) -> (out, in, k, k)
        kernel = self.weight.view(self.out_channels, self.in_channels, self.kernel, self.kernel)
        padding = self.kernel // 2
        return functional.conv2d(x, kernel, self.bias, padding=padding, groups=self.groups)


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


def enlarge(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Bilinear interpolation of (B, C, H, W) to (B, C, H * stride, W * stride)."""
    if stride == 1:
        return x
    return functional.interpolate(x, scale_factor=stride, mode="bilinear", align_corners=False)


def modulate(x: torch.Tensor, scale_shift: torch.Tensor) -> torch.Tensor:
    """Instance norm of (B, C, H, W), times 1 + the first C of (B, 2 C, 1, 1), plus the others."""
    scale, shift = scale_shift.to(x.dtype).chunk(2, dim=1)
    return functional.instance_norm(x) * (1 + scale) + shift


class SeparableResidual(nn.Module):
    """x + pointwise(activation(depthwise 3x3(x))): (B, C, H, W) -> (B, C, H, W).

    NeRV++'s separable residual block (Ghorbel et al., 2024, section 3).
    """

    def __init__(self, channels: int, *, activation: str) -> None:
        super().__init__()
        self.depthwise = MatrixConv2d(channels, channels, 3, groups=channels)
        self.pointwise = MatrixConv2d(channels, channels, 1)
        self.activation = ACTIVATION_FUNCTIONS[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.pointwise(self.activation(self.depthwise(x)))


class StillMap(nn.Module):
    """A learned map that is the same in all frames: (1, out, H, W), to be added to features.

    map: (C, H, W), mixed into the features by a matrix (out, C).
    """

    def __init__(self, channels: int, size: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.randn(channels, *size) * 0.1)
        self.mix = MatrixConv2d(channels, outputs, 1, bias=False)

    def forward(self) -> torch.Tensor:
        return self.mix(self.map[None].contiguous(memory_format=torch.channels_last))


class UpBlock(nn.Module):
    """One stage: (B, in, H, W) -> (B, out, H * stride, W * stride), after the stage's parts.

    In order: FiLM on a normalised input (E-NeRV, Li et al., ECCV 2022, section 3.3), a separable
    residual block (NeRV++), convolution and pixel shuffle or interpolation and convolution, plus
    the interpolated input through a 1x1 convolution (NeRV++), modulation by grids over time on the
    normalised output (CAM, Lee et al., ICLR 2024, section 3), plus a still map, activation,
    another residual block.
    """

    def __init__(self, inputs: int, outputs: int, *, stage: int, config: NetworkConfig) -> None:
        super().__init__()
        self.stride, self.shuffles = config.strides[stage], config.block == "pixelshuffle"
        self.activation = ACTIVATION_FUNCTIONS[config.activation]
        self.film = self.before = self.skip = self.grid = self.still = self.after = None
        if config.modulation == "film":
            self.film = MatrixConv2d(config.hidden_width // 4, 2 * inputs, 1)
        if config.wrap == "separable":
            self.before = SeparableResidual(inputs, activation=config.activation)
        wide = outputs * self.stride**2 if self.shuffles else outputs
        self.conv = MatrixConv2d(inputs, wide, config.kernels[stage])
        if config.skip == "bilinear":
            self.skip = MatrixConv2d(inputs, outputs, 1)
        if config.modulation == "grids":
            self.grid = TemporalGrid(config.modulation_steps, 2 * outputs, (1, 1), spread=0.0)
        if config.still_channels[stage]:
            scale = math.prod(config.strides[: stage + 1])
            size = (config.grid[0] * scale, config.grid[1] * scale)
            self.still = StillMap(config.still_channels[stage], size, outputs)
        if config.wrap == "separable":
            self.after = SeparableResidual(outputs, activation=config.activation)

    def forward(
        self, x: torch.Tensor, position: torch.Tensor | None, features: torch.Tensor | None
    ) -> torch.Tensor:
        """position: (B,) in [0, 1] of the frames; features: (B, hidden / 4, 1, 1) of their time."""
        if self.film is not None:
            x = modulate(x, self.film(features))
        if self.before is not None:
            x = self.before(x)
        if self.shuffles:
            # (B, s * s * out, H, W) -> (B, out, H * s, W * s)
            y = shuffle_pixels(self.conv(x), self.stride)
        else:
            y = self.conv(enlarge(x, self.stride))
        if self.skip is not None:
            y = y + enlarge(self.skip(x), self.stride)
        if self.grid is not None:
            y = modulate(y, self.grid(position))
        if self.still is not None:
            y = y + self.still()
        y = self.activation(y)
        return y if self.after is None else self.after(y)


class Head(nn.Module):
    """Convolution to the picture, float32: (B, in, H, W) -> (B, 3, H, W) RGB in [0, 1], or
    (B, 6, H, W): four of Y, row by row, one of Cb and Cr, 0 to 1 over all sample values, unclamped.

    RGB is squashed by tanh(x) / 2 + 1/2 (HNeRV) or the logistic function (E-NeRV).
    """

    def __init__(self, in_channels: int, *, kernel: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = MatrixConv2d(in_channels, 6 if kind == "yuv420" else 3, kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The output stays in float32 when autocast runs the convolution in less.
        y = self.conv(x).float()
        if self.kind == "yuv420":
            return y * 0.5 + 0.5
        return torch.sigmoid(y) if self.kind == "rgb_sigmoid" else torch.tanh(y) * 0.5 + 0.5
