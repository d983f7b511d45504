"""PFNR as a codec: a track a video, whose CONFIG unit holds the weights it sets and reuses.

Weights stand in CONFIG units, since those of a track are needed by all later ones and a reader that
enters a file anywhere gives them first; a track's PARAMETERS unit is its head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nvc.bitstream.bits import pack_varint, read_varint
from nvc.bitstream.units import Unit, UnitType
from nvc.errors import InputError, StreamError, UsageError
from nvc.inr.codec import STREAM_OVERHEAD, choose_network, frame_pictures, wants_bfloat16
from nvc.inr.fit_config import MAX_GROUP, FitConfig
from nvc.inr.groups import ResidentClip
from nvc.inr.masks import binary_entropy
from nvc.inr.methods import fit_defaults, network_for
from nvc.inr.network import parameter_count
from nvc.inr.pfnr import (
    PfnrBody,
    PfnrConfig,
    PfnrTrack,
    decode_body,
    encode_body,
    encode_head,
    no_weights,
    pfnr_config,
)
from nvc.inr.state import FinishedGroup, FitState, open_state
from nvc.video.frames import Frame, VideoInfo

_OWN = ("fourier_stage", "modes")


class PfnrCodec:
    """PFNR (Kang et al., ICLR 2024): one video after the other into the same network.

    As InrCodec otherwise. A video is fitted as a whole: its frames are held in memory.
    """

    weights_hash = bytes(8)

    def __init__(
        self,
        config: FitConfig | None = None,
        *,
        device: torch.device | str = "cpu",
        state: Path | None = None,
        resume: bool = False,
    ) -> None:
        self.config = config or FitConfig(**fit_defaults("pfnr"))
        self.device = torch.device(device)
        self.stats: dict[str, Any] = {}
        self._state, self._resume = state, resume
        self._opened: FitState | None = None

    def encode(
        self,
        frames: Iterable[Frame],
        info: VideoInfo,
        *,
        progress: Callable[[Any], None] | None = None,
        earlier: Iterable[Unit] = (),
    ) -> Iterator[Unit]:
        """The units of one more video behind those of the `earlier` ones, which stay as they are.

        Raises UsageError and InputError as InrCodec, also for a video the network is not for.
        """
        from nvc.inr.fitting import fit_group
        from nvc.inr.pfnr_fit import PfnrFit

        previous: PfnrBody | None = None
        for unit in earlier:
            if unit.type == UnitType.CONFIG:
                previous = decode_body(unit.payload, previous, height=info.height, width=info.width)
        fit = self.config
        clip = _whole_clip(frames, info, self.device)
        network = self._network(info) if previous is None else previous.config
        network, target = self._choose(network, previous, info, len(clip))
        shared = no_weights(network) if previous is None else previous.after()
        number, checkpoint, state, fingerprint = shared.tracks, None, None, 0
        finished = None
        if self._state is not None:
            # The state of the first video's encode is also that of those added to it.
            state = self._opened = open_state(self._state, fit, resume=self._resume)
            fingerprint = clip.fingerprint()
            finished = state.finished(number, fingerprint)
            if finished is None:
                checkpoint = state.begin(number, fingerprint)
        if finished is None:
            base, stats = fit_group(
                clip,
                network,
                fit,
                target_bytes=target,
                write=_payload,
                group=number,
                make_module=partial(PfnrFit, shared=shared),
                checkpoint=checkpoint,
                progress=progress,
            )
            finished = FinishedGroup(_payload(base.group), asdict(stats), {})
            if state is not None:
                state.finish(number, fingerprint, finished)
        self.stats = finished.stats
        size, start = read_varint(finished.payload, 0, len(finished.payload))
        body, head = finished.payload[start : start + size], finished.payload[start + size :]
        yield Unit(type=UnitType.CONFIG, payload=body, track=number)
        yield Unit(
            type=UnitType.PARAMETERS,
            payload=head,
            frame_count=len(clip),
            key=True,
            track=number,
        )

    def finish(self) -> None:
        """Drop the saved state: the file that the videos are in is complete."""
        if self._opened is not None:
            self._opened.remove()

    def _network(self, info: VideoInfo) -> PfnrConfig:
        changed = dict(self.config.network or {})
        own = {name: changed.pop(name) for name in _OWN if name in changed}
        body = network_for("pfnr", info, changed=changed)
        # Small pictures have one stage.
        own.setdefault("fourier_stage", min(PfnrConfig.fourier_stage, len(body.strides) - 1))
        return pfnr_config(body, **own)

    def _choose(
        self, network: PfnrConfig, previous: PfnrBody | None, info: VideoInfo, frames: int
    ) -> tuple[PfnrConfig, int]:
        """The network for these frames, of the first video's width, and the bytes of its units."""
        fit = self.config
        share = fit.capacity
        # What a weight of the whole network costs a video: its bits where it is set, and a mask.
        bits = share * fit.bits_per_value + binary_entropy(share)
        if previous is None:
            fit = replace(fit, bits_per_value=min(max(bits, 1.0), 16.0))
            network, target = choose_network(network, fit, info, frames=frames, share=1.0)
            return network.for_frames(frames), target
        network = network.for_frames(frames)
        if fit.size_bytes is not None:
            return network, max(fit.size_bytes - STREAM_OVERHEAD, 1)
        free = sum(int((~used).sum()) for used in previous.after().used)
        count = parameter_count(network, frames)
        return network, max(round((free * bits + count - free) / 8), 1)

    def decode(
        self,
        units: Iterable[Unit],
        info: VideoInfo,
        *,
        device: torch.device | str = "cpu",
        start: int = 0,
        speed: int = 1,
        track: int = 0,
        precision: str = "auto",
    ) -> Iterator[Frame]:
        """Frames of one track; a frame's pts is its number. Raises StreamError on a bad stream."""
        bfloat16 = wants_bfloat16(precision)
        body: PfnrBody | None = None
        for unit in units:
            if unit.type == UnitType.CONFIG and unit.track <= track:
                body = decode_body(unit.payload, body, height=info.height, width=info.width)
            elif unit.type == UnitType.PARAMETERS and unit.track == track:
                if body is None or body.before.tracks != track:
                    raise StreamError(f"the weights of track {track} are missing before its head")
                group = body.with_head(unit.payload, unit.frame_count)
                yield from frame_pictures(
                    group,
                    unit,
                    info,
                    torch.device(device),
                    start=start,
                    speed=speed,
                    bfloat16=bfloat16,
                )


def _payload(track: PfnrTrack) -> bytes:
    """Both payloads of a track, the first with its length before it."""
    body = encode_body(track)
    return pack_varint(len(body)) + body + encode_head(track)


def _whole_clip(frames: Iterable[Frame], info: VideoInfo, device: torch.device) -> ResidentClip:
    held = []
    for frame in frames:
        if len(held) == MAX_GROUP:
            raise UsageError(f"codec pfnr fits a video at once, of at most {MAX_GROUP} frames")
        held.append(frame)
    if not held:
        raise InputError("there are no frames to encode")
    return ResidentClip(held, info, device)
