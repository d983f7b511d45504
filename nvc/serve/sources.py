"""Frames by number from where they come: the stream as received, the reference, x265's file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

from nvc.errors import InputError, StreamError
from nvc.serve.layout import MAX_LEAD, Layout
from nvc.serve.received import Place, ReceivedReader
from nvc.serve.scene import ARRIVED, Scene
from nvc.stream import StreamFrames
from nvc.video.frames import Frame, VideoInfo
from nvc.video.reader import open_video


class Source(Protocol):
    """Something that has frames, and where decoding starts when one of them is wanted.

    ended: why there is no frame where it gives no more.
    """

    info: VideoInfo
    ended: str

    def entry(self, number: int) -> int:
        """First frame to decode for frame `number`; the same in every call."""

    def frames(self, start: int) -> Iterator[tuple[int, Frame]]:
        """(number, frame) from an entry to the end. Raises NvcError when there is no going on."""


class StreamSource:
    """What the real decoder makes of the units that arrive.

    missing: (last frame, layer) of those that do not. A frame is decoded from the last key frame
    that arrived whole, as far as MAX_LEAD GOPs back, so that what is shown does not depend on what
    was shown before. blends: frames made for each of the stream's, where the codec can make frames
    between frames; numbers count those.
    """

    ended = "nothing of it arrived"

    def __init__(
        self,
        path: Path,
        layout: Layout,
        missing: Collection[Place],
        *,
        layers: int | None,
        device: str,
        blends: int = 1,
    ) -> None:
        self._path, self._layout, self._missing = path, layout, missing
        self._layers, self._device, self._blends = layers, device, blends
        broken = {last for last, layer in missing if layers is None or layer < layers}
        self._whole = [head not in broken for head in layout.heads]
        with self._open() as file:
            self.info = self._stream(file).info

    @classmethod
    def of(
        cls, path: Path, layout: Layout, scene: Scene, *, device: str, blends: int = 1
    ) -> StreamSource:
        """What arrives in a scene."""
        missing = {
            (packet.last, packet.layer)
            for packet, state in zip(layout.packets, scene.states(layout), strict=True)
            if state != ARRIVED
        }
        # A decoder that knows of no finer layers does not try to conceal them.
        layers = scene.layers if layout.layered else None
        return cls(path, layout, missing, layers=layers, device=device, blends=blends)

    def entry(self, number: int) -> int:
        """The key frame that decoding of `number` starts at."""
        gop = self._layout.gop_of(number // self._blends)
        first = max(gop - MAX_LEAD, 0)
        while gop > first and not self._whole[gop]:
            gop -= 1
        return self._layout.keys[gop] * self._blends

    def frames(self, start: int) -> Iterator[tuple[int, Frame]]:
        """(number, frame) from a key frame on."""
        with self._open() as file:
            stream = self._stream(file)
            shown = start
            for number, frame in stream.frames(start // self._blends, lead=True):
                yield number, frame
                shown = number + 1
            if stream.damage and shown < self._layout.frames * self._blends:
                raise StreamError(stream.damage)

    def _open(self) -> Any:
        return self._path.open("rb")

    def _stream(self, file: Any) -> StreamFrames:
        reader = ReceivedReader(file, name=self._path.name, missing=self._missing)
        fps = f"{self._blends}x" if self._blends > 1 else None
        return StreamFrames(reader, device=self._device, layers=self._layers, fps=fps)


class VideoSource:
    """The frames of a video file; `start`, `frames` and `crop` choose a part of it."""

    def __init__(self, path: str, **selection: Any) -> None:
        self._path, self._selection = path, selection
        self.ended = f"{Path(path).name} has no such frame"
        with open_video(path, **selection) as reader:
            self.info = reader.info

    def entry(self, number: int) -> int:
        """Videos are read from their start, which is quick."""
        return 0

    def frames(self, start: int) -> Iterator[tuple[int, Frame]]:
        """(number, frame) in order."""
        with open_video(self._path, **self._selection) as reader:
            for number, frame in enumerate(reader):
                # A decoder owns the memory of what it gives.
                yield number, Frame(tuple(plane.clone() for plane in frame.planes), frame.pts)


def check_reference(reference: VideoInfo, layout: Layout) -> None:
    """Raise InputError when a reference has another size than the stream."""
    sizes = [(part.width, part.height) for part in (reference, layout.header)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"the reference is {sizes[0][0]}x{sizes[0][1]} and the file {sizes[1][0]}x"
            f"{sizes[1][1]}: give --crop as it was given to encode"
        )


class Run:
    """Decoding under way: frames of a source from an entry on, one at a time."""

    def __init__(self, source: Source, start: int) -> None:
        self.next = start
        self._ended = source.ended
        self._frames = source.frames(start)

    def step(self) -> tuple[int, Frame]:
        """The next frame. Raises StreamError when there are no more."""
        for number, frame in self._frames:
            self.next = number + 1
            return number, frame
        raise StreamError(f"frame {self.next} cannot be shown: {self._ended}")

    def close(self) -> None:
        """Give up what it holds open."""
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()
