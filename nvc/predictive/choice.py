"""Symbols in training: chosen as the encoder chooses them, with gradients that files bear out.

A symbol is a staircase of what is asked for, and most of it is the wide step around zero. A
gradient straight through all of it is wrong there twice over. It tells the analysis that more
residual makes a better picture at no cost, until it is coded and costs. And it tells the prediction
nothing: an error it leaves is taken for one that the residual mends, though nothing is coded. At
the edge of the step, where a symbol begins, bits and errors balance by the encoder's own choice. So
the gradient goes straight through symbols that are there, and not at all through zeros
(docs/training.md, run 10).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nvc.predictive.choice_kernels import choose_half
from nvc.predictive.context_bits import ContextBits
from nvc.predictive.rounding import choose
from nvc.predictive.scales import checkerboard, coded


def choose_symbols(
    contexts: ContextBits, unit: Tensor, index: Tensor, price: Tensor, worth: Tensor, half: int
) -> tuple[Tensor, Tensor]:
    """Symbols of one checkerboard half and their bits, both (B, C, h, w), zeros off the half.

    unit: residual in steps; index: unrounded table index; price (B, C) times worth (B, h, w): bits
    for an error of one squared step. Places that are skipped have no symbol; one that asks for some
    pays as if it were coded, so that it may leave the skip. Gradients of symbols and bits reach
    unit, those of bits index.
    """
    if unit.device.type != "cpu":
        return _anywhere(contexts, unit, index, price, worth, half)
    prices = price.float().contiguous(), worth.float().contiguous()
    symbols, bits = _OnCpu.apply(
        _rows(unit), _rows(index), *prices, contexts.costs, contexts.form.flatten(), half
    )
    return symbols.permute(0, 3, 1, 2), bits.permute(0, 3, 1, 2)


def _rows(values: Tensor) -> Tensor:
    return values.float().permute(0, 2, 3, 1).contiguous()  # (B, h, w, C)


class _OnCpu(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, unit: Tensor, index: Tensor, price: Tensor, worth: Tensor, costs: Tensor,
        form: Tensor, half: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        kept, bits, slope, growth = (torch.zeros_like(unit) for _ in range(4))
        given = (unit, index, price, worth, costs.contiguous(), form)
        choose_half(
            *(value.detach().numpy() for value in given),
            half,
            *(value.numpy() for value in (kept, bits, slope, growth)),
        )
        ctx.save_for_backward(kept, slope, growth)
        return kept, bits

    @staticmethod
    def backward(ctx: Any, of_symbols: Tensor, of_bits: Tensor):  # type: ignore[override]
        kept, slope, growth = ctx.saved_tensors
        of_unit = of_symbols * (kept != 0) + of_bits * growth
        return of_unit, of_bits * slope, None, None, None, None, None


def _anywhere(
    contexts: ContextBits, unit: Tensor, index: Tensor, price: Tensor, worth: Tensor, half: int
) -> tuple[Tensor, Tensor]:
    """The same in torch's own operations, for devices that no kernel is compiled for.

    What was coded before a symbol is what was chosen there, so one more round settles it.
    """
    mask = checkerboard(*unit.shape[1:], unit.device)
    mask = 1 - mask if half else mask
    unit, index = unit.float() * mask, index * mask
    price = price[:, :, None, None] * worth[:, None]
    k = unit.detach().round()
    for _ in range(2):
        k = choose(unit, contexts.costs, contexts.rows(index, k), price)
    there = coded(index)
    asked = k + (unit - unit.detach()) * (k != 0)
    counted = mask * (1 - (1 - there) * (k == 0))
    return asked * there, contexts.bits(index, asked, k * there) * counted
