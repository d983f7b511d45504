"""What motion costs its search: the price of a bit, and the grid that vectors lie on."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from nvc.predictive.block_error import clip_vector

MADE_WITH = "d098d3ac3456a8e1"  # see nvc.entropy.jit

ERROR_SLOPE = 2.0  # of a bit's cost over squared error a sample; measured (docs/predictive.md)


class Price(NamedTuple):
    """What a search goes by.

    weight: cost of a bit in squared levels, where nothing is left; slope: by how much it rises with
    the error that is (weight_at); unit: quarter samples that vectors, less what is expected of
    them, are multiples of.
    """

    weight: np.float32
    slope: np.float32
    unit: int


@numba.njit(cache=True, nogil=True)
def weight_at(price, error, size):  # type: ignore[no-untyped-def]
    """Cost of a bit of the motion of a block of so many samples that is left with this error.

    An error larger than that of coding is coded, and then it costs bits by its logarithm: the
    larger it is, the less is a bit worth that makes it smaller.
    """
    return np.float32(price.weight + price.slope * np.float32(error) / np.float32(size * size))


@numba.njit(cache=True, nogil=True)
def on_grid(vector, position, size, length, expected, unit):  # type: ignore[no-untyped-def]
    """One component of a vector, less what is expected of it, where it may be and can be sent.

    Between two multiples of the unit the lower one is taken, for which the margin has room.
    """
    return (clip_vector(vector + expected, position, size, length) - expected) // unit * unit


def what_errors_cost(errors: NDArray[np.floating], weight: float) -> NDArray[np.float64]:
    """Costs of squares of 16x16 samples that motion leaves with these squared errors.

    In squared levels, as bits at `weight` each are: while the error is small itself, and so that it
    grows at 1 / (1 + slope error / 256 weight), which is what weight_at says of a bit.
    """
    scale = 256 * weight / ERROR_SLOPE
    return np.log1p(errors.astype(np.float64) / scale) * scale
