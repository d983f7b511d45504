"""Which of its two references predicts a square of a frame: their mean, or one of them alone.

As the prediction modes of H.264 B macroblocks (T. Wiegand et al., IEEE TCSVT 2003), for squares of
16x16 samples. What comes into sight or goes is in one reference only; two that agree make a mean
with half of the noise of their coding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvc.errors import StreamError
from nvc.predictive import share_kernels
from nvc.predictive.contexts import fixed_model
from nvc.predictive.motion_price import what_errors_cost

SQUARE = 16  # luma samples of the full picture
BOTH, FIRST, SECOND = 0, 1, 2
OF_SECOND = (0.5, 0.0, 1.0)  # part of the second reference in each

Shares = NDArray[np.uint8]  # (rows, columns), of squares

# What squares are, most frequent first, by whether the frame lies between its references.
_RANKS = {True: (BOTH, FIRST, SECOND), False: (FIRST, BOTH, SECOND)}
# Where the adaptive bits begin: probabilities of a one by context, counted on held-out clips.
_STARTS = {True: (0.07, 0.24, 0.39, 0.09, 0.36, 0.76), False: (0.1, 0.43, 0.67, 0.055, 0.08, 0.29)}
_CONFIDENCE = 20
# Bits that the choice reckons with for what is usual, for the next and the last, with the vectors.
_BITS = {True: (0.3, 3.0, 3.0), False: (0.5, 4.0, 5.0)}


def usual(between: bool) -> int:
    """What most squares are of a frame that lies between its references, or behind them."""
    return _RANKS[between][0]


def choose_shares(
    source: NDArray[np.uint8],
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    *,
    weight: float,
    between: bool,
) -> tuple[Shares, float]:
    """Shares of the squares of a frame, and what they save over the usual one, in squared errors.

    source (H, W) uint8, its sides multiples of SQUARE; first, second: the references moved onto it,
    float32 in levels of 255; weight: cost of a bit in squared levels.
    """
    grid = (source.shape[0] // SQUARE, source.shape[1] // SQUARE)
    errors = np.empty((3, *grid), np.float32)
    share_kernels.square_errors(source, first, second, SQUARE, errors)
    costs = what_errors_cost(errors[list(_RANKS[between])], weight)
    bits = np.array(_BITS[between])[:, None, None]
    ranks = (costs + weight * bits).argmin(axis=0)
    taken = np.take_along_axis(costs, ranks[None], axis=0)[0]
    saved = float((costs[0] - taken).sum())
    return np.array(_RANKS[between], np.uint8)[ranks], saved


def encode_shares(shares: Shares, *, between: bool) -> bytes:
    """Bytes of shares (rows, columns)."""
    order = np.argsort(_RANKS[between]).astype(np.int32)
    ranks = np.ascontiguousarray(order[shares])
    digits = np.empty(ranks.size * share_kernels.BYTES_PER_SQUARE + 256, np.uint16)
    model = fixed_model(_STARTS[between], _CONFIDENCE).copy()
    return share_kernels.write(ranks, model, digits).tobytes().rstrip(b"\0")


def decode_shares(payload: bytes, rows: int, columns: int, *, between: bool) -> Shares:
    """The shares (rows, columns) of these bytes. Raises StreamError on damaged ones."""
    ranks = np.zeros((rows, columns), np.int32)
    data = np.frombuffer(payload, dtype=np.uint8).copy()
    model = fixed_model(_STARTS[between], _CONFIDENCE).copy()
    used = share_kernels.read(data, model, ranks)
    if used == share_kernels.BAD_START:
        raise StreamError("the shares of references start as none do")
    if data[-1:].tobytes() == b"\0" or used < len(data):
        raise StreamError("the shares of references have bytes left over")
    return np.array(_RANKS[between], np.uint8)[ranks]


def part_of_second(shares: Shares) -> NDArray[np.float32]:
    """(rows, columns) float32: what nvc.predictive.network.Second has for its share."""
    return np.array(OF_SECOND, np.float32)[shares]


def uses(shares: Shares, reference: int) -> NDArray[np.bool_]:
    """Squares that the first (FIRST) or the second (SECOND) reference takes part in."""
    return (shares == BOTH) | (shares == reference)
