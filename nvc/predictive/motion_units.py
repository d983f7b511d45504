"""How fine vectors are: the unit of a field that is worth most, and the field in it.

Where little is left of what a finer vector could win, by blur, noise or coarse coding, vectors in
halves or whole samples cost fewer bits (adaptive motion vector resolution in VVC: W.-J. Chien et
al., IEEE TCSVT 31-10, 2021; here of a frame, not of a block).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvc.entropy.jit import kernel
from nvc.predictive.block_error import BLOCK, MARGIN, REACH, TAPS, block_error
from nvc.predictive.motion_price import what_errors_cost
from nvc.predictive.motion_search import search_motion
from nvc.predictive.motion_settling import settled
from nvc.predictive.vector_conditions import MAX_UNIT, beside_of
from nvc.predictive.vector_rates import field_bits

MADE_WITH = "21b65a2d433d7a82"  # see nvc.entropy.jit

Field = NDArray[np.int32]


def search_units(
    current: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    *,
    previous: Field | None,
    weight: float,
    costs: NDArray[np.float32],
) -> tuple[Field, int]:
    """A field of a P frame as search_motion finds it, in the unit that costs least, and that unit.

    All as there. Coarser units are tried from the field of the finer one, while they cost less.
    """
    field = search_motion(
        current, reference, previous=previous, weight=weight, costs=costs, reach=REACH
    )
    still = np.zeros_like(field)
    current = np.ascontiguousarray(current, np.float32)  # so that kernels are compiled once
    padded = np.pad(reference, MARGIN, mode="edge")

    def cost(field: Field, unit: int) -> float:
        errors = np.empty((field.shape[0] // 2, field.shape[1] // 2), np.float64)
        _square_errors(current, padded, field, TAPS, errors)
        apart = np.zeros_like(field)
        bits = field_bits(costs, field, apart, beside_of(None, field.shape[:2]), unit)
        return float(what_errors_cost(errors, weight).sum() + weight * bits)

    unit, least = 1, cost(field, 1)
    while unit < MAX_UNIT:
        rounded = (field + unit) // (2 * unit) * (2 * unit)
        coarser = settled(
            current,
            reference,
            rounded,
            expected=still,
            weight=weight,
            costs=costs,
            unit=2 * unit,
        )
        found = cost(coarser, 2 * unit)
        if found >= least:
            break
        field, unit, least = coarser, 2 * unit, found
    return field, unit


@kernel
def _square_errors(current, padded, field, taps, errors):  # type: ignore[no-untyped-def]
    """Squared errors of squares of 2x2 blocks, (rows / 2, columns / 2) float64."""
    lines, no_limit = np.empty((19, 16), np.float32), np.float32(1e30)
    for row in range(errors.shape[0]):
        for column in range(errors.shape[1]):
            total = 0.0
            for k in range(4):
                r, c = 2 * row + k // 2, 2 * column + k % 2
                x, y = np.int64(field[r, c, 0]), np.int64(field[r, c, 1])
                total += block_error(
                    current, padded, r * BLOCK, c * BLOCK, BLOCK, x, y, taps, no_limit, lines
                )
            errors[row, column] = total
