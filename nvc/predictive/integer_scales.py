"""The scale path for inference on the CPU: products of int8, kernels between them.

The same integers as nvc.predictive.scales, on every machine.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvc.predictive import index_kernels
from nvc.predictive.scales import ScaleNet, _int8

CODE_OFFSET = 128  # activations and codes are int8 less this

# Without the instructions for it the product of bytes falls back to a loop 13 times as slow as that
# of floats; torch has no public name for the question.
_BYTES_ARE_FAST: bool = getattr(torch.cpu, "_is_vnni_supported", lambda: True)()


def integer_product(weight: Tensor, codes: Tensor, *, as_bytes: bool = _BYTES_ARE_FAST) -> Tensor:
    """Product of int8 matrices, int32, the same on every machine.

    as_bytes: whether bytes are multiplied; else float32, which holds every sum exactly, as
    ScaleNet.check_exact makes sure.
    """
    if as_bytes:
        return torch._int_mm(weight, codes)
    return (weight.float() @ codes.float()).to(torch.int32)


class IntegerScales:
    """ScaleNet in int8: codes and activations less 128, accumulators int32."""

    def __init__(self, scales: ScaleNet) -> None:
        self.net = scales
        self.known, self.first, self.mix, self.out = (
            _int8(weight).to(torch.int8)
            for weight in (scales.known, scales.first, scales.mix, scales.out)
        )
        self.spread = _int8(scales.spread).to(torch.int32).numpy()
        self.known_sum, self.first_sum, mix_sum, self.out_sum = (
            CODE_OFFSET * weight.sum(1, dtype=torch.int32)
            for weight in (self.known, self.first, self.mix, self.out)
        )
        bias = torch.round(scales.bias_mix.float() * scales.bias_in.unit).to(torch.int32)
        self.bias_mix = (bias + mix_sum).numpy()

    def prepare(
        self, past: Tensor, average: Tensor, coarse: Tensor | None, motion: Tensor
    ) -> Tensor:
        """ScaleNet.prepare of codes less 128 (1, C, H, W) int8 -> (1, width, H, W) int32."""
        parts = [past, average, *([] if coarse is None else [coarse]), motion]
        total: Tensor | None = None
        at = 0
        for part in parts:
            weight = self.known[:, at : at + part.shape[1]].contiguous()
            product = integer_product(weight, part[0].flatten(1))
            total = product if total is None else total.add_(product)
            at += part.shape[1]
        assert total is not None
        total += self.known_sum[:, None]
        return total.view(1, -1, *past.shape[-2:])

    def index(
        self, shared: Tensor, first: Tensor | None, qp: Tensor, past_qp: Tensor, kind: Tensor,
        *, step: int,
    ) -> Tensor:  # fmt: skip
        """Rounded table indices (1, latent, H, W) uint8."""
        net, grid = self.net, shared.shape[-2:]
        bias = (net.bias_in(qp, kind, step) + net.bias_past(past_qp, kind, step)).flatten()
        bias = bias.to(torch.int32)
        total = shared[0]
        if first is not None:
            total = total + integer_product(self.first, first[0].flatten(1)).view_as(total)
            bias = bias + self.first_sum
        hidden = torch.empty(total.shape, dtype=torch.int8)
        index_kernels.activate(total.numpy(), bias.numpy(), self.spread, hidden.numpy())
        total = integer_product(self.mix, hidden.flatten(1))
        mixed = torch.empty(total.shape, dtype=torch.int8)
        index_kernels.requantise(total.numpy(), self.bias_mix, mixed.numpy())
        total = integer_product(self.out, mixed)
        bias = net.bias_out(qp, kind, step).flatten().to(torch.int32) + self.out_sum
        found = torch.empty(total.shape, dtype=torch.uint8)
        index_kernels.indices(total.numpy(), bias.numpy(), found.numpy())
        return found.view(1, -1, *grid)
