"""Symbols by rate and distortion: one nearer to zero where that saves more bits than it costs.

The encoder chooses its symbols so, and training does too: with uniform noise, the usual stand-in,
inter frames counted four times the bits that they have in files (docs/training.md, run 6).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from nvc.entropy.tables import gaussian_tables
from nvc.predictive.scales import SKIP_BELOW

LARGEST = 1 << 20  # symbols are held to this
COSTED = 31  # symbols above this are rounded plainly
# What a squared error of chroma counts beside its share of D = (6 MSE_Y + MSE_U + MSE_V) / 8:
# quality is judged by a mean of PSNRs, to which an error in chroma, where there is less, is more.
CHROMA_WORTH = 2.5
# What a squared error is worth in bits, in units of lambda, by the shrink of the scale: more than
# 1, since later frames refer to this one; coarser scales count as the training loss weighs them
# (measured, docs/predictive.md).
PRICES = {1: 4.0, 4: 1.1, 8: 2.2}


def choose(unit: Tensor, table: Tensor, step: Tensor, price: Tensor) -> Tensor:
    """Symbols of `unit` (B, C, h, w), which is in steps; integers in its dtype, no gradient.

    table: index of the table of each, 0..63 (those that are skipped count as the first that is
    not); step and price, bits for a squared error: anything that broadcasts to unit.
    """
    unit = unit.detach()
    k = unit.round().clamp(-LARGEST, LARGEST)
    at = k.abs().gt(0).nonzero(as_tuple=True)
    size = k[at].abs()
    code = size.clamp(max=COSTED).long()
    row = table[at].long().clamp(min=SKIP_BELOW)
    costs = code_lengths().to(k.device)
    saved = costs[row, code] - costs[row, code - 1]
    worth = (price * step.square()).expand_as(unit)[at]
    harm = worth * (2 * (unit[at].abs() - size) + 1)
    k[at] -= k[at].sign() * (saved > harm) * (size <= COSTED)
    return k


@lru_cache(maxsize=1)
def code_lengths() -> Tensor:
    """Bits of the symbol of each magnitude under each table, (64, COSTED + 1) float32."""
    tables = gaussian_tables()
    rows = torch.empty(len(tables), COSTED + 1)
    for number in range(len(tables)):
        start, size = int(tables.starts[number]), int(tables.sizes[number])
        centre = -int(tables.offsets[number])
        bits = torch.from_numpy(tables.costs[start : start + size + 1].astype(np.float32)) / 16
        for magnitude in range(COSTED + 1):
            inside = centre + magnitude < size
            # Past the table's end an escape: its own code, a sign, an Exp-Golomb code.
            beyond = 2 * math.log2(1 + max(0, centre + magnitude - size + 1)) + 2
            rows[number, magnitude] = bits[centre + magnitude] if inside else bits[size] + beyond
    return rows
