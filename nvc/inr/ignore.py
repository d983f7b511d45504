"""The places of a video that a fit is told to leave alone."""

from __future__ import annotations

import torch

from nvc.errors import UsageError
from nvc.video.frames import VideoInfo
from nvc.video.reader import open_video


def read_mask(path: str, info: VideoInfo) -> torch.Tensor:
    """bool (N, H, W), True where the picture or video at `path` is brighter than half: N is 1 for a
    still, else its frames.

    A larger mask is cropped around its centre, as --crop does. Raises UsageError when it is smaller
    than the video or has fewer frames, InputError when it cannot be read.
    """
    with open_video(path) as reader:
        own = reader.info
        if own.height < info.height or own.width < info.width:
            raise UsageError(
                f"{path}: the mask is {own.width}x{own.height}, the video {info.width}x"
                f"{info.height}; a mask must be at least as large"
            )
    with open_video(path, crop=(info.height, info.width)) as reader:
        half = 1 << (reader.info.bit_depth - 1)
        # int32: uint16 has no comparisons everywhere
        masks = [frame.planes[0].to(torch.int32) >= half for frame in reader]
    count = info.frame_count or 0
    if 1 < len(masks) < count:
        raise UsageError(f"{path}: the mask has {len(masks)} frames, the video {count}")
    return torch.stack(masks)
