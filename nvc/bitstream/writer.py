"""Writing a stream, to a file or a pipe, without ever going back."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import BinaryIO

from nvc.bitstream.header import StreamHeader
from nvc.bitstream.index import IndexBuilder, StreamEnd, pack_index
from nvc.bitstream.timestamps import PendingTimestamps, pack_timestamps
from nvc.bitstream.units import (
    CRC_SIZE,
    FRAME_TYPES,
    MAX_RANGE,
    Unit,
    UnitHead,
    UnitType,
    check_unit,
    pack_head,
    unit_crc,
)
from nvc.errors import InputError

_HOLD_BYTES = 4 << 20
_HOLD_UNITS = 1024
_AUDIO_CHUNK = 1 << 18


class StreamWriter:
    """Writes header, units, index and END to `file`, which it does not close.

    Give each frame's time with `add_timestamp` in order of the frames, before writing the unit that
    holds the frame; a stream of which no times are given has a constant rate. Times that leave the
    constant rate are written ahead of their frames, a GOP at a time: units are held back for that,
    4 MB at most. With `low_latency` (the default on a pipe) nothing is held and times are written
    as they come. The header is written with the first unit that is not CONFIG, and starts the
    clock at the first frame's time.

    `frame_count` grows with the units of track 0 and goes into END; a program that passes on a
    stream and leaves units out may raise it, so that the last frames are known to be missing.

    As a context manager it finishes the stream unless an exception passes through: an interrupted
    stream has no END and says so when read.
    """

    def __init__(
        self, file: BinaryIO, header: StreamHeader, *, low_latency: bool | None = None
    ) -> None:
        self.header = header
        self.bytes_written = 0
        self.frame_count = 0
        self._file = file
        self._low_latency = not file.seekable() if low_latency is None else low_latency
        self._index = IndexBuilder()
        self._unit_count = 0
        self._configs: list[Unit] = []
        self._held: list[Unit] = []
        self._held_bytes = 0
        self._first_times: dict[int, list[int]] = {}
        self._times: dict[int, PendingTimestamps] = {}
        self._audio_chunks = 0
        self._started = False
        self._closed = False

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()

    def add_timestamp(self, pts: int, *, track: int = 0) -> None:
        """Time of the next frame of the track, in units of the header's time_base.

        Raises InputError when it is over 2**32 seconds from zero.
        """
        if abs(pts) > self.header.pts_limit:
            raise InputError(
                f"a frame has the time {pts} x {self.header.tick} s: the format holds times within "
                "2**32 s of zero"
            )
        if not self._started:
            self._first_times.setdefault(track, []).append(pts)
            return
        if track not in self._times:
            self._times[track] = PendingTimestamps(self.header)
        self._times[track].add(pts)

    def add_audio(self, chunk: bytes) -> None:
        """The next bytes of the Matroska file that holds the sound, any number of them."""
        for start in range(0, len(chunk), _AUDIO_CHUNK):
            piece = chunk[start : start + _AUDIO_CHUNK]
            self.write(Unit(UnitType.AUDIO, piece, frame_start=self._audio_chunks))

    def write(self, unit: Unit) -> None:
        """Append a unit of any type but INDEX and END; ValueError when it breaks the format."""
        if self._closed:
            raise ValueError("the stream is closed")
        if unit.type in (UnitType.INDEX, UnitType.END):
            raise ValueError("INDEX and END units are written by close()")
        check_unit(unit)
        if unit.type == UnitType.AUDIO:
            self._audio_chunks = unit.frame_start + 1
        if not self._started and unit.type == UnitType.CONFIG:
            self._configs.append(unit)
            return
        self._start()
        held = self._held
        if held and unit.key and unit.type in FRAME_TYPES:
            first = next((u.frame_start for u in held if u.type in FRAME_TYPES), unit.frame_start)
            if unit.frame_start > first:
                self._release(before=unit.frame_start, of_track=unit.track)
        held.append(unit)
        self._held_bytes += len(unit.payload)
        if (
            self._low_latency
            or self._held_bytes > _HOLD_BYTES
            or len(held) >= _HOLD_UNITS
            or not any(times.deviating for times in self._times.values())
        ):
            self._release()

    def close(self) -> int:
        """Write what is held, the index and the END unit; the size of the stream in bytes."""
        if self._closed:
            return self.bytes_written
        self._start()
        self._release()
        self._closed = True
        entries = self._index.entries
        index_offset = self.bytes_written
        self._emit(Unit(UnitType.INDEX, pack_index(entries)))
        end = StreamEnd(index_offset, self.frame_count, self._unit_count)
        self._emit(Unit(UnitType.END, end.pack()))
        self._file.flush()
        return self.bytes_written

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        first = self._first_times.get(0)
        if first and not self.header.start_pts:
            self.header = replace(self.header, start_pts=first[0])
        header = self.header.pack()
        self._file.write(header)
        self.bytes_written = len(header)
        for track, times in self._first_times.items():
            for pts in times:
                self.add_timestamp(pts, track=track)
        self._first_times = {}
        for unit in self._configs:
            self._emit(unit)
        self._configs = []

    def _release(self, before: int | None = None, of_track: int = 0) -> None:
        """Write the times of the track's frames under `before` (None: all) and the units held."""
        for track, times in self._times.items():
            start, pts = times.take(before if track == of_track else None)
            for first in range(0, len(pts), MAX_RANGE):
                run = pts[first : first + MAX_RANGE]
                payload = pack_timestamps(self.header, start + first, run)
                self._emit(
                    Unit(
                        UnitType.TIMESTAMPS,
                        payload,
                        frame_start=start + first,
                        frame_count=len(run),
                        track=track,
                    )
                )
        for unit in self._held:
            self._emit(unit)
        self._held.clear()
        self._held_bytes = 0
        if self._low_latency:
            self._file.flush()

    def _emit(self, unit: Unit) -> None:
        head = pack_head(unit)
        payload = unit.payload
        tail = unit_crc(head, payload).to_bytes(CRC_SIZE, "little")
        described = UnitHead(
            unit.type,
            unit.frame_start,
            unit.frame_count,
            unit.layer,
            unit.key,
            unit.track,
            unit.critical,
            len(payload),
            len(head),
        )
        self._index.add(self.bytes_written, described)
        if len(payload) < 65536:
            self._file.write(b"".join((head, payload, tail)))
        else:
            self._file.write(head)
            self._file.write(payload)
            self._file.write(tail)
        self.bytes_written += described.total
        self._unit_count += 1
        if unit.type in FRAME_TYPES and not unit.track:
            self.frame_count = max(self.frame_count, unit.frame_end)
