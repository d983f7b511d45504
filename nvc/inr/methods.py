"""The methods of the literature, and the project's own, as values of one configuration."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from nvc.errors import UsageError
from nvc.inr.config import NetworkConfig, network_for_size
from nvc.video.color import IDENTITY_MATRIX
from nvc.video.frames import VideoInfo


@dataclass(frozen=True, kw_only=True)
class Method:
    """parts: arguments of network_for_size; fit: what a fit of this method does differently from
    FitConfig's defaults."""

    parts: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)


# Channels of NeRV's family: the same after the first stage, then halved, never under 96.
_NERV = {
    "frame_code": "time",
    "stem": "mlp",
    "cells": 144,
    "largest_kernel": 3,
    "first_percent": 100,
    "reduction_percent": 200,
    "head_kernel": 1,
    "activation": "silu",
    "floor": (96, 26),
    "hidden": (512, 26),
}

METHODS = {
    # Chen et al., CVPR 2023.
    "hnerv": Method(),
    # Chen et al., NeurIPS 2021.
    "nerv": Method(parts=_NERV),
    # Li et al., ECCV 2022: 80 levels of time, 196 channels into the first stage, FiLM.
    "enerv": Method(
        parts=_NERV
        | {
            "stem": "fusion",
            "time_levels": 80,
            "modulation": "film",
            "activation": "gelu",
            "head": "rgb_sigmoid",
            "head_kernel": 3,
            "floor": (96, 196),
            "hidden": (512, 196),
        }
    ),
    # Ghorbel et al., 2024.
    "nervpp": Method(parts=_NERV | {"skip": "bilinear", "wrap": "separable", "activation": "gelu"}),
    # Lee et al., ICLR 2024, on the temporal grids of FFNeRV (Lee et al., 2023).
    "cam": Method(
        parts=_NERV
        | {
            "frame_code": "grids",
            "stem": "pointwise",
            "modulation": "grids",
            "embedding_channels": 48,
            "grid_levels": 2,
            "activation": "gelu",
            "floor": (24, 48),
        }
    ),
    # Maiya et al., CVPR 2023; its network is in nvc.inr.nirvana. A step draws all patches of a
    # 1080p picture, as published; groups of three frames, ten a chain.
    "nirvana": Method(
        fit={
            "group": 3,
            "anchor_every": 10,
            "batch_size": 2048,
            "optimizer": "adam",
            "lr": 2e-3,
        }
    ),
    # Kang et al., ICLR 2024: NeRV's body; the rest is in nvc.inr.pfnr.
    "pfnr": Method(parts=_NERV, fit={"optimizer": "adam", "lr": 2e-3}),
    # The project's own mix; docs/inr.md has the runs it was chosen by.
    "inr": Method(
        parts={"head": "yuv420", "stages": 4, "activation": "sine"}, fit={"pool_stages": 2}
    ),
}

# What makes a background stand still for the network, and holds it.
_STANDING = {"camera": "affine", "still": "maps"}

# What a preset changes in the fit of the project's own method. Both follow the camera and have
# still maps (docs/inr.md has figures). "fast" has narrow upper stages too, which cost 0.1 to 0.3 dB
# and make a frame in a third of the time.
PRESETS: dict[str, dict[str, Any]] = {
    "best": {"network": _STANDING},
    "fast": {"epochs": 60, "network": {"reduction_percent": 200, **_STANDING}},
}


def method(name: str) -> Method:
    """The method of this name; UsageError listing those there are."""
    if name not in METHODS:
        raise UsageError(f"method {name!r} is not known; allowed: {', '.join(METHODS)}")
    return METHODS[name]


def network_for(
    name: str, info: VideoInfo, *, changed: dict[str, Any] | None = None
) -> NetworkConfig:
    """The network of a method for a video, of no particular width.

    changed: arguments of network_for_size in place of the method's. Raises UsageError for others.
    """
    changed = changed or {}
    known = {item.name for item in fields(NetworkConfig)} | {"stages", "cells", "largest_kernel"}
    fixed = {"grid", "strides", "kernels", "stem_width", "min_channels", "hidden_width", "frames"}
    unknown = sorted(set(changed) - (known - fixed))
    if unknown:
        allowed = ", ".join(sorted(known - fixed))
        raise UsageError(f"a network has no option {', '.join(unknown)}; it has: {allowed}")
    parts = method(name).parts | {key: _tuple(value) for key, value in changed.items()}
    if parts.get("head") == "yuv420" and not writes_420(info):
        parts["head"] = "rgb"
    return network_for_size(info.height, info.width, **parts)


def writes_420(info: VideoInfo) -> bool:
    """Whether a head at half the resolution can write all of this video's samples."""
    return info.chroma in ("420", "400") and info.color.matrix != IDENTITY_MATRIX


def fit_defaults(name: str, *, preset: str | None = None) -> dict[str, Any]:
    """Options of FitConfig that a method and a preset stand for.

    Raises UsageError for a preset that is not known, or of another method than the project's own.
    """
    options = {"method": name, **method(name).fit}
    if preset is None:
        return options
    if name != "inr":
        raise UsageError(f"presets are of codec inr, not of {name}")
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is not known; allowed: {', '.join(PRESETS)}")
    return options | PRESETS[preset]


def _tuple(value: Any) -> Any:
    """Lists as YAML and JSON have them as the tuples a configuration has."""
    return tuple(value) if isinstance(value, list) else value
