"""The rANS coder in plain Python: the definition that rans.py must match byte for byte.

Slow (about 0.3 Msymbol/s); used by the tests and to read the format.
"""

import numpy as np

from nvc.entropy.payload import (
    START,
    check_arguments,
    check_magnitude,
    check_symbols,
    lane_count,
    pack,
    parse,
    sample_step,
)
from nvc.entropy.tables import PRECISION, SYMBOL_LIMIT, Tables
from nvc.errors import StreamError

_TOTAL = 1 << PRECISION


def encode(
    symbols: np.ndarray, indexes: np.ndarray, tables: Tables, *, skip_below: int = 0
) -> bytes:
    """As rans.encode."""
    flat_indexes, shape = check_arguments(indexes, tables, skip_below)
    pairs = list(zip(check_symbols(symbols, shape).tolist(), flat_indexes.tolist(), strict=True))
    if all(symbol == 0 for symbol, _ in pairs):
        return b""
    if any(symbol != 0 and index < skip_below for symbol, index in pairs):
        raise ValueError("a symbol that is skipped must be 0")
    pairs = [pair for pair in pairs if pair[1] >= skip_below]

    step = sample_step(len(pairs))
    cost = sum(_cost(tables, *pair) for pair in pairs[::step])
    states = [START] * lane_count(cost * step // 128)
    words: list[int] = []
    bits: list[str] = []
    for i in range(len(pairs) - 1, -1, -1):
        symbol, index = pairs[i]
        row, escaped = _row(tables, symbol, index)
        if escaped:
            check_magnitude(abs(symbol))
            bits.append(_escape_bits(tables, symbol, index))
        frequency, cumulative = int(tables.frequencies[row]), int(tables.cumulative[row])
        lane = i % len(states)
        state = states[lane]
        if state >= frequency << (32 - PRECISION):
            words.append(state & 0xFFFF)
            state >>= 16
        states[lane] = (state // frequency << PRECISION) + state % frequency + cumulative
    return pack(states, _bytes("".join(bits[::-1])), np.array(words, dtype=np.uint16))


def decode(
    payload: bytes | memoryview, indexes: np.ndarray, tables: Tables, *, skip_below: int = 0
) -> np.ndarray:
    """As rans.decode."""
    decoder = Decoder(payload, tables, skip_below=skip_below)
    symbols = decoder.decode(indexes)
    decoder.finish()
    return symbols


class Decoder:
    """As rans.Decoder."""

    def __init__(self, payload: bytes | memoryview, tables: Tables, *, skip_below: int = 0) -> None:
        self._tables, self._skip_below = tables, skip_below
        self._states, begin = parse(bytes(payload)) if len(payload) else ([], 0)
        self._body = bytes(payload)[begin:]
        self._bits = "".join(f"{byte:08b}" for byte in self._body)
        self._end = len(self._body)  # of the words not yet read
        self._bit = 0  # of the next escape
        self._number = 0  # symbols decoded

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        """As rans.Decoder.decode."""
        tables = self._tables
        flat_indexes, shape = check_arguments(indexes, tables, self._skip_below)
        symbols = np.zeros(len(flat_indexes), dtype=np.int32)
        if not self._states:
            return symbols.reshape(shape)
        escaped = []
        for i, index in enumerate(flat_indexes.tolist()):
            if index < self._skip_below:
                continue
            lane = self._number % len(self._states)
            self._number += 1
            start, size = int(tables.starts[index]), int(tables.sizes[index])
            slot = self._states[lane] % _TOTAL
            sums = tables.cumulative[start : start + size + 1]
            entry = int(np.searchsorted(sums, slot, side="right")) - 1
            frequency = int(tables.frequencies[start + entry])
            state = frequency * (self._states[lane] >> PRECISION) + slot - int(sums[entry])
            if state < START:
                state = state << 16 | self._next_word()
            self._states[lane] = state
            if entry == size:
                escaped.append(i)
            else:
                symbols[i] = int(tables.offsets[index]) + entry
        for i in escaped:
            symbols[i] = self._next_escape(int(flat_indexes[i]))
        return symbols.reshape(shape)

    def finish(self) -> None:
        """As rans.Decoder.finish."""
        if not self._states:
            return
        if self._number == 0:
            raise StreamError("entropy payload: bytes where nothing is coded")
        if any(state != START for state in self._states):
            raise StreamError("entropy payload: it does not match the tables it is decoded with")
        padding = self._bits[self._bit : 8 * self._end]
        if len(padding) >= 8:
            raise StreamError("entropy payload: bytes left over")
        if "1" in padding:
            raise StreamError("entropy payload: its padding is not zero")

    def _next_word(self) -> int:
        begin = self._end - 2
        if 8 * begin < self._bit:
            raise StreamError("entropy payload: it ends too early")
        word = int.from_bytes(self._body[begin : self._end], "little")
        self._end = begin
        return word

    def _next_escape(self, index: int) -> int:
        order, limit = int(self._tables.orders[index]), 8 * self._end
        side = self._bit
        leading = self._bits.find("1", side + 1, limit)
        zeros = (leading if leading >= 0 else max(limit, side + 1)) - side - 1
        end = side + 1 + zeros + 1 + zeros + order
        if zeros <= 25 and (leading < 0 or end > limit):
            raise StreamError("entropy payload: an escaped symbol is cut off")
        code = int(self._bits[leading:end], 2) if zeros <= 25 else SYMBOL_LIMIT * 4
        distance = code - (1 << order)
        offset, size = int(self._tables.offsets[index]), int(self._tables.sizes[index])
        symbol = offset - 1 - distance if self._bits[side] == "1" else offset + size + distance
        if abs(symbol) >= SYMBOL_LIMIT:
            raise StreamError("entropy payload: an escaped symbol is out of bounds")
        self._bit = end
        return symbol


def _row(tables: Tables, symbol: int, index: int) -> tuple[int, bool]:
    """The symbol's entry among the frequencies, and whether that is the escape."""
    entry, size = symbol - int(tables.offsets[index]), int(tables.sizes[index])
    inside = 0 <= entry < size
    return int(tables.starts[index]) + (entry if inside else size), not inside


def _cost(tables: Tables, symbol: int, index: int) -> int:
    row, escaped = _row(tables, symbol, index)
    return int(tables.costs[row]) + (256 if escaped else 0)


def _escape_bits(tables: Tables, symbol: int, index: int) -> str:
    """Side bit (1 is below the table), then the distance in Exp-Golomb of the table's order."""
    offset, size = int(tables.offsets[index]), int(tables.sizes[index])
    below = symbol < offset
    order = int(tables.orders[index])
    code = (offset - 1 - symbol if below else symbol - offset - size) + (1 << order)
    return f"{int(below)}{'0' * (code.bit_length() - 1 - order)}{code:b}"


def _bytes(bits: str) -> bytes:
    padded = bits + "0" * (-len(bits) % 8)
    return bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))
