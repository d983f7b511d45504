"""Where GOPs begin: every so many frames, and where a scene gives way to another.

At a cut nothing of the frame before helps: motion finds in it hardly more than the mean of a block.
So the error that the search leaves is held against the variance inside the blocks, at a quarter of
the size, as x264 holds the cost of inter against that of intra prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from nvc.predictive.bidirectional import moved
from nvc.predictive.motion import VECTOR_BLOCK
from nvc.predictive.motion_search import search_motion
from nvc.video.frames import Frame, VideoInfo

if TYPE_CHECKING:
    from nvc.predictive.codec import EncodeOptions

SHORTEST = 4  # frames of a GOP that a cut ends: flashes are no scenes
_SHRINK = 4
_SIDE = 16 * _SHRINK  # the search takes multiples of 16
# Measured on training clips: within scenes up to 0.72, between two 0.86 and more.
_RATIO = 0.8
_FLAT = 1.0  # added to the variance: noise of flat pictures is no scene
_MOTION_WEIGHT = 60.0

Item = TypeVar("Item")
Luma = NDArray[np.uint8]


def quarter_luma(frame: Frame, bit_depth: int) -> Luma | None:
    """Luma (H / 4, W / 4) uint8 of a frame, cut to multiples of 64; None for a smaller one."""
    plane = frame.planes[0]
    height, width = (side // _SIDE * _SIDE for side in plane.shape)
    if not height or not width:
        return None
    small = F.avg_pool2d(plane[:height, :width].float()[None, None], _SHRINK)[0, 0]
    return (small / (1 << (bit_depth - 8))).round().byte().cpu().numpy()


def cut_luma(options: EncodeOptions, info: VideoInfo) -> Callable[[Frame], Luma | None] | None:
    """What gop_starts finds cuts by in an encode; None where none are looked for."""
    return partial(quarter_luma, bit_depth=info.bit_depth) if options.scenecut else None


def is_cut(before: Luma, after: Luma) -> bool:
    """Whether two successive pictures, (H, W) uint8 of quarter size, are of different scenes."""
    field = search_motion(after, before, previous=None, weight=_MOTION_WEIGHT)
    wide = after.astype(np.float32)
    error = np.square(moved(before, field) - wide).mean()
    rows, columns = (side // VECTOR_BLOCK for side in after.shape)
    blocks = wide.reshape(rows, VECTOR_BLOCK, columns, VECTOR_BLOCK)
    return bool(error > _RATIO * (blocks.var(axis=(1, 3)).mean() + _FLAT))


def gop_starts(
    items: Iterable[Item], *, gop: int, luma: Callable[[Item], Luma | None] | None = None
) -> Iterator[tuple[bool, Item]]:
    """Each item, and whether a GOP begins with it; the first begins one.

    gop: the most items of a GOP; luma: pictures for is_cut, None where no cuts are looked for.
    Reads nothing ahead.
    """
    count = 0  # of the GOP so far
    last: Luma | None = None
    for item in items:
        picture = None if luma is None else luma(item)
        starts = count in (0, gop)
        if not starts and count >= SHORTEST and last is not None and picture is not None:
            starts = is_cut(last, picture)
        last, count = picture, 1 if starts else count + 1
        yield starts, item
