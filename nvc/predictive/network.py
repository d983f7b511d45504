"""The predictive network: scales from coarse to fine over one frame, references over time.

Every scale is a closed loop of its own: the references of strides 64 and 32 are made of these
scales alone, so decoding fewer layers does not drift. The finest scale takes its reference from the
full reconstruction, in one of three forms (`PredictiveConfig.reference`):

* implicit: the previous reconstruction as it is, as DHVC publishes it (arXiv 2410.02598);
* derived: warped by an offset field read from the coarser features of this frame;
* sent: warped by block vectors the encoder found and sends.

An intra frame has no reference: the enlarged coarser picture takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvc.nn.blocks import Pointwise
from nvc.nn.planes import (
    PACKED_CHANNELS,
    enlarge_planes,
    pack_planes,
    shrink_planes,
    unpack_planes,
)
from nvc.predictive.config import LevelConfig, PredictiveConfig
from nvc.predictive.level import History, Level, Prediction
from nvc.predictive.motion import (
    VECTOR_BLOCK,
    VECTOR_UNIT,
    align_codes,
    compensate,
    motion_codes,
    warp_features,
)
from nvc.predictive.scales import (
    KIND_INTER,
    KIND_INTRA,
    KIND_RESET,
    magnitude_code,
    running_average,
)

Planes = tuple[Tensor, ...]
Coder = Callable[[int, Prediction, History], tuple[Tensor, Tensor]]


@dataclass
class Memory:
    """What one frame leaves to the next: per scale its picture and symbol magnitudes; its QP.

    features: of the finest scale at stride 8, (B, fine_width, H/8, W/8), where the network is
    recurrent and that scale was decoded.
    """

    pictures: list[Planes] = field(default_factory=list)
    codes: list[Tensor] = field(default_factory=list)
    averages: list[Tensor] = field(default_factory=list)
    features: Tensor | None = None
    qp: Tensor | None = None  # (B,) int64


@dataclass
class FrameResult:
    """Training outputs of one frame, per scale from coarse to fine."""

    pictures: list[Tensor]  # x_hat packed at stride 8 of its scale
    sources: list[Tensor]  # the source, likewise
    symbols: list[Tensor]  # for the rate; see Level.quantise
    index: list[Tensor]  # unrounded table index
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
        self.levels = _bank(config.levels, recurrent=config.recurrent)
        self.intra = _bank(config.intra, recurrent=False)
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
    ) -> tuple[Tensor, Tensor | None]:
        """The packed reference of scale `number` and its past features; see the module text."""
        if memory is None:
            return base, None
        previous = memory.pictures[number]
        finest = number == len(self.levels) - 1
        past = memory.features if finest else None
        motion = vectors if self.config.reference == "sent" else None
        if self.offsets is not None and finest and features is not None:
            motion = self.offsets(features)
        if motion is not None:
            previous = compensate(previous, motion, self.config.levels[number].shrink)
            past = None if past is None else warp_features(past, motion)
        return pack_planes(previous), past

    def history(
        self, number: int, context: Tensor, memory: Memory | None, coarser: Tensor | None,
        vectors: Tensor | None, kind: Tensor, qp: Tensor,
    ) -> History:  # fmt: skip
        """Integers for the scale path of scale `number`, on the grid of `context`."""
        level = self.config.levels[number]
        grid = context.shape[-2:]
        zero = torch.zeros(len(kind), level.latent, *grid, device=context.device)
        cell = level.stride // VECTOR_BLOCK
        past, average, past_qp = zero, zero, qp
        if memory is not None:
            both = torch.cat((memory.codes[number], memory.averages[number]), dim=1)
            both = both * (kind == KIND_INTER).float()[:, None, None, None]
            if vectors is not None:
                both = align_codes(both, vectors, cell)
            past, average = both.chunk(2, dim=1)
            if memory.qp is not None:
                past_qp = torch.where(kind == KIND_INTER, memory.qp, qp)
        coarse = None
        if coarser is not None:
            coarse = F.interpolate(coarser, size=grid, mode="nearest")
        if vectors is None:
            motion = zero[:, :2]
        else:
            motion = motion_codes(vectors, cell)
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
        layers: int | None = None,
    ) -> tuple[list[Tensor], Memory]:
        """One frame, scale by scale; `code` turns what is known of a scale into its residual.

        qp (B,) int64 0..63; kind (B,) int64 frame kind; size (H, W), multiples of config.padding;
        memory None for an intra frame; vectors (B, 2, H/8, W/8) in quarter samples. Returns x_hat
        of each scale, packed at its stride 8, and what the next frame needs.
        """
        inter = torch.full_like(qp, int(memory is not None))
        after = Memory(qp=qp)
        past_qp = qp if memory is None or memory.qp is None else memory.qp
        pictures: list[Tensor] = []
        planes: Planes | None = None
        features = codes = None
        for number, level in enumerate(self.bank(memory is None)[:layers]):
            cell = 8 * level.config.shrink
            base = self.base(number, planes, len(qp), (size[0] // cell, size[1] // cell))
            reference, past = self.reference(number, base, memory, vectors, features)
            given = level.predict(reference, base, features, qp, inter, past_qp=past_qp, past=past)
            history = self.history(number, given.context, memory, codes, vectors, kind, qp)
            residual, k = code(number, given, history)
            x_hat, features, fine = level.synthesise(given, residual, qp, inter)
            if self.config.recurrent and number == len(self.levels) - 1:
                after.features = fine
            x_hat = x_hat.to(base.dtype)
            planes = tuple(plane.clamp(0, 1) for plane in unpack_planes(x_hat))
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
        reset: Tensor | None = None,
        drop_finest: Tensor | None = None,
    ) -> FrameResult:
        """Training pass over one frame.

        source: Y (B,1,H,W), U, V (B,1,H/2,W/2) in [0,1]; reset (B,) bool: statistics of the past
        are not used; drop_finest (B,) bool: the symbols of the finest scale are lost.
        """
        kind = torch.full_like(qp, KIND_INTRA if memory is None else KIND_INTER)
        if memory is not None and reset is not None:
            kind[reset] = KIND_RESET
        inter = (kind != KIND_INTRA).long()
        sources: list[Tensor] = []
        symbols: list[Tensor] = []
        index: list[Tensor] = []

        def code(number: int, given: Prediction, history: History) -> tuple[Tensor, Tensor]:
            level = self.bank(memory is None)[number]
            sources.append(pack_planes(shrink_planes(source, level.config.shrink)))
            residual = level.analyse(sources[-1], given, qp, inter)
            residual, k, *rate = level.quantise(residual, history, qp, inter)
            symbols.append(rate[0])
            index.append(rate[1])
            if drop_finest is not None and number == len(self.levels) - 1:
                keep = (~drop_finest).float().view(-1, 1, 1, 1)
                residual, k = residual * keep, k * keep
            return residual, k

        size = (source[0].shape[-2], source[0].shape[-1])
        pictures, after = self.run(qp, kind, size, code, memory=memory, vectors=vectors)
        return FrameResult(pictures, sources, symbols, index, after)

    def check_exact(self) -> None:
        """Raise ValueError if the integer scale path of any scale could leave exact numbers."""
        for level in (*self.levels, *self.intra):
            level.scales.check_exact()

    def start_from_transforms(self, bases: list[Tensor]) -> None:
        """Give each scale its orthonormal transform; see Level.start_from_transform."""
        for bank in (self.levels, self.intra):
            for level, basis in zip(bank, bases, strict=True):
                level.start_from_transform(basis)


def _bank(levels: tuple[LevelConfig, ...], *, recurrent: bool) -> nn.ModuleList:
    coarse = (None, *levels[:-1])
    return nn.ModuleList(
        Level(level, below, recurrent=recurrent and level is levels[-1])
        for level, below in zip(levels, coarse, strict=True)
    )


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
