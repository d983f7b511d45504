"""Where adaptive bits begin: a probability for every context, kept with the weights.

Symbols and motion fields are adaptive bits; every layer of a frame and every field adapts anew from
here, so that it can be read whatever was lost before. The probabilities are not trained but counted
(nvc.predictive.counting).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from enum import IntEnum
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nvc.entropy.adaptive_kernels import CERTAIN
from nvc.entropy.tables import gaussian_tables
from nvc.predictive.symbol_kernels import (
    ACTIVITIES,
    CONTEXTS,
    FIRST_MORE,
    FIRST_UNARY,
    INDICES,
    UNARY,
)
from nvc.predictive.vector_conditions import CONTEXTS as VECTOR_CONTEXTS

CODE_UNIT = 16  # codes to a nat of log odds
CODE_LIMIT = 127
_SYMBOL_PARENT = 20  # observations that what is known of wider contexts counts for
_VECTOR_PARENT = 8

_VECTOR_QPS = (28, 40, 50, 60)  # of a frame, from which on a form has other probabilities


class VectorForm(IntEnum):
    """Of a motion field: of a P frame into its nearer and older reference; of a B frame."""

    NEARER = 0
    OLDER = 1
    FIRST = 2
    SECOND = 3


class Contexts(nn.Module):
    """First probabilities p of a one, for contexts of several forms.

    They are held as codes round(16 ln(p / (1 - p))). start (forms, contexts): p in 0..1, float64;
    confidence: observations that they count for; even odds say nothing and count for none.
    """

    codes: torch.Tensor

    def __init__(self, start: NDArray[np.float64], *, confidence: int) -> None:
        super().__init__()
        self.confidence = confidence
        self.register_buffer("codes", torch.from_numpy(_codes(start)).to(torch.float32))

    def model(self, form: int) -> NDArray[np.int32]:
        """Where the adaptive bits of a form begin, (contexts, 3); to be copied, not written to."""
        codes = self.codes[form].detach().to("cpu", torch.int64).numpy()
        return _model(codes.tobytes(), self.confidence)

    def check_exact(self) -> None:
        """Raise ValueError unless every code is an integer of -127..127."""
        exact = self.codes == self.codes.round()
        if not bool((exact & (self.codes.abs() <= CODE_LIMIT)).all()):
            raise ValueError("the first probability of a context is none of -127..127")

    def set(self, form: int, probability: NDArray[np.float64]) -> None:
        """Probabilities of one form, (contexts,), rounded to codes."""
        self.codes[form] = torch.from_numpy(_codes(probability)).to(self.codes)


def symbol_contexts(forms: int) -> Contexts:
    """Those of the symbols of a scale: by the Gaussian tables that the index names."""
    return Contexts(np.tile(_gaussian(), (forms, 1)), confidence=60)


@lru_cache(maxsize=8)
def fixed_model(start: tuple[float, ...], confidence: int) -> NDArray[np.int32]:
    """Where adaptive bits begin that no weights have counted; to be copied, not written to."""
    return _model(_codes(np.array(start)).astype(np.int64).tobytes(), confidence)


def vector_row(form: VectorForm, qp: int) -> int:
    """Row of the contexts of motion fields for a form of field in a frame of this QP."""
    return form * (len(_VECTOR_QPS) + 1) + sum(qp >= first for first in _VECTOR_QPS)


def vector_contexts() -> Contexts:
    """Those of motion fields, by vector_row: even."""
    rows = len(VectorForm) * (len(_VECTOR_QPS) + 1)
    return Contexts(np.full((rows, VECTOR_CONTEXTS), 0.5), confidence=20)


@dataclass
class ContextCounts:
    """Zeros and ones written in every context: of symbols by scale and form, of motion by row."""

    symbols: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)
    vectors: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def of_symbols(self, shrink: int, form: int) -> NDArray[np.int64]:
        """Counts (CONTEXTS, 2) of the symbols of a scale in frames of a form, to be added to."""
        return self.symbols.setdefault((shrink, form), np.zeros((CONTEXTS, 2), np.int64))

    def of_vectors(self, row: int) -> NDArray[np.int64]:
        """Counts (contexts, 2) of motion fields of a vector_row, to be added to."""
        return self.vectors.setdefault(row, np.zeros((VECTOR_CONTEXTS, 2), np.int64))


def symbol_probabilities(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """From counts (CONTEXTS, 2) of zeros and ones, drawn to wider contexts where these are few."""
    result = _gaussian().copy()
    for first, last in ((0, FIRST_MORE), (FIRST_MORE, FIRST_UNARY)):
        part = counts[first:last].reshape(2, INDICES, ACTIVITIES, 2).astype(np.float64)
        before = result[first:last].reshape(2, INDICES, ACTIVITIES)[:, :, 0]
        parent = _drawn(part.sum(axis=2), before, _SYMBOL_PARENT)
        result[first:last] = _drawn(part, parent[..., None], _SYMBOL_PARENT).reshape(-1)
    part = counts[FIRST_UNARY:].astype(np.float64)
    result[FIRST_UNARY:] = _drawn(part, result[FIRST_UNARY:], _SYMBOL_PARENT)
    return result


def vector_probabilities(counts: dict[int, NDArray[np.int64]]) -> dict[int, NDArray[np.float64]]:
    """From counts (contexts, 2) of motion fields by row, drawn to those of their form at all QPs.

    Rows of which nothing was counted are left out, but for those of forms that were.
    """
    result: dict[int, NDArray[np.float64]] = {}
    qps = len(_VECTOR_QPS) + 1
    for form in VectorForm:
        rows = range(form * qps, (form + 1) * qps)
        seen = [counts[row].astype(np.float64) for row in rows if row in counts]
        if seen:
            parent = _drawn(np.sum(seen, axis=0), np.array(0.5), _VECTOR_PARENT)
            empty = np.zeros((VECTOR_CONTEXTS, 2))
            for row in rows:
                result[row] = _drawn(counts.get(row, empty), parent, _VECTOR_PARENT)
    return result


def _drawn(
    counts: NDArray[np.float64], parent: NDArray[np.float64], weight: float
) -> NDArray[np.float64]:
    """Share of ones in counts (..., 2), with `weight` more observations of the parent's share."""
    return (counts[..., 1] + weight * parent) / (counts.sum(-1) + weight)


