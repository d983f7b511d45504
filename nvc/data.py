"""Clips for training the predictive network: decoded once, read as memory-mapped uint8 planes.

`prepare_clip` decodes a clip to Y, U, V arrays and searches its motion once; `ClipBatches` cuts
random sequences out of them (multiples of 8 samples, so that vectors move with their blocks), and
`ClipDataModule` gives Lightning both. No pixel is touched by Python: a batch is slices and flips.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from nvc.errors import InputError
from nvc.predictive.motion_search import search_motion
from nvc.video.reader import VideoReader

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".y4m", ".avi")
_ALIGN = 16


@dataclass(frozen=True)
class Clip:
    """One prepared clip: Y (N, H, W), U and V (N, H/2, W/2) uint8, vectors (N-1, H/8, W/8, 2)."""

    name: str
    planes: tuple[np.ndarray, np.ndarray, np.ndarray]
    vectors: np.ndarray

    @property
    def frames(self) -> int:
        return len(self.planes[0])

    @property
    def size(self) -> tuple[int, int]:
        return self.planes[0].shape[1], self.planes[0].shape[2]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Part of a training schedule: how long, and the shape of a batch."""

    steps: int
    frames: int = 2
    crop: int = 128
    batch: int = 8

    def __post_init__(self) -> None:
        if self.steps < 1 or self.frames < 1 or self.batch < 1:
            raise ValueError("a stage needs steps, frames and batch of at least 1")
        if self.crop % 64 or self.crop < 64:
            raise ValueError(f"crop is {self.crop}; allowed: multiples of 64")


def prepare_clip(path: Path, cache: Path) -> Path:
    """Decode a clip and search its motion into `cache`; does nothing when that is done already.

    Only 8-bit 4:2:0 is taken, cropped at the lower right to multiples of 16. Raises InputError.
    """
    stamp = f"{path.resolve()}:{path.stat().st_size}:{path.stat().st_mtime_ns}"
    target = cache / f"{path.stem}-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    if target.exists():
        return target
    planes: list[list[np.ndarray]] = [[], [], []]
    with VideoReader(path) as reader:
        info = reader.info
        if info.chroma != "420" or info.bit_depth != 8:
            raise InputError(
                f"{path}: training takes 8-bit 4:2:0 clips, not {info.bit_depth}-bit {info.chroma}"
            )
        height, width = info.height // _ALIGN * _ALIGN, info.width // _ALIGN * _ALIGN
        for frame in reader:
            for number, plane in enumerate(frame.planes):
                shift = int(number > 0)
                planes[number].append(plane.numpy()[: height >> shift, : width >> shift].copy())
    if len(planes[0]) < 2:
        raise InputError(f"{path}: a training clip needs at least 2 frames")
    vectors: list[np.ndarray] = []
    for before, after in zip(planes[0], planes[0][1:], strict=False):
        vectors.append(search_motion(after, before, previous=vectors[-1] if vectors else None))
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, frames in zip("yuv", planes, strict=True):
        np.save(part / f"{name}.npy", np.stack(frames))
    np.save(part / "vectors.npy", np.stack(vectors).astype(np.int16))
    part.rename(target)
    return target


def load_clip(folder: Path) -> Clip:
    """Open a prepared clip without reading it."""
    y, u, v, vectors = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in ("y", "u", "v", "vectors")
    )
    return Clip(name=folder.name, planes=(y, u, v), vectors=vectors)


class ClipBatches(IterableDataset):
    """Endless batches of random sequences, following a schedule of stages.

    rank: which of several processes training together this is; each draws its own sequences.
    Yields planes (y, u, v): (T, B, 1, crop, crop) and halves, uint8; vectors
    (T-1, B, 2, crop/8, crop/8) int16; qp (B,) int64.
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

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rng = np.random.default_rng((self.seed, self.start, self.rank))
        done = 0
        for stage in self.stages:
            done += stage.steps
            fitting = [
                clip
                for clip in self.clips
                if clip.frames >= stage.frames and min(clip.size) >= stage.crop
            ]
            if not fitting:
                raise InputError(
                    f"no training clip has {stage.frames} frames of {stage.crop}x{stage.crop}"
                )
            weights = np.array([clip.frames * np.sqrt(np.prod(clip.size)) for clip in fitting])
            weights /= weights.sum()
            while self.start < done:
                self.start += 1
                picked = rng.choice(len(fitting), size=stage.batch, p=weights)
                yield self._collate([self._cut(fitting[p], stage, rng) for p in picked], rng)

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
        vectors = clip.vectors[
            first : first + stage.frames - 1,
            top // 8 : (top + stage.crop) // 8,
            left // 8 : (left + stage.crop) // 8,
        ][:, :: 1 - 2 * flip_y, :: 1 - 2 * flip_x]
        sequence.append(vectors * np.array([1 - 2 * flip_x, 1 - 2 * flip_y], np.int16))
        return sequence

    @staticmethod
    def _collate(cuts: list[list[np.ndarray]], rng: np.random.Generator) -> dict[str, torch.Tensor]:
        y, u, v, vectors = (
            torch.from_numpy(np.stack(parts, axis=1)) for parts in zip(*cuts, strict=True)
        )
        return {
            "y": y[:, :, None],  # (T, B, 1, H, W)
            "u": u[:, :, None],
            "v": v[:, :, None],
            "vectors": vectors.permute(0, 1, 4, 2, 3).contiguous(),  # (T-1, B, 2, H/8, W/8)
            "qp": torch.from_numpy(rng.integers(0, 64, size=len(cuts))),
        }


class ClipDataModule(lightning.LightningDataModule):
    """Clips of a folder, split into training and validation by scene.

    folder: where the clips are; cache: where prepared clips go; stages: the schedule;
    validation_scenes: clips whose names start with one of these are kept out of training.
    """

    def __init__(
        self,
        folder: str,
        stages: list[Stage],
        cache: str = "~/.cache/nvc/clips",
        validation_scenes: tuple[str, ...] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
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

    def setup(self, stage: str) -> None:
        for path in self._paths():
            clip = load_clip(prepare_clip(path, self.cache))
            held_out = path.stem.startswith(self.validation_scenes)
            (self.validation if held_out else self.training).append(clip)
        if not self.training:
            raise InputError(f"{self.folder}: every clip is kept for validation")

    def train_dataloader(self) -> DataLoader:
        start = self.trainer.global_step if self.trainer else 0
        rank = self.trainer.global_rank if self.trainer else 0
        batches = ClipBatches(self.training, self.stages, seed=self.seed, start=start, rank=rank)
        return DataLoader(batches, batch_size=None, pin_memory=torch.cuda.is_available())

    def _paths(self) -> list[Path]:
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder of training clips")
        paths = sorted(p for p in self.folder.iterdir() if p.suffix in VIDEO_SUFFIXES)
        if not paths:
            raise InputError(
                f"{self.folder}: no clips; looked for {', '.join(VIDEO_SUFFIXES)} files"
            )
        return paths
