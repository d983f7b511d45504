"""Several videos in one file, one after the other: the codecs whose networks they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from nvc.bitstream.header import StreamHeader
from nvc.bitstream.reader import StreamReader
from nvc.bitstream.units import MAX_TRACK, Unit
from nvc.bitstream.writer import StreamWriter
from nvc.codecs import RateTarget, make_encoder
from nvc.errors import InputError, UsageError
from nvc.files import whole_file
from nvc.stream import header_of, info_of
from nvc.video.count import count_frames
from nvc.video.frames import Frame, VideoInfo
from nvc.video.reader import open_video


@dataclass(frozen=True)
class WrittenTracks:
    """The file as it is now: its bytes, the frames encoded, their pixels, the fits' statistics."""

    bytes: int
    frames: int
    pixels: int
    stats: dict[str, Any]


def encode_tracks(
    paths: Sequence[Any],
    out: Path,
    codec: str,
    *,
    add: bool,
    overwrite: bool,
    rate: RateTarget | None,
    device: str,
    state: Path | None,
    resume: bool,
    progress: Callable[[Any], None] | None,
    opening: dict[str, Any],
    **options: Any,
) -> WrittenTracks:
    """Encode videos as the tracks of a file, with ``add`` behind those it has.

    All are of the size and format of the first. opening: options of open_video. A size is that of
    all videos encoded here together. The file is replaced when all is done. Raises UsageError and
    InputError as nvc.api.encode.
    """
    header, units = _existing(out, codec) if add else (None, [])
    tracks = 1 + max((unit.track for unit in units), default=-1)
    if tracks + len(paths) > MAX_TRACK + 1:
        raise UsageError(f"a file holds at most {MAX_TRACK + 1} tracks")
    if rate is not None and rate.kind == "size":
        rate = replace(rate, value=rate.value / len(paths))
    frames, stats, encoder, writer = 0, [], None, None
    with whole_file(out, overwrite=overwrite or add) as file:
        for number, path in enumerate(paths, tracks):
            with open_video(path, device=device, **opening) as reader:
                info = reader.info
                if header is None:
                    header = header_of(info, codec, weights_hash=bytes(8))
                if writer is None:
                    writer = StreamWriter(file, header)
                    for unit in units:
                        writer.write(unit)
                info = _fitting(info, header, path)
                if info.frame_count is None and isinstance(path, str | Path):
                    info = replace(info, frame_count=_counted(path, opening))
                encoder = make_encoder(
                    codec,
                    info,
                    rate=rate,
                    device=device,
                    state=state,
                    resume=resume or number > tracks,
                    **options,
                )
                timed = _timed(reader, writer, number, reader.info.time_base / header.tick)
                count = 0
                for unit in encoder.encode(timed, info, progress=progress, earlier=units):
                    writer.write(unit)
                    units.append(unit)
                    count = max(count, unit.frame_end)
                frames += count
                stats.append(encoder.stats)
        if writer is None or header is None or encoder is None:
            raise UsageError("there is no video to encode")
        writer.close()
    encoder.finish()
    return WrittenTracks(
        bytes=writer.bytes_written,
        frames=frames,
        pixels=frames * header.width * header.height,
        stats={"tracks": stats},
    )


def _existing(out: Path, codec: str) -> tuple[StreamHeader, list[Unit]]:
    if not out.is_file():
        raise InputError(f"{out}: there is no such file to add a video to")
    with out.open("rb") as file:
        reader = StreamReader(file, name=str(out))
        if reader.header.codec != codec:
            raise UsageError(f"{out}: it is of codec {reader.header.codec}, not {codec}")
        return reader.header, list(reader.all_units())


def _fitting(info: VideoInfo, header: StreamHeader, path: Any) -> VideoInfo:
    """What the file says of every track, with the video's own length; InputError when its frames
    do not fit that."""
    common = info_of(header)
    for name in ("width", "height", "chroma", "bit_depth"):
        mine, theirs = getattr(info, name), getattr(common, name)
        if mine != theirs:
            raise InputError(
                f"{path}: its {name.replace('_', ' ')} is {mine}, that of the file's first video "
                f"is {theirs}; all videos of a file are of one size and format"
            )
    return replace(common, frame_count=info.frame_count)


def _timed(
    frames: Iterable[Frame], writer: StreamWriter, track: int, ticks: Fraction
) -> Iterator[Frame]:
    """The same frames; the writer is told the time of each, `ticks` of the file's for one here."""
    for frame in frames:
        writer.add_timestamp(round(frame.pts * ticks), track=track)
        yield frame


def _counted(path: str | Path, opening: dict[str, Any]) -> int | None:
    if not Path(path).is_file():
        return None
    count = max(count_frames(Path(path)) - opening.get("start", 0), 0)
    most = opening.get("frames")
    return count if most is None else min(count, most)
