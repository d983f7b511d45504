"""Audio that travels with a video: its packets, copied between a file and Matroska bytes.

Time in the Matroska bytes is the time of the video's own clock plus the whole seconds that the
global tag ``NVC_SHIFT`` tells: Matroska has no negative times and audio often begins before 0.
"""

from __future__ import annotations

import io
import logging
import math
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av

log = logging.getLogger("nvc.video")

SHIFT_TAG = "NVC_SHIFT"
CHUNK_BYTES = 1_000_000
SPOOL_BYTES = 16 << 20
# Matroska rounds to milliseconds: a smaller deviation from the sample count is that rounding.
ROUNDING = Fraction(1, 500)
MAX_SHIFT = 1_000_000


def packet_start(packet: av.Packet) -> Fraction | None:
    """When ``packet`` begins, in seconds; None when it does not say."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None or packet.time_base is None else ticks * packet.time_base


class AudioCollector:
    """Takes audio packets while the video is read and keeps them as Matroska in a spooled file.

    ``add`` packets as they come; ``begin`` when the first frame kept is known; ``advance`` with the
    video; ``finish`` once. The audio is cut between packets: those that begin within the span.
    """

    def __init__(self, streams: list[Any], name: str) -> None:
        self._name = name
        self._sources = [stream for stream in streams if stream.codec_context is not None]
        if len(self._sources) < len(streams):
            log.warning("%s: an audio track of an unknown codec is left out", name)
        self._spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115
        self._pending: deque[av.Packet] = deque()
        self._output: av.container.OutputContainer | None = None
        self._tracks: dict[int, Any] = {}
        self._reached: dict[int, Fraction] = {}
        self._lower: Fraction | None = None
        self._offset = Fraction(0)
        self._written = 0

    @property
    def streams(self) -> list[Any]:
        """The streams whose packets are wanted."""
        return self._sources

    def add(self, packet: av.Packet) -> None:
        """Take one packet of one of ``streams``."""
        start = packet_start(packet)
        if start is None or not packet.size:
            return
        self._reached[packet.stream_index] = start
        self._pending.append(packet)

    def drop_before(self, time: Fraction) -> None:
        """Forget what begins before ``time``, while the first frame kept is still ahead."""
        while self._pending and (packet_start(self._pending[0]) or 0) < time:
            self._pending.popleft()

    def begin(self, *, lower: Fraction | None, rebase: Fraction) -> None:
        """Open the Matroska file: keep what begins from ``lower`` on, less ``rebase``."""
        self._lower = lower
        starts = [
            stream.start_time * stream.time_base
            for stream in self._sources
            if stream.start_time is not None
        ]
        earliest = lower if lower is not None else min(starts, default=Fraction(0))
        shift = 1 + max(0, math.ceil(rebase - earliest))
        self._offset = shift - rebase
        output = av.open(self._spool, "w", format="matroska")
        output.metadata[SHIFT_TAG] = str(shift)
        for source in self._sources:
            try:
                track = output.add_stream_from_template(source)
            except ValueError:
                log.warning(
                    "%s: audio track %d (%s) is left out: Matroska cannot hold it",
                    self._name,
                    source.index,
                    source.codec_context.codec.canonical_name,
                )
                continue
            for key in ("language", "title"):
                if key in source.metadata:
                    track.metadata[key] = source.metadata[key]
            self._tracks[source.index] = track
        self._output = output

    def advance(self, time: Fraction | None) -> None:
        """Write what starts before ``time`` (None: everything there is)."""
        waiting: deque[av.Packet] = deque()
        while self._pending:
            packet = self._pending.popleft()
            start = packet_start(packet)
            if time is None or (start is not None and start < time):
                self._write(packet)
            else:
                waiting.append(packet)
        self._pending = waiting

    def reached(self, time: Fraction) -> bool:
        """Whether every track has delivered a packet that starts at ``time`` or later."""
        return all(self._reached.get(source.index, time - 1) >= time for source in self._sources)

    def _write(self, packet: av.Packet) -> None:
        index = packet.stream_index
        track = self._tracks.get(index)
        if track is None or self._output is None:
            return
        if self._lower is not None and (packet_start(packet) or 0) < self._lower:
            return
        ticks = round(self._offset / packet.time_base)
        dts = packet.dts if packet.dts is not None else packet.pts
        pts = packet.pts if packet.pts is not None else dts
        if pts + ticks < 0:
            return
        packet.pts, packet.dts, packet.stream = pts + ticks, max(0, dts + ticks), track
        try:
            self._output.mux_one(packet)
        except (av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            log.warning("%s: an audio track is cut: it cannot be copied (%s)", self._name, reason)
            del self._tracks[index]
            return
        self._written += 1

    def finish(self, time: Fraction | None) -> None:
        """Write the rest up to ``time`` and close the Matroska file."""
        if self._output is not None:
            self.advance(time)
            if self._written:
                self._output.close()
            self._output = None
        self._pending.clear()

    def chunks(self) -> Iterator[bytes]:
        """The Matroska file in parts of at most ``CHUNK_BYTES``; none when it has no packet."""
        if not self._written:
            return
        self._spool.seek(0)
        while part := self._spool.read(CHUNK_BYTES):
            yield part

    def close(self) -> None:
        """Free the spooled file."""
        self._output = None
        self._spool.close()


def _can_hold(stream: Any, container_format: str) -> bool:
    """Whether FFmpeg's muxer of ``container_format`` takes this track, tried in memory."""
    trial = av.open(io.BytesIO(), "w", format=container_format)
    try:
        trial.add_stream_from_template(stream)
        trial.start_encoding()
        trial.close()
    except (ValueError, av.error.FFmpegError):
        return False
    return True


