"""Units: the typed, checksummed pieces a stream is made of (docs/bitstream.md, section 3).

A unit is a header closed by a CRC-8, the payload, and a CRC-32 of both. The CRC-8 makes a damaged
length known before anything is read from it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from nvc.bitstream.bits import EndOfData, pack_varint, read_varint
from nvc.bitstream.header import MAX_FRAMES
from nvc.errors import StreamError

MAX_PAYLOAD = 1 << 28
MAX_RANGE = 1 << 16
MAX_GAP = 1 << 16
MAX_REORDER = 32
MAX_LAYER = 255
MAX_TRACK = (1 << 16) - 1
MAX_TYPE = 63
MIN_UNIT_SIZE = 8
MAX_HEAD_SIZE = 32
CRC_SIZE = 4


class UnitType(IntEnum):
    """What a unit holds. Numbers are append-only, 1 to 63."""

    CONFIG = 1
    """Codec-private configuration, before the first frame."""
    FRAME = 2
    """One frame, one layer; of a key frame also those shown before it that depend on it."""
    PARAMETERS = 3
    """Network weights for a range of frames."""
    TIMESTAMPS = 4
    """Presentation times of a range of frames, where the rate is not constant."""
    AUDIO = 5
    """One chunk of a Matroska file; `frame_start` is the number of the chunk."""
    INDEX = 6
    """Where to enter the stream."""
    END = 7
    """Last unit, of fixed size: number of frames and units, place of the INDEX."""


FRAME_TYPES = frozenset((UnitType.FRAME, UnitType.PARAMETERS))
"""Types that carry pictures; their frame ranges count."""

CODEC_TYPES = frozenset((UnitType.CONFIG, UnitType.FRAME, UnitType.PARAMETERS))
"""Types made and read by codecs; the container makes and reads the others."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of a stream.

    `frame_start`, `frame_count`: the frames it concerns (0, 0: none); at most 65,536 in one unit.
    `layer`: 0 is the base, 0..255. `key`: decoding can start here with nothing before it but CONFIG
    units. `track`: which of several videos, 0..65535. `critical`: a decoder that does not know the
    type must refuse the stream instead of skipping the unit.
    """

    type: int
    payload: bytes
    frame_start: int = 0
    frame_count: int = 0
    layer: int = 0
    key: bool = False
    track: int = 0
    critical: bool = False

    @property
    def frame_end(self) -> int:
        """One past the last frame it concerns."""
        return self.frame_start + self.frame_count

    @property
    def picture(self) -> int:
        """Of a FRAME unit, the frame whose picture it holds: the last it concerns."""
        return self.frame_end - 1


class UnitHead(NamedTuple):
    """A unit's header: the fields of `Unit`, the payload's length, and the header's own size."""

    type: int
    frame_start: int
    frame_count: int
    layer: int
    key: bool
    track: int
    critical: bool
    length: int
    size: int

    @property
    def total(self) -> int:
        """Bytes of the whole unit in the file."""
        return self.size + self.length + CRC_SIZE

    @property
    def frame_end(self) -> int:
        """One past the last frame the unit concerns."""
        return self.frame_start + self.frame_count

    @property
    def picture(self) -> int:
        """As Unit has it."""
        return self.frame_end - 1

    def with_payload(self, payload: bytes) -> Unit:
        """The unit whose header this is."""
        return Unit(
            self.type,
            payload,
            self.frame_start,
            self.frame_count,
            self.layer,
            self.key,
            self.track,
            self.critical,
        )


def type_name(number: int) -> str:
    """Name of a unit type for messages and reports."""
    try:
        return UnitType(number).name
    except ValueError:
        return f"TYPE_{number}"


# Frame form: 1 k c t llll; key, count given, track given, layer (15: a varint follows).
_FRAME_FORM = 0x80
_FRAME_KEY = 0x40
_FRAME_COUNT = 0x20
_FRAME_TRACK = 0x10
_LAYER_FOLLOWS = 15
# Common form: 0 c tttttt (critical, type), then a byte of flags.
_CRITICAL = 0x40
_KEY = 1
_RANGE = 2
_LAYER = 4
_TRACK = 8
_KNOWN_FLAGS = 15


def _crc8_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte << 1) ^ 0x12F if byte & 0x80 else byte << 1
        table.append(byte)
    return tuple(table)


_CRC8 = _crc8_table()


def crc8(data: Iterable[int]) -> int:
    """CRC-8/AUTOSAR (polynomial 0x2F): finds up to 3 wrong bits in headers of up to 14 bytes."""
    value = 0xFF
    for byte in data:
        value = _CRC8[value ^ byte]
    return value ^ 0xFF


