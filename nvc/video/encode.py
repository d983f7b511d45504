"""Writing through FFmpeg's encoders and muxers: pixel format, clock, colour tags, audio."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av

from nvc.errors import InputError, UsageError
from nvc.video.audio import AudioTracks, packet_start
from nvc.video.convert import convert_planes, fits_chroma, nearest_format
from nvc.video.decode import LOCATION_NAMES
from nvc.video.frames import CHROMA_FORMATS, Frame, VideoInfo
from nvc.video.matroska import PLACEHOLDER, write_sample_aspect
from nvc.video.pixels import PLANAR_DEPTHS, make_frame, pixel_format

log = logging.getLogger("nvc.video")

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
# mp4 and mov are for viewing, near lossless; mkv keeps every sample.
DEFAULT_ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "mp4": ("libx264", {"crf": "12", "preset": "fast"}),
    "mov": ("libx264", {"crf": "12", "preset": "fast"}),
    "matroska": ("ffv1", {"level": "3", "slicecrc": "1"}),
    "webm": ("libvpx-vp9", {"crf": "16", "b": "0", "cpu-used": "4", "row-mt": "1"}),
}
# Coded pictures that must be whole chroma samples.
EVEN_ONLY = ("libx264", "libx265", "h264", "hevc")
MAX_THREADS = 8
SPOOL_BYTES = 64 << 20
MAX_MOVIE_TIMESCALE = 1_000_000


def default_encoder(container_format: str) -> tuple[str, dict[str, str]]:
    """(codec, options) for ``mp4``, ``mov``, ``matroska`` or ``webm`` unless told otherwise."""
    codec, options = DEFAULT_ENCODERS[container_format]
    return codec, dict(options)


def coded_info(codec: str, info: VideoInfo) -> VideoInfo:
    """``info`` with the chroma format and bit depth that encoder ``codec`` takes it in.

    The same where the encoder holds it, else the nearest that loses least. Raises UsageError for
    an encoder this FFmpeg does not have.
    """
    try:
        encoder = av.Codec(codec, "w")
    except ValueError as error:
        raise UsageError(f"no video encoder is called {codec!r} in this FFmpeg") from error
    if encoder.type != "video":
        raise UsageError(f"{codec} is no video encoder")
    names = {fmt.name for fmt in encoder.video_formats or ()}
    every = [(chroma, depth) for chroma in CHROMA_FORMATS for depth in PLANAR_DEPTHS]
    allowed = [pair for pair in every if not names or pixel_format(*pair) in names]
    if codec.startswith(EVEN_ONLY):
        allowed = [pair for pair in allowed if fits_chroma(pair[0], info.width, info.height)]
    if not allowed:
        raise UsageError(f"{codec} cannot write {info.width}x{info.height} planar YUV")
    chroma, depth = nearest_format(info.chroma, info.bit_depth, allowed)
    return replace(info, chroma=chroma, bit_depth=depth)


class FFmpegWriter:
    """Encodes frames into ``path``; see ``nvc.video.writer.open_writer`` for the options.

    Without audio each packet goes to the file at once; with audio, whose bytes may come only after
    the frames, packets wait in a spooled file and are interleaved in ``finish``.
    """

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        *,
        container_format: str,
        name: str,
        audio: Iterable[bytes] | None,
        codec: str | None,
        options: dict[str, str] | None,
        excerpt: bool,
    ) -> None:
        self._path = path
        self._name = name
        self._info = info
        self._format = container_format
        self._audio = audio
        self._excerpt = excerpt
        self._origin = 0
        self._last: int | None = None
        self._count = 0
        default, defaults = default_encoder(container_format)
        self._codec = codec or default
        given = dict(options or {}) if codec else {**defaults, **(options or {})}
        self._coded = coded_info(self._codec, info)
        if (self._coded.chroma, self._coded.bit_depth) != (info.chroma, info.bit_depth):
            log.warning(
                "%s: %s takes no %s %d-bit video of this size; written as %s %d-bit",
                name,
                self._codec,
                info.chroma,
                info.bit_depth,
                self._coded.chroma,
                self._coded.bit_depth,
            )
        self._pixel_format = pixel_format(self._coded.chroma, self._coded.bit_depth)
        # Without it Matroska draws random identifiers: the same frames give the same file.
        movie = {"fflags": "+bitexact"}
        if container_format in ("mp4", "mov"):
            # Edit lists count in the movie's clock, 1 ms unless told: give them the video's.
            scale = info.time_base.denominator
            movie["movie_timescale"] = str(scale if scale <= MAX_MOVIE_TIMESCALE else 1000)
        self._container = av.open(str(path), "w", format=container_format, container_options=movie)
        self._stream = self._add_stream(given)
        self._spool: Any = None
        if audio is not None:
            self._spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115
        self._spooled: list[tuple[int, int | None, int | None, int, bool]] = []

    def _add_stream(self, options: dict[str, str]) -> Any:
        info, color = self._info, self._info.color
        options = {key: str(value) for key, value in options.items()}
        if self._codec == "libx265":
            given = options.get("x265-params")
            if given is None or "log-level" not in given:
                options["x265-params"] = ":".join(filter(None, ["log-level=none", given]))
        elif self._codec == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only; it has no other switch
        if color.chroma_location:
            options.setdefault("chroma_sample_location", LOCATION_NAMES[color.chroma_location])
        try:
            stream = self._container.add_stream(self._codec, rate=info.frame_rate, options=options)
        except ValueError as error:
            raise UsageError(f"{self._name}: {self._format} cannot hold {self._codec}") from error
        context = stream.codec_context
        context.width, context.height = info.width, info.height
        context.pix_fmt = self._pixel_format
        context.time_base = stream.time_base = info.time_base
        context.color_range = {None: 0, False: 1, True: 2}[color.full_range]
        context.colorspace = color.matrix
        context.color_primaries = color.primaries
        context.color_trc = color.transfer
        if info.sample_aspect != 1:
            context.sample_aspect_ratio = info.sample_aspect
            if self._format in ("matroska", "webm"):
                stream.metadata["title"] = PLACEHOLDER
        if "threads" not in options:
            context.thread_count = min(MAX_THREADS, os.cpu_count() or 1)
        if self._codec in ("hevc", "libx265") and self._format in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # what Apple's players ask for
        if info.rotation:
            stream.set_display_rotation(-info.rotation)
        self._given = options
        return stream

    def write(self, frame: Frame) -> None:
        """Encode one frame."""
        if self._last is None and self._excerpt:
            self._origin = frame.pts
        pts = frame.pts - self._origin
        if self._last is not None and pts <= self._last:
            raise InputError(
                f"{self._name}: the frame at pts {pts} does not come after that at {self._last}"
            )
        self._last = pts
        self._count += 1
        planes = tuple(plane.cpu() for plane in frame.planes)
        picture = make_frame(convert_planes(planes, self._info, self._coded), self._pixel_format)
        picture.pts, picture.time_base = pts, self._info.time_base
        picture.duration = self._info.frame_duration
        color = self._info.color
        picture.colorspace, picture.color_primaries = color.matrix, color.primaries
        picture.color_trc = color.transfer
        picture.color_range = {None: 0, False: 1, True: 2}[color.full_range]
        self._encode(picture)

    def _encode(self, picture: av.VideoFrame | None) -> None:
        first = not self._stream.codec_context.is_open
        try:
            packets = self._stream.encode(picture)
            if first:
                self._check_options()
            for packet in packets:
                if self._count <= 2:  # none is reordered; libx265 gives stray memory as their dts
                    packet.dts = packet.pts
                if self._spool is None:
                    self._container.mux_one(packet)
                else:
                    self._keep(packet)
        except av.error.FFmpegError as error:
            if not self._stream.codec_context.is_open:
                raise UsageError(
                    f"{self._name}: {self._codec} does not take its options {self._given}"
                ) from error
            raise InputError(f"{self._name}: cannot be written: {error.strerror}") from error

    def _check_options(self) -> None:
        """Options that the opened encoder has left over are not its own."""
        left = self._stream.codec_context.options
        if left:
            raise UsageError(f"{self._codec} has no option {', '.join(sorted(left))}")

    def _keep(self, packet: av.Packet) -> None:
        data = bytes(packet)
        self._spool.write(data)
        self._spooled.append(
            (len(data), packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe)
        )

    def _kept_packets(self) -> Iterator[av.Packet]:
        self._spool.seek(0)
        for size, pts, dts, duration, key in self._spooled:
            packet = av.Packet(self._spool.read(size))
            packet.time_base = self._stream.codec_context.time_base
            packet.pts, packet.dts, packet.duration = pts, dts, duration
            packet.is_keyframe = key
            packet.stream = self._stream
            yield packet

    def finish(self) -> None:
        """Flush the encoder, add the audio and complete the file."""
        if self._last is None:
            raise InputError(f"{self._name}: no frame to write")
        self._encode(None)
        if self._spool is not None:
            tracks = AudioTracks(self._audio or (), self._format, self._name)
            try:
                tracks.declare(self._container)
                for packet in self._interleaved(tracks):
                    self._container.mux_one(packet)
            except av.error.FFmpegError as error:
                raise InputError(f"{self._name}: cannot be written: {error.strerror}") from error
            finally:
                tracks.close()
        try:
            self._container.close()
        except av.error.FFmpegError as error:
            raise InputError(f"{self._name}: cannot be written: {error.strerror}") from error
        self._close_spool()
        if self._info.sample_aspect != 1 and self._format in ("matroska", "webm"):
            write_sample_aspect(self._path, self._info)

    def _interleaved(self, tracks: AudioTracks) -> Iterator[av.Packet]:
        """Video and audio packets by time, so that the muxer need not hold either back."""
        audio = self._fitting(tracks)
        waiting = next(audio, None)
        for packet in self._kept_packets():
            ticks = packet.dts if packet.dts is not None else packet.pts
            time = ticks * packet.time_base
            while waiting is not None and packet_start(waiting) <= time:
                yield waiting
                waiting = next(audio, None)
            yield packet
        while waiting is not None:
            yield waiting
            waiting = next(audio, None)

    def _fitting(self, tracks: AudioTracks) -> Iterator[av.Packet]:
        """The audio packets to write: all, or for an excerpt those within its frames."""
        assert self._last is not None
        base = self._info.time_base
        origin = self._origin * base
        end = (self._last + self._info.frame_duration) * base
        for packet in tracks.packets():
            if self._excerpt:
                packet.pts = packet.dts = packet.pts - round(origin / packet.time_base)
                if not 0 <= packet_start(packet) < end:
                    continue
            yield packet

    def _close_spool(self) -> None:
        if self._spool is not None:
            self._spool.close()

    def abort(self) -> None:
        """Close without completing; the file is of no use."""
        self._close_spool()
        try:
            self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            log.debug("%s: closing an unfinished file: %s", self._name, error)
