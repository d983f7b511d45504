"""Static models of quantised weights: which integer table codes each value of a matrix.

A table is one of 128: the 64 Laplace tables, then the 64 Gaussian ones. A matrix names a family
and a base scale; when it pays, each row, or each row and each column, adds its own small step on
the scale grid (the dual-axis prior of NVRC, Kwan et al., NeurIPS 2024). Or it brings a table of its
own: a histogram of magnitudes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from nvc.entropy.tables import PRECISION, SCALE_COUNT, Tables, gaussian_tables, laplace_tables

FAMILIES = 2
COLUMN_REACH = 12  # steps a column's scale may be from its rows'
MAX_LEVELS = 255  # magnitudes of a histogram
LEVEL_OCTAVES = 15
HISTOGRAM_ORDER = 6  # of the Exp-Golomb code of what escapes a histogram
MAX_HISTOGRAMS = 100
_ESCAPE_BITS = 24.0


@cache
def weight_tables() -> Tables:
    """The Laplace tables, then the Gaussian ones, as one set of 128."""
    sets = (laplace_tables(), gaussian_tables())
    return Tables(
        *(
            np.concatenate([getattr(tables, name) for tables in sets])
            for name in ("offsets", "sizes", "orders", "frequencies")
        )
    )


@cache
def _costs() -> np.ndarray:
    """(128, K) bits of each magnitude 0 .. K - 1 under each table; escapes at a flat price."""
    tables = weight_tables()
    reach = int(tables.sizes.max()) // 2 + 1
    costs = np.full((len(tables), reach), _ESCAPE_BITS, dtype=np.float32)
    start = 0
    for index, (offset, size) in enumerate(zip(tables.offsets, tables.sizes, strict=True)):
        positive = tables.frequencies[start - offset : start + size].astype(np.float64)
        costs[index, : len(positive)] = PRECISION - np.log2(positive)
        start += int(size) + 1
    return costs


@dataclass(frozen=True, eq=False)
class ScaleModel:
    """Tables of a matrix: family 0 or 1, base scale 0..63, and a step for each row and each column,
    or None when all share the base."""

    family: int
    base: int
    row_steps: np.ndarray | None
    bits: float
    column_steps: np.ndarray | None = None

    def indexes(self, rows: int, columns: int) -> np.ndarray:
        """(rows, columns) uint8 table of every value."""
        return table_indexes(
            self.family, self.base, self.row_steps, rows, columns, column_steps=self.column_steps
        )


def table_indexes(
    family: int,
    base: int,
    row_steps: np.ndarray | None,
    rows: int,
    columns: int,
    *,
    column_steps: np.ndarray | None = None,
) -> np.ndarray:
    """(rows, columns) uint8: the table of every value from what the file says; integers only."""
    scales = np.full((rows, columns), base, dtype=np.int64)
    if row_steps is not None:
        scales += row_steps[:, None]
    if column_steps is not None:
        scales += column_steps
    return (np.clip(scales, 0, SCALE_COUNT - 1) + family * SCALE_COUNT).astype(np.uint8)


def dual_model(matrix: np.ndarray, *, step_bits: float = 2.5) -> ScaleModel:
    """The cheaper family's model with a step a row and a step a column, found one axis after the
    other; int32 (rows, columns). step_bits: what naming one of them is taken to cost."""
    rows, columns = matrix.shape
    magnitudes = np.minimum(np.abs(matrix), _costs().shape[1] - 1)
    best: ScaleModel | None = None
    for family in range(FAMILIES):
        own = _row_costs(magnitudes, family).argmin(axis=1)
        base = int(np.median(own))
        costs = _costs()[family * SCALE_COUNT : (family + 1) * SCALE_COUNT]
        # (reach, rows, columns): a column's cost when its step is added to its rows' scales
        shifts = np.arange(-COLUMN_REACH, COLUMN_REACH + 1)
        totals = np.stack(
            [
                costs[np.clip(own + shift, 0, SCALE_COUNT - 1)[:, None], magnitudes].sum(axis=0)
                for shift in shifts
            ]
        )
        steps = shifts[totals.argmin(axis=0)].astype(np.int32)
        bits = float(totals.min(axis=0).sum()) + step_bits * (rows + columns) + 24
        if best is None or bits < best.bits:
            best = ScaleModel(family, base, (own - base).astype(np.int32), bits, steps)
    assert best is not None
    return best


@dataclass(frozen=True, eq=False)
class HistogramModel:
    """A table of a matrix's own: how often each magnitude occurs, as codes of one byte or less.

    levels: int32 (n,), for the magnitudes 0 .. n - 1; a level q stands for the weight
    (4 + q mod 4) * 2^(q div 4). Larger magnitudes escape.
    """

    levels: np.ndarray
    bits: float

    def table(self) -> tuple[int, list[int]]:
        """Offset and frequencies of the signed symbols and the escape; integers only."""
        weights = [(4 + q % 4) << (q // 4) for q in map(int, self.levels)]
        signed = [*weights[:0:-1], 2 * weights[0], *weights[1:]]
        free = (1 << PRECISION) - len(signed) - 1
        total = sum(signed)
        frequencies = [1 + free * weight // total for weight in signed]
        largest = max(range(len(signed)), key=lambda index: (signed[index], -index))
        frequencies[largest] += (1 << PRECISION) - 1 - sum(frequencies)
        return 1 - len(weights), [*frequencies, 1]


def histogram_model(matrix: np.ndarray, *, level_bits: float = 3.0) -> HistogramModel:
    """The histogram of an int32 matrix; level_bits: what one of its levels is taken to cost."""
    magnitudes = np.abs(matrix).ravel()
    reach = min(int(magnitudes.max(initial=0)) + 1, MAX_LEVELS)
    counts = np.bincount(magnitudes[magnitudes < reach], minlength=reach).astype(np.float64)
    counts[0] *= 0.5  # its weight counts twice
    scaled = np.maximum(counts + 0.1, 1e-3)
    exact = 4 * (np.log2(scaled / scaled.max()) + LEVEL_OCTAVES)
    levels = np.clip(np.rint(exact), 0, 4 * LEVEL_OCTAVES).astype(np.int32)
    model = HistogramModel(levels, 0.0)
    _, frequencies = model.table()
    table = np.array(frequencies[reach - 1 : -1], dtype=np.float64)  # of 0 and the positive ones
    counts[0] *= 2
    escapes = len(magnitudes) - counts.sum()
    bits = float((counts * (PRECISION - np.log2(table))).sum()) + _ESCAPE_BITS * escapes
    return HistogramModel(levels, bits + level_bits * reach + 24)


def levels_are_valid(levels: np.ndarray) -> bool:
    """Whether these can be the levels of a histogram."""
    return bool(len(levels)) and int(levels.min()) >= 0 and int(levels.max()) <= 4 * LEVEL_OCTAVES


def with_histograms(models: list[HistogramModel]) -> Tables:
    """The 128 common tables, then one for each histogram."""
    common = weight_tables()
    tables = [model.table() for model in models]
    own = [(offset, len(frequencies) - 1) for offset, frequencies in tables]
    return Tables(
        np.concatenate([common.offsets, np.array([o for o, _ in own], dtype=np.int32)]),
        np.concatenate([common.sizes, np.array([n for _, n in own], dtype=np.int32)]),
        np.concatenate([common.orders, np.full(len(own), HISTOGRAM_ORDER, dtype=np.uint8)]),
        np.concatenate(
            [common.frequencies, *(np.array(f, dtype=np.uint16) for _, f in tables)]
        ).astype(np.uint16),
    )


def choose_model(
    matrix: np.ndarray, *, row_step_bits: float = 2.5, rows_allowed: bool = True
) -> ScaleModel:
    """The cheapest static model of an int32 matrix (rows, columns) under the coder's own tables.

    row_step_bits: what naming one row's scale is taken to cost.
    """
    rows, _ = matrix.shape
    magnitudes = np.minimum(np.abs(matrix), _costs().shape[1] - 1)
    best: ScaleModel | None = None
    for family in range(FAMILIES):
        costs = _row_costs(magnitudes, family)  # (rows, 64)
        total = costs.sum(axis=0)
        base = int(total.argmin())
        plain = ScaleModel(family, base, None, float(total[base]))
        own = costs.argmin(axis=1)
        middle = int(np.median(own))
        bits = float(costs[np.arange(rows), own].sum()) + row_step_bits * rows + 8
        by_row = ScaleModel(family, middle, (own - middle).astype(np.int32), bits)
        for model in (plain, by_row) if rows_allowed else (plain,):
            if best is None or model.bits < best.bits:
                best = model
    assert best is not None
    return best


def _row_costs(magnitudes: np.ndarray, family: int) -> np.ndarray:
    """(rows, 64) bits of each row under each scale of a family, from the rows' histograms."""
    costs = _costs()[family * SCALE_COUNT : (family + 1) * SCALE_COUNT]
    rows = magnitudes.shape[0]
    reach = int(magnitudes.max(initial=0)) + 1
    cells = magnitudes + np.arange(rows)[:, None] * reach
    histograms = np.bincount(cells.ravel(), minlength=rows * reach).reshape(rows, reach)
    return histograms @ costs[:, :reach].T
