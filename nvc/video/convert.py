"""Planes into another chroma format, bit depth or orientation, for writers that need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from nvc.video.color import downsample_chroma, quantise, upsample_chroma
from nvc.video.frames import CHROMA_FORMATS, CHROMA_SHIFTS, VideoInfo

# Where a chroma location goes when the picture is turned by 90 degrees clockwise; None: no name.
TURNED_LOCATION = {0: 0, 1: 4, 2: 2, 3: 0, 4: 0, 5: 3, 6: 1}


def convert_depth(
    plane: torch.Tensor, source: int, target: int, *, full_range: bool
) -> torch.Tensor:
    """Sample values of ``source`` bits as ``target`` bits, uint8 or uint16; upwards loses nothing.

    Limited range scales by powers of two, full range by the ratio of the largest values.
    """
    if source == target:
        return plane
    scale = (2**target - 1) / (2**source - 1) if full_range else 2.0 ** (target - source)
    return quantise(plane.to(torch.float32) * scale, target)


def convert_planes(
    planes: Sequence[torch.Tensor], source: VideoInfo, target: VideoInfo
) -> tuple[torch.Tensor, ...]:
    """Planes (h, w) of ``source`` in the chroma format and bit depth of ``target``.

    Gray gets neutral chroma; finer chroma is interpolated, coarser chroma filtered; the size stays.
    """
    full = bool(source.color.full_range)
    luma = convert_depth(planes[0], source.bit_depth, target.bit_depth, full_range=full)
    if target.chroma == "400":
        return (luma,)
    shapes = replace(target, width=source.width, height=source.height).plane_shapes()
    if source.chroma == "400":
        neutral = torch.full(
            shapes[1], 2 ** (target.bit_depth - 1), dtype=luma.dtype, device=luma.device
        )
        return luma, neutral, neutral
    chroma = tuple(planes[1:])
    if source.chroma != target.chroma:
        chroma = tuple(_resample(plane, source, target) for plane in chroma)
    return (
        luma,
        *(convert_depth(x, source.bit_depth, target.bit_depth, full_range=full) for x in chroma),
    )


def _resample(plane: torch.Tensor, source: VideoInfo, target: VideoInfo) -> torch.Tensor:
    """One chroma plane (h, w) from the chroma format of ``source`` to that of ``target``."""
    location = source.color.chroma_location
    size = (source.height, source.width)
    x = plane.to(torch.float32)
    x = upsample_chroma(x, size, chroma=source.chroma, location=location)
    x = downsample_chroma(x, chroma=target.chroma, location=location)
    return quantise(x, source.bit_depth)


def nearest_format(
    chroma: str, bit_depth: int, allowed: Sequence[tuple[str, int]]
) -> tuple[str, int]:
    """Of ``allowed`` (chroma, bit depth) pairs the one that loses least, then the smallest."""

    def cost(candidate: tuple[str, int]) -> tuple[int, int, int]:
        finer = CHROMA_FORMATS.index(candidate[0]) - CHROMA_FORMATS.index(chroma)
        deeper = candidate[1] - bit_depth
        # What is lost first, chroma format before depth; then what is added in vain.
        return (-min(0, finer), -min(0, deeper), 4 * max(0, finer) + max(0, deeper))

    return min(allowed, key=cost)


def upright_info(info: VideoInfo) -> VideoInfo:
    """What a rotated video is once its pixels have been turned upright."""
    if info.rotation == 0:
        return info
    location = info.color.chroma_location
    for _ in range(info.rotation // 90):
        location = TURNED_LOCATION[location]
    turned = replace(info, rotation=0, color=replace(info.color, chroma_location=location))
    if info.rotation == 180:
        return turned
    return replace(
        turned,
        width=info.height,
        height=info.width,
        sample_aspect=1 / info.sample_aspect,
        # Half-width chroma would become half-height chroma, which no format here has.
        chroma="444" if info.chroma == "422" else info.chroma,
    )


def upright_planes(planes: Sequence[torch.Tensor], info: VideoInfo) -> tuple[torch.Tensor, ...]:
    """Planes (h, w) of the rotated video ``info`` turned so that the picture is upright."""
    if info.rotation == 0:
        return tuple(planes)
    if info.chroma == "422" and info.rotation != 180:
        planes = convert_planes(planes, info, replace(info, chroma="444"))
    turns = -(info.rotation // 90)
    # int16 in place of uint16, which torch flips on no device
    return tuple(
        torch.rot90(x if x.dtype == torch.uint8 else x.view(torch.int16), turns).view(x.dtype)
        for x in planes
    )


def fits_chroma(chroma: str, width: int, height: int) -> bool:
    """Whether a size is even where ``chroma`` halves it."""
    down, across = CHROMA_SHIFTS.get(chroma, (0, 0))
    return not (down and height % 2) and not (across and width % 2)
