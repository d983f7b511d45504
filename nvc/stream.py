"""Between a video and its stream: header fields, timestamps, layers and audio around a codec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch

from nvc.bitstream.header import MAX_RATIONAL, StreamHeader
from nvc.bitstream.reader import StreamReader
from nvc.bitstream.units import FRAME_TYPES, MAX_GAP
from nvc.bitstream.writer import StreamWriter
from nvc.codecs import CODECS, codec_entry, make_decoder
from nvc.errors import StreamError, UsageError
from nvc.video.frames import ColorInfo, Frame, VideoInfo

MAX_SPEED = 16  # frames made for each frame of a stream


def header_of(
    info: VideoInfo, codec: str, *, weights_hash: bytes, audio: bool = False
) -> StreamHeader:
    """The header of a stream of this video; the number of frames is left to the stream's end."""
    return StreamHeader(
        codec=codec,
        width=info.width,
        height=info.height,
        chroma=info.chroma,
        bit_depth=info.bit_depth,
        frame_rate=_storable(info.frame_rate),
        time_base=_storable(info.time_base),
        matrix=info.color.matrix,
        primaries=info.color.primaries,
        transfer=info.color.transfer,
        full_range=info.color.full_range,
        chroma_location=info.color.chroma_location,
        sample_aspect=_storable(info.sample_aspect),
        rotation=info.rotation,
        weights_hash=weights_hash,
        audio=audio,
    )


def _storable(value: Fraction) -> Fraction:
    """The nearest fraction whose terms the header can hold."""
    if max(value.numerator, value.denominator) <= MAX_RATIONAL:
        return value
    near = value.limit_denominator(MAX_RATIONAL)
    return min(max(near, Fraction(1, MAX_RATIONAL)), Fraction(MAX_RATIONAL))


def info_of(header: StreamHeader, frame_count: int | None = None) -> VideoInfo:
    """What the header says of the video."""
    return VideoInfo(
        width=header.width,
        height=header.height,
        chroma=header.chroma,
        bit_depth=header.bit_depth,
        frame_rate=header.frame_rate,
        time_base=header.tick,
        frame_count=header.frame_count if frame_count is None else frame_count,
        color=ColorInfo(
            matrix=header.matrix,
            primaries=header.primaries,
            transfer=header.transfer,
            full_range=header.full_range,
            chroma_location=min(header.chroma_location, 6),
        ),
        sample_aspect=header.sample_aspect,
        rotation=header.rotation,
    )


def timed(frames: Iterable[Frame], writer: StreamWriter) -> Iterator[Frame]:
    """The same frames; the writer is told the time of each before the codec sees it."""
    for frame in frames:
        writer.add_timestamp(frame.pts)
        yield frame


