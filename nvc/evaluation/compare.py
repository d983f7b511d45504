"""A decoded video against its reference, frame by frame: the figures of ``nvc eval``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import torch

from nvc.errors import InputError
from nvc.evaluation.frame_types import frame_types
from nvc.evaluation.metrics import float_psnr, plane_ms_ssim, plane_psnr, psnr_yuv
from nvc.video.color import yuv_to_rgb
from nvc.video.frames import Frame, VideoInfo

#: H.273 code of BT.709, which is assumed for RGB where a clip does not name its matrix.
_BT709 = 1


@dataclass
class _Means:
    """Running means of figures that may be missing; one missing makes the mean missing."""

    totals: dict[str, float | None] = field(default_factory=dict)
    count: int = 0

    def add(self, values: dict[str, float | None]) -> None:
        self.count += 1
        for name, value in values.items():
            total = self.totals.get(name, 0.0)
            self.totals[name] = None if value is None or total is None else total + value

    def means(self) -> dict[str, float | None]:
        return {
            name: None if total is None else total / self.count
            for name, total in self.totals.items()
        }


def rgb_info(info: VideoInfo, reference: VideoInfo) -> VideoInfo:
    """``info`` with the colour that figures in RGB are taken in: the reference's, else BT.709."""
    color = reference.color
    if color.matrix == 2:
        color = replace(color, matrix=_BT709)
    return replace(info, color=color)


def _at_depth(plane: torch.Tensor, depth: int, wanted: int) -> torch.Tensor:
    """An integer plane of ``depth`` bits in the code values of ``wanted`` bits."""
    if depth == wanted:
        return plane
    wide = plane.to(torch.int32)
    if depth < wanted:
        return wide << (wanted - depth)
    half = 1 << (depth - wanted - 1)
    return ((wide + half) >> (depth - wanted)).clamp_max_((1 << wanted) - 1)


def frame_scores(
    reference: Frame, decoded: Frame, reference_info: VideoInfo, decoded_info: VideoInfo
) -> dict[str, float | None]:
    """PSNR of the planes, of YUV and RGB in dB, and MS-SSIM of luma, of one frame.

    Chroma figures are None where one of the two has other chroma planes than the other (or none);
    another bit depth than the reference's is brought to it by shifting.
    """
    depth = reference_info.bit_depth
    rgb = [
        yuv_to_rgb(frame.planes, rgb_info(info, reference_info))
        for frame, info in ((reference, reference_info), (decoded, decoded_info))
    ]
    luma = _at_depth(decoded.planes[0], decoded_info.bit_depth, depth)
    return {
        **plane_scores(reference, decoded, reference_info, decoded_info),
        "psnr_rgb": float_psnr(*rgb),
        "ms_ssim": plane_ms_ssim(reference.planes[0], luma, depth),
    }


def plane_scores(
    reference: Frame, decoded: Frame, reference_info: VideoInfo, decoded_info: VideoInfo
) -> dict[str, float | None]:
    """The PSNRs of frame_scores that are taken on planes, which is the quick part: all but RGB."""
    depth = reference_info.bit_depth
    same_chroma = reference_info.chroma == decoded_info.chroma
    pairs = [
        (plane, _at_depth(other, decoded_info.bit_depth, depth))
        for plane, other in zip(reference.planes, decoded.planes, strict=False)
    ]
    y = plane_psnr(*pairs[0], depth)
    u = v = None
    if same_chroma and len(pairs) == 3:
        u, v = (plane_psnr(*pair, depth) for pair in pairs[1:])
    grey = same_chroma and len(pairs) == 1
    return {
        "psnr_y": y,
        "psnr_u": u,
        "psnr_v": v,
        "psnr_yuv": psnr_yuv(y, u, v) if grey or u is not None else None,
    }


def compare(
    reference: Iterable[Frame],
    decoded: Iterable[Frame],
    reference_info: VideoInfo,
    decoded_info: VideoInfo,
    *,
    file_bytes: int,
    coded: Sequence[tuple[int, bool]] | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """The figures of ``nvc eval`` for all frames of both videos, which must be as many.

    ``file_bytes`` is the size of the whole file the decoded frames came from; bpp and kbps follow
    from it, kbps at the reference's average frame rate. PSNR is averaged over frames.
    ``coded``, of each frame its bytes and whether it is intra, adds what ``frame_types`` finds.
    Raises InputError when the videos differ in size or number of frames, or hold none.
    """
    sizes = [(info.width, info.height) for info in (reference_info, decoded_info)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"the reference is {sizes[0][0]}x{sizes[0][1]} and the file {sizes[1][0]}x"
            f"{sizes[1][1]}: give --crop as it was given to encode"
        )
    means = _Means()
    kept = []
    for original, other in zip_longest(reference, decoded):
        if original is None or other is None:
            which = "reference" if original is None else "file"
            raise InputError(
                f"the {which} has only {means.count} frames, the other more: "
                "give --frames and --start as they were given to encode"
            )
        scores = frame_scores(original.to(device), other.to(device), reference_info, decoded_info)
        means.add(scores)
        if coded is not None:
            kept.append(scores)
    if not means.count:
        raise InputError("there are no frames to compare")
    width, height = sizes[0]
    rate = reference_info.frame_rate
    bits = 8 * file_bytes
    return {
        "bytes": file_bytes,
        "frames": means.count,
        "width": width,
        "height": height,
        "fps": float(rate),
        "bpp": bits / (means.count * width * height),
        "kbps": bits * float(rate) / means.count / 1000,
        **means.means(),
        **({} if coded is None else frame_types(kept, coded, width * height)),
    }
