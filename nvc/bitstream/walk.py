"""Going from unit to unit, checking each, and finding the way again after damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nvc.bitstream.bits import EndOfData
from nvc.bitstream.index import END_UNIT_SIZE, IndexEntry, StreamEnd, parse_index
from nvc.bitstream.source import SMALL_CHUNK, Cursor, Source
from nvc.bitstream.units import (
    CRC_SIZE,
    FRAME_TYPES,
    MAX_GAP,
    UnitHead,
    UnitType,
    parse_head,
    type_name,
    unit_crc,
)
from nvc.errors import StreamError

# What one walk may spend on looking for the next unit behind damaged headers: positions tried, and
# bytes checksummed. They bound the time a hostile file can take.
SEARCH_POSITIONS = 1 << 20
SEARCH_BYTES = 1 << 26
_SEARCH_STEP = 1 << 16

_KNOWN = frozenset(UnitType)
_RANGED = FRAME_TYPES | {UnitType.TIMESTAMPS}
_PLAUSIBLE_TAG = bytes(tag >= 0x80 or (tag & 63) in _KNOWN for tag in range(256))


@dataclass(frozen=True, slots=True)
class LostUnit:
    """A unit whose header is intact and whose payload is damaged; `offset` is its first byte."""

    offset: int
    type: int
    frame_start: int
    frame_count: int
    layer: int
    track: int


@dataclass
class DamageLog:
    """What was found wrong: raised at once, or with `partial` noted, the first in `first`."""

    name: str
    partial: bool
    first: str | None = None
    lost: dict[int, LostUnit] = field(default_factory=dict)

    def report(self, message: str) -> None:
        """Raise StreamError with the stream's name, or note it."""
        if not self.partial:
            raise StreamError(f"{self.name}: {message}")
        if self.first is None:
            self.first = message

    def lose(self, offset: int, head: UnitHead) -> None:
        """Note a unit as lost."""
        self.lost[offset] = LostUnit(
            offset, head.type, head.frame_start, head.frame_count, head.layer, head.track
        )


def describe_unit(head: UnitHead, offset: int) -> str:
    """A unit in words, for messages."""
    text = f"{type_name(head.type)} unit at byte {offset}"
    if head.type == UnitType.FRAME and head.frame_count == 1:
        text += f" (frame {head.frame_start}, layer {head.layer})"
    elif head.type in _RANGED:
        text += f" (frames {head.frame_start} to {head.frame_end - 1})"
    return text


class _Final(StreamError):
    """Behind this nothing can be read."""


