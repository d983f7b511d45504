"""x265 at the same bytes, made while the page is open: one file for every number of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nvc.errors import NvcError, UsageError
from nvc.evaluation.anchors import encode_anchor_to_size, parse_anchor
from nvc.serve.layout import Layout
from nvc.video.frames import Frame, VideoInfo
from nvc.video.reader import open_video

PRESET = "x265-medium"


class _Stopped(Exception):
    """The server goes down while x265 is encoding."""


@dataclass
class AnchorState:
    """How an encode stands: state is "encoding", "ready" or "failed"; encodes: begun so far."""

    state: str = "encoding"
    layers: int = 1
    target: int = 0
    encodes: int = 0
    bytes: int | None = None
    crf: float | None = None
    preset: str = PRESET
    options: dict[str, str] = field(default_factory=dict)
    path: Path | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """What the page reads; no path of this machine."""
        names = ("state", "layers", "target", "encodes", "bytes", "crf", "preset", "options")
        return {**{name: getattr(self, name) for name in names}, "error": self.error}


class Anchors:
    """Encodes a reference with x265 to the bytes of a stream's layers, one at a time.

    With the key frames as far apart as those of the stream. Files lie in `folder`.
    """

    def __init__(
        self, reference: str, selection: dict[str, Any], layout: Layout, folder: Path
    ) -> None:
        self._reference, self._layout, self._folder = reference, layout, folder
        limit = min(selection.get("frames") or layout.frames, layout.frames)
        self._selection = {**selection, "frames": limit}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="nvc-x265")
        self._states: dict[int, AnchorState] = {}
        self._stopping = False

    def state(self, layers: int) -> AnchorState:
        """How the file for so many layers stands; the first question starts it."""
        if layers not in self._states:
            self._states[layers] = self._new(layers)
            self._pool.submit(self._make, self._states[layers])
        return self._states[layers]

    def made(self, layers: int) -> AnchorState:
        """The same when it is done, ready or failed."""
        state = self._new(layers)
        self._make(state)
        return state

    def _new(self, layers: int) -> AnchorState:
        if not 1 <= layers <= self._layout.layers:
            raise UsageError(f"layers is {layers}; allowed: 1 to {self._layout.layers}")
        return AnchorState(layers=layers, target=self._layout.layer_bytes(layers))

    def _make(self, state: AnchorState) -> None:
        """Encode, about nine times; errors end up in the state, in words."""
        distances = [b - a for a, b in zip(self._layout.keys, self._layout.keys[1:], strict=False)]
        anchor = parse_anchor(PRESET, gop=max(distances, default=self._layout.frames))
        path = self._folder / f"x265_{state.layers}.mkv"
        try:
            made = encode_anchor_to_size(
                self._frames(state), self._info(), path, anchor, state.target
            )
        except _Stopped:
            return
        except (NvcError, OSError) as error:
            state.error, state.state = f"x265 could not encode it: {error}", "failed"
            return
        state.path, state.bytes, state.crf = made.path, made.bytes, made.crf
        state.options = made.options
        state.state = "ready"

    def close(self) -> None:
        """Stop at the next frame."""
        self._stopping = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _info(self) -> VideoInfo:
        with open_video(self._reference, **self._selection) as reader:
            return reader.info

    def _frames(self, state: AnchorState) -> Callable[[], Iterator[Frame]]:
        def frames() -> Iterator[Frame]:
            state.encodes += 1
            with open_video(self._reference, **self._selection) as reader:
                for frame in reader:
                    if self._stopping:
                        raise _Stopped
                    yield frame

        return frames
