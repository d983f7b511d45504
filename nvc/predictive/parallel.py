"""GOPs encoded side by side in processes; the bytes are those of one process.

A GOP starts with an intra frame and refers to nothing before it, so each is a task of its own. A
bounded number is under way, which bounds the memory; results come back in order.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from nvc.bitstream.units import Unit
from nvc.video.frames import Frame, VideoInfo

if TYPE_CHECKING:
    from nvc.predictive.codec import EncodeOptions

Planes = list[tuple[np.ndarray, ...]]


def encode_gops(
    options: EncodeOptions,
    frames: Iterable[Frame],
    info: VideoInfo,
    *,
    progress: Callable | None = None,
) -> Iterator[Unit]:
    """FRAME units of all frames, `options.jobs` GOPs at a time."""
    frames = iter(frames)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        under_way: deque[tuple[Future[list[Unit]], int]] = deque()
        first = 0
        while True:
            gop = list(itertools.islice(frames, options.gop))
            if gop:
                planes = [tuple(plane.cpu().numpy() for plane in frame.planes) for frame in gop]
                under_way.append((pool.submit(_task, options, planes, info, first), len(gop)))
                first += len(gop)
            if not under_way:
                return
            if not gop or len(under_way) > options.jobs:
                task, count = under_way.popleft()
                units = task.result()
                yield from units
                if progress is not None:
                    progress(units[-1].frame_start + 1 if units else count)


def _task(options: EncodeOptions, planes: Planes, info: VideoInfo, first: int) -> list[Unit]:
    from nvc.predictive.codec import encode_frames

    torch.set_num_threads(1)
    frames = (
        Frame(planes=tuple(torch.from_numpy(plane) for plane in parts), pts=0) for parts in planes
    )
    return list(encode_frames(options, frames, info, first=first))
