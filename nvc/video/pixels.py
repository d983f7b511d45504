"""Between FFmpeg's pictures and planes: which pixel formats there are and how they map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import av
import numpy as np
import torch
from av.video.format import VideoFormat
from av.video.reformatter import Interpolation

from nvc.errors import InputError
from nvc.video.frames import plane_shapes

# Bit depths for which FFmpeg has planar formats of every chroma format.
PLANAR_DEPTHS = (8, 9, 10, 12, 14, 16)
ALLOWED_FORMATS = (
    "gray, YUV 4:2:0, 4:2:2, 4:4:4 and RGB (planar, semi-planar, packed or palette), 8 to 16 bit"
)
# Two chroma components that share a plane: (Cb and Cr swapped, right shift to the low bits).
SEMI_PLANAR = {
    "nv12": (False, 0),
    "nv21": (True, 0),
    "nv16": (False, 0),
    "nv20le": (False, 0),
    "nv24": (False, 0),
    "nv42": (True, 0),
    **{f"p{sub}10le": (False, 6) for sub in "024"},
    **{f"p{sub}12le": (False, 4) for sub in "024"},
    **{f"p{sub}16le": (False, 0) for sub in "024"},
}
# The flags under which swscale moves samples without loss where the two formats hold the same.
EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)


@dataclass(frozen=True)
class PixelLayout:
    """How the planes of one FFmpeg pixel format are taken.

    ``convert_to`` names the formats swscale takes it through first, the last one planar; empty when
    planes are taken as they are. ``rgb`` means that the three planes are G, B, R.
    """

    chroma: str
    bit_depth: int
    rgb: bool = False
    alpha: bool = False
    semi_planar: tuple[bool, int] | None = None
    convert_to: tuple[str, ...] = ()


def pixel_format(chroma: str, bit_depth: int, *, rgb: bool = False) -> str:
    """FFmpeg's name of the planar little-endian format that holds at least ``bit_depth`` bits."""
    depth = next(held for held in PLANAR_DEPTHS if held >= bit_depth)
    base = "gbrp" if rgb else "gray" if chroma == "400" else f"yuv{chroma}p"
    return base if depth == 8 else f"{base}{depth}le"


@lru_cache(maxsize=256)
def pixel_layout(name: str) -> PixelLayout:
    """How to take the planes of pixel format ``name``.

    Raises InputError for what is neither gray, YUV nor RGB of 1 to 16 bits.
    """
    fmt = VideoFormat(name)
    color = [part for part in fmt.components if not part.is_alpha]
    depth = max((part.bits for part in color), default=0)
    if fmt.is_bayer or not 1 <= depth <= 16 or name.startswith("xyz") or "f16" in name:
        raise InputError(f"pixel format {name} is not supported; allowed: {ALLOWED_FORMATS}")
    alpha = len(color) < len(fmt.components) or fmt.has_palette
    rgb = fmt.is_rgb or fmt.has_palette
    if rgb:
        chroma = "444"
    elif len(color) == 1:
        chroma = "400"
    else:
        # 4:1:0 and 4:1:1 go to the next finer format, and 4:4:0 to 4:4:4.
        narrow, low = fmt.chroma_width(4) < 4, fmt.chroma_height(4) < 4
        chroma = "420" if narrow and low else "422" if narrow else "444"
    usual = not rgb and (fmt.chroma_width(4), fmt.chroma_height(4)) in ((4, 4), (2, 4), (2, 2))
    if name in SEMI_PLANAR:
        return PixelLayout(chroma, depth, semi_planar=SEMI_PLANAR[name])
    own_plane = [part.plane for part in color] == ([2, 0, 1] if rgb else list(range(len(color))))
    packed = fmt.is_big_endian or "msb" in name or (name.startswith("ya") and alpha)
    direct = own_plane and (usual or rgb) and not packed and depth >= 8 and not fmt.has_palette
    if direct:
        return PixelLayout(chroma, depth, rgb=rgb, alpha=alpha)
    # Straight to planar RGB, swscale would leave the low bits of 5 and 6-bit samples empty.
    first = ("rgb24",) if rgb and depth < 8 else ()
    depth = next(held for held in PLANAR_DEPTHS if held >= depth)
    target = pixel_format(chroma, depth, rgb=rgb)
    return PixelLayout(chroma, depth, rgb=rgb, alpha=alpha, convert_to=(*first, target))


