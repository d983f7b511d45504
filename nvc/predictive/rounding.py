"""Symbols by rate and distortion: one nearer to zero where that saves more bits than it costs.

The encoder chooses its symbols so, and training does too: with uniform noise, the usual stand-in,
inter frames counted four times the bits that they have in files (docs/training.md, run 6).
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 1 << 20  # symbols are held to this
# What a squared error of chroma counts beside its share of D = (6 MSE_Y + MSE_U + MSE_V) / 8:
# quality is judged by a mean of PSNRs, to which an error in chroma, where there is less, is more.
CHROMA_WORTH = 2.5
# What a squared error is worth in bits, in units of lambda, by the shrink of the scale: more than
# 1, since later frames refer to this one; coarser scales count as the training loss weighs them
# (measured, docs/predictive.md).
PRICES = {1: 4.6, 4: 1.1, 8: 2.2}
FORM_PRICES = (1.0, 1.0, 0.6)  # and by frame form: few frames or none refer to a B frame


def form_price(form: Tensor) -> Tensor:
    """FORM_PRICES of frames of these forms, (B, 1), without waiting for the device."""
    intra, inter, between = FORM_PRICES
    rest = torch.where(form == 1, inter, between)
    return torch.where(form == 0, intra, rest)[:, None]


def choose(unit: Tensor, costs: Tensor, row: Tensor, price: Tensor) -> Tensor:
    """Symbols of `unit` (B, C, h, w), which is in steps; integers in its dtype, no gradient.

    costs (rows, magnitudes): bits of each magnitude, those of larger ones being rounded plainly;
    row: of each symbol; price: bits for an error of one squared step, broadcast to unit.
    """
    unit = unit.detach()
    k = unit.round().clamp(-LARGEST, LARGEST)
    size = k.abs()
    largest = costs.shape[1] - 1
    code = size.clamp(max=largest).long()
    saved = costs[row, code] - costs[row, (code - 1).clamp(min=0)]
    harm = price * (2 * (unit.abs() - size) + 1)
    return k - k.sign() * ((saved > harm) & (size <= largest))
