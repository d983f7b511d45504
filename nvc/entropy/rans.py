"""Interleaved rANS over integer tables (Duda 2013; Giesen 2014 for the interleaving).

encode() and decode() are exact inverses and the payload is self-contained: it says how many lanes
it has, it is used up exactly, and every lane must end where the encoder began. rans_reference.py
gives the same bytes in plain Python.
"""

import numpy as np

from nvc.entropy import kernels
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
from nvc.entropy.tables import Tables
from nvc.errors import StreamError


def encode(
    symbols: np.ndarray, indexes: np.ndarray, tables: Tables, *, skip_below: int = 0
) -> bytes:
    """Code symbols, each under the table its index names.

    symbols: integers of any shape, magnitude below 2**24; indexes: integers of the same shape,
    0 .. len(tables) - 1. Positions with an index below skip_below are not coded and must be 0. The
    payload is empty when no symbol differs from 0. Raises ValueError on arguments outside these
    bounds.
    """
    indexes, shape = check_arguments(indexes, tables, skip_below)
    symbols = check_symbols(symbols, shape)
    if not symbols.any():
        return b""
    if skip_below:
        kept, kept_indexes = np.empty_like(symbols), np.empty_like(indexes)
        count = kernels.select(symbols, indexes, skip_below, kept, kept_indexes)
        if count < 0:
            raise ValueError("a symbol that is skipped must be 0")
        symbols, indexes = kept[:count], kept_indexes[:count]
    step = sample_step(len(symbols))
    cost = kernels.estimate(symbols, indexes, tables.layout, tables.costs, step)
    states = np.full(lane_count(cost * step // 128), START, dtype=np.uint64)
    words = np.empty(len(symbols) + 1, dtype=np.uint16)  # a symbol emits one word at most
    escaped = np.empty(len(symbols), dtype=np.int64)
    begin, escapes = kernels.encode(
        symbols, indexes, tables.layout, tables.encoder, states, words, escaped
    )
    tail = np.zeros(8 * escapes, dtype=np.uint8)
    used = kernels.put_escapes(
        symbols, indexes, tables.layout, tables.orders, escaped[:escapes], tail
    )
    if used < 0:
        check_magnitude(int(np.abs(symbols.astype(np.int64)).max()))
    return pack(states.tolist(), words[begin:], tail[:used].tobytes())


def decode(
    payload: bytes | memoryview, indexes: np.ndarray, tables: Tables, *, skip_below: int = 0
) -> np.ndarray:
    """The symbols (int32, shape of indexes) that encode() was given with these same arguments.

    Raises StreamError when the payload cannot have come from encode() with these indexes and
    tables: of damaged payloads about one in 65536 slips through, so callers keep a checksum.
    """
    indexes, shape = check_arguments(indexes, tables, skip_below)
    symbols = np.zeros(len(indexes), dtype=np.int32)
    if len(payload) == 0:
        return symbols.reshape(shape)
    kept, positions = indexes, np.empty(0, dtype=np.int32)
    if skip_below:
        kept, positions = np.empty_like(indexes), np.empty(len(indexes), dtype=np.int32)
        count = kernels.locate(indexes, skip_below, positions, kept)
        kept, positions = kept[:count], positions[:count]
    if len(kept) == 0:
        raise StreamError("entropy payload: bytes where nothing is coded")
    payload = bytes(payload)
    first, begin = parse(payload)
    states = np.array(first, dtype=np.uint64)
    word_count = (len(payload) - begin) // 2
    words = np.zeros(word_count + 1, dtype=np.uint16)
    words[:-1] = np.frombuffer(payload, dtype="<u2", count=word_count, offset=begin)
    coded = np.empty(len(kept), dtype=np.int32) if skip_below else symbols
    escaped = np.empty(len(kept), dtype=np.int64)
    used, escapes = kernels.decode(
        words, word_count, kept, tables.decoder, tables.buckets, states, coded, escaped
    )
    if used < 0:
        raise StreamError("entropy payload: it ends too early")
    if (states != START).any():
        raise StreamError("entropy payload: it does not match the tables it is decoded with")
    tail = np.frombuffer(payload, dtype=np.uint8, offset=begin + 2 * used)
    tail_used = kernels.get_escapes(
        tail.copy(), coded, kept, tables.layout, tables.orders, escaped[:escapes]
    )
    if tail_used != len(tail):
        raise StreamError(f"entropy payload: {_ESCAPE_ERRORS.get(tail_used, 'bytes left over')}")
    if skip_below:
        kernels.spread(coded, positions, symbols)
    return symbols.reshape(shape)


_ESCAPE_ERRORS = {
    kernels.TRUNCATED: "an escaped symbol is cut off",
    kernels.BAD_ESCAPE: "an escaped symbol is out of bounds",
}
