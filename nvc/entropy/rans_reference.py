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
    return pack(states, np.array(words[::-1], dtype=np.uint16), _bytes("".join(bits[::-1])))


def decode(
    payload: bytes | memoryview, indexes: np.ndarray, tables: Tables, *, skip_below: int = 0
) -> np.ndarray:
    """As rans.decode."""
    flat_indexes, shape = check_arguments(indexes, tables, skip_below)
    symbols = np.zeros(len(flat_indexes), dtype=np.int32)
    if len(payload) == 0:
        return symbols.reshape(shape)
    positions = [i for i, index in enumerate(flat_indexes.tolist()) if index >= skip_below]
    if not positions:
        raise StreamError("entropy payload: bytes where nothing is coded")
    payload = bytes(payload)
    states, position = parse(payload)
    escaped = []
    for number, i in enumerate(positions):
        lane = number % len(states)
        index = int(flat_indexes[i])
        start, size = int(tables.starts[index]), int(tables.sizes[index])
        slot = states[lane] % _TOTAL
        sums = tables.cumulative[start : start + size + 1]
        entry = int(np.searchsorted(sums, slot, side="right")) - 1
        frequency = int(tables.frequencies[start + entry])
        state = frequency * (states[lane] >> PRECISION) + slot - int(sums[entry])
        if state < START:
            if position + 2 > len(payload):
                raise StreamError("entropy payload: it ends too early")
            state = state << 16 | int.from_bytes(payload[position : position + 2], "little")
            position += 2
        states[lane] = state
        if entry == size:
            escaped.append(i)
        else:
            symbols[i] = int(tables.offsets[index]) + entry
    if any(state != START for state in states):
        raise StreamError("entropy payload: it does not match the tables it is decoded with")
    tail = "".join(f"{byte:08b}" for byte in payload[position:])
    for i in escaped:
        symbols[i], tail = _read_escape(tables, int(flat_indexes[i]), tail)
    if len(tail) >= 8:
        raise StreamError("entropy payload: bytes left over")
    if "1" in tail:
        raise StreamError("entropy payload: an escaped symbol is out of bounds")
    return symbols.reshape(shape)


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


def _read_escape(tables: Tables, index: int, bits: str) -> tuple[int, str]:
    order = int(tables.orders[index])
    leading = bits.find("1", 1)
    zeros = (leading if leading > 0 else max(len(bits), 1)) - 1
    end = 1 + zeros + 1 + zeros + order
    if zeros <= 25 and (leading < 0 or end > len(bits)):
        raise StreamError("entropy payload: an escaped symbol is cut off")
    distance = int(bits[leading:end], 2) - (1 << order) if zeros <= 25 else SYMBOL_LIMIT * 2
    offset, size = int(tables.offsets[index]), int(tables.sizes[index])
    symbol = offset - 1 - distance if bits[0] == "1" else offset + size + distance
    if abs(symbol) >= SYMBOL_LIMIT:
        raise StreamError("entropy payload: an escaped symbol is out of bounds")
    return symbol, bits[end:]


def _bytes(bits: str) -> bytes:
    padded = bits + "0" * (-len(bits) % 8)
    return bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))
