"""Small clips for every test: moving patterns as frames, and as files written straight by PyAV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from nvc.video.frames import Frame, VideoInfo

AUDIO_RATE = {"aac": 44100, "libopus": 48000, "flac": 44100, "libmp3lame": 44100}
AUDIO_FORMAT = {"aac": "fltp", "libopus": "flt", "flac": "s16", "libmp3lame": "fltp"}


def make_plane(height: int, width: int, index: int, *, top: int, phase: float = 0.0) -> np.ndarray:
    """(height, width) float, 0 to ``top``: waves that move with ``index`` and a bright square."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    wave = 0.5 + 0.25 * np.sin((x + 2 * index) / 5 + phase) + 0.2 * np.cos((y - index) / 7 + phase)
    side = max(1, min(height, width) // 4)
    top_left = (index * 2 + 3) % max(1, height - side), (index * 3 + 1) % max(1, width - side)
    wave[top_left[0] : top_left[0] + side, top_left[1] : top_left[1] + side] = 0.9
    return np.clip(wave, 0.0, 1.0) * top


def make_frames(info: VideoInfo, count: int, *, pts: Sequence[int] | None = None) -> list[Frame]:
    """``count`` frames of ``info``: moving patterns that use most of the sample range."""
    dtype = np.uint8 if info.bit_depth == 8 else np.uint16
    frames = []
    for index in range(count):
        planes = tuple(
            torch.from_numpy(
                np.round(
                    make_plane(rows, cols, index, top=2**info.bit_depth - 1, phase=1.3 * part)
                ).astype(dtype)
            )
            for part, (rows, cols) in enumerate(info.plane_shapes())
        )
        ticks = pts[index] if pts is not None else index * info.frame_duration
        frames.append(Frame(planes=planes, pts=ticks))
    return frames


def _picture(width: int, height: int, index: int, pixel_format: str) -> av.VideoFrame:
    """A coloured moving picture in any pixel format that swscale writes."""
    rgb = np.stack(
        [make_plane(height, width, index, top=255, phase=1.3 * part) for part in range(3)], -1
    )
    frame = av.VideoFrame.from_ndarray(np.round(rgb).astype(np.uint8), "rgb24")
    return frame.reformat(format=pixel_format, threads=1) if pixel_format != "rgb24" else frame


def write_clip(
    path: Path,
    *,
    width: int = 64,
    height: int = 48,
    frames: int = 8,
    pixel_format: str = "yuv420p",
    codec: str | None = None,
    options: dict[str, str] | None = None,
    container: str | None = None,
    rate: Fraction | int = 25,
    time_base: Fraction | None = None,
    pts: Sequence[int] | None = None,
    audio: str | Sequence[str] = (),
    audio_start: Fraction = Fraction(0),
    audio_seconds: float | None = None,
    rotation: int = 0,
    sample_aspect: Fraction | None = None,
    color: dict[str, int] | None = None,
    interlaced: bool = False,
) -> Path:
    """A clip at ``path``, lossless (ffv1; x264 with qp 0 in .mp4 and .mov) unless told otherwise.

    ``pts`` counts in ``time_base`` (one frame unless given). ``audio`` names FFmpeg encoders, one
    track each, of a sine that begins at ``audio_start``. ``rotation`` is in degrees clockwise to
    show it upright; ``color`` sets color_range, colorspace, color_primaries, color_trc.
    """
    mp4 = path.suffix in (".mp4", ".mov")
    codec = codec or ("libx264" if mp4 else "ffv1")
    given = options if options is not None else ({"qp": "0"} if codec == "libx264" else {})
    given = {**given, **({"flags": "+ildct+ilme"} if interlaced else {})}
    base = time_base or 1 / Fraction(rate)
    ticks = list(pts) if pts is not None else [round(i / rate / base) for i in range(frames)]
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=Fraction(rate), options=given)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, pixel_format
        context.time_base = stream.time_base = base
        context.thread_count = 1
        if sample_aspect is not None:
            context.sample_aspect_ratio = sample_aspect
        for name, value in (color or {}).items():
            setattr(context, name, value)
        if rotation:
            stream.set_display_rotation(-rotation)
        names = [audio] if isinstance(audio, str) else list(audio)
        seconds = audio_seconds or float((ticks[-1] + 1) * base)
        tracks = [_audio_track(output, name) for name in names]
        packets = []
        for index, tick in enumerate(ticks):
            picture = _picture(width, height, index, pixel_format)
            picture.pts, picture.time_base = tick, base
            packets += stream.encode(picture)
        packets += stream.encode(None)
        for number, track in enumerate(tracks):
            packets += _sine(track, 300 * (number + 1), seconds, audio_start)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path


def _audio_track(output: Any, name: str) -> Any:
    track = output.add_stream(name, rate=AUDIO_RATE[name])
    track.codec_context.format = AUDIO_FORMAT[name]
    track.codec_context.layout = "mono"
    return track


def _sine(track: Any, pitch: int, seconds: float, start: Fraction) -> list[av.Packet]:
    name, rate = track.codec_context.name, track.codec_context.sample_rate
    layout = AUDIO_FORMAT[name]
    total, done, packets = int(seconds * rate), 0, []
    while done < total:
        count = min(track.codec_context.frame_size or 1024, total - done)
        wave = 0.5 * np.sin(2 * math.pi * pitch * (done + np.arange(count)) / rate)
        samples = (wave * 32767).astype(np.int16) if layout == "s16" else wave.astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples[None], format=layout, layout="mono")
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        frame.pts = done + round(start * rate)
        packets += track.encode(frame)
        done += count
    return packets + track.encode(None)


def write_raw(path: Path, frames: Sequence[Frame]) -> Path:
    """A headerless .yuv of the planes, 16-bit words little-endian."""
    with path.open("wb") as file:
        for frame in frames:
            for plane in frame.planes:
                samples = plane.numpy()
                file.write(samples.astype(samples.dtype.newbyteorder("<")).tobytes())
    return path


def audio_packets(path: Path) -> list[list[tuple[Fraction, bytes]]]:
    """For each audio track of a file its packets as (time in seconds, bytes)."""
    with av.open(str(path)) as container:
        tracks: dict[int, list[tuple[Fraction, bytes]]] = {
            stream.index: [] for stream in container.streams.audio
        }
        for packet in container.demux():
            if packet.size and packet.stream_index in tracks:
                tracks[packet.stream_index].append((packet.pts * packet.time_base, bytes(packet)))
    return list(tracks.values())


def video_times(path: Path) -> list[Fraction]:
    """Presentation times in seconds of all frames of a file."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]
