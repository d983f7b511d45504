"""Chains: an anchor group coded by itself, and the groups after it coded as differences.

NIRVANA's autoregression (Maiya et al., CVPR 2023, section 3.2) for every method here: a residual
group starts from the network of the group before it, keeps its steps, and its file holds what
changed. A chain depends on nothing outside it, so it is what is fitted in parallel and what random
access enters at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from nvc.bitstream.units import Unit
from nvc.inr.config import MAX_VALUES
from nvc.inr.fit_config import FitConfig
from nvc.inr.groups import Group, ResidentClip
from nvc.inr.quantised import Base, QuantisedGroup
from nvc.inr.state import FinishedGroup, FitState
from nvc.video.frames import Frame, VideoInfo

Progress = Callable[[Any], None]

LEAST_SHARE = 0.5  # of its planned bytes that a group gets when those before it took too many
PSNR_ATTEMPTS = 5
PSNR_SLACK = 0.15  # dB under the PSNR asked for that a fit may end
DB_A_DOUBLING = 2.5  # what twice the values are taken to gain, a little less than they do


class Scheme(Protocol):
    """What a kind of network brings to a chain; picklable, so that a worker can have it.

    network: its configuration, of no particular width. equal_lengths: a group can only build on
    one of as many frames.
    """

    network: Any

    @property
    def equal_lengths(self) -> bool: ...

    def config_payload(self) -> bytes:
        """The payload of the CONFIG unit."""

    def choose(
        self, fit: FitConfig, info: VideoInfo, *, frames: int, share: float | None
    ) -> tuple[Any, int]:
        """The network of an anchor of `frames` frames, and the bytes its payload should have.

        share: of the clip's bytes, None where the number of frames is not known.
        """

    def clip(self, frames: list[Frame], info: VideoInfo, device: torch.device) -> ResidentClip:
        """The frames as the fit draws from them."""

    def encode(self, group: QuantisedGroup, base: QuantisedGroup | None) -> bytes:
        """The payload of a group."""

    def decode(
        self, payload: bytes, network: Any, frames: int, base: QuantisedGroup | None
    ) -> QuantisedGroup:
        """The group of a payload."""

    def module(self) -> Callable[..., Any]:
        """What makes the module that is fitted; lightning comes in here."""

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
        """The frames of a decoded group from `start` on, `speed` for each of the video's; bfloat16:
        what the network computes in, in place of float32."""


@dataclass(frozen=True)
class FittedGroup:
    """One group as it goes into the file; `key`: it is an anchor."""

    start: int
    frames: int
    payload: bytes
    key: bool
    stats: dict[str, Any]


@dataclass(frozen=True)
class ChainJob:
    """What every chain of an encode has in common."""

    scheme: Scheme
    fit: FitConfig
    info: VideoInfo
    device: str
    state: FitState | None


@dataclass(frozen=True)
class PackedChain:
    """A chain on its way to a worker: its number, each group's start and planes, its share."""

    number: int
    first_group: int
    starts: list[int]
    planes: list[list[tuple[np.ndarray, ...]]]
    share: float | None


def cut_chains(
    groups: Iterable[Group], every: int, *, equal_lengths: bool = False
) -> Iterator[list[Group]]:
    """The groups in chains of at most `every`; a scene cut begins a new one, and with
    `equal_lengths` so does a group of another length. Holds one chain."""
    chain: list[Group] = []
    for group in groups:
        other = equal_lengths and chain and len(group.frames) != len(chain[0].frames)
        if chain and (len(chain) == every or group.cut or other):
            yield chain
            chain = []
        chain.append(group)
    if chain:
        yield chain


def fit_chains(
    job: ChainJob, groups: Iterable[Group], *, total: int | None, progress: Progress | None
) -> Iterator[FittedGroup]:
    """Every group of a clip, fitted, in order.

    total: frames of the clip, None when not known. With one job the groups come as they are done;
    else chains are fitted side by side, one thread each, and `progress` is told the frames done.
    """
    fit = job.fit
    packed = _packed(
        cut_chains(groups, fit.anchor_every, equal_lengths=job.scheme.equal_lengths), total
    )
    if fit.jobs == 1 and fit.cluster is None:
        for chain in packed:
            yield from fit_chain(job, chain, progress)
        return
    from nvc.schedule import Task, open_scheduler

    gpus = 1.0 if job.device.startswith("cuda") else 0.0
    tasks = (Task((job, chain), gpus=gpus) for chain in packed)
    with open_scheduler(jobs=fit.jobs, cluster=fit.cluster) as scheduler:
        for _, fitted in scheduler.map(fit_chain_alone, tasks):
            for group in fitted:
                yield group
                if progress is not None:
                    progress(group.start + group.frames)


