"""Under which conditions sequences are coded, and a name for them that figures carry with them."""

from __future__ import annotations

from dataclasses import dataclass

from nvc.errors import UsageError

#: Frames from one intra frame to the next that no clip is long enough for: one intra frame.
ONE_INTRA_GOP = 65535


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What part of each sequence is coded, and how far apart its intra frames stand.

    frames: at most so many from ``start`` on, None: all. gop: frames from one intra frame to the
    next, of predictive codecs and anchors; None: only the first frame is intra. crop: centre
    (height, width) in pixels, None: whole pictures, padded inside the codec where it needs that.
    """

    frames: int | None = None
    start: int = 0
    gop: int | None = 32
    crop: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, value, low in (
            ("frames", self.frames, 1),
            ("start", self.start, 0),
            ("gop", self.gop, 1),
        ):
            if value is not None and value < low:
                raise UsageError(f"{name} is {value}; it must be {low} or more")
        if self.gop is not None and self.gop > ONE_INTRA_GOP:
            raise UsageError(f"gop is {self.gop}; allowed: 1 to {ONE_INTRA_GOP}, or one")
        if self.crop is not None and min(self.crop) < 1:
            raise UsageError(f"crop is {self.crop}; allowed: height and width from 1 up")

    @property
    def name(self) -> str:
        """Such as 96f-gop32-whole or allf-oneintra-crop1024x1920: equal for equal conditions."""
        parts = [
            "allf" if self.frames is None else f"{self.frames}f",
            "oneintra" if self.gop is None else f"gop{self.gop}",
            "whole" if self.crop is None else f"crop{self.crop[0]}x{self.crop[1]}",
        ]
        return "-".join([*parts, f"from{self.start}"] if self.start else parts)

    @property
    def coded_gop(self) -> int:
        """The GOP an encoder is told."""
        return ONE_INTRA_GOP if self.gop is None else self.gop

    def selection(self) -> list[str]:
        """The part of a sequence as options of ``nvc encode`` and ``nvc eval``."""
        options = ["--start", str(self.start)] if self.start else []
        if self.frames is not None:
            options += ["--frames", str(self.frames)]
        if self.crop is not None:
            options += ["--crop", f"{self.crop[0]}x{self.crop[1]}"]
        return options

    def described(self) -> str:
        """One line for a caption."""
        frames = "all frames" if self.frames is None else f"{self.frames} frames"
        start = f" from frame {self.start}" if self.start else ""
        gop = "one intra frame" if self.gop is None else f"an intra frame every {self.gop}"
        crop = "whole pictures"
        if self.crop is not None:
            crop = f"centre {self.crop[1]}x{self.crop[0]}"
        return f"{frames}{start}, {gop}, {crop}"
