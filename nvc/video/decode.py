"""Frames of anything FFmpeg reads: demuxing, decoding, timestamps, colour description, rotation."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
import torch
from av.stream import Disposition

from nvc.errors import InputError
from nvc.video.audio import AudioCollector
from nvc.video.color import rgb_to_yuv
from nvc.video.frames import MAX_DIMENSION, ColorInfo, Frame, VideoInfo
from nvc.video.hwaccel import (
    GPU_FORMATS,
    cuda_hwaccel,
    decoded_on_gpu,
    gpu_format,
    gpu_planes,
)
from nvc.video.pixels import PixelLayout, frame_planes, pixel_format, pixel_layout, reformat

log = logging.getLogger("nvc.video")

MAX_THREADS = 4
MAX_RATE = 1000
# After the last frame kept, how much further to look for audio that belongs to it.
AUDIO_LOOKAHEAD = Fraction(10)
LOCATION_NAMES = ("", "left", "center", "topleft", "top", "bottomleft", "bottom")
UNSPECIFIED = 2
# What RGB becomes: BT.709 weights in full range lose least; sRGB transfer.
RGB_COLOR = ColorInfo(matrix=1, primaries=1, transfer=13, full_range=True)
LIBAV_VERBOSE, LIBAV_INFO = 40, 32


def open_container(file: str | BinaryIO, name: str, hwaccel: Any = None) -> Any:
    """av.open for reading with every failure as one InputError line that names the file."""
    try:
        return av.open(file, "r", hwaccel=hwaccel, metadata_errors="replace")
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{name}: is a directory") from error
    except PermissionError as error:
        raise InputError(f"{name}: permission denied") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name}: not a video that FFmpeg reads ({reason})") from error


def _chroma_location(container: Any, stream_index: int) -> int:
    """AVChromaLocation of a stream, which PyAV shows only in FFmpeg's description of the file.

    To be called before decoding: PyAV's log level must not change while decoder threads run.
    """
    level = av.logging.get_level()
    av.logging.set_libav_level(LIBAV_VERBOSE)
    av.logging.set_level(av.logging.VERBOSE)
    try:
        text = container.dumps_format()
    finally:
        av.logging.set_level(av.logging.PANIC)
        av.logging.set_level(level)
        av.logging.set_libav_level(LIBAV_INFO)
    line = re.search(rf"Stream #0:{stream_index}\b.*Video:.*", text)
    names = re.search(r", \w+\(([^()]*)\), \d+x\d+", line[0]) if line else None
    for word in names[1].split(", ") if names else ():
        if word in LOCATION_NAMES[1:]:
            return LOCATION_NAMES.index(word)
    return 0


def _rotation(frame: av.VideoFrame, name: str) -> int:
    """Degrees clockwise that show the picture upright, from the frame's display matrix."""
    if "DISPLAYMATRIX" not in (data.type.name for data in frame.side_data):
        return 0
    matrix = np.frombuffer(frame.side_data["DISPLAYMATRIX"], "<i4").astype(np.int64)
    if matrix[0] * matrix[4] - matrix[1] * matrix[3] < 0:
        log.warning("%s: the display matrix mirrors the picture; this is not kept", name)
    quarter = round(-frame.rotation / 90)
    if abs(-frame.rotation - 90 * quarter) > 1:
        log.warning("%s: rotation by %d degrees is rounded to 90", name, -frame.rotation)
    return 90 * quarter % 360


class Clock:
    """Strictly rising timestamps out of what a stream gives: missing, repeated, jumping back."""

    def __init__(self, duration: int, second: int, name: str) -> None:
        self._duration = duration
        self._second = second
        self._name = name
        self._last: int | None = None
        self._shift = 0
        self._warned = False

    def stamp(self, frame: av.VideoFrame) -> int:
        """The pts to use for ``frame``."""
        pts = frame.pts if frame.pts is not None else frame.dts
        if self._last is None:
            self._last = pts or 0
            return self._last
        if pts is None:
            self._last += self._duration
            return self._last
        pts += self._shift
        if pts <= self._last:
            if not self._warned:
                log.warning("%s: timestamps go back; kept rising", self._name)
                self._warned = True
            if self._last - pts > self._second:
                self._shift += self._last + self._duration - pts
                pts = self._last + self._duration
            else:
                pts = self._last + 1
        self._last = pts
        return pts


