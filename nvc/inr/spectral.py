"""The Fourier operator of PFNR (Kang et al., ICLR 2024, section 3.2): a convolution of low
modes."""

from __future__ import annotations

import torch
from torch import nn


class SpectralConv(nn.Module):
    """(B, in, H, W) -> (B, out, H, W): a complex matrix for each of the lowest frequencies.

    size: (H, W) it is used at. Of the rows' frequencies `modes` positive and `modes` negative ones
    are kept, of the columns' `modes` (Li et al., Fourier neural operator, ICLR 2021), as far as
    there are so many. real and imaginary: (out, in * rows * columns).
    """

    def __init__(self, inputs: int, outputs: int, *, modes: int, size: tuple[int, int]) -> None:
        super().__init__()
        height, width = size
        self.inputs, self.outputs = inputs, outputs
        self.low, self.high = min(modes, height - height // 2), min(modes, height // 2)
        self.columns = min(modes, width // 2 + 1)
        count = inputs * (self.low + self.high) * self.columns
        bound = 1 / inputs
        self.real = nn.Parameter(torch.empty(outputs, count).uniform_(-bound, bound))
        self.imaginary = nn.Parameter(torch.empty(outputs, count).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        # Transforms and complex numbers know no bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            modes = torch.fft.rfft2(x.float().contiguous(), norm="forward")
            # The negative frequencies of the rows are the last ones.
            kept = [modes[..., : self.low, : self.columns]]
            if self.high:
                kept.append(modes[..., height - self.high :, : self.columns])
            shape = (self.outputs, self.inputs, self.low + self.high, self.columns)
            weight = torch.complex(self.real.float(), self.imaginary.float()).view(shape)
            # sums over the inputs, a mode at a time: (B, in, h, w), (out, in, h, w) -> (B, out, ..)
            mixed = torch.einsum("bihw,oihw->bohw", torch.cat(kept, dim=-2), weight)
            zeros = height - self.low - self.high
            middle = mixed.new_zeros(*mixed.shape[:2], zeros, self.columns)
            full = torch.cat([mixed[..., : self.low, :], middle, mixed[..., self.low :, :]], dim=-2)
            full = nn.functional.pad(full, (0, width // 2 + 1 - self.columns))
            return torch.fft.irfft2(full, s=(height, width), norm="forward")
