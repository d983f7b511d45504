"""Buffered reading at a known byte offset, from files and from pipes."""

from __future__ import annotations

import threading
from typing import BinaryIO

from nvc.bitstream.bits import EndOfData
from nvc.bitstream.units import (
    MAX_HEAD_SIZE,
    MIN_UNIT_SIZE,
    UnitHead,
    parse_head,
)

CHUNK = 1 << 18
SMALL_CHUNK = 1 << 12


class Source:
    """The bytes of a stream. Offsets count from where the file object stood when it was given."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.seekable = bool(file.seekable())
        self.size: int | None = None
        self._base = 0
        if self.seekable:
            self._base = file.tell()
            self.size = max(0, file.seek(0, 2) - self._base)
            file.seek(self._base)

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; on a pipe `offset` must be where the last read ended."""
        with self._lock:
            if self.seekable:
                self._file.seek(self._base + offset)
                return self._file.read(count)
            # read1 gives what has arrived: a live stream is not held back to fill a buffer.
            read = getattr(self._file, "read1", self._file.read)
            return read(count) or b""


class Cursor:
    """A place in a Source from which headers and payloads are taken in order.

    Several cursors may walk one seekable source; a pipe has one. `chunk` is the least that is read
    at a time: small for one unit here and there, large for a walk.
    """

    def __init__(self, source: Source, offset: int = 0, *, chunk: int = CHUNK) -> None:
        self._source = source
        self._chunk = chunk
        self._buffer = b""
        self._position = 0
        self._origin = offset

    @property
    def offset(self) -> int:
        """Byte offset of what is taken next."""
        return self._origin + self._position

    def fill(self, count: int) -> int:
        """Have `count` bytes at hand if the source has them; how many there are at least."""
        have = len(self._buffer) - self._position
        if have >= count:
            return have
        pieces = [self._buffer[self._position :]]
        self._origin += self._position
        self._position = 0
        while have < count:
            more = self._source.read(self._origin + have, max(count - have, self._chunk))
            if not more:
                break
            pieces.append(more)
            have += len(more)
        self._buffer = b"".join(pieces)
        return have

    def peek(self, count: int) -> bytes:
        """Up to `count` bytes without taking them."""
        self.fill(count)
        return self._buffer[self._position : self._position + count]

    def take(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end of the source; memory grows as they arrive."""
        if count <= CHUNK:
            self.fill(count)
            stop = min(self._position + count, len(self._buffer))
            data = self._buffer[self._position : stop]
            self._position = stop
            return data
        pieces = []
        while count > 0:
            piece = self.take(min(count, CHUNK))
            if not piece:
                break
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def skip(self, count: int) -> int:
        """Pass over `count` bytes; how many there were."""
        have = len(self._buffer) - self._position
        if count <= have:
            self._position += count
            return count
        if self._source.size is not None:
            count = max(0, min(count, self._source.size - self.offset))
            self._origin, self._position, self._buffer = self.offset + count, 0, b""
            return count
        passed = 0
        while passed < count:
            piece = self.take(min(count - passed, CHUNK))
            if not piece:
                break
            passed += len(piece)
        return passed

    def head(self) -> tuple[UnitHead, bytes] | None:
        """Header of the unit that starts here, and its bytes, without taking them; None at the end.

        Raises EndOfData when the source ends inside it and StreamError when it is damaged.
        """
        want = MIN_UNIT_SIZE
        have = self.fill(want)
        if not have:
            return None
        while True:
            start = self._position
            try:
                head = parse_head(self._buffer, start, len(self._buffer))
            except EndOfData:
                want = have + 1
                if want > MAX_HEAD_SIZE:
                    raise
                have = self.fill(want)
                if have < want:
                    raise
            else:
                return head, self._buffer[start : start + head.size]
