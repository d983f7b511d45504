"""Quantised parameters: learned steps, their surrogates while fitting, and a closed-form rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

STEP_PRECISION = 256  # steps are powers of 2 ** (1 / STEP_PRECISION), stored as 16-bit exponents
STEP_CODE_LIMIT = 32 * STEP_PRECISION  # steps lie in 2 ** -32 .. 2 ** 32
SYMBOL_LIMIT = 1 << 20


def laplace_entropy(mean_abs: torch.Tensor) -> torch.Tensor:
    """Bits a symbol of a Laplace variable rounded to integers, from its mean magnitude in steps.

    Any shape, float32, differentiable. With a = 1 / (2 mean_abs): the symbol 0 has probability
    1 - exp(-a), the others a sign and a geometric magnitude of ratio exp(-2 a).
    """
    a = 0.5 / mean_abs.clamp(min=0.02)
    nonzero = torch.exp(-a)
    zero = -torch.expm1(-a)
    ratio = torch.exp(-2 * a)
    rest = -torch.expm1(-2 * a)
    # H(geometric) = -log(1 - r) - r log(r) / (1 - r), and log(r) = -2 a
    magnitude = -torch.log(rest) + ratio * 2 * a / rest
    nats = -zero * torch.log(zero) + nonzero * (a + magnitude)
    return nats / math.log(2) + nonzero


def step_code(log2_step: float) -> int:
    """The 16-bit exponent that stands for a step; ties and range as the file wants them."""
    code = round(log2_step * STEP_PRECISION)
    return min(max(code, -STEP_CODE_LIMIT), STEP_CODE_LIMIT)


def step_value(code: int) -> float:
    """The step an exponent stands for."""
    return 2.0 ** (code / STEP_PRECISION)


class Quantiser(nn.Module):
    """Learned steps for tensors that lie end to end in one flat vector.

    sizes: values of each tensor. One step a tensor, kept as its base-2 logarithm. With `shapes`,
    the rate of a matrix is counted under one scale a row and one a column (the dual-axis prior of
    NVRC, Kwan et al., NeurIPS 2024), else under one scale a tensor.
    """

    def __init__(self, sizes: Sequence[int], *, shapes: Sequence[torch.Size] | None = None) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.shapes = None if shapes is None else tuple(shapes)
        self.log2_steps = nn.Parameter(torch.zeros(len(self.sizes)))
        # A buffer, as making it from the host in each step would wait for the device.
        self.register_buffer("counts", torch.tensor(self.sizes).float(), persistent=False)

    @torch.no_grad()
    def start(self, flat: torch.Tensor, bits: float) -> None:
        """Set every step so that its tensor, (N,) in all, costs about `bits` bits a value."""
        # Laplace: bits = log2(2 e mean / step) for steps well under the mean
        means = self._mean_abs(flat).clamp(min=1e-6)
        self.log2_steps.copy_(torch.log2(2 * math.e * means) - bits)

    def steps(self) -> torch.Tensor:
        """(N,) the step of every value."""
        # Each repeated in a view, as the gradient of indexing is a slow sum on a CPU.
        each = torch.exp2(self.log2_steps).unbind()
        return torch.cat([step.expand(n) for step, n in zip(each, self.sizes, strict=True)])

    def forward(self, flat: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """(N,) -> (N,) as the decoder will see it.

        With noise (N,) uniform in +-1/2 the rounding is imitated; with None values are rounded and
        gradients pass straight through, to the values and to the steps.
        """
        steps = self.steps()
        if noise is not None:
            return flat + steps * noise
        scaled = flat / steps
        return (scaled + (torch.round(scaled) - scaled).detach()) * steps

    def bits(self, flat: torch.Tensor) -> torch.Tensor:
        """Scalar: bits of all values under one Laplace distribution a tensor, or a row and column
        of it."""
        if self.shapes is not None:
            return self._dual_bits(flat)
        mean_steps = self._mean_abs(flat) / torch.exp2(self.log2_steps)
        return (laplace_entropy(mean_steps) * self.counts).sum()

    def _dual_bits(self, flat: torch.Tensor) -> torch.Tensor:
        assert self.shapes is not None
        total = flat.new_zeros(())
        for part, shape, log2_step in zip(
            flat.split(self.sizes), self.shapes, self.log2_steps, strict=True
        ):
            # any shape -> (rows, columns); a vector is one row
            magnitudes = part.abs().view(shape[0] if len(shape) > 1 else 1, -1)
            rows, columns = (magnitudes.mean(dim=d, keepdim=True) for d in (1, 0))
            if len(shape) == 1:
                columns = rows
            # The scales of rank one that have the matrix's own row and column means.
            means = rows * columns / magnitudes.mean().clamp(min=1e-8)
            count = part.numel() / means.numel()
            total = total + count * laplace_entropy(means / torch.exp2(log2_step)).sum()
        return total

    def _mean_abs(self, flat: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.abs().mean() for part in flat.split(self.sizes)])


class EmbeddingQuantiser(nn.Module):
    """One learned step for frame codes; their rate is counted a channel around its own mean."""

    def __init__(self) -> None:
        super().__init__()
        self.log2_step = nn.Parameter(torch.zeros(()))

    @torch.no_grad()
    def start(self, codes: torch.Tensor, bits: float) -> None:
        """Set the step so that codes (B, C, h, w) cost about `bits` bits a value."""
        mean = _centred(codes).abs().mean().clamp(min=1e-6)
        self.log2_step.copy_(torch.log2(2 * math.e * mean) - bits)

    def forward(self, codes: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """(B, C, h, w) -> (B, C, h, w) as the decoder will see it; noise as in Quantiser."""
        step = torch.exp2(self.log2_step)
        if noise is not None:
            return codes + step * noise
        scaled = codes / step
        return (scaled + (torch.round(scaled) - scaled).detach()) * step

    def bits(self, codes: torch.Tensor) -> torch.Tensor:
        """Scalar: bits a value, mean over codes (B, C, h, w)."""
        mean_abs = _centred(codes).abs().mean(dim=(0, 2, 3)) / torch.exp2(self.log2_step)
        return laplace_entropy(mean_abs).mean()


def _centred(codes: torch.Tensor) -> torch.Tensor:
    # (B, C, h, w) less the mean of each channel
    return codes - codes.mean(dim=(0, 2, 3), keepdim=True).detach()


class RateController(nn.Module):
    """Holds the rate at a target by moving lambda in D + lambda R; everything stays on the device.

    lambda starts at 0.3 D / R; each step log(lambda) moves by 0.2 (R / target - 1), at most 0.04.
    The target moves geometrically from the first rate to the asked one over the first 40 % of the
    quantised steps. `correction` is what a real coder wrote over what R estimated.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_lambda", torch.zeros(()))
        self.register_buffer("first_bits", torch.zeros(()))
        self.register_buffer("correction", torch.ones(()))
        self.register_buffer("psnr", torch.full((), float("nan")))

    @torch.no_grad()
    def start(self, distortion: torch.Tensor, bits: torch.Tensor) -> None:
        """Start from the current distortion and rate, both scalars."""
        self.log_lambda.copy_(torch.log(0.3 * distortion / bits))
        self.first_bits.copy_(bits)

    @torch.no_grad()
    def update(self, bits: torch.Tensor, target_bits: float, progress: float) -> torch.Tensor:
        """One step: (estimated bits, target in bits, 0..1 of the quantised steps) -> lambda."""
        part = min(progress / 0.4, 1.0)
        wanted = target_bits / self.correction
        target = self.first_bits ** (1 - part) * wanted**part
        self.log_lambda += (0.2 * (bits / target - 1)).clamp(-0.04, 0.04)
        return torch.exp(self.log_lambda)

    @torch.no_grad()
    def hold_psnr(self, errors: torch.Tensor, wanted: float) -> torch.Tensor:
        """One step towards a PSNR in dB: (B,) squared errors of a batch's frames -> lambda.

        The PSNR is a running mean over about 30 steps; log(lambda) moves by 0.05 a dB, at most
        0.04 a step.
        """
        now = (-10 * torch.log10(errors.clamp(min=1e-10))).mean()
        self.psnr.copy_(torch.where(self.psnr.isnan(), now, self.psnr.lerp(now, 1 / 30)))
        self.log_lambda += (0.05 * (self.psnr - wanted)).clamp(-0.04, 0.04)
        return torch.exp(self.log_lambda)
