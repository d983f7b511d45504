"""Intra and inter frames apart: what each kind costs and shows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nvc.bitstream.reader import StreamReader
from nvc.bitstream.units import UnitType
from nvc.errors import InputError
from nvc.evaluation.compare import plane_scores
from nvc.video.frames import Frame, VideoInfo


def stream_sizes(path: Path) -> list[tuple[int, bool]]:
    """Bytes of the units of each frame of an .nvc file of one unit a frame and layer, and its type.

    True marks an intra frame. Raises StreamError.
    """
    sizes: dict[int, int] = {}
    keys: set[int] = set()
    with path.open("rb") as file:
        for _, head in StreamReader(file, name=str(path)).walk(payloads=False):
            if head.type == UnitType.FRAME and head.track == 0:
                sizes[head.frame_start] = sizes.get(head.frame_start, 0) + head.total
                if head.key:
                    keys.add(head.frame_start)
    return [(sizes[frame], frame in keys) for frame in sorted(sizes)]


def frame_types(
    reference: Iterable[Frame],
    decoded: Iterable[Frame],
    reference_info: VideoInfo,
    decoded_info: VideoInfo,
    sizes: list[tuple[int, bool]],
) -> dict[str, dict[str, Any]]:
    """Of "intra" and "inter" frames: number, bpp of their coded bytes alone, mean YUV PSNR in dB.

    sizes: bytes and whether intra, of each frame in order. Raises InputError when these are not as
    many as the frames.
    """
    pixels = reference_info.width * reference_info.height
    found: dict[str, list[tuple[int, float]]] = {"intra": [], "inter": []}
    shown = [
        plane_scores(original, other, reference_info, decoded_info)["psnr_yuv"] or 0.0
        for original, other in zip(reference, decoded, strict=True)
    ]
    if len(shown) != len(sizes):
        raise InputError(f"{len(sizes)} coded frames, but {len(shown)} are shown")
    for psnr, (size, intra) in zip(shown, sizes, strict=True):
        found["intra" if intra else "inter"].append((size, psnr))
    return {
        kind: {
            "frames": len(rows),
            "bpp": 8 * sum(size for size, _ in rows) / pixels / len(rows),
            "psnr_yuv": sum(psnr for _, psnr in rows) / len(rows),
        }
        for kind, rows in found.items()
        if rows
    }
