"""Clips for training the predictive network: decoded once, read as memory-mapped uint8 planes.

`prepare_clip` decodes a clip to Y, U, V arrays; `ClipBatches` cuts random sequences out of them,
puts their frames in coding order and searches their motion (some 2 ms a frame of 128x128), and
`ClipDataModule` gives Lightning both. No pixel is touched by Python: a batch is slices and flips.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from nvc.errors import InputError
from nvc.nn.blocks import COARSEST_QP, FINEST_QP, QP_COUNT
from nvc.predictive.bidirectional import (
    OLDER_WEIGHT,
    direct_fields,
    followed,
    moved,
    search_older,
    search_pair,
)
from nvc.predictive.codec import EncodeOptions
from nvc.predictive.frame_motion import motion_weight
from nvc.predictive.frame_plan import decide, stretched
from nvc.predictive.lookahead import AHEAD, CELL, link
from nvc.predictive.motion_search import search_motion
from nvc.predictive.shares import SQUARE, choose_shares, part_of_second
from nvc.predictive.structure import MAX_LEAD, Place, coding_order
from nvc.video.reader import VideoReader

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".y4m", ".avi")
_ALIGN = 16
GOP = EncodeOptions.gop  # frames that an intra frame serves
JITTER = 2  # QPs, so that networks know anchors of other QPs than those of the encoder's plan


@dataclass(frozen=True)
class Clip:
    """One prepared clip: Y (N, H, W), U and V (N, H/2, W/2) uint8."""

    name: str
    planes: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def frames(self) -> int:
        return len(self.planes[0])

    @property
    def size(self) -> tuple[int, int]:
        return self.planes[0].shape[1], self.planes[0].shape[2]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Part of a training schedule: how long, and the shape of a batch.

    bframes: B frames between two anchors, as in an encode.
    """

    steps: int
    frames: int = 2
    crop: int = 128
    batch: int = 8
    bframes: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.frames < 1 or self.batch < 1:
            raise ValueError("a stage needs steps, frames and batch of at least 1")
        if self.crop % 64 or self.crop < 64:
            raise ValueError(f"crop is {self.crop}; allowed: multiples of 64")
        coding_order(self.frames, self.bframes)  # says which bframes are allowed


def prepare_clip(path: Path, cache: Path, *, halve: bool = False) -> Path:
    """Decode a clip into `cache`; does nothing when that is done already.

    Only 8-bit 4:2:0 is taken, cropped at the lower right to multiples of 16. halve: at half the
    size, by means of 2x2 samples. Raises InputError.
    """
    stamp = f"{path.resolve()}:{path.stat().st_size}:{path.stat().st_mtime_ns}"
    name = f"{path.stem}-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    target = cache / (f"{name}-half" if halve else name)
    if target.exists():
        return target
    planes: list[list[np.ndarray]] = [[], [], []]
    with VideoReader(path) as reader:
        info = reader.info
        if info.chroma != "420" or info.bit_depth != 8:
            raise InputError(
                f"{path}: training takes 8-bit 4:2:0 clips, not {info.bit_depth}-bit {info.chroma}"
            )
        unit = _ALIGN * 2 if halve else _ALIGN
        height, width = info.height // unit * unit, info.width // unit * unit
        for frame in reader:
            for number, plane in enumerate(frame.planes):
                shift = int(number > 0)
                part = plane.numpy()[: height >> shift, : width >> shift]
                planes[number].append(_halved(part) if halve else part.copy())
    if len(planes[0]) < 2:
        raise InputError(f"{path}: a training clip needs at least 2 frames")
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, frames in zip("yuv", planes, strict=True):
        np.save(part / f"{name}.npy", np.stack(frames))
    part.rename(target)
    return target


