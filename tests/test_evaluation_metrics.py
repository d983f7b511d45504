"""PSNR by hand; MS-SSIM against a direct float64 computation and against torchmetrics."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from nvc.evaluation.metrics import (
    LOSSLESS_PSNR,
    float_psnr,
    ms_ssim,
    plane_ms_ssim,
    plane_mse,
    plane_psnr,
    psnr_yuv,
)


def smooth_planes(height: int, width: int, noise: float, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    base = 0.5 + 0.25 * torch.sin(x / 7.0) + 0.2 * torch.cos(y / 11.0 + x / 23.0)
    noisy = base + noise * torch.randn(base.shape, generator=generator)
    return base.clamp(0, 1), noisy.clamp(0, 1)


def test_psnr_of_known_errors() -> None:
    reference = torch.full((4, 6), 100, dtype=torch.uint8)
    assert plane_psnr(reference, reference, 8) == LOSSLESS_PSNR
    off_by_two = torch.full((4, 6), 98, dtype=torch.uint8)
    assert plane_mse(reference, off_by_two) == 4
    assert plane_psnr(reference, off_by_two, 8) == pytest.approx(20 * math.log10(255 / 2))
    # below zero in unsigned arithmetic
    assert plane_mse(torch.zeros(3, 3, dtype=torch.uint8), reference[:3, :3]) == 100**2


def test_psnr_of_10_and_16_bit_planes_does_not_overflow() -> None:
    black = torch.zeros(5, 7, dtype=torch.uint16)
    grey = torch.full((5, 7), 1020, dtype=torch.uint16)
    white = torch.full((5, 7), 65535, dtype=torch.uint16)
    assert plane_psnr(grey, torch.full((5, 7), 1023, dtype=torch.uint16), 10) == pytest.approx(
        20 * math.log10(1023 / 3)
    )
    assert plane_mse(black, white) == 65535**2
    assert plane_psnr(black, white, 16) == pytest.approx(0)


def test_planes_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        plane_mse(torch.zeros(2, 2, dtype=torch.uint8), torch.zeros(2, 3, dtype=torch.uint8))


def test_psnr_yuv_weights() -> None:
    assert psnr_yuv(40.0, 44.0, 48.0) == pytest.approx((6 * 40 + 44 + 48) / 8)
    assert psnr_yuv(40.0, None, None) == 40.0


def test_float_psnr_clamps() -> None:
    assert float_psnr(torch.tensor([1.0]), torch.tensor([1.5])) == LOSSLESS_PSNR
    assert float_psnr(torch.tensor([0.5]), torch.tensor([0.6])) == pytest.approx(20, abs=1e-4)


def direct_ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, window by window with the full 11 x 11 kernel, in float64."""
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    kernel = np.outer(line, line) / line.sum() ** 2

    def mean(plane: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(plane, (11, 11))
        return np.einsum("ijkl,kl->ij", windows, kernel)

    def halve(plane: np.ndarray) -> np.ndarray:
        height, width = (side // 2 * 2 for side in plane.shape)
        blocks = plane[:height, :width].reshape(height // 2, 2, width // 2, 2)
        return blocks.mean(axis=(1, 3))

    result = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mean_x, mean_y = mean(x), mean(y)
        var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
        term = (2 * (mean(x * y) - mean_x * mean_y) + 0.03**2) / (var_x + var_y + 0.03**2)
        if scale == 4:
            term = term * (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        result *= max(term.mean(), 0) ** weight
        x, y = halve(x), halve(y)
    return result


@pytest.mark.parametrize(("height", "width"), [(176, 192), (183, 241)])
@pytest.mark.parametrize("noise", [0.01, 0.2])
def test_ms_ssim_agrees_with_the_definition(height: int, width: int, noise: float) -> None:
    base, noisy = smooth_planes(height, width, noise)
    batch = torch.stack((noisy, base.flip(1)))
    ours = ms_ssim(torch.stack((base, base)), batch)
    expected = [direct_ms_ssim(base.double().numpy(), other.double().numpy()) for other in batch]
    assert ours.tolist() == pytest.approx(expected, abs=2e-5)


def test_ms_ssim_is_near_torchmetrics() -> None:
    # Not equal: torchmetrics counts reflected borders in the luminance term of the coarsest scale.
    base, noisy = smooth_planes(200, 260, 0.1)
    theirs = multiscale_structural_similarity_index_measure(
        noisy[None, None], base[None, None], data_range=1.0
    )
    assert ms_ssim(base[None], noisy[None]).item() == pytest.approx(theirs.item(), abs=3e-3)


def test_ms_ssim_of_identical_and_of_small_planes() -> None:
    base, _ = smooth_planes(180, 180, 0)
    plane = (base * 1023).round().to(torch.uint16)
    assert plane_ms_ssim(plane, plane, 10) == pytest.approx(1, abs=1e-6)
    assert plane_ms_ssim(plane[:175], plane[:175], 10) is None
