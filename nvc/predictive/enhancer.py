"""Convolutions over a whole picture, for intra frames, behind the loop filter.

Intra frames are few, all others refer to them, and what their networks leave unmended between
blocks is worth many times the arithmetic that it would be in every frame. Cells are 2x2 luma
samples with their two of chroma, so that weights are the same wherever a block begins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvc.nn.blocks import QpGain

_CELL = 2
_CHANNELS = _CELL**2 + 2
_INPUT, _OUTPUT = 16.0, 1 / 512  # samples to features about 1, and back
_STRIP_CELLS = 1 << 15  # of a strip at inference, so that its features stay in the cache


class Enhancer(nn.Module):
    """Planes -> planes with a correction; none before training.

    width: channels; depth: residual convolutions between the first and the last.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(_CHANNELS, width, 3, padding=1)
        self.gain = QpGain(width)
        self.middle = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.last = nn.Conv2d(width, _CHANNELS, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    @property
    def reach(self) -> int:
        """Cells on each side that a cell depends on."""
        return 2 + len(self.middle)

    def forward(self, planes: Sequence[Tensor], qp: Tensor, form: Tensor) -> tuple[Tensor, ...]:
        """Y (B,1,H,W), U, V (B,1,H/2,W/2) in [0, 1] -> likewise."""
        y, u, v = planes
        cells = torch.cat((F.pixel_unshuffle(y, _CELL), u, v), dim=1)  # (B, 6, H/2, W/2)
        cells = cells.contiguous(memory_format=torch.channels_last)
        added = self.correction(cells, qp, form)
        luma, *chroma = added.split((_CELL**2, 1, 1), dim=1)
        parts = (F.pixel_shuffle(luma, _CELL), *chroma)
        return tuple((a + b).clamp(0, 1) for a, b in zip(planes, parts, strict=True))

    def correction(self, cells: Tensor, qp: Tensor, form: Tensor) -> Tensor:
        """(B, 6, h, w) of samples -> what is to be added to them."""
        hidden = self.gain.scale(self.first((cells - 0.5) * _INPUT), qp, form)
        for layer in self.middle:
            hidden = hidden + layer(F.relu(hidden))
        return self.last(F.relu(hidden)) * _OUTPUT