def _halved(plane: np.ndarray) -> np.ndarray:
    """Means of 2x2 samples, rounded: (H, W) uint8 -> (H / 2, W / 2)."""
    cells = plane.reshape(plane.shape[0] // 2, 2, plane.shape[1] // 2, 2)
    return ((cells.sum(axis=(1, 3), dtype=np.uint16) + 2) // 4).astype(np.uint8)


def load_clip(folder: Path) -> Clip:
    """Open a prepared clip without reading it."""
    y, u, v = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in "yuv")
    return Clip(name=folder.name, planes=(y, u, v))


class ClipBatches(IterableDataset):
    """Batches of random sequences, following a schedule of stages.

    rank: which of several processes training together this is; each draws its own sequences.
    Yields, frames in coding order, planes (y, u, v): (T, B, 1, crop, crop) and halves, uint8;
    vectors (T, B, 2, crop/8, crop/8) int16 into the earlier reference and second_vectors into the
    later or older one, zeros where there is none; share (T, B, 1, crop/16, crop/16) float32, the
    part of the second (nvc.predictive.shares); references (T, 2) int64, their places in coding
    order or -1; depth (T,) int64, of a B frame in its pyramid; qp (B,) int64 of an encode,
    stretched where there are B frames, and what its encoder would decide: qps (T, B) int64, anchors
    up to JITTER finer or coarser, and worth (T, B, 1, crop/16, crop/16) float32, what an error of
    each place counts. The batches end with the schedule. Raises InputError for clips that no stage
    fits.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        stages: Sequence[Stage],
        *,
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
    ) -> None:
        self.clips = list(clips)
        self.stages = list(stages)
        self.seed = seed
        self.start = start
        self.rank = rank
        for stage in self.stages:
            self._fitting(stage)  # in time, and not in another process

    def _fitting(self, stage: Stage) -> list[Clip]:
        """Clips that a stage can cut its sequences from. Raises InputError for none."""
        fitting = [
            clip
            for clip in self.clips
            if clip.frames >= stage.frames and min(clip.size) >= stage.crop
        ]
        if not fitting:
            raise InputError(
                f"no training clip has {stage.frames} frames of {stage.crop}x{stage.crop}"
            )
        return fitting

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rng = np.random.default_rng((self.seed, self.start, self.rank))
        done = 0
        for stage in self.stages:
            done += stage.steps
            fitting = self._fitting(stage)
            weights = np.array([clip.frames * np.sqrt(np.prod(clip.size)) for clip in fitting])
            weights /= weights.sum()
            while self.start < done:
                self.start += 1
                picked = rng.choice(len(fitting), size=stage.batch, p=weights)
                qps = rng.integers(0, QP_COUNT, size=stage.batch)
                cuts = [self._cut(fitting[p], stage, rng) for p in picked]
                first = 0 if stage.bframes else int(rng.integers(0, max(1, GOP - stage.frames)))
                batch = self._collate(cuts, qps, stage, first)
                anchors = (batch["depth"] == 0)[:, None]
                apart = rng.integers(-JITTER, JITTER + 1, size=(stage.frames, stage.batch))
                moved = batch["qps"] + anchors * torch.from_numpy(apart)
                yield batch | {"qps": moved.clamp(FINEST_QP, COARSEST_QP)}

    @staticmethod
    def _cut(clip: Clip, stage: Stage, rng: np.random.Generator) -> list[np.ndarray]:
        height, width = clip.size
        top = int(rng.integers(0, (height - stage.crop) // 8 + 1)) * 8
        left = int(rng.integers(0, (width - stage.crop) // 8 + 1)) * 8
        first = int(rng.integers(0, clip.frames - stage.frames + 1))
        flip_x, flip_y = rng.integers(0, 2, size=2)
        sequence = []
        for number, plane in enumerate(clip.planes):
            shift = int(number > 0)
            part = plane[
                first : first + stage.frames,
                top >> shift : (top + stage.crop) >> shift,
                left >> shift : (left + stage.crop) >> shift,
            ]
            sequence.append(part[:, :: 1 - 2 * flip_y, :: 1 - 2 * flip_x])
        return sequence

    @staticmethod
    def _collate(
        cuts: list[list[np.ndarray]], qps: np.ndarray, stage: Stage, first: int
    ) -> dict[str, torch.Tensor]:
        order = coding_order(stage.frames, stage.bframes)
        spread = stretched if stage.bframes else int
        at = [place.number for place in order]
        where = {number: place for place, number in enumerate(at)} | {None: -1}
        # (T, B, 1, H, W) in coding order
        y, u, v = (
            torch.from_numpy(np.stack(parts, axis=1)[at])[:, :, None]
            for parts in zip(*cuts, strict=True)
        )
        decided = [
            decisions(cut[0], order, int(qp), stage.bframes, first=first)
            for cut, qp in zip(cuts, qps, strict=True)
        ]
        fields = [
            motion_of(
                cut[0], order, [motion_weight(int(qp)) for qp in each.clamp(FINEST_QP, COARSEST_QP)]
            )
            for cut, (each, _) in zip(cuts, decided, strict=True)
        ]
        *pairs, shares = zip(*fields, strict=True)
        earlier, second = (
            torch.from_numpy(np.stack(parts, axis=1).astype(np.int16))  # (T, B, H/8, W/8, 2)
            .permute(0, 1, 4, 2, 3)
            .contiguous()
            for parts in pairs
        )
        references = [
            (where[place.earlier], where[place.older if place.later is None else place.later])
            for place in order
        ]
        return {
            "y": y,
            "u": u,
            "v": v,
            "vectors": earlier,
            "second_vectors": second,
            "share": torch.from_numpy(np.stack(shares, axis=1))[:, :, None],
            "references": torch.tensor(references),
            "depth": torch.tensor([place.depth for place in order]),
            "qp": torch.tensor([spread(int(qp)) for qp in qps]),
            "qps": torch.stack([each for each, _ in decided], dim=1),
            "worth": torch.stack([worth for _, worth in decided], dim=1),
        }


def decisions(
    luma: np.ndarray, order: Sequence[Place], qp: int, bframes: int, *, first: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """What an encode at `qp` that looks ahead decides of a sequence (T, H, W) uint8.

    A sequence is one side of its GOP. One that is shorter goes on as it went, back and forth, since
    the frames of one that nothing follows would be coarser. first: its place in the GOP, which
    without B frames says where in their cycle the QPs are. QPs (T,) int64 in coding order, which
    may lie out of range, and what an error of each place counts, (T, 1, H/16, W/16).
    """
    size = (luma.shape[1], luma.shape[2])
    halves = [_halved(picture) for picture in luma]
    links = [link(current, before) for before, current in pairwise(halves)]
    options = EncodeOptions(qp=qp, gop=max(GOP, len(luma)), bframes=bframes)
    onward = [*links, *(links[::-1] + links) * (options.gop // len(luma))]
    last = max(MAX_LEAD, len(luma) - 1) if bframes else options.gop - 1
    plain = torch.ones(1, 1, size[0] // CELL, size[1] // CELL)
    qps, worths = [], []
    for place in order:
        shifted = place.number if place.earlier is None else place.number + first
        left = min(AHEAD, last - shifted)
        following = [onward[place.number : place.number + left]]
        if place.earlier is None and bframes:
            following *= 2  # to either side
        found, worth = decide(options, replace(place, number=shifted), qp, following, size)
        qps.append(found)
        worths.append(plain if worth is None else worth)
    return torch.tensor(qps), torch.cat(worths)


def motion_of(
    luma: np.ndarray, order: Sequence[Place], weights: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fields of a sequence of originals (T, H, W) uint8 in coding order, as the encoder searches.

    Two arrays (T, H/8, W/8, 2) int32, into the earlier and into the second reference of each frame,
    zeros where there is none, and (T, H/16, W/16) float32, the part of the second. weights: cost of
    a bit in each frame, as in search_motion.
    """
    shape = (len(order), luma.shape[1] // 8, luma.shape[2] // 8, 2)
    earlier, second = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    parts = np.zeros((len(order), luma.shape[1] // SQUARE, luma.shape[2] // SQUARE), np.float32)
    at = {place.number: position for position, place in enumerate(order)}
    frames = [np.ascontiguousarray(picture) for picture in luma]
    for position, place in enumerate(order):
        if place.earlier is None:
            continue
        current, before, weight = frames[place.number], frames[place.earlier], weights[position]
        if place.later is None:
            earlier[position] = search_motion(current, before, weight=weight)
            if place.older is not None:
                older = frames[place.older]
                expected = followed(earlier[position], earlier[at[place.earlier]])
                first = moved(before, earlier[position])
                found = search_older(current, first, older, expected, weight=weight)
                pictures, dearer = (first, moved(older, found)), OLDER_WEIGHT * weight
                shares, _ = choose_shares(current, *pictures, weight=dearer, between=False)
                second[position], parts[position] = found, part_of_second(shares)
            continue
        first, last = at[place.earlier], at[place.later]
        from_later = order[last].earlier == place.earlier
        direct = direct_fields(
            earlier[last] if from_later else second[first],
            place.number - place.earlier,
            place.later - place.number,
            from_later=from_later,
        )
        after = frames[place.later]
        pair = search_pair(current, before, after, direct, weight=weight, rounds=1)
        pictures = (moved(before, pair[0]), moved(after, pair[1]))
        shares, _ = choose_shares(current, *pictures, weight=weight, between=True)
        earlier[position], second[position], parts[position] = *pair, part_of_second(shares)
    return earlier, second, parts


class ClipDataModule(lightning.LightningDataModule):
    """Clips of a folder, split into training and validation by scene.

    folder: where the clips are; cache: where prepared clips go; stages: the schedule;
    validation_scenes: clips whose names start with one of these are kept out of training; halves:
    train on every clip at half its size too, where the schedule's crops fit: small videos are
    sharper than the clips, which were made smaller once already; background: make batches in a
    process of their own (on Linux, where one can be forked safely): their motion takes a quarter
    of a step of size S.
    """

    def __init__(
        self,
        folder: str,
        stages: list[Stage],
        cache: str = "~/.cache/nvc/clips",
        validation_scenes: tuple[str, ...] = (),
        seed: int = 0,
        halves: bool = False,
        background: bool = False,
    ) -> None:
        super().__init__()
        self.halves = halves
        self.background = background and sys.platform == "linux"
        self.folder = Path(folder).expanduser()
        self.cache = Path(cache).expanduser()
        self.stages = stages
        self.validation_scenes = tuple(validation_scenes)
        self.seed = seed
        self.training: list[Clip] = []
        self.validation: list[Clip] = []

    def prepare_data(self) -> None:
        for path in self._paths():
            prepare_clip(path, self.cache)
            if self.halves and not path.stem.startswith(self.validation_scenes):
                prepare_clip(path, self.cache, halve=True)

    def setup(self, stage: str) -> None:
        halves = []
        for path in self._paths():
            clip = load_clip(prepare_clip(path, self.cache))
            held_out = path.stem.startswith(self.validation_scenes)
            (self.validation if held_out else self.training).append(clip)
            if self.halves and not held_out and min(clip.size) >= 2 * _ALIGN:
                halves.append(load_clip(prepare_clip(path, self.cache, halve=True)))
        self.training += halves
        if not self.training:
            raise InputError(f"{self.folder}: every clip is kept for validation")

    def train_dataloader(self) -> DataLoader:
        start = self.trainer.global_step if self.trainer else 0
        rank = self.trainer.global_rank if self.trainer else 0
        batches = ClipBatches(self.training, self.stages, seed=self.seed, start=start, rank=rank)
        apart: dict[str, Any] = {}
        if self.background:  # forked, since a new process would get copies of the mapped planes
            apart = {"num_workers": 1, "prefetch_factor": 4, "multiprocessing_context": "fork"}
        pinned = torch.cuda.is_available()
        return DataLoader(batches, batch_size=None, pin_memory=pinned, **apart)

    def _paths(self) -> list[Path]:
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder of training clips")
        paths = sorted(p for p in self.folder.iterdir() if p.suffix in VIDEO_SUFFIXES)
        if not paths:
            raise InputError(
                f"{self.folder}: no clips; looked for {', '.join(VIDEO_SUFFIXES)} files"
            )
        return paths
