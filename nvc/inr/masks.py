"""Masks over weights: which of them the best scores choose, and their bits in a file."""

from __future__ import annotations

import math

import numpy as np
import torch

from nvc.entropy import rans
from nvc.entropy.tables import PRECISION, Tables
from nvc.errors import StreamError

LEVELS = 256  # shares of ones that a file can name


def best_share(scores: torch.Tensor, share: float) -> torch.Tensor:
    """(N,) 1.0 where a score's magnitude is among the best `share` of them, else 0.0.

    The gradient passes straight through to the magnitudes (Kang et al., ICLR 2024, section 3.1).
    """
    magnitudes = scores.abs()
    kept = max(1, round(share * scores.numel()))
    least = magnitudes.detach().kthvalue(scores.numel() - kept + 1).values
    hard = (magnitudes.detach() >= least).to(scores.dtype)
    return hard + (magnitudes - magnitudes.detach())


def binary_entropy(share: float) -> float:
    """Bits of a value that is 1 with this probability."""
    if not 0 < share < 1:
        return 0.0
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def encode_bits(masks: list[np.ndarray]) -> bytes:
    """Boolean vectors, each under its own share of ones: a level byte each, then one payload."""
    levels = bytes(_level(mask) for mask in masks)
    values = [mask.astype(np.int32) for mask in masks]
    indexes = [np.full(len(m), n, dtype=np.uint8) for m, n in zip(masks, levels, strict=True)]
    if not masks:
        return levels
    return levels + rans.encode(np.concatenate(values), np.concatenate(indexes), _tables())


def decode_bits(payload: bytes, counts: list[int]) -> list[np.ndarray]:
    """Undo encode_bits for vectors of these lengths; StreamError on anything it does not write."""
    levels, rest = payload[: len(counts)], payload[len(counts) :]
    if len(levels) < len(counts):
        raise StreamError("a mask ends too early")
    if not counts:
        return []
    indexes = [np.full(n, level, dtype=np.uint8) for n, level in zip(counts, levels, strict=True)]
    values = rans.decode(rest, np.concatenate(indexes), _tables())
    if len(values) and not 0 <= values.min() <= values.max() <= 1:
        raise StreamError("a mask holds more than zeros and ones")
    return np.split(values.astype(bool), np.cumsum(counts)[:-1])


def _level(mask: np.ndarray) -> int:
    """The number of the table whose share of ones is nearest to the mask's."""
    return min(int(LEVELS * float(mask.mean())), LEVELS - 1) if len(mask) else 0


def _tables() -> Tables:
    """A table of 0 and 1 for each level: the middle of its share of ones."""
    total = (1 << PRECISION) - 1
    ones = [(2 * level + 1) * total // (2 * LEVELS) for level in range(LEVELS)]
    frequencies = [part for one in ones for part in (total - one, one, 1)]
    return Tables(
        np.zeros(LEVELS, dtype=np.int32),
        np.full(LEVELS, 2, dtype=np.int32),
        np.zeros(LEVELS, dtype=np.uint8),
        np.array(frequencies, dtype=np.uint16),
    )
