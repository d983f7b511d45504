"""Units: round trips, the cost of a frame unit, and checks that find every small error."""

import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvc.bitstream.bits import EndOfData
from nvc.bitstream.units import (
    MAX_HEAD_SIZE,
    MIN_UNIT_SIZE,
    Unit,
    UnitType,
    crc8,
    pack_head,
    pack_unit,
    parse_head,
)
from nvc.errors import StreamError


@st.composite
def units(draw):
    kind = draw(st.sampled_from(list(UnitType)) | st.integers(1, 63))
    low = 1 if kind in (UnitType.FRAME, UnitType.PARAMETERS) else 0
    return Unit(
        kind,
        draw(st.binary(max_size=300)),
        draw(st.integers(0, 40) | st.integers(0, 2**31 - 1 - 65536)),
        draw(st.integers(low, 3) | st.integers(low, 65536)),
        draw(st.integers(0, 20) | st.integers(0, 255)),
        draw(st.booleans()),
        draw(st.integers(0, 2) | st.integers(0, 65535)),
        draw(st.booleans()),
    )


@given(units(), st.binary(max_size=5))
def test_round_trip(unit, before):
    data = before + pack_unit(unit)
    head = parse_head(data, len(before), len(data))
    start = len(before) + head.size
    assert head.with_payload(data[start : start + head.length]) == unit
    assert head.total == len(data) - len(before) >= MIN_UNIT_SIZE
    assert head.size <= MAX_HEAD_SIZE
    assert zlib.crc32(data[len(before) : -4]) == int.from_bytes(data[-4:], "little")


@given(units())
def test_header_cut_off_is_end_of_data(unit):
    head = pack_head(unit)
    for size in range(len(head)):
        with pytest.raises(EndOfData):
            parse_head(head, 0, size)


def test_crc8_is_the_published_one():
    """Check value of CRC-8/AUTOSAR in the catalogue of CRC algorithms."""
    assert crc8(b"123456789") == 0xDF


def test_crc8_finds_every_error_of_up_to_three_bits_in_a_frame_header():
    head = pack_head(Unit(UnitType.FRAME, b"x" * 5000, 5000, 1, 2))
    assert len(head) == 6
    for count in (1, 2, 3):
        for places in itertools.combinations(range(8 * len(head)), count):
            bad = int.from_bytes(head, "big")
            for place in places:
                bad ^= 1 << place
            data = bad.to_bytes(len(head), "big")
            assert crc8(data[:-1]) != data[-1]


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        (Unit(UnitType.FRAME, b"", 0, 1), 8),
        (Unit(UnitType.FRAME, bytes(16000), 16000, 1, 2, key=True), 10),
        (Unit(UnitType.FRAME, bytes(2_000_000), 2_000_000, 1, 14), 12),
    ],
)
def test_cost_of_a_frame_unit(unit, size):
    assert len(pack_unit(unit)) - len(unit.payload) == size


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        (Unit(0, b""), "type must be 1 to 63"),
        (Unit(64, b""), "type must be"),
        (Unit(UnitType.FRAME, b"", 0, 0), "frame_count of at least 1"),
        (Unit(UnitType.FRAME, b"", -1, 1), "frame_start must be"),
        (Unit(UnitType.FRAME, b"", 0, 65537), "frame_count must be 0 to 65536"),
        (Unit(UnitType.FRAME, b"", 2**31 - 1, 1), "must end at"),
        (Unit(UnitType.FRAME, b"", 0, 1, layer=256), "layer must be"),
        (Unit(UnitType.FRAME, b"", 0, 1, track=65536), "track must be"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(unit, text):
    with pytest.raises(ValueError, match=text):
        pack_unit(unit)


@pytest.mark.parametrize(
    "head",
    [
        bytes((0x00, 0x00, 0x00)),
        bytes((0x03, 0x10, 0x00)),
        bytes((0x03, 0x00, 0x00)),
        bytes((0xA0, 0x00, 0x00, 0x00)),
        bytes((0x80, 0xFF, 0xFF, 0xFF, 0xFF, 0x07, 0x00)),
        bytes((0x80, 0x80, 0x00, 0x00)),
        bytes((0x80, 0x00, 0x81, 0x80, 0x80, 0x80, 0x01)),
    ],
    ids=[
        "type 0",
        "reserved flag",
        "parameters of no frames",
        "count 0",
        "frames overflow",
        "long varint",
        "payload over 256 MB",
    ],
)
def test_headers_that_cannot_be_meant_are_refused_though_their_check_is_right(head):
    data = head + bytes((crc8(head),)) + bytes(40)
    with pytest.raises(StreamError):
        parse_head(data, 0, len(data))


@given(st.binary(max_size=40))
def test_any_bytes_are_a_header_or_refused(data):
    try:
        head = parse_head(data, 0, len(data))
    except StreamError:
        return
    assert pack_head(head.with_payload(bytes(min(head.length, 1)))) is not None
    assert head.size <= len(data)
