"""Motion of frames with two references: what is expected of it, and its search.

The field that leads from one reference to the other says where a frame between them lies on the
way, as if everything moved evenly (the temporal direct mode of H.264, clause 8.4.1.2.3); only
differences from that are coded. Both fields serve one prediction, the mean of the two references:
the first is searched for itself, then each against what the other leaves of the picture. The older
reference of a P frame is looked for where the motion of the nearer one leads on to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nvc.predictive.motion import VECTOR_BLOCK, VECTOR_UNIT
from nvc.predictive.motion_search import search_motion
from nvc.predictive.motion_settling import settled
from nvc.predictive.plane_kernels import leave, move

FIRST_WEIGHT = 3.0  # of a bit in the search of the first field for itself (docs/predictive.md)
# Of a bit for the older reference of a P frame: what it leaves less of is mostly coded anyway.
OLDER_WEIGHT = 2.0

Field = NDArray[np.int32]
Costs = NDArray[np.float32]  # of the decisions of the vector coder (vector_rates.code_lengths)


def direct_fields(
    field: Field, before: int, after: int, *, from_later: bool
) -> tuple[Field, Field]:
    """Fields (rows, columns, 2) expected into the earlier and the later reference.

    field: vectors from the later reference to the earlier one (from_later) or the other way, with
    rows and columns even; before, after: frames to the two. Every square of 2x2 blocks has one
    vector, the mean of the square's; integers throughout, so that every machine finds the same.
    """
    rows, columns, _ = field.shape
    squares = field.reshape(rows // 2, 2, columns // 2, 2, 2).sum(axis=(1, 3), dtype=np.int64)
    if not from_later:
        squares = -squares
    whole = 4 * (before + after)  # of the sums of four
    shares = (before, -after)
    first, second = (
        np.floor_divide(2 * squares * share + whole, 2 * whole).astype(np.int32) for share in shares
    )
    return _spread(first), _spread(second)


def followed(field: Field, onward: Field) -> Field:
    """Motion over two steps: along field, then along the vector of the block where that leads.

    Fields (rows, columns, 2), rows and columns even. Every square of 2x2 blocks has one vector, the
    mean of its four; integers throughout, so that every machine finds the same.
    """
    rows, columns, _ = field.shape
    y, x = np.ogrid[:rows, :columns]
    unit = VECTOR_UNIT * VECTOR_BLOCK
    at_x = np.floor_divide(x * unit + unit // 2 + field[..., 0], unit).clip(0, columns - 1)
    at_y = np.floor_divide(y * unit + unit // 2 + field[..., 1], unit).clip(0, rows - 1)
    whole = field.astype(np.int64) + onward[at_y, at_x]
    squares = whole.reshape(rows // 2, 2, columns // 2, 2, 2).sum(axis=(1, 3))
    return _spread(np.floor_divide(squares + 2, 4).astype(np.int32))


def search_older(
    source: NDArray[np.uint8],
    earlier: NDArray[np.float32],
    older: NDArray[np.uint8],
    expected: Field,
    *,
    weight: float,
    costs: Costs | None = None,
    unit: int = 1,
) -> Field:
    """Field of a P frame into its older reference, whose mean with the earlier is near the source.

    earlier: that reference as it is moved onto the source, in levels of 255; expected: where the
    motion into it leads on to, from which differences cost; weight: as in search_pair, and
    OLDER_WEIGHT times that; costs, unit: as in search_motion.
    """
    left = earlier.copy()
    leave(source, left)
    return search_motion(
        left,
        older,
        previous=expected,
        weight=4 * OLDER_WEIGHT * weight,
        expected=expected,
        coarse_of=source,
        costs=costs,
        unit=unit,
    )


def search_pair(
    source: NDArray[np.uint8],
    earlier: NDArray[np.uint8],
    later: NDArray[np.uint8],
    direct: tuple[Field, Field],
    *,
    weight: float,
    rounds: int = 1,
    costs: Sequence[Costs | None] = (None, None),
    unit: int = 1,
) -> tuple[Field, Field]:
    """Fields into both references whose mean is near the source.

    source, earlier, later: luma (H, W) uint8; direct: the fields expected, from which differences
    cost; weight: cost of a bit in squared levels of 255, as in search_motion; rounds: times the
    pair is searched; costs: of either field, as in search_motion, and both are settled by
    them once more at the end; unit: as there.
    """
    pictures = (earlier, later)
    fields = list(direct)
    fields[0] = search_motion(
        source,
        earlier,
        previous=direct[0],
        weight=FIRST_WEIGHT * weight,
        expected=direct[0],
        costs=costs[0],
        unit=unit,
    )

    def left_by(other: int) -> NDArray[np.float32]:
        # (source - mean)^2 = (2 source - other - own)^2 / 4
        left = moved(pictures[other], fields[other])
        leave(source, left)
        return left

    for turn in range(1, 2 * rounds):
        own = turn % 2
        fields[own] = search_motion(
            left_by(1 - own),
            pictures[own],
            previous=fields[own],
            weight=4 * weight,
            expected=direct[own],
            coarse_of=source,
            costs=costs[own],
            first=fields[0] - direct[0] if own else None,
            unit=unit,
        )
    for own, spent in enumerate(costs):
        if spent is not None:
            fields[own] = settled(
                left_by(1 - own),
                pictures[own],
                fields[own],
                expected=direct[own],
                weight=4 * weight,
                costs=spent,
                first=fields[0] - direct[0] if own else None,
                unit=unit,
            )
    return fields[0], fields[1]


def moved(picture: NDArray[np.uint8], field: Field) -> NDArray[np.float32]:
    """Luma (H, W) moved by a field, in levels of 255."""
    out = np.empty(picture.shape, np.float32)
    move(picture, field, 1, out)
    return out


def _spread(squares: Field) -> Field:
    """(rows / 2, columns / 2, 2) -> (rows, columns, 2): a vector for each block."""
    return np.ascontiguousarray(squares.repeat(2, axis=0).repeat(2, axis=1))
