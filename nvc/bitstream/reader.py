"""Reading a stream: in order from a file or a pipe, by frame from a file, and past damage."""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from nvc.bitstream.header import PREFIX_SIZE, StreamHeader, header_size
from nvc.bitstream.index import IndexBuilder, IndexEntry, StreamEnd
from nvc.bitstream.source import CHUNK, SMALL_CHUNK, Cursor, Source
from nvc.bitstream.timestamps import Timestamps, parse_timestamps
from nvc.bitstream.units import (
    CODEC_TYPES,
    FRAME_TYPES,
    MAX_REORDER,
    Unit,
    UnitHead,
    UnitType,
)
from nvc.bitstream.walk import DamageLog, LostUnit, Walk, read_trailer
from nvc.errors import StreamError

_SPOOL_BYTES = 4 << 20


class StreamReader:
    """Reads the stream in `file` (a file or a pipe), which it does not close.

    Anything wrong raises StreamError, one line that names `name` and the byte offset. With
    `partial` damage does not raise: units before it are given, reading goes on at the next unit
    that is found intact, `damage` tells the first thing found wrong and `lost` lists the units
    whose header is intact and whose payload is not, so that a codec can conceal them. The file
    header must be intact in any case.
    """

    def __init__(self, file: BinaryIO, *, name: str = "stream", partial: bool = False) -> None:
        self.name = name
        self.partial = partial
        self._log = DamageLog(name, partial)
        self._source = Source(file)
        self._cursor = Cursor(self._source)
        self._times: dict[int, Timestamps] = {}
        self._times_loaded = not self._source.seekable
        self._end: StreamEnd | None = None
        self._index: list[IndexEntry] | None = None
        self._listed: list[int] = []
        self._trailer_read = False
        self._stretches: dict[int, _Stretch] = {}
        self._scanned_frames: int | None = None
        self._pipe_read = False
        self._spool: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._chunks = 0
        try:
            size = header_size(self._cursor.peek(PREFIX_SIZE))
            self.header = StreamHeader.parse(self._cursor.peek(size))
        except StreamError as error:
            raise type(error)(f"{name}: {error}") from None
        self._cursor.skip(size)
        self.header_size = size

    @property
    def damage(self) -> str | None:
        """The first thing found wrong so far, in one line; None while there is nothing."""
        return self._log.first

    @property
    def lost(self) -> list[LostUnit]:
        """Units found damaged so far, in file order."""
        return [self._log.lost[offset] for offset in sorted(self._log.lost)]

    @property
    def seekable(self) -> bool:
        """Whether frames can be reached without reading all before them."""
        return self._source.seekable

    @property
    def size(self) -> int | None:
        """Bytes of the stream; None on a pipe."""
        return self._source.size

    # In order

    def units(self, *, layers: int | None = None) -> Iterator[Unit]:
        """Units for the codec (CONFIG, FRAME, PARAMETERS) in file order, checked.

        With `layers`, FRAME units of that layer and above are passed over. The times of a frame are
        in `timestamps` before its units are given. A pipe can be read once.
        """
        for unit in self._in_order(layers):
            if unit.type in CODEC_TYPES:
                yield unit

    def all_units(self) -> Iterator[Unit]:
        """Every unit but INDEX and END, unknown types too, as a program that rewrites needs."""
        return self._in_order(None)

    def walk(self, *, payloads: bool = True) -> Iterator[tuple[int, UnitHead]]:
        """Offset and header of every unit; payloads are checked unless `payloads` is False."""
        for offset, head, _ in self._pass(lambda head: payloads):
            yield offset, head

    def _in_order(self, layers: int | None) -> Iterator[Unit]:
        for _, head, payload in self._pass(lambda head: not _above(head, layers)):
            if payload is not None and head.type not in (UnitType.INDEX, UnitType.END):
                yield head.with_payload(payload)

    def _pass(
        self, want: Callable[[UnitHead], bool]
    ) -> Iterator[tuple[int, UnitHead, bytes | None]]:
        if self._source.seekable:
            cursor = Cursor(self._source, self.header_size)
        elif self._pipe_read:
            raise StreamError(f"{self.name}: a pipe can be read only once")
        else:
            cursor, self._pipe_read = self._cursor, True
        walk = self._walk(cursor)
        for offset, head, payload in walk.run(want):
            if payload is not None:
                if head.type == UnitType.TIMESTAMPS:
                    self._take_times(offset, head, payload)
                elif head.type == UnitType.AUDIO and not self._source.seekable:
                    self._spool_audio(offset, head, payload)
                elif head.type == UnitType.END:
                    self._end = self._end or walk.end
            yield offset, head, payload
        self._scanned_frames = walk.high.get(0, 0)

    # By frame

    def units_for(
        self, frame_start: int, frame_count: int, *, track: int = 0, layers: int | None = None
    ) -> Iterator[Unit]:
        """Units that decode some frames: CONFIG, then one track's from the last key at or before.

        Frames between that key and `frame_start` come along, since the others may depend on them,
        and for that reason FRAME units of up to MAX_REORDER frames behind the last.
        Raises StreamError on a pipe, ValueError for frames that cannot be.
        """
        if not self._source.seekable:
            raise StreamError(f"{self.name}: a pipe cannot be entered at frame {frame_start}")
        if frame_start < 0 or frame_count < 1:
            raise ValueError(f"there are no frames {frame_start} to {frame_start + frame_count}")
        return self._for_frames(frame_start, frame_start + frame_count, track, layers)

    def _for_frames(self, start: int, stop: int, track: int, layers: int | None) -> Iterator[Unit]:
        self._load_times()
        place = self._key_before(start, track)
        for entry in self.index:
            if entry.type == UnitType.CONFIG:
                unit = self._unit_at(entry)
                if unit is not None:
                    yield unit
        if place is None:
            return

        def wanted(head: UnitHead) -> bool:
            return (
                head.type in FRAME_TYPES
                and head.track == track
                and head.frame_start < stop + MAX_REORDER * (head.type == UnitType.FRAME)
                and not _above(head, layers)
            )

        for _, head, payload in self._walk_from(place).run(wanted):
            if head.track == track and head.type in FRAME_TYPES:
                if head.key and head.frame_start >= stop:
                    return
                if payload is not None and wanted(head):
                    yield head.with_payload(payload)

    def entry_before(self, frame: int, *, track: int = 0) -> int | None:
        """Frame where decoding starts when `frame` is wanted; None where there is no key."""
        if not self._source.seekable:
            return None
        place = self._key_before(frame, track)
        return None if place is None else place.frame_start

    def _key_before(self, start: int, track: int) -> IndexEntry | None:
        """The last key at or before a frame, else the first key there is."""
        stretch = self._stretches.get(track)
        if stretch is None or not stretch.covers(start):
            stretch = self._stretch_at(start, track)
            if stretch is None:
                return None
            self._stretches[track] = stretch
        before = [entry for entry in stretch.keys if entry.frame_start <= start]
        return before[-1] if before else stretch.keys[0]

    def _stretch_at(self, start: int, track: int) -> _Stretch | None:
        keys, place = self._listed_keys(start, track)
        if keys and not self._agrees(keys[place]):
            # The index is of another file or lies: what the file holds counts.
            self._scan()
            keys, place = self._listed_keys(start, track)
        if not keys:
            return None
        following = keys[place + 1] if place + 1 < len(keys) else None
        found = [keys[place]]
        # The index need not list every key; the headers up to its next entry tell of the others.
        walk = self._walk_from(found[0], chunk=SMALL_CHUNK)
        for offset, head, _ in walk.run(lambda head: False):
            if following is not None and offset >= following.offset:
                break
            own = head.track == track and head.type in FRAME_TYPES
            if own and head.key and head.frame_start > found[-1].frame_start:
                found.append(IndexEntry.of(offset, head))
        return _Stretch(found, None if following is None else following.frame_start)

    def _listed_keys(self, start: int, track: int) -> tuple[list[IndexEntry], int]:
        """Keys of the index, and which of them is the last at or before a frame, else 0."""
        keys = [e for e in self.index if e.key and e.type in FRAME_TYPES and e.track == track]
        before = [place for place, entry in enumerate(keys) if entry.frame_start <= start]
        return keys, before[-1] if before else 0

    def _agrees(self, entry: IndexEntry) -> bool:
        try:
            found = Cursor(self._source, entry.offset, chunk=SMALL_CHUNK).head()
        except StreamError:
            return False
        return found is not None and entry.agrees(found[0])

    def _unit_at(self, entry: IndexEntry) -> Unit | None:
        """The unit that an entry lists; None when it is damaged and that may be."""
        try:
            head, payload = self._walk_from(entry, chunk=SMALL_CHUNK).one()
            if not entry.agrees(head):
                raise StreamError(f"the index lists another unit than is at byte {entry.offset}")
        except StreamError as error:
            self._log.report(str(error))
            return None
        return head.with_payload(payload)

    # What the end of the file, or a scan, tells

    @property
    def index(self) -> list[IndexEntry]:
        """Entry points in file order: CONFIG, TIMESTAMPS and AUDIO units, and key frames.

        From the end of the file, or from a scan of it where that is not sound. Dense keys may be
        listed in part. Empty on a pipe.
        """
        self._read_trailer()
        if self._index is None and self._source.seekable:
            self._scan()
        return self._index or []

    @property
    def frame_count(self) -> int | None:
        """Frames of track 0: as END says, else counted; on a pipe as announced, None if not."""
        self._read_trailer()
        if self._end is not None:
            return self._end.frame_count
        if self._scanned_frames is None and self._source.seekable:
            self._scan()
        if self._scanned_frames is not None:
            return self._scanned_frames
        return self.header.frame_count

    def _read_trailer(self) -> None:
        if not self._trailer_read and self._source.seekable:
            self._end, self._index = read_trailer(self._source)
            self._listed = [entry.offset for entry in self._index or ()]
        self._trailer_read = True

    def _scan(self) -> None:
        builder = IndexBuilder(spacing=1)
        walk = self._walk(Cursor(self._source, self.header_size))
        for offset, head, _ in walk.run(lambda head: False):
            builder.add(offset, head)
        self._index = builder.entries
        self._stretches.clear()
        self._listed = [entry.offset for entry in self._index]
        self._scanned_frames = walk.high.get(0, 0)

    def _next_listed(self, offset: int) -> int | None:
        self._read_trailer()
        place = bisect_left(self._listed, offset)
        return self._listed[place] if place < len(self._listed) else None

    def _walk(self, cursor: Cursor) -> Walk:
        return Walk(self._source, cursor, self._log, next_entry=self._next_listed)

    def _walk_from(self, entry: IndexEntry, *, chunk: int = CHUNK) -> Walk:
        return Walk(
            self._source,
            Cursor(self._source, entry.offset, chunk=chunk),
            self._log,
            next_entry=self._next_listed,
            high={entry.track: entry.frame_start},
            whole=False,
        )

    # Times

    @property
    def timestamps(self) -> Timestamps:
        """`timestamps[frame]` of track 0, in time_base units; on a pipe as far as it was read."""
        return self.timestamps_of(0)

    def timestamps_of(self, track: int) -> Timestamps:
        """Times of the frames of a track."""
        self._load_times()
        return self._times.setdefault(track, Timestamps(self.header))

    def _load_times(self) -> None:
        if self._times_loaded:
            return
        self._times_loaded = True
        for entry in self.index:
            if entry.type == UnitType.TIMESTAMPS:
                unit = self._unit_at(entry)
                if unit is not None:
                    self._take_times(entry.offset, unit, unit.payload)

    def _take_times(self, offset: int, head: UnitHead | Unit, payload: bytes) -> None:
        try:
            pts = parse_timestamps(self.header, head.frame_start, head.frame_count, payload)
        except StreamError as error:
            self._log.report(f"{error} (byte {offset})")
            return
        times = self._times.setdefault(head.track, Timestamps(self.header))
        times.add(head.frame_start, pts)

    # Sound

    @property
    def has_audio(self) -> bool:
        """Whether there is sound: found in the file, or on a pipe announced or already met."""
        if self._source.seekable:
            return any(entry.type == UnitType.AUDIO for entry in self.index)
        return self.header.audio or self._chunks > 0

    def audio_chunks(self) -> Iterator[bytes]:
        """The Matroska file that holds the sound, in pieces; nothing when there is none.

        On a pipe call it when the units have been read. With `partial` it ends before the first
        piece that is damaged or missing.
        """
        if not self._source.seekable:
            if self._spool is not None:
                self._spool.seek(0)
                while piece := self._spool.read(CHUNK):
                    yield piece
            return
        expected = 0
        for entry in self.index:
            if entry.type == UnitType.AUDIO:
                unit = self._unit_at(entry)
                if unit is None or not self._follows(unit, entry.offset, expected):
                    return
                yield unit.payload
                expected += 1

    def _follows(self, unit: UnitHead | Unit, offset: int, expected: int) -> bool:
        if unit.frame_start == expected:
            return True
        self._log.report(
            f"the AUDIO unit at byte {offset} holds piece {unit.frame_start} of the sound, "
            f"piece {expected} is missing"
        )
        return False

    def _spool_audio(self, offset: int, head: UnitHead, payload: bytes) -> None:
        if self._chunks < 0 or not self._follows(head, offset, self._chunks):
            self._chunks = -1
            return
        if self._spool is None:
            # Lives as long as the reader, so no context manager.
            self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self._spool.write(payload)
        self._chunks += 1


@dataclass(frozen=True, slots=True)
class _Stretch:
    """All keys from one that the index lists up to the next that it lists, at frame `stop`."""

    keys: list[IndexEntry]
    stop: int | None

    def covers(self, frame: int) -> bool:
        return self.keys[0].frame_start <= frame and (self.stop is None or frame < self.stop)


def _above(head: UnitHead, layers: int | None) -> bool:
    return layers is not None and head.type == UnitType.FRAME and head.layer >= layers
