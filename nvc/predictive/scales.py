"""Integer scale path: the table index of every symbol, computed from integers alone.

A decoder that picks another table than the encoder reads noise, so nothing here may depend on the
order of a floating-point sum. Weights are int8, activations uint8, requantisation is a shift, and
every accumulator stays below 2^24: carried in float32 each value is an exact integer on any device
and in any order of summation. Training runs the same arithmetic with straight-through gradients.

Inputs are magnitudes of symbols the decoder already has: the previous frame at the same scale, the
coarser scale of this frame, a mean over the frames before, the first half of a checkerboard, and
the motion field. After the two-step checkerboard of He et al. (CVPR 2021, section 3), with
magnitudes in place of values and every other channel the other way round, so that the first half
has something of every place (DCVC-DC, arXiv 2302.14402, section 3.3, has the like in four steps).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvc.nn.blocks import (
    COARSEST_QP,
    FINEST_QP,
    KNOT_COUNT,
    KNOT_SPACING,
    QP_COUNT,
    ste_round,
)

WEIGHT_UNIT = 64  # int8 weight = round(64 w)
ACTIVATION_UNIT = 32  # uint8 activation = 32 a
INDEX_SHIFT = 256  # accumulator units per step of the table index
INDEX_MAX = 63
SKIP_BELOW = 4  # table indices under this (scale below about 0.16) are not coded: k = 0
MOTION_CHANNELS = 2
# inter: with a past; reset: without its statistics; bi: between an earlier and a later frame
KIND_INTRA, KIND_INTER, KIND_RESET, KIND_BI = 0, 1, 2, 3
FRAME_KINDS = 4
_ACCUMULATOR_LIMIT = 1 << 24


def magnitude_table() -> Tensor:
    """uint8 code of a magnitude 0..255: about 48 log2(1 + m), by integer arithmetic."""
    codes = []
    for magnitude in range(256):
        power = (1 + magnitude) ** 48  # floor(log2((1 + m)^48)) is exact with big integers
        codes.append(min(255, power.bit_length() - 1))
    return torch.tensor(codes, dtype=torch.float32)


_MAGNITUDES = magnitude_table()


def magnitude_code(k: Tensor) -> Tensor:
    """Symbols (any shape, integers in any dtype) -> codes 0..255 in float32."""
    table = _MAGNITUDES.to(k.device)
    return table[k.detach().abs().clamp(max=255).long()]


class _ClampInward(torch.autograd.Function):
    """Clamp whose gradient still flows where a step would lead back inside."""

    @staticmethod
    def forward(ctx, x: Tensor, low: float, high: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        ctx.bounds = (low, high)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        (x,) = ctx.saved_tensors
        low, high = ctx.bounds
        blocked = ((x < low) & (grad > 0)) | ((x > high) & (grad < 0))
        return grad.masked_fill(blocked, 0.0), None, None


def clamp_inward(x: Tensor, low: float, high: float) -> Tensor:
    return _ClampInward.apply(x, low, high)


def ste_floor(x: Tensor) -> Tensor:
    return x + (x.floor() - x).detach()


class IntegerBias(nn.Module):
    """Integer bias per (frame kind, step, QP), interpolated between knots in integers."""

    def __init__(self, channels: int, *, unit: int, start: float) -> None:
        super().__init__()
        self.unit = unit
        self.knots = nn.Parameter(torch.full((FRAME_KINDS, 2, KNOT_COUNT, channels), start))

    def largest(self) -> Tensor:
        """The largest magnitude at any QP, in accumulator units; a scalar."""
        knots = self.knots.detach().float()
        ends = [
            knots[:, :, at] + (knots[:, :, at + 1] - knots[:, :, at]) * (qp / KNOT_SPACING - at)
            for at, qp in ((0, FINEST_QP), (KNOT_COUNT - 2, COARSEST_QP))
        ]
        return (
            torch.stack([knots.abs().max(), *(end.abs().max() for end in ends)]).max() * self.unit
        )

    def largest_product(self) -> Tensor:
        """A bound of what a knot comes to before the mean of two is divided, likewise."""
        largest = self.knots.detach().float().abs().max() * self.unit
        beyond = max(-FINEST_QP, COARSEST_QP - QP_COUNT + 1)
        return largest * (KNOT_SPACING + 2 * beyond)

    def forward(self, qp: Tensor, kind: Tensor, step: int) -> Tensor:
        """qp, kind (B,) int64 -> (B, C, 1, 1) float32 holding integers."""
        low = torch.div(qp, KNOT_SPACING, rounding_mode="floor").clamp(0, KNOT_COUNT - 2)
        part = (qp - low * KNOT_SPACING)[:, None]
        knots = self.knots if self.knots.dtype == torch.float64 else self.knots.float()
        rows = knots[kind, step]  # (B, KNOT_COUNT, C)
        batch = torch.arange(len(qp), device=qp.device)
        at = ste_round(rows * self.unit)
        mixed = at[batch, low] * (KNOT_SPACING - part) + at[batch, low + 1] * part
        return ste_floor((mixed + KNOT_SPACING // 2) / KNOT_SPACING)[:, :, None, None]


class ScaleNet(nn.Module):
    """Table indices of one scale from integers; see the module text.

    `latent`, `coarse` are the channels of this scale and of the next coarser one (0 for none).
    """

    def __init__(self, latent: int, coarse: int, width: int) -> None:
        super().__init__()
        self.latent = latent
        self.known = nn.Parameter(torch.randn(width, 2 * latent + coarse + MOTION_CHANNELS) * 0.05)
        self.first = nn.Parameter(torch.randn(width, latent) * 0.05)
        self.spread = nn.Parameter(torch.randn(width, 9) * 0.05)
        self.mix = nn.Parameter(torch.randn(width, width) * 0.1)
        self.out = nn.Parameter(torch.randn(latent, width) * 0.02)
        with torch.no_grad():
            self.spread[:, 4] += 1.0
            self.mix += torch.eye(width)
        self.bias_in = IntegerBias(width, unit=WEIGHT_UNIT * ACTIVATION_UNIT, start=0.5)
        self.bias_past = IntegerBias(width, unit=WEIGHT_UNIT * ACTIVATION_UNIT, start=0.0)
        self.bias_mix = nn.Parameter(torch.full((width,), 0.1))
        self.bias_out = IntegerBias(latent, unit=INDEX_SHIFT, start=14.0)

    def check_exact(self) -> None:
        """Raise ValueError if an accumulator of these weights could reach 2^24 in magnitude."""
        first = torch.cat((_int8(self.known), _int8(self.first)), dim=1)
        first_bias = (self.bias_in.largest() + self.bias_past.largest())[None]
        sums = [
            first.abs().sum(1) * 255 + first_bias,
            _int8(self.spread).abs().sum(1) * 255,
            _int8(self.mix).abs().sum(1) * 255 + self.bias_mix.abs() * self.bias_in.unit,
            _int8(self.out).abs().sum(1) * 255 + self.bias_out.largest(),
            *(
                bias.largest_product()[None]
                for bias in (self.bias_in, self.bias_past, self.bias_out)
            ),
        ]
        largest = float(torch.cat(sums).detach().max())  # NaN, if there is one
        if not largest < _ACCUMULATOR_LIMIT:
            raise ValueError(f"the scale path sums to {largest:.4g}; allowed: under 2^24")

    def prepare(
        self, past: Tensor, average: Tensor, coarse: Tensor | None, motion: Tensor
    ) -> Tensor:
        """The part of the first layer both checkerboard steps share: (B, width, H, W)."""
        parts = [past, average, *([] if coarse is None else [coarse]), motion]
        return _product(torch.cat(parts, dim=1), _int8(self.known))

    def index(
        self,
        shared: Tensor,
        first: Tensor | None,
        qp: Tensor,
        past_qp: Tensor,
        kind: Tensor,
        *,
        step: int,
    ) -> Tensor:
        """Unrounded table index (B, latent, H, W) in [0, 63]; `rounded` makes it the table's.

        shared: of `prepare`; first: codes of the first half, in step 1; past_qp (B,): the QP whose
        symbols `past` held, this frame's own where there are none.
        """
        total = shared
        if first is not None:
            total = total + _product(first, _int8(self.first))
        bias_in = self.bias_in(qp, kind, step) + self.bias_past(past_qp, kind, step)
        hidden = _requantise(total + bias_in)
        spread = _depthwise(hidden, _int8(self.spread))
        mixed = _requantise(spread)
        bias = ste_round(self.bias_mix.to(spread.dtype) * (WEIGHT_UNIT * ACTIVATION_UNIT))[
            None, :, None, None
        ]
        mixed = _requantise(_product(mixed, _int8(self.mix)) + bias)
        total = _product(mixed, _int8(self.out)) + self.bias_out(qp, kind, step)
        return clamp_inward(total / INDEX_SHIFT, 0.0, float(INDEX_MAX))


def rounded(index: Tensor) -> Tensor:
    """Unrounded index (exact multiples of 1/256) -> uint8 table index; ties round up, exactly."""
    return torch.floor(index + 0.5).clamp(max=INDEX_MAX).to(torch.uint8)


def coded(index: Tensor) -> Tensor:
    """1.0 where a symbol under this unrounded index is coded, 0.0 where it is skipped."""
    return (rounded(index.detach()) >= SKIP_BELOW).float()


def first_half_codes(codes: Tensor, mask: Tensor) -> Tensor:
    """What step 2 sees of the magnitudes of step 1.

    `codes` (B, C, H, W) hold zeros off the mask. On it: the code itself; off it: the mean of the
    four neighbours of that channel, rounded down (an exact integer).
    """
    padded = F.pad(codes, (1, 1, 1, 1))
    cross = (
        padded[:, :, :-2, 1:-1]
        + padded[:, :, 2:, 1:-1]
        + padded[:, :, 1:-1, :-2]
        + padded[:, :, 1:-1, 2:]
    )
    return codes + torch.floor(cross / 4) * (1 - mask)


def uses_statistics(kind: Tensor) -> Tensor:
    """Whether a frame of this kind reads the codes of its references; (B,) bool."""
    return (kind == KIND_INTER) | (kind == KIND_BI)


def running_average(average: Tensor, codes: Tensor, kind: Tensor) -> Tensor:
    """Mean of codes over frames: a quarter this frame's, rounded down; these alone at a start.

    average: of the frames before, moved with the motion, (B, C, H, W); kind (B,): a frame that
    does not use the past starts a mean.
    """
    goes_on = uses_statistics(kind)[:, None, None, None]
    return torch.where(goes_on, torch.floor((3 * average + codes) / 4), codes)


def checkerboard(channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """(1, C, H, W) float32, 1 where a symbol belongs to the first step: even y + x + channel."""
    channel = torch.arange(channels, device=device)[:, None, None]
    rows = torch.arange(height, device=device)[:, None]
    columns = torch.arange(width, device=device)
    return ((channel + rows + columns) % 2 == 0).to(torch.float32)[None]


def _int8(weight: Tensor) -> Tensor:
    """Weights as integers, in float32 at least (float64 only to check that nothing is rounded)."""
    wide = weight if weight.dtype == torch.float64 else weight.float()
    return clamp_inward(ste_round(wide * WEIGHT_UNIT), -127.0, 127.0)


def _requantise(total: Tensor) -> Tensor:
    """Accumulator -> uint8 activation: add half, shift right by 6, clamp."""
    return clamp_inward(ste_floor((total + WEIGHT_UNIT // 2) / WEIGHT_UNIT), 0.0, 255.0)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """1x1 product (B, C, H, W) x (O, C) -> (B, O, H, W): no kernel that transforms its input."""
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(weight.dtype).permute(0, 2, 3, 1), weight).permute(0, 3, 1, 2)


def _depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """3x3 per channel as nine shifted multiply-adds: (B, C, H, W), (C, 9) -> (B, C, H, W)."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1))
    total = torch.zeros_like(x)
    for tap in range(9):
        dy, dx = divmod(tap, 3)
        total = (
            total
            + padded[:, :, dy : dy + height, dx : dx + width] * weight[None, :, tap, None, None]
        )
    return total


assert QP_COUNT - 1 == KNOT_SPACING * (KNOT_COUNT - 1)
