"""One frame between planes and payloads: the network, the integer scale path and the coder.

A layer's payload (docs/bitstream.md, predictive codec) is one rANS payload, the symbols of the
first checkerboard half and then those of the second, and one byte of checksum of all of them: a
decoder whose indices went astray learns of it here and not from the picture. It is empty when every
symbol is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvc.entropy import rans
from nvc.entropy.checksum import START, crc16
from nvc.entropy.tables import gaussian_tables
from nvc.errors import StreamError
from nvc.nn.planes import enlarge_planes, pack_planes, shrink_planes
from nvc.predictive.level import History, Level, Prediction, qp_lambda
from nvc.predictive.network import Memory, Planes, PredictiveNetwork, Second, frame_form
from nvc.predictive.rounding import PRICES, choose
from nvc.predictive.scales import (
    SKIP_BELOW,
    checkerboard,
    first_half_codes,
    magnitude_code,
    rounded,
)


@dataclass
class CodedFrame:
    """Payload of every layer (None: lost), and the planes a decoder of all of them shows."""

    layers: list[bytes | None]
    picture: Planes
    memory: Memory


@dataclass
class DecodedFrame:
    """Planes of a frame, what the next one needs, and which layers took part."""

    picture: Planes
    memory: Memory
    used: list[bool] = field(default_factory=list)


class FrameCoder:
    """Codes frames of one size with one network. Not for two threads at once.

    shown: height and width of the picture; `size` is what they are padded to. noise: standard
    deviation of a disturbance of the means, to prove that symbols do not depend on them (tests).
    """

    def __init__(
        self, network: PredictiveNetwork, shown: tuple[int, int], *, noise: float = 0.0
    ) -> None:
        self.network = network.eval()
        padding = network.config.padding
        self.size = (-(-shown[0] // padding) * padding, -(-shown[1] // padding) * padding)
        self.shown = shown
        self.noise = noise
        parameter = next(network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self._halves: dict[tuple[int, ...], tuple[Tensor, np.ndarray, np.ndarray]] = {}

    @property
    def layer_coder(self) -> type[LayerCoder]:
        """What codes a layer; another for other forms of the network."""
        return LayerCoder

    @torch.inference_mode()
    def encode(
        self,
        source: Planes,
        qp: int,
        kind: int,
        *,
        memory: Memory | None = None,
        vectors: Tensor | None = None,
        second: Second | None = None,
        worth: Tensor | None = None,
    ) -> CodedFrame:
        """Code padded planes in [0, 1], Y (1,1,H,W), U, V (1,1,H/2,W/2).

        memory, vectors, second: as PredictiveNetwork.run has them; worth: what an error of each
        place counts, (1, 1, any grid), 1 on average.
        """
        qps, kinds = self._scalars(qp, kind)
        form = frame_form(kinds)
        payloads: list[bytes | None] = []

        def code(number: int, given: Prediction, history: History) -> tuple[Tensor, Tensor]:
            level = self.network.bank(memory is None)[number]
            residual = self._residual(level, source, given, qps, form)
            coder = self.layer_coder(self, level, history, qps, kinds)
            payload, residual, k = coder.encode(residual, worth)
            payloads.append(payload)
            return residual, k

        _, after = self.network.run(
            qps, kinds, self.size, code, memory=memory, vectors=vectors, second=second
        )
        return CodedFrame(payloads, after.pictures[-1], after)

    @torch.inference_mode()
    def decode(
        self,
        payloads: list[bytes | None],
        qp: int,
        kind: int,
        *,
        memory: Memory | None = None,
        vectors: Tensor | None = None,
        second: Second | None = None,
        layers: int | None = None,
    ) -> DecodedFrame:
        """Decode a frame from the payloads of its layers; None where one is lost.

        A layer that is lost, or whose payload disagrees with its checksum, counts as k = 0.
        """
        qps, kinds = self._scalars(qp, kind)
        used: list[bool] = []

        def code(number: int, given: Prediction, history: History) -> tuple[Tensor, Tensor]:
            payload = payloads[number]
            used.append(payload is not None)
            if payload:
                level = self.network.bank(memory is None)[number]
                coder = self.layer_coder(self, level, history, qps, kinds)
                try:
                    return coder.decode(payload)
                except StreamError:
                    used[-1] = False  # the caller decides whether that is an error or a loss
            zeros = torch.zeros_like(history.past)
            return zeros.to(self.dtype), zeros

        pictures, after = self.network.run(
            qps,
            kinds,
            self.size,
            code,
            memory=memory,
            vectors=vectors,
            second=second,
            layers=layers,
        )
        shown = after.pictures[-1]
        shrink = self.network.config.levels[len(pictures) - 1].shrink
        if shrink > 1:
            shown = enlarge_planes(shown, shrink)
        return DecodedFrame(shown, after, used)

    def _residual(
        self, level: Level, source: Planes, given: Prediction, qp: Tensor, form: Tensor
    ) -> Tensor:
        """What is left of the source after the prediction, (1, latent, h, w)."""
        x = pack_planes(shrink_planes(source, level.config.shrink))
        return level.analyse(x, given, qp, form)

    def halves(self, *shape: int) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """The checkerboard of (C, H, W) symbols and the flat positions of its two halves."""
        if shape not in self._halves:
            mask = checkerboard(*shape, self.device)
            flat = mask.cpu().numpy().reshape(-1) > 0
            self._halves[shape] = (mask, np.flatnonzero(flat), np.flatnonzero(~flat))
        return self._halves[shape]

    def _scalars(self, qp: int, kind: int) -> tuple[Tensor, Tensor]:
        return (
            torch.tensor([qp], device=self.device),
            torch.tensor([kind], device=self.device),
        )


class LayerCoder:
    """The two-step quantiser of one layer of one frame, with real bytes."""

    def __init__(
        self, coder: FrameCoder, level: Level, history: History, qp: Tensor, kind: Tensor
    ) -> None:
        self.coder, self.level, self.history = coder, level, history
        self.qp = qp
        self.step = level.step(qp, frame_form(kind))
        self.shape = history.past.shape  # (1, latent, h, w)
        self.mask, *self.positions = coder.halves(*self.shape[1:])
        self.shared = level.scales.prepare(
            history.past, history.average, history.coarse, history.motion
        )
        self.tables = gaussian_tables()
        self.price = PRICES[level.config.shrink] * float(qp_lambda(qp))

    def encode(self, residual: Tensor, worth: Tensor | None) -> tuple[bytes, Tensor, Tensor]:
        """Residual (1, latent, h, w) -> (payload, decoded residual, symbols)."""
        if worth is None:
            worth = residual.new_ones(1, 1, 1, 1)
        price = self.price * F.interpolate(worth.to(residual.device), self.shape[-2:], mode="area")
        residual = self._cut(residual.to(self.coder.dtype))
        index = self._index(None, 0)
        k_first = self._symbols(residual / self.step * self.mask, index, price)
        mean = self._mean(k_first)
        first, first_tables = self._take(k_first, index, 0)
        index = self._index(k_first, 1)
        k_second = self._symbols((residual - mean) / self.step * (1 - self.mask), index, price)
        second, second_tables = self._take(k_second, index, 1)
        k = k_first + k_second
        symbols = np.concatenate([first, second], axis=None)
        tables = np.concatenate([first_tables, second_tables], axis=None)
        payload = rans.encode(symbols, tables, self.tables, skip_below=SKIP_BELOW)
        if payload:
            payload += _checksum(first, second)
        return payload, mean + k * self.step, k

    def decode(self, payload: bytes) -> tuple[Tensor, Tensor]:
        """Payload -> (decoded residual, symbols); StreamError when it does not fit."""
        if len(payload) < 2:
            raise StreamError("a layer's symbols are cut off")
        decoder = rans.Decoder(payload[:-1], self.tables, skip_below=SKIP_BELOW)
        k_first, first = self._read(decoder, self._index(None, 0), 0)
        k_second, second = self._read(decoder, self._index(k_first, 1), 1)
        decoder.finish()
        if payload[-1:] != _checksum(first, second):
            raise StreamError("a layer's symbols disagree with their checksum")
        k = k_first + k_second
        return self._mean(k_first) + k.to(self.coder.dtype) * self.step, k

    def _cut(self, residual: Tensor) -> Tensor:
        """Nothing is coded for cells that lie in the padding alone."""
        rows, columns = (-(-side // self.level.config.stride) for side in self.coder.shown)
        residual[:, :, rows:] = 0
        residual[:, :, :, columns:] = 0
        return residual

    def _index(self, k_first: Tensor | None, step: int) -> Tensor:
        first = None
        if k_first is not None:
            first = first_half_codes(magnitude_code(k_first), self.mask)
        return rounded(self.level.index(self.shared, first, self.history, self.qp, step=step))

    def _mean(self, k_first: Tensor) -> Tensor:
        mean = self.level.second_mean(k_first.to(self.coder.dtype) * self.step, self.mask)
        if self.coder.noise:
            mean = mean + torch.randn_like(mean) * self.coder.noise
        return mean

    def _symbols(self, unit: Tensor, index: Tensor, price: Tensor) -> Tensor:
        chosen = choose(unit, index, self.step, price)
        return chosen.masked_fill(index < SKIP_BELOW, 0)

    def _take(self, k: Tensor, index: Tensor, half: int) -> tuple[np.ndarray, np.ndarray]:
        at = self.positions[half]
        symbols = k.flatten().to(torch.int32).cpu().numpy()[at]
        return symbols, index.flatten().cpu().numpy()[at]

    def _read(self, decoder: rans.Decoder, index: Tensor, half: int) -> tuple[Tensor, np.ndarray]:
        at = self.positions[half]
        symbols = decoder.decode(index.flatten().cpu().numpy()[at])
        whole = np.zeros(math.prod(self.shape), np.float32)
        whole[at] = symbols
        k = torch.from_numpy(whole).view(self.shape).to(self.coder.device)
        return k, symbols


def _checksum(*halves: np.ndarray) -> bytes:
    """One byte: the CRC-16 of the symbols of both halves, its two bytes combined by xor."""
    crc = START
    for symbols in halves:
        crc = crc16(symbols, crc)
    return bytes([(crc >> 8) ^ (crc & 0xFF)])
