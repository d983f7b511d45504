"""Training counts the bits that files take: tables, classes of activity, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_predictive_contexts import write

from nvc.entropy.likelihood import gaussian_bits, index_scale
from nvc.predictive.context_bits import COSTED, ContextBits, activity_class
from nvc.predictive.contexts import Contexts, symbol_contexts
from nvc.predictive.scales import SKIP_BELOW, coded
from nvc.predictive.symbol_kernels import CONTEXTS, INDICES

NO_FORM = torch.tensor([0])


def counted(contexts: Contexts, k: np.ndarray, index: np.ndarray) -> float:
    """Bits that training counts for all symbols."""
    symbols, tables = (torch.from_numpy(x.astype(np.float32))[None] for x in (k, index))
    bits = ContextBits(contexts, NO_FORM).bits(tables, symbols, symbols)
    return float((bits * coded(tables)).sum())


def test_bits_are_those_of_the_coder() -> None:
    """Of symbols that are as their tables say, but for what the coder pays for adapting."""
    rng = np.random.default_rng(1)
    index = rng.integers(0, 48, (48, 12, 16)).astype(np.uint8)
    scale = index_scale(torch.from_numpy(index)).numpy()
    k = np.where(index >= SKIP_BELOW, np.rint(scale * rng.normal(size=index.shape)), 0)
    contexts = symbol_contexts(1)
    written = 8 * len(write(k.astype(np.int32), index, contexts.model(0)))
    assert 0.97 < counted(contexts, k, index) / written < 1.0


@pytest.mark.parametrize("share", [0.002, 0.01, 0.05, 0.3])
def test_classes_of_activity_are_those_of_the_coder(share: float) -> None:
    """Against the coder's integers, over as many channels as the finest scale has, most empty."""
    rng = np.random.default_rng(3)
    k = (rng.random((320, 8, 9)) < share) * rng.integers(1, 5, (320, 8, 9))
    sums = np.zeros((2, 8, 9), np.int64)  # of even and of odd channels
    wanted = np.zeros(k.shape, np.int64)
    for channel, sizes in enumerate(k):
        here = sums[channel % 2]
        wanted[channel] = np.searchsorted([4, 20, 60, 140, 300], here, side="right")
        sums[channel % 2] = here - (here >> 3) + (np.minimum(sizes, 3) << 6)
    classes = activity_class(torch.from_numpy(k)[None])[0].numpy()
    assert (classes != wanted).mean() < 0.01
    assert np.array_equal(classes == 0, wanted == 0)


def test_a_symbol_costs_less_where_there_were_some() -> None:
    """Contexts told that ones follow ones; the second of two symbols at a place is the cheaper."""
    start = np.full(CONTEXTS, 0.01)
    start.reshape(-1)[: 2 * INDICES * 6].reshape(2, INDICES, 6)[:, :, 3:] = 0.5
    contexts = Contexts(start[None], confidence=20)
    k = torch.zeros(1, 5, 1, 1)
    k[0, ::2] = 2.0
    bits = ContextBits(contexts, NO_FORM).bits(torch.full_like(k, 20.0), k, k).flatten()
    assert bits[2] < bits[0] - 3 and bits[1] == bits[3] < 0.1


def test_without_counts_bits_are_those_of_the_gaussian_tables() -> None:
    index = torch.full((1, 1, 1, 8), 30.0)
    symbols = torch.arange(8.0).view(1, 1, 1, 8)
    bits = ContextBits(symbol_contexts(1), NO_FORM).bits(index, symbols, symbols)
    wanted = gaussian_bits(symbols, index_scale(index))
    assert torch.allclose(bits, wanted, rtol=0.05, atol=0.15)


def test_gradients_lead_to_fewer_bits() -> None:
    """To smaller symbols, and to the table that fits them; magnitudes beyond the tables too."""
    contexts = symbol_contexts(1)
    symbols = torch.tensor([0.0, 1.0, -3.0, 2.0 * COSTED]).view(1, 4, 1, 1).requires_grad_()
    index = torch.full((1, 4, 1, 1), 20.0, requires_grad=True)
    bits = ContextBits(contexts, NO_FORM).bits(index, symbols, symbols.detach())
    bits.sum().backward()
    assert symbols.grad is not None and index.grad is not None
    assert bits.isfinite().all() and (bits.diff(dim=1) > 0).all()
    slope = symbols.grad.flatten()
    assert slope[0] == 0 and slope[1] > 0 and slope[2] < 0
    assert index.grad[0, 0] > 0 > index.grad[0, 2]
