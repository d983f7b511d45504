"""An .nvc file as a sequence of frames, with random access."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import overload

from nvc.bitstream.reader import StreamReader
from nvc.device import choose_device
from nvc.errors import StreamError, UsageError
from nvc.stream import StreamFrames
from nvc.video.frames import Frame, VideoInfo

#: Decoded frames are kept up to this many bytes, so that stepping back is cheap.
CACHE_BYTES = 256 << 20


class Video:
    """A sequence of frames: ``video[i]``, ``video[a:b]``, ``len(video)``, iteration.

    Frames are ``Frame``: integer planes and the presentation time ``pts`` in ``info.time_base``.
    Access to a frame reads and decodes only from the last random access point before it. Use it as
    a context manager, or call ``close()``. ``layers`` decodes only so many of the coarsest layers;
    ``track`` is which of a file's videos.
    With ``partial`` a damaged file gives the frames that are sound and ``damage`` says what is not.
    Raises StreamError for what is no intact .nvc file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        layers: int | None = None,
        partial: bool = False,
        track: int = 0,
    ) -> None:
        self.path = Path(path)
        self._file = self.path.open("rb")
        try:
            self._reader = StreamReader(self._file, name=str(path), partial=partial)
            self._stream = StreamFrames(
                self._reader, device=choose_device(device), layers=layers, track=track
            )
            self.info: VideoInfo = self._stream.info
            self._count = self.info.frame_count or 0
        except BaseException:
            self._file.close()
            raise
        self._cache: OrderedDict[int, Frame] = OrderedDict()
        self._cached_bytes = 0
        self._run: Iterator[tuple[int, Frame]] = iter(())
        self._next = -1

    @property
    def codec(self) -> str:
        """Name of the codec the stream is coded with."""
        return self._reader.header.codec

    @property
    def damage(self) -> str | None:
        """The first thing found wrong in a file opened with ``partial``."""
        return self._stream.damage

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames from ``start`` up to ``stop`` (None: the end), one at a time, none kept."""
        if start < 0 or (stop is not None and stop < start):
            raise UsageError(f"frames {start} to {stop} are no range of frames")
        count = None if stop is None else stop - start
        if start < self._count and count != 0:
            for _, frame in self._stream.frames(start, count):
                yield frame

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            return [self._at(number) for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"frame {index} of a video of {len(self)} frames")
        return self._at(number)

    def _at(self, number: int) -> Frame:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        entry = self._stream.entry_before(number) or 0
        if entry > number:
            entry = 0  # all keys before it were lost
        if not entry <= self._next <= number:
            # Going on from where decoding stands would be a detour, or cannot lead there.
            self._run = self._stream.frames(number, lead=True)
        for found, frame in self._run:
            self._next = found + 1
            self._keep(found, frame)
            if found == number:
                return frame
            if found > number:
                break
        self._next = -1
        raise StreamError(self.damage or f"{self.path}: frame {number} could not be decoded")

    def _keep(self, number: int, frame: Frame) -> None:
        self._cache[number] = frame
        self._cached_bytes += _frame_bytes(frame)
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= _frame_bytes(dropped)

    def close(self) -> None:
        """Close the file; frames already given stay good."""
        self._run = iter(())
        self._cache.clear()
        self._file.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _frame_bytes(frame: Frame) -> int:
    return sum(plane.nbytes for plane in frame.planes)
