"""What a program calls: encode, decode and open, over paths and pipes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from nvc.bitstream.reader import StreamReader
from nvc.bitstream.writer import StreamWriter
from nvc.codecs import DEFAULT_CODEC, RateTarget, codec_entry, make_encoder, rate_target
from nvc.device import choose_device, cpu_threads, set_threads
from nvc.errors import InputError, StreamError, UsageError
from nvc.files import check_output, opened, whole_file
from nvc.player import Video
from nvc.stream import StreamFrames, header_of, timed
from nvc.tracks import encode_tracks
from nvc.video.count import audio_bytes, count_frames
from nvc.video.encode import CONTAINERS
from nvc.video.frames import VideoInfo
from nvc.video.rawvideo import RawFormat
from nvc.video.reader import open_video
from nvc.video.writer import open_writer

Progress = Callable[[Any], None]


@dataclass(frozen=True)
class EncodeResult:
    """What an encode made. ``bpp`` counts every byte of the file; ``stats`` are the codec's own."""

    bytes: int
    frames: int
    bpp: float
    seconds: float
    stats: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class DecodeResult:
    """What a decode wrote; ``damage`` is the first thing found wrong, with ``partial`` only."""

    frames: int
    seconds: float
    damage: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        return asdict(self)


def encode(
    path: str | os.PathLike[str] | BinaryIO | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    codec: str = DEFAULT_CODEC,
    *,
    start: int = 0,
    frames: int | None = None,
    crop: tuple[int, int] | None = None,
    qp: int | None = None,
    bitrate: float | None = None,
    size: int | None = None,
    psnr: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    audio: bool = True,
    overwrite: bool = False,
    raw: RawFormat | None = None,
    resume: bool = False,
    add: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> EncodeResult:
    """Encode a video into an .nvc file.

    ``path`` is anything FFmpeg reads, .y4m, .yuv, ``-`` for stdin, or a binary file object; ``out``
    a path or ``-`` for stdout. ``start``, ``frames`` and ``crop`` (height, width) choose a part. At
    most one of ``qp``, ``bitrate`` (bit/s), ``size`` (bytes) and ``psnr`` (dB). ``raw`` describes a
    headerless input whose name does not. ``options`` are the codec's own (for hnerv: epochs,
    size_params, lr, batch_size, seed, gop and the other fields of
    ``nvc.inr.fit_config.FitConfig``). ``progress`` is called with the codec's progress objects.

    With codec pfnr ``path`` may be a list of videos, which become the tracks of one file, and
    ``add`` puts them behind the tracks that ``out`` has.

    The file is written beside its name and renamed when it is complete. Raises UsageError for
    options that cannot be meant, InputError for an input that cannot be read.
    """
    began = time.monotonic()
    entry = codec_entry(codec)
    chosen = choose_device(device)
    set_threads(threads)
    rate = rate_target(qp=qp, bitrate=bitrate, size=size, psnr=psnr)
    state = None
    if entry.resumable and os.fspath(out) != "-":
        state = Path(f"{os.fspath(out)}.state")
    if entry.tracks:
        written = encode_tracks(
            path if isinstance(path, list | tuple) else [path],
            Path(out),
            codec,
            add=add,
            overwrite=overwrite,
            rate=rate,
            device=chosen,
            state=state,
            resume=resume,
            progress=progress,
            opening={"start": start, "frames": frames, "crop": crop, "raw": raw},
            **options,
        )
        return EncodeResult(
            bytes=written.bytes,
            frames=written.frames,
            bpp=8 * written.bytes / written.pixels,
            seconds=time.monotonic() - began,
            stats=written.stats,
        )
    if add or isinstance(path, list | tuple):
        raise UsageError(f"codec {codec} has one video a file; pfnr takes several")
    with (
        open_video(
            path, start=start, frames=frames, crop=crop, device=chosen, raw=raw, audio=audio
        ) as reader,
        whole_file(out, overwrite=overwrite) as file,
    ):
        info = reader.info
        if rate is not None and info.frame_count is None:
            info = replace(info, frame_count=_counted(path, start, frames))
        if rate is not None and rate.kind == "size" and audio and reader.has_audio:
            rate = _without_audio(rate, path, info, start)
        encoder = make_encoder(
            codec, info, rate=rate, device=chosen, state=state, resume=resume, **options
        )
        header = header_of(
            info, codec, weights_hash=encoder.weights_hash, audio=audio and reader.has_audio
        )
        with StreamWriter(file, header) as writer:
            for unit in encoder.encode(timed(reader, writer), info, progress=progress):
                writer.write(unit)
            for chunk in reader.audio_chunks():
                writer.add_audio(chunk)
        if not writer.frame_count:
            raise InputError(f"{path}: there are no frames to encode")
    count = writer.frame_count
    return EncodeResult(
        bytes=writer.bytes_written,
        frames=count,
        bpp=8 * writer.bytes_written / (count * info.width * info.height),
        seconds=time.monotonic() - began,
        stats=dict(getattr(encoder, "stats", None) or {}),
    )


def _without_audio(
    rate: RateTarget, path: str | os.PathLike[str] | BinaryIO, info: VideoInfo, start: int
) -> RateTarget:
    """What a file size leaves to the video; all of it where the audio of a pipe is not known."""
    if not isinstance(path, (str, os.PathLike)) or not Path(path).is_file():
        return rate
    seconds = None if info.frame_count is None else float(info.frame_count / info.frame_rate)
    sound = audio_bytes(Path(path), start=float(start / info.frame_rate), seconds=seconds)
    if sound >= rate.value:
        raise UsageError(
            f"{path}: its audio alone takes {sound} bytes of the {rate.value:.0f} asked for: "
            "give a larger --size, or --no-audio"
        )
    return replace(rate, value=rate.value - sound)


def _counted(path: str | os.PathLike[str] | BinaryIO, start: int, frames: int | None) -> int | None:
    """Frames that will come of a file whose container does not say; None of a pipe."""
    if not isinstance(path, (str, os.PathLike)) or not Path(path).is_file():
        return None
    count = max(count_frames(Path(path)) - start, 0)
    return count if frames is None else min(count, frames)


def decode(
    path: str | os.PathLike[str] | BinaryIO,
    out: str | os.PathLike[str],
    *,
    layers: int | None = None,
    start: int = 0,
    frames: int | None = None,
    partial: bool = False,
    fps: str | None = None,
    track: int = 0,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    format: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> DecodeResult:
    """Decode an .nvc file into a video file, numbered pictures or a pipe.

    ``path`` is a path, ``-`` for stdin, or a binary file object. ``out`` is chosen by its ending
    (.mp4 .mkv .mov .webm .y4m .yuv, out_%04d.png) or ``-`` for stdout in ``format`` (y4m or yuv).
    ``layers`` decodes only so many of the coarsest layers. ``fps``, "2x" or a multiple of the rate,
    makes frames between frames (codecs that fit a video). ``track`` is which of a file's videos
    (pfnr). ``threads`` of the networks are as many groups of frames side by side (dhvc).
    ``precision`` of its networks, "float32", "bfloat16" or "auto" (docs/speed.md). ``partial``
    decodes what comes before the damage of a broken file. ``progress`` is called with frames done
    and frames in all, or None.

    Raises StreamError for a damaged, foreign or newer file, UsageError for options that cannot be
    meant.
    """
    began = time.monotonic()
    chosen = choose_device(device)
    set_threads(threads)
    check_output(out, overwrite=overwrite)
    count = 0
    with opened(path) as (file, name):
        reader = StreamReader(file, name=name, partial=partial)
        stream = StreamFrames(
            reader, device=chosen, layers=layers, fps=fps, track=track, precision=precision
        )
        total = stream.frame_count
        if start and total is not None and start >= total:
            raise UsageError(f"{name}: it has {total} frames, so none from {start} on")
        if total is not None:
            total = total - start if frames is None else min(total - start, frames)
            total *= stream.speed
        lanes = cpu_threads()
        pictures = (frame for _, frame in stream.frames(start, frames, lanes=lanes))
        first = next(pictures, None)
        if first is None:
            raise StreamError(stream.damage or f"{name}: there are no frames in it")
        with open_writer(
            os.fspath(out),
            replace(stream.info, frame_count=total),
            audio=reader.audio_chunks() if reader.has_audio and _holds_audio(out) else None,
            format=format,
            excerpt=bool(start) or frames is not None,
        ) as writer:
            for frame in chain((first,), pictures):
                writer.write(frame)
                count += 1
                if progress is not None:
                    progress(count, total)
    return DecodeResult(count, time.monotonic() - began, stream.damage)


def open(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    layers: int | None = None,
    partial: bool = False,
    track: int = 0,
) -> Video:
    """An .nvc file as a sequence of frames with random access; see ``nvc.player.Video``."""
    return Video(path, device=device, layers=layers, partial=partial, track=track)


def _holds_audio(out: str | os.PathLike[str]) -> bool:
    """Whether the kind of output can hold sound; who asks for y4m or pictures expects none."""
    return Path(out).suffix.lower() in CONTAINERS