class AudioTracks:
    """The audio of an ``.nvc`` stream on its way into a file that FFmpeg writes.

    ``chunks`` are Matroska bytes as ``AudioCollector`` makes them. Tracks that the target cannot
    hold, and bytes that are no Matroska, are left out with one warning each.
    """

    def __init__(self, chunks: Iterable[bytes], container_format: str, name: str) -> None:
        self._name = name
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115
        self._container: Any = None
        self._outputs: dict[int, Any] = {}
        self._sources: list[Any] = []
        self._shift = Fraction(0)
        for chunk in chunks:
            self._file.write(chunk)
        if self._file.tell():
            self._file.seek(0)
            self._open(container_format)

    def _open(self, container_format: str) -> None:
        try:
            self._container = av.open(self._file, "r", format="matroska")
        except (ValueError, av.error.FFmpegError, OSError):
            log.warning("%s: the audio in the stream is damaged and is left out", self._name)
            return
        shift = self._container.metadata.get(SHIFT_TAG, "0")
        if shift.isdigit() and int(shift) <= MAX_SHIFT:
            self._shift = Fraction(int(shift))
        for stream in self._container.streams.audio:
            codec = stream.codec_context
            if codec is not None and codec.sample_rate and _can_hold(stream, container_format):
                self._sources.append(stream)
            else:
                what = "unknown" if codec is None else codec.codec.canonical_name
                log.warning(
                    "%s: %s cannot hold %s audio; written without it",
                    self._name,
                    container_format,
                    what,
                )

    def declare(self, output: Any) -> None:
        """Add the tracks to an output container that has not been started."""
        for source in self._sources:
            track = output.add_stream_from_template(source)
            track.time_base = Fraction(1, source.codec_context.sample_rate)
            for key in ("language", "title"):
                if key in source.metadata:
                    track.metadata[key] = source.metadata[key]
            self._outputs[source.index] = track

    def packets(self) -> Iterator[av.Packet]:
        """Packets in time order, on the video's clock, bound to the declared tracks.

        Damage in the middle ends the audio with a warning.
        """
        if not self._sources:
            return
        expected: dict[int, Fraction] = {}
        last: dict[int, int] = {}
        try:
            for packet in self._container.demux(self._sources):
                start = packet_start(packet)
                if start is None or not packet.size:
                    continue
                index = packet.stream_index
                codec = self._container.streams[index].codec_context
                rate, samples = codec.sample_rate, codec.frame_size
                start -= self._shift
                guess = expected.get(index)
                if samples and guess is not None and abs(guess - start) < ROUNDING:
                    start = guess
                ticks = max(round(start * rate), last.get(index, -(10**15)) + 1)
                last[index] = ticks
                if samples:
                    expected[index] = Fraction(ticks + samples, rate)
                packet.duration = samples or round((packet.duration or 0) * packet.time_base * rate)
                packet.time_base = Fraction(1, rate)
                packet.pts = packet.dts = ticks
                packet.stream = self._outputs[index]
                yield packet
        except (ValueError, av.error.FFmpegError):
            log.warning("%s: the audio in the stream is damaged; cut there", self._name)

    def close(self) -> None:
        """Close the Matroska bytes."""
        if self._container is not None:
            self._container.close()
        self._file.close()
