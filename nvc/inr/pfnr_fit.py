"""The module that fits a video's sub-network: scores choose weights, used ones stay as they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from nvc.inr.fit_config import FitConfig
from nvc.inr.groups import ResidentClip
from nvc.inr.masks import best_share, binary_entropy
from nvc.inr.module import FIRST_EXCESS, GroupFit
from nvc.inr.parameters import laplace_entropy
from nvc.inr.pfnr import PfnrConfig, PfnrTrack, SharedWeights
from nvc.inr.quantised import quantise


class PfnrFit(GroupFit):
    """GroupFit of the weights that a mask chooses (Kang et al., ICLR 2024, section 3.1).

    A score a weight of the body; the best fit.capacity of a tensor's are the sub-network. Weights
    that earlier videos use keep their values. The masks are learned until quantisation starts.
    """

    def __init__(
        self,
        network: PfnrConfig,
        fit: FitConfig,
        clip: ResidentClip,
        *,
        shared: SharedWeights,
        **options: Any,
    ) -> None:
        super().__init__(network, fit, clip, **options)
        self.shared = shared
        self.body = self.shapes[: len(shared.used)]
        self.body_sizes = [shape.numel() for shape in self.body]
        self.scores = torch.nn.Parameter(
            torch.cat([torch.empty(n).uniform_(-1, 1) / math.sqrt(n) for n in self.body_sizes])
        )
        used = torch.cat([torch.from_numpy(part).view(-1) for part in shared.used])
        values = torch.cat([torch.from_numpy(part).view(-1) for part in shared.values])
        self.register_buffer("used", used, persistent=False)
        self.register_buffer("values", values, persistent=False)
        # 1 where the sub-network has a weight, once quantisation has started.
        self.register_buffer("mask", torch.ones_like(values))
        self.fixed = False

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """As ever, and Adam for the scores."""
        optimisers = super().configure_optimizers()
        rate = self.fit_config.adam_lr
        group = {"params": [self.scores], "lr": rate, "peak_lr": rate, "constant": False}
        optimisers[0].add_param_group(group)
        return optimisers

    def float_network(self) -> Callable[..., torch.Tensor]:
        """The sub-network with the weights of now, not quantised."""
        return self.network_of(self.flat_parameters())

    def network_of(self, flat: torch.Tensor) -> Callable[..., torch.Tensor]:
        """The sub-network with free weights and head from `flat` (N,), the others as they are."""
        count = len(self.values)
        body = torch.where(self.used, self.values, flat[:count]) * self._mask()
        return super().network_of(torch.cat([body, flat[count:]]))

    def _mask(self) -> torch.Tensor:
        return self.mask if self.fixed else self._best()

    def _best(self) -> torch.Tensor:
        share = self.fit_config.capacity
        return torch.cat([best_share(part, share) for part in self.scores.split(self.body_sizes)])

    def bits(self, flat: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Scalar: estimated bits of the weights this video sets, of its head, and of its masks."""
        chosen = self._chosen(flat).split(self.quantiser.sizes)
        magnitudes = flat.abs().split(self.quantiser.sizes)
        counts = torch.stack([part.sum() for part in chosen])
        sums = torch.stack([(m * c).sum() for m, c in zip(magnitudes, chosen, strict=True)])
        means = sums / counts.clamp(min=1) / torch.exp2(self.quantiser.log2_steps)
        return (laplace_entropy(means) * counts).sum() + self._mask_bits()

    def _mask_bits(self) -> float:
        """About what the masks cost: a share of the free weights that is not 0, one of the used."""
        return binary_entropy(self.fit_config.capacity) * len(self.values)

    def on_train_epoch_start(self) -> None:
        """As ever; what a resumed fit has loaded is fixed too."""
        super().on_train_epoch_start()
        self.fixed = self.current_epoch >= self.quantise_epoch

    @torch.no_grad()
    def _start_quantising(self) -> None:
        self.mask.copy_(self._best())
        self.fixed = True
        super()._start_quantising()

    def _start_steps(self, flat: torch.Tensor, codes: torch.Tensor, bits: float) -> None:
        """Steps for the weights that are set here; the others do not count in the means."""
        wanted = FIRST_EXCESS * self.fit_config.bits_per_value
        chosen = self._chosen(flat).split(self.quantiser.sizes)
        pairs = zip(flat.abs().split(self.quantiser.sizes), chosen, strict=True)
        means = torch.stack([(m * c).sum() / c.sum().clamp(min=1) for m, c in pairs])
        self.quantiser.log2_steps.copy_(torch.log2(2 * math.e * means.clamp(min=1e-6)) - wanted)

    def _chosen(self, flat: torch.Tensor) -> torch.Tensor:
        """(N,) 1 for the weights that this video sets, its head among them."""
        ones = flat.new_ones(len(flat) - len(self.values))
        return torch.cat([self.mask * ~self.used, ones])

    def quantised(self) -> PfnrTrack:
        """The track as it would be written now."""
        symbols, codes, reuse = [], [], []
        masks = [
            part.view(shape)
            for part, shape in zip(
                self.mask.bool().cpu().split(self.body_sizes), self.body, strict=True
            )
        ]
        steps = self.quantiser.log2_steps.tolist()
        for place, parameter in enumerate(self.network.parameters()):
            values, code = quantise(parameter, steps[place])
            if place < len(masks):
                mask, used = masks[place].numpy(), self.shared.used[place]
                values[~mask | used] = 0
                reuse.append(mask & used)
            symbols.append(values)
            codes.append(code)
        return PfnrTrack(
            self.network.config, self.shared, tuple(reuse), tuple(symbols), tuple(codes)
        )
