"""Consecutive frames to payloads and back: references, motion, layers, and what loss leaves.

One FRAME unit holds one layer of one frame. Its payload begins with a byte: bits 0-5 the QP, bit 6
set for an intra frame, bit 7 set where the statistics of the past are not used. In layer 0 a byte
follows with a bit for every layer that holds symbols, then the motion field of an inter frame (its
length as a varint, then its bytes), then the symbols. Of the other layers only those with symbols
are written, so a decoder knows a lost layer from an empty one.

A small frame is packed whole into the unit of layer 0, since three units cost more than they are
worth (an encoder for a lossy channel leaves that): bit 7 of the second byte is set, and the symbols
of the layers follow each other, each but the last behind its length as a varint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nvc.bitstream.bits import pack_varint, read_varint
from nvc.errors import StreamError
from nvc.nn.blocks import QP_COUNT
from nvc.nn.planes import enlarge_planes
from nvc.predictive.conceal import carried_motion, detail_of_past
from nvc.predictive.frame_coder import CodedFrame, DecodedFrame, FrameCoder
from nvc.predictive.level import qp_lambda
from nvc.predictive.motion import VECTOR_BLOCK
from nvc.predictive.motion_search import search_motion
from nvc.predictive.network import KIND_INTER, KIND_INTRA, KIND_RESET, Memory, Planes
from nvc.predictive.vectors import decode_vectors, encode_vectors

PACK_BELOW = 600  # bytes of all layers under which a frame is one unit
_QP_MASK, _INTRA, _RESET = 63, 64, 128
_PACKED = 128
_TRIAL_PRICE = 2.5  # of an error where QPs are tried, in units of lambda (docs/predictive.md)


class SequenceEncoder:
    """Codes consecutive frames: keeps the memory, searches the motion, packs the payloads."""

    def __init__(self, coder: FrameCoder, *, pack: bool = True) -> None:
        self.coder = coder
        self.pack = pack
        self.sends = coder.network.config.reference == "sent"
        self.memory: Memory | None = None
        self.field: np.ndarray | None = None

    def psnr(self, planes: Planes, height: int, width: int) -> float:
        """PSNR in dB of the frame coded last, (6Y + U + V) / 8 of the visible part."""
        assert self.memory is not None
        errors = _errors(planes, self.memory.pictures[-1], (height, width))
        decibels = [-10 * math.log10(max(error, 1e-10)) for error in errors]
        return (6 * decibels[0] + decibels[1] + decibels[2]) / 8

    def encode(
        self,
        planes: Planes,
        qp: int,
        kind: int,
        *,
        worth: torch.Tensor | None = None,
        others: Sequence[int] = (),
    ) -> list[bytes | None]:
        """Payloads of the layers of one frame, None where there is nothing to write.

        worth: what an error of each place counts, (1, 1, H / 16, W / 16), 1 on average; others:
        QPs to try beside `qp`, of which the one is taken that costs least in bits and errors.
        """
        motion, vectors = b"", None
        if kind == KIND_INTRA:
            self.memory = self.field = None
        elif self.sends:
            motion, vectors = self._motion(planes, qp)
        coded = {
            tried: self.coder.encode(
                planes, tried, kind, memory=self.memory, vectors=vectors, worth=worth
            )
            for tried in {qp: None, **dict.fromkeys(others)}
        }
        taken = qp
        if len(coded) > 1:
            taken = min(coded, key=lambda tried: self._cost(coded[tried], planes, qp))
        self.memory = coded[taken].memory
        return self._payloads(coded[taken], taken, kind, motion)

    def _motion(self, planes: Planes, qp: int) -> tuple[bytes, torch.Tensor]:
        """Search the motion from the last coded picture: its bytes and its vectors."""
        assert self.memory is not None
        field = search_motion(
            _luma8(planes),
            _luma8(self.memory.pictures[-1]),
            previous=self.field,
            weight=motion_weight(qp),
        )
        rows, columns = vector_grid(self.coder.shown)
        self.field = _extended(field[:rows, :columns], field.shape[:2])
        return encode_vectors(field[:rows, :columns]), _as_tensor(self.field, self.coder.device)

    def _cost(self, coded: CodedFrame, planes: Planes, qp: int) -> float:
        """Bits a pixel and errors, these at the price of lambda of `qp`."""
        luma, *chroma = _errors(planes, coded.memory.pictures[-1], self.coder.shown)
        bits = 8 * sum(len(payload or b"") for payload in coded.layers)
        price = _TRIAL_PRICE * float(qp_lambda(torch.tensor(qp)))
        return bits / math.prod(self.coder.shown) + price * (6 * luma + sum(chroma)) / 8

    def _payloads(self, coded: CodedFrame, qp: int, kind: int, motion: bytes) -> list[bytes | None]:
        head = bytes([qp | (_INTRA * (kind == KIND_INTRA)) | (_RESET * (kind == KIND_RESET))])
        there = sum(1 << number for number, payload in enumerate(coded.layers) if payload)
        field = b"" if kind == KIND_INTRA or not self.sends else pack_varint(len(motion)) + motion
        parts = [payload for payload in coded.layers if payload]
        if self.pack and sum(map(len, parts)) < PACK_BELOW:
            sized = [pack_varint(len(part)) + part for part in parts[:-1]]
            body = b"".join((*sized, *parts[-1:]))
            return [head + bytes([there | _PACKED]) + field + body]
        base = head + bytes([there]) + field + (coded.layers[0] or b"")
        return [base, *(head + payload if payload else None for payload in coded.layers[1:])]


@dataclass
class _Base:
    """What the unit of layer 0 says: which layers hold symbols, the motion, symbols it carries."""

    there: int
    field: np.ndarray | None
    symbols: dict[int, bytes]


class SequenceDecoder:
    """Decodes consecutive frames from whatever units arrived.

    A layer can be read when its own unit and those of the coarser layers of the frame are there,
    and the statistics it needs of the past are whole (or not used: intra and reset frames). What
    cannot be read is concealed as nvc.predictive.conceal says.
    """

    def __init__(self, coder: FrameCoder) -> None:
        self.coder = coder
        config = coder.network.config
        self.sends = config.reference == "sent"
        self.count = len(config.levels)
        self.memory: Memory | None = None
        self.fields: list[np.ndarray | None] = [None, None]  # of the last frame, the one before
        self.whole = [False] * self.count
        self.damaged = False
        self.qp = QP_COUNT // 2

    def decode(self, number: int, parts: dict[int, bytes], layers: int | None) -> Planes:
        """Planes of frame `number` from the payloads of its layers that arrived."""
        count = self.count if layers is None else max(1, min(layers, self.count))
        try:
            qp, kind = self._head(parts)
            base = self._base(parts[0], kind) if 0 in parts else None
        except StreamError as error:
            raise StreamError(f"frame {number}: {error}") from error
        if base is None:
            self.damaged = True
            if self.memory is not None:
                kind = KIND_INTER
        if kind != KIND_INTRA and self.memory is None:
            kind = KIND_INTRA  # nothing to refer to: a stream entered in the middle
            base = None
        payloads = self._payloads(parts, base, kind, count)
        if kind == KIND_INTRA:
            decoded = self.coder.decode(payloads, qp, kind, layers=count)
            if self.memory is not None and None in payloads:
                decoded = self._with_detail(decoded, payloads.index(None), count)
        else:
            if self.sends:
                moved = carried_motion(*self.fields) if base is None else base.field
                self.fields = [moved, self.fields[0]]
            decoded = self.coder.decode(
                payloads,
                qp,
                kind,
                memory=self.memory,
                vectors=self._vectors(),
                layers=count,
            )
        for layer, (payload, used) in enumerate(zip(payloads, decoded.used, strict=False)):
            if payload is not None and not used and not self.damaged:
                raise StreamError(
                    f"frame {number}, layer {layer}: its symbols disagree with their checksum"
                )
        self.memory, self.qp = decoded.memory, qp
        self.whole = [*decoded.used, *([False] * (self.count - len(decoded.used)))]
        return decoded.picture

    def recall(self, frames: Iterable[dict[int, bytes]]) -> None:
        """Take over the motion of inter frames decoded elsewhere, should any be carried on.

        frames: the layers of each, in order.
        """
        for parts in frames:
            self.fields = [self._base(parts[0], KIND_INTER).field, self.fields[0]]

    def _vectors(self) -> torch.Tensor | None:
        field = self.fields[0]
        return None if field is None else _as_tensor(field, self.coder.device)

    def _with_detail(self, decoded: DecodedFrame, lost: int, count: int) -> DecodedFrame:
        """An intra frame of which the layers from `lost` on are missing, with older detail."""
        self.fields = [carried_motion(*self.fields), self.fields[0]]
        past = self.coder.decode(
            [None] * count,
            self.qp,
            KIND_INTER,
            memory=self.memory,
            vectors=self._vectors(),
            layers=count,
        )
        shrinks = [level.shrink for level in self.coder.network.config.levels[:count]]
        memory = detail_of_past(decoded.memory, past.memory, lost, shrinks)
        picture = enlarge_planes(memory.pictures[-1], shrinks[-1])
        return DecodedFrame(picture, memory, decoded.used)

    def _payloads(
        self, parts: dict[int, bytes], base: _Base | None, kind: int, count: int
    ) -> list[bytes | None]:
        """What of each layer can be read; None for lost, empty for nothing coded."""
        payloads: list[bytes | None] = []
        readable = base is not None
        for layer in range(count):
            payload: bytes | None = None
            if readable and base is not None and (kind != KIND_INTER or self.whole[layer]):
                if not base.there >> layer & 1:
                    payload = b""
                elif layer in base.symbols:
                    payload = base.symbols[layer]
                elif layer in parts:
                    payload = parts[layer][1:]
            readable = payload is not None
            self.damaged = self.damaged or not readable
            payloads.append(payload)
        return payloads

    def _head(self, parts: dict[int, bytes]) -> tuple[int, int]:
        if any(not part for part in parts.values()):
            raise StreamError("a layer without its first byte")
        if not parts:
            return self.qp, KIND_INTER
        head = parts[min(parts)][0]
        if head & _INTRA:
            return head & _QP_MASK, KIND_INTRA
        return head & _QP_MASK, KIND_RESET if head & _RESET else KIND_INTER

    def _base(self, payload: bytes, kind: int) -> _Base:
        if len(payload) < 2:
            raise StreamError("layer 0 is cut off")
        start, field = 2, None
        if kind != KIND_INTRA and self.sends:
            length, start = read_varint(payload, 2, len(payload), limit=len(payload))
            if start + length > len(payload):
                raise StreamError("the motion field is cut off")
            rows, columns = vector_grid(self.coder.shown)
            field = decode_vectors(payload[start : start + length], rows, columns)
            field = _extended(field, vector_grid(self.coder.size))
            start += length
        return _Base(payload[1] & ~_PACKED, field, _split(payload, start))


def starts_anew(parts: dict[int, bytes]) -> bool:
    """Whether these are the layers of an intra frame."""
    return bool(parts) and bool(parts[min(parts)][:1]) and bool(parts[min(parts)][0] & _INTRA)


def is_whole(parts: dict[int, bytes], layers: int | None) -> bool:
    """Whether all layers that hold symbols are there, of the coarsest `layers` of them."""
    base = parts.get(0, b"")
    if len(base) < 2:
        return False
    needed = range(7 if layers is None else layers)
    return bool(base[1] & _PACKED) or all(
        layer in parts for layer in needed if base[1] >> layer & 1
    )


def _split(payload: bytes, start: int) -> dict[int, bytes]:
    """Symbols by layer that the unit of layer 0 carries from `start` on."""
    if not payload[1] & _PACKED:
        return {0: payload[start:]}
    layers = [layer for layer in range(7) if payload[1] >> layer & 1]
    symbols: dict[int, bytes] = {}
    for layer in layers[:-1]:
        length, start = read_varint(payload, start, len(payload), limit=len(payload))
        if start + length > len(payload):
            raise StreamError("a packed layer is cut off")
        symbols[layer] = payload[start : start + length]
        start += length
    if layers:
        symbols[layers[-1]] = payload[start:]
    return symbols


def _errors(planes: Planes, coded: Planes, shown: tuple[int, int]) -> list[float]:
    """Mean squared error of the visible part of Y, U and V."""
    errors = []
    for number, (source, made) in enumerate(zip(planes, coded, strict=True)):
        rows, columns = (-(-side >> int(number > 0)) for side in shown)
        apart = (source - made)[..., :rows, :columns].float()
        errors.append(apart.square().mean().item())
    return errors


def motion_weight(qp: int) -> float:
    """Cost of a bit of motion in squared errors of 8-bit luma.

    From D + R / lambda with D in squared 8-bit levels, of which luma counts 6 / 8; the factor 0.7
    is measured (docs/predictive.md).
    """
    return 0.7 * 255**2 / (0.75 * float(qp_lambda(torch.tensor(qp))))


def vector_grid(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the vectors that cover a picture of this height and width."""
    return -(-size[0] // VECTOR_BLOCK), -(-size[1] // VECTOR_BLOCK)


def _extended(field: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Repeat the last row and column of a field out to the padded grid."""
    rows, columns = grid[0] - field.shape[0], grid[1] - field.shape[1]
    return np.pad(field, ((0, rows), (0, columns), (0, 0)), mode="edge")


def _luma8(planes: Planes) -> np.ndarray:
    """Y in [0,1] -> (H, W) uint8 on the CPU, for the motion search."""
    return planes[0][0, 0].float().mul(255).add_(0.5).clamp_(0, 255).to(torch.uint8).cpu().numpy()


def _as_tensor(field: np.ndarray, device: torch.device) -> torch.Tensor:
    """(rows, columns, 2) -> (1, 2, rows, columns)."""
    return torch.from_numpy(field).permute(2, 0, 1)[None].to(device)
