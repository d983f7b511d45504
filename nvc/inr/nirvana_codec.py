"""NIRVANA as a codec: its scheme for chains, its CONFIG unit, and pictures from patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from nvc.bitstream.bits import pack_varint
from nvc.bitstream.units import Unit
from nvc.errors import StreamError, UsageError
from nvc.inr.codec import InrCodec, choose_network
from nvc.inr.coding import decode_group, encode_group
from nvc.inr.config import MAX_GRID
from nvc.inr.fit_config import FitConfig
from nvc.inr.matrices import PayloadReader
from nvc.inr.nirvana import (
    MAX_BLOCK,
    MAX_LAYERS,
    MAX_PATCH,
    PATCHES_AT_ONCE,
    NirvanaConfig,
    PatchClip,
    from_patches,
    patch_centres,
)
from nvc.inr.pictures import PictureSpace
from nvc.inr.quantised import QuantisedGroup
from nvc.inr.side_by_side import side_by_side
from nvc.video.frames import Frame, VideoInfo

CONFIG_VERSION = 1
# Numbers of the network that all groups share, and the largest each may be.
_NUMBERS = (("patch", MAX_PATCH), ("layers", MAX_LAYERS), ("block", MAX_BLOCK))


@dataclass(frozen=True)
class NirvanaScheme:
    """NIRVANA's networks as chains fit them (nvc.inr.chain)."""

    network: NirvanaConfig
    prior: str = "auto"

    equal_lengths = True  # a head a frame

    def config_payload(self) -> bytes:
        """The payload of the CONFIG unit."""
        numbers = [CONFIG_VERSION, *self.network.grid]
        numbers += [getattr(self.network, name) for name, _ in _NUMBERS]
        return b"".join(map(pack_varint, numbers))

    def choose(
        self, fit: FitConfig, info: VideoInfo, *, frames: int, share: float | None
    ) -> tuple[NirvanaConfig, int]:
        """The width for an anchor of `frames` frames, and the bytes its payload should have."""
        network = self.network.for_frames(frames)
        return choose_network(network, fit, info, frames=frames, share=share)

    def clip(self, frames: list[Frame], info: VideoInfo, device: torch.device) -> PatchClip:
        """The frames as patches on the device."""
        return PatchClip(frames, info, device, self.network)

    def encode(self, group: QuantisedGroup, base: QuantisedGroup | None) -> bytes:
        """The payload of a group."""
        return encode_group(group, base, prior=self.prior)

    def decode(
        self, payload: bytes, network: NirvanaConfig, frames: int, base: QuantisedGroup | None
    ) -> Any:
        """The group of a payload."""
        return decode_group(payload, network, frames, base)

    def module(self) -> Callable[..., Any]:
        """NirvanaFit; lightning comes in here: decoding must not need it."""
        from nvc.inr.nirvana_fit import NirvanaFit

        return NirvanaFit

    def pictures(
        self,
        group: QuantisedGroup,
        unit: Unit,
        info: VideoInfo,
        device: torch.device,
        *,
        start: int,
        speed: int,
        bfloat16: bool,
    ) -> Iterator[Frame]:
        """The frames of a decoded group from `start` on; all are made at once, chunks of patches
        side by side on one thread each."""
        if speed != 1:
            raise UsageError("codec nirvana has no frames between frames: leave --fps away")
        first = max(start - unit.frame_start, 0)
        if first >= group.frames:
            return
        config, network = group.config, group.network(device)
        centres = patch_centres(config.grid).to(device)

        def patches(begin: int) -> torch.Tensor:
            with (
                torch.inference_mode(),
                torch.autocast(device.type, torch.bfloat16, enabled=bfloat16),
            ):
                return network(None, centres[begin : begin + PATCHES_AT_ONCE]).float()

        begins = range(0, len(centres), PATCHES_AT_ONCE)
        workers = 1 if device.type != "cpu" else min(torch.get_num_threads(), len(begins))
        rgb = from_patches(torch.cat(list(side_by_side(patches, begins, workers))), config)
        space = PictureSpace("rgb", info)
        for number in range(first, group.frames):
            planes = space.planes(rgb[number : number + 1])
            # (1, h, w) -> (h, w)
            yield Frame(tuple(plane[0] for plane in planes), pts=unit.frame_start + number)


class NirvanaCodec(InrCodec):
    """NIRVANA (Maiya et al., CVPR 2023) end to end; everything but its scheme is InrCodec's."""

    def scheme_to_fit(self, info: VideoInfo) -> NirvanaScheme:
        """Patches of the size asked for (32) over a video; the options of `network`: patch, layers,
        block."""
        fit = self.config
        options = dict(fit.network or {})
        unknown = sorted(set(options) - {name for name, _ in _NUMBERS})
        if unknown:
            raise UsageError(
                f"codec nirvana's network has no option {', '.join(unknown)}; it has: "
                + ", ".join(name for name, _ in _NUMBERS)
            )
        if fit.ignore_mask is not None or fit.coding != "own":
            raise UsageError("codec nirvana knows no --ignore-mask and only its own coding")
        patch = options.get("patch", NirvanaConfig.patch)
        if not isinstance(patch, int) or patch < 2:
            raise UsageError(f"patch is {patch}; it must be an even number from 2 up")
        grid = (-(-info.height // patch), -(-info.width // patch))
        return NirvanaScheme(NirvanaConfig(grid=grid, **options), fit.prior)

    def scheme_of(self, payload: bytes, info: VideoInfo) -> NirvanaScheme:
        """What a CONFIG unit describes; StreamError when it is not known or not for the video."""
        reader = PayloadReader(payload)
        version = reader.number(255)
        if version != CONFIG_VERSION:
            raise StreamError(f"NIRVANA configuration {version} is not known; this nvc reads 1")
        grid = (reader.number(MAX_GRID), reader.number(MAX_GRID))
        numbers = {name: reader.number(most) for name, most in _NUMBERS}
        reader.finish()
        try:
            network = NirvanaConfig(
                grid=grid, stem_width=numbers["block"] or 1, channels=1, **numbers
            )
            network.check_size(info.height, info.width)
        except UsageError as error:
            raise StreamError(f"NIRVANA configuration: {error}") from None
        return NirvanaScheme(network)
