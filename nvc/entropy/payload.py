"""What the compiled coder and its pure Python twin share: arguments, lanes, and the payload's head.

docs/entropy.md gives the layout byte by byte.
"""

from itertools import pairwise

import numpy as np

from nvc.entropy.tables import SYMBOL_LIMIT, Tables
from nvc.errors import StreamError

START = 1 << 16  # state of every lane before the first symbol, and the smallest state
MAX_LANES = 8
LANE_BYTES = 1200  # payload bytes that pay for one lane of 3 bytes: 0.25 %
SAMPLES = 1 << 12  # symbols looked at to estimate the size of a payload

_LANES_MASK = 0x03
_SHORT_STATE = 0x04


def check_arguments(
    indexes: np.ndarray, tables: Tables, skip_below: int
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Flat uint8 indexes and their shape; raises ValueError when one has no table."""
    indexes = np.asarray(indexes)
    if indexes.dtype.kind not in "iu":
        raise ValueError(f"indexes must be integers, not {indexes.dtype}")
    if indexes.size and not 0 <= int(indexes.min()) <= int(indexes.max()) < len(tables):
        raise ValueError(f"indexes must lie between 0 and {len(tables) - 1}")
    if not 0 <= skip_below <= len(tables):
        raise ValueError(f"skip_below must lie between 0 and {len(tables)}")
    return _plain(indexes, np.dtype(np.uint8)), indexes.shape


def check_symbols(symbols: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Flat int32 symbols; raises ValueError when they are not integers of the indexes' shape."""
    symbols = np.asarray(symbols)
    if symbols.dtype.kind not in "iu":
        raise ValueError(f"symbols must be integers, not {symbols.dtype}")
    if symbols.shape != shape:
        raise ValueError(f"{symbols.shape} symbols do not match {shape} indexes")
    if symbols.dtype != np.int32 and symbols.size:
        check_magnitude(max(int(symbols.max()), -int(symbols.min())))
    return _plain(symbols, np.dtype(np.int32))


def check_magnitude(magnitude: int) -> None:
    """Raise ValueError when a symbol of this magnitude cannot be coded."""
    if magnitude >= SYMBOL_LIMIT:
        raise ValueError(f"a symbol of magnitude {magnitude}: less than {SYMBOL_LIMIT} is allowed")


def _plain(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Flat, contiguous and writeable, so that one compiled kernel serves every caller."""
    flat = np.ascontiguousarray(array, dtype=dtype).reshape(-1)
    return flat if flat.flags.writeable else flat.copy()


def sample_step(count: int) -> int:
    """Distance between the symbols that the size estimate looks at."""
    return max(1, count // SAMPLES)


def lane_count(estimated_bytes: int) -> int:
    """Lanes (1, 2, 4 or 8) of a payload of about this size."""
    lanes = MAX_LANES
    while lanes > 1 and estimated_bytes < lanes * LANE_BYTES:
        lanes //= 2
    return lanes


def pack(states: list[int], escapes: bytes, words: np.ndarray) -> bytes:
    """A payload from final states, escapes, and words in the order of encoding (uint16)."""
    short = states[0] < 1 << 24
    head = (len(states).bit_length() - 1) | (_SHORT_STATE if short else 0)
    parts = [bytes([head]), states[0].to_bytes(3 if short else 4, "little")]
    parts += [state.to_bytes(4, "little") for state in states[1:]]
    return b"".join([*parts, escapes, words.astype("<u2").tobytes()])


def parse(payload: bytes) -> tuple[list[int], int]:
    """The states at the start of decoding and where the escapes begin; raises StreamError."""
    head = payload[0]
    if head & ~(_LANES_MASK | _SHORT_STATE):
        raise StreamError(f"entropy payload: unknown head 0x{head:02x}")
    first = 3 if head & _SHORT_STATE else 4
    begin = 1 + first + 4 * ((1 << (head & _LANES_MASK)) - 1)
    if begin > len(payload):
        raise StreamError(f"entropy payload: {len(payload)} bytes, its head needs {begin}")
    edges = [1, *range(1 + first, begin + 1, 4)]
    states = [int.from_bytes(payload[a:b], "little") for a, b in pairwise(edges)]
    if min(states) < START or (first == 4 and states[0] < 1 << 24):
        raise StreamError("entropy payload: a lane starts in an impossible state")
    return states, begin
