"""NIRVANA (Maiya et al., CVPR 2023): patches of a group of frames from their coordinates.

What is its own: the coordinate network with one head a frame, weights that are a linear map of
latents, and patches as what a fit draws. Groups, residual coding, quantisation, rate and bytes are
the family's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from nvc.errors import UsageError
from nvc.inr.blocks import shuffle_pixels
from nvc.inr.config import MAX_ACTIVATION_VALUES, MAX_CHANNELS, MAX_GRID
from nvc.inr.groups import ResidentClip, take
from nvc.inr.network import build_network
from nvc.inr.pictures import PictureSpace
from nvc.video.frames import Frame, VideoInfo

MAX_PATCH = 128
MAX_HEADS = 32  # frames of a group
MAX_LAYERS = 8
MAX_BLOCK = 16
UPSAMPLE = 2  # of the block behind the coordinate network
HEAD_WIDTH = 8  # channels a frame in front of its last convolution
OMEGA = 30.0  # SIREN's frequency
PATCHES_AT_ONCE = 1024  # in decoding: a fixed number, so that threads change no sum
PHASE_BASE = 1.25  # of the frames' positional encoding


@dataclass(frozen=True, kw_only=True)
class NirvanaConfig:
    """One coordinate network: grid of patches, their side, SIREN layers, frames of the group.

    stem_width: of the SIREN layers; channels: of the features of half the patch's side that they
    end in; block: latents that make as many weights of a layer together. Raises UsageError.
    """

    grid: tuple[int, int]
    patch: int = 32
    layers: int = 3
    block: int = 4
    stem_width: int = 512
    channels: int = 8
    frames: int = 1

    # What the family's coding and fitting ask of a network's configuration.
    width_fields: ClassVar[tuple[str, ...]] = ("stem_width", "channels")
    coding: ClassVar[str] = "own"
    head: ClassVar[str] = "rgb"
    frame_code: ClassVar[str] = "patches"
    code_channels: ClassVar[int] = 0
    embedding_channels: ClassVar[int] = 1
    embedding_values: ClassVar[int] = 0
    still: ClassVar[str] = "none"
    still_values: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("rows of patches", self.grid[0], 1, MAX_GRID),
            ("columns of patches", self.grid[1], 1, MAX_GRID),
            ("patch", self.patch, 2, MAX_PATCH),
            ("layers", self.layers, 2, MAX_LAYERS),
            ("block", self.block, 1, MAX_BLOCK),
            ("width", self.stem_width, 1, MAX_CHANNELS),
            ("channels", self.channels, 1, MAX_CHANNELS),
            ("frames", self.frames, 1, MAX_HEADS),
        ):
            if not low <= value <= high:
                raise UsageError(f"{name} {value} is out of range; allowed: {low} to {high}")
        if self.patch % UPSAMPLE or self.stem_width % self.block:
            raise UsageError("a patch is of even side, and a width a multiple of the block")
        if self.largest_activation() > MAX_ACTIVATION_VALUES:
            raise UsageError(f"patches need maps of {self.largest_activation()} values at once")

    @property
    def padded_size(self) -> tuple[int, int]:
        """(height, width) in pixels of all patches."""
        return self.grid[0] * self.patch, self.grid[1] * self.patch

    @property
    def patches(self) -> int:
        """Patches of a picture."""
        return self.grid[0] * self.grid[1]

    def largest_activation(self) -> int:
        """Values of the largest map there is at once: of a chunk of patches, or all pictures."""
        half = (self.patch // UPSAMPLE) ** 2
        widths = max(self.channels * self.frames, UPSAMPLE**2 * HEAD_WIDTH * self.frames)
        chunk = min(PATCHES_AT_ONCE, self.patches)
        pictures = 3 * self.frames * math.prod(self.padded_size)
        return max(chunk * max(half * widths, self.stem_width), pictures)

    def check_size(self, height: int, width: int) -> None:
        """Raise UsageError unless the patches cover height x width, none of them in vain."""
        for name, size, padded in zip(
            ("height", "width"), (height, width), self.padded_size, strict=True
        ):
            if not padded - self.patch < size <= padded:
                raise UsageError(f"the patches cover a {name} of {padded}, the video has {size}")

    def with_width(self, width: int, channels: int | None = None) -> NirvanaConfig:
        """The same network with about another width; channels as published down to 64 of it."""
        width = max(width // self.block, 1) * self.block
        return replace(self, stem_width=width, channels=max(1, min(8, width // 8)))

    def for_frames(self, frames: int) -> NirvanaConfig:
        """The same network for a group of `frames` frames."""
        return replace(self, frames=frames)


class LatentMatrix(nn.Module):
    """Weights (out, in) as a linear map of as many latents: each `block` of a row times `mix`.

    The latents are what is quantised and coded, and what the entropy is of (section 3.3).
    """

    def __init__(self, out_features: int, in_features: int, *, block: int, bound: float) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.mix = nn.Parameter(torch.eye(block))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out_features, in_features = self.latents.shape
        # (out, in) -> (out * in / block, block) -> (out, in)
        blocks = self.latents.reshape(-1, self.mix.shape[0]) @ self.mix
        return functional.linear(x, blocks.view(out_features, in_features), self.bias)


class FrameHeads(nn.Module):
    """A 3x3 convolution of each frame's own channels: (B, frames * in, H, W) -> (.. out, ..).

    weight (frames, out, in * 9): one frame's head does not read another's features.
    """

    def __init__(self, frames: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.frames, self.in_channels = frames, in_channels
        bound = 1 / math.sqrt(9 * in_channels)
        shape = (frames, out_channels, 9 * in_channels)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(frames * out_channels).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # (frames, out, in * 9) -> (frames * out, in, 3, 3)
        kernel = self.weight.view(-1, self.in_channels, 3, 3)
        return functional.conv2d(x, kernel, self.bias, padding=1, groups=self.frames)


class NirvanaNetwork(nn.Module):
    """Patch centres (B, 2) in [-1, 1] to the patches of all frames: (B, 3 * frames, p, p) RGB.

    SIREN layers, the last one without its sine; a positional encoding of the frame added to its
    copy of the features; a frame's own convolution, pixel shuffle, GELU and convolution (figure 2
    of the paper, the widths of its public code).
    """

    def __init__(self, config: NirvanaConfig) -> None:
        super().__init__()
        self.config = config
        side = config.patch // UPSAMPLE
        width, block = config.stem_width, config.block
        bound = math.sqrt(6 / width) / OMEGA
        first = nn.Linear(2, width)
        nn.init.uniform_(first.weight, -0.5, 0.5)
        self.first = first
        self.hidden = nn.ModuleList(
            LatentMatrix(width, width, block=block, bound=bound) for _ in range(config.layers - 2)
        )
        self.expand = LatentMatrix(
            config.channels * side * side, width, block=block, bound=math.sqrt(6 / width)
        )
        frames = config.frames
        self.upsample = FrameHeads(frames, config.channels, UPSAMPLE**2 * HEAD_WIDTH)
        self.last = FrameHeads(frames, HEAD_WIDTH, 3)

    def forward(self, codes: torch.Tensor | None, centres: torch.Tensor) -> torch.Tensor:
        side, frames = self.config.patch // UPSAMPLE, self.config.frames
        x = torch.sin(OMEGA * self.first(centres.to(torch.float32)))
        for layer in self.hidden:
            x = torch.sin(OMEGA * layer(x))
        batch = x.shape[0]
        # (B, C * side * side) -> (B, 1, C, side, side) + (frames, C, 1, 1)
        phases = frame_phases(frames, self.config.channels, x.device)
        x = self.expand(x).view(batch, 1, -1, side, side) + phases[..., None, None]
        x = self.upsample(x.flatten(1, 2))
        # (B, frames * 4 * h, side, side) -> (B * frames, 4 * h, ..), for the shuffle a frame
        x = x.view(batch * frames, -1, side, side).contiguous(memory_format=torch.channels_last)
        x = functional.gelu(shuffle_pixels(x, UPSAMPLE))
        # (B * frames, h, p, p) -> (B, frames * h, p, p)
        x = x.reshape(batch, -1, *x.shape[-2:])
        return self.last(x).float() + 0.5


@build_network.register
def _(config: NirvanaConfig) -> NirvanaNetwork:
    return NirvanaNetwork(config)


def frame_phases(frames: int, channels: int, device: torch.device) -> torch.Tensor:
    """(frames, channels): sines and cosines of the frame's number, slower from pair to pair."""
    number = torch.arange(frames, dtype=torch.float32, device=device)[:, None]
    channel = torch.arange(channels, device=device)
    angle = number / PHASE_BASE ** (channel // 2) + channel % 2 * (math.pi / 2)
    return torch.sin(angle)


def patch_centres(grid: tuple[int, int]) -> torch.Tensor:
    """(rows * columns, 2): the centres (y, x) of all patches in [-1, 1], row by row."""
    rows, columns = ((torch.arange(n) * 2 + 1.0) / n - 1 for n in grid)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).view(-1, 2)


