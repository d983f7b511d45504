"""One frame as a picture file in memory: PNG without loss, or WebP for a page on the web."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import torch

from nvc.errors import UsageError
from nvc.video.color import yuv_to_rgb
from nvc.video.convert import upright_info, upright_planes
from nvc.video.frames import Frame, VideoInfo
from nvc.video.pixels import make_packed_frame, reformat

STILL_TYPES = {"png": "image/png", "webp": "image/webp"}
_PNG_OPTIONS = {"pred": "up", "compression_level": "2"}


def upright_rgb(frame: Frame, info: VideoInfo) -> torch.Tensor:
    """(3, H, W) float32 in [0, 1] of a frame turned upright; Y three times for 4:0:0."""
    return yuv_to_rgb(upright_planes(frame.planes, info), upright_info(info))[0]


def encode_still(frame: Frame, info: VideoInfo, *, kind: str = "png", quality: int = 90) -> bytes:
    """The frame upright, in 8-bit RGB, as a whole file of `kind`; quality: of WebP, 0 to 100.

    Raises UsageError for another kind.
    """
    if kind not in STILL_TYPES:
        raise UsageError(f"still {kind!r} is not known; allowed: {', '.join(STILL_TYPES)}")
    rgb = upright_rgb(frame, info)
    height, width = rgb.shape[-2:]
    # (3, h, w) -> (h, 3 w)
    rows = (rgb * 255 + 0.5).byte().permute(1, 2, 0).reshape(height, -1).cpu().numpy()
    if kind == "png":
        return png(rows, width, "rgb24")
    picture = reformat(make_packed_frame(rows, width, "rgb24"), "yuv420p")
    context = av.CodecContext.create("libwebp", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = Fraction(1, 25)
    context.options = {"quality": str(quality), "compression_level": "4"}
    return _whole(context, picture)


def png(rows: np.ndarray, width: int, name: str) -> bytes:
    """A whole PNG file of packed lines (height, bytes a line) in FFmpeg's pixel format `name`."""
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = width, rows.shape[0], name
    context.time_base = Fraction(1, 25)
    context.options = dict(_PNG_OPTIONS)
    return _whole(context, make_packed_frame(rows, width, name))


def _whole(context: av.CodecContext, picture: av.VideoFrame) -> bytes:
    return b"".join(bytes(packet) for packet in [*context.encode(picture), *context.encode(None)])
