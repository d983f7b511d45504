"""What a video is while it is inside the package: its description and its decoded frames."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal, get_args

import torch

Chroma = Literal["400", "420", "422", "444"]

CHROMA_FORMATS: tuple[str, ...] = get_args(Chroma)
MAX_DIMENSION = 16384
MAX_TERM = 2**31 - 1  # of a rational number: FFmpeg's are two ints
# How far a chroma plane is shrunk, as (vertical, horizontal) powers of two.
CHROMA_SHIFTS: dict[str, tuple[int, int]] = {"420": (1, 1), "422": (0, 1), "444": (0, 0)}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class ColorInfo:
    """How sample values become light: ITU-T H.273 code points, 2 meaning unspecified.

    ``full_range`` is None when the source does not say. ``chroma_location`` counts as FFmpeg's
    AVChromaLocation: 0 unspecified, 1 left, 2 centre, 3 top left, 4 top, 5 bottom left, 6 bottom.
    """

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    full_range: bool | None = None
    chroma_location: int = 0

    def __post_init__(self) -> None:
        for name in ("matrix", "primaries", "transfer"):
            value = getattr(self, name)
            _require(0 <= value <= 255, f"color {name} is {value}; allowed: 0 to 255")
        _require(
            0 <= self.chroma_location <= 6,
            f"chroma_location is {self.chroma_location}; allowed: 0 to 6",
        )


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What holds for every frame of a video.

    ``frame_rate`` is the average; the exact time of a frame is ``Frame.pts * time_base`` seconds.
    ``frame_count`` is what the container claims and None when it claims nothing (pipes, most
    Matroska files). ``rotation`` is in degrees clockwise and shows the picture upright.
    """

    width: int
    height: int
    chroma: Chroma = "420"
    bit_depth: int = 8
    frame_rate: Fraction = Fraction(25)
    time_base: Fraction = Fraction(1, 25)
    frame_count: int | None = None
    color: ColorInfo = field(default_factory=ColorInfo)
    sample_aspect: Fraction = Fraction(1)
    rotation: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            value = getattr(self, name)
            _require(
                1 <= value <= MAX_DIMENSION, f"{name} is {value}; allowed: 1 to {MAX_DIMENSION}"
            )
        _require(
            self.chroma in CHROMA_FORMATS,
            f"chroma is {self.chroma!r}; allowed: {', '.join(CHROMA_FORMATS)}",
        )
        _require(8 <= self.bit_depth <= 16, f"bit_depth is {self.bit_depth}; allowed: 8 to 16")
        for name in ("frame_rate", "time_base", "sample_aspect"):
            value = getattr(self, name)
            _require(
                value > 0 and max(value.numerator, value.denominator) <= MAX_TERM,
                f"{name} is {value}; it must be above 0 with terms up to {MAX_TERM}",
            )
        _require(
            self.frame_count is None or self.frame_count >= 0,
            f"frame_count is {self.frame_count}; it must be 0 or more, or None",
        )
        _require(
            self.rotation in (0, 90, 180, 270),
            f"rotation is {self.rotation}; allowed: 0, 90, 180, 270",
        )

    def plane_shapes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each plane, luma first; chroma sizes are rounded up."""
        return plane_shapes(self.height, self.width, self.chroma)

    @property
    def sample_dtype(self) -> torch.dtype:
        """uint8 for 8 bit, uint16 for 9 to 16 bit."""
        return torch.uint8 if self.bit_depth == 8 else torch.uint16

    @property
    def frame_duration(self) -> int:
        """Nominal ticks of ``time_base`` from one frame to the next, at least 1."""
        return max(1, round(1 / (self.frame_rate * self.time_base)))


@dataclass(frozen=True)
class Frame:
    """One picture: planes[0] is luma, planes[1:] are Cb and Cr (none for 4:0:0).

    Each plane is (height, width), uint8 (8 bit) or uint16 (9 to 16 bit, values in the low bits), on
    one device, and may be a strided view whose memory a decoder owns: read it, do not write to it.
    ``pts`` counts in ``VideoInfo.time_base``.
    """

    planes: tuple[torch.Tensor, ...]
    pts: int

    def to(self, device: torch.device | str) -> Frame:
        """The same frame with its planes on ``device``; no copy for what is there already."""
        return replace(self, planes=tuple(plane.to(device) for plane in self.planes))


def plane_shapes(height: int, width: int, chroma: str) -> tuple[tuple[int, int], ...]:
    """(height, width) of each plane of a picture, luma first; chroma sizes are rounded up."""
    if chroma == "400":
        return ((height, width),)
    down, across = CHROMA_SHIFTS[chroma]
    small = (-(-height >> down), -(-width >> across))
    return ((height, width), small, small)