def _codes(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(probability, 1e-6, 1 - 1e-6)
    odds = np.log(inside / (1 - inside))
    return np.clip(np.rint(CODE_UNIT * odds), -CODE_LIMIT, CODE_LIMIT)


@lru_cache(maxsize=1)
def _gaussian() -> NDArray[np.float64]:
    """Probability of a one in every context of symbols by the Gaussian table of its index."""
    tables = gaussian_tables()
    result = np.full(CONTEXTS, 0.5)
    for index in range(INDICES):
        first, size = int(tables.starts[index]), int(tables.sizes[index])
        centre = -int(tables.offsets[index])
        shares = tables.frequencies[first : first + size + 1].astype(np.float64)
        tail = [1.0]  # share of magnitudes of at least 0, 1, ...
        for magnitude in range(UNARY):
            here = sum(
                shares[centre + sign * magnitude]
                for sign in ((-1, 1) if magnitude else (1,))
                if 0 <= centre + sign * magnitude < size
            )
            tail.append(max(tail[-1] - here / shares.sum(), 1e-9))
        beyond = [min(tail[m + 1] / tail[m], 0.9999) for m in range(UNARY)]  # more than m of >= m
        for half in range(2):
            at = (half * INDICES + index) * ACTIVITIES
            result[at : at + ACTIVITIES] = beyond[0]
            result[FIRST_MORE + at : FIRST_MORE + at + ACTIVITIES] = beyond[1]
        at = FIRST_UNARY + index * (UNARY - 2)
        result[at : at + UNARY - 2] = beyond[2:]
    return result


@lru_cache(maxsize=1)
def _probabilities() -> NDArray[np.int32]:
    """2^24 p of every code; in decimal numbers, which are the same on every machine."""
    values = []
    with localcontext(prec=28):
        for code in range(-CODE_LIMIT, CODE_LIMIT + 1):
            odds = (Decimal(code) / CODE_UNIT).exp()
            values.append(int(((1 << 24) * odds / (1 + odds)).to_integral_value()))
    return np.clip(np.array(values, np.int32), CERTAIN, (1 << 24) - CERTAIN)


@lru_cache(maxsize=64)
def _model(codes: bytes, confidence: int) -> NDArray[np.int32]:
    """Fast and slow probability times 2^24 and the count of observations."""
    at = np.frombuffer(codes, np.int64) + CODE_LIMIT
    model = np.empty((len(at), 3), np.int32)
    model[:, 0] = model[:, 1] = _probabilities()[at]
    model[:, 2] = np.where(at == CODE_LIMIT, 0, confidence)
    model.flags.writeable = False
    return model
