"""What the server shows: pictures and figures of a file, its reference and x265's, for viewers."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nvc.bitstream.reader import StreamReader
from nvc.errors import InputError, NvcError, UsageError
from nvc.evaluation.compare import plane_scores
from nvc.serve.anchor import Anchors, AnchorState
from nvc.serve.cache import ByteCache
from nvc.serve.decoder import Decoder
from nvc.serve.layout import Layout, read_layout
from nvc.serve.scene import Scene
from nvc.serve.sources import Source, StreamSource, VideoSource, check_reference
from nvc.serve.tensors import TensorRow, group_tensors
from nvc.video.frames import Frame, VideoInfo
from nvc.video.stills import encode_still

FRAME_CACHE = 256 << 20
PICTURE_CACHE = 96 << 20
IDLE = 0.05  # seconds between looks for something to prepare
AHEAD = 2  # GOPs prepared from the one being watched

Gone = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class Track:
    """A video the page can show: "nvc" as received in a scene, "reference", or "x265".

    "blend" is "nvc" with the frames that the codec makes between frames; numbers count them.
    """

    kind: str
    scene: Scene | None = None
    layers: int = 0


@dataclass(frozen=True)
class Picture:
    """A frame as a PNG file, and its PSNRs in dB against the reference, if there is one."""

    data: bytes
    scores: dict[str, float | None]


class Engine:
    """One file and what belongs to it, for any number of viewers; memory stays within its caches.

    reference: the original, of which `selection` (start, frames, crop, raw) is the part that was
    encoded. Nothing is read before `open`, which raises NvcError or OSError when the file cannot be
    shown; it may be called again, and reads the file anew when it has changed.
    """

    def __init__(
        self,
        path: Path,
        *,
        reference: str | None = None,
        selection: dict[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:
        self.path, self.device = path, device
        self._reference, self._selection = reference, dict(selection or {})
        self._cache: ByteCache[Frame] = ByteCache(FRAME_CACHE)
        self._pictures: ByteCache[Picture] = ByteCache(PICTURE_CACHE)
        self._streams = Decoder(self._cache, name="nvc-decode")
        self._videos = Decoder(self._cache, name="nvc-video")
        self._painters = ThreadPoolExecutor(2, thread_name_prefix="nvc-paint")
        self._folder = tempfile.TemporaryDirectory(prefix="nvc-serve-")
        self._anchors: Anchors | None = None
        self._opening = asyncio.Lock()
        self._playhead: int | None = None
        self.layout: Layout | None = None
        self.version = ""
        self.reference_problem: str | None = None

    async def open(self) -> Layout:
        """The layout of the file as it is now."""
        async with self._opening:
            stat = self.path.stat()
            version = f"{stat.st_mtime_ns ^ stat.st_size << 40:x}"[-16:]
            if self.layout is None or version != self.version:
                await self._close_anchors()
                self.layout = None
                self.layout = await self._run(partial(_read, self.path))
                self.version = version
                self._cache.clear()
                self._pictures.clear()
                await self._check_reference(self.layout)
        return self.layout

    async def _check_reference(self, layout: Layout) -> None:
        self.reference_problem = None
        if self._reference is None:
            return
        try:
            source = await self._videos.source(self._key(REFERENCE), self._make(REFERENCE))
            check_reference(source.info, layout)
        except NvcError as error:
            self.reference_problem = str(error)
            return
        self._anchors = Anchors(self._reference, self._selection, layout, Path(self._folder.name))

    @property
    def has_reference(self) -> bool:
        """Whether there is an original that the pictures can be compared with."""
        return self._anchors is not None

    def anchor(self, layers: int) -> AnchorState:
        """How x265's file for so many layers stands; the first question starts it."""
        if self._anchors is None:
            raise UsageError("x265 is made from the original: start with --reference ORIGINAL")
        return self._anchors.state(layers)

    async def tensors(self, group: int) -> list[TensorRow]:
        """Bytes by tensor of a group of an INR file."""
        return await self._run(partial(group_tensors, self.path, group))

    async def picture(self, track: Track, number: int, *, gone: Gone | None = None) -> Picture:
        """Frame `number` of a track. Raises NvcError in words, Abandoned when `gone` says so."""
        layout = self._layout()
        frames = layout.frames * (layout.blends if track.kind == "blend" else 1)
        if not 0 <= number < frames:
            raise UsageError(f"frame {number} of a video of {frames} frames")
        if track.kind == "nvc":
            self._playhead = number
        key = (self._key(track), number)
        kept = self._pictures.get(key)
        if kept is not None:
            return kept
        compared = self.has_reference and track.kind not in ("reference", "blend")
        frame, original = await asyncio.gather(
            self._frame(track, number, gone), self._original(number, gone) if compared else _none()
        )
        info = await self._info(track)
        versus = None if original is None else (original, await self._info(REFERENCE))
        picture = await self._run(partial(_paint, frame, info, versus))
        self._pictures.put(key, picture, len(picture.data))
        return picture

    async def prepare(self) -> None:
        """For ever: decode the layers around what is being watched while nobody waits."""
        while True:
            await asyncio.sleep(IDLE)
            if self.layout is None or self._playhead is None or self._streams.waiting:
                continue
            with contextlib.suppress(NvcError, OSError):  # told when somebody asks for the frame
                await self._prepare_some(self.layout, self._playhead)

    async def _prepare_some(self, layout: Layout, playhead: int) -> None:
        first = layout.keys[layout.gop_of(playhead)]
        following = layout.gop_of(playhead) + AHEAD
        stop = layout.keys[following] if following < len(layout.keys) else layout.frames
        size = 3 * layout.header.width * layout.header.height * (1 + (layout.header.bit_depth > 8))
        # Coarse layers first: they are quick, and most of what a viewer switches to.
        for layers in range(1, layout.layers + 1):
            track = Track("nvc", Scene(layers=layers).settled(layout))
            for number in range(first, stop):
                key = self._key(track)
                while (key, number) not in self._cache:
                    if self._streams.waiting or not self._cache.has_room(size):
                        return
                    await self._streams.step(key, self._make(track), number)

    async def close(self) -> None:
        """Stop everything; the engine cannot be used again."""
        await self._close_anchors()
        for decoder in (self._streams, self._videos):
            await asyncio.to_thread(decoder.close)
        self._painters.shutdown(wait=True, cancel_futures=True)
        self._folder.cleanup()

    async def _close_anchors(self) -> None:
        anchors, self._anchors = self._anchors, None
        if anchors is not None:
            await asyncio.to_thread(anchors.close)

    def _layout(self) -> Layout:
        if self.layout is None:
            raise InputError(f"{self.path.name} is not open: load the page again")
        return self.layout

    def _key(self, track: Track) -> tuple[str, Track]:
        return (self.version if track.kind != "reference" else "", track)

    def _decoder(self, track: Track) -> Decoder:
        return self._streams if track.scene is not None else self._videos

    async def _frame(self, track: Track, number: int, gone: Gone | None) -> Frame:
        decoder = self._decoder(track)
        return await decoder.frame(self._key(track), self._make(track), number, gone=gone)

    async def _original(self, number: int, gone: Gone | None) -> Frame | None:
        """Frame of the reference; None where it is shorter than the stream, or damaged."""
        try:
            return await self._frame(REFERENCE, number, gone)
        except NvcError:
            return None

    async def _info(self, track: Track) -> VideoInfo:
        source = await self._decoder(track).source(self._key(track), self._make(track))
        return source.info

    def _make(self, track: Track) -> Callable[[], Source]:
        if track.scene is not None:
            layout = self._layout()
            blends = layout.blends if track.kind == "blend" else 1
            return partial(
                StreamSource.of,
                self.path,
                layout,
                track.scene,
                device=self.device,
                blends=blends,
            )
        if track.kind == "reference":
            if self._reference is None:
                raise UsageError("there is no reference: start with --reference ORIGINAL")
            return partial(VideoSource, self._reference, **self._selection)
        state = self.anchor(track.layers)
        if state.path is None:
            raise InputError(state.error or "x265 is still encoding")
        return partial(VideoSource, str(state.path))

    async def _run(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._painters, work)


REFERENCE = Track("reference")


async def _none() -> None:
    return None


def _read(path: Path) -> Layout:
    with path.open("rb") as file:
        return read_layout(StreamReader(file, name=path.name, partial=True))


def _paint(frame: Frame, info: VideoInfo, versus: tuple[Frame, VideoInfo] | None) -> Picture:
    scores: dict[str, float | None] = {}
    if versus is not None:
        scores = plane_scores(versus[0], frame, versus[1], info)
    return Picture(encode_still(frame, info), scores)
