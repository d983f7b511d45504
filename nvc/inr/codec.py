"""The codec: frames to units by fitting a network to each group, units to frames by running it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nvc.bitstream.units import Unit, UnitType
from nvc.errors import StreamError, UsageError
from nvc.inr.chain import ChainJob, Scheme, fit_chains
from nvc.inr.coding import decode_config, decode_group, encode_config, encode_group
from nvc.inr.config import NetworkConfig
from nvc.inr.fit_config import DEFAULT_BITS_PER_PIXEL, FitConfig
from nvc.inr.groups import ResidentClip, cut_groups
from nvc.inr.ignore import read_mask
from nvc.inr.methods import network_for
from nvc.inr.network import least_values, nearest_width, parameter_count, width_for_parameters
from nvc.inr.pictures import PictureSpace
from nvc.inr.quantised import QuantisedGroup
from nvc.inr.side_by_side import side_by_side
from nvc.inr.state import open_state
from nvc.nn.precision import network_dtype
from nvc.video.frames import Frame, VideoInfo

STREAM_OVERHEAD = 95  # bytes of a file besides its PARAMETERS payloads, for --size
UNIT_OVERHEAD = 20
STILL_WEIGHT = 0.67  # bits that a value of a still map comes to, over those of a weight
PAPER_BITS = 7.8  # of a value under the published coding, and
PAPER_BYTES = 280  # of its code lengths and ranges
DECODE_MEMORY = 1 << 30  # bytes of feature maps that frames decoded side by side may take


@dataclass(frozen=True)
class FrameScheme:
    """Networks that make a frame at a time from its code, as chains fit them (nvc.inr.chain)."""

    network: NetworkConfig
    prior: str = "auto"
    ignore: torch.Tensor | None = None  # bool (1 or frames of the clip, H, W)

    @property
    def equal_lengths(self) -> bool:
        """Whether a group can only build on one of as many frames: grids and paths grow with
        them."""
        moves = self.network.camera != "none"
        return moves or "grids" in (self.network.frame_code, self.network.modulation)

    def config_payload(self) -> bytes:
        """The payload of the CONFIG unit."""
        return encode_config(self.network)

    def choose(
        self, fit: FitConfig, info: VideoInfo, *, frames: int, share: float | None
    ) -> tuple[NetworkConfig, int]:
        """The width for an anchor of `frames` frames, and the bytes its payload should have."""
        return choose_network(self.network, fit, info, frames=frames, share=share)

    def clip(self, frames: list[Frame], info: VideoInfo, device: torch.device) -> ResidentClip:
        """The frames on the device; their pts is their number in the clip."""
        ignore = self.ignore
        if ignore is not None and len(ignore) > 1:
            ignore = ignore[frames[0].pts : frames[0].pts + len(frames)]
        if ignore is not None:
            ignore = ignore.expand(len(frames), -1, -1)
        return ResidentClip(frames, info, device, ignore=ignore)

    def encode(self, group: Any, base: QuantisedGroup | None) -> bytes:
        """The payload of a group."""
        return encode_group(group, base, prior=self.prior)

    def decode(
        self, payload: bytes, network: NetworkConfig, frames: int, base: QuantisedGroup | None
    ) -> Any:
        """The group of a payload."""
        return decode_group(payload, network, frames, base)

    def module(self) -> Callable[..., Any]:
        """GroupFit; lightning comes in here: decoding must not need it."""
        from nvc.inr.module import GroupFit

        return GroupFit

    def pictures(
        self,
        group: Any,
        unit: Unit,
        info: VideoInfo,
        device: torch.device,
        *,
        start: int,
        speed: int,
        bfloat16: bool,
    ) -> Iterator[Frame]:
        """The frames of a decoded group from the one numbered `start` on."""
        return frame_pictures(
            group, unit, info, device, start=start, speed=speed, bfloat16=bfloat16
        )


class InrCodec:
    """Any method of nvc.inr.methods end to end: one CONFIG unit, then one PARAMETERS unit a group
    of frames.

    device: where the fit runs. state: folder that makes an encode resumable (nvc.inr.state);
    resume: go on from what is there. After encode, `stats` holds what the fits came to: the means
    over frames of FitStats' PSNRs in dB, and every group's own.
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
        self.config = config or FitConfig()
        self.device = torch.device(device)
        self.stats: dict[str, Any] = {}
        self._state, self._resume = state, resume

    def scheme_to_fit(self, info: VideoInfo) -> Scheme:
        """What is fitted, as the options have it, to a video."""
        fit = self.config
        network = network_for(fit.method, info, changed=fit.network)
        network = replace(network, coding=fit.coding)
        if fit.anchor_every > 1:
            # A residual group would have to stay on the canvas of the group before.
            network = replace(network, camera="none")
        ignore = None if fit.ignore_mask is None else read_mask(fit.ignore_mask, info)
        return FrameScheme(network, fit.prior, ignore)

    def scheme_of(self, payload: bytes, info: VideoInfo) -> Scheme:
        """What a CONFIG unit describes; StreamError when it is not known or not for the video."""
        return FrameScheme(decode_config(payload, height=info.height, width=info.width))

    def encode(
        self,
        frames: Iterable[Frame],
        info: VideoInfo,
        *,
        progress: Callable[[Any], None] | None = None,
    ) -> Iterator[Unit]:
        """Fit the frames chain by chain, holding one chain of groups in memory for each job.

        progress is called with nvc.inr.fitting.Progress, or with the number of frames done where
        several processes fit. Raises UsageError when a size cannot be met, InputError for frames
        that do not fit `info`, NvcError when a fit diverges.
        """
        fit = self.config
        scheme = self.scheme_to_fit(info)
        state = None
        if self._state is not None:
            state = open_state(self._state, fit, resume=self._resume)
        yield Unit(type=UnitType.CONFIG, payload=scheme.config_payload())
        done: list[dict[str, Any]] = []
        total = info.frame_count or None
        groups = cut_groups(
            frames,
            group=fit.group,
            frame_count=total,
            motion=fit.motion,
            bit_depth=info.bit_depth,
        )
        job = ChainJob(scheme, fit, info, str(self.device), state)
        for group in fit_chains(job, groups, total=total, progress=progress):
            done.append(group.stats)
            self.stats = _summary(done)
            yield Unit(
                type=UnitType.PARAMETERS,
                payload=group.payload,
                frame_start=group.start,
                frame_count=group.frames,
                key=group.key,
            )
        if state is not None:
            state.remove()

    def decode(
        self,
        units: Iterable[Unit],
        info: VideoInfo,
        *,
        device: torch.device | str = "cpu",
        start: int = 0,
        speed: int = 1,
        precision: str = "auto",
    ) -> Iterator[Frame]:
        """Frames of the groups in the order of their units; a frame's pts is its number.

        start: no picture is made of the frames before it. speed: frames made for each of the
        video's, by interpolation between their codes; start and pts count those. Frames are made
        one at a time on one thread each, several side by side on a CPU, so the number of threads
        changes the time it takes and no sample. precision: see wants_bfloat16. Groups whose base
        is not there are passed over. Raises StreamError on a bad stream.
        """
        bfloat16 = wants_bfloat16(precision)
        scheme: Scheme | None = None
        base: QuantisedGroup | None = None
        end = 0
        for unit in units:
            if unit.type == UnitType.CONFIG:
                scheme = self.scheme_of(unit.payload, info)
            elif unit.type == UnitType.PARAMETERS:
                if scheme is None:
                    raise StreamError("the INR configuration is missing before the first group")
                if unit.key or (base is not None and unit.frame_start == end):
                    previous = None if unit.key else base
                    base = scheme.decode(unit.payload, scheme.network, unit.frame_count, previous)
                    yield from scheme.pictures(
                        base,
                        unit,
                        info,
                        torch.device(device),
                        start=start,
                        speed=speed,
                        bfloat16=bfloat16,
                    )
                else:
                    base = None
                end = unit.frame_end


