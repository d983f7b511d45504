"""Measure a file against its reference; what ``nvc eval`` and ``nvc demo`` print."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nvc.bitstream.header import MAGIC
from nvc.device import choose_device, set_threads
from nvc.errors import InputError
from nvc.evaluation.compare import compare
from nvc.player import Video
from nvc.video.rawvideo import RawFormat
from nvc.video.reader import open_video


def is_stream(path: Path) -> bool:
    """Whether a file is an .nvc stream, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def measure_file(
    reference: str,
    file: str,
    *,
    start: int = 0,
    frames: int | None = None,
    crop: tuple[int, int] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    raw: RawFormat | None = None,
) -> dict[str, Any]:
    """The figures of ``nvc eval``: all of ``file`` against the chosen part of ``reference``.

    Raises InputError when they do not match in size or number of frames.
    """
    chosen = choose_device(device)
    set_threads(threads)
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{file}: no such file")
    with ExitStack() as stack:
        original = stack.enter_context(
            open_video(reference, start=start, frames=frames, crop=crop, device=chosen, raw=raw)
        )
        decoded = stack.enter_context(
            Video(path, device=device) if is_stream(path) else open_video(file, device=chosen)
        )
        return compare(
            original,
            decoded,
            original.info,
            decoded.info,
            file_bytes=path.stat().st_size,
            device=chosen,
        )
