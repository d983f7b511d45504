"""YUV and RGB in torch: matrices, ranges, chroma resampling and bit depth, batched, on any device.

Conventions: matrices by H.273 code (unspecified means BT.601 below 720 lines, BT.709 otherwise);
range unspecified means limited; 4:2:0 and 4:2:2 chroma unspecified sits at the left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch

from nvc.errors import InputError
from nvc.video.frames import CHROMA_SHIFTS, ColorInfo, VideoInfo

Interpolation = Literal["nearest", "bilinear", "bicubic"]

# Weights of red and blue in luma by H.273 matrix code.
LUMA_WEIGHTS: dict[int, tuple[float, float]] = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, taken as non-constant luminance in both codes
    10: (0.2627, 0.0593),
}
IDENTITY_MATRIX = 0  # planes are G, B, R
UNSPECIFIED = 2
HD_LINES = 720
# Where the first chroma sample sits, in luma samples from the first luma sample, as (down, across).
LOCATION_OFFSETS: dict[int, tuple[float, float]] = {
    0: (0.5, 0.0),
    1: (0.5, 0.0),
    2: (0.5, 0.5),
    3: (0.0, 0.0),
    4: (0.0, 0.5),
    5: (1.0, 0.0),
    6: (1.0, 0.5),
}
# swscale's cubic has B = 0, C = 0.6.
CUBIC_C = 0.6


def effective_matrix(color: ColorInfo, height: int) -> int:
    """The H.273 matrix code to use for a picture of ``height`` lines.

    Raises InputError for matrices that are no weighting of R, G and B.
    """
    matrix = color.matrix
    if matrix == UNSPECIFIED:
        return 6 if height < HD_LINES else 1
    if matrix != IDENTITY_MATRIX and matrix not in LUMA_WEIGHTS:
        allowed = ", ".join(str(code) for code in (IDENTITY_MATRIX, UNSPECIFIED, *LUMA_WEIGHTS))
        raise InputError(f"colour matrix {matrix} is not supported; allowed: {allowed}")
    return matrix


def sample_spans(color: ColorInfo, bit_depth: int) -> tuple[float, float, float, float]:
    """(luma offset, luma span, chroma centre, chroma span) in sample values."""
    if color.full_range:
        top = float(2**bit_depth - 1)
        return 0.0, top, float(2 ** (bit_depth - 1)), top
    unit = float(2 ** (bit_depth - 8))
    return 16 * unit, 219 * unit, 128 * unit, 224 * unit


def _kernel(distance: float, interpolation: Interpolation) -> float:
    """Weight of a sample ``distance`` samples away."""
    x = abs(distance)
    if interpolation == "bilinear":
        return max(0.0, 1.0 - x)
    if x < 1:
        return (2 - CUBIC_C) * x**3 + (CUBIC_C - 3) * x**2 + 1
    if x < 2:
        return -CUBIC_C * x**3 + 5 * CUBIC_C * x**2 - 8 * CUBIC_C * x + 4 * CUBIC_C
    return 0.0


def _pad(x: torch.Tensor, dim: int, before: int, after: int) -> torch.Tensor:
    """Repeat the edge samples along ``dim``."""
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    return torch.cat([*[first] * before, x, *[last] * after], dim)


def _upsample_axis(
    x: torch.Tensor, dim: int, size: int, offset: float, interpolation: Interpolation
) -> torch.Tensor:
    """Double float ``x`` along ``dim`` to ``size`` samples; chroma 0 sits at luma ``offset``."""
    count = x.shape[dim]
    if interpolation == "nearest":
        return x.repeat_interleave(2, dim).narrow(dim, 0, size)
    reach = 1 if interpolation == "bilinear" else 2
    padded = _pad(x, dim, reach + 1, reach + 1)
    phases = []
    for phase in (0, 1):
        position = (phase - offset) / 2
        base = math.floor(position)
        taps = range(base - reach + 1, base + reach + 1)
        terms = [
            padded.narrow(dim, reach + 1 + tap, count) * weight
            for tap in taps
            if (weight := _kernel(position - tap, interpolation))
        ]
        phases.append(torch.stack(terms).sum(0) if len(terms) > 1 else terms[0])
    # (..., count, 2, ...) -> (..., 2 * count, ...)
    return torch.stack(phases, dim + 1).flatten(dim, dim + 1).narrow(dim, 0, size)


def _downsample_axis(
    x: torch.Tensor, dim: int, offset: float, interpolation: Interpolation
) -> torch.Tensor:
    """Halve float ``x`` along ``dim``, rounding the size up, under the kernel stretched by two."""
    size = x.shape[dim]
    count = (size + 1) // 2
    if interpolation == "nearest":
        return x.index_select(dim, torch.arange(0, size, 2, device=x.device))
    reach = 2 if interpolation == "bilinear" else 4
    taps = range(math.floor(offset) - reach, math.ceil(offset) + reach + 1)
    weights = [_kernel((tap - offset) / 2, interpolation) for tap in taps]
    total = sum(weights)
    padded = _pad(x, dim, reach, reach + 3)
    index = torch.arange(0, 2 * count, 2, device=x.device)
    result = None
    for tap, weight in zip(taps, weights, strict=True):
        if weight:
            term = padded.index_select(dim, index + (reach + tap)) * (weight / total)
            result = term if result is None else result + term
    assert result is not None
    return result


def upsample_chroma(
    plane: torch.Tensor,
    size: tuple[int, int],
    *,
    chroma: str,
    location: int = 0,
    interpolation: Interpolation = "bilinear",
) -> torch.Tensor:
    """Float chroma (..., h, w) of format ``chroma`` at luma ``size`` (height, width).

    ``location`` is FFmpeg's AVChromaLocation; edges repeat.
    """
    down, across = CHROMA_SHIFTS[chroma]
    offsets = LOCATION_OFFSETS[location]
    dims = plane.ndim
    if down:
        plane = _upsample_axis(plane, dims - 2, size[0], offsets[0], interpolation)
    if across:
        plane = _upsample_axis(plane, dims - 1, size[1], offsets[1], interpolation)
    return plane


def downsample_chroma(
    plane: torch.Tensor,
    *,
    chroma: str,
    location: int = 0,
    interpolation: Interpolation = "bilinear",
) -> torch.Tensor:
    """Float chroma at luma size (..., H, W) to format ``chroma``; sizes are rounded up."""
    down, across = CHROMA_SHIFTS[chroma]
    offsets = LOCATION_OFFSETS[location]
    if down:
        plane = _downsample_axis(plane, plane.ndim - 2, offsets[0], interpolation)
    if across:
        plane = _downsample_axis(plane, plane.ndim - 1, offsets[1], interpolation)
    return plane


def quantise(x: torch.Tensor, bit_depth: int) -> torch.Tensor:
    """Round float sample values half up into uint8 or uint16."""
    top = 2**bit_depth - 1
    rounded = (x + 0.5).floor_().clamp_(0, top)
    return rounded.to(torch.uint8 if bit_depth == 8 else torch.int32).to(
        torch.uint8 if bit_depth == 8 else torch.uint16
    )


def yuv_to_rgb(
    planes: Sequence[torch.Tensor],
    info: VideoInfo,
    *,
    interpolation: Interpolation = "bilinear",
) -> torch.Tensor:
    """Planes of ``info.chroma`` as R, G, B: float32 (B, 3, H, W) in [0, 1].

    ``planes`` are (B, h, w) or (h, w), uint8 or uint16 sample values, on any device; H and W are
    those of the luma plane, which need not be those of ``info``. Raises InputError for a colour
    matrix that is not supported.
    """
    color, depth = info.color, info.bit_depth
    matrix = effective_matrix(color, info.height)
    # (h, w) -> (1, h, w)
    batched = [(plane if plane.ndim == 3 else plane[None]).to(torch.float32) for plane in planes]
    luma_offset, luma_span, centre, chroma_span = sample_spans(color, depth)
    luma = (batched[0] - luma_offset) / luma_span
    if info.chroma == "400":
        return luma.clamp_(0, 1).unsqueeze(1).expand(-1, 3, -1, -1)
    size = (luma.shape[-2], luma.shape[-1])
    cb, cr = (
        upsample_chroma(
            plane,
            size,
            chroma=info.chroma,
            location=color.chroma_location,
            interpolation=interpolation,
        )
        for plane in batched[1:]
    )
    if matrix == IDENTITY_MATRIX:
        blue, red = ((plane - luma_offset) / luma_span for plane in (cb, cr))
        return torch.stack([red, luma, blue], 1).clamp_(0, 1)
    kr, kb = LUMA_WEIGHTS[matrix]
    cb = (cb - centre) / chroma_span
    cr = (cr - centre) / chroma_span
    red = luma + 2 * (1 - kr) * cr
    blue = luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    # three (B, H, W) -> (B, 3, H, W)
    return torch.stack([red, green, blue], 1).clamp_(0, 1)


def rgb_to_yuv(
    rgb: torch.Tensor,
    info: VideoInfo,
    *,
    interpolation: Interpolation = "bilinear",
) -> tuple[torch.Tensor, ...]:
    """Float RGB (B, 3, H, W) in [0, 1] as planes (B, h, w) of ``info.chroma`` and bit depth.

    Planes are uint8 (8 bit) or uint16, on the device of ``rgb``. Raises InputError for a colour
    matrix that is not supported.
    """
    color, depth = info.color, info.bit_depth
    matrix = effective_matrix(color, info.height)
    red, green, blue = rgb.to(torch.float32).unbind(1)
    luma_offset, luma_span, centre, chroma_span = sample_spans(color, depth)
    if matrix == IDENTITY_MATRIX:
        luma = green
        cb, cr = (plane * luma_span + luma_offset for plane in (blue, red))
    else:
        kr, kb = LUMA_WEIGHTS[matrix]
        luma = kr * red + (1 - kr - kb) * green + kb * blue
        cb = (blue - luma) / (2 * (1 - kb)) * chroma_span + centre
        cr = (red - luma) / (2 * (1 - kr)) * chroma_span + centre
    y = quantise(luma * luma_span + luma_offset, depth)
    if info.chroma == "400":
        return (y,)
    small = (
        downsample_chroma(
            plane,
            chroma=info.chroma,
            location=color.chroma_location,
            interpolation=interpolation,
        )
        for plane in (cb, cr)
    )
    return (y, *(quantise(plane, depth) for plane in small))
