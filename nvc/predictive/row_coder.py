"""The coder of frames for inference on the CPU: nvc.predictive.frame_coder over rows and integers.

Payloads mean the same as there, and what the encoder decides is decided there.
"""

from __future__ import annotations

from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvc.entropy import rans
from nvc.errors import StreamError, UsageError
from nvc.predictive import index_kernels
from nvc.predictive.frame_coder import FrameCoder, LayerCoder, _checksum
from nvc.predictive.inference import RowLevel, RowNetwork, RowPrediction, supports
from nvc.predictive.network import Planes, PredictiveNetwork
from nvc.predictive.rounding import code_lengths
from nvc.predictive.row_planes import shrunk
from nvc.predictive.scales import SKIP_BELOW

_prepared: WeakKeyDictionary[PredictiveNetwork, dict[torch.dtype, RowNetwork]] = WeakKeyDictionary()


PRECISIONS = ("auto", "float32", "bfloat16")


def mean_dtype(precision: str) -> torch.dtype:
    """What the mean path computes in: "auto" is bfloat16 on a CPU with matrix units (AMX) for it.

    Raises UsageError for what is not in PRECISIONS.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} is not known; allowed: {', '.join(PRECISIONS)}")
    if precision == "auto":
        has_units = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        return torch.bfloat16 if has_units() else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


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
    """LayerCoder over integers channel by channel."""

    level: RowLevel  # type: ignore[assignment]

    def decode(self, payload: bytes) -> tuple[Tensor, Tensor]:
        """Payload -> (decoded residual, symbols) (1, latent, h, w), float32 and int32."""
        if len(payload) < 2:
            raise StreamError("a layer's symbols are cut off")
        decoder = rans.Decoder(payload[:-1], self.tables, skip_below=SKIP_BELOW)
        k = torch.zeros(self.shape, dtype=torch.int32)
        step = self.step.flatten().float().numpy()
        first = self._half(decoder, None, 0, k)
        mean = self._mean_of_first(k)
        second = self._half(decoder, k, 1, k)
        decoder.finish()
        if payload[-1:] != _checksum(first, second):
            raise StreamError("a layer's symbols disagree with their checksum")
        index_kernels.dequantise(mean[0].numpy(), k[0].numpy(), step)
        return mean, k

    def encode(self, residual: Tensor, worth: Tensor | None) -> tuple[bytes, Tensor, Tensor]:
        """LayerCoder.encode; residual (1, latent, h, w) float32."""
        if worth is None:
            worth = residual.new_ones(1, 1, 1, 1)
        price = self.price * F.interpolate(worth, self.shape[-2:], mode="area")
        residual = self._cut(residual).contiguous()
        step, price = self.step.flatten().float().numpy(), price[0, 0].numpy()
        k = torch.zeros(self.shape, dtype=torch.int32)
        mean = torch.zeros_like(residual)
        symbols, tables = (np.empty(k.numel(), kind) for kind in (np.int32, np.uint8))
        cut = 0
        for half in range(2):
            index = self._index(k if half else None, half)[0].numpy()
            if half:
                mean = self._mean_of_first(k)
            index_kernels.quantise(
                residual[0].numpy(), mean[0].numpy(), index, price, step, _costs(), half,
                k[0].numpy(),
            )  # fmt: skip
            index_kernels.take_half(index, half, tables[cut:])
            count = index_kernels.take_half(k[0].numpy(), half, symbols[cut:])
            cut = count if half == 0 else cut
        payload = rans.encode(symbols, tables, self.tables, skip_below=SKIP_BELOW)
        if payload:
            payload += _checksum(symbols)
        index_kernels.dequantise(mean[0].numpy(), k[0].numpy(), step)
        return payload, mean, k

    def _mean_of_first(self, k: Tensor) -> Tensor:
        """Mean of the second half from the symbols of the first, float32; of any meaning there."""
        known = torch.empty(self.shape, dtype=torch.float32)
        step = self.step.flatten().float().numpy()
        found = index_kernels.known_of_first(k[0].numpy(), step, known[0].numpy())
        mean = self.level.mean_of(known) if found else known
        if self.coder.noise:
            mean = mean + torch.randn_like(mean) * self.coder.noise
        return mean

    def _half(
        self, decoder: rans.Decoder, known: Tensor | None, half: int, k: Tensor
    ) -> np.ndarray:
        """Read the symbols of one half into k; they are returned in order too."""
        index = self._index(known, half)[0].numpy()
        tables = np.empty(index.size, np.uint8)
        count = index_kernels.take_half(index, half, tables)
        symbols = decoder.decode(tables[:count])
        index_kernels.put_half(symbols, half, k[0].numpy())
        return symbols

    def _index(self, k_first: Tensor | None, step: int) -> Tensor:
        first = None
        if k_first is not None:
            first = torch.empty(self.shape, dtype=torch.int8)
            index_kernels.first_codes(k_first[0].contiguous().numpy(), first[0].numpy())
        return self.level.index(self.shared, first, self.history, self.qp, step=step)


@lru_cache(maxsize=1)
def _costs() -> np.ndarray:
    """Bits of every magnitude under every table."""
    return code_lengths().numpy()


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
