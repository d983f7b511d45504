"""Numbers as bits and bytes: what is written is read, and what is wrong is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvc.bitstream.bits import (
    BitReader,
    BitWriter,
    EndOfData,
    pack_varint,
    read_varint,
    unzigzag,
    zigzag,
)
from nvc.errors import StreamError

numbers = st.integers(0, 2**64 - 1) | st.integers(0, 300)


@given(numbers)
def test_varint_round_trip(value):
    data = pack_varint(value)
    assert read_varint(b"?" + data + b"?", 1, 1 + len(data)) == (value, 1 + len(data))
    assert len(data) == max(1, -(-value.bit_length() // 7))


@given(numbers)
def test_varint_cut_off_is_end_of_data(value):
    data = pack_varint(value)
    with pytest.raises(EndOfData):
        read_varint(data, 0, len(data) - 1)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x80\x00", "shortest"),
        (b"\xff" * 20, "longer than 64 bits"),
        (b"\x65", "over its limit 100"),
    ],
)
def test_varint_refuses(data, text):
    with pytest.raises(StreamError, match=text):
        read_varint(data, 0, len(data), limit=100)


@pytest.mark.parametrize("value", [-1, 2**64])
def test_varint_holds_64_bits_at_most(value):
    with pytest.raises(ValueError, match="varint"):
        pack_varint(value)


@given(st.integers(-(2**70), 2**70))
def test_zigzag_round_trip(value):
    assert unzigzag(zigzag(value)) == value
    assert zigzag(value) in (2 * abs(value), 2 * abs(value) - 1)


fields = st.one_of(
    st.integers(0, 70).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, (1 << n) - 1))),
    st.tuples(st.integers(-40, -1), st.integers(0, 2**64 - 1) | st.integers(0, 50)),
)


@given(st.lists(fields, max_size=60))
def test_bit_fields_and_exp_golomb_round_trip(items):
    """Fields are (bits, value); a negative count stands for Exp-Golomb of order -count - 1."""
    writer = BitWriter()
    for count, value in items:
        if count < 0:
            writer.exp_golomb(value, -count - 1)
        else:
            writer.write(value, count)
    reader = BitReader(writer.to_bytes())
    for count, value in items:
        assert (reader.exp_golomb(-count - 1) if count < 0 else reader.read(count)) == value
    reader.finish()


def test_exp_golomb_codes_are_the_textbook_ones():
    writer = BitWriter()
    for value in range(5):
        writer.exp_golomb(value)
    # 1 010 011 00100 00101
    assert writer.to_bytes() == bytes((0b10100110, 0b01000010, 0b10000000))


@given(st.binary(max_size=40), st.integers(0, 40))
def test_any_bytes_end_in_values_or_stream_error(data, order):
    reader = BitReader(data)
    before = reader.remaining
    with pytest.raises(StreamError):
        while True:
            assert 0 <= reader.exp_golomb(order) < 2**65
            assert reader.remaining < before
            before = reader.remaining


def test_wrong_use_of_bits_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        BitWriter().write(4, 2)
    with pytest.raises(ValueError, match="negative"):
        BitWriter().exp_golomb(-1)
    with pytest.raises(EndOfData):
        BitReader(b"\x00").read(9)
    with pytest.raises(StreamError, match="longer"):
        BitReader(bytes(30)).exp_golomb()
    with pytest.raises(StreamError, match="after the last"):
        BitReader(b"\x01").finish()
