"""Open a video from a path, a pipe or a file object and read its frames one at a time."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from nvc.errors import InputError, UsageError
from nvc.video.color import UNSPECIFIED, effective_matrix
from nvc.video.decode import FFmpegSource
from nvc.video.frames import CHROMA_SHIFTS, Frame, VideoInfo
from nvc.video.rawvideo import (
    Y4M_MAGIC,
    RawFormat,
    RawReader,
    count_raw_frames,
    frame_bytes,
    parse_raw_name,
    parse_y4m_header,
    read_line,
)

Source = str | os.PathLike[str] | BinaryIO


class _Peeked(io.RawIOBase):
    """A file object whose first bytes have been read already."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count], self._head = self._head[:count], self._head[count:]
            return count
        data = self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class VideoReader:
    """The frames of one video, streamed: iterate once; memory does not grow with its length.

    ``source`` is a path, ``-`` for standard input, or a binary file object: a .yuv file (``raw`` or
    its name gives the format), .y4m, or anything FFmpeg reads. ``start`` and ``frames`` choose a
    part, whose clock then begins at 0 if ``start`` is not 0; ``crop`` (height, width) cuts the
    centre, aligned to the chroma samples. ``device`` "cuda" decodes on the GPU where it can.
    RGB becomes full-range BT.709 4:4:4. ``info`` describes the result, ``hardware`` names the GPU
    decoder in use or is None. Use as a context manager. Raises InputError and UsageError.
    """

    def __init__(
        self,
        source: Source,
        *,
        start: int = 0,
        frames: int | None = None,
        crop: tuple[int, int] | None = None,
        device: torch.device | str = "cpu",
        raw: RawFormat | None = None,
        audio: bool = False,
    ) -> None:
        if start < 0:
            raise UsageError(f"start is {start}; it must be 0 or more")
        if frames is not None and frames < 1:
            raise UsageError(f"frames is {frames}; it must be 1 or more")
        self._device = torch.device(device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise UsageError("device cuda was asked for and torch finds no CUDA device")
        self._start = start
        self._limit = frames
        self._file: BinaryIO | None = None
        self._backend: RawReader | FFmpegSource | None = None
        self._done = False
        self.hardware: str | None = None
        try:
            self._backend = self._open(source, raw, audio)
            if isinstance(self._backend, FFmpegSource):
                self.hardware = self._backend.hardware
            self._box, self.info = self._cropped(self._backend.info, crop)
        except BaseException:
            self.close()
            raise

    def _open(self, source: Source, raw: RawFormat | None, audio: bool) -> RawReader | FFmpegSource:
        if isinstance(source, str | os.PathLike) and os.fspath(source) != "-":
            path = Path(source)
            self._name = str(path)
            suffix = path.suffix.lower()
            if raw is None and suffix != ".yuv" and suffix != ".y4m":
                if "%" not in path.name and "://" not in str(source) and not path.exists():
                    raise InputError(f"{self._name}: no such file")
                place = os.fspath(source)
                if path.exists():
                    place = f"file:{place}"  # or FFmpeg takes what stands before a colon for more
                return FFmpegSource(place, name=self._name, device=self._device, audio=audio)
            return self._open_raw(path, raw)
        if isinstance(source, str | os.PathLike):
            self._name, file = "standard input", sys.stdin.buffer
        else:
            self._name, file = str(getattr(source, "name", "input")), source
        if raw is not None:
            return RawReader(file, raw.info(), name=self._name, y4m=False)
        head = b""
        while len(head) < len(Y4M_MAGIC) and (part := file.read(len(Y4M_MAGIC) - len(head))):
            head += part
        if not head:
            raise InputError(f"{self._name}: nothing to read, it is empty")
        if file.seekable():
            file.seek(-len(head), 1)
            rest = file
        else:
            rest = io.BufferedReader(_Peeked(head, file), 1 << 16)
        if head == Y4M_MAGIC:
            return self._y4m(rest)
        return FFmpegSource(rest, name=self._name, device=self._device, audio=audio)

    def _open_raw(self, path: Path, raw: RawFormat | None) -> RawReader:
        try:
            file = path.open("rb")
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise InputError(f"{path}: {reason}") from error
        self._file = file
        if raw is None and path.suffix.lower() == ".y4m":
            return self._y4m(file)
        known = raw if raw is not None else parse_raw_name(path.name)
        if known is None:
            raise InputError(
                f"{path}: a .yuv file does not say its size; give it by option or name it like "
                "clip_1920x1080_30fps_420_8bit.yuv"
            )
        info = known.info()
        count = count_raw_frames(os.fstat(file.fileno()).st_size, info, str(path))
        return RawReader(file, replace(info, frame_count=count), name=str(path), y4m=False)

    def _y4m(self, file: BinaryIO) -> RawReader:
        info = parse_y4m_header(read_line(file, self._name), self._name)
        if file is self._file:
            # Frame headers may carry more than FRAME; then the size tells no number of frames.
            rest = os.fstat(file.fileno()).st_size - file.tell()
            count, odd = divmod(rest, frame_bytes(info) + len(b"FRAME\n"))
            info = info if odd else replace(info, frame_count=count)
        return RawReader(file, info, name=self._name, y4m=True)

    def _cropped(
        self, info: VideoInfo, crop: tuple[int, int] | None
    ) -> tuple[tuple[int, int], VideoInfo]:
        """((top, left) of the part kept, its VideoInfo)."""
        count = info.frame_count
        if count is not None:
            count = max(0, count - self._start)
            count = count if self._limit is None else min(count, self._limit)
            info = replace(info, frame_count=count)
        if crop is None:
            return (0, 0), info
        height, width = crop
        if not (1 <= height <= info.height and 1 <= width <= info.width):
            raise UsageError(
                f"{self._name}: crop {height}x{width} (HxW) does not fit into its "
                f"{info.height}x{info.width} picture"
            )
        down, across = CHROMA_SHIFTS.get(info.chroma, (0, 0))
        top = (info.height - height) // 2 >> down << down
        left = (info.width - width) // 2 >> across << across
        color = info.color
        if color.matrix == UNSPECIFIED and info.chroma != "400":
            whole = effective_matrix(color, info.height)
            if whole != effective_matrix(color, height):
                # What is unspecified goes by the height of the whole picture.
                color = replace(color, matrix=whole)
        return (top, left), replace(info, height=height, width=width, color=color)

    def __iter__(self) -> Iterator[Frame]:
        backend = self._backend
        if backend is None or self._done:
            raise RuntimeError(f"{self._name}: the frames have been read or the reader is closed")
        self._done = True
        count = 0
        if isinstance(backend, FFmpegSource):
            frames = backend.frames(self._start, self._limit)
        else:
            frames = backend.frames(self._start)
        cut = (self.info.height, self.info.width) != (backend.info.height, backend.info.width)
        for frame in frames:
            count += 1
            yield self._crop(frame).to(self._device) if cut else frame.to(self._device)
            if isinstance(backend, RawReader) and count == self._limit:
                break
        if count == 0:
            raise InputError(f"{self._name}: it has no frame {self._start}")

    def _crop(self, frame: Frame) -> Frame:
        top, left = self._box
        down, across = CHROMA_SHIFTS.get(self.info.chroma, (0, 0))
        planes = []
        for index, (plane, (rows, cols)) in enumerate(
            zip(frame.planes, self.info.plane_shapes(), strict=True)
        ):
            y, x = (top >> down, left >> across) if index else (top, left)
            planes.append(plane[y : y + rows, x : x + cols])
        return Frame(planes=tuple(planes), pts=frame.pts)

    @property
    def has_audio(self) -> bool:
        """Whether ``audio_chunks`` will have something to give, known before the first frame."""
        backend = self._backend
        return isinstance(backend, FFmpegSource) and bool(backend.audio and backend.audio.streams)

    def audio_chunks(self) -> Iterator[bytes]:
        """Matroska bytes of all audio tracks, at most 1 MB each, once the frames have been read.

        Nothing when there is no audio or the reader was opened without ``audio``.
        """
        if isinstance(self._backend, FFmpegSource) and self._backend.audio is not None:
            yield from self._backend.audio.chunks()

    def close(self) -> None:
        """Close the source; a file object that was handed in stays open."""
        if isinstance(self._backend, FFmpegSource):
            self._backend.close()
        if self._file is not None:
            self._file.close()
        self._backend = None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_video(
    source: Source,
    *,
    start: int = 0,
    frames: int | None = None,
    crop: tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
    raw: RawFormat | None = None,
    audio: bool = False,
) -> VideoReader:
    """A VideoReader of ``source``; see there for the options."""
    return VideoReader(
        source, start=start, frames=frames, crop=crop, device=device, raw=raw, audio=audio
    )
