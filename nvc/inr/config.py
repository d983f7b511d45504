"""What network is built and how the padded size, strides and width follow from a video's size."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import lru_cache

from nvc.errors import UsageError

# The stream stores the position of a name in its tuple: append only, never reorder.
FRAME_CODES = ("embedding",)
STEMS = ("pointwise",)
BLOCKS = ("pixelshuffle",)
HEADS = ("rgb",)
ACTIVATIONS = ("gelu", "silu", "relu")

MAX_STAGES = 8
MAX_STRIDE = 8
MAX_CHANNELS = 4096
MAX_KERNEL = 7
MAX_GRID = 4096
MAX_ACTIVATION_VALUES = 1 << 28  # one feature map of a frame, in values
MAX_VALUES = 1 << 25  # parameters and embedding values of a group


def _allowed(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} {value!r} is not known; allowed: {', '.join(allowed)}")


def _bounded(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} {value} is out of range; allowed: {low} to {high}")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The composition and the sizes of one decoder network.

    grid is (rows, columns) of the embedding; each stage upsamples by its stride, so the network
    writes grid * prod(strides) pixels, of which the video's size is the top left part. Channels
    follow HNeRV (Chen et al., CVPR 2023, section 3.1): stem_width after the stem, then
    max(round(C / reduction), min_channels) after each stage.

    Raises UsageError when a part is unknown or a size is out of bounds.
    """

    grid: tuple[int, int]
    strides: tuple[int, ...]
    stem_width: int
    embedding_channels: int = 16
    kernels: tuple[int, ...] = (1, 3, 5, 5, 5)
    reduction_percent: int = 120
    min_channels: int = 12
    head_kernel: int = 3
    frame_code: str = "embedding"
    stem: str = "pointwise"
    block: str = "pixelshuffle"
    head: str = "rgb"
    activation: str = "gelu"

    def __post_init__(self) -> None:
        _allowed("frame code", self.frame_code, FRAME_CODES)
        _allowed("stem", self.stem, STEMS)
        _allowed("block", self.block, BLOCKS)
        _allowed("head", self.head, HEADS)
        _allowed("activation", self.activation, ACTIVATIONS)
        _bounded("number of stages", len(self.strides), 1, MAX_STAGES)
        if len(self.kernels) != len(self.strides):
            raise UsageError(
                f"{len(self.kernels)} kernels for {len(self.strides)} strides; one each is needed"
            )
        for side in self.grid:
            _bounded("embedding grid side", side, 1, MAX_GRID)
        for stride in self.strides:
            _bounded("stride", stride, 1, MAX_STRIDE)
        for kernel in (*self.kernels, self.head_kernel):
            _bounded("kernel", kernel, 1, MAX_KERNEL)
            if kernel % 2 == 0:
                raise UsageError(f"kernel {kernel} is even; allowed: odd sizes to {MAX_KERNEL}")
        _bounded("stem width", self.stem_width, 1, MAX_CHANNELS)
        _bounded("embedding channels", self.embedding_channels, 1, MAX_CHANNELS)
        _bounded("channel reduction in percent", self.reduction_percent, 100, 1000)
        _bounded("minimum of channels", self.min_channels, 1, MAX_CHANNELS)
        if self.largest_activation() > MAX_ACTIVATION_VALUES:
            raise UsageError(
                f"a network of width {self.stem_width} for {self.padded_size[1]}x"
                f"{self.padded_size[0]} needs feature maps of {self.largest_activation()} values; "
                f"allowed: {MAX_ACTIVATION_VALUES}"
            )

    @property
    def scale(self) -> int:
        """The product of the strides: padded sizes are multiples of it."""
        return math.prod(self.strides)

    @property
    def padded_size(self) -> tuple[int, int]:
        """(height, width) in pixels of what the network writes."""
        return self.grid[0] * self.scale, self.grid[1] * self.scale

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels after the stem and after each stage; len(strides) + 1 values."""
        widths = [self.stem_width]
        for _ in self.strides:
            widths.append(max(round(widths[-1] * 100 / self.reduction_percent), self.min_channels))
        return tuple(widths)

    @property
    def embedding_values(self) -> int:
        """Values of one frame's embedding."""
        return self.embedding_channels * self.grid[0] * self.grid[1]

    def largest_activation(self) -> int:
        """Values of the largest feature map of one frame."""
        pixels = self.grid[0] * self.grid[1]
        largest = pixels * self.channels[0]
        for stride, channels in zip(self.strides, self.channels[1:], strict=True):
            pixels *= stride * stride
            largest = max(largest, pixels * channels)
        return largest

    def check_size(self, height: int, width: int) -> None:
        """Raise UsageError unless this network writes height x width with less than one grid cell
        of padding."""
        for name, size, padded in (
            ("height", height, self.padded_size[0]),
            ("width", width, self.padded_size[1]),
        ):
            if not padded - self.scale < size <= padded:
                raise UsageError(f"the network writes a {name} of {padded}, the video has {size}")

    def with_width(self, stem_width: int, embedding_channels: int | None = None) -> NetworkConfig:
        """The same network with another stem width, and other embedding channels when given.

        HNeRV's floor of 12 channels makes networks under 32 wide nearly all floor (67,000
        parameters at 320x640 whatever the width), so there the floor shrinks with the width.
        """
        return replace(
            self,
            stem_width=stem_width,
            min_channels=min(12, max(3, 3 * stem_width // 8)),
            embedding_channels=embedding_channels or self.embedding_channels,
        )


@lru_cache(maxsize=64)
def choose_strides(height: int, width: int, stages: int = 5) -> tuple[int, ...]:
    """Strides for a video size: little padding and about 8 grid cells, largest first.

    Gives the strides HNeRV publishes for its sizes: 5,4,4,2,2 at 640x1280, 5,4,3,2,2 at 480x960,
    5,4,4,3,2 at 960x1920. An octave away from 8 cells weighs as much as 5 % of padding.
    """
    best, best_cost = (1,) * stages, math.inf
    for strides in itertools.combinations_with_replacement((5, 4, 3, 2, 1), stages):
        scale = math.prod(strides)
        rows, columns = -(-height // scale), -(-width // scale)
        padding = rows * columns * scale * scale / (height * width) - 1
        cells = abs(math.log2(rows * columns / 8))
        cost = padding + 0.05 * cells + 1e-5 * sum(stride * stride for stride in strides)
        if cost < best_cost:
            best, best_cost = strides, cost
    return best


def network_for_size(
    height: int, width: int, *, stem_width: int = 32, embedding_channels: int = 16
) -> NetworkConfig:
    """The HNeRV network for frames of height x width pixels, with strides chosen for them."""
    strides = choose_strides(height, width)
    scale = math.prod(strides)
    return NetworkConfig(
        grid=(-(-height // scale), -(-width // scale)),
        strides=strides,
        stem_width=stem_width,
        embedding_channels=embedding_channels,
        kernels=tuple(min(1 + 2 * stage, 5) for stage in range(len(strides))),
    )