def wants_bfloat16(precision: str) -> bool:
    """Whether pictures are made in bfloat16: only when asked for, as it is a third of the time but
    noise of half a level, and other pictures on other machines. Raises UsageError as network_dtype.
    """
    network_dtype(precision)
    return precision == "bfloat16"


def choose_network(
    network: NetworkConfig,
    fit: FitConfig,
    info: VideoInfo,
    *,
    frames: int,
    share: float | None,
) -> tuple[NetworkConfig, int]:
    """The width for a group of `frames` frames, and the bytes its payload should have.

    share: of the file's bytes, None where the clip's length is not known. Raises UsageError when a
    size in bytes needs that, or is too small for any network.
    """
    bits_per_value = fit.bits_per_value if fit.coding == "own" else PAPER_BITS
    if fit.size_bytes is not None:
        if share is None:
            raise UsageError(
                "--size needs a known number of frames: give --frames, or --size-params"
            )
        target = max(int((fit.size_bytes - STREAM_OVERHEAD) * share - UNIT_OVERHEAD), 1)
        least = least_values(network, frames)
        if target * 8 < 2 * least:
            raise UsageError(
                f"--size {fit.size_bytes} is too small: {frames} frames of "
                f"{info.width}x{info.height} need {least // 4} bytes or more a group"
            )
        tables = 0 if fit.coding == "own" else PAPER_BYTES
        values = max(round(8 * max(target - tables, 1) / bits_per_value), least)
        weight = STILL_WEIGHT if fit.coding == "own" else 1.0
        return nearest_width(network, frames, values, still_weight=weight), target
    if fit.size_params is not None:
        network = width_for_parameters(network, frames, fit.size_params)
    else:
        pixels = frames * info.height * info.width
        values = round(DEFAULT_BITS_PER_PIXEL * pixels / bits_per_value)
        least = least_values(network, frames)
        network = nearest_width(network, frames, max(values, least))
    return network, round(parameter_count(network, frames) * bits_per_value / 8)


