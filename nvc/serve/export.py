"""The page as static files: pictures of a chosen few scenes, decoded beforehand, for any web host.

A folder with index.html, assets/, data.js (what the server would answer) and pictures/, a WebP file
a frame. It needs no server: index.html opens from a disk too.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nvc.bitstream.reader import StreamReader
from nvc.errors import NvcError, UsageError
from nvc.evaluation.compare import plane_scores
from nvc.serve.anchor import Anchors
from nvc.serve.layout import Layout, read_layout
from nvc.serve.page import assets, index_page
from nvc.serve.scene import UNSENT, Scene
from nvc.serve.sources import Source, StreamSource, VideoSource, check_reference
from nvc.serve.tensors import group_tensors
from nvc.video.stills import encode_still

QUALITY = 85  # of the WebP pictures
RATES = (10, 25, 50, 75)
LOSSES = (5, 10, 20)
BURSTS = (1, 4)
MAX_GROUPS = 64  # whose tensors are listed

_POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'\">"
)
_DATA = '<script src="data.js" defer></script>'

Progress = Callable[[int, int], None]


def export_page(
    path: Path,
    folder: Path,
    *,
    reference: str | None = None,
    selection: dict[str, Any] | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write the page of a stream to `folder`; the bytes it takes.

    The folder gets its name when it is complete. progress is called with pictures done and in all.
    Raises UsageError when the folder exists and is no exported page to be replaced, NvcError when
    the stream or the reference cannot be shown.
    """
    _check_folder(folder, overwrite=overwrite)
    with path.open("rb") as file:
        layout = read_layout(StreamReader(file, name=path.name, partial=True))
    original = None
    if reference is not None:
        original = VideoSource(reference, **(selection or {}))
        check_reference(original.info, layout)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as part:
        made = Path(part) / "page"
        (made / "assets").mkdir(parents=True)
        exporter = _Exporter(path, layout, original, made, device=device, progress=progress)
        exporter.scenes()
        if reference is not None:
            exporter.beside(reference, selection or {}, Path(part))
        _write_page(made, exporter.data(path.name))
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    return sum(item.stat().st_size for item in folder.rglob("*") if item.is_file())


def exported_scenes(layout: Layout) -> list[Scene]:
    """What of all that could be received goes into the page: every layer, some rates and losses."""
    full = layout.layers
    scenes = [Scene(layers=layers) for layers in range(full, 0, -1)]
    scenes += [Scene(layers=full, rate=rate) for rate in RATES]
    scenes += [
        Scene(layers=full, loss=loss, burst=burst, seed=1) for loss in LOSSES for burst in BURSTS
    ]
    return scenes


class _Exporter:
    """Decodes every scene once and writes its pictures."""

    def __init__(
        self,
        path: Path,
        layout: Layout,
        original: VideoSource | None,
        folder: Path,
        *,
        device: str,
        progress: Progress | None,
    ) -> None:
        self.path, self.layout, self.original = path, layout, original
        self.folder, self.device = folder, device
        self._progress = progress
        self._wanted = exported_scenes(layout)
        videos = len(self._wanted) + (1 + layout.layers if original else 0)
        self._total, self._done = videos * layout.frames, 0
        self._scenes: list[dict[str, Any]] = []
        self._x265: dict[int, dict[str, Any]] = {}

    def scenes(self) -> None:
        """Pictures and figures of what is received in every scene."""
        for number, scene in enumerate(self._wanted):
            states = scene.states(self.layout)
            source = StreamSource.of(self.path, self.layout, scene, device=self.device)
            name = f"nvc_{number:02d}"
            self._scenes.append(
                {
                    "scene": {**asdict(scene), "protect": int(scene.protect)},
                    "states": states,
                    "folder": name,
                    "psnr": self._pictures(name, source, skip=self._awaited(states)),
                }
            )

    def beside(self, reference: str, selection: dict[str, Any], scratch: Path) -> None:
        """Pictures of the original, and of x265 at the bytes of every number of layers."""
        if self.original is not None:
            self._pictures("reference", self.original)
        anchors = Anchors(reference, selection, self.layout, scratch)
        try:
            for layers in range(1, self.layout.layers + 1):
                state = anchors.made(layers)
                self._x265[layers] = state.to_dict()
                if state.path is not None:
                    source = VideoSource(str(state.path))
                    self._x265[layers]["psnr"] = self._pictures(f"x265_{layers}", source)
        finally:
            anchors.close()

    def data(self, name: str) -> dict[str, Any]:
        """What the server would answer to the page."""
        stream = {
            **self.layout.to_dict(),
            "blends": 1,
            "name": name,
            "reference": self.original is not None,
            "x265": any(state["state"] == "ready" for state in self._x265.values()),
        }
        return {
            "stream": stream,
            "scenes": self._scenes,
            "x265": self._x265,
            "tensors": [] if self.layout.layered else list(self._tensors()),
            "quality": QUALITY,
        }

    def _tensors(self) -> Iterator[list[dict[str, Any]]]:
        for group in range(min(len(self.layout.packets), MAX_GROUPS)):
            yield [row.to_dict() for row in group_tensors(self.path, group)]

    def _awaited(self, states: str) -> frozenset[int]:
        """Frames of groups that are not sent, which the page waits for and never shows."""
        if self.layout.layered:
            return frozenset()
        return frozenset(
            frame
            for packet, state in zip(self.layout.packets, states, strict=True)
            if state == UNSENT
            for frame in range(packet.start, packet.start + packet.count)
        )

    def _pictures(
        self, name: str, source: Source, *, skip: frozenset[int] = frozenset()
    ) -> list[float | None]:
        """Write the frames of a source; PSNR by frame, None where there is none."""
        folder = self.folder / "pictures" / name
        folder.mkdir(parents=True)
        psnr: list[float | None] = [None] * self.layout.frames
        original = self.original.frames(0) if self.original else iter(())
        try:
            for number, frame in source.frames(0):
                beside = next(original, None)
                if number >= self.layout.frames:
                    break
                if number not in skip:
                    picture = encode_still(frame, source.info, kind="webp", quality=QUALITY)
                    (folder / f"{number:05d}.webp").write_bytes(picture)
                    if beside is not None and self.original is not None:
                        info = self.original.info
                        scores = plane_scores(beside[1], frame.to("cpu"), info, source.info)
                        psnr[number] = round(scores["psnr_yuv"] or scores["psnr_y"] or 0, 3)
                self._count(number)
        except NvcError:
            # The rest of such a scene has no pictures, and the page says so.
            pass
        self._done += self.layout.frames
        return psnr

    def _count(self, number: int) -> None:
        if self._progress is not None:
            self._progress(self._done + number + 1, self._total)


def _check_folder(folder: Path, *, overwrite: bool) -> None:
    if not folder.parent.is_dir():
        raise UsageError(f"{folder}: there is no folder {folder.parent}")
    if not folder.exists():
        return
    if not overwrite:
        raise UsageError(f"{folder} exists already: give another name, or -y to replace it")
    if not (folder / "data.js").is_file() or not (folder / "index.html").is_file():
        raise UsageError(f"{folder} is no exported page, so -y does not replace it")


def _write_page(folder: Path, data: dict[str, Any]) -> None:
    for name, item in assets().items():
        if name != "index.html":
            (folder / "assets" / name).write_bytes(item.data)
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    (folder / "data.js").write_text(f'"use strict";\nwindow.NVC_EXPORT = {text};\n')
    (folder / "index.html").write_text(index_page(extra=f"{_POLICY}\n{_DATA}"), encoding="utf-8")
