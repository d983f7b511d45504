"""One frame between planes and payloads: the network, the integer scale path and the coder.

A layer's payload (docs/predictive.md) is the adaptive bits of its symbols, first those of one half
of a checkerboard, then those of the other, and one byte of checksum of all of them: a decoder whose
indices went astray learns of it here and not from the picture. It is empty when every symbol is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvc.entropy.adaptive_kernels import (
    CODER_SIZE,
    bytes_read,
    finish_writing,
    start_reading,
    start_writing,
)
from nvc.entropy.checksum import START, crc16
from nvc.errors import StreamError
from nvc.nn.planes import enlarge_planes, pack_planes, shrink_planes
from nvc.predictive.contexts import ContextCounts
from nvc.predictive.filter_tuning import (
    Tuning,
    choose_tuning,
    decode_tuning,
    encode_tuning,
    moves_of,
    untuned,
)
from nvc.predictive.level import History, Level, Prediction, qp_lambda
from nvc.predictive.loop_filter import WAYS
from nvc.predictive.network import Memory, Planes, PredictiveNetwork, Second, frame_form
from nvc.predictive.rounding import FORM_PRICES, PRICES
from nvc.predictive.scales import (
    KIND_BI,
    checkerboard,
    first_half_codes,
    magnitude_code,
    rounded,
)
from nvc.predictive.symbol_kernels import BYTES_PER_SYMBOL, decode_half, encode_half


@dataclass
class CodedFrame:
    """Payload of every layer (None: lost), and the planes a decoder of all of them shows."""

    layers: list[bytes | None]
    picture: Planes
    memory: Memory
    tuning: bytes | None = None


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
        self.counts: ContextCounts | None = None  # of what it encodes from here on
        parameter = next(network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype

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

        expected, found = self._expected_tuning(kind, memory, second), None

        def tune(made: Planes, plain: Callable[[], Planes]) -> list[Tensor] | None:
            nonlocal found
            assert self.network.filter is not None
            found = choose_tuning(
                self.network.filter.ways, made, plain(), source, expected,
                shown=self.shown, price=float(qp_lambda(qps)),
            )  # fmt: skip
            return moves_of(found)

        _, after = self.network.run(
            qps, kinds, self.size, code, memory=memory, vectors=vectors, second=second, tuner=tune
        )
        after.tuning, after.between = found, kind == KIND_BI
        tuning = None
        if found is not None and found != expected:
            tuning = encode_tuning(found, expected)
        return CodedFrame(payloads, after.pictures[-1], after, tuning)

    def _expected_tuning(self, kind: int, memory: Memory | None, second: Second | None) -> Tuning:
        """How the loop filter of a frame is tuned that sends nothing: as of a frame like it."""
        between = kind == KIND_BI
        for near in (memory, None if second is None else second.memory):
            if near is not None and near.tuning is not None and near.between == between:
                return near.tuning
        return untuned(WAYS)

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
        tuning: bytes | None = None,
    ) -> DecodedFrame:
        """Decode a frame from the payloads of its layers; None where one is lost.

        tuning: of the loop filter, None where that is as expected. Raises StreamError where it is
        damaged.

        A layer that is lost, or whose payload disagrees with its checksum, counts as k = 0.
        """
        qps, kinds = self._scalars(qp, kind)
        levels = self._expected_tuning(kind, memory, second)
        if tuning is not None:
            levels = decode_tuning(tuning, levels)
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
            tuner=lambda made, plain: moves_of(levels),
        )
        after.tuning, after.between = levels, kind == KIND_BI
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
        form = frame_form(kind)
        self.form = int(form)
        self.step = level.step(qp, form)
        self.shape = history.past.shape  # (1, latent, h, w)
        self.shared = level.scales.prepare(
            history.past, history.average, history.coarse, history.motion
        )
        self.price = PRICES[level.config.shrink] * FORM_PRICES[self.form] * float(qp_lambda(qp))

    def encode(self, residual: Tensor, worth: Tensor | None) -> tuple[bytes, Tensor, Tensor]:
        """Residual (1, latent, h, w) -> (payload, decoded residual, symbols)."""
        if worth is None:
            worth = residual.new_ones(1, 1, 1, 1)
        grid = self.shape[-2:]
        price = _array(self.price * F.interpolate(worth.to(residual.device), grid, mode="area")[0])
        wanted, step = _array(self._cut(residual)[0]), _array(self.step.flatten())
        weight = _array(self.level.error_weights)
        coder = np.zeros(CODER_SIZE, np.int64)
        digits = np.empty(BYTES_PER_SYMBOL * math.prod(self.shape) + 256, np.uint16)
        model, counts = self.level.contexts.model(self.form).copy(), self._counts()
        start_writing(coder)

        def write(half: int, index: np.ndarray, mean: np.ndarray, k: np.ndarray) -> None:
            encode_half(
                coder, digits, model, wanted, mean, index, price[0], step, weight, half, k, counts
            )

        k, mean = self._both_halves(write)
        payload = b""
        if k.any():
            payload = finish_writing(coder, digits).tobytes().rstrip(b"\0") + _checksum(k)
        return payload, *self._decoded(mean, k)

    def decode(self, payload: bytes) -> tuple[Tensor, Tensor]:
        """Payload -> (decoded residual, symbols); StreamError when it does not fit."""
        coder, data = np.zeros(CODER_SIZE, np.int64), np.frombuffer(payload[:-1], np.uint8).copy()
        model = self.level.contexts.model(self.form).copy()
        if not start_reading(coder, data):
            raise StreamError("a layer's symbols start as none do")

        def read(half: int, index: np.ndarray, mean: np.ndarray, k: np.ndarray) -> None:
            if not decode_half(coder, data, model, index, half, k):
                raise StreamError("a layer holds symbols out of range")

        k, mean = self._both_halves(read)
        if bytes_read(coder) < len(data) or data[-1:].tobytes() == b"\0":
            raise StreamError("a layer has bytes left over")
        if payload[-1:] != _checksum(k):
            raise StreamError("a layer's symbols disagree with their checksum")
        return self._decoded(mean, k)

    def _both_halves(
        self, code: Callable[[int, np.ndarray, np.ndarray, np.ndarray], None]
    ) -> tuple[Tensor, Tensor]:
        """Symbols (1, latent, h, w) int32 on the CPU from `code`, and the second half's mean.

        code(half, table indices uint8, mean float32, symbols so far, to be added to), all (latent,
        h, w).
        """
        k = torch.zeros(self.shape, dtype=torch.int32)
        code(0, self._index(None, 0), np.zeros((1, 1, 1), np.float32), k[0].numpy())
        mean = self._mean(k)
        code(1, self._index(k, 1), _array(mean[0]), k[0].numpy())
        return k, mean

    def _counts(self) -> np.ndarray:
        """Where the bits written are counted; of length 0 where they are not."""
        counts = self.coder.counts
        if counts is None:
            return np.empty((0, 2), np.int64)
        return counts.of_symbols(self.level.config.shrink, self.form)

    def _cut(self, residual: Tensor) -> Tensor:
        """Nothing is coded for cells that lie in the padding alone."""
        rows, columns = (-(-side // self.level.config.stride) for side in self.coder.shown)
        residual[:, :, rows:] = 0
        residual[:, :, :, columns:] = 0
        return residual

    def _index(self, k_first: Tensor | None, step: int) -> np.ndarray:
        """Table indices (latent, h, w) uint8; in step 1 from the symbols of the first half."""
        first = None
        if k_first is not None:
            codes = magnitude_code(k_first.to(self.coder.device))
            first = first_half_codes(codes, self._mask())
        index = self.level.index(self.shared, first, self.history, self.qp, step=step)
        return rounded(index)[0].contiguous().cpu().numpy()

    def _mean(self, k_first: Tensor) -> Tensor:
        """Mean of the second half, (1, latent, h, w)."""
        known = k_first.to(self.coder.device, self.coder.dtype) * self.step
        return self._disturbed(self.level.second_mean(known, self._mask()))

    def _decoded(self, mean: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Decoded residual and symbols, on the network's device."""
        symbols = k.to(self.coder.device, self.coder.dtype)
        return mean + symbols * self.step, symbols

    def _disturbed(self, mean: Tensor) -> Tensor:
        return mean + torch.randn_like(mean) * self.coder.noise if self.coder.noise else mean

    def _mask(self) -> Tensor:
        return checkerboard(*self.shape[1:], self.coder.device)


def _array(values: Tensor) -> np.ndarray:
    return values.to("cpu", torch.float32).contiguous().numpy()


def _checksum(k: Tensor) -> bytes:
    """One byte: the CRC-16 of the symbols, channel by channel, its two bytes combined by xor."""
    crc = crc16(k.numpy().reshape(-1), START)
    return bytes([(crc >> 8) ^ (crc & 0xFF)])
