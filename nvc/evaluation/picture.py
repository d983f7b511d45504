"""Pictures of results: panels side by side under a label, and PNG files without a library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nvc.evaluation.lettering import GLYPH_HEIGHT, draw_text

_MARGIN = 6
_BACKGROUND, _INK = 24, 235


def side_by_side(panels: Sequence[tuple[str, np.ndarray]], *, scale: int = 2) -> np.ndarray:
    """Panels (label, (h, w, 3) uint8 RGB) of one size beside each other, each under its label.

    Returns (h', w', 3) uint8. A label too long for its panel is cut. Raises ValueError when the
    panels differ in size.
    """
    sizes = {panel.shape for _, panel in panels}
    if len(sizes) != 1:
        raise ValueError(f"panels must be of one size, not {sorted(sizes)}")
    height, width, _ = sizes.pop()
    strip = GLYPH_HEIGHT * scale + 2 * _MARGIN
    canvas = np.full(
        (strip + height + _MARGIN, len(panels) * (width + _MARGIN) + _MARGIN, 3),
        _BACKGROUND,
        np.uint8,
    )
    for position, (label, panel) in enumerate(panels):
        left = _MARGIN + position * (width + _MARGIN)
        canvas[strip : strip + height, left : left + width] = panel
        text = draw_text(label, scale=scale)[:, :width]
        canvas[_MARGIN : _MARGIN + text.shape[0], left : left + text.shape[1]][text] = _INK
    return canvas


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write (h, w, 3) uint8 RGB as a PNG file (PNG specification, colour type 2)."""
    height, width, _ = picture.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    # (h, w, 3) -> (h, 1 + 3 w): each row opens with its filter type, 0 for none
    rows = np.pad(picture.reshape(height, 3 * width), ((0, 0), (1, 0)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + chunk(b"IEND", b"")
    )
