"""Conventional encoders measured beside ours, on the same frames: x264, x265 and SVT-AV1.

They run through the package's own writer, in this process, from the decoded frames; their exact
options are part of every result. What changes bytes between runs and machines is fixed, so that the
same frames give the same file: threads, and x264's choice of floating-point assembly, which reads
memory that nothing has written (cpu-independent takes the plain functions; 0.2 % on Vid4 city).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nvc.errors import UsageError
from nvc.video.frames import Frame, VideoInfo
from nvc.video.writer import open_writer

#: Part of what decides an anchor's bytes: to be raised with every change of the options below.
REVISION = "anchors 2"


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """A conventional encoder with everything fixed but its quality, ``crf``.

    ``crf_range`` and ``crf_step`` say which qualities exist; a higher crf is a smaller file.
    """

    name: str
    library: str
    options: dict[str, str] = field(default_factory=dict)
    crf_range: tuple[float, float] = (0, 51)
    crf_step: float = 0.25

    def options_at(self, crf: float) -> dict[str, str]:
        """Every option given to the encoder at this quality."""
        return {**self.options, "crf": f"{crf:g}"}


@dataclass(frozen=True)
class AnchorFile:
    """What an anchor made: its file, the file's bytes, and the options it was made with."""

    path: Path
    bytes: int
    crf: float
    library: str
    options: dict[str, str]


_X26_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
)  # fmt: skip
_SVT_PRESETS = tuple(str(preset) for preset in range(-1, 14))
_LOW_DELAY = {
    "x264": {"tune": "zerolatency"},
    "x265": {"tune": "zerolatency"},
    "svtav1": {"svtav1-params": "pred-struct=1"},
}
_PRESETS = {"x264": _X26_PRESETS, "x265": _X26_PRESETS, "svtav1": _SVT_PRESETS}


def parse_anchor(name: str, *, gop: int | None = None) -> Anchor:
    """The anchor called ``x264-PRESET``, ``x265-PRESET`` or ``svtav1-PRESET``, ``-ld`` at the end.

    ``gop`` is the distance of key frames; None leaves the encoder its own. With ``-ld`` no frame
    waits for a later one (low delay); else frames are reordered as the encoder likes (random
    access). Raises UsageError listing what is allowed.
    """
    encoder, _, preset = name.removesuffix("-ld").partition("-")
    low_delay = name.endswith("-ld")
    if encoder not in _PRESETS:
        raise UsageError(
            f"anchor {name!r} is not known; allowed: x264-PRESET, x265-PRESET, svtav1-PRESET, "
            "and -ld after it for low delay"
        )
    if preset not in _PRESETS[encoder]:
        raise UsageError(
            f"anchor {name!r}: no preset {preset!r}; allowed: {', '.join(_PRESETS[encoder])}"
        )
    options = {"preset": preset}
    if low_delay:
        options |= _LOW_DELAY[encoder]
    if encoder == "x264":
        options |= {"threads": "1", "x264-params": "cpu-independent=1"}
        if gop is not None:
            options |= {"g": str(gop), "keyint_min": str(gop), "sc_threshold": "0"}
        return Anchor(name=name, library="libx264", options=options)
    if encoder == "x265":
        # info=0 leaves out the settings x265 writes into the stream as text, 1-2 kB.
        parameters = ["log-level=error", "info=0", "frame-threads=1"]
        if gop is not None:
            parameters += [f"keyint={gop}", f"min-keyint={gop}", "scenecut=0"]
        options["x265-params"] = ":".join(parameters)
        return Anchor(name=name, library="libx265", options=options)
    if gop is not None:
        options["g"] = str(gop)
    return Anchor(name=name, library="libsvtav1", options=options, crf_range=(1, 63), crf_step=1)


def encode_anchor(
    frames: Iterable[Frame], info: VideoInfo, path: Path, anchor: Anchor, crf: float
) -> AnchorFile:
    """Encode all frames into ``path`` (.mp4 or .mkv), without audio; bytes: the whole file."""
    options = anchor.options_at(crf)
    with open_writer(path, info, codec=anchor.library, options=options) as writer:
        for frame in frames:
            writer.write(frame)
    return AnchorFile(path, path.stat().st_size, crf, anchor.library, options)


def encode_anchor_to_size(
    frames: Callable[[], Iterable[Frame]],
    info: VideoInfo,
    path: Path,
    anchor: Anchor,
    target_bytes: int,
) -> AnchorFile:
    """Encode with the crf whose file comes nearest to ``target_bytes`` (in log bytes).

    ``frames()`` gives the frames anew for each of the about nine encodes of a bisection. The
    nearest end of the range is taken when the target lies outside of what the encoder reaches.
    """
    if target_bytes <= 0:
        raise UsageError(f"a target of {target_bytes} bytes cannot be reached")
    low, high = 0, round((anchor.crf_range[1] - anchor.crf_range[0]) / anchor.crf_step)
    sizes: dict[int, int] = {}

    def crf_at(step: int) -> float:
        return anchor.crf_range[0] + step * anchor.crf_step

    last = -1
    while low <= high:
        last = (low + high) // 2
        sizes[last] = encode_anchor(frames(), info, path, anchor, crf_at(last)).bytes
        if sizes[last] > target_bytes:
            low = last + 1
        else:
            high = last - 1
    best = min(sizes, key=lambda step: abs(math.log(sizes[step] / target_bytes)))
    # The file left by the last trial is the one wanted, or it is made again: same bytes.
    if best == last:
        crf = crf_at(best)
        return AnchorFile(path, sizes[best], crf, anchor.library, anchor.options_at(crf))
    return encode_anchor(frames(), info, path, anchor, crf_at(best))