class StreamFrames:
    """The frames of an open stream, with their own timestamps.

    ``layers`` passes over units of that layer and above; UsageError when the codec has none.
    ``fps``: "2x" or a multiple of the stream's rate makes frames between the stream's, where the
    codec can (UsageError else); frames are then numbered and timed by the higher rate. With
    a partial reader, damage that the codec runs into ends the frames and is told by ``damage``.
    ``track``: which of a file's videos; UsageError when it has no such. ``precision`` of the
    networks, where the codec has a choice (UsageError else).
    """

    def __init__(
        self,
        reader: StreamReader,
        *,
        device: torch.device | str,
        layers: int | None = None,
        fps: str | None = None,
        track: int = 0,
        precision: str = "auto",
    ) -> None:
        codec = reader.header.codec
        if codec not in CODECS:
            raise StreamError(
                f"{reader.name}: it is coded with {codec}, which this nvc cannot decode; it can "
                f"decode: {', '.join(CODECS)}"
            )
        if layers is not None and not codec_entry(codec).layered:
            raise UsageError(f"codec {codec} has no layers to leave out: leave --layers away")
        if track and not codec_entry(codec).tracks:
            raise UsageError(f"codec {codec} has one video a file: leave --track away")
        if precision != "auto" and not codec_entry(codec).precisions:
            raise UsageError(f"codec {codec} has one precision: leave --precision away")
        self._reader = reader
        self._device = device
        self._layers = layers
        self._track = track
        self._precision = precision
        self._damage: str | None = None
        self.info = info_of(reader.header, self.frame_count)
        self.speed = 1 if fps is None else _speed(fps, self.info.frame_rate)
        if self.speed > 1:
            if not codec_entry(codec).interpolates:
                raise UsageError(f"codec {codec} makes no frames between frames: leave --fps away")
            self.info = replace(
                self.info,
                frame_rate=self.info.frame_rate * self.speed,
                time_base=self.info.time_base / self.speed,
                frame_count=self.frame_count and self.frame_count * self.speed,
            )

    @property
    def frame_count(self) -> int | None:
        """Frames of the track in the stream; None where a pipe does not tell yet."""
        reader, track = self._reader, self._track
        if not track:
            return reader.frame_count
        if not reader.seekable:
            raise UsageError(f"{reader.name}: a pipe is decoded at track 0 only")
        keys = [entry for entry in reader.index if entry.key and entry.type in FRAME_TYPES]
        ends = [entry.frame_start + entry.frame_count for entry in keys if entry.track == track]
        if not ends:
            known = sorted({entry.track for entry in keys})
            raise UsageError(
                f"{reader.name}: it has no track {track}; it has: {', '.join(map(str, known))}"
            )
        return max(ends)

    def entry_before(self, number: int) -> int | None:
        """First frame to decode for frame ``number``; None where there is no such place."""
        return self._reader.entry_before(number, track=self._track)

    @property
    def damage(self) -> str | None:
        """The first thing found wrong so far, in one line; None while there is nothing."""
        found = self._reader.damage or self._damage
        return found and self._named(found)

    def _named(self, line: str) -> str:
        name = self._reader.name
        return line if line.startswith(name) else f"{name}: {line}"

    def frames(
        self,
        start: int = 0,
        count: int | None = None,
        *,
        lead: bool = False,
        lanes: int = 1,
    ) -> Iterator[tuple[int, Frame]]:
        """(number, frame) of ``count`` frames (None: all) from ``start``, as far as they exist.

        At a higher rate, start and count are of the stream's own frames, numbers of those made.

        A file is entered at the last random access point before ``start``, a pipe is read through;
        ``lead`` gives the frames before ``start`` too that are decoded on the way. ``lanes`` groups
        of a file, whose units are read ahead, are decoded side by side where the codec can. A frame
        that an intact stream has lost and the codec does not conceal repeats the one before it.
        """
        reader, speed, total = self._reader, self.speed, self.frame_count
        kind = codec_entry(reader.header.codec)
        stop = None if count is None else start + count
        entry = self.entry_before(start) if start or self._track else None
        if entry is not None and entry <= start:
            wanted = count or max(1, (total or 0) - start)
            units = reader.units_for(start, wanted, track=self._track, layers=self._layers)
        else:
            units, entry = reader.units(layers=self._layers), 0
        info = info_of(reader.header, total)
        if stop is not None and total is not None:
            info = replace(info, frame_count=min(stop, total))
        codec = make_decoder(reader.header.codec)
        chosen: dict[str, Any] = {} if self._layers is None else {"layers": self._layers}
        if speed > 1:
            chosen["speed"] = speed
        if kind.tracks:
            chosen["track"] = self._track
        if kind.precisions:
            chosen["precision"] = self._precision
        if kind.lanes:
            # What a pipe sends last is not there to be read ahead.
            chosen["lanes"] = lanes if reader.seekable else 1
        if kind.enters:
            # Frames do not depend on each other: those before are not on the way.
            chosen["start"], entry = start * speed, max(entry, start)
        start, stop = start * speed, None if stop is None else stop * speed
        try:
            decoded = codec.decode(units, info, device=self._device, **chosen)
            for number, frame in self._without_gaps(decoded, entry * speed):
                if stop is not None and number >= stop:
                    return
                if lead or number >= start:
                    yield number, replace(frame, pts=self._time(number))
                if number + 1 == stop:
                    return
        except StreamError as error:
            if not reader.partial:
                raise type(error)(self._named(str(error))) from error
            self._damage = str(error)

    def _without_gaps(self, decoded: Iterable[Frame], first: int) -> Iterator[tuple[int, Frame]]:
        """(number, frame) from ``first`` on; where the first are missing, the next stands in."""
        last: Frame | None = None
        for frame in decoded:
            if self.damage is None:
                for lost in range(first, frame.pts):
                    yield lost, last or frame
            yield frame.pts, frame
            first, last = frame.pts + 1, frame
        # A pipe tells how many frames there are at its end only.
        total = self.frame_count
        if last is not None and total is not None and self.damage is None:
            for lost in range(first, min(total * self.speed, first + MAX_GAP)):
                yield lost, last

    def _time(self, number: int) -> int:
        """Time of a frame in the time base of ``info``: between those of the stream's frames."""
        times = self._reader.timestamps_of(self._track)
        own, part = divmod(number, self.speed)
        if not part:
            return times[own] * self.speed
        count = self.frame_count
        if count is None or own + 1 < count:
            step = times[own + 1] - times[own]
        else:
            step = times[own] - times[own - 1] if own else 1
        return times[own] * self.speed + part * step


def _speed(fps: str, rate: Fraction) -> int:
    """How many frames are made for each of a stream of ``rate`` frames per second."""
    text = fps.strip().lower()
    try:
        speed = Fraction(text[:-1]) if text.endswith("x") else Fraction(text) / rate
    except (ValueError, ZeroDivisionError):
        speed = Fraction(0)
    if speed.denominator != 1 or not 1 <= speed <= MAX_SPEED:
        raise UsageError(
            f"--fps {fps}: write 2x to {MAX_SPEED}x, or a multiple of the video's {float(rate):g}"
        )
    return int(speed)
