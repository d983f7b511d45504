"""A decoder network composed from its configuration, its parameter count, and its width search."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import singledispatch
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from nvc.errors import UsageError
from nvc.inr.blocks import Head, UpBlock
from nvc.inr.camera import Camera
from nvc.inr.config import MAX_CHANNELS, MAX_VALUES, NetworkConfig
from nvc.inr.stems import FusionStem, MlpStem, PointwiseStem, TimeMlp
from nvc.inr.timecode import TemporalGrid

STILL_SHARE = 0.45  # of the size, that still maps may take


class DecoderNetwork(nn.Module):
    """Frame codes and times to pictures: (B, C, rows, columns) and (B,) -> (B, channels, H, W).

    The output is the head's: float32, of the padded size; the caller crops. codes are read by
    networks with embeddings only, times by the others and by modulation: float64 numbers of frames
    over the frames of the group, in [0, 1), fractions of a frame allowed. With HNeRV's parts this
    is the decoder of Chen et al., CVPR 2023, section 3.1.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.grids = None
        if config.frame_code == "grids":
            self.grids = nn.ModuleList(
                TemporalGrid(steps, width, config.grid, spread=0.1)
                for steps, width in config.grid_shapes
            )
        if config.stem == "pointwise":
            self.stem: nn.Module = PointwiseStem(
                config.embedding_channels, channels[0], activation=config.activation
            )
        else:
            self.stem = MlpStem(config) if config.stem == "mlp" else FusionStem(config)
        self.features = None
        if config.modulation == "film":
            self.features = TimeMlp((config.hidden_width // 4,) * 2, config)
        self.blocks = nn.ModuleList(
            UpBlock(inputs, outputs, stage=stage, config=config)
            for stage, (inputs, outputs) in enumerate(pairwise(channels))
        )
        self.head = Head(channels[-1], kernel=config.head_kernel, kind=config.head)
        self.camera = None
        if config.camera == "affine":
            self.camera = Camera(config.frames, head=config.head)

    def forward(
        self, codes: torch.Tensor | None, times: torch.Tensor | None = None
    ) -> torch.Tensor:
        frames = self.config.frames
        position = None if times is None else times * (frames / max(frames - 1, 1))
        if self.grids is not None:
            x = self.stem(torch.cat([grid(position) for grid in self.grids], dim=1))
        else:
            x = self.stem(codes if self.config.frame_code == "embedding" else times)
        x = x.contiguous(memory_format=torch.channels_last)
        features = None if self.features is None else self.features(times)
        for block in self.blocks:
            x = block(x, position, features)
        y = self.head(x)
        return y if self.camera is None else self.camera(y, position)


def frame_times(frames: int) -> torch.Tensor:
    """(frames,) float64: the time of each frame of a group, its number over their count."""
    return torch.arange(frames, dtype=torch.float64) / frames


@singledispatch
def build_network(config: Any) -> nn.Module:
    """The network of a configuration; kinds of networks other than this one register theirs."""
    return DecoderNetwork(config)


def parameter_shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the decoder's parameters in the order they are coded; no allocation."""
    with torch.device("meta"):
        network = build_network(config)
    return {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}


def parameter_count(config: NetworkConfig, frames: int) -> int:
    """Decoder parameters plus embedding values of `frames` frames: the size HNeRV quotes."""
    config = config.for_frames(frames)
    decoder = sum(math.prod(shape) for shape in parameter_shapes(config).values())
    return decoder + frames * config.embedding_values


def code_values(config: NetworkConfig, frames: int) -> int:
    """Values of the frame codes of the group: of all embeddings, or of the temporal grids."""
    if config.frame_code == "grids":
        cells = config.grid[0] * config.grid[1]
        return sum(steps * channels * cells for steps, channels in config.grid_shapes)
    return frames * config.embedding_values


def published_width(config: NetworkConfig, frames: int, size_params: int) -> int:
    """The stem width by HNeRV's own rule: the root of a quadratic in the width, rounded down.

    The rule neglects rounding, the floor of the channels and the head, so the count it gives is
    only near `size_params`. It gives 32, 48, 68, 97 for 0.35, 0.75, 1.5, 3 M at 132 x 640x1280.
    """
    ratio = 100 / config.reduction_percent
    stages = zip(config.strides, config.kernels, strict=True)
    square = sum(
        ratio ** (2 * stage + 1) * (stride * kernel) ** 2
        for stage, (stride, kernel) in enumerate(stages)
    )
    linear = 9 * config.embedding_channels
    rest = size_params - frames * config.embedding_values
    if rest <= 0:
        return 1
    root = (math.sqrt(linear * linear + 4 * square * rest) - linear) / (2 * square)
    return min(max(int(root), 1), MAX_CHANNELS)


def width_for_parameters(config: NetworkConfig, frames: int, size_params: int) -> NetworkConfig:
    """The network with about `size_params` parameters and embedding values for `frames` frames.

    HNeRV's own rule where it lands within 7 % of the size (as at the published sizes), else the
    width whose exact count is nearest. Raises UsageError when the smallest network is far larger.
    """
    config = config.for_frames(frames)
    if config.frame_code == "patches":
        return nearest_width(config, frames, size_params)
    published = config.with_width(published_width(config, frames, size_params))
    if abs(parameter_count(published, frames) / size_params - 1) <= 0.07:
        return published
    return nearest_width(config, frames, size_params)


def nearest_width(
    config: NetworkConfig, frames: int, size_params: int, *, still_weight: float = 1.0
) -> NetworkConfig:
    """The network whose exact count is nearest to `size_params`; see width_for_parameters.

    The embedding gets fewer channels when it would take more than 15 % of the values, and still
    maps are coarser when they would take more than STILL_SHARE. Where the size is over the limits
    of feature maps or values, the widest network within them. still_weight: what a value of a
    still map counts.
    """
    config = config.for_frames(frames)
    for channels in (config.embedding_channels, 8, 4, 2):
        config = config.with_width(1, min(channels, config.embedding_channels))
        if code_values(config, frames) <= 0.15 * size_params:
            break
    if config.still != "none":
        # No more than the smallest network leaves, either.
        bare = replace(config, still_level=len(config.strides))
        room = min(STILL_SHARE * size_params, max(size_params - _count(bare, 1, frames), 0))
        for level in range(len(config.strides) + 1):
            config = replace(config, still_level=level)
            if still_weight * config.still_values <= room:
                break
    size_params += round((1 - still_weight) * config.still_values)
    widest = _last(MAX_CHANNELS, lambda width: _within_limits(config, width, frames))
    low = _last(widest, lambda width: _count(config, width, frames) <= size_params)
    near = (low, min(low + 1, widest))
    best = min(near, key=lambda width: abs(_count(config, width, frames) - size_params))
    if best == 1 and _count(config, 1, frames) > 1.5 * size_params:
        raise UsageError(
            f"{size_params} parameters are too few for {frames} frames of "
            f"{config.padded_size[1]}x{config.padded_size[0]}: the smallest network has "
            f"{_count(config, 1, frames)}"
        )
    return config.with_width(best)


def least_values(config: NetworkConfig, frames: int) -> int:
    """The count of the smallest network nearest_width gives."""
    if config.still != "none":
        config = replace(config, still_level=len(config.strides))
    return _count(config.with_width(1, min(2, config.embedding_channels)), 1, frames)


def _last(high: int, holds: Callable[[int], bool]) -> int:
    """The largest width up to `high` for which `holds`, which is true up to some width; at least
    1."""
    low = 1
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _within_limits(config: NetworkConfig, width: int, frames: int) -> bool:
    try:
        return _count(config, width, frames) <= MAX_VALUES
    except UsageError:
        return False


def _count(config: NetworkConfig, width: int, frames: int) -> int:
    return parameter_count(config.with_width(width), frames)
