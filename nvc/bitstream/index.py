"""The INDEX and END units: where a stream can be entered (docs/bitstream.md, section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nvc.bitstream.bits import pack_varint, read_varint, unzigzag, zigzag
from nvc.bitstream.header import MAX_FRAMES
from nvc.bitstream.units import FRAME_TYPES, MAX_RANGE, MAX_TRACK, MAX_TYPE, UnitHead, UnitType
from nvc.errors import StreamError

# Dense key frames are listed at this distance at most often, so that an all-intra stream keeps its
# index small; the reader walks from the entry before to the key it wants.
SPACING = 8

_ALWAYS = frozenset((UnitType.CONFIG, UnitType.TIMESTAMPS, UnitType.AUDIO))
_KEY = 64
_TRACK = 128
_MIN_ENTRY_SIZE = 4
_MAX_OFFSET = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A unit worth finding: its byte offset from the start of the file, type and frame range."""

    offset: int
    type: int
    frame_start: int
    frame_count: int
    key: bool
    track: int

    @classmethod
    def of(cls, offset: int, head: UnitHead) -> IndexEntry:
        """The entry of a unit."""
        return cls(offset, head.type, head.frame_start, head.frame_count, head.key, head.track)

    def agrees(self, head: UnitHead) -> bool:
        """Whether the unit found at the offset is the one that was listed."""
        return IndexEntry.of(self.offset, head) == self


class IndexBuilder:
    """Chooses, while units are written or scanned, which of them go into the index."""

    def __init__(self, spacing: int = SPACING) -> None:
        self.entries: list[IndexEntry] = []
        self._spacing = spacing
        self._last_key: dict[int, int] = {}
        self._since: dict[int, int] = {}

    def add(self, offset: int, head: UnitHead) -> None:
        """Consider the unit at `offset`."""
        track = head.track
        if head.type in FRAME_TYPES:
            since = self._since.get(track, self._spacing)
            self._since[track] = since + 1
            # The layers of one key frame are entered at the first of them.
            if (
                not head.key
                or since < self._spacing
                or self._last_key.get(track) == head.frame_start
            ):
                return
            self._since[track] = 1
            self._last_key[track] = head.frame_start
        elif head.type not in _ALWAYS:
            return
        self.entries.append(IndexEntry.of(offset, head))


def pack_index(entries: Sequence[IndexEntry]) -> bytes:
    """Payload of the INDEX unit; entries in the order of their offsets."""
    out = bytearray()
    offset = frame = 0
    for entry in entries:
        out += pack_varint(entry.offset - offset)
        out += pack_varint(entry.type | (_KEY if entry.key else 0) | (_TRACK if entry.track else 0))
        out += pack_varint(zigzag(entry.frame_start - frame)) + pack_varint(entry.frame_count)
        if entry.track:
            out += pack_varint(entry.track)
        offset, frame = entry.offset, entry.frame_start
    return bytes(out)


def parse_index(payload: bytes, *, end: int) -> list[IndexEntry]:
    """Entries of an INDEX unit, offsets rising and below `end`; StreamError when they are not."""
    entries: list[IndexEntry] = []
    position, stop = 0, len(payload)
    offset = frame = 0
    while position < stop:
        if stop - position < _MIN_ENTRY_SIZE:
            raise StreamError("the index is damaged: it ends inside an entry")
        delta, position = read_varint(payload, position, stop, limit=_MAX_OFFSET)
        tag, position = read_varint(payload, position, stop, limit=255)
        code, position = read_varint(payload, position, stop)
        count, position = read_varint(payload, position, stop, limit=MAX_RANGE)
        track = 0
        if tag & _TRACK:
            track, position = read_varint(payload, position, stop, limit=MAX_TRACK)
        offset += delta
        frame += unzigzag(code)
        if not delta or offset >= end or not 0 <= frame <= MAX_FRAMES - count:
            raise StreamError("the index is damaged: an entry lies outside the stream")
        kind = tag & MAX_TYPE
        entries.append(IndexEntry(offset, kind, frame, count, bool(tag & _KEY), track))
    return entries


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """What the END unit says: offset of the INDEX unit, frames of track 0, units before END."""

    index_offset: int
    frame_count: int
    unit_count: int

    def pack(self) -> bytes:
        """Payload of the END unit, always 16 bytes."""
        return (
            self.index_offset.to_bytes(8, "little")
            + self.frame_count.to_bytes(4, "little")
            + min(self.unit_count, 0xFFFFFFFF).to_bytes(4, "little")
        )

    @classmethod
    def parse(cls, payload: bytes) -> StreamEnd:
        """Read an END payload; StreamError when it has not its size or a count is too high."""
        if len(payload) != END_PAYLOAD_SIZE:
            raise StreamError(f"the END unit holds {len(payload)} bytes, not {END_PAYLOAD_SIZE}")
        frame_count = int.from_bytes(payload[8:12], "little")
        if frame_count > MAX_FRAMES:
            raise StreamError(f"the END unit claims {frame_count} frames")
        return cls(
            int.from_bytes(payload[:8], "little"),
            frame_count,
            int.from_bytes(payload[12:], "little"),
        )


END_PAYLOAD_SIZE = 16
END_UNIT_SIZE = 2 + 1 + 1 + END_PAYLOAD_SIZE + 4
