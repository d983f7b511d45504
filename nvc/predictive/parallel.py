"""GOPs encoded side by side; the bytes are those of one process.

A GOP refers to nothing outside it, so each is a task of its own, here or on other machines. Frames
are read only as tasks are drawn, which bounds the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from nvc.bitstream.units import Unit
from nvc.predictive.scene_cuts import cut_luma, gop_starts
from nvc.schedule import Task, open_scheduler
from nvc.video.frames import Frame, VideoInfo

if TYPE_CHECKING:
    from nvc.predictive.codec import EncodeOptions

Planes = list[tuple[np.ndarray, ...]]


def encode_gops(
    options: EncodeOptions,
    frames: Iterable[Frame],
    info: VideoInfo,
    *,
    device: str = "cpu",
    progress: Callable | None = None,
) -> Iterator[Unit]:
    """FRAME units of all frames, in order, from `options.jobs` processes or `options.cluster`."""
    gpus = 1 if device.startswith("cuda") else 0
    tasks = (
        Task((options, planes, info, device, first), gpus=gpus)
        for first, planes in _gops(frames, options, info)
    )
    with open_scheduler(jobs=options.jobs, cluster=options.cluster) as scheduler:
        for _, (units, done) in scheduler.map(_encode_gop, tasks):
            yield from units
            if progress is not None:
                progress(done)


def _gops(
    frames: Iterable[Frame], options: EncodeOptions, info: VideoInfo
) -> Iterator[tuple[int, Planes]]:
    """Number of the first frame and the planes of every GOP, on the CPU."""
    first, gop = 0, []
    for starts, frame in gop_starts(frames, gop=options.gop, luma=cut_luma(options, info)):
        if starts and gop:
            yield first, gop
            first, gop = first + len(gop), []
        gop.append(tuple(plane.cpu().numpy() for plane in frame.planes))
    if gop:
        yield first, gop


def _encode_gop(
    options: EncodeOptions, planes: Planes, info: VideoInfo, device: str, first: int
) -> tuple[list[Unit], int]:
    """Units of a GOP, and the frames of the video that are done with it."""
    from nvc.predictive.codec import encode_started

    frames = (
        (not number, Frame(planes=tuple(torch.from_numpy(plane) for plane in parts), pts=0))
        for number, parts in enumerate(planes)
    )
    units = list(encode_started(options, frames, info, device=device, first=first))
    return units, first + len(planes)