class FFmpegSource:
    """One video that FFmpeg reads, decoded once from front to back.

    ``info`` is known after opening (the first frame is decoded for it). With ``audio`` the packets
    of all audio tracks are gathered on the way. Raises InputError.
    """

    def __init__(
        self, file: str | BinaryIO, *, name: str, device: torch.device, audio: bool
    ) -> None:
        self._name = name
        self._device = device
        self._damaged = 0
        self._piped = not isinstance(file, str) and not file.seekable()
        self.audio: AudioCollector | None = None
        hwaccel = cuda_hwaccel(device) if device.type == "cuda" else None
        self._open(file, hwaccel, audio)
        on_gpu = decoded_on_gpu(self._first)
        if on_gpu and gpu_format(self._first) not in GPU_FORMATS and isinstance(file, str):
            self.close()
            self._open(file, None, audio)
            on_gpu = False
        self.hardware = f"cuda ({self._stream.codec_context.name})" if on_gpu else None
        try:
            self._layout = self._layout_of(self._first)
            self.info = self._describe(self._first)
        except ValueError as error:
            self.close()
            raise InputError(f"{name}: {error}") from error
        except BaseException:
            self.close()
            raise

    def _open(self, file: str | BinaryIO, hwaccel: Any, audio: bool) -> None:
        """Open the file and decode its first frame."""
        self._container = open_container(file, self._name, hwaccel)
        try:
            self._stream = self._pick_stream()
            if hwaccel is None:
                self._stream.thread_type = "AUTO"
            self._stream.codec_context.thread_count = min(MAX_THREADS, os.cpu_count() or 1)
            tracks = list(self._container.streams.audio) if audio else []
            self.audio = AudioCollector(tracks, self._name) if tracks else None
            self._location = _chroma_location(self._container, self._stream.index)
            self._packets = self._demux()
            self._decoded = self._decode()
            self._first = self._decode_first()
        except BaseException:
            self.close()
            raise

    def _pick_stream(self) -> Any:
        for stream in self._container.streams.video:
            if stream.disposition & Disposition.attached_pic:
                continue  # the cover of an album
            if stream.codec_context is None:
                raise InputError(f"{self._name}: FFmpeg has no decoder for its video stream")
            return stream
        raise InputError(f"{self._name}: no video stream in it")

    def _layout_of(self, frame: av.VideoFrame) -> PixelLayout:
        try:
            return pixel_layout(gpu_format(frame) if decoded_on_gpu(frame) else frame.format.name)
        except InputError as error:
            raise InputError(f"{self._name}: {error}") from error

    def _demux(self) -> Iterator[Any]:
        streams = [self._stream, *(self.audio.streams if self.audio else [])]
        try:
            yield from self._container.demux(streams)
        except (av.error.FFmpegError, OSError) as error:
            log.warning("%s: reading stopped early (%s)", self._name, error.strerror)

    def _decode(self) -> Iterator[av.VideoFrame]:
        for packet in self._packets:
            if packet.stream_index != self._stream.index:
                assert self.audio is not None
                self.audio.add(packet)
                continue
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError):
                self._damaged += 1
                continue
            yield from frames

    def _decode_first(self) -> av.VideoFrame:
        first = next(self._decoded, None)
        if first is None:
            hint = ""
            if self._piped and "mp4" in self._container.format.name:
                hint = " (an mp4 can come through a pipe only with its index in front)"
            raise InputError(f"{self._name}: no frame of it can be decoded{hint}")
        if not (1 <= first.width <= MAX_DIMENSION and 1 <= first.height <= MAX_DIMENSION):
            raise InputError(
                f"{self._name}: {first.width}x{first.height} is too large; "
                f"allowed: up to {MAX_DIMENSION}x{MAX_DIMENSION}"
            )
        return first

    def _describe(self, frame: av.VideoFrame) -> VideoInfo:
        stream, layout = self._stream, self._layout
        if layout.alpha:
            log.warning("%s: the alpha channel is dropped", self._name)
        rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
        rate = next((rate for rate in rates if rate and 0 < rate <= MAX_RATE), Fraction(25))
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        return VideoInfo(
            width=frame.width,
            height=frame.height,
            chroma=layout.chroma,
            bit_depth=layout.bit_depth,
            frame_rate=rate,
            time_base=stream.time_base or 1 / rate,
            frame_count=stream.frames or None,
            color=self._color(frame),
            sample_aspect=aspect if aspect and aspect > 0 else Fraction(1),
            rotation=_rotation(frame, self._name),
        )

    def _color(self, frame: av.VideoFrame) -> ColorInfo:
        context = self._stream.codec_context

        def told(of_frame: int, of_stream: int) -> int:
            return of_frame if of_frame != UNSPECIFIED else of_stream

        primaries = told(frame.color_primaries, context.color_primaries)
        transfer = told(frame.color_trc, context.color_trc)
        if self._layout.rgb:
            return replace(
                RGB_COLOR,
                primaries=primaries if primaries != UNSPECIFIED else RGB_COLOR.primaries,
                transfer=transfer if transfer != UNSPECIFIED else RGB_COLOR.transfer,
            )
        matrix = told(frame.colorspace, context.colorspace)
        span = frame.color_range or context.color_range
        full = {1: False, 2: True}.get(span)
        if frame.format.name.startswith("yuvj"):
            full = True
        subsampled = self._layout.chroma in ("420", "422")
        return ColorInfo(
            matrix=matrix or UNSPECIFIED,  # 0, RGB, on YUV planes is a decoder's default
            primaries=primaries,
            transfer=transfer,
            full_range=full,
            chroma_location=self._location if subsampled else 0,
        )

    def frames(self, start: int = 0, limit: int | None = None) -> Iterator[Frame]:
        """Frames ``start`` to ``start + limit`` in order, on the device the source was opened for.

        With ``start`` the clock begins at 0 with the first of them. The audio is cut alike.
        """
        info = self.info
        clock = Clock(info.frame_duration, round(1 / info.time_base), self._name)
        end: Fraction | None = None
        origin = kept = 0
        for index, decoded in enumerate(self._all_frames()):
            pts = clock.stamp(decoded)
            time = pts * info.time_base
            if index < start:
                if self.audio:
                    self.audio.drop_before(time)
                continue
            if kept == 0:
                origin = pts if start else 0
                if self.audio:
                    self.audio.begin(lower=time if start else None, rebase=origin * info.time_base)
            end = time + (decoded.duration or info.frame_duration) * info.time_base
            if self.audio:
                self.audio.advance(None if limit is None else end)
            try:
                planes = self._planes(decoded)
            except av.error.FFmpegError as error:
                raise InputError(
                    f"{self._name}: frame {index} cannot be converted ({error.strerror})"
                ) from error
            yield Frame(planes=planes, pts=pts - origin)
            kept += 1
            if limit is not None and kept >= limit:
                break
        else:
            end = None
        self._finish_audio(end)
        if self._damaged:
            log.warning("%s: %d packets could not be decoded", self._name, self._damaged)

    def _all_frames(self) -> Iterator[av.VideoFrame]:
        yield self._first
        yield from self._decoded

    def _finish_audio(self, end: Fraction | None) -> None:
        if self.audio is None:
            return
        if end is not None and not self.audio.reached(end):
            for packet in self._packets:
                if packet.stream_index != self._stream.index:
                    self.audio.add(packet)
                    if self.audio.reached(end):
                        break
                elif packet.dts is not None and (
                    packet.dts * packet.time_base > end + AUDIO_LOOKAHEAD
                ):
                    break
        self.audio.finish(end)

    def _planes(self, frame: av.VideoFrame) -> tuple[torch.Tensor, ...]:
        info = self.info
        if decoded_on_gpu(frame):
            planes = gpu_planes(frame, self._device)
            if planes[0].shape != (info.height, info.width):
                raise InputError(f"{self._name}: the picture size changes within the video")
            return planes
        layout = self._layout_of(frame)
        same = (layout.chroma, layout.bit_depth, layout.rgb) == (
            info.chroma,
            info.bit_depth,
            self._layout.rgb,
        )
        if not same or (frame.width, frame.height) != (info.width, info.height):
            log.warning("%s: the picture format changes within the video; converted", self._name)
            name = pixel_format(info.chroma, info.bit_depth, rgb=self._layout.rgb)
            frame = reformat(frame, name, width=info.width, height=info.height)
            layout = pixel_layout(name)
        planes = tuple(plane.to(self._device) for plane in frame_planes(frame, layout))
        return self._from_rgb(planes) if layout.rgb else planes

    def _from_rgb(self, planes: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        # three (h, w) -> (1, 3, h, w) in [0, 1]
        rgb = torch.stack([plane.to(torch.float32) for plane in planes])[None]
        rgb /= 2**self.info.bit_depth - 1
        return tuple(plane[0] for plane in rgb_to_yuv(rgb, self.info))

    def close(self) -> None:
        """Close the file."""
        if self.audio is not None:
            self.audio.close()
        self._container.close()
