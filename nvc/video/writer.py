"""Write frames to a file of any kind, complete or not at all, or to standard output."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch

from nvc.errors import InputError, UsageError
from nvc.video.color import yuv_to_rgb
from nvc.video.convert import upright_info, upright_planes
from nvc.video.encode import CONTAINERS, FFmpegWriter
from nvc.video.frames import Frame, VideoInfo
from nvc.video.rawvideo import format_y4m_header, write_planes
from nvc.video.stills import png

log = logging.getLogger("nvc.video")

RAW_FORMATS = ("y4m", "yuv")
ALLOWED_TARGETS = (
    ".mp4, .mov, .mkv, .webm, .y4m, .yuv, a .png pattern such as out_%04d.png, or - (a pipe)"
)
Target = str | os.PathLike[str] | BinaryIO


class _Sink(Protocol):
    """One way of writing; ``finish`` completes it and ``abort`` gives it up."""

    def write(self, frame: Frame) -> None: ...

    def finish(self) -> None: ...

    def abort(self) -> None: ...


class _RawSink:
    """y4m or headerless planes into a file object, upright, without timestamps."""

    def __init__(self, file: BinaryIO, info: VideoInfo, *, y4m: bool, owned: bool) -> None:
        self._file = file
        self._info = info
        self._y4m = y4m
        self._owned = owned
        self._begun = False

    def write(self, frame: Frame) -> None:
        if self._y4m:
            if not self._begun:
                self._file.write(format_y4m_header(upright_info(self._info)))
            self._file.write(b"FRAME\n")
        self._begun = True
        write_planes(self._file, Frame(upright_planes(frame.planes, self._info), frame.pts))

    def finish(self) -> None:
        if self._y4m and not self._begun:
            self._file.write(format_y4m_header(upright_info(self._info)))
        self._file.flush()
        if self._owned:
            self._file.close()

    def abort(self) -> None:
        if self._owned:
            self._file.close()


class _PngSink:
    """One PNG a frame, RGB or gray, upright; 16 bit for sources deeper than 8 bit."""

    def __init__(self, folder: Path, pattern: str, info: VideoInfo) -> None:
        self._folder = folder
        self._pattern = pattern
        self._info = upright_info(info)
        self._source = info
        self._count = 0
        deep = info.bit_depth > 8
        base = "gray" if info.chroma == "400" else "rgb24"
        self._name = {"gray": "gray16be", "rgb24": "rgb48be"}[base] if deep else base

    def write(self, frame: Frame) -> None:
        if self._count and "%" not in self._pattern:
            raise UsageError(
                f"{self._pattern} holds one picture; for more give a pattern such as "
                f"{Path(self._pattern).stem}_%04d.png"
            )
        self._count += 1
        rgb = yuv_to_rgb(upright_planes(frame.planes, self._source), self._info)[0]
        gray = self._info.chroma == "400"
        top = 65535 if self._info.bit_depth > 8 else 255
        # (3, h, w) -> (h, w, 3), or (h, w) when gray
        levels = rgb[0] if gray else rgb.permute(1, 2, 0)
        samples = (levels * top + 0.5).floor().to(torch.int32).cpu().numpy()
        samples = np.ascontiguousarray(samples, "u1" if top == 255 else ">u2")
        # (h, w, 3) or (h, w) -> (h, bytes)
        rows = samples.reshape(samples.shape[0], -1).view("u1")
        path = self._folder / (
            self._pattern % self._count if "%" in self._pattern else self._pattern
        )
        path.write_bytes(png(rows, self._info.width, self._name))

    def finish(self) -> None:
        if not self._count:
            raise InputError(f"{self._pattern}: no frame to write")

    def abort(self) -> None:
        """Nothing is open between frames."""


class VideoWriter:
    """Takes frames with ``write``; as a context manager it completes the file, or leaves nothing.

    A reader of the pipe that goes away raises BrokenPipeError, after standard output has been
    pointed at nothing so that Python's own flush at exit stays quiet.
    """

    def __init__(
        self,
        sink: _Sink,
        name: str,
        *,
        made: Path | None = None,
        target: Path | None = None,
        lost_audio: Iterable[bytes] | None = None,
    ) -> None:
        self._sink = sink
        self._name = name
        self._lost_audio = lost_audio
        self._made = made
        self._target = target
        self._open = True

    def write(self, frame: Frame) -> None:
        """Write one frame; pts must rise."""
        try:
            self._sink.write(frame)
        except BrokenPipeError:
            _silence_stdout()
            raise

    def close(self) -> None:
        """Complete the file and give it its name. Called by the context manager."""
        if not self._open:
            return
        try:
            self._sink.finish()
            self._open = False
            if any(self._lost_audio or ()):
                log.warning("%s: this format holds no audio; written without it", self._name)
            if self._made is not None and self._target is not None:
                _move(self._made, self._target)
        except BrokenPipeError:
            _silence_stdout()
            raise
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up and remove what has been written."""
        if self._open:
            self._open = False
            self._sink.abort()
        if self._made is not None:
            if self._made.is_dir():
                shutil.rmtree(self._made, ignore_errors=True)
            else:
                self._made.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def _silence_stdout() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _move(made: Path, target: Path) -> None:
    """Rename a finished file, or every file of a finished folder, to where it belongs."""
    if made.is_dir():
        for path in sorted(made.iterdir()):
            path.replace(target.parent / path.name)
        made.rmdir()
    else:
        made.replace(target)


