"""Interleaved rANS over integer tables (Duda 2013; Giesen 2014 for the interleaving).

encode() and decode() are exact inverses and the payload is self-contained: it says how many lanes
it has, it is used up exactly, and every lane must end where the encoder began. Decoder takes it in
steps, for indexes that depend on symbols decoded before. rans_reference.py gives the same bytes in
plain Python.
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
    words = np.empty(len(symbols), dtype=np.uint16)  # a symbol emits one word at most
    escaped = np.empty(len(symbols), dtype=np.int64)
    count, escapes = kernels.encode(
        symbols, indexes, tables.layout, tables.encoder, states, words, escaped
    )
    tail = np.zeros(8 * escapes, dtype=np.uint8)
    used = kernels.put_escapes(
        symbols, indexes, tables.layout, tables.orders, escaped[:escapes], tail
    )
    if used < 0:
        check_magnitude(int(np.abs(symbols.astype(np.int64)).max()))
    return pack(states.tolist(), tail[:used].tobytes(), words[:count])


def decode(
    payload: bytes | memoryview, indexes: np.ndarray, tables: Tables, *, skip_below: int = 0
) -> np.ndarray:
    """The symbols (int32, shape of indexes) that encode() was given with these same arguments.

    Raises StreamError when the payload cannot have come from encode() with these indexes and
    tables: of damaged payloads about one in 65536 slips through, so callers keep a checksum.
    """
    decoder = Decoder(payload, tables, skip_below=skip_below)
    symbols = decoder.decode(indexes)
    decoder.finish()
    return symbols


class Decoder:
    """Decodes a payload in consecutive parts, each of which may depend on those before.

    The parts, flattened and concatenated, are what encode() was given. Nothing is certain before
    finish(). Raises StreamError as decode() does; a decoder that has raised is of no further use.
    """

    def __init__(self, payload: bytes | memoryview, tables: Tables, *, skip_below: int = 0) -> None:
        self._tables, self._skip_below = tables, skip_below
        self._empty = len(payload) == 0
        if self._empty:
            return
        payload = bytes(payload)
        first, begin = parse(payload)
        self._states = np.array(first, dtype=np.uint64)
        # Escapes come first, words last: behind 2 or 3 spare bytes every word is aligned, and one
        # may be read below the lowest.
        size = len(payload) - begin
        buffer = np.zeros(size + size % 2 + 2, dtype=np.uint8)
        self._body = buffer[len(buffer) - size :]
        self._body[:] = np.frombuffer(payload, dtype=np.uint8, offset=begin)
        self._words = buffer.view("<u2").astype(np.uint16, copy=False)
        self._position = len(self._words) - 1  # of the next word
        self._bit = 0  # of the next escape
        self._number = 0  # symbols decoded

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        """The symbols (int32, shape of indexes) of the next part, whose indexes these are."""
        indexes, shape = check_arguments(indexes, self._tables, self._skip_below)
        symbols = np.zeros(len(indexes), dtype=np.int32)
        if self._empty:
            return symbols.reshape(shape)
        if not self._skip_below:
            self._decode(indexes, symbols)
            return symbols.reshape(shape)
        kept, positions = np.empty_like(indexes), np.empty(len(indexes), dtype=np.int32)
        count = kernels.locate(indexes, self._skip_below, positions, kept)
        coded = np.empty(count, dtype=np.int32)
        self._decode(kept[:count], coded)
        kernels.spread(coded, positions[:count], symbols)
        return symbols.reshape(shape)

    def finish(self) -> None:
        """Raise StreamError unless the payload is used up and every lane is where it began."""
        if self._empty:
            return
        if self._number == 0:
            raise StreamError("entropy payload: bytes where nothing is coded")
        if (self._states != START).any():
            raise StreamError("entropy payload: it does not match the tables it is decoded with")
        escape_bytes = (self._bit + 7) // 8
        if escape_bytes != self._escape_limit():
            raise StreamError("entropy payload: bytes left over")
        if self._bit % 8 and int(self._body[escape_bytes - 1]) << self._bit % 8 & 0xFF:
            raise StreamError("entropy payload: its padding is not zero")

    def _decode(self, indexes: np.ndarray, symbols: np.ndarray) -> None:
        """Decode coded positions only, into ``symbols``."""
        tables = self._tables
        escaped = np.empty(len(indexes), dtype=np.int64)
        available = (len(self._body) - (self._bit + 7) // 8) // 2
        position, escapes = kernels.decode(
            self._words,
            self._position,
            len(self._words) - 1 - available,
            self._number,
            indexes,
            tables.decoder,
            tables.buckets,
            self._states,
            symbols,
            escaped,
        )
        if position < 0:
            raise StreamError("entropy payload: it ends too early")
        self._position = position
        self._number += len(indexes)
        if escapes:
            bit = kernels.get_escapes(
                self._body[: self._escape_limit()],
                self._bit,
                symbols,
                indexes,
                tables.layout,
                tables.orders,
                escaped[:escapes],
            )
            if bit < 0:
                raise StreamError(f"entropy payload: an escaped symbol is {_ESCAPE_ERRORS[bit]}")
            self._bit = bit

    def _escape_limit(self) -> int:
        """Bytes in front of the words used so far."""
        return len(self._body) - 2 * (len(self._words) - 1 - self._position)


_ESCAPE_ERRORS = {kernels.TRUNCATED: "cut off", kernels.BAD_ESCAPE: "out of bounds"}
