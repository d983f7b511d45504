"""Intra and inter frames apart: what each kind costs and shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nvc.bitstream.reader import StreamReader
from nvc.bitstream.units import UnitType

KINDS = ("intra", "inter")
#: What is told of each kind, beside the number of frames and their bits per pixel.
MEASURES = ("psnr_y", "psnr_yuv", "ms_ssim")


def stream_sizes(path: Path) -> list[tuple[int, bool]]:
    """Bytes of the units of each frame of an .nvc file of one unit a frame and layer, and its type.

    True marks an intra frame. Empty for a stream without such units. Raises StreamError.
    """
    sizes: dict[int, int] = {}
    keys: set[int] = set()
    with path.open("rb") as file:
        for _, head in StreamReader(file, name=str(path)).walk(payloads=False):
            if head.type == UnitType.FRAME and head.track == 0:
                sizes[head.picture] = sizes.get(head.picture, 0) + head.total
                if head.key:
                    keys.add(head.picture)
    return [(sizes[frame], frame in keys) for frame in sorted(sizes)]


def frame_types(
    scores: Sequence[dict[str, float | None]], coded: Sequence[tuple[int, bool]], pixels: int
) -> dict[str, dict[str, Any] | None]:
    """Of "intra" and "inter" frames: number, bpp of their coded bytes alone, means of MEASURES.

    scores: of each frame in order; coded: its bytes, and whether it is intra; pixels: of a frame.
    A kind without frames is None; both are where these are not as many as the frames, as of a fit
    of many frames at once.
    """
    found: dict[str, dict[str, Any] | None] = dict.fromkeys(KINDS)
    if len(scores) != len(coded):
        return found
    for kind in KINDS:
        rows = [
            (size, score)
            for (size, intra), score in zip(coded, scores, strict=True)
            if intra == (kind == "intra")
        ]
        if rows:
            found[kind] = {
                "frames": len(rows),
                "bpp": 8 * sum(size for size, _ in rows) / pixels / len(rows),
                **{name: _mean([score[name] for _, score in rows]) for name in MEASURES},
            }
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(values) if len(known) == len(values) else None
