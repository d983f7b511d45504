"""nvc: a neural video codec.

``encode(path, out)`` makes an .nvc file, ``decode(path, out)`` a video of it, ``open(path)`` gives
its frames by number. Errors are ``NvcError`` and its kinds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nvc.errors import InputError, NvcError, StreamError, UsageError
from nvc.version import __version__

if TYPE_CHECKING:
    from nvc.api import DecodeResult, EncodeResult, decode, encode, open
    from nvc.player import Video
    from nvc.video.frames import ColorInfo, Frame, VideoInfo
    from nvc.video.rawvideo import RawFormat

__all__ = [
    "ColorInfo",
    "DecodeResult",
    "EncodeResult",
    "Frame",
    "InputError",
    "NvcError",
    "RawFormat",
    "StreamError",
    "UsageError",
    "Video",
    "VideoInfo",
    "__version__",
    "decode",
    "encode",
    "open",
]

_HOMES = {
    "encode": "nvc.api",
    "decode": "nvc.api",
    "open": "nvc.api",
    "EncodeResult": "nvc.api",
    "DecodeResult": "nvc.api",
    "Video": "nvc.player",
    "Frame": "nvc.video.frames",
    "VideoInfo": "nvc.video.frames",
    "ColorInfo": "nvc.video.frames",
    "RawFormat": "nvc.video.rawvideo",
}


def __getattr__(name: str) -> Any:
    # Torch and FFmpeg are loaded with the first thing that needs them, not with `import nvc`.
    if name not in _HOMES:
        raise AttributeError(f"module 'nvc' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