def open_writer(
    target: Target,
    info: VideoInfo,
    *,
    audio: Iterable[bytes] | None = None,
    codec: str | None = None,
    options: dict[str, str] | None = None,
    overwrite: bool = True,
    format: str | None = None,
    excerpt: bool = False,
) -> VideoWriter:
    """A writer of frames described by ``info``; the suffix of ``target`` chooses the kind.

    ``audio`` is Matroska bytes as ``VideoReader.audio_chunks`` gives them, read when the frames are
    complete and copied without encoding. ``codec`` and ``options`` are FFmpeg's (``libx264``,
    ``{"crf": "23"}``); options alone add to the defaults. ``format`` is y4m or yuv for ``-`` and
    file objects, y4m unless given. ``excerpt`` says that the frames are a part of the clip the
    audio belongs to: it is cut to their span and both begin at 0.
    Raises UsageError for what cannot be meant and InputError for what cannot be written.
    """
    if not isinstance(target, str | os.PathLike) or os.fspath(target) == "-":
        return _open_pipe(target, info, format, audio)
    path = Path(target)
    suffix = f".{format}" if format else path.suffix.lower()
    if suffix not in CONTAINERS and suffix not in (".y4m", ".yuv", ".png"):
        raise UsageError(f"{path}: unknown kind of output {suffix!r}; allowed: {ALLOWED_TARGETS}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: no such directory")
    if suffix == ".png":
        _check_pattern(path.name)
    first = path.with_name(path.name % 1) if suffix == ".png" and "%" in path.name else path
    if path.exists() and not path.is_file():
        return _open_special(path, info, suffix[1:], audio)
    if not overwrite and first.exists():
        raise UsageError(f"{first}: exists already")
    if suffix not in CONTAINERS and (codec or options):
        raise UsageError(f"{path}: codec and options are for .mp4, .mov, .mkv and .webm only")
    made = path.with_name(f".{path.name.replace('%', '_')}.{os.getpid()}.part")
    sink: _Sink
    try:
        if suffix == ".png":
            made.mkdir()
            sink = _PngSink(made, path.name, info)
        elif suffix in CONTAINERS:
            sink = FFmpegWriter(
                made,
                info,
                container_format=CONTAINERS[suffix],
                name=str(path),
                audio=audio,
                codec=codec,
                options=options,
                excerpt=excerpt,
            )
        else:
            sink = _RawSink(made.open("wb"), info, y4m=suffix == ".y4m", owned=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    lost = None if suffix in CONTAINERS else audio
    return VideoWriter(sink, str(path), made=made, target=path, lost_audio=lost)


def _open_special(
    path: Path, info: VideoInfo, kind: str, audio: Iterable[bytes] | None
) -> VideoWriter:
    """A device or a named pipe, written in place: renaming onto it would replace it."""
    if path.is_dir() or kind not in RAW_FORMATS:
        raise InputError(f"{path}: not a file; only y4m and yuv can be written to a device or pipe")
    sink = _RawSink(path.open("wb"), info, y4m=kind == "y4m", owned=True)
    return VideoWriter(sink, str(path), lost_audio=audio)


def _open_pipe(
    target: Target, info: VideoInfo, format: str | None, audio: Iterable[bytes] | None
) -> VideoWriter:
    kind = format or "y4m"
    if kind not in RAW_FORMATS:
        raise UsageError(f"format {kind!r} cannot go into a pipe; allowed: y4m, yuv")
    piped = isinstance(target, str | os.PathLike)
    file = sys.stdout.buffer if piped else target
    name = "standard output" if piped else str(getattr(file, "name", "output"))
    sink = _RawSink(file, info, y4m=kind == "y4m", owned=False)
    return VideoWriter(sink, name, lost_audio=audio)


def _check_pattern(name: str) -> None:
    try:
        if "%" in name and name % 1 == name % 2:
            raise ValueError
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: not a pattern with one number such as out_%04d.png") from error