def to_patches(pictures: torch.Tensor, config: NirvanaConfig) -> torch.Tensor:
    """(N, C, H, W) of the padded size -> (patches, N * C, p, p), row by row."""
    (rows, columns), side = config.grid, config.patch
    count, channels = pictures.shape[:2]
    # (N, C, rows, p, columns, p) -> (rows, columns, N, C, p, p)
    parts = pictures.reshape(count, channels, rows, side, columns, side)
    return parts.permute(2, 4, 0, 1, 3, 5).reshape(rows * columns, count * channels, side, side)


def from_patches(patches: torch.Tensor, config: NirvanaConfig) -> torch.Tensor:
    """Undo to_patches for pictures of RGB: -> (N, 3, H, W)."""
    (rows, columns), side = config.grid, config.patch
    parts = patches.reshape(rows, columns, -1, 3, side, side)
    return parts.permute(2, 3, 0, 4, 1, 5).reshape(-1, 3, rows * side, columns * side)


class PatchClip(ResidentClip):
    """A group's frames as the patches a fit draws: what is counted and indexed is a patch."""

    def __init__(
        self, frames: list[Frame], info: VideoInfo, device: torch.device, config: NirvanaConfig
    ) -> None:
        super().__init__(frames, info, device)
        self.config = config.for_frames(len(frames))
        self.frames = len(frames)
        self._patches: torch.Tensor | None = None
        self._weights: torch.Tensor | None = None

    def __len__(self) -> int:
        return self.config.patches

    def samples(self, indices: torch.Tensor, space: PictureSpace) -> torch.Tensor:
        """(B, 3 * frames, p, p) RGB of the patches at `indices`."""
        if self._patches is None:
            every = torch.arange(self.frames, device=self.device)
            pictures = [
                space.target(tuple(take(plane, index) for plane in self.planes))
                for index in every.split(1)
            ]
            self._patches = to_patches(self._padded(torch.cat(pictures)), self.config)
        return self._patches[indices]

    def weights(self, indices: torch.Tensor, space: PictureSpace) -> torch.Tensor | None:
        """(B, 1, p, p): 1 inside the video; None where there is no padding."""
        size = (self.info.height, self.info.width)
        if size == self.config.padded_size:
            return None
        if self._weights is None:
            rows, columns = (a - b for a, b in zip(self.config.padded_size, size, strict=True))
            inside = torch.ones(1, 1, *size, device=self.device)
            self._weights = to_patches(functional.pad(inside, (0, columns, 0, rows)), self.config)
        return self._weights[indices]

    def _padded(self, pictures: torch.Tensor) -> torch.Tensor:
        rows, columns = (
            a - b for a, b in zip(self.config.padded_size, pictures.shape[-2:], strict=True)
        )
        return functional.pad(pictures, (0, columns, 0, rows), mode="replicate")
