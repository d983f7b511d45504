"""Distortion of decoded frames against their reference, plane by plane, and MS-SSIM.

Conventions, the same everywhere in the project: PSNR is taken per frame on the integer planes and
averaged over frames; identical planes count as 100 dB, so that an average stays a number;
``psnr_yuv`` is the mean over frames of (6 Y + U + V) / 8.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

#: What an identical plane counts for, in dB.
LOSSLESS_PSNR = 100.0

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5

#: The coarsest of the five scales must still hold one whole window.
MS_SSIM_MIN_SIDE = WINDOW_SIZE * 2 ** (len(MS_SSIM_WEIGHTS) - 1)


def psnr_from_mse(mse: float, peak: float) -> float:
    """Peak signal-to-noise ratio in dB; at most ``LOSSLESS_PSNR``."""
    if mse <= 0:
        return LOSSLESS_PSNR
    return min(LOSSLESS_PSNR, 10 * math.log10(peak * peak / mse))


def plane_mse(reference: torch.Tensor, decoded: torch.Tensor) -> float:
    """Mean squared error of two integer planes (h, w), in squared code values, summed exactly.

    Raises ValueError when the shapes differ.
    """
    if reference.shape != decoded.shape:
        raise ValueError(f"planes differ in size: {tuple(reference.shape)}, {tuple(decoded.shape)}")
    difference = reference.to(torch.int32) - decoded.to(torch.int32)
    # int64: a 16-bit error squared does not fit the product's 32 bits.
    squared = difference.to(torch.int64).square_() if reference.dtype != torch.uint8 else None
    total = (squared if squared is not None else difference.square_()).sum(dtype=torch.int64)
    return int(total) / reference.numel()


def plane_psnr(reference: torch.Tensor, decoded: torch.Tensor, bit_depth: int) -> float:
    """PSNR in dB of two integer planes (h, w) of ``bit_depth`` bits; peak 2^bit_depth - 1."""
    return psnr_from_mse(plane_mse(reference, decoded), (1 << bit_depth) - 1)


def psnr_yuv(y: float, u: float | None, v: float | None) -> float:
    """(6 Y + U + V) / 8 of one frame's plane PSNRs in dB; Y alone for a grey frame."""
    if u is None or v is None:
        return y
    return (6 * y + u + v) / 8


def float_psnr(reference: torch.Tensor, decoded: torch.Tensor) -> float:
    """PSNR in dB of two float tensors in [0, 1] of any one shape; both are clamped first."""
    difference = reference.clamp(0, 1).double() - decoded.clamp(0, 1).double()
    return psnr_from_mse(float(difference.square_().mean()), 1.0)


def _window(device: torch.device) -> torch.Tensor:
    position = torch.arange(WINDOW_SIZE, dtype=torch.float32, device=device) - WINDOW_SIZE // 2
    weights = torch.exp(-(position**2) / (2 * WINDOW_SIGMA**2))
    return weights / weights.sum()


def _blur(maps: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """Separable Gaussian over (N, 1, h, w), whole windows only: (N, 1, h - 10, w - 10)."""
    return F.conv2d(F.conv2d(maps, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))


def _similarity(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean SSIM and mean contrast-structure term of planes (B, 1, h, w) in [0, 1], each (B,)."""
    c1, c2 = 0.01**2, 0.03**2
    batch = x.shape[0]
    # (B, 1, h, w) five times -> (5 B, 1, h, w): one convolution for all the moments
    moments = _blur(torch.cat((x, y, x * x, y * y, x * y)), _window(x.device))
    mean_x, mean_y, xx, yy, xy = moments.split(batch)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    contrast = (2 * (xy - product) + c2) / (xx + yy - squares + c2)
    ssim = (2 * product + c1) / (squares + c1) * contrast
    return ssim.mean(dim=(1, 2, 3)), contrast.mean(dim=(1, 2, 3))


def ms_ssim(reference: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor | None:
    """Multi-scale structural similarity of planes (B, h, w), float32 in [0, 1]; returns (B,).

    None when the smaller side is under 176: five scales do not fit then, and four would be another
    measure. Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality
    assessment" (2003), section 3, with its five weights, an 11-tap Gaussian of sigma 1.5 and 2x2
    averaging between scales. Raises ValueError when the shapes differ.
    """
    if reference.shape != decoded.shape:
        raise ValueError(f"planes differ in size: {tuple(reference.shape)}, {tuple(decoded.shape)}")
    if min(reference.shape[-2:]) < MS_SSIM_MIN_SIDE:
        return None
    x, y = reference.unsqueeze(1), decoded.unsqueeze(1)
    result = torch.ones(x.shape[0], device=x.device)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        ssim, contrast = _similarity(x, y)
        term = ssim if scale == len(MS_SSIM_WEIGHTS) - 1 else contrast
        result = result * term.clamp_min(0) ** weight
    return result


def plane_ms_ssim(reference: torch.Tensor, decoded: torch.Tensor, bit_depth: int) -> float | None:
    """MS-SSIM of two integer planes (h, w) of ``bit_depth`` bits; None when they are too small."""
    peak = float((1 << bit_depth) - 1)
    value = ms_ssim(
        reference.to(torch.float32).unsqueeze(0) / peak,
        decoded.to(torch.float32).unsqueeze(0) / peak,
    )
    return None if value is None else float(value)
