"""The module that fits NIRVANA's network: the family's, drawing patches in place of frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from nvc.inr.fit_config import FitConfig
from nvc.inr.module import GroupFit
from nvc.inr.nirvana import NirvanaConfig, PatchClip, patch_centres


class NirvanaFit(GroupFit):
    """GroupFit on the patches of a group; a batch is of patches, all of them at most."""

    def __init__(
        self, network: NirvanaConfig, fit: FitConfig, clip: PatchClip, **options: Any
    ) -> None:
        fit = replace(fit, batch_size=min(fit.batch_size, len(clip)))
        super().__init__(network, fit, clip, **options)
        # In the place of the frames' times.
        self.times = patch_centres(network.grid)

    @torch.no_grad()
    def psnr(self, network: Any, codes: torch.Tensor) -> float:
        """Mean over frames of the RGB PSNR in dB of float output, nothing rounded to 8 bits."""
        clip = self.clip
        total = torch.zeros(clip.frames, device=clip.device)
        for index in clip.each():
            error = (network(codes[index], self.times[index]) - self._samples(index)).square()
            weight = clip.weights(index, self.pictures)
            error = error if weight is None else error * weight
            # (1, 3 * frames, p, p) -> (frames,)
            total += error.view(clip.frames, -1).sum(dim=1)
        total /= 3 * clip.info.height * clip.info.width
        return float((-10 * torch.log10(total.clamp(min=1e-10))).mean())

    def _samples(self, index: torch.Tensor) -> torch.Tensor:
        return self.clip.samples(index, self.pictures)
