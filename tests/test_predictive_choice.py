"""Symbols in training: the kernel's and torch's choice agree, and gradients are what files bear."""

from __future__ import annotations

import pytest
import torch

from nvc.predictive import choice, choice_kernels, context_bits, scales, symbol_kernels
from nvc.predictive.choice import choose_symbols
from nvc.predictive.context_bits import ContextBits
from nvc.predictive.contexts import symbol_contexts
from nvc.predictive.scales import SKIP_BELOW, checkerboard

SHAPE = (2, 24, 6, 7)


@pytest.fixture
def contexts() -> ContextBits:
    start = symbol_contexts(2)
    torch.manual_seed(7)
    start.codes += torch.randint(-12, 13, start.codes.shape)  # by form, half, activity and index
    return ContextBits(start, torch.tensor([1, 0]))


def inputs(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Residual in steps, index, price, worth; the former two ask for gradients."""
    torch.manual_seed(seed)
    unit = (torch.randn(SHAPE) * torch.rand(SHAPE) * 4).requires_grad_()
    index = (torch.rand(SHAPE) * 40).requires_grad_()
    worth = torch.rand(SHAPE[0], *SHAPE[2:]) + 0.5
    return unit, index, torch.rand(SHAPE[:2]) * 6 + 2, worth


def test_constants_are_those_of_the_coder() -> None:
    assert choice_kernels.SKIP_BELOW == scales.SKIP_BELOW
    assert choice_kernels.INDICES == symbol_kernels.INDICES == scales.INDEX_MAX + 1
    assert choice_kernels.ACTIVITIES == symbol_kernels.ACTIVITIES
    assert choice_kernels.LARGEST == symbol_kernels.LARGEST
    assert choice_kernels.COSTED == context_bits.COSTED


@pytest.mark.parametrize("half", [0, 1])
def test_the_kernel_chooses_as_torch_does(contexts: ContextBits, half: int) -> None:
    """But where the real sums of activity fall into the class beside the coder's."""
    found = []
    for way in (choose_symbols, choice._anywhere):
        unit, index, price, worth = inputs()
        symbols, bits = way(contexts, unit, index, price, worth, half)
        (symbols.sum() + bits.sum()).backward()
        found.append((symbols.detach(), bits.detach(), unit.grad, index.grad))
    for kernel, plain in zip(*found, strict=True):
        assert kernel is not None and plain is not None
        apart = (kernel - plain).abs() > 1e-4
        assert apart.float().mean() < 0.01
    off = 1 - checkerboard(*SHAPE[1:], torch.device("cpu"))
    off = 1 - off if half else off
    assert all((value * off == 0).all() for value in found[0])


@pytest.mark.parametrize("way", [choose_symbols, choice._anywhere])
def test_zeros_pass_no_gradient_and_symbols_pass_all_of_it(contexts: ContextBits, way) -> None:  # type: ignore[no-untyped-def]
    unit, index, price, worth = inputs(1)
    symbols, _ = way(contexts, unit, index, price, worth, 0)
    symbols.sum().backward()
    assert unit.grad is not None
    assert torch.equal(unit.grad, (symbols != 0).float())
    assert 0.05 < float((symbols != 0).float().mean()) < 0.5


@pytest.mark.parametrize("way", [choose_symbols, choice._anywhere])
def test_a_skipped_place_has_no_symbol_but_pays_for_asking(way) -> None:  # type: ignore[no-untyped-def]
    contexts = ContextBits(symbol_contexts(2), torch.tensor([1, 0]))
    unit = torch.zeros(SHAPE)
    unit[:, 0, 0, 0] = 3.0
    index = torch.full(SHAPE, SKIP_BELOW - 1.0, requires_grad=True)
    price, worth = torch.full(SHAPE[:2], 9.0), torch.ones(SHAPE[0], *SHAPE[2:])
    symbols, bits = way(contexts, unit, index, price, worth, 0)
    assert not symbols.any()
    assert (bits[:, 0, 0, 0] > 1).all() and float(bits.count_nonzero()) == len(unit)
    bits.sum().backward()
    assert index.grad is not None and (index.grad[:, 0, 0, 0] < 0).all()
