"""The predictive network: scales from coarse to fine over one frame, references over time.

Every scale is a closed loop of its own: the references of strides 64 and 32 are made of these
scales alone, so decoding fewer layers does not drift. The finest scale takes its reference from the
full reconstruction, in one of three forms (`PredictiveConfig.reference`):

* implicit: the previous reconstruction as it is, as DHVC publishes it (arXiv 2410.02598);
* derived: warped by an offset field read from the coarser features of this frame;
* sent: warped by block vectors the encoder found and sends.

With two references (a frame between two others always, a P frame where it pays) every square of
16x16 samples has the mean of both, each warped, or one of them alone; an intra frame has none: the
enlarged coarser picture takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvc.nn.blocks import FRAME_FORMS, Pointwise
from nvc.nn.planes import (
    PACKED_CHANNELS,
    Planes,
    enlarge_planes,
    pack_planes,
    shrink_planes,
    unpack_planes,
)
from nvc.predictive.config import LevelConfig, PredictiveConfig
from nvc.predictive.contexts import vector_contexts
from nvc.predictive.filter_tuning import Tuner, Tuning, tuned
from nvc.predictive.level import History, Level, Prediction
from nvc.predictive.loop_filter import LoopFilter
from nvc.predictive.motion import (
    VECTOR_BLOCK,
    VECTOR_UNIT,
    align_codes,
    compensate,
    motion_codes,
)
from nvc.predictive.scales import (
    KIND_BI,
    KIND_INTER,
    KIND_INTRA,
    KIND_RESET,
    magnitude_code,
    running_average,
    uses_statistics,
)

Coder = Callable[[int, Prediction, History], tuple[Tensor, Tensor]]


@dataclass
class Memory:
    """What one frame leaves to others.

    Per scale its picture and symbol magnitudes; its QP; how its loop filter was tuned, and whether
    it is a frame between two others.
    """

    pictures: list[Planes] = field(default_factory=list)
    codes: list[Tensor] = field(default_factory=list)
    averages: list[Tensor] = field(default_factory=list)
    qp: Tensor | None = None  # (B,) int64
    tuning: Tuning | None = None
    between: bool = False


class Second(NamedTuple):
    """The second reference of a frame.

    vectors (B, 2, H/8, W/8): into it; share (B, 1, H/16, W/16): its part of the prediction, 0, 1/2
    or 1, None for 1/2 everywhere; told: whether the scale path reads it, as for a frame between two
    others.
    """

    memory: Memory
    vectors: Tensor
    share: Tensor | None = None
    told: bool = True


@dataclass
class FrameResult:
    """Training outputs of one frame, per scale from coarse to fine."""

    pictures: list[Tensor]  # x_hat packed at stride 8 of its scale
    sources: list[Tensor]  # the source, likewise
    bits: list[Tensor]  # of every symbol; see Level.quantise
    memory: Memory


class OffsetHead(nn.Module):
    """Vectors from the features of a coarser scale, for the derived reference."""

    def __init__(self, coarse: LevelConfig) -> None:
        super().__init__()
        self.cells = coarse.stride // VECTOR_BLOCK
        self.out = Pointwise(coarse.width, 2 * self.cells**2, gain=0.1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, h, w) at the coarser stride -> (B, 2, H/8, W/8) in quarter samples."""
        return F.pixel_shuffle(self.out(features).float(), self.cells) * (8 * VECTOR_UNIT)