def _summary(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over frames of the groups' PSNRs, sums of their times and values, and the groups."""
    frames = sum(group["frames"] for group in groups)
    means = {
        name: sum(group[name] * group["frames"] for group in groups) / frames
        for name in ("psnr_float_before", "psnr_float_final", "psnr_quantised")
    }
    sums = {name: sum(group[name] for group in groups) for name in ("values", "steps", "seconds")}
    return {**means, **sums, "groups": list(groups)}


def frame_pictures(
    group: Any,
    unit: Unit,
    info: VideoInfo,
    device: torch.device,
    *,
    start: int,
    speed: int,
    bfloat16: bool,
) -> Iterator[Frame]:
    """Frames of a group from the one numbered `start` on, `speed` for each of the video's: those
    between two are made of a code and a time between theirs."""
    first, count = max(start - unit.frame_start * speed, 0), group.frames * speed
    if first >= count:
        return
    network, codes = group.network(device), group.codes(device)
    space, last = PictureSpace(group.config.head, info), group.frames - 1

    def picture(index: int) -> Frame:
        # No frame follows the group's last, so what would lie behind it repeats it.
        low, part = divmod(min(index, last * speed), speed)
        time = torch.tensor([(low + part / speed) / group.frames], dtype=torch.float64)
        with torch.inference_mode():
            code = codes[low : low + 1]
            if part:
                code = torch.lerp(code, codes[low + 1 : low + 2], part / speed)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                output = network(code, time.to(device))
            planes = space.planes(output.float())
        # (1, h, w) -> (h, w)
        return Frame(tuple(plane[0] for plane in planes), pts=unit.frame_start * speed + index)

    if device.type != "cpu":
        yield from map(picture, range(first, count))
        return
    # Three maps live at once in a block: its input, the convolution's output, the shuffled one.
    workers = DECODE_MEMORY // (12 * group.config.largest_activation())
    workers = min(max(workers, 1), torch.get_num_threads(), count - first)
    yield from side_by_side(picture, range(first, count), workers)
