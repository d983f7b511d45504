"""CRC-16/XMODEM of sparse symbols in the time of those that are not 0.

The remainder is linear: n zero bytes multiply it by x^(8 n), which goes by powers of two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvc.entropy.jit import kernel

START = 0xFFFF
_POLYNOMIAL = 0x1021
_BYTES = 4  # of a symbol, little-endian


def _byte_table() -> NDArray[np.uint16]:
    """What eight shifts make of each upper byte."""
    rows = []
    for byte in range(256):
        state = byte << 8
        for _ in range(8):
            state = (state << 1) ^ (_POLYNOMIAL if state & 0x8000 else 0)
            state &= 0xFFFF
        rows.append(state)
    return np.array(rows, dtype=np.uint16)


def _zero_tables() -> NDArray[np.uint16]:
    """(30, 2, 256): what 2^i symbols of 0 make of the lower and of the upper byte of a state."""
    step = _byte_table()
    tables = np.zeros((30, 2, 256), dtype=np.uint16)
    states = np.stack([np.arange(256), np.arange(256) << 8]).astype(np.uint16)
    for _ in range(_BYTES):
        states = (states << 8) ^ step[states >> 8]
    tables[0] = states
    for i in range(1, len(tables)):
        before, states = tables[i - 1], tables[i - 1]
        tables[i] = before[0][states & 255] ^ before[1][states >> 8]
    return tables


_STEP = _byte_table()
_ZEROS = _zero_tables()


@kernel
def _skip(state, count, zeros):  # type: ignore[no-untyped-def]
    """The state after `count` symbols of 0."""
    power = 0
    while count:
        if count & 1:
            state = np.int64(zeros[power, 0, state & 255] ^ zeros[power, 1, state >> 8])
        count >>= 1
        power += 1
    return state


@kernel
def _run(symbols, state, step, zeros):  # type: ignore[no-untyped-def]
    """The state after these symbols."""
    skipped = np.int64(0)
    for i in range(len(symbols)):
        value = symbols[i]
        if value == 0:
            skipped += 1
            continue
        if skipped:
            state = _skip(state, skipped, zeros)
            skipped = np.int64(0)
        bits = np.int64(value)
        for _ in range(4):
            state = ((state << 8) & 0xFFFF) ^ np.int64(step[(state >> 8) ^ (bits & 255)])
            bits >>= 8
    return _skip(state, skipped, zeros)


def crc16(symbols: NDArray[np.int32], state: int = START) -> int:
    """The state after these symbols as little-endian int32, from the state before; 0 .. 0xFFFF."""
    flat = np.ascontiguousarray(symbols, dtype=np.int32).reshape(-1)
    return int(_run(flat, np.int64(state), _STEP, _ZEROS))
