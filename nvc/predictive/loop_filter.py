"""The loop filter: what is shown of a frame and what others refer to, smoothed by what is around.

The networks work on blocks of 8x8 samples and leave noise and ringing that no block sees whole.
Here every sample x of a plane becomes

    x + sum over taps, thresholds:  c * (clip(a - x) + clip(b - x))

with a and b the two samples of a tap, opposite each other, differences clipped to a threshold. The
coefficients c are those of the 4x4 block that holds x: a mean of rows of a table, by how much goes
on around the block (mean second differences, in powers of two) and in which direction (rows against
columns, one diagonal against the other). So no class is sent and the filter is continuous: a small
difference in the picture makes a small one in what is filtered. The form is that of the adaptive
loop filter of VVC (Karczewicz et al., TCSVT 31-10, 2021), whose classes are hard and whose
coefficients are sent; the tables here are fitted by least squares (nvc.predictive.filter_fit), one
for every knot of the QP, for intra frames and for P frames. B frames have none: made of filtered
pictures, they have nothing left that a table for all clips finds (docs/predictive.md). Every frame
may move its tables, those of B frames from zeros, as nvc.predictive.filter_tuning sends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvc.nn.blocks import KNOT_COUNT, qp_rows

FILTERED_FORMS = 2  # the first of FRAME_FORMS, for which tables are fitted
LEVELS = 255.0  # thresholds and activity are in 8-bit levels, samples in [0, 1]
BLOCK = 4  # samples on a side that share coefficients
DIRECTIONS = (-1.2, 0.0, 1.2)  # knots of both ratios of second differences, in powers of two
ACTIVITY_FLOOR, RATIO_FLOOR = 0.1, 1.0  # levels, so that flat blocks have an activity and no ratio
_AXES = ((1, 0), (0, 1), (1, 1), (1, -1))  # of second differences: rows, columns, diagonals


@dataclass(frozen=True, kw_only=True)
class PlaneShape:
    """How one plane is filtered.

    radius: taps have |dy| + |dx| up to this; thresholds: of differences, in levels, beside which
    they are taken whole too; activity: knots of the blocks' activity, in powers of two.
    """

    radius: int
    thresholds: tuple[float, float]
    activity: tuple[float, ...]

    @property
    def taps(self) -> tuple[tuple[int, int], ...]:
        """(dy, dx) of one of the two samples of each tap."""
        reach = range(-self.radius, self.radius + 1)
        return tuple(
            (dy, dx)
            for dy in reach
            for dx in reach
            if abs(dy) + abs(dx) <= self.radius and (dy, dx) > (0, 0)
        )

    @property
    def classes(self) -> int:
        """Rows of the table: activity x direction x direction."""
        return len(self.activity) * len(DIRECTIONS) ** 2

    @property
    def coefficients(self) -> int:
        """Columns of the table: taps x (either threshold, none)."""
        return 3 * len(self.taps)


LUMA = PlaneShape(radius=3, thresholds=(3.0, 10.0), activity=(-2.0, 0.0, 1.5, 3.0, 4.5))
CHROMA = PlaneShape(radius=2, thresholds=(2.0, 6.0), activity=(-2.5, -0.5, 1.0, 2.5))
SHAPES = (LUMA, CHROMA, CHROMA)  # of Y, U, V
WAYS = tuple(shape.coefficients for shape in SHAPES)  # that a frame moves its tables along


def _kernels(radius: int, middle: float, *ends: Iterable[tuple[int, int]], end: float) -> Tensor:
    """Convolutions of side 2 radius + 1 with one number in the middle, another at some places."""
    made = torch.zeros(len(ends), 1, 2 * radius + 1, 2 * radius + 1)
    made[:, 0, radius, radius] = middle
    for kernel, places in zip(made, ends, strict=True):
        for dy, dx in places:
            kernel[0, radius + dy, radius + dx] = end
    return made


# Made once, as an exported graph would hold every step of it.
_SECOND = _kernels(1, 2.0, *([(-dy, -dx), (dy, dx)] for dy, dx in _AXES), end=-1.0)
# Of each end of every tap the sample there, less the one in the middle; first ends, then others.
_ENDS = {
    shape: _kernels(
        shape.radius,
        -1.0,
        *([place] for place in shape.taps),
        *([(-dy, -dx)] for dy, dx in shape.taps),
        end=1.0,
    )
    for shape in (LUMA, CHROMA)
}


class LoopFilter(nn.Module):
    """Tables of all three planes; begins as a filter that changes nothing.

    Tables are buffers, as they are fitted and not trained: (FILTERED_FORMS, KNOT_COUNT, classes,
    coefficients); beside each the ways that it is moved along, all classes alike (coefficients,
    coefficients), those first that matter most (nvc.predictive.way_fit).
    """

    y: Tensor
    u: Tensor
    v: Tensor
    y_ways: Tensor
    u_ways: Tensor
    v_ways: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, shape, count in zip("yuv", SHAPES, WAYS, strict=True):
            table = torch.zeros(FILTERED_FORMS, KNOT_COUNT, shape.classes, shape.coefficients)
            self.register_buffer(name, table)
            self.register_buffer(f"{name}_ways", torch.zeros(count, shape.coefficients))

    @property
    def ways(self) -> tuple[Tensor, ...]:
        """Of each plane the directions that tables are moved along, (count, coefficients)."""
        return self.y_ways, self.u_ways, self.v_ways

    def tables(
        self,
        qp: Tensor,
        form: Tensor,
        moves: Sequence[Tensor] | None = None,
        *,
        fitted: bool = True,
    ) -> list[Tensor]:
        """Of each plane the table at this QP and form (B,), (B, classes, coefficients).

        moves: how far each is moved along its ways, (count,); fitted: whether there is one for this
        form, else the moves are from zeros.
        """
        if fitted:
            tables = [qp_rows(table, qp, form) for table in (self.y, self.u, self.v)]
        else:
            tables = [
                way.new_zeros(1, shape.classes, 1)
                for way, shape in zip(self.ways, SHAPES, strict=True)
            ]
        if moves is None:
            return tables
        return [
            table + move.to(way) @ way
            for table, move, way in zip(tables, moves, self.ways, strict=True)
        ]

    def forward(
        self,
        planes: tuple[Tensor, ...],
        qp: Tensor,
        form: Tensor,
        moves: Sequence[Tensor] | None = None,
        *,
        fitted: bool = True,
    ) -> tuple[Tensor, ...]:
        """Y (B,1,H,W), U, V (B,1,H/2,W/2) in [0, 1], sides multiples of BLOCK -> likewise."""
        # Samples in bfloat16 are half a level apart, which is what there is to filter.
        with torch.autocast(planes[0].device.type, enabled=False):
            tables = self.tables(qp, form, moves, fitted=fitted)
            whole = [plane.float() for plane in planes]
            return tuple(map(filtered, whole, tables, SHAPES))


def filtered(plane: Tensor, table: Tensor, shape: PlaneShape) -> Tensor:
    """One plane (B, 1, H, W) under a table (B, classes, coefficients)."""
    grid = (plane.shape[-2] // BLOCK, plane.shape[-1] // BLOCK)
    weights = class_weights(plane.detach(), shape).flatten(2)  # (B, classes, blocks)
    chosen = (table.transpose(1, 2).to(plane.dtype) @ weights).unflatten(2, grid)
    spread = F.interpolate(chosen, scale_factor=BLOCK, mode="nearest")  # (B, coefficients, H, W)
    added = (spread * differences(plane, shape)).sum(1, keepdim=True)
    return (plane + added).clamp(0, 1)


def differences(plane: Tensor, shape: PlaneShape) -> Tensor:
    """What each coefficient multiplies, (B, coefficients, H, W): by tap, then by threshold."""
    padded = F.pad(plane, (shape.radius,) * 4, mode="replicate")
    apart = F.conv2d(padded, _ENDS[shape].to(plane))
    most = [threshold / LEVELS for threshold in shape.thresholds]
    forms = [*(apart.clamp(-value, value) for value in most), apart]
    count = len(shape.taps)
    return torch.stack([form[:, :count] + form[:, count:] for form in forms], dim=2).flatten(1, 2)


def class_weights(plane: Tensor, shape: PlaneShape) -> Tensor:
    """The part of each class in the coefficients of every block, (B, classes, H / 4, W / 4)."""
    rows, columns, falling, rising = second_differences(plane).unbind(1)
    activity = _hats((rows + columns + ACTIVITY_FLOOR).log2(), shape.activity)
    straight = _hats(_ratio(rows, columns), DIRECTIONS)
    diagonal = _hats(_ratio(falling, rising), DIRECTIONS)
    both = straight[:, :, None] * diagonal[:, None]  # (B, 3, 3, H / 4, W / 4)
    return (activity[:, :, None, None] * both[:, None]).flatten(1, 3)


def second_differences(plane: Tensor) -> Tensor:
    """Mean |second difference| in levels, (B, 4, H / 4, W / 4), over 8x8 around each block.

    Along rows, columns and both diagonals.
    """
    padded = F.pad(plane * LEVELS, (1, 1, 1, 1), mode="replicate")
    apart = F.conv2d(padded, _SECOND.to(plane)).abs()
    cells = F.pad(F.avg_pool2d(apart, 2), (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(cells, 4, stride=2)


def _ratio(one: Tensor, other: Tensor) -> Tensor:
    return ((one + RATIO_FLOOR) / (other + RATIO_FLOOR)).log2()


def _hats(value: Tensor, knots: Sequence[float]) -> Tensor:
    """Linear interpolation as a weight for each knot: (B, h, w) -> (B, knots, h, w)."""
    places = torch.tensor(knots, dtype=value.dtype, device=value.device)[:, None, None]
    # Ramps from each knot to the next; a hat is the ramp up to it less the one from there on.
    ramps = ((value[:, None] - places[:-1]) / (places[1:] - places[:-1])).clamp(0, 1)
    one = torch.ones_like(ramps[:, :1])
    return torch.cat((one, ramps), dim=1) - torch.cat((ramps, 0 * one), dim=1)
