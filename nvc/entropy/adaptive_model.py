"""The starting point of the adaptive matrix coder: its contexts, first probabilities and options.

docs/entropy.md describes the model; adaptive_kernels.py runs it.
"""

from functools import cache

import numpy as np

from nvc.entropy.adaptive_kernels import CONTEXTS, HALF, LEVELS, LOW_BITS_BIAS, UNARY
from nvc.entropy.tables import (
    FRACTION_BITS,
    SCALE_BITS,
    gaussian_inside,
    integer_root,
    laplace_inside,
)

COUNT_LIMIT = 1 << 26  # values of one matrix; keeps the statistics inside 64 bits
START_COUNT = 24  # observations the first probabilities count for

# What the encoder chooses from and sends, in order of preference.
MEANS = (4 * 16, 1 * 16, 16 * 16, 8)  # first guess of the mean magnitude, in 1/16
ROW_WEIGHTS = (24, 6, 0, 96)  # values the overall mean counts for in a row's mean; 0: rows alike
COLUMN_WEIGHTS = (0, 24, 6, 96)
NEIGHBOUR_WEIGHTS = (0, 40, 12)  # how much the neighbours count against; 0: not used
CHOICES = (MEANS, ROW_WEIGHTS, COLUMN_WEIGHTS, NEIGHBOUR_WEIGHTS)


@cache
def first_probabilities() -> np.ndarray:
    """First probability of a 1 in every context, times 2**16; int32 (CONTEXTS,), read-only.

    The unary contexts say how likely a magnitude goes on, given the level's mean magnitude, for an
    even mixture of a Gaussian and a Laplace distribution. By integers only.
    """
    table = np.full(CONTEXTS, HALF, dtype=np.int32)
    for level in range(LEVELS):
        mean = integer_root(1 << (2 * level + 1 + 6 * (SCALE_BITS - 6)), 6)
        tails = [_tail(step << low_bits(level), mean) for step in range(UNARY + 1)]
        for step in range(UNARY):
            if tails[step] >> (FRACTION_BITS - 40):
                ratio = (tails[step + 1] << 16) // tails[step]
                table[level * UNARY + step] = min(max(ratio, 1 << 7), (1 << 16) - (1 << 7))
    table.flags.writeable = False
    return table


def low_bits(level: int) -> int:
    """Bits of a magnitude below those in the unary code, at this level."""
    return max(0, level // 3 - LOW_BITS_BIAS)


def _tail(magnitude: int, mean: int) -> int:
    """P(rounded |X| >= magnitude) with 128 fractional bits; mean: E|X| times 2**20."""
    one = 1 << FRACTION_BITS
    if magnitude == 0:
        return one
    odd = 2 * magnitude - 1
    sigma = mean * 1314193 >> 20  # sqrt(pi / 2)
    far = odd << SCALE_BITS > 12 * sigma  # beyond 6 sigma the Laplace part is all there is
    gaussian = one if far else gaussian_inside(odd, sigma)
    return (2 * one - gaussian - laplace_inside(odd, mean)) // 2
