"""One scale of the predictive network: prediction, analysis, two-step quantisation, synthesis.

    reference W, coarser picture B --> predict --> P, context
    source X, context              --> analyse --> residual r of the latent transform
    k = round((r - mean) / step)                   symbols, in two checkerboard steps
    P, context, k * step           --> synthesise --> x_hat, features for the finer scale

All pictures are packed at stride 8 of this scale (nvc.nn.planes): (B, 96, h, w).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvc.nn.blocks import FRAME_FORMS, KNOT_COUNT, QP_COUNT, Pointwise, QpGain, QpTable, stack
from nvc.nn.planes import LUMA_CHANNELS, PACKED_CHANNELS
from nvc.predictive.choice import choose_symbols
from nvc.predictive.config import LevelConfig
from nvc.predictive.context_bits import ContextBits
from nvc.predictive.contexts import symbol_contexts
from nvc.predictive.rounding import CHROMA_WORTH, PRICES, form_price
from nvc.predictive.scales import (
    ScaleNet,
    checkerboard,
    first_half_codes,
    magnitude_code,
)

LAMBDA_FIRST = 16384.0  # lambda at QP 0, on MSE of [0, 1] samples and bits per pixel
LAMBDA_LAST = 64.0  # at QP 63


def qp_lambda(qp: Tensor) -> Tensor:
    """lambda of a QP, log-uniform from 16384 (QP 0) to 64 (QP 63); bits/pixel + lambda * D."""
    part = qp.to(torch.float32) / (QP_COUNT - 1)
    return LAMBDA_FIRST * (LAMBDA_LAST / LAMBDA_FIRST) ** part


def qp_distortion(qp: int) -> float:
    """Squared error, samples in [0, 1], at which a bit costs as much as it saves at this QP.

    Where R = log2(1 / D) / 2 a sample, as in rate-distortion theory: 1 / (2 ln 2 lambda).
    """
    return 1 / (2 * math.log(2) * float(qp_lambda(torch.tensor(qp))))


@dataclass
class Prediction:
    """What encoder and decoder both know before the symbols of a scale."""

    picture: Tensor  # P, (B, 96, h, w)
    fine: Tensor  # features at stride 8 of this scale
    context: Tensor  # features at the latent stride


@dataclass
class History:
    """Integers the scale path may read for one scale."""

    past: Tensor  # magnitude codes of the previous frame, (B, latent, h, w)
    average: Tensor  # their mean over the frames before, likewise (scales.running_average)
    coarse: Tensor | None  # codes of the next coarser scale, at this scale's latent grid
    motion: Tensor  # (B, 2, h, w) codes of the motion field
    kind: Tensor  # (B,) int64 frame kind
    past_qp: Tensor  # (B,) int64, of the previous frame; this frame's own where that is not used


class Level(nn.Module):
    """Networks of one scale; see the module text.

    coarse: the next coarser scale, if any.
    """

    def __init__(self, config: LevelConfig, coarse: LevelConfig | None) -> None:
        super().__init__()
        self.config = config
        self.held = False  # see hold_analysis
        self.down = config.block // 8
        fine, width, latent = config.fine_width, config.width, config.latent
        cell = self.down**2

        self.fine_in = Pointwise(2 * PACKED_CHANNELS, fine)
        self.fine_gain = QpGain(fine)
        self.past_gain = QpGain(fine)
        self.fine_blocks = stack(fine, config.fine_blocks)
        self.fine_out = Pointwise(fine, PACKED_CHANNELS, gain=0.02)

        self.context_in = Pointwise(fine * cell + (coarse.width if coarse else 0), width)
        self.context_gain = QpGain(width)
        self.context_blocks = stack(width, config.blocks)

        self.transform = Pointwise(PACKED_CHANNELS * cell, latent, bias=False)
        self.source_in = Pointwise(2 * PACKED_CHANNELS, fine)
        self.source_gain = QpGain(fine)
        self.source_blocks = stack(fine, config.fine_blocks)
        self.source_down = Pointwise(fine * cell, width)
        self.source_mix = stack(width, config.blocks)
        self.source_out = Pointwise(width, latent, gain=0.02)

        self.log_step = QpTable(latent, start=_start_steps(config))
        self.mean = Pointwise(latent, latent, bias=False, gain=0.02)
        self.scales = ScaleNet(latent, coarse.latent if coarse else 0, config.scale_width)
        self.contexts = symbol_contexts(FRAME_FORMS)

        self.residual_in = Pointwise(latent, width)
        self.synthesis_gain = QpGain(width)
        self.synthesis_blocks = stack(width, config.blocks)
        self.inverse = Pointwise(latent, PACKED_CHANNELS * cell, bias=False)
        self.head_in = Pointwise(width, fine * cell)
        self.head_blocks = stack(fine, config.fine_blocks)
        self.head_out = Pointwise(fine, PACKED_CHANNELS, gain=0.02)

    def start_from_transform(self, basis: Tensor) -> None:
        """Begin as an orthonormal transform coder: basis (latent, 96 * cell), rows orthonormal."""
        with torch.no_grad():
            self.transform.weight.copy_(basis)
            self.inverse.weight.copy_(basis.t())

    def predict(
        self,
        reference: Tensor,
        base: Tensor,
        coarse: Tensor | None,
        qp: Tensor,
        form: Tensor,
        *,
        past_qp: Tensor,
    ) -> Prediction:
        """Reference W and coarser picture B (B, 96, h, w), coarser features at half the grid.

        past_qp (B,): QP of the frame W comes from (its own for an intra frame).
        """
        fine = self.fine_in(torch.cat((reference, base), dim=1))
        fine = self.past_gain.scale(fine, past_qp, form)
        fine = self.fine_blocks(self.fine_gain.scale(fine, qp, form))
        picture = reference + self.fine_out(fine)
        context = F.pixel_unshuffle(fine, self.down) if self.down > 1 else fine
        if coarse is not None:
            up = F.interpolate(coarse, size=context.shape[-2:], mode="nearest")
            context = torch.cat((context, up.to(context.dtype)), dim=1)
        context = self.context_in(context)
        context = self.context_blocks(self.context_gain.scale(context, qp, form))
        return Prediction(picture=picture, fine=fine, context=context)

    def hold_analysis(self) -> None:
        """Train no more what asks for symbols: analysis and steps stay as they are.

        At the encoder's choice bits and errors balance, so a change of the analysis is worth
        nothing at first order, but the gradients of both, each taken at the symbol that was
        chosen, do not: bits have the slope between the symbols around, and what is asked for
        shrinks. A better prediction does lower bits, so it goes on hearing of them, through the
        transform alone.
        """
        self.held = True
        for part in (
            self.transform, self.source_in, self.source_gain, self.source_blocks, self.source_down,
            self.source_mix, self.source_out, self.log_step,
        ):  # fmt: skip
            part.requires_grad_(False)

    def analyse(self, source: Tensor, given: Prediction, qp: Tensor, form: Tensor) -> Tensor:
        """Source X (B, 96, h, w) -> residual r (B, latent, h / down, w / down)."""
        difference = source - given.picture
        seen, context = difference, given.context
        if self.held:
            seen, context = seen.detach(), context.detach()
        fine = self.source_in(torch.cat((source, seen), dim=1))
        fine = self.source_blocks(self.source_gain.scale(fine, qp, form))
        if self.down > 1:
            fine = F.pixel_unshuffle(fine, self.down)
            difference = F.pixel_unshuffle(difference, self.down)
        hidden = self.source_mix(self.source_down(fine) + context)
        return self.transform(difference) + self.source_out(hidden)

    @property
    def error_weights(self) -> Tensor:
        """What a squared error in each latent counts, (latent,): CHROMA_WORTH where it is chroma.

        By the share of chroma in what the inverse transform makes of it.
        """
        energy = self.inverse.weight.detach().float().square()
        energy = energy.unflatten(0, (PACKED_CHANNELS, -1)).sum(1)  # (96, latent)
        share = energy[LUMA_CHANNELS:].sum(0) / energy.sum(0).clamp(min=1e-12)
        return 1 + (CHROMA_WORTH - 1) * share

    def step(self, qp: Tensor, form: Tensor) -> Tensor:
        """Quantiser step of every channel, (B, latent, 1, 1), in packed units."""
        return self.log_step(qp, form).float().exp()

    def second_mean(self, residual: Tensor, mask: Tensor) -> Tensor:
        """Mean of the second half from the decoded first half (zeros off the mask).

        Of a channel the four neighbours where it is unknown itself, else its own value.
        """
        padded = F.pad(residual, (1, 1, 1, 1))
        cross = (
            padded[:, :, :-2, 1:-1]
            + padded[:, :, 2:, 1:-1]
            + padded[:, :, 1:-1, :-2]
            + padded[:, :, 1:-1, 2:]
        )
        return self.mean(cross + residual) * (1 - mask)

    def synthesise(
        self, given: Prediction, residual: Tensor, qp: Tensor, form: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decoded residual -> x_hat (B, 96, h, w), features at the latent stride."""
        hidden = given.context + self.residual_in(residual)
        hidden = self.synthesis_blocks(self.synthesis_gain.scale(hidden, qp, form))
        correction, head = self.inverse(residual), self.head_in(hidden)
        if self.down > 1:
            correction = F.pixel_shuffle(correction, self.down)
            head = F.pixel_shuffle(head, self.down)
        head = self.head_blocks(head + given.fine)
        return given.picture + correction + self.head_out(head), hidden

    def index(
        self, shared: Tensor, first: Tensor | None, history: History, qp: Tensor, *, step: int
    ) -> Tensor:
        """Unrounded table index of one checkerboard step; see ScaleNet.index."""
        return self.scales.index(shared, first, qp, history.past_qp, history.kind, step=step)

    def quantise(
        self,
        residual: Tensor,
        history: History,
        qp: Tensor,
        form: Tensor,
        worth: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Training pass of the two-step quantiser, with the encoder's choice of symbols.

        worth: what an error of each place counts, (B, 1, any grid), of geometric mean 1.
        Returns the decoded residual, the symbols k, and their bits, all (B, latent, h, w), with the
        gradients of nvc.predictive.choice.
        """
        step = self.step(qp, form)
        mask = checkerboard(*residual.shape[1:], residual.device)
        residual = residual.float()
        shared = self.scales.prepare(history.past, history.average, history.coarse, history.motion)
        price = PRICES[self.config.shrink] * form_price(form) * qp_lambda(qp)[:, None]
        price = price * self.error_weights * step.detach().flatten(1).square()  # (B, latent)
        if worth is None:
            worth = price.new_ones(len(price), 1, 1, 1)
        worth = F.interpolate(worth, residual.shape[-2:], mode="area")[:, 0]
        bits = ContextBits(self.contexts, form)

        index = self.index(shared, None, history, qp, step=0)
        first, spent = choose_symbols(bits, residual / step, index, price, worth, 0)
        mean = self.second_mean(first * step, mask)
        known = first_half_codes(magnitude_code(first), mask)
        index = self.index(shared, known, history, qp, step=1)
        second, more = choose_symbols(bits, (residual - mean) / step, index, price, worth, 1)
        k = first + second
        return mean + k * step, k, spent + more


def _start_steps(config: LevelConfig) -> Tensor:
    """log step per knot where rate and distortion balance at high rate, (KNOT_COUNT, latent).

    A coefficient of an orthonormal transform costs step^2 / 12 of squared error and -log2(step)
    bits; with the weights folded into the packed units the optimum is step^2 = 6 / (lambda ln 2).
    """
    lambdas = qp_lambda(torch.arange(KNOT_COUNT) * 9)
    steps = (6 / (lambdas * math.log(2))).sqrt()
    return steps.log()[:, None].expand(-1, config.latent).clone()