def _packed(chains: Iterable[list[Group]], total: int | None) -> Iterator[PackedChain]:
    groups = 0
    for number, chain in enumerate(chains):
        if chain[-1].last:
            total = total or chain[-1].start + len(chain[-1].frames)
        frames = sum(len(group.frames) for group in chain)
        yield PackedChain(
            number=number,
            first_group=groups,
            starts=[group.start for group in chain],
            planes=[
                [tuple(plane.cpu().numpy() for plane in frame.planes) for frame in group.frames]
                for group in chain
            ],
            share=None if total is None else frames / max(total, frames),
        )
        groups += len(chain)


def fit_chain_alone(job: ChainJob, chain: PackedChain) -> list[FittedGroup]:
    """fit_chain as a task for a worker: one thread, or one of the machine's GPUs."""
    torch.set_num_threads(1)
    if job.state is not None and not job.state.folder.is_dir():
        job = replace(job, state=None)  # another machine, which does not see the folder
    if job.device == "cuda":
        job = replace(job, device=f"cuda:{chain.number % torch.cuda.device_count()}")
    return list(fit_chain(job, chain, None))


def fit_chain(
    job: ChainJob, chain: PackedChain, progress: Progress | None
) -> Iterator[FittedGroup]:
    """The groups of one chain, one after the other; finished ones come from the saved state.

    For a PSNR the chain is fitted again with more values, and without saved state, until it has
    it: what a network of some size can reach shows in the fit alone.
    """
    wanted = job.fit.psnr
    if wanted is None:
        yield from _fit_once(job, chain, progress)
        return
    job = replace(job, state=None)
    fitted: list[FittedGroup] = []
    for _ in range(PSNR_ATTEMPTS):
        fitted = list(_fit_once(job, chain, progress))
        frames = sum(group.frames for group in fitted)
        reached = sum(group.frames * group.stats["psnr_quantised"] for group in fitted) / frames
        if reached >= wanted - PSNR_SLACK:
            break
        growth = min(max(2 ** ((wanted - reached) / DB_A_DOUBLING), 1.3), 4.0)
        values = min(round(fitted[0].stats["values"] * growth), MAX_VALUES)
        job = replace(job, fit=replace(job.fit, size_params=values))
    yield from fitted


def _fit_once(
    job: ChainJob, chain: PackedChain, progress: Progress | None
) -> Iterator[FittedGroup]:
    fit, scheme = job.fit, job.scheme
    counts = [len(planes) for planes in chain.planes]
    weight = 1 + fit.residual_share * sum(counts[1:]) / counts[0]
    share = None if chain.share is None else chain.share / weight
    network, target = scheme.choose(fit, job.info, frames=counts[0], share=share)
    planned = [float(target)]
    planned += [target * fit.residual_share * count / counts[0] for count in counts[1:]]
    debt = 0.0  # bytes that the groups so far are over their targets
    base: Base | None = None
    for place, (start, planes) in enumerate(zip(chain.starts, chain.planes, strict=True)):
        own = fit if not place else fit.for_residual(counts[place])
        # What a group is over its target, the next one of the chain is to save.
        target_now = max(round(max(planned[place] - debt, LEAST_SHARE * planned[place])), 1)
        frames = [
            Frame(tuple(map(torch.from_numpy, frame)), pts=start + number)
            for number, frame in enumerate(planes)
        ]
        clip = scheme.clip(frames, job.info, torch.device(job.device))
        base, finished = _fit_group(
            job,
            own,
            clip,
            network.for_frames(counts[place]),
            base,
            start=start,
            number=chain.first_group + place,
            target=target_now,
            progress=progress,
        )
        debt += len(finished.payload) - planned[place]
        yield FittedGroup(start, counts[place], finished.payload, not place, finished.stats)


def _fit_group(
    job: ChainJob,
    fit: FitConfig,
    clip: ResidentClip,
    network: Any,
    base: Base | None,
    *,
    start: int,
    number: int,
    target: int,
    progress: Progress | None,
) -> tuple[Base, FinishedGroup]:
    # Lightning comes in here: decoding must not need it.
    from nvc.inr.fitting import fit_group

    scheme, state = job.scheme, job.state
    previous = None if base is None else base.group
    checkpoint: Path | None = None
    fingerprint = 0
    if state is not None:
        fingerprint = clip.fingerprint()
        done = state.finished(start, fingerprint)
        if done is not None:
            group = scheme.decode(done.payload, network, done.stats["frames"], previous)
            return Base(group, done.source), done
        checkpoint = state.begin(start, fingerprint)
    base, fitted = fit_group(
        clip,
        network,
        fit,
        target_bytes=target,
        write=lambda group: scheme.encode(group, previous),
        group=number,
        base=base,
        make_module=scheme.module(),
        checkpoint=checkpoint,
        progress=progress,
    )
    finished = FinishedGroup(scheme.encode(base.group, previous), asdict(fitted), base.source)
    if state is not None:
        state.finish(start, fingerprint, finished)
    return base, finished
