"""What symbols cost in a file, differentiable: bits by the first probabilities of their contexts.

Training that reckons with the Gaussian tables behind the indices lowers a loss that files do not
have: there a place that had symbols in the channels before will have more, and zeros elsewhere cost
next to nothing (docs/training.md, run 8). The probabilities do not adapt here as they do in a file.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nvc.predictive.contexts import CODE_UNIT, Contexts
from nvc.predictive.scales import INDEX_MAX, SKIP_BELOW, checkerboard, coded, rounded
from nvc.predictive.symbol_kernels import ACTIVITIES, FIRST_MORE, FIRST_UNARY, INDICES, UNARY

COSTED = 31  # magnitudes above cost as much as this one, and two bits an octave
_ROUNDED = 3.5  # mean of what is lost over the eighth
_BOUNDS = (4, 20, 60, 140, 300)  # of the classes of activity, in 64ths of a magnitude


class ContextBits:
    """Bits of symbols (B, C, h, w) of frames of one form each.

    contexts: of their scale; form (B,) int64.
    """

    def __init__(self, contexts: Contexts, form: Tensor) -> None:
        self.costs = code_lengths(contexts.codes)
        self.form = form[:, None, None, None]

    def rows(self, index: Tensor, k: Tensor) -> Tensor:
        """Which row of `costs` each symbol is coded by, int64 like k.

        index: unrounded table index; k: symbols, of which those before a place in its channels
        count.
        """
        activity = activity_class(k * coded(index))
        mask = checkerboard(*k.shape[1:], k.device)
        context = (self.form * 2 + (1 - mask).long()) * ACTIVITIES + activity
        # A place that is skipped and asks for a symbol pays as the first that is not.
        table = rounded(index.detach()).clamp(min=SKIP_BELOW).long()
        return context * INDICES + table

    def bits(self, index: Tensor, symbols: Tensor, k: Tensor) -> Tensor:
        """Bits (B, C, h, w) float32 of symbols under an unrounded index; k as in `rows`.

        A gradient reaches the index by the tables beside it, and a symbol by the magnitudes beside
        its own.
        """
        return _Bits.apply(self.costs, self.rows(index, k), index.float(), symbols.float())


def code_lengths(codes: Tensor) -> Tensor:
    """Bits of each magnitude, (forms * 2 * ACTIVITIES * INDICES, COSTED + 1), from context codes.

    codes (forms, CONTEXTS); rows by form, half, class of activity, index of the table.
    """
    odds = codes.float() / CODE_UNIT
    one = torch.nn.functional.softplus(-odds) / math.log(2)
    zero = torch.nn.functional.softplus(odds) / math.log(2)

    def split(bits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        some, more, unary = bits.split(
            [FIRST_MORE, FIRST_UNARY - FIRST_MORE, bits.shape[1] - FIRST_UNARY], dim=1
        )
        shape = (len(bits), 2, INDICES, ACTIVITIES)
        unary = unary.view(len(bits), 1, 1, INDICES, UNARY - 2)
        return some.view(shape).mT, more.view(shape).mT, unary  # (forms, 2, ACTIVITIES, INDICES)

    (is_zero, is_one, ends), (is_some, is_more, goes_on) = split(zero), split(one)
    rows = [is_zero, is_some + 1 + is_one]  # a sign takes a bit
    before = (is_some + 1 + is_more)[..., None]
    before = before + torch.cat((0 * goes_on[..., :1], goes_on.cumsum(-1)), dim=-1)
    large = before[..., :-1] + ends  # 2 .. UNARY - 1
    rest = torch.arange(1, COSTED - UNARY + 2, device=codes.device, dtype=torch.float32)
    escapes = before[..., -1:] + 2 * rest.log2().floor() + 1  # UNARY ..
    table = torch.cat((torch.stack(rows, dim=-1), large, escapes), dim=-1)
    return table.view(-1, COSTED + 1)


def activity_class(k: Tensor) -> Tensor:
    """Class 0..5 of what was coded at each place in the channels before, int64; k (B, C, h, w).

    The sums of symbol_kernels in real numbers, so that a few places in a thousand fall into the
    class beside. There an eighth is rounded down: a sum is larger by half of what is lost, and a
    place that had a symbol once stays out of class 0.
    """
    weights, bounds = _memory(k.shape[1], k.device)
    sizes = k.detach().abs().clamp(max=3).float()
    with torch.autocast(k.device.type, enabled=False):
        sums = torch.einsum("ij,bjhw->bihw", weights, sizes).contiguous()
    own = (sizes > 0).float()
    before = torch.empty_like(own)
    for parity in range(2):
        part = own[:, parity::2]
        before[:, parity::2] = part.cumsum(1) - part
    before = before.clamp(max=1)
    return torch.maximum(torch.bucketize(sums + _ROUNDED * before, bounds), before.long())


@lru_cache(maxsize=16)
def _memory(channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Weight of a magnitude of channel j in the sum that channel i sees, (channels, channels), and
    where classes of the sums begin; kept on the device, as a step should not wait for them.

    The channels that share a half at a place are every other one, and each takes an eighth away.
    """
    number = torch.arange(channels)
    behind = number[:, None] - number
    seen = (behind > 0) & (behind % 2 == 0)
    weights = 64 * seen * (7 / 8) ** (behind / 2 - 1).clamp(min=0)
    return weights.to(device), (torch.tensor(_BOUNDS) - 0.5).to(device)


class _Bits(torch.autograd.Function):
    """Row and magnitude to bits, with the slopes between the entries for gradients."""

    @staticmethod
    def forward(ctx: Any, costs: Tensor, row: Tensor, index: Tensor, symbols: Tensor) -> Tensor:  # type: ignore[override]
        size = symbols.abs()
        code = size.round().long().clamp(max=COSTED)
        flat, width = costs.view(-1), COSTED + 1
        table = row % INDICES
        near = row * width + code
        up, down = (table < INDEX_MAX).long(), (table > SKIP_BELOW).long()
        slope = (flat[near + width * up] - flat[near - width * down]) / (up + down)
        larger = flat[near + (code < COSTED).long()]
        growth = (larger - flat[near - (code > 0).long()]) / 2 * (code > 0)
        ctx.save_for_backward(slope, growth * symbols.sign())
        bits = flat[near] + slope * (index - table).clamp(-0.5, 0.5)  # of a table between two
        return bits + 2 * torch.log2((size / COSTED).clamp(min=1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        slope, growth = ctx.saved_tensors
        return None, None, grad * slope, grad * growth
