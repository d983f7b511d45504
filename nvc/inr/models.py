"""Static models of quantised weights: which integer table codes each row of a matrix.

A table is one of 128: the 64 Laplace tables, then the 64 Gaussian ones. A matrix names a family
and a base scale; when it pays, each row adds its own small step on the scale grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from nvc.entropy.tables import PRECISION, SCALE_COUNT, Tables, gaussian_tables, laplace_tables

FAMILIES = 2
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
class RowModel:
    """Tables of a matrix: family 0 or 1, base scale 0..63, and a step for each row, or None when
    all rows share the base."""

    family: int
    base: int
    row_steps: np.ndarray | None
    bits: float

    def indexes(self, rows: int, columns: int) -> np.ndarray:
        """(rows, columns) uint8 table of every value."""
        return table_indexes(self.family, self.base, self.row_steps, rows, columns)


def table_indexes(
    family: int, base: int, row_steps: np.ndarray | None, rows: int, columns: int
) -> np.ndarray:
    """(rows, columns) uint8: the table of every value from what the file says; integers only."""
    scales = np.full(rows, base, dtype=np.int64)
    if row_steps is not None:
        scales = np.clip(scales + row_steps, 0, SCALE_COUNT - 1)
    tables = (scales + family * SCALE_COUNT).astype(np.uint8)
    return np.repeat(tables, columns).reshape(rows, columns)


def choose_model(matrix: np.ndarray, *, row_step_bits: float = 2.5) -> RowModel:
    """The cheapest static model of an int32 matrix (rows, columns) under the coder's own tables.

    row_step_bits: what naming one row's scale is taken to cost.
    """
    rows, _ = matrix.shape
    magnitudes = np.minimum(np.abs(matrix), _costs().shape[1] - 1)
    best: RowModel | None = None
    for family in range(FAMILIES):
        costs = _row_costs(magnitudes, family)  # (rows, 64)
        total = costs.sum(axis=0)
        base = int(total.argmin())
        plain = RowModel(family, base, None, float(total[base]))
        own = costs.argmin(axis=1)
        middle = int(np.median(own))
        bits = float(costs[np.arange(rows), own].sum()) + row_step_bits * rows + 8
        by_row = RowModel(family, middle, (own - middle).astype(np.int32), bits)
        for model in (plain, by_row):
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