def check_unit(unit: Unit) -> None:
    """ValueError when a field of the unit is outside what the format holds."""
    for name, value, low, high in (
        ("type", unit.type, 1, MAX_TYPE),
        ("frame_start", unit.frame_start, 0, MAX_FRAMES),
        ("frame_count", unit.frame_count, 0, MAX_RANGE),
        ("layer", unit.layer, 0, MAX_LAYER),
        ("track", unit.track, 0, MAX_TRACK),
        ("payload length", len(unit.payload), 0, MAX_PAYLOAD),
    ):
        if not low <= value <= high:
            raise ValueError(f"unit {name} must be {low} to {high}, not {value}")
    if unit.type in FRAME_TYPES and not unit.frame_count:
        raise ValueError(f"a {type_name(unit.type)} unit needs a frame_count of at least 1")
    if unit.frame_end > MAX_FRAMES:
        raise ValueError(f"unit frames must end at {MAX_FRAMES} or before, not {unit.frame_end}")


def pack_head(unit: Unit) -> bytes:
    """Header of a unit, its CRC-8 included; ValueError when a field is out of range."""
    check_unit(unit)
    head = bytearray()
    if unit.type == UnitType.FRAME and not unit.critical:
        tag = _FRAME_FORM | min(unit.layer, _LAYER_FOLLOWS)
        tag |= _FRAME_KEY if unit.key else 0
        tag |= _FRAME_COUNT if unit.frame_count != 1 else 0
        tag |= _FRAME_TRACK if unit.track else 0
        head.append(tag)
        head += pack_varint(unit.frame_start)
        if unit.frame_count != 1:
            head += pack_varint(unit.frame_count)
        if unit.layer >= _LAYER_FOLLOWS:
            head += pack_varint(unit.layer)
    else:
        ranged = unit.frame_start or unit.frame_count
        head.append(unit.type | (_CRITICAL if unit.critical else 0))
        head.append(
            (_KEY if unit.key else 0)
            | (_RANGE if ranged else 0)
            | (_LAYER if unit.layer else 0)
            | (_TRACK if unit.track else 0)
        )
        if ranged:
            head += pack_varint(unit.frame_start) + pack_varint(unit.frame_count)
        if unit.layer:
            head += pack_varint(unit.layer)
    if unit.track:
        head += pack_varint(unit.track)
    head += pack_varint(len(unit.payload))
    head.append(crc8(head))
    return bytes(head)


def unit_crc(head: bytes | memoryview, payload: bytes | memoryview) -> int:
    """CRC-32 over header and payload, as it closes a unit."""
    return zlib.crc32(payload, zlib.crc32(head))


def pack_unit(unit: Unit) -> bytes:
    """A whole unit as it stands in the file."""
    head = pack_head(unit)
    return b"".join((head, unit.payload, unit_crc(head, unit.payload).to_bytes(CRC_SIZE, "little")))


def parse_head(data: bytes | memoryview, position: int, end: int) -> UnitHead:
    """Read a unit's header at `position`, never at or beyond `end`.

    Raises EndOfData when `end` cuts it off and StreamError when it is damaged.
    """
    if position >= end:
        raise EndOfData("the unit's header is cut off")
    start = position
    tag = data[position]
    position += 1
    track = 0
    if tag & _FRAME_FORM:
        kind: int = UnitType.FRAME
        critical = False
        key = bool(tag & _FRAME_KEY)
        layer = tag & 15
        has_track = tag & _FRAME_TRACK
        frame_start, position = read_varint(data, position, end, limit=MAX_FRAMES)
        frame_count = 1
        if tag & _FRAME_COUNT:
            frame_count, position = read_varint(data, position, end, limit=MAX_RANGE)
        if layer == _LAYER_FOLLOWS:
            layer, position = read_varint(data, position, end, limit=MAX_LAYER)
    else:
        if position >= end:
            raise EndOfData("the unit's header is cut off")
        kind = tag & 63
        critical = bool(tag & _CRITICAL)
        flags = data[position]
        position += 1
        if not kind or flags & ~_KNOWN_FLAGS:
            raise StreamError(f"the unit's header is damaged (it starts {tag:02x} {flags:02x})")
        key = bool(flags & _KEY)
        has_track = flags & _TRACK
        frame_start = frame_count = layer = 0
        if flags & _RANGE:
            frame_start, position = read_varint(data, position, end, limit=MAX_FRAMES)
            frame_count, position = read_varint(data, position, end, limit=MAX_RANGE)
        if flags & _LAYER:
            layer, position = read_varint(data, position, end, limit=MAX_LAYER)
    if has_track:
        track, position = read_varint(data, position, end, limit=MAX_TRACK)
    length, position = read_varint(data, position, end, limit=MAX_PAYLOAD)
    if position >= end:
        raise EndOfData("the unit's header is cut off")
    if crc8(data[start:position]) != data[position]:
        raise StreamError("the unit's header is damaged: its check byte is wrong")
    if kind in FRAME_TYPES and not frame_count:
        raise StreamError(f"the {type_name(kind)} unit concerns no frames")
    if frame_start + frame_count > MAX_FRAMES:
        raise StreamError("the unit's frame numbers are too high")
    return UnitHead(
        kind,
        frame_start,
        frame_count,
        layer,
        key,
        track,
        critical,
        length,
        position + 1 - start,
    )
