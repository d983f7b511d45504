"""The coder of frames for inference on the CPU: nvc.predictive.frame_coder over rows and integers.

Payloads mean the same as there, and what the encoder decides is decided there.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from nvc.predictive import index_kernels
from nvc.predictive.frame_coder import FrameCoder, LayerCoder
from nvc.predictive.inference import RowLevel, RowNetwork, RowPrediction, supports
from nvc.predictive.network import Planes, PredictiveNetwork
from nvc.predictive.row_planes import shrunk

_prepared: WeakKeyDictionary[PredictiveNetwork, dict[torch.dtype, RowNetwork]] = WeakKeyDictionary()


def open_coder(
    network: PredictiveNetwork, shown: tuple[int, int], dtype: torch.dtype = torch.float32
) -> FrameCoder:
    """The fastest coder of frames of this height and width there is for the network.

    dtype: of the mean path, where there is a choice.
    """
    if not supports(network):
        return FrameCoder(network, shown)
    kinds = _prepared.setdefault(network, {})
    if dtype not in kinds:
        kinds[dtype] = RowNetwork(network, dtype)
    return RowCoder(network, shown, kinds[dtype])


class RowLayerCoder(LayerCoder):
    """LayerCoder of a RowLevel."""

    level: RowLevel  # type: ignore[assignment]

    def _mean(self, k_first: Tensor) -> Tensor:
        known = torch.empty(self.shape, dtype=torch.float32)
        step = self.step.flatten().float().numpy()
        found = index_kernels.known_of_first(k_first[0].numpy(), step, known[0].numpy())
        return self._disturbed(self.level.mean_of(known) if found else known)

    def _decoded(self, mean: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        step = self.step.flatten().float().numpy()
        index_kernels.dequantise(mean[0].numpy(), k[0].numpy(), step)
        return mean, k

    def _index(self, k_first: Tensor | None, step: int) -> np.ndarray:
        first = None
        if k_first is not None:
            first = torch.empty(self.shape, dtype=torch.int8)
            index_kernels.first_codes(k_first[0].numpy(), first[0].numpy())
        return self.level.index(self.shared, first, self.history, self.qp, step=step)[0].numpy()


class RowCoder(FrameCoder):
    """FrameCoder whose network is a RowNetwork."""

    @property
    def layer_coder(self) -> type[LayerCoder]:
        return RowLayerCoder

    def __init__(
        self,
        network: PredictiveNetwork,
        shown: tuple[int, int],
        rows: RowNetwork,
        *,
        noise: float = 0.0,
    ) -> None:
        super().__init__(network, shown, noise=noise)
        self.network = rows  # type: ignore[assignment]

    def _residual(  # type: ignore[override]
        self, level: RowLevel, source: Planes, given: RowPrediction, qp: Tensor, form: Tensor
    ) -> Tensor:
        return level.analyse(shrunk(source, level.config.shrink), given, qp, form)
