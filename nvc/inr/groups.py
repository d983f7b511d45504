"""Groups of frames: how a clip is cut, and the frames of one group resident on the device."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch.nn import functional

from nvc.errors import InputError
from nvc.inr.config import NetworkConfig
from nvc.video.color import yuv_to_rgb
from nvc.video.frames import Frame, VideoInfo

RGB_CACHE = 1 << 28  # bytes of float RGB kept for clips that are this short


class ResidentClip:
    """Frames of one group kept on the device as the integer planes they came as.

    planes: one (N, h, w) tensor a plane, uint8 or uint16, on `device`. Short clips also keep their
    RGB, once asked for, as the conversion is a tenth of a step. Raises InputError when a frame's
    planes do not fit `info`.
    """

    def __init__(self, frames: Sequence[Frame], info: VideoInfo, device: torch.device) -> None:
        shapes = info.plane_shapes()
        for number, frame in enumerate(frames):
            found = tuple(tuple(plane.shape) for plane in frame.planes)
            if found != shapes:
                raise InputError(f"frame {number} of a group has planes {found}, not {shapes}")
        self.info = info
        self.device = device
        self.planes = tuple(
            torch.stack([frame.planes[index].to(device) for frame in frames])
            for index in range(len(shapes))
        )

        self._rgb: torch.Tensor | None = None
        self._cached = len(frames) * 12 * info.height * info.width <= RGB_CACHE

    def __len__(self) -> int:
        return self.planes[0].shape[0]

    def pictures(self, indices: torch.Tensor) -> torch.Tensor:
        """RGB of the frames at `indices` (B,): (B, 3, H, W) float32 in [0, 1]."""
        if not self._cached:
            return self._convert(indices)
        if self._rgb is None:
            self._rgb = torch.cat([self._convert(index) for index in self.each()])
        return self._rgb[indices]

    def each(self) -> Iterator[torch.Tensor]:
        """Index tensors (1,) of the frames, one after the other."""
        return iter(torch.arange(len(self), device=self.device).split(1))

    def _convert(self, indices: torch.Tensor) -> torch.Tensor:
        return yuv_to_rgb([take(plane, indices) for plane in self.planes], self.info)

    def fingerprint(self) -> int:
        """CRC-32 of every sample."""
        value = 0
        for plane in self.planes:
            for picture in plane:
                value = zlib.crc32(np.ascontiguousarray(picture.cpu().numpy()), value)
        return value


def take(plane: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Rows of (N, h, w) at (B,) indices; uint16 by way of int16, which every device can index."""
    if plane.dtype == torch.uint16:
        return plane.view(torch.int16)[indices].view(torch.uint16)
    return plane[indices]


def pad_pictures(pictures: torch.Tensor, config: NetworkConfig) -> torch.Tensor:
    """(B, 3, H, W) -> the network's padded size, repeating the last row and column."""
    height, width = config.padded_size
    bottom, right = height - pictures.shape[-2], width - pictures.shape[-1]
    if not bottom and not right:
        return pictures
    return functional.pad(pictures, (0, right, 0, bottom), mode="replicate")


@dataclass(frozen=True)
class Group:
    """Frames that one network is fitted to; `start` is the first one's number in the clip."""

    start: int
    frames: list[Frame]
    last: bool


def cut_groups(frames: Iterable[Frame], *, group: int, frame_count: int | None) -> Iterator[Group]:
    """The groups of a clip, holding one of them and one frame more.

    Groups are of nearly equal length when the number of frames is known, so that no short rest
    pays for a whole network.
    """
    length = group
    if frame_count:
        length = -(-frame_count // -(-frame_count // group))
    iterator = iter(frames)
    start = 0
    held = list(islice(iterator, length + 1))
    while held:
        current, held = held[:length], held[length:]
        yield Group(start, current, last=not held)
        start += len(current)
        if held:
            del current
            held += islice(iterator, length)
