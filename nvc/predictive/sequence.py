"""Frames in coding order to payloads and back: references, motion, layers, and what loss leaves.

A frame refers to records of frames coded before it (records.py), which it names by their distance;
what a record holds does not depend on how many layers are sent beyond those it is read with. The
bytes are laid out in frame_units.py, the order of the frames is that of structure.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from nvc.errors import StreamError
from nvc.nn.blocks import QP_COUNT
from nvc.nn.planes import enlarge_planes
from nvc.predictive.conceal import carried_motion, detail_of_past
from nvc.predictive.frame_coder import CodedFrame, DecodedFrame, FrameCoder
from nvc.predictive.frame_motion import Motion, MotionReader, MotionWriter, still
from nvc.predictive.frame_units import ReceivedFrame, pack_frame, read_frame
from nvc.predictive.level import qp_lambda
from nvc.predictive.network import (
    KIND_BI,
    KIND_INTER,
    KIND_INTRA,
    KIND_RESET,
    Memory,
    Planes,
)
from nvc.predictive.records import (
    Field,
    Record,
    Records,
    direct,
    scaled,
    vector_grid,
)
from nvc.predictive.rounding import CHROMA_WORTH
from nvc.predictive.structure import Place

_REFERENCES = {KIND_INTRA: 0, KIND_INTER: 1, KIND_RESET: 1, KIND_BI: 2}
_TRIAL_PRICE = 1.9  # of an error where QPs are tried, in units of lambda (docs/predictive.md)


class SequenceEncoder:
    """Codes frames in coding order: keeps the records, searches the motion, packs the payloads."""

    def __init__(self, coder: FrameCoder, *, pack: bool = True) -> None:
        self.coder = coder
        self.pack = pack
        self.sends = coder.network.config.reference == "sent"
        self.records = Records()
        self.memory: Memory | None = None  # of the frame coded last
        self.motion = MotionWriter(coder, self.records)

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
        if not near:
            self.motion.restart()
        motion = Motion(near, (still(vector_grid(self.coder.size)),) * len(near))
        if near and self.sends:
            if kind == KIND_BI:
                motion = self.motion.between(planes, qp, place.number, near, rounds=rounds)
            else:
                motion = self.motion.behind(planes, qp, place, near[0], start=start)
        given = motion.given(self.coder.device, between=kind == KIND_BI)
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
            distances=[number - place.number for number in numbers],
            shares=motion.coded_shares,
            fields=self.motion.payloads(motion, taken),
            tuning=coded[taken].tuning,
            pack=self.pack,
        )

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
        self.reader = MotionReader(coder)
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
        motion = Motion(near, (still(self.grid),) * len(near))
        assert frame.qp is not None and frame.kind is not None
        between = frame.kind == KIND_BI
        try:
            if near and self.sends:
                motion = self.reader.read(frame, near)
            payloads = self._payloads(frame, near)
            given = motion.given(self.coder.device, between=between)
            decoded = self.coder.decode(
                payloads, frame.qp, frame.kind, layers=self.count, tuning=frame.tuning, **given
            )
        except StreamError as error:
            raise StreamError(f"frame {frame.number}: {error}") from error
        if frame.kind == KIND_INTRA and None in payloads and len(self.records):
            decoded = self._with_detail(frame.number, decoded, payloads.index(None))
        for layer, (payload, used) in enumerate(zip(payloads, decoded.used, strict=True)):
            if payload is not None and not used and not self.damaged:
                raise StreamError(
                    f"frame {frame.number}, layer {layer}: its symbols disagree with their checksum"
                )
        if near and not between:
            self._carry(motion.fields[0], frame.number - near[0].number)
        self.qp = frame.qp
        self.records.tidy(frame.number, frame.references)
        self._keep(frame.number, decoded, frame.references, motion.fields)
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
                self._carry(self.reader.nearest(frame), frame.number - frame.references[0])

    def _predicted(
        self, number: int, near: Sequence[Record]
    ) -> tuple[DecodedFrame, tuple[Field, ...]]:
        """A frame without symbols: between two others, from one alone, or grey."""
        kind = (KIND_INTRA, KIND_INTER, KIND_BI)[len(near)]
        fields = (still(self.grid),) * len(near)
        if len(near) == 2:
            fields = direct(number, *near) or fields
        elif near and self.motion:
            frames = number - near[0].number
            fields = (carried_motion(*(scaled(field, frames, of) for field, of in self.motion)),)
        given = Motion(near, fields).given(self.coder.device, between=len(near) == 2)
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


def _errors(planes: Planes, coded: Planes, shown: tuple[int, int]) -> list[float]:
    """Mean squared error of the visible part of Y, U and V."""
    errors = []
    for number, (source, made) in enumerate(zip(planes, coded, strict=True)):
        rows, columns = (-(-side >> int(number > 0)) for side in shown)
        apart = (source - made)[..., :rows, :columns].float()
        errors.append(apart.square().mean().item())
    return errors
