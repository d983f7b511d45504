"""What network is built and how the padded size, strides and width follow from a video's size."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from nvc.errors import UsageError

# The stream stores the position of a name in its tuple: append only, never reorder.
FRAME_CODES = ("embedding", "time", "grids")
STEMS = ("pointwise", "mlp", "fusion")
BLOCKS = ("pixelshuffle", "bilinear")
MODULATIONS = ("none", "film", "grids")
SKIPS = ("none", "bilinear")
WRAPS = ("none", "separable")
HEADS = ("rgb", "rgb_sigmoid", "yuv420")
ACTIVATIONS = ("gelu", "silu", "relu", "sine")

CAMERAS = ("none", "affine")
STILLS = ("none", "maps")

# What each part may be; the order is that of the CONFIG unit.
PARTS = (
    ("frame_code", FRAME_CODES),
    ("stem", STEMS),
    ("block", BLOCKS),
    ("modulation", MODULATIONS),
    ("skip", SKIPS),
    ("wrap", WRAPS),
    ("head", HEADS),
    ("activation", ACTIVATIONS),
)
CODINGS = ("own", "paper")  # nvc.inr.coding, or nvc.inr.published
# What each group gives itself, in this order; still_level only where there are still maps.
WIDTHS = ("stem_width", "min_channels", "embedding_channels", "hidden_width", "still_level")
# Which frame codes a stem reads.
STEM_CODES = {"pointwise": ("embedding", "grids"), "mlp": ("time",), "fusion": ("time",)}

MAX_STAGES = 8
MAX_STRIDE = 8
MAX_CHANNELS = 4096
MAX_KERNEL = 7
MAX_GRID = 4096
MAX_ACTIVATION_VALUES = 1 << 28  # one feature map of a frame, in values
MAX_FRAMES = 1 << 16
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

    grid is (rows, columns) of the frame code; each stage upsamples by its stride and the head by
    head_stride, so the network writes grid * scale pixels, of which the video's size is the top
    left part. Channels: stem_width after the stem, first_percent of it after the first stage, then
    max(round(100 C / reduction_percent), min_channels) after each (HNeRV, Chen et al., CVPR 2023,
    section 3.1; NeRV, Chen et al., NeurIPS 2021, section 3.1).

    embedding_channels: of the embedding, or of all levels of the temporal grids. hidden_width: of
    what computes with time, its other widths being fixed shares of it. time_levels and
    time_base_percent: the positional encoding of time. frames: of the group, for what depends on
    it. coding: how its weights are written. camera: whether frames are seen through a map each
    (nvc.inr.camera). still: whether the last stages have learned maps that no frame changes;
    still_level: how many of the last stages are without one, the finest having one channel and
    that before it two. floor and hidden: (value, stem width from which it
    holds), less in proportion below.

    Raises UsageError when a part is unknown or a size is out of bounds.
    """

    grid: tuple[int, int]
    strides: tuple[int, ...]
    stem_width: int
    embedding_channels: int = 16
    hidden_width: int = 64
    kernels: tuple[int, ...] = (1, 3, 5, 5, 5)
    first_percent: int = 120
    reduction_percent: int = 120
    min_channels: int = 12
    head_kernel: int = 3
    time_levels: int = 40
    time_base_percent: int = 125
    grid_levels: int = 2
    frame_code: str = "embedding"
    stem: str = "pointwise"
    block: str = "pixelshuffle"
    modulation: str = "none"
    skip: str = "none"
    wrap: str = "none"
    head: str = "rgb"
    activation: str = "gelu"
    coding: str = "own"
    camera: str = "none"
    still: str = "none"
    still_level: int = 0
    frames: int = 1
    floor: tuple[int, int] = (12, 32)
    hidden: tuple[int, int] = (64, 32)

    def __post_init__(self) -> None:
        for field, allowed in PARTS:
            _allowed(field.replace("_", " "), getattr(self, field), allowed)
        _allowed("coding", self.coding, CODINGS)
        _allowed("camera", self.camera, CAMERAS)
        _allowed("still maps", self.still, STILLS)
        _bounded("level of still maps", self.still_level, 0, MAX_STAGES)
        if self.frame_code not in STEM_CODES[self.stem]:
            raise UsageError(
                f"the {self.stem} stem reads no {self.frame_code} frame code; allowed: "
                f"{', '.join(STEM_CODES[self.stem])}"
            )
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
        _bounded("hidden width", self.hidden_width, 8, MAX_CHANNELS)
        _bounded("first channels in percent", self.first_percent, 100, 1000)
        _bounded("channel reduction in percent", self.reduction_percent, 100, 1000)
        _bounded("minimum of channels", self.min_channels, 1, MAX_CHANNELS)
        _bounded("levels of time", self.time_levels, 1, 128)
        _bounded("base of time in percent", self.time_base_percent, 101, 200)
        _bounded("grid levels", self.grid_levels, 1, 8)
        _bounded("frames of a group", self.frames, 1, MAX_FRAMES)
        if self.largest_activation() > MAX_ACTIVATION_VALUES:
            raise UsageError(
                f"a network of width {self.stem_width} for {self.padded_size[1]}x"
                f"{self.padded_size[0]} needs feature maps of {self.largest_activation()} values; "
                f"allowed: {MAX_ACTIVATION_VALUES}"
            )

    @property
    def width_fields(self) -> tuple[str, ...]:
        """Fields that each group has its own of."""
        return WIDTHS if self.still != "none" else WIDTHS[:-1]

    @property
    def still_channels(self) -> tuple[int, ...]:
        """Channels of the still maps of each stage."""
        stages = len(self.strides)
        if self.still == "none":
            return (0,) * stages
        finest = stages - 1 - self.still_level
        return tuple({finest: 1, finest - 1: 2}.get(stage, 0) for stage in range(stages))

    @property
    def still_values(self) -> int:
        """Values of all still maps."""
        total, pixels = 0, self.grid[0] * self.grid[1]
        for stride, channels in zip(self.strides, self.still_channels, strict=True):
            pixels *= stride * stride
            total += pixels * channels
        return total

    @property
    def head_stride(self) -> int:
        """What the head upsamples by: 2 where it writes 4:2:0 planes."""
        return 2 if self.head == "yuv420" else 1

    @property
    def scale(self) -> int:
        """The product of all strides: padded sizes are multiples of it."""
        return math.prod(self.strides) * self.head_stride

    @property
    def padded_size(self) -> tuple[int, int]:
        """(height, width) in pixels of what the network writes."""
        return self.grid[0] * self.scale, self.grid[1] * self.scale

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels after the stem and after each stage; len(strides) + 1 values."""
        widths = [self.stem_width]
        for percent in (self.first_percent, *[self.reduction_percent] * (len(self.strides) - 1)):
            narrowed = round(widths[-1] * 100 / percent)
            widths.append(narrowed if percent == 100 else max(narrowed, self.min_channels))
        return tuple(widths)

    @property
    def code_channels(self) -> int:
        """Channels of the codes that are coded a frame: 0 where a code follows from time alone."""
        return self.embedding_channels if self.frame_code == "embedding" else 0

    @property
    def embedding_values(self) -> int:
        """Values of one frame's embedding."""
        return self.code_channels * self.grid[0] * self.grid[1]

    @property
    def grid_shapes(self) -> tuple[tuple[int, int], ...]:
        """(steps, channels) of each level of the temporal grids; the steps halve."""
        base, more = divmod(self.embedding_channels, self.grid_levels)
        return tuple(
            (max(2, -(-self.frames >> level)), base + (level < more))
            for level in range(self.grid_levels)
            if base + (level < more)
        )

    @property
    def modulation_steps(self) -> int:
        """Steps in time of a modulation's grids."""
        return max(2, -(-self.frames // 4))

    @property
    def timed(self) -> bool:
        """Whether the network reads times, so that the shapes of some parameters or what they
        stand for depend on the number of frames."""
        parts = (self.modulation, self.camera)
        return self.frame_code != "embedding" or parts != ("none", "none")

    def for_frames(self, frames: int) -> NetworkConfig:
        """The same network for a group of `frames` frames."""
        return replace(self, frames=frames) if self.timed else self

    def largest_activation(self) -> int:
        """Values of the largest feature map of one frame."""
        pixels = self.grid[0] * self.grid[1]
        largest = pixels * max(self.channels[0], self.embedding_channels, self.hidden_width)
        if self.stem == "fusion":
            largest = max(largest, pixels * pixels)  # attention of every cell to every cell
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

        A published floor (12 channels in HNeRV) makes narrow networks nearly all floor (67,000
        parameters at 320x640 whatever the width), so there the floor shrinks with the width, and
        so does the hidden width.
        """
        floor, floor_from = self.floor
        hidden, hidden_from = self.hidden
        return replace(
            self,
            stem_width=stem_width,
            min_channels=min(floor, max(3, floor * stem_width // floor_from)),
            hidden_width=min(hidden, max(8, hidden * stem_width // hidden_from // 8 * 8)),
            embedding_channels=embedding_channels or self.embedding_channels,
        )


@lru_cache(maxsize=64)
def choose_strides(height: int, width: int, stages: int = 5, cells: int = 8) -> tuple[int, ...]:
    """Strides for a video size: little padding and about `cells` grid cells, largest first.

    Gives the strides HNeRV publishes for its sizes: 5,4,4,2,2 at 640x1280, 5,4,3,2,2 at 480x960,
    5,4,4,3,2 at 960x1920, and NeRV's 5,2,2,2,2 with 144 cells at 720x1280. An octave away from the
    cells weighs as much as 5 % of padding.
    """
    best, best_cost = (1,) * stages, math.inf
    for strides in itertools.combinations_with_replacement((5, 4, 3, 2, 1), stages):
        scale = math.prod(strides)
        rows, columns = -(-height // scale), -(-width // scale)
        padding = rows * columns * scale * scale / (height * width) - 1
        octaves = abs(math.log2(rows * columns / cells))
        cost = padding + 0.05 * octaves + 1e-5 * sum(stride * stride for stride in strides)
        if cost < best_cost:
            best, best_cost = strides, cost
    return best


def network_for_size(
    height: int,
    width: int,
    *,
    stem_width: int = 32,
    stages: int = 5,
    cells: int = 8,
    largest_kernel: int = 5,
    **parts: Any,
) -> NetworkConfig:
    """A network for frames of height x width pixels, with strides chosen for them.

    Without other arguments this is HNeRV's. cells: of the frame code's grid, about. Kernels grow
    by 2 a stage from 1 to largest_kernel, or are all 3 where that is 3, as NeRV has them. parts:
    fields of NetworkConfig.
    """
    stride = 2 if parts.get("head") == "yuv420" else 1
    cells = min(cells, max(8, height * width // 256))  # small pictures want stages too
    strides = choose_strides(-(-height // stride), -(-width // stride), stages, cells)
    if largest_kernel == 3:
        # A stage that does not upsample only adds weights in NeRV.
        strides = tuple(value for value in strides if value > 1) or (1,)
        kernels = (3,) * len(strides)
    else:
        kernels = tuple(min(1 + 2 * stage, largest_kernel) for stage in range(len(strides)))
    scale = math.prod(strides) * stride
    config = NetworkConfig(
        grid=(-(-height // scale), -(-width // scale)),
        strides=strides,
        stem_width=stem_width,
        kernels=kernels,
        **parts,
    )
    return config.with_width(stem_width)
