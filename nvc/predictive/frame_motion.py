"""Motion of one frame: what it refers to and how, searched and written, read again.

A P frame refers to the anchor before it, and where that pays to the one before as well; a B frame
to one on either side. Of two references shares say which predicts a square (shares.py); vectors
that no square uses are not sent. Fields lie on the padded grid, what is sent covers the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nvc.predictive.bidirectional import OLDER_WEIGHT, moved, search_older, search_pair
from nvc.predictive.contexts import VectorForm, vector_row
from nvc.predictive.frame_coder import FrameCoder
from nvc.predictive.frame_units import ReceivedFrame
from nvc.predictive.level import qp_lambda
from nvc.predictive.motion_units import search_units
from nvc.predictive.network import KIND_BI, Planes, Second
from nvc.predictive.planes_io import luma8
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
from nvc.predictive.shares import (
    FIRST,
    SECOND,
    Shares,
    choose_shares,
    decode_shares,
    encode_shares,
    part_of_second,
    uses,
    usual,
)
from nvc.predictive.structure import Place
from nvc.predictive.vector_rates import code_lengths
from nvc.predictive.vectors import MAX_VECTOR, Used, decode_vectors, encode_vectors

_PAIR = (VectorForm.FIRST, VectorForm.SECOND)
_OLDER_BYTES = 3  # that a second reference of a P frame takes beside shares and vectors


@dataclass(frozen=True)
class SentField:
    """What is sent of a field: differences from what is expected of it, where squares use them."""

    apart: Field
    form: VectorForm
    used: Used | None = None


@dataclass(frozen=True)
class Motion:
    """What a frame refers to and how.

    fields: into each of `near`; shares: of squares, None for what is usual of a B frame, and as
    they are sent; sent: what is sent of the fields, in units of so many quarter samples.
    """

    near: Sequence[Record] = ()
    fields: tuple[Field, ...] = ()
    shares: Shares | None = None
    coded_shares: bytes | None = None
    sent: Sequence[SentField] = ()
    unit: int = 1

    def given(self, device: torch.device, *, between: bool) -> dict[str, Any]:
        """What the network is given of the references, as keywords of FrameCoder.

        between: whether this is a B frame.
        """
        if not self.near:
            return {}
        vectors = [_as_tensor(field, device) for field in self.fields]
        given: dict[str, Any] = {"memory": self.near[0].memory, "vectors": vectors[0]}
        if len(self.near) == 1:
            return given
        share = None
        if self.shares is not None:
            grid = _squares(self.fields[0].shape[:2])
            sides = zip(grid, self.shares.shape, strict=True)
            whole = np.pad(self.shares, [(0, all_ - shown) for all_, shown in sides], mode="edge")
            share = torch.from_numpy(part_of_second(whole))[None, None].to(device)
        return given | {"second": Second(self.near[1].memory, vectors[1], share, told=between)}


class MotionWriter:
    """Searches the motion of frames in coding order and writes it."""

    def __init__(self, coder: FrameCoder, records: Records) -> None:
        self.coder, self.records = coder, records
        self.restart()

    def restart(self) -> None:
        """Forget the frames before, as a GOP does."""
        self.last: tuple[Field, int] | None = None  # of the last P frame, over how many
        self.unit = 1  # of its vectors, in quarter samples

    def between(
        self,
        planes: Planes,
        qp: int,
        number: int,
        near: Sequence[Record],
        *,
        rounds: int = 1,
    ) -> Motion:
        """Of a B frame: search the pair of fields `rounds` times, then choose the shares."""
        luma, weight = luma8(planes), motion_weight(qp)
        pictures = [luma8(record.memory.pictures[-1]) for record in near]
        rows, columns = vector_grid(self.coder.shown)
        grid = vector_grid(self.coder.size)
        expected = direct(number, *near) or (still(grid), still(grid))
        costs = [self._costs(form, qp) for form in _PAIR]
        pair = search_pair(
            luma,
            *pictures,
            expected,
            weight=weight,
            rounds=rounds,
            costs=costs,
            unit=self.unit,
        )
        apart = [(a - b)[:rows, :columns] for a, b in zip(pair, expected, strict=True)]
        parts = [moved(*each) for each in zip(pictures, pair, strict=True)]
        shares, saved = self._shares(luma, parts, weight, between=True)
        coded = encode_shares(shares, between=True)
        if saved <= 8 * weight * (len(coded) + 1):
            sent = [SentField(*each) for each in zip(apart, _PAIR, strict=True)]
            return Motion(near, _upon(expected, apart, grid), sent=sent, unit=self.unit)
        used = uses(shares, FIRST), uses(shares, SECOND)
        sent = [SentField(*each) for each in zip(apart, _PAIR, used, strict=True)]
        # Vectors that are not used become others, so the fields come after.
        motion = Motion((), (), shares, coded, sent, self.unit)
        self.payloads(motion, qp, count=False)
        return replace(motion, near=near, fields=_upon(expected, apart, grid))

    def behind(
        self,
        planes: Planes,
        qp: int,
        place: Place,
        earlier: Record,
        *,
        start: Field | None = None,
    ) -> Motion:
        """Of a P frame: search its field, from `start` on, and that into its older reference."""
        luma, weight = luma8(planes), motion_weight(qp)
        picture = luma8(earlier.memory.pictures[-1])
        rows, columns = vector_grid(self.coder.shown)
        grid = vector_grid(self.coder.size)
        frames = place.number - earlier.number
        if start is None and self.last is not None:
            start = scaled(self.last[0], frames, self.last[1])
        costs = self._costs(VectorForm.NEARER, qp)
        whole, self.unit = search_units(luma, picture, previous=start, weight=weight, costs=costs)
        found = whole[:rows, :columns]
        field = extended(found, grid)
        self.last = field, frames
        nearest = SentField(found, VectorForm.NEARER)
        alone = Motion([earlier], (field,), sent=[nearest], unit=self.unit)
        older = None if place.older is None else self.records.get(place.older)
        if older is None:
            return alone
        expected = onward(place.number, field, earlier, older)
        first = moved(picture, field)
        behind = luma8(older.memory.pictures[-1])
        costs = self._costs(VectorForm.OLDER, qp)
        second = search_older(
            luma, first, behind, expected, weight=weight, costs=costs, unit=self.unit
        )
        weight *= OLDER_WEIGHT
        shares, saved = self._shares(luma, [first, moved(behind, second)], weight, between=False)
        coded = encode_shares(shares, between=False)
        apart = (second - expected)[:rows, :columns]
        if np.abs(apart).max() > MAX_VECTOR:  # expected far outside of the picture
            return alone
        sent = [nearest, SentField(apart, VectorForm.OLDER, uses(shares, SECOND))]
        motion = Motion([earlier, older], (), shares, coded, sent, self.unit)
        spent = len(coded) + len(self.payloads(motion, qp, count=False)[1])
        if saved <= 8 * weight * (spent + _OLDER_BYTES):
            return alone
        return replace(motion, fields=(field, *_upon([expected], [apart], grid)))

    def payloads(self, motion: Motion, qp: int, *, count: bool = True) -> list[bytes]:
        """The fields as they are sent in a frame of this QP; vectors not used are set in `apart`.

        count: whether they are counted, where contexts are.
        """
        counts = self.coder.counts if count else None
        payloads = []
        for field in motion.sent:
            row = vector_row(field.form, qp)
            payload = encode_vectors(
                field.apart,
                self.coder.network.motion_contexts.model(row),
                first=motion.sent[0].apart if field.form is VectorForm.SECOND else None,
                counts=None if counts is None else counts.of_vectors(row),
                used=field.used,
                unit=motion.unit,
            )
            payloads.append(payload)
        return payloads

    def _costs(self, form: VectorForm, qp: int) -> NDArray[np.float32]:
        """Bits of the decisions of a field of this form."""
        return code_lengths(self.coder.network.motion_contexts.model(vector_row(form, qp)))

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


class MotionReader:
    """Reads what MotionWriter wrote."""

    def __init__(self, coder: FrameCoder) -> None:
        self.coder = coder
        self.grid = vector_grid(coder.size)

    def read(self, frame: ReceivedFrame, near: Sequence[Record]) -> Motion:
        """Motion of a frame whose references are `near`. Raises StreamError on damaged bytes."""
        shares = self._shares(frame)
        return Motion(near, self._fields(frame, near, shares), shares)

    def nearest(self, frame: ReceivedFrame) -> Field:
        """The field of a P frame into its nearer reference, which nothing else is needed for."""
        return self._coded_field(frame, 0, VectorForm.NEARER)

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
        if not near:
            return ()
        used: list[Used | None] = [None, None]
        if shares is not None:
            used = [uses(shares, FIRST), uses(shares, SECOND)]
        if frame.kind == KIND_BI:
            first = self._coded_field(frame, 0, VectorForm.FIRST, used=used[0])
            second = self._coded_field(frame, 1, VectorForm.SECOND, used=used[1], first=first)
            apart = (first, second)
            expected = direct(frame.number, *near)
            return apart if expected is None else _upon(expected, apart, self.grid)
        field = self.nearest(frame)
        if len(near) == 1:
            return (field,)
        apart = (self._coded_field(frame, 1, VectorForm.OLDER, used=used[1]),)
        return (field, *_upon([onward(frame.number, field, *near)], apart, self.grid))

    def _coded_field(
        self,
        frame: ReceivedFrame,
        place: int,
        form: VectorForm,
        *,
        used: Used | None = None,
        first: Field | None = None,
    ) -> Field:
        """What was sent of the motion into one reference, on the padded grid."""
        shown, contexts = vector_grid(self.coder.shown), self.coder.network.motion_contexts
        if first is not None:
            first = first[: shown[0], : shown[1]]
        assert frame.qp is not None
        model = contexts.model(vector_row(form, frame.qp))
        found = decode_vectors(frame.fields[place], *shown, model, first=first, used=used)
        return extended(found, self.grid)


def motion_weight(qp: int) -> float:
    """Cost of a bit of motion in squared errors of 8-bit luma.

    From D + R / lambda with D in squared 8-bit levels, of which luma counts 6 / 8; the factor 0.7
    is measured (docs/predictive.md).
    """
    return 0.7 * 255**2 / (0.75 * float(qp_lambda(torch.tensor(qp))))


def _upon(
    expected: Sequence[Field], apart: Sequence[Field], grid: tuple[int, int]
) -> tuple[Field, ...]:
    """Fields from what is expected of them and the differences that are sent."""
    return tuple(
        bounded(field + extended(part, grid)) for field, part in zip(expected, apart, strict=True)
    )


def still(grid: tuple[int, int]) -> Field:
    return np.zeros((*grid, 2), np.int32)


def _squares(grid: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of squares of 2x2 vectors."""
    return -(-grid[0] // 2), -(-grid[1] // 2)


def _as_tensor(field: Field, device: torch.device) -> torch.Tensor:
    """(rows, columns, 2) -> (1, 2, rows, columns)."""
    return torch.from_numpy(field).permute(2, 0, 1)[None].to(device)
