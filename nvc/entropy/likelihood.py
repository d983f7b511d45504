"""The models behind the integer tables, differentiable, for training.

The only file of nvc.entropy that imports torch.
"""

import math
from typing import Any

import torch
from torch import Tensor

from nvc.entropy.tables import PRECISION, SCALE_BITS, SCALE_COUNT, scale_grid

_GRID = [int(s) / (1 << SCALE_BITS) for s in scale_grid()]
SCALE_MIN, SCALE_MAX = _GRID[0], _GRID[-1]
_LOG_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_COUNT - 1)
_UNIT = 2.0**-PRECISION  # probability of one unit of frequency


def gaussian_bits(residual: Tensor, scale: Tensor) -> Tensor:
    """Bits that gaussian_tables() spend on each symbol, as a smooth function of both arguments.

    residual: any shape, in quantisation steps (integers, or with noise or soft rounding); scale:
    sigma, broadcast against it, held to 0.11 .. 64. Returns float32 (float64 for float64 input) of
    the broadcast shape, finite, above 0. A mass of the bin [r - 1/2, r + 1/2] as in Balle et al.
    (2018), sec. 3, plus the share of the escape, which bounds the cost of an outlier as the tables
    do. A gradient that would push a scale further outside its range is dropped.
    """
    residual, scale = _prepare(residual, scale)
    inverse = math.sqrt(0.5) / scale
    mass = 0.5 * (torch.erfc((residual - 0.5) * inverse) - torch.erfc((residual + 0.5) * inverse))
    return _with_escape(mass, residual, edge=1 + 3.5 * scale, reach=1 + 0.25 * scale)


def laplace_bits(residual: Tensor, scale: Tensor) -> Tensor:
    """Bits that laplace_tables() spend on each symbol; as gaussian_bits, with scale as b."""
    residual, scale = _prepare(residual, scale)
    inverse = 1 / scale
    outside = torch.exp(-torch.relu(residual - 0.5) * inverse) * -torch.expm1(-inverse)
    near = -torch.relu(0.5 - residual) * inverse
    around_zero = -torch.expm1(near) - torch.expm1(-(residual + 0.5) * inverse)
    mass = 0.5 * torch.where(residual < 0.5, around_zero, outside)
    return _with_escape(mass, residual, edge=1 + 7 * scale, reach=1 + scale)


def scale_index(scale: Tensor) -> Tensor:
    """Index (uint8) of the table whose scale is nearest in log; same shape.

    Computed in floating point, so for training, measuring and encoder decisions: a decoder must
    get its indexes from integers.
    """
    position = torch.log(scale.float().clamp(SCALE_MIN, SCALE_MAX) / SCALE_MIN) / _LOG_STEP
    return position.round().clamp(0, SCALE_COUNT - 1).to(torch.uint8)


def index_scale(index: Tensor) -> Tensor:
    """Scale (float32) of an index; a fractional index lies between its neighbours in log."""
    return SCALE_MIN * torch.exp(_LOG_STEP * index.float())


def _prepare(residual: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if residual.dtype == torch.float64 else torch.float32
    return residual.to(dtype).abs(), _Bound.apply(scale.to(dtype))


def _with_escape(mass: Tensor, residual: Tensor, *, edge: Tensor, reach: Tensor) -> Tensor:
    # An escape costs about PRECISION bits, a side bit and an Exp-Golomb code of its distance from
    # the table's edge; the code's order grows with the scale, hence reach.
    distance = torch.relu(residual - edge) / reach
    escape = 0.25 * _UNIT / (1 + distance).square()
    # Over all integers the escape adds up to 0.5 * _UNIT * (edge + reach).
    return -torch.log2(mass * (1 - 0.5 * _UNIT * (edge + reach)) + escape)


class _Bound(torch.autograd.Function):
    """Clamp to the scale grid that lets a gradient through when it leads back inside."""

    @staticmethod
    def forward(ctx: Any, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return scale.clamp(SCALE_MIN, SCALE_MAX)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (scale,), (gradient,) = ctx.saved_tensors, gradients
        outward = (scale < SCALE_MIN) & (gradient > 0) | (scale > SCALE_MAX) & (gradient < 0)
        return gradient.masked_fill(outward, 0)