class Walk:
    """One pass over units from a cursor on.

    `next_entry(offset)` gives the first unit at or after an offset that a readable index lists, or
    None. `whole`: the pass starts at the first unit, so that END's counts can be checked.
    """

    def __init__(
        self,
        source: Source,
        cursor: Cursor,
        log: DamageLog,
        *,
        next_entry: Callable[[int], int | None],
        high: dict[int, int] | None = None,
        whole: bool = True,
    ) -> None:
        self.end: StreamEnd | None = None
        self.high = {0: 0} if high is None else high
        self._source = source
        self._cursor = cursor
        self._log = log
        self._next_entry = next_entry
        self._countable = whole
        self._units = 0
        self._positions_left = SEARCH_POSITIONS
        self._bytes_left = SEARCH_BYTES

    def run(self, want: Callable[[UnitHead], bool]) -> Iterator[tuple[int, UnitHead, bytes | None]]:
        """(offset, header, payload) of each sound unit up to END; payload None where not wanted.

        A payload that is not wanted is passed over, unread where the source is a file.
        """
        while True:
            offset = self._cursor.offset
            try:
                head, raw = self._head(offset)
            except _Final as error:
                self._log.report(str(error))
                return
            except StreamError as error:
                self._log.report(str(error))
                self._countable = False
                if not self._resume(offset + 1):
                    return
                continue
            self._cursor.skip(head.size)
            payload: bytes | None = None
            if want(head) or head.type == UnitType.END:
                payload = self._cursor.take(head.length)
                tail = self._cursor.take(CRC_SIZE)
                if len(tail) < CRC_SIZE:
                    self._cut_off(head, offset)
                    return
                if unit_crc(raw, payload) != int.from_bytes(tail, "little"):
                    self._damaged_payload(head, offset)
                    continue
            elif self._cursor.skip(head.length + CRC_SIZE) < head.length + CRC_SIZE:
                self._cut_off(head, offset)
                return
            if head.type in FRAME_TYPES:
                self.high[head.track] = max(self.high.get(head.track, 0), head.frame_end)
            if head.type == UnitType.END and payload is not None:
                self._check_end(payload, offset)
            yield offset, head, payload
            if head.type == UnitType.END:
                return
            self._units += 1

    def one(self) -> tuple[UnitHead, bytes]:
        """The unit at the cursor, checked; StreamError, without a name, when it is damaged."""
        offset = self._cursor.offset
        head, raw = self._head(offset)
        self._cursor.skip(head.size)
        payload = self._cursor.take(head.length)
        if unit_crc(raw, payload) != int.from_bytes(self._cursor.take(CRC_SIZE), "little"):
            raise StreamError(_wrong_checksum(head, offset))
        return head, payload

    def _head(self, offset: int) -> tuple[UnitHead, bytes]:
        """Header at the cursor. Raises _Final where nothing more can be read, else StreamError."""
        try:
            found = self._cursor.head()
        except EndOfData:
            have = self._cursor.fill(1)
            raise StreamError(
                f"the stream is cut off: it ends at byte {offset + have}, inside a unit's header"
            ) from None
        except StreamError as error:
            raise StreamError(f"{error} (byte {offset})") from None
        if found is None:
            raise _Final(f"the stream is cut off: it ends at byte {offset} with no END unit")
        self._check(found[0], offset)
        if found[0].critical and found[0].type not in _KNOWN:
            raise _Final(
                f"the {describe_unit(found[0], offset)} must be understood to decode this stream: "
                "a newer nvc is needed"
            )
        return found

    def _check(self, head: UnitHead, offset: int) -> None:
        """StreamError when the unit cannot be part of this stream."""
        size = self._source.size
        if size is not None and offset + head.total > size:
            raise StreamError(
                f"the {describe_unit(head, offset)} ends at byte {offset + head.total} and the "
                f"file at byte {size}: it is cut off"
            )
        if head.type in _RANGED:
            high = self.high.get(head.track, 0)
            if head.frame_start > high + MAX_GAP:
                raise StreamError(
                    f"the {describe_unit(head, offset)} follows frame {high}: "
                    f"over {MAX_GAP} frames are missing"
                )

    def _cut_off(self, head: UnitHead, offset: int) -> None:
        self._log.report(
            f"the stream is cut off: it ends at byte {self._cursor.offset}, inside the "
            f"{describe_unit(head, offset)}"
        )

    def _damaged_payload(self, head: UnitHead, offset: int) -> None:
        """Note the loss; the cursor stays behind the unit unless its length looks like a lie."""
        self._log.report(_wrong_checksum(head, offset))
        self._log.lose(offset, head)
        self._countable = False
        if not self._source.seekable or self._cursor.offset == self._source.size:
            return
        behind = self._cursor.offset
        try:
            following = self._cursor.peek(32)
            parse_head(following, 0, len(following))
        except StreamError:
            if not self._resume(offset + 1):
                self._cursor = Cursor(self._source, behind)

    def _check_end(self, payload: bytes, offset: int) -> None:
        try:
            self.end = StreamEnd.parse(payload)
        except StreamError as error:
            self._log.report(f"{error} (byte {offset})")
            return
        if not self._countable:
            return
        high = self.high.get(0, 0)
        if self.end.unit_count != min(self._units, 0xFFFFFFFF):
            self._log.report(
                f"the END unit at byte {offset} counts {self.end.unit_count} units and "
                f"{self._units} were found: some are missing or doubled"
            )
        elif not high <= self.end.frame_count <= high + MAX_GAP:
            # More than were found is how a stream tells that its last frames were lost.
            self._log.report(
                f"the END unit at byte {offset} counts {self.end.frame_count} frames and "
                f"{high} were found"
            )
        elif self._source.size is not None and self._cursor.offset < self._source.size:
            self._log.report(
                f"there are {self._source.size - self._cursor.offset} bytes behind the END unit, "
                f"from byte {self._cursor.offset} on"
            )

    def _resume(self, start: int) -> bool:
        """Set the cursor on the next sound unit at or after `start`; False when none is found."""
        if self._source.seekable:
            self._cursor = Cursor(self._source, start)
        else:
            self._cursor.skip(start - self._cursor.offset)
        while self._positions_left > 0:
            listed = self._next_entry(self._cursor.offset)
            step = min(_SEARCH_STEP, self._positions_left)
            if listed is not None:
                step = min(step, listed - self._cursor.offset)
            place = self._search(step)
            if place is not None:
                self._cursor.skip(place)
                return True
            if self._cursor.skip(step) < step:
                return False
            if listed is not None and self._cursor.offset == listed:
                return True
        listed = self._next_entry(self._cursor.offset)
        if listed is None:
            return False
        self._cursor = Cursor(self._source, listed)
        return True

    def _search(self, count: int) -> int | None:
        """Distance from the cursor, below `count`, of the first whole unit."""
        window = self._cursor.peek(count + 32)
        origin = self._cursor.offset
        for place in range(min(count, len(window))):
            self._positions_left -= 1
            if not _PLAUSIBLE_TAG[window[place]]:
                continue
            try:
                head = parse_head(window, place, len(window))
                self._check(head, origin + place)
            except StreamError:
                continue
            if head.type not in _KNOWN or head.total > self._bytes_left:
                continue
            self._bytes_left -= head.total
            unit = self._cursor.peek(place + head.total)[place:]
            if len(unit) == head.total and unit_crc(
                unit[: head.size], unit[head.size : -CRC_SIZE]
            ) == int.from_bytes(unit[-CRC_SIZE:], "little"):
                return place
        return None


def _wrong_checksum(head: UnitHead, offset: int) -> str:
    return f"the {describe_unit(head, offset)} is damaged: its checksum is wrong"


def read_trailer(source: Source) -> tuple[StreamEnd | None, list[IndexEntry] | None]:
    """END and index from the end of a file; None for each that is not there or not sound."""
    if source.size is None or source.size < END_UNIT_SIZE:
        return None, None
    log = DamageLog("", partial=False)
    place = source.size - END_UNIT_SIZE
    try:
        head, payload = _unit_at(source, place, log)
        if head.type != UnitType.END:
            return None, None
        end = StreamEnd.parse(payload)
    except StreamError:
        return None, None
    try:
        head, payload = _unit_at(source, end.index_offset, log)
        if head.type != UnitType.INDEX or end.index_offset + head.total != place:
            return end, None
        return end, parse_index(payload, end=end.index_offset)
    except StreamError:
        return end, None


def _unit_at(source: Source, offset: int, log: DamageLog) -> tuple[UnitHead, bytes]:
    if source.size is not None and offset >= source.size:
        raise StreamError(f"there is no unit at byte {offset}")
    cursor = Cursor(source, offset, chunk=SMALL_CHUNK)
    return Walk(source, cursor, log, next_entry=lambda _: None).one()