class PredictiveNetwork(nn.Module):
    """All scales; frames are YUV 4:2:0 planes in [0, 1] with sides multiples of config.padding."""

    def __init__(self, config: PredictiveConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = _bank(config.levels)
        self.intra = _bank(config.intra)
        self.motion_contexts = vector_contexts()
        self.filter = LoopFilter() if config.loop_filter else None
        self.offsets = None
        if config.reference == "derived":
            self.offsets = OffsetHead(config.levels[-2])

    def bank(self, intra: bool) -> nn.ModuleList:
        """The scales of an intra or an inter frame, coarse to fine."""
        return self.intra if intra else self.levels

    def base(
        self, number: int, coarser: Planes | None, batch: int, size: tuple[int, int]
    ) -> Tensor:
        """The coarser picture enlarged to scale `number`, packed (B, 96, *size); zeros for none."""
        if coarser is None:
            like = self.levels[number].fine_in.weight
            return like.new_zeros(batch, PACKED_CHANNELS, *size)
        levels = self.config.levels
        return pack_planes(
            enlarge_planes(coarser, levels[number - 1].shrink // levels[number].shrink)
        )

    def reference(
        self,
        number: int,
        base: Tensor,
        memory: Memory | None,
        vectors: Tensor | None,
        features: Tensor | None,
        second: Second | None,
    ) -> Tensor:
        """The packed reference of scale `number`; see the module text."""
        if memory is None:
            return base
        shrink = self.config.levels[number].shrink
        picture = memory.pictures[number]
        motion = vectors if self.config.reference == "sent" else None
        if self.offsets is not None and number == len(self.levels) - 1 and features is not None:
            motion = self.offsets(features)
        if motion is not None:
            picture = compensate(picture, motion, shrink)
        if second is not None:
            other = compensate(second.memory.pictures[number], second.vectors, shrink)
            picture = blend(picture, other, second.share)
        return pack_planes(picture)

    def history(
        self, number: int, context: Tensor, memory: Memory | None, coarser: Tensor | None,
        vectors: Tensor | None, kind: Tensor, qp: Tensor, second: Second | None = None,
    ) -> History:  # fmt: skip
        """Integers for the scale path of scale `number`, on the grid of `context`."""
        level = self.config.levels[number]
        grid = context.shape[-2:]
        zero = torch.zeros(len(kind), level.latent, *grid, device=context.device)
        cell = level.stride // VECTOR_BLOCK
        past, average, past_qp = zero, zero, qp
        if memory is not None:
            reads = uses_statistics(kind)
            both = _statistics(memory, number, vectors, cell)
            if second is not None:
                other = _statistics(second.memory, number, second.vectors, cell)
                both = torch.floor((both + other) / 2)
            past, average = (both * reads.float()[:, None, None, None]).chunk(2, dim=1)
            past_qp = torch.where(reads, reference_qp(memory, second), qp)
        coarse = None
        if coarser is not None:
            coarse = F.interpolate(coarser, size=grid, mode="nearest")
        if vectors is None:
            motion = zero[:, :2]
        else:
            motion = motion_codes(vectors, cell)
            if second is not None:
                motion = torch.maximum(motion, motion_codes(second.vectors, cell))
        return History(
            past=past, average=average, coarse=coarse, motion=motion, kind=kind, past_qp=past_qp
        )

    def run(
        self,
        qp: Tensor,
        kind: Tensor,
        size: tuple[int, int],
        code: Coder,
        *,
        memory: Memory | None = None,
        vectors: Tensor | None = None,
        second: Second | None = None,
        layers: int | None = None,
        tuner: Tuner | None = None,
    ) -> tuple[list[Tensor], Memory]:
        """One frame, scale by scale; `code` turns what is known of a scale into its residual.

        qp (B,) int64 0..63; kind (B,) int64 frame kind; size (H, W), multiples of config.padding;
        memory None for an intra frame; vectors (B, 2, H/8, W/8) in quarter samples; second: of a
        frame between two others (KIND_BI) the later one, of a P frame an older one, memory and
        vectors being the other's; tuner: what tunes the loop filter. Returns x_hat of each scale,
        packed at its stride 8, and what other frames need.
        """
        if second is not None and self.config.reference != "sent":
            raise ValueError(f"no frames of two references with {self.config.reference} motion")
        form = frame_form(kind)
        after = Memory(qp=qp)
        told = second if second is not None and second.told else None
        between = told is not None
        past_qp = qp if memory is None else reference_qp(memory, told)
        pictures: list[Tensor] = []
        planes: Planes | None = None
        features = codes = None
        for number, level in enumerate(self.bank(memory is None)[:layers]):
            cell = 8 * level.config.shrink
            base = self.base(number, planes, len(qp), (size[0] // cell, size[1] // cell))
            reference = self.reference(number, base, memory, vectors, features, second)
            given = level.predict(reference, base, features, qp, form, past_qp=past_qp)
            history = self.history(number, given.context, memory, codes, vectors, kind, qp, told)
            residual, k = code(number, given, history)
            x_hat, features = level.synthesise(given, residual, qp, form)
            x_hat = x_hat.to(base.dtype)
            planes = tuple(plane.clamp(0, 1) for plane in unpack_planes(x_hat))
            if number == len(self.levels) - 1 and self.filter is not None:
                shown = tuned(self.filter, planes, qp, form, tuner, fitted=not between)
                if shown is not planes:
                    planes, x_hat = shown, pack_planes(shown)
            codes = magnitude_code(k)
            pictures.append(x_hat)
            after.pictures.append(planes)
            after.codes.append(codes)
            after.averages.append(running_average(history.average, codes, kind))
        return pictures, after

    def forward(
        self,
        source: Planes,
        qp: Tensor,
        *,
        memory: Memory | None = None,
        vectors: Tensor | None = None,
        second: Second | None = None,
        reset: Tensor | None = None,
        drop_finest: Tensor | None = None,
        worth: Tensor | None = None,
    ) -> FrameResult:
        """Training pass over one frame; memory, vectors, second as in `run`.

        source: Y (B,1,H,W), U, V (B,1,H/2,W/2) in [0,1]; reset (B,) bool: statistics of the past
        are not used; drop_finest (B,) bool: the symbols of the finest scale are lost;
        worth: what an error of each place counts, as Level.quantise has it.
        """
        kind = torch.full_like(qp, KIND_INTRA if memory is None else KIND_INTER)
        if second is not None and second.told:
            kind = torch.full_like(qp, KIND_BI)
        elif memory is not None and reset is not None:
            kind[reset] = KIND_RESET
        form = frame_form(kind)
        sources: list[Tensor] = []
        bits: list[Tensor] = []

        def code(number: int, given: Prediction, history: History) -> tuple[Tensor, Tensor]:
            level = self.bank(memory is None)[number]
            sources.append(pack_planes(shrink_planes(source, level.config.shrink)))
            residual = level.analyse(sources[-1], given, qp, form)
            residual, k, spent = level.quantise(residual, history, qp, form, worth)
            bits.append(spent)
            if drop_finest is not None and number == len(self.levels) - 1:
                keep = (~drop_finest).float().view(-1, 1, 1, 1)
                residual, k = residual * keep, k * keep
            return residual, k

        size = (source[0].shape[-2], source[0].shape[-1])
        pictures, after = self.run(
            qp, kind, size, code, memory=memory, vectors=vectors, second=second
        )
        return FrameResult(pictures, sources, bits, after)

    def check_exact(self) -> None:
        """Raise ValueError if anything the symbols depend on could leave exact numbers."""
        for level in (*self.levels, *self.intra):
            level.scales.check_exact()
            level.contexts.check_exact()
        self.motion_contexts.check_exact()

    def start_from_transforms(self, bases: list[Tensor]) -> None:
        """Give each scale its orthonormal transform; see Level.start_from_transform."""
        for bank in (self.levels, self.intra):
            for level, basis in zip(bank, bases, strict=True):
                level.start_from_transform(basis)


def _bank(levels: tuple[LevelConfig, ...]) -> nn.ModuleList:
    coarse = (None, *levels[:-1])
    return nn.ModuleList(Level(level, below) for level, below in zip(levels, coarse, strict=True))


def frame_form(kind: Tensor) -> Tensor:
    """Which gains and steps a kind of frame has (nvc.nn.blocks.FRAME_FORMS), (B,) int64."""
    return torch.where(kind == KIND_RESET, KIND_INTER, kind).clamp(max=FRAME_FORMS - 1)


def _statistics(memory: Memory, number: int, vectors: Tensor | None, cell: int) -> Tensor:
    """Codes and averages of scale `number`, moved with the vectors: (B, 2 * latent, h, w)."""
    both = torch.cat((memory.codes[number], memory.averages[number]), dim=1)
    return both if vectors is None else align_codes(both, vectors, cell)


def reference_qp(memory: Memory, second: Second | None) -> Tensor:
    """QP the reference was coded at, of two the coarser, (B,)."""
    assert memory.qp is not None
    if second is None:
        return memory.qp
    assert second.memory.qp is not None
    return torch.maximum(memory.qp, second.memory.qp)


def blend(first: Planes, second: Planes, share: Tensor | None) -> Planes:
    """Two pictures by the share of the second in every square, as Second has it."""
    if share is None:
        return tuple((a + b) / 2 for a, b in zip(first, second, strict=True))
    mixed = []
    for a, b in zip(first, second, strict=True):
        part, size = share.to(a.dtype), a.shape[-2:]
        if size[0] >= part.shape[-2]:
            part = F.interpolate(part, size=size, mode="nearest")
        else:
            part = F.avg_pool2d(part, part.shape[-2] // size[0])
        mixed.append(a + (b - a) * part)
    return tuple(mixed)


def block_transform(packed: Tensor, level: LevelConfig) -> Tensor:
    """Principal components of the blocks of one scale, (latent, 96 * (block / 8)^2).

    packed: (N, 96, h, w) pictures of that scale. The mean is kept in, so that the first component
    carries the block mean.
    """
    down = level.block // 8
    blocks = F.pixel_unshuffle(packed, down) if down > 1 else packed
    rows = blocks.permute(0, 2, 3, 1).reshape(-1, PACKED_CHANNELS * down**2).double()  # (N, D)
    _, vectors = torch.linalg.eigh(rows.t() @ rows / len(rows))
    return vectors.flip(1)[:, : level.latent].t().float().contiguous()
