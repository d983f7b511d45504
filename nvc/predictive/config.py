"""Sizes of the predictive network as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

REFERENCE_FORMS = ("implicit", "derived", "sent")
ReferenceForm = Literal["implicit", "derived", "sent"]


@dataclass(frozen=True, kw_only=True)
class LevelConfig:
    """One scale: a picture shrunk by `shrink`, coded as latents of one per `block` of its pixels.

    The latent stride in the full picture is shrink * block.
    """

    shrink: int
    block: int
    latent: int
    fine_width: int
    width: int
    fine_blocks: int
    blocks: int
    scale_width: int = 64

    def __post_init__(self) -> None:
        if self.shrink not in (1, 2, 4, 8):
            raise ValueError(f"shrink is {self.shrink}; allowed: 1, 2, 4, 8")
        if self.block not in (8, 16):
            raise ValueError(f"block is {self.block}; allowed: 8, 16")
        for name in ("latent", "fine_width", "width", "scale_width"):
            if not 1 <= getattr(self, name) <= 1024:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 1 to 1024")
        for name in ("fine_blocks", "blocks"):
            if not 0 <= getattr(self, name) <= 32:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0 to 32")

    @property
    def stride(self) -> int:
        """Distance of two latents in luma pixels of the full picture."""
        return self.shrink * self.block


@dataclass(frozen=True, kw_only=True)
class PredictiveConfig:
    """The whole network: levels from coarse (stride 64) to fine (stride 16).

    levels: of inter frames; intra: of intra frames, which are few, so these may be deeper;
    loop_filter: whether pictures of the finest scale are filtered (nvc.predictive.loop_filter).
    """

    name: str
    levels: tuple[LevelConfig, ...]
    intra: tuple[LevelConfig, ...]
    reference: ReferenceForm = "sent"
    loop_filter: bool = False

    def __post_init__(self) -> None:
        if self.reference not in REFERENCE_FORMS:
            raise ValueError(
                f"reference is {self.reference!r}; allowed: {', '.join(REFERENCE_FORMS)}"
            )
        strides = [level.stride for level in self.levels]
        if strides != sorted(strides, reverse=True) or len(set(strides)) != len(strides):
            raise ValueError(f"level strides are {strides}; they must fall from coarse to fine")
        if not self.levels or self.levels[-1].shrink != 1:
            raise ValueError("the last level must code the full picture (shrink 1)")
        if [_shared(level) for level in self.intra] != [_shared(level) for level in self.levels]:
            raise ValueError(
                "intra levels must have the shrink, block, latent, fine_width of levels"
            )

    @property
    def padding(self) -> int:
        """Frame sides are padded to a multiple of this."""
        return max(level.stride for level in self.levels)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PredictiveConfig:
        banks = {
            name: tuple(LevelConfig(**level) for level in values[name])
            for name in ("levels", "intra")
        }
        return cls(**{**values, **banks})


def _shared(level: LevelConfig) -> tuple[int, ...]:
    """What an inter frame reads of an intra frame has these sizes."""
    return level.shrink, level.block, level.latent, level.fine_width


def _levels(fine: int, width: int, fine_blocks: int, blocks: int) -> tuple[LevelConfig, ...]:
    small = {"fine_width": 96, "width": 128, "fine_blocks": 1, "blocks": 2, "scale_width": 32}
    return (
        LevelConfig(shrink=8, block=8, latent=32, **small),
        LevelConfig(shrink=4, block=8, latent=64, **small),
        LevelConfig(
            shrink=1,
            block=16,
            latent=320,
            fine_width=fine,
            width=width,
            fine_blocks=fine_blocks,
            blocks=blocks,
        ),
    )


_TINY = (
    LevelConfig(shrink=4, block=8, latent=16, fine_width=16, width=24, fine_blocks=1, blocks=1),
    LevelConfig(shrink=1, block=16, latent=48, fine_width=16, width=32, fine_blocks=1, blocks=1),
)

SIZES = {
    "tiny": PredictiveConfig(name="tiny", levels=_TINY, intra=_TINY),
    "s": PredictiveConfig(name="s", levels=_levels(64, 192, 3, 2), intra=_levels(64, 192, 4, 4)),
    "m": PredictiveConfig(name="m", levels=_levels(128, 384, 5, 4), intra=_levels(128, 384, 6, 6)),
}


def size_config(
    name: str, *, reference: ReferenceForm = "sent", finest: Mapping[str, int] | None = None
) -> PredictiveConfig:
    """The shipped configuration of that name; raises ValueError that lists the names.

    finest: fields of the finest level in place of the size's, for measuring what they are worth.
    """
    if name not in SIZES:
        raise ValueError(f"size is {name!r}; allowed: {', '.join(SIZES)}")
    config = replace(SIZES[name], reference=reference)
    if not finest:
        return config
    known = [field.name for field in fields(LevelConfig) if field.name != "shrink"]
    unknown = sorted(set(finest) - set(known))
    if unknown:
        raise ValueError(f"finest has {', '.join(unknown)}; allowed: {', '.join(known)}")
    changed = {
        bank: (*levels[:-1], replace(levels[-1], **finest))
        for bank, levels in (("levels", config.levels), ("intra", config.intra))
    }
    return replace(config, **changed)
