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
from nvc.inr.pictures import PictureSpace
from nvc.video.frames import Frame, VideoInfo

CACHE = 1 << 28  # bytes of float samples kept for clips that are this short
CUT_LEVEL = 12.0  # a change of so many levels of 255 between two frames may be a scene cut
CUT_RATIO = 4.0  # and is one when it is so many times what came before


class ResidentClip:
    """Frames of one group kept on the device as the integer planes they came as.

    planes: one (N, h, w) tensor a plane, uint8 or uint16, on `device`. Short clips also keep what
    a fit compares with, once asked for, as the conversion is a tenth of a step. ignore: bool
    (N, H, W), True where a sample is not to be fitted. Raises InputError when a frame's planes do
    not fit `info`.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        info: VideoInfo,
        device: torch.device,
        *,
        ignore: torch.Tensor | None = None,
    ) -> None:
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
        # (N, H, W) -> (N, 1, H, W)
        self.kept = None if ignore is None else ~ignore[:, None].to(device)
        self._kept_samples: dict[bool, torch.Tensor] = {}

    def __len__(self) -> int:
        return self.planes[0].shape[0]

    def pictures(self, indices: torch.Tensor) -> torch.Tensor:
        """RGB of the frames at `indices` (B,): (B, 3, H, W) float32 in [0, 1]; what is ignored is
        painted in the mean of the rest."""
        rgb = self.samples(indices, PictureSpace("rgb", self.info))
        if self.kept is None:
            return rgb
        kept = self.kept[indices].to(rgb.dtype)
        total = kept.sum(dim=(2, 3), keepdim=True).clamp(min=1)
        return rgb * kept + (1 - kept) * (rgb * kept).sum(dim=(2, 3), keepdim=True) / total

    def samples(self, indices: torch.Tensor, space: PictureSpace) -> torch.Tensor:
        """What a head should write for the frames at `indices`: (B, C, h, w) float32."""
        if len(self) * space.bytes > CACHE:
            return space.target(tuple(take(plane, indices) for plane in self.planes))
        if space.packed not in self._kept_samples:
            whole = [
                space.target(tuple(take(plane, index) for plane in self.planes))
                for index in self.each()
            ]
            # As the heads write them: their difference is then taken in the order of memory.
            self._kept_samples[space.packed] = torch.cat(whole).contiguous(
                memory_format=torch.channels_last
            )
        return self._kept_samples[space.packed][indices]

    def weights(self, indices: torch.Tensor, space: PictureSpace) -> torch.Tensor | None:
        """(B, 1, h, w) of 1 where a head's sample counts, 0 where not; None where all do."""
        if self.kept is None:
            return None
        return space.weight(self.kept[indices].to(torch.float32))

    def each(self) -> Iterator[torch.Tensor]:
        """Index tensors (1,) of the frames, one after the other."""
        return iter(torch.arange(len(self), device=self.device).split(1))

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
    """Frames that one network is fitted to; `start` is the first one's number in the clip.

    last: of the clip. cut: it begins a scene, so nothing before it helps.
    """

    start: int
    frames: list[Frame]
    last: bool
    cut: bool = False


def cut_groups(
    frames: Iterable[Frame],
    *,
    group: int,
    frame_count: int | None,
    motion: float | None = None,
    bit_depth: int = 8,
) -> Iterator[Group]:
    """The groups of a clip, holding one of them and one frame more.

    Groups are of nearly equal length when the number of frames is known, so that no short rest
    pays for a whole network. With `motion` they end earlier: where frames have changed by that
    much since the first one (the sum of `change`), and at a scene cut.
    """
    length = group
    if frame_count and motion is None:
        length = -(-frame_count // -(-frame_count // group))
    iterator = iter(frames)
    start, cut = 0, False
    held = list(islice(iterator, length + 1))
    while held:
        count = len(held[:length])
        next_cut = False
        if motion is not None:
            count, next_cut = _still_length(held, count, motion, bit_depth)
        current, held = held[:count], held[count:]
        yield Group(start, current, last=not held, cut=cut)
        start, cut = start + count, next_cut
        if held:
            del current
            held += islice(iterator, length + 1 - len(held))


def change(before: Frame, after: Frame, bit_depth: int = 8) -> float:
    """Mean absolute difference of two frames' luma pooled by 8, in levels of 8 bits."""
    one, two = (_pooled(frame.planes[0]) for frame in (before, after))
    return float((one - two).abs().mean()) / 2 ** (bit_depth - 8)


def _pooled(plane: torch.Tensor) -> torch.Tensor:
    rows, columns = plane.shape
    kernel = (min(8, rows), min(8, columns))
    return functional.avg_pool2d(plane.to(torch.float32)[None], kernel)[0]


def _still_length(
    frames: list[Frame], most: int, motion: float, bit_depth: int
) -> tuple[int, bool]:
    """How many of the first `most` frames make a group, and whether a scene begins behind them.

    A cut is a change of CUT_LEVEL or more that is CUT_RATIO times the largest one before it in the
    group; the group takes at least one frame.
    """
    total = largest = 0.0
    for number in range(1, min(most + 1, len(frames))):
        step = change(frames[number - 1], frames[number], bit_depth)
        if step >= CUT_LEVEL and step >= CUT_RATIO * largest:
            return number, True
        if number == most:
            break
        total, largest = total + step, max(largest, step)
        if total > motion:
            return number, False
    return most, False
