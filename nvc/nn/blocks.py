"""Blocks of the predictive networks: no norm layers, bounded gates, a small residual gain."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

QP_COUNT = 64
# Of frames, where an encode is at 0 to 63: tables go on beyond both ends as they reach them.
FINEST_QP, COARSEST_QP = -12, 75
KNOT_SPACING = 9  # knots at QP 0, 9, ..., 63: 64 QPs share 8 trained rows
KNOT_COUNT = 63 // KNOT_SPACING + 1
FRAME_FORMS = 3  # intra; inter; inter between two frames


class Pointwise(nn.Module):
    """1x1 convolution as one matrix product: (B, C, H, W) -> (B, O, H, W), channels_last.

    The weight is a matrix (O, C). The stock 1x1 convolution takes a slow path on the CPU.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        nn.init.uniform_(self.weight, -gain / math.sqrt(inputs), gain / math.sqrt(inputs))

    def forward(self, x: Tensor) -> Tensor:
        rows = F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias)  # (B, H, W, O)
        return rows.permute(0, 3, 1, 2)


class GatedBlock(nn.Module):
    """Residual block 1x1 -> depthwise 3x3 -> bounded gate -> 1x1; (B, C, H, W) -> the same.

    The gate is a hard sigmoid: a product of two unbounded branches overflows without norm layers.
    """

    def __init__(self, channels: int, *, residual_gain: float = 0.3) -> None:
        super().__init__()
        self.expand = Pointwise(channels, 2 * channels)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.project = Pointwise(channels, channels, gain=residual_gain)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.depthwise(self.expand(x)).chunk(2, dim=1)
        return x + self.project(value * F.hardsigmoid(gate))


def stack(channels: int, count: int) -> nn.Sequential:
    """`count` gated blocks of one width."""
    return nn.Sequential(*(GatedBlock(channels) for _ in range(count)))


class QpTable(nn.Module):
    """A vector per (frame form, QP), linear between knots 9 QPs apart: (B,) -> (B, C, 1, 1).

    Sharing knots trains all 64 QPs from the few that a batch visits.
    """

    def __init__(self, channels: int, *, start: Tensor | None = None) -> None:
        super().__init__()
        self.knots = nn.Parameter(torch.zeros(FRAME_FORMS, KNOT_COUNT, channels))
        if start is not None:  # (KNOT_COUNT, channels) or (channels,)
            with torch.no_grad():
                self.knots.add_(start)

    def forward(self, qp: Tensor, form: Tensor) -> Tensor:
        """qp (B,) int64 in FINEST_QP..COARSEST_QP; form (B,) int64 under FRAME_FORMS."""
        return qp_rows(self.knots, qp, form)[:, :, None, None]


def qp_rows(knots: Tensor, qp: Tensor, form: Tensor) -> Tensor:
    """Knots (forms, KNOT_COUNT, ...) -> what lies between them at each QP, (B, ...)."""
    low = torch.div(qp, KNOT_SPACING, rounding_mode="floor").clamp(0, KNOT_COUNT - 2)
    part = (qp - low * KNOT_SPACING).to(knots.dtype) / KNOT_SPACING
    part = part.view(-1, *[1] * (knots.ndim - 2))
    return knots[form, low] * (1 - part) + knots[form, low + 1] * part


class QpGain(QpTable):
    """Per-channel positive gain exp(table[form, QP]) applied to features."""

    def scale(self, x: Tensor, qp: Tensor, form: Tensor) -> Tensor:
        return x * self(qp, form).exp().to(x.dtype)


def ste_round(x: Tensor) -> Tensor:
    """Round to the nearest integer with the gradient of the identity."""
    return x + (x.round() - x).detach()
