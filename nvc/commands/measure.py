"""Measure a file against its reference; what ``nvc eval`` and ``nvc demo`` print."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvc.bitstream.header import MAGIC
from nvc.device import choose_device, set_threads
from nvc.errors import InputError
from nvc.evaluation.compare import compare, rgb_info
from nvc.evaluation.frame_types import stream_sizes
from nvc.player import Video
from nvc.video.color import yuv_to_rgb
from nvc.video.count import coded_sizes
from nvc.video.rawvideo import RawFormat
from nvc.video.reader import open_video

if TYPE_CHECKING:
    import numpy as np

    from nvc.video.frames import VideoInfo


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
    coded: str | None = None,
) -> dict[str, Any]:
    """The figures of ``nvc eval``: all of ``file`` against the chosen part of ``reference``.

    coded: the file that ``file`` was decoded from, whose bytes count, and whose intra and inter
    frames are then told apart.

    Raises InputError when they do not match in size or number of frames.
    """
    chosen = choose_device(device)
    set_threads(threads)
    path = Path(file)
    origin = path if coded is None else Path(coded)
    for one in (path, origin):
        if not one.is_file():
            raise InputError(f"{one}: no such file")
    sizes = None
    if coded is not None:
        sizes = stream_sizes(origin) if is_stream(origin) else coded_sizes(origin)
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
            file_bytes=origin.stat().st_size,
            coded=sizes,
            device=chosen,
        )


def frame_picture(
    path: Path,
    number: int,
    *,
    crop: tuple[int, int] | None = None,
    reference: VideoInfo | None = None,
) -> tuple[np.ndarray, VideoInfo]:
    """Frame ``number`` of an .nvc file or a video as ((h, w, 3) uint8 RGB, what the video is).

    crop: centre (height, width) of a video. RGB by the matrix and range of ``reference``, or else
    of the file itself. Raises InputError and StreamError for files that cannot be read.
    """
    if is_stream(path):
        with Video(path, device="cpu") as video:
            frame, info = video[number], video.info
    else:
        with open_video(path, start=number, frames=1, crop=crop) as reader:
            frame, info = next(iter(reader)), reader.info
    rgb = yuv_to_rgb(frame.planes, rgb_info(info, reference or info))[0]
    # (3, h, w) -> (h, w, 3)
    return (rgb * 255).round().byte().permute(1, 2, 0).numpy(), info
