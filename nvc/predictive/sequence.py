"""Frames in coding order to payloads and back: references, motion, layers, and what loss leaves.

A frame refers to records of frames coded before it (records.py), which it names by their distance;
what a record holds does not depend on how many layers are sent beyond those it is read with. The
bytes are laid out in frame_units.py, the order of the frames is that of structure.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nvc.errors import StreamError
from nvc.nn.blocks import QP_COUNT
from nvc.nn.planes import enlarge_planes
from nvc.predictive.bidirectional import OLDER_WEIGHT, moved, search_older, search_pair
from nvc.predictive.conceal import carried_motion, detail_of_past
from nvc.predictive.contexts import vector_forms
from nvc.predictive.frame_coder import CodedFrame, DecodedFrame, FrameCoder
from nvc.predictive.frame_units import ReceivedFrame, pack_frame, read_frame
from nvc.predictive.level import qp_lambda
from nvc.predictive.motion_search import search_motion
from nvc.predictive.network import (
    KIND_BI,
    KIND_INTER,
    KIND_INTRA,
    KIND_RESET,
    Memory,
    Planes,
    Second,
)
from nvc.predictive.planes_io import to_levels
from nvc.predictive.records import (
    Field,
    Record,
    Records,
    bounded,
    direct,
    extended,
    onward,
    scaled,
    vector_grid,
)
from nvc.predictive.rounding import CHROMA_WORTH
from nvc.predictive.shares import (
    FIRST,
    SECOND,
    Shares,
    choose_shares,
    decode_shares,
    encode_shares,
    part_of_second,
    usual,
    uses,
)
from nvc.predictive.structure import Place
from nvc.predictive.vectors import Used, decode_vectors, encode_vectors

_REFERENCES = {KIND_INTRA: 0, KIND_INTER: 1, KIND_RESET: 1, KIND_BI: 2}
_OLDER_FORM = vector_forms(2)[1]  # of the field of a P frame into its older reference
_TRIAL_PRICE = 1.9  # of an error where QPs are tried, in units of lambda (docs/predictive.md)


@dataclass(frozen=True)
class _Motion:
    """What a frame refers to and how: fields on the padded grid, shares None for the usual."""

    near: Sequence[Record]
    fields: tuple[Field, ...]
    shares: Shares | None = None
    coded_shares: bytes | None = None
    coded: Sequence[bytes] = ()


class SequenceEncoder:
    """Codes frames in coding order: keeps the records, searches the motion, packs the payloads."""

    def __init__(self, coder: FrameCoder, *, pack: bool = True) -> None:
        self.coder = coder
        self.pack = pack
        self.sends = coder.network.config.reference == "sent"
        self.records = Records()
        self.memory: Memory | None = None  # of the frame coded last
        self.last: tuple[Field, int] | None = None  # motion of the last P frame, over how many

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
        place: Place,
        *,
        worth: torch.Tensor | None = None,
        others: Sequence[int] = (),
        start: Field | None = None,
        rounds: int = 1,
    ) -> list[bytes | None]:
        """Payloads of the layers of one frame, None where there is nothing to write.

        kind: KIND_INTRA, KIND_BI, or KIND_INTER or KIND_RESET of a P frame, as `place` has
        references; worth: what an error of each place counts, (1, 1, H / 16, W / 16), 1 on average;
        others: QPs to try beside `qp`, of which the one is taken that costs least in bits and
        errors; start: vectors of a P frame to try beside others, where something is known of its
        motion; rounds: times the pair of fields of a B frame is searched.
        """
        references = [self.records.get(number) for number in place.references]
        near = [record for record in references if record is not None]
        assert len(near) == len(references) == _REFERENCES[kind]
        if kind == KIND_INTRA:
            self.last = None
        motion = _Motion(near, (_still(vector_grid(self.coder.size)),) * len(near))
        if near and self.sends:
            luma, weight = _luma8(planes), motion_weight(qp)
            if kind == KIND_BI:
                motion = self._between(luma, weight, place.number, near, rounds)
            else:
                motion = self._behind(luma, weight, place, near[0], start)
        given = _given(
            motion.near, motion.fields, motion.shares, self.coder.device, between=kind == KIND_BI
        )
        coded = {
            tried: self.coder.encode(planes, tried, kind, worth=worth, **given)
            for tried in {qp: None, **dict.fromkeys(others)}
        }
        taken = qp
        if len(coded) > 1:
            taken = min(coded, key=lambda tried: self._cost(coded[tried], planes, qp))
        self.memory = coded[taken].memory
        numbers = tuple(record.number for record in motion.near)
        self.records.tidy(place.number, numbers)
        self.records.put(
            Record(
                number=place.number,
                memory=self.memory,
                references=numbers,
                fields=motion.fields,
            )
        )
        return pack_frame(
            coded[taken].layers,
            taken,
            kind,
            distances=[abs(place.number - number) for number in numbers],
            shares=motion.coded_shares,
            fields=motion.coded,
            pack=self.pack,
        )

    def _between(
        self,
        luma: NDArray[np.uint8],
        weight: float,
        number: int,
        near: Sequence[Record],
        rounds: int,
    ) -> _Motion:
        """Search the motion of a B frame and choose the shares of its references."""
        pictures = [_luma8(record.memory.pictures[-1]) for record in near]
        rows, columns = vector_grid(self.coder.shown)
        grid = vector_grid(self.coder.size)
        expected = direct(number, *near) or (_still(grid), _still(grid))
        pair = search_pair(luma, *pictures, expected, weight=weight, rounds=rounds)
        apart = [(a - b)[:rows, :columns] for a, b in zip(pair, expected, strict=True)]
        parts = [moved(*each) for each in zip(pictures, pair, strict=True)]
        shares, saved = self._shares(luma, parts, weight, between=True)
        coded = encode_shares(shares, between=True)
        if saved <= 8 * weight * (len(coded) + 1):
            payloads = self._motion_bytes(apart)
            return _Motion(near, _upon(expected, apart, grid), coded=payloads)
        # Vectors that are not used become others, so the fields come after.
        payloads = self._motion_bytes(apart, [uses(shares, FIRST), uses(shares, SECOND)])
        return _Motion(near, _upon(expected, apart, grid), shares, coded, payloads)

    def _behind(
        self,
        luma: NDArray[np.uint8],
        weight: float,
        place: Place,
        earlier: Record,
        start: Field | None,
    ) -> _Motion:
        """Search the motion of a P frame, and that into its older reference, if that pays."""
        picture = _luma8(earlier.memory.pictures[-1])
        rows, columns = vector_grid(self.coder.shown)
        grid = vector_grid(self.coder.size)
        frames = place.number - earlier.number
        if start is None and self.last is not None:
            start = scaled(self.last[0], frames, self.last[1])
        found = search_motion(luma, picture, previous=start, weight=weight)[:rows, :columns]
        field = extended(found, grid)
        self.last = field, frames
        alone = _Motion([earlier], (field,), coded=self._motion_bytes([found]))
        older = None if place.older is None else self.records.get(place.older)
        if older is None:
            return alone
        expected = onward(place.number, field, earlier, older)
        first = moved(picture, field)
        behind = _luma8(older.memory.pictures[-1])
        second = search_older(luma, first, behind, expected, weight=weight)
        weight *= OLDER_WEIGHT
        shares, saved = self._shares(luma, [first, moved(behind, second)], weight, between=False)
        coded = encode_shares(shares, between=False)
        apart = (second - expected)[:rows, :columns]
        # Not counted: what is known of this form is of B frames.
        model = self.coder.network.motion_contexts.model(_OLDER_FORM)
        payload = encode_vectors(apart, model, used=uses(shares, SECOND))
        if saved <= 8 * weight * (len(coded) + len(payload) + 3):
            return alone
        fields = (field, *_upon([expected], [apart], grid))
        return _Motion([earlier, older], fields, shares, coded, [*alone.coded, payload])

    def _shares(
        self,
        luma: NDArray[np.uint8],
        parts: Sequence[NDArray[np.float32]],
        weight: float,
        *,
        between: bool,
    ) -> tuple[Shares, float]:
        """choose_shares of the squares that are shown."""
        shares, saved = choose_shares(luma, *parts, weight=weight, between=between)
        rows, columns = _squares(vector_grid(self.coder.shown))
        return shares[:rows, :columns], saved

    def _motion_bytes(
        self, apart: Sequence[Field], used: Sequence[Used | None] = (None, None)
    ) -> list[bytes]:
        """Payloads of the differences of one field or of a pair."""
        contexts, counts = self.coder.network.motion_contexts, self.coder.counts
        return [
            encode_vectors(
                field,
                contexts.model(form),
                first=apart[0] if place else None,
                counts=None if counts is None else counts.of_vectors(form),
                used=used[place],
            )
            for place, (field, form) in enumerate(zip(apart, vector_forms(len(apart)), strict=True))
        ]

    def _cost(self, coded: CodedFrame, planes: Planes, qp: int) -> float:
        """Bits a pixel and errors, these at the price of lambda of `qp`."""
        luma, *chroma = _errors(planes, coded.memory.pictures[-1], self.coder.shown)
        bits = 8 * sum(len(payload or b"") for payload in coded.layers)
        price = _TRIAL_PRICE * float(qp_lambda(torch.tensor(qp)))
        return (
            bits / math.prod(self.coder.shown) + price * (6 * luma + CHROMA_WORTH * sum(chroma)) / 8
        )


class SequenceDecoder:
    """Decodes frames in coding order from whatever units arrived.

    A layer can be read when its own unit and those of the coarser layers of the frame are there,
    and it is whole in the references whose statistics it needs (none: intra and reset frames). What
    cannot be read is concealed as nvc.predictive.conceal says. layers: decode so many of the
    coarsest, None for all.
    """

    def __init__(self, coder: FrameCoder, *, layers: int | None = None) -> None:
        self.coder = coder
        config = coder.network.config
        self.sends = config.reference == "sent"
        levels = len(config.levels)
        self.count = levels if layers is None else max(1, min(layers, levels))
        self.grid = vector_grid(coder.size)
        self.records = Records()
        self.memory: Memory | None = None  # of the frame decoded last
        self.motion: list[tuple[Field, int]] = []  # of the last P frame and the one before
        self.damaged = False
        self.qp = QP_COUNT // 2

    def read(self, number: int, parts: dict[int, bytes]) -> ReceivedFrame:
        """What the payloads that arrived of a frame say. Raises StreamError."""
        return read_frame(number, parts, sends=self.sends)

    def decode(self, frame: ReceivedFrame) -> Planes:
        """Planes of a frame, whose references must be kept still. Raises StreamError."""
        if not frame.base:
            self.qp = self.qp if frame.qp is None else frame.qp
            picture = self.conceal(frame.number)
            if frame.kind == KIND_INTRA:
                self.records.forget_before(frame.number)
            return picture
        near = self._references(frame)
        try:
            shares = self._shares(frame)
            fields = self._fields(frame, near, shares)
        except StreamError as error:
            raise StreamError(f"frame {frame.number}: {error}") from error
        assert frame.qp is not None and frame.kind is not None
        payloads = self._payloads(frame, near)
        between = frame.kind == KIND_BI
        given = _given(near, fields, shares, self.coder.device, between=between)
        decoded = self.coder.decode(payloads, frame.qp, frame.kind, layers=self.count, **given)
        if frame.kind == KIND_INTRA and None in payloads and len(self.records):
            decoded = self._with_detail(frame.number, decoded, payloads.index(None))
        for layer, (payload, used) in enumerate(zip(payloads, decoded.used, strict=True)):
            if payload is not None and not used and not self.damaged:
                raise StreamError(
                    f"frame {frame.number}, layer {layer}: its symbols disagree with their checksum"
                )
        if near and not between:
            self._carry(fields[0], frame.number - near[0].number)
        self.qp = frame.qp
        self.records.tidy(frame.number, frame.references)
        self._keep(frame.number, decoded, frame.references, fields)
        return decoded.picture

    def conceal(self, number: int) -> Planes:
        """Planes of a frame of which nothing can be read, from the frames around it."""
        self.damaged = True
        near = self._near(number)
        decoded, fields = self._predicted(number, near)
        if len(near) == 1:
            self._carry(fields[0], number - near[0].number)
        self._keep(number, decoded, tuple(record.number for record in near), fields)
        return decoded.picture

    def recall(self, frames: Iterable[ReceivedFrame]) -> None:
        """Take over the motion of P frames decoded elsewhere, should any be carried on."""
        for frame in frames:
            if frame.base and frame.fields and frame.kind != KIND_BI:
                field = self._coded_field(frame, 0, vector_forms(1)[0])
                self._carry(field, frame.number - frame.references[0])

    def _predicted(
        self, number: int, near: Sequence[Record]
    ) -> tuple[DecodedFrame, tuple[Field, ...]]:
        """A frame without symbols: between two others, from one alone, or grey."""
        kind = (KIND_INTRA, KIND_INTER, KIND_BI)[len(near)]
        fields = (_still(self.grid),) * len(near)
        if len(near) == 2:
            fields = direct(number, *near) or fields
        elif near and self.motion:
            frames = number - near[0].number
            fields = (carried_motion(*(scaled(field, frames, of) for field, of in self.motion)),)
        given = _given(near, fields, None, self.coder.device, between=len(near) == 2)
        empty: list[bytes | None] = [None] * self.count
        return self.coder.decode(empty, self.qp, kind, layers=self.count, **given), fields

    def _with_detail(self, number: int, decoded: DecodedFrame, lost: int) -> DecodedFrame:
        """An intra frame of which the layers from `lost` on are missing, with older detail."""
        near = self._near(number)
        past, fields = self._predicted(number, near)
        self._carry(fields[0], number - near[0].number)
        shrinks = [level.shrink for level in self.coder.network.config.levels[: self.count]]
        memory = detail_of_past(decoded.memory, past.memory, lost, shrinks)
        picture = enlarge_planes(memory.pictures[-1], shrinks[-1])
        return DecodedFrame(picture, memory, decoded.used)

    def _near(self, number: int) -> list[Record]:
        """The frames around one; only one of them for a network that sends no motion."""
        near = [record for record in self.records.around(number) if record is not None]
        return near if self.sends else near[:1]

    def _references(self, frame: ReceivedFrame) -> list[Record]:
        near = []
        for number in frame.references:
            record = self.records.get(number)
            if record is None:
                raise StreamError(
                    f"frame {frame.number}: it refers to frame {number}, which is kept no more"
                )
            near.append(record)
        return near

    def _shares(self, frame: ReceivedFrame) -> Shares | None:
        """Shares of the references, None for the usual."""
        if len(frame.references) < 2:
            return None
        squares, between = _squares(vector_grid(self.coder.shown)), frame.kind == KIND_BI
        if frame.shares is not None:
            return decode_shares(frame.shares, *squares, between=between)
        return None if between else np.full(squares, usual(between), np.uint8)

    def _fields(
        self, frame: ReceivedFrame, near: Sequence[Record], shares: Shares | None
    ) -> tuple[Field, ...]:
        """Motion into each reference, on the padded grid."""
        if not self.sends:
            return (_still(self.grid),) * len(near)
        if not near:
            return ()
        forms = vector_forms(len(near))
        used: list[Used | None] = [None, None]
        if shares is not None:
            used = [uses(shares, FIRST), uses(shares, SECOND)]
        if frame.kind == KIND_BI:
            first = self._coded_field(frame, 0, forms[0], used=used[0])
            apart = (first, self._coded_field(frame, 1, forms[1], used=used[1], first=first))
            expected = direct(frame.number, *near)
            return apart if expected is None else _upon(expected, apart, self.grid)
        field = self._coded_field(frame, 0, vector_forms(1)[0])
        if len(near) == 1:
            return (field,)
        apart = (self._coded_field(frame, 1, _OLDER_FORM, used=used[1]),)
        return (field, *_upon([onward(frame.number, field, *near)], apart, self.grid))

    def _coded_field(
        self,
        frame: ReceivedFrame,
        place: int,
        form: int,
        *,
        used: Used | None = None,
        first: Field | None = None,
    ) -> Field:
        """What was sent of the motion into one reference, on the padded grid."""
        shown, contexts = vector_grid(self.coder.shown), self.coder.network.motion_contexts
        if first is not None:
            first = first[: shown[0], : shown[1]]
        found = decode_vectors(
            frame.fields[place], *shown, contexts.model(form), first=first, used=used
        )
        return extended(found, self.grid)

    def _payloads(self, frame: ReceivedFrame, near: Sequence[Record]) -> list[bytes | None]:
        """What of each layer can be read; None for lost, empty for nothing coded."""
        payloads: list[bytes | None] = []
        if frame.kind != KIND_BI:
            near = near[:1]  # the scale path reads no older one
        for layer in range(self.count):
            payload = frame.symbols.get(layer)
            known = frame.kind == KIND_RESET or all(record.whole[layer] for record in near)
            if not known or (payloads and payloads[-1] is None):
                payload = None
            self.damaged = self.damaged or payload is None
            payloads.append(payload)
        return payloads

    def _carry(self, field: Field, frames: int) -> None:
        self.motion = [(field, frames), *self.motion[:1]]

    def _keep(
        self,
        number: int,
        decoded: DecodedFrame,
        references: tuple[int, ...],
        fields: tuple[Field, ...],
    ) -> None:
        self.memory = decoded.memory
        self.records.put(
            Record(
                number=number,
                memory=decoded.memory,
                references=references,
                fields=fields,
                whole=tuple(decoded.used),
            )
        )


def motion_weight(qp: int) -> float:
    """Cost of a bit of motion in squared errors of 8-bit luma.

    From D + R / lambda with D in squared 8-bit levels, of which luma counts 6 / 8; the factor 0.7
    is measured (docs/predictive.md).
    """
    return 0.7 * 255**2 / (0.75 * float(qp_lambda(torch.tensor(qp))))


def _given(
    near: Sequence[Record],
    fields: Sequence[Field],
    shares: Shares | None,
    device: torch.device,
    *,
    between: bool,
) -> dict[str, Any]:
    """What the network is given of the references of a frame, as keywords of FrameCoder."""
    if not near:
        return {}
    vectors = [_as_tensor(field, device) for field in fields]
    given: dict[str, Any] = {"memory": near[0].memory, "vectors": vectors[0]}
    if len(near) == 1:
        return given
    share = None
    if shares is not None:
        grid = _squares(fields[0].shape[:2])
        apart = [(0, whole - part) for whole, part in zip(grid, shares.shape, strict=True)]
        part = part_of_second(np.pad(shares, apart, mode="edge"))
        share = torch.from_numpy(part)[None, None].to(device)
    return given | {"second": Second(near[1].memory, vectors[1], share, told=between)}


def _squares(grid: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of squares of 2x2 vectors."""
    return -(-grid[0] // 2), -(-grid[1] // 2)


def _upon(
    expected: Sequence[Field], apart: Sequence[Field], grid: tuple[int, int]
) -> tuple[Field, ...]:
    """Fields from what is expected of them and the differences that are sent."""
    return tuple(
        bounded(field + extended(part, grid)) for field, part in zip(expected, apart, strict=True)
    )


def _still(grid: tuple[int, int]) -> Field:
    return np.zeros((*grid, 2), np.int32)


def _errors(planes: Planes, coded: Planes, shown: tuple[int, int]) -> list[float]:
    """Mean squared error of the visible part of Y, U and V."""
    errors = []
    for number, (source, made) in enumerate(zip(planes, coded, strict=True)):
        rows, columns = (-(-side >> int(number > 0)) for side in shown)
        apart = (source - made)[..., :rows, :columns].float()
        errors.append(apart.square().mean().item())
    return errors


def _luma8(planes: Planes) -> np.ndarray:
    """Y in [0,1] -> (H, W) uint8 on the CPU, for the motion search."""
    return to_levels(planes[0][0, 0], 255).cpu().numpy()


def _as_tensor(field: Field, device: torch.device) -> torch.Tensor:
    """(rows, columns, 2) -> (1, 2, rows, columns)."""
    return torch.from_numpy(field).permute(2, 0, 1)[None].to(device)