def shift_right(samples: torch.Tensor, bits: int) -> torch.Tensor:
    """uint16 samples >> bits; through int16 since torch shifts no uint16 on CUDA."""
    mask = (1 << (16 - bits)) - 1
    return ((samples.view(torch.int16) >> bits) & mask).view(torch.uint16)


def split_semi_planar(
    luma: torch.Tensor, both: torch.Tensor, swapped: bool, shift: int
) -> tuple[torch.Tensor, ...]:
    """(h, w) luma and (h', w', 2) interleaved chroma to three planes."""
    first, second = both[..., 0], both[..., 1]
    planes = (luma, second, first) if swapped else (luma, first, second)
    return tuple(shift_right(plane, shift) for plane in planes) if shift else planes


def _view(plane: av.video.plane.VideoPlane, rows: int, row_bytes: int) -> np.ndarray:
    """(rows, row_bytes) uint8 view of a plane without its line padding."""
    pitch = abs(plane.line_size)
    lines = np.frombuffer(plane, np.uint8, count=rows * pitch).reshape(rows, pitch)
    if plane.line_size < 0:
        lines = lines[::-1].copy()  # torch takes no negative strides
    return lines[:, :row_bytes]


def reformat(frame: av.VideoFrame, name: str, *, width: int = 0, height: int = 0) -> av.VideoFrame:
    """``frame`` in pixel format ``name``, and size if given, by swscale, losslessly where it can.

    One thread: with several, the vector writes of one slice run over its last line into the first
    line of the next, and win against it now and then.
    """
    return frame.reformat(width or None, height or None, name, interpolation=EXACT, threads=1)


def frame_planes(frame: av.VideoFrame, layout: PixelLayout) -> tuple[torch.Tensor, ...]:
    """The planes of a CPU frame: views of the decoder's memory wherever the format allows it.

    For RGB formats the three planes are R, G, B.
    """
    for name in layout.convert_to:
        frame = reformat(frame, name)
    height, width = frame.height, frame.width
    dtype = np.dtype(np.uint8 if layout.bit_depth == 8 else "<u2")
    if layout.semi_planar is not None:
        shapes = plane_shapes(height, width, layout.chroma)
        # (rows, bytes) -> (h, w) luma; -> (h', w', 2) chroma
        luma = _view(frame.planes[0], height, width * dtype.itemsize).view(dtype)
        rows, cols = shapes[1]
        both = _view(frame.planes[1], rows, 2 * cols * dtype.itemsize).view(dtype)
        pairs = torch.from_numpy(both).unflatten(1, (cols, 2))
        return split_semi_planar(torch.from_numpy(luma), pairs, *layout.semi_planar)
    planes = tuple(
        torch.from_numpy(_view(plane, rows, cols * dtype.itemsize).view(dtype))
        for plane, (rows, cols) in zip(
            frame.planes, plane_shapes(height, width, layout.chroma), strict=False
        )
    )
    return (planes[2], planes[0], planes[1]) if layout.rgb else planes


def make_packed_frame(rows: np.ndarray, width: int, name: str) -> av.VideoFrame:
    """An FFmpeg frame of a packed one-plane format from its lines: (height, bytes a line) uint8."""
    frame = av.VideoFrame(width, rows.shape[0], name)
    _view(frame.planes[0], *rows.shape)[:] = rows
    return frame


def make_frame(planes: tuple[torch.Tensor, ...], name: str) -> av.VideoFrame:
    """An FFmpeg frame of planar pixel format ``name`` holding a copy of CPU ``planes``."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, name)
    for target, plane in zip(frame.planes, planes, strict=True):
        samples = plane.numpy()
        view = _view(target, samples.shape[0], samples.shape[1] * samples.itemsize)
        view.view(samples.dtype)[:] = samples
    return frame
