"""Distortions a fit can minimise."""

from __future__ import annotations

import torch
from torch.nn import functional

from nvc.inr.pictures import PictureSpace

WINDOW = 11
SIGMA = 1.5


def distortion(
    loss: str,
    pictures: PictureSpace,
    output: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None,
    errors: torch.Tensor,
) -> torch.Tensor:
    """Scalar distortion of a network's output (B, C, h, w) against a target of the same space.

    loss: "l2", the mean of `errors`, the squared errors of RGB (B,); "l1"; "l1_ssim", 0.7 L1 + 0.3
    (1 - SSIM), which NeRV trains with (Chen et al., NeurIPS 2021, equation 2). weight: (B, 1, h, w)
    of 0 where a place is left out.
    """
    if loss == "l2":
        return errors.mean()
    output = pictures.cut(output, target)
    if weight is not None:
        # No error where it does not count; the mean is still over all places.
        output = target + (output - target) * weight
    output, target = pictures.rgb(output), pictures.rgb(target)
    absolute = functional.l1_loss(output, target)
    if loss == "l1":
        return absolute
    return 0.7 * absolute + 0.3 * (1 - ssim(output, target))


def ssim(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Mean structural similarity of (B, C, H, W) in [0, 1] under a Gaussian window (Wang et al.,
    2004); the window shrinks with pictures smaller than it."""
    size = min(WINDOW, *one.shape[-2:])
    place = torch.arange(size, device=one.device, dtype=one.dtype) - (size - 1) / 2
    window = torch.exp(-(place**2) / (2 * SIGMA**2))
    window = window / window.sum()
    # (B, C, H, W) five times -> (5 B C, 1, H, W): one pair of convolutions for all the moments
    moments = torch.cat((one, two, one * one, two * two, one * two)).flatten(0, 1)[:, None]
    moments = functional.conv2d(moments, window.view(1, 1, -1, 1))
    moments = functional.conv2d(moments, window.view(1, 1, 1, -1))
    mean_one, mean_two, ones, twos, both = moments.chunk(5)
    product, squares = mean_one * mean_two, mean_one**2 + mean_two**2
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * (both - product) + c2) / (ones + twos - squares + c2)
    return ((2 * product + c1) / (squares + c1) * structure).mean()
