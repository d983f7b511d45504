"""Differentiable likelihoods: they agree with the integer tables, and their gradients are sound."""

import math

import numpy as np
import pytest
import torch

from nvc.entropy import rans
from nvc.entropy.likelihood import (
    SCALE_MAX,
    SCALE_MIN,
    gaussian_bits,
    index_scale,
    laplace_bits,
    scale_index,
)
from nvc.entropy.tables import gaussian_tables, laplace_tables, scale_grid

BOTH = pytest.mark.parametrize(
    ("bits", "tables"), [(gaussian_bits, gaussian_tables()), (laplace_bits, laplace_tables())]
)


@BOTH
def test_bits_are_those_of_the_integer_tables(bits, tables):
    """Within 0.08 bit where the frequency is 16 or more, 1 bit elsewhere, 0.1 % on average."""
    for t, scale in enumerate(scale_grid() / 2**20):
        start, size = int(tables.starts[t]), int(tables.sizes[t])
        frequency = tables.frequencies[start : start + size].astype(np.float64)
        symbols = torch.arange(size, dtype=torch.float32) + int(tables.offsets[t])
        found = bits(symbols, torch.tensor(scale, dtype=torch.float32)).numpy()
        error = np.abs(found - (14 - np.log2(frequency)))
        assert error[frequency >= 16].max() <= 0.08
        assert error.max() <= 1.0
        mass, exact = frequency / 2**14, 14 - np.log2(frequency)
        assert abs(np.sum(mass * (found - exact))) <= 1e-4 + 1e-3 * np.sum(mass * exact)


@BOTH
def test_bits_add_up_to_the_bytes_that_are_written(bits, tables):
    """200,000 symbols over all scales, escapes and lanes included: within 0.1 %."""
    rng = np.random.default_rng(7)
    indexes = rng.integers(0, 64, 200_000).astype(np.uint8)
    scales = scale_grid()[indexes] / 2**20
    draw = rng.normal if bits is gaussian_bits else rng.laplace
    symbols = np.round(draw(0, 1, len(indexes)) * scales).astype(np.int32)
    written = 8 * len(rans.encode(symbols, indexes, tables))
    expected = bits(torch.from_numpy(symbols).float(), torch.from_numpy(scales).float()).sum()
    assert abs(written / expected.item() - 1) <= 1e-3


@BOTH
def test_escapes_cost_about_what_the_coder_spends(bits, tables):
    for t in range(0, 64, 3):
        start, size, order = (int(a[t]) for a in (tables.starts, tables.sizes, tables.orders))
        scale = torch.tensor(scale_grid()[t] / 2**20, dtype=torch.float32)
        for distance in (0, 3, 20, 200, 5000):
            golomb = 2 * math.floor(math.log2((distance >> order) + 1)) + 1 + order
            spent = 14 - math.log2(tables.frequencies[start + size]) + 1 + golomb
            found = bits(torch.tensor(float(size // 2 + 1 + distance)), scale).item()
            assert abs(found - spent) <= 2.6


@BOTH
def test_probabilities_add_up_to_one(bits, tables):
    for scale in (0.11, 0.3, 1.0, 7.0, 64.0):
        symbols = torch.arange(-5000, 5001, dtype=torch.float64)
        total = torch.exp2(-bits(symbols, torch.tensor(scale, dtype=torch.float64))).sum().item()
        assert 0.9995 <= total <= 1.0005


@BOTH
def test_gradients_are_those_of_the_value(bits, tables):
    generator = torch.Generator().manual_seed(0)
    residual = 3 * torch.randn(60, generator=generator, dtype=torch.float64)
    scale = 0.2 + 5 * torch.rand(60, generator=generator, dtype=torch.float64)
    inputs = (residual.requires_grad_(), scale.requires_grad_())
    assert torch.autograd.gradcheck(bits, inputs)


@BOTH
def test_outliers_are_finite_and_pull_the_right_way(bits, tables):
    """At 30 sigma and beyond, bits and both gradients are finite, and a wider scale helps."""
    residual = torch.tensor([3.5, 30.0, -30.0, 1e3, -(2.0**24)], requires_grad=True)
    scale = torch.tensor([0.11, 1.0, 1.0, 2.0, 0.5], requires_grad=True)
    found = bits(residual, scale)
    assert torch.all((found > 15) & (found < 70))
    found.sum().backward()
    assert torch.isfinite(residual.grad).all()
    assert torch.equal(residual.grad.sign(), residual.sign())
    assert torch.all(torch.isfinite(scale.grad) & (scale.grad < 0))


@BOTH
def test_scales_outside_the_grid_are_held_but_can_come_back(bits, tables):
    scale = torch.tensor([1e-4, 1e-4, 900.0, 900.0], requires_grad=True)
    residual = torch.tensor([0.0, 4.0, 0.0, 3000.0])
    found = bits(residual, scale)
    bound = torch.tensor([SCALE_MIN, SCALE_MIN, SCALE_MAX, SCALE_MAX])
    torch.testing.assert_close(found, bits(residual, bound))
    found.sum().backward()
    # Narrower is refused below the grid, wider above it.
    assert scale.grad[0] == 0
    assert scale.grad[1] < 0
    assert scale.grad[2] > 0
    assert scale.grad[3] == 0


@BOTH
def test_half_precision_and_broadcasting(bits, tables):
    residual = torch.randn(2, 3, 4, dtype=torch.float16)
    found = bits(residual, torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float16))
    assert found.dtype == torch.float32
    assert found.shape == (2, 3, 4)


def test_index_is_the_nearest_scale_in_log():
    grid = torch.tensor(scale_grid() / 2**20, dtype=torch.float32)
    assert scale_index(grid).tolist() == list(range(64))
    assert scale_index(grid).dtype == torch.uint8
    step = math.sqrt((grid[1] / grid[0]).item())
    assert scale_index(grid[:-1] * step * 0.999).tolist() == list(range(63))
    assert scale_index(grid[:-1] * step * 1.001).tolist() == list(range(1, 64))
    assert scale_index(torch.tensor([0.0, 1e-9, 1e9])).tolist() == [0, 0, 63]
    torch.testing.assert_close(index_scale(torch.arange(64)), grid, rtol=1e-5, atol=0)
