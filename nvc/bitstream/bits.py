"""Integers as bytes and bits: varints, zigzag, fixed-width fields and Exp-Golomb codes.

Varints are little-endian groups of seven bits, the high bit of a byte saying that more follow, and
only the shortest form is legal. Bit fields are most significant bit first.
"""

from __future__ import annotations

from nvc.errors import StreamError

MAX_NUMBER_BITS = 64


class EndOfData(StreamError):
    """The data end in the middle of a number."""


def zigzag(value: int) -> int:
    """Map a signed integer on an unsigned one: 0, -1, 1, -2 become 0, 1, 2, 3."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(code: int) -> int:
    """Undo `zigzag`."""
    return (code >> 1) ^ -(code & 1)


def pack_varint(value: int) -> bytes:
    """Bytes of an unsigned integer below 2**64; ValueError outside of that."""
    if not 0 <= value < 1 << MAX_NUMBER_BITS:
        raise ValueError(f"a varint holds 0 to 2**64 - 1, not {value}")
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(
    data: bytes | memoryview, position: int, end: int, *, limit: int = (1 << MAX_NUMBER_BITS) - 1
) -> tuple[int, int]:
    """Read a varint at `position` of `data`, never at or beyond `end`: (value, next position).

    Raises EndOfData when `end` cuts it off and StreamError when it is over `limit` or not in its
    shortest form.
    """
    value = shift = 0
    while True:
        if position >= end:
            raise EndOfData("the data end in the middle of a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift >= 70:
            raise StreamError("a number is longer than 64 bits")
    if not byte and shift:
        raise StreamError("a number is not in its shortest form")
    if value > limit:
        raise StreamError(f"a number is {value}, over its limit {limit}")
    return value, position


class BitWriter:
    """Collects bit fields, most significant bit first, and pads the last byte with zeros."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._value = 0
        self._count = 0

    def write(self, value: int, count: int) -> None:
        """Append the `count` low bits of `value`, which must fit in them (else ValueError)."""
        if count < 0 or value < 0 or value >> count:
            raise ValueError(f"{value} does not fit in {count} bits")
        self._value = self._value << count | value
        self._count += count
        if self._count >= 1024:
            rest = self._count & 7
            self._bytes += (self._value >> rest).to_bytes(self._count >> 3, "big")
            self._value &= (1 << rest) - 1
            self._count = rest

    def exp_golomb(self, value: int, order: int = 0) -> None:
        """Append a non-negative integer as an Exp-Golomb code of the order given."""
        if value < 0:
            raise ValueError(f"an Exp-Golomb code holds no negative value such as {value}")
        shifted = value + (1 << order)
        self.write(shifted, 2 * shifted.bit_length() - 1 - order)

    def to_bytes(self) -> bytes:
        """All that was written, padded with zero bits to a whole byte."""
        padding = -self._count & 7
        tail = (self._value << padding).to_bytes((self._count + padding) >> 3, "big")
        return bytes(self._bytes) + tail


class BitReader:
    """Reads what BitWriter wrote; EndOfData when asked for more bits than there are."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = data
        self._position = 0
        self._end = 8 * len(data)

    @property
    def remaining(self) -> int:
        """Bits not read yet, padding included."""
        return self._end - self._position

    def read(self, count: int) -> int:
        """The next `count` bits as an unsigned integer."""
        stop = self._position + count
        if stop > self._end:
            raise EndOfData(f"{count} bits are asked for and {self.remaining} are left")
        last = (stop + 7) >> 3
        window = int.from_bytes(self._data[self._position >> 3 : last], "big")
        self._position = stop
        return window >> (8 * last - stop) & ((1 << count) - 1)

    def exp_golomb(self, order: int = 0) -> int:
        """The next Exp-Golomb code of the order given; StreamError when it is over 64 bits."""
        first = self._position >> 3
        window_bytes = self._data[first : first + 10]
        bits = 8 * len(window_bytes) - (self._position & 7)
        window = int.from_bytes(window_bytes, "big") & ((1 << bits) - 1)
        zeros = bits - window.bit_length()
        if zeros + order > MAX_NUMBER_BITS and window:
            raise StreamError("an Exp-Golomb code is longer than 64 bits")
        if not window:
            if self.remaining > MAX_NUMBER_BITS:
                raise StreamError("an Exp-Golomb code is longer than 64 bits")
            raise EndOfData("the data end in the middle of an Exp-Golomb code")
        self._position += zeros
        return self.read(zeros + order + 1) - (1 << order)

    def finish(self) -> None:
        """StreamError unless nothing but zero padding of the last byte is left."""
        left = self.remaining
        if left >= 8 or self.read(left):
            raise StreamError("there is data after the last code")
