"""The file header: round trips, bounds, versions, and clear refusals."""

import zlib
from dataclasses import fields, replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvc.bitstream.codec_ids import CODEC_IDS, CODEC_NAMES
from nvc.bitstream.header import CHROMAS, MAX_BODY, NewerFormat, StreamHeader
from nvc.errors import StreamError

PLAIN = StreamHeader(codec="hnerv", width=640, height=320, frame_rate=Fraction(25))

positive = st.integers(1, 2**31 - 1)
rationals = st.builds(Fraction, positive, positive)
headers = st.builds(
    StreamHeader,
    codec=st.sampled_from(list(CODEC_IDS)),
    width=st.integers(1, 16000),
    height=st.integers(1, 16000),
    chroma=st.sampled_from(CHROMAS),
    bit_depth=st.integers(8, 16),
    frame_rate=rationals,
    time_base=st.builds(Fraction, st.integers(1, 2), positive),
    frame_count=st.none() | st.integers(0, 2**31 - 1),
    start_pts=st.integers(-(2**31), 2**31) | st.just(0),
    matrix=st.integers(0, 255),
    primaries=st.integers(0, 255),
    transfer=st.integers(0, 255),
    full_range=st.sampled_from([None, True, False]),
    chroma_location=st.integers(0, 7),
    sample_aspect=rationals,
    rotation=st.sampled_from([0, 90, 180, 270]),
    weights_hash=st.binary(min_size=8, max_size=8),
    crop_left=st.integers(0, 100),
    crop_top=st.integers(0, 100),
    crop_right=st.integers(0, 100),
    crop_bottom=st.integers(0, 100),
    audio=st.booleans(),
)


def with_crc(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")


@given(headers)
def test_round_trip(header):
    data = header.pack()
    assert StreamHeader.parse(data + b"what follows") == header
    assert len(data) <= 100


def test_round_trip_covers_every_field():
    changed = {f.name for f in fields(StreamHeader)}
    assert changed == set(headers.wrapped_strategy.kwargs)  # type: ignore[attr-defined]


def test_sizes():
    """A usual header is small: the worst one leaves room for index and END in 100 bytes."""
    assert len(PLAIN.pack()) == 22
    rich = replace(
        PLAIN,
        width=1920,
        height=1080,
        frame_rate=Fraction(30000, 1001),
        time_base=Fraction(1, 1000000),
        frame_count=10000,
        matrix=1,
        primaries=1,
        transfer=1,
        full_range=False,
        sample_aspect=Fraction(16, 15),
        weights_hash=b"12345678",
        crop_bottom=8,
    )
    assert len(rich.pack()) <= 56


def test_time_base_defaults_to_one_frame():
    assert PLAIN.time_base == Fraction(1, 25)
    assert [PLAIN.predicted_pts(i) for i in (0, 1, 1000)] == [0, 1, 1000]
    film = replace(PLAIN, frame_rate=Fraction(24000, 1001), time_base=Fraction(1, 1000))
    assert [film.predicted_pts(i) for i in range(4)] == [0, 42, 83, 125]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"codec": "h264"}, "codec must be one of dhvc, hnerv"),
        ({"width": 0}, "width must be 1 to 16384"),
        ({"height": 20000}, "height must be 1 to 16384"),
        ({"crop_left": 16000}, "coded width must be"),
        ({"bit_depth": 7}, "bit_depth must be 8 to 16"),
        ({"chroma": "411"}, "chroma must be one of 400, 420"),
        ({"rotation": 45}, "rotation must be one of"),
        ({"frame_rate": Fraction(0)}, "frame_rate must be positive"),
        ({"time_base": Fraction(1, 2**40)}, "time_base must be positive"),
        ({"sample_aspect": Fraction(-1)}, "sample_aspect must be positive"),
        ({"start_pts": 25 << 33}, "start_pts must be -107374182400 to 107374182400"),
        ({"frame_count": -1}, "frame_count must be 0 to"),
        ({"weights_hash": b"short"}, "weights_hash must be 8 bytes"),
        ({"matrix": 256}, "matrix must be 0 to 255"),
    ],
)
def test_impossible_values_are_refused(change, text):
    with pytest.raises(ValueError, match=text):
        replace(PLAIN, **change)


@given(st.integers(0, 21), st.integers(1, 255))
def test_any_damaged_byte_is_found(place, flip):
    data = bytearray(PLAIN.pack())
    data[place] ^= flip
    with pytest.raises(StreamError):
        StreamHeader.parse(bytes(data))


def test_cut_off_at_every_byte():
    data = PLAIN.pack()
    for size in range(len(data)):
        with pytest.raises(StreamError, match="empty" if not size else f"ends at byte {size}"):
            StreamHeader.parse(data[:size])


def test_foreign_file():
    with pytest.raises(StreamError, match=r"not an nvc file: it starts with 00 00 00 20"):
        StreamHeader.parse(b"\x00\x00\x00\x20ftypisom" + bytes(100))


def test_newer_major_is_refused_whatever_follows():
    data = PLAIN.pack()
    with pytest.raises(NewerFormat, match=r"format 2\.7 .* reads up to 1\.x"):
        StreamHeader.parse(data[:4] + b"\x02\x07" + bytes(30))


def test_newer_minor_is_read_and_its_new_fields_passed_over():
    data = PLAIN.pack()[:-4]
    longer = data[:5] + bytes((9, len(data) - 8 + 3, 0)) + data[8:] + b"new"
    assert StreamHeader.parse(with_crc(longer)) == PLAIN
    same_minor = data[:5] + bytes((0, len(data) - 8 + 3, 0)) + data[8:] + b"new"
    with pytest.raises(StreamError, match=r"fields that format 1\.0 does not have"):
        StreamHeader.parse(with_crc(same_minor))


def test_unknown_codec_number_says_so():
    data = bytearray(PLAIN.pack()[:-4])
    assert data[9] == CODEC_IDS["hnerv"]
    data[9] = 99
    with pytest.raises(NewerFormat, match="codec number 99"):
        StreamHeader.parse(with_crc(bytes(data)))


@given(st.binary(max_size=60))
def test_any_body_with_a_right_checksum_is_read_or_refused(body):
    data = with_crc(PLAIN.pack()[:6] + len(body).to_bytes(2, "little") + body)
    try:
        header = StreamHeader.parse(data)
    except StreamError:
        return
    assert StreamHeader.parse(header.pack()) == header


def test_length_of_the_body_is_bounded():
    with pytest.raises(StreamError, match=f"over {MAX_BODY}"):
        StreamHeader.parse(PLAIN.pack()[:6] + b"\xff\xff" + bytes(100))


def test_codec_numbers_never_change():
    """The table may only grow at its end."""
    assert list(CODEC_IDS.items())[:8] == [
        ("dhvc", 1),
        ("hnerv", 2),
        ("nerv", 3),
        ("enerv", 4),
        ("nervpp", 5),
        ("cam", 6),
        ("nirvana", 7),
        ("pfnr", 8),
    ]
    assert len(CODEC_NAMES) == len(CODEC_IDS)
