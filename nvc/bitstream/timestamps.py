"""Presentation times: TIMESTAMPS units and their lookup (docs/bitstream.md, section 5).

A frame whose time is what the header's constant rate predicts costs nothing. Others are stored as
differences from the prediction, one unit for a run of frames, ahead of those frames.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from nvc.bitstream.bits import (
    MAX_NUMBER_BITS,
    BitReader,
    BitWriter,
    pack_varint,
    read_varint,
    unzigzag,
    zigzag,
)
from nvc.bitstream.header import StreamHeader
from nvc.errors import StreamError

_MAX_ORDER = 40


def pack_timestamps(header: StreamHeader, frame_start: int, pts: Sequence[int]) -> bytes:
    """Payload of a TIMESTAMPS unit for the frames from `frame_start` on; pts in time_base units."""
    limit = header.pts_limit
    for value in pts:
        if not -limit <= value <= limit:
            raise ValueError(f"a timestamp must be within {limit} ticks of zero, not {value}")
    errors = [value - header.predicted_pts(frame_start + i) for i, value in enumerate(pts)]
    payload = pack_varint(zigzag(errors[0]))
    if len(errors) == 1:
        return payload
    codes = [zigzag(after - before) for before, after in pairwise(errors)]
    if max(codes) >= 1 << MAX_NUMBER_BITS:
        raise ValueError("two timestamps in a row are too far apart")
    # The best order lies near the logarithm of the mean; trying all 41 would be slow.
    near = (sum(codes) // len(codes)).bit_length()
    orders = range(max(0, min(near, _MAX_ORDER) - 3), min(near + 1, _MAX_ORDER) + 1)
    order = min(orders, key=lambda k: _code_bits(codes, k))
    bits = BitWriter()
    for code in codes:
        bits.exp_golomb(code, order)
    return payload + bytes((order,)) + bits.to_bytes()


def _code_bits(codes: Sequence[int], order: int) -> int:
    return sum(2 * (code + (1 << order)).bit_length() - 1 - order for code in codes)


def parse_timestamps(
    header: StreamHeader, frame_start: int, frame_count: int, payload: bytes
) -> array[int]:
    """Times of the frames of a TIMESTAMPS unit; StreamError when the payload cannot be meant."""
    # Every frame takes a bit at least, so a count that lies is known before anything is made.
    if not 1 <= frame_count <= 1 + 8 * len(payload):
        raise StreamError(f"a TIMESTAMPS unit of {len(payload)} bytes claims {frame_count} frames")
    code, position = read_varint(payload, 0, len(payload))
    errors = [unzigzag(code)]
    if frame_count > 1:
        if position >= len(payload) or payload[position] > _MAX_ORDER:
            raise StreamError("a TIMESTAMPS unit is damaged")
        order = payload[position]
        bits = BitReader(memoryview(payload)[position + 1 :])
        for _ in range(frame_count - 1):
            errors.append(errors[-1] + unzigzag(bits.exp_golomb(order)))
        bits.finish()
    elif position != len(payload):
        raise StreamError("a TIMESTAMPS unit is damaged")
    pts = [header.predicted_pts(frame_start + i) + error for i, error in enumerate(errors)]
    if max(pts) > header.pts_limit or min(pts) < -header.pts_limit:
        raise StreamError("a TIMESTAMPS unit holds a time out of range")
    return array("q", pts)


class Timestamps:
    """Time of each frame of one track: `timestamps[frame]`, in units of the header's time_base.

    Frames of which no TIMESTAMPS unit is known have the time that the constant rate predicts.
    """

    def __init__(self, header: StreamHeader) -> None:
        self._header = header
        self._starts: list[int] = []
        self._runs: list[array[int]] = []

    def add(self, frame_start: int, pts: array[int]) -> None:
        """Take in the times of a run of frames; a run with the same start is replaced."""
        place = bisect_right(self._starts, frame_start)
        if place and self._starts[place - 1] == frame_start:
            self._runs[place - 1] = pts
        else:
            self._starts.insert(place, frame_start)
            self._runs.insert(place, pts)

    def __getitem__(self, frame: int) -> int:
        place = bisect_right(self._starts, frame) - 1
        if place >= 0 and frame - self._starts[place] < len(self._runs[place]):
            return self._runs[place][frame - self._starts[place]]
        pts = self._header.predicted_pts(frame)
        if not -self._header.pts_limit <= pts <= self._header.pts_limit:
            raise StreamError(f"the header's rate puts frame {frame} at a time out of range")
        return pts

    @property
    def constant_rate(self) -> bool:
        """True while no frame is known to deviate from the constant rate."""
        return not self._starts


class PendingTimestamps:
    """Times of one track that the writer has been told and has not yet had to write."""

    def __init__(self, header: StreamHeader) -> None:
        self._header = header
        self._first = 0
        self._pts: list[int] = []
        self.deviating = False

    def add(self, pts: int) -> None:
        """The time of the next frame."""
        frame = self._first + len(self._pts)
        self._pts.append(pts)
        self.deviating = self.deviating or pts != self._header.predicted_pts(frame)

    def take(self, before: int | None = None) -> tuple[int, list[int]]:
        """(first frame, times) to be written for the frames under `before` (None: all told)."""
        count = len(self._pts) if before is None else max(0, before - self._first)
        taken, self._pts = self._pts[:count], self._pts[count:]
        start = self._first
        self._first += len(taken)
        predicted = self._header.predicted_pts
        self.deviating = self.deviating and any(
            pts != predicted(self._first + i) for i, pts in enumerate(self._pts)
        )
        low, high = 0, len(taken)
        while low < high and taken[low] == predicted(start + low):
            low += 1
        while high > low and taken[high - 1] == predicted(start + high - 1):
            high -= 1
        return start + low, taken[low:high]
