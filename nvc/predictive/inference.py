"""The predictive network for inference on the CPU: the same sums over rows, in fewer passes.

What nvc.predictive.network and level say, for one frame at a time and the sent reference: pictures
stay planes or rows (nvc.nn.fused), gains of a QP go into the weights, and products read rows where
they lie. The scale path runs in int8 (index_kernels), so the symbols are the same; the picture is,
in float32, but for the order of sums. In bfloat16, which the networks were trained in, products
read rounded numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nvc.nn.blocks import Pointwise, QpGain
from nvc.nn.fused import FusedStack, as_array
from nvc.nn.planes import CHROMA_GAIN, LUMA_GAIN, PACKED_CHANNELS
from nvc.predictive import index_kernels, plane_kernels
from nvc.predictive.filter_kernels import filter_plane
from nvc.predictive.filter_tuning import Tuner, tuned
from nvc.predictive.integer_scales import CODE_OFFSET, IntegerScales
from nvc.predictive.level import History, Level
from nvc.predictive.loop_filter import SHAPES, LoopFilter
from nvc.predictive.motion import VECTOR_BLOCK
from nvc.predictive.network import (
    Coder,
    Memory,
    Planes,
    PredictiveNetwork,
    Second,
    frame_form,
    reference_qp,
)
from nvc.predictive.row_planes import arrays, blended, enlarged, grey, moved
from nvc.predictive.scales import uses_statistics

Origins = list[tuple[Memory, NDArray[np.int32]]]


def supports(network: PredictiveNetwork) -> bool:
    """Whether this network can run here: on the CPU, in float32, with vectors that are sent."""
    like = next(network.parameters())
    return (
        like.device.type == "cpu"
        and like.dtype == torch.float32
        and network.config.reference == "sent"
    )


@dataclass
class RowPrediction:
    """What is known before the symbols of a scale; rows of the network's dtype."""

    reference: Planes
    added: Tensor  # (cells, 96): the prediction less the reference, in samples
    fine: Tensor  # (cells, fine)
    context: Tensor  # (latents, width)


class _Product:
    """A Pointwise on rows; `scale` (outputs,) multiplies what comes out."""

    def __init__(self, module: Pointwise, dtype: torch.dtype) -> None:
        self.exact = module.weight.t().contiguous()  # (inputs, outputs)
        self.bias = None if module.bias is None else module.bias.float()
        self.dtype = dtype

    @cached_property
    def weight(self) -> Tensor:
        """(inputs, outputs), rounded."""
        return self.exact.to(self.dtype)

    def scaled(self, gain: Tensor) -> tuple[Tensor, Tensor]:
        """(weight, bias) with a gain for each output."""
        assert self.bias is not None
        return (self.exact * gain).to(self.dtype), (self.bias * gain).to(self.dtype)

    def __call__(self, rows: Tensor) -> Tensor:
        if self.bias is None:
            return rows @ self.weight
        return torch.addmm(self.bias.to(self.dtype), rows, self.weight)


class RowLevel:
    """One scale; stands in for a Level where a LayerCoder asks for one."""

    def __init__(self, level: Level, dtype: torch.dtype) -> None:
        self.level, self.config, self.dtype = level, level.config, dtype
        self.down = level.down
        cell = self.down**2
        self.scales = IntegerScales(level.scales)
        self.contexts = level.contexts
        self.error_weights = level.error_weights
        samples = torch.ones(PACKED_CHANNELS)
        samples[:64] /= LUMA_GAIN
        samples[64:] /= CHROMA_GAIN

        def product(module: Pointwise) -> _Product:
            return _Product(module, dtype)

        def regrouped(module: Pointwise, *, inputs: int = 0, outputs: int = 0) -> _Product:
            """Channels of pixel_(un)shuffle, cell within channel, to channel within cell."""
            made = _Product(module, dtype)
            weight, bias = made.exact, made.bias
            if inputs:  # the first inputs * cell
                head = weight[: inputs * cell].unflatten(0, (inputs, cell)).transpose(0, 1)
                weight = torch.cat((head.flatten(0, 1), weight[inputs * cell :]))
            if outputs:
                weight = weight.unflatten(1, (outputs, cell)).transpose(1, 2).flatten(1)
                if bias is not None:
                    bias = bias.unflatten(0, (outputs, cell)).t().flatten()
            made.exact, made.bias = weight.contiguous(), bias
            return made

        fine = self.config.fine_width
        self.fine_in = product(level.fine_in)
        self.fine_blocks = FusedStack(level.fine_blocks, dtype)
        self.fine_out = product(level.fine_out)
        self.context_in = regrouped(level.context_in, inputs=fine)
        self.context_blocks = FusedStack(level.context_blocks, dtype)
        self.source_in = product(level.source_in)
        self.source_blocks = FusedStack(level.source_blocks, dtype)
        self.source_down = regrouped(level.source_down, inputs=fine)
        self.source_mix = FusedStack(level.source_mix, dtype)
        self.source_out = product(level.source_out)
        # Of channel within cell, one row a latent; in float32, since symbols are rounded from it.
        self.transform = (
            level.transform.weight.unflatten(1, (PACKED_CHANNELS, cell)).transpose(1, 2).flatten(1)
        )
        self.mean = level.mean.weight.to(dtype)
        self.residual_in = product(level.residual_in)
        self.synthesis_blocks = FusedStack(level.synthesis_blocks, dtype)
        self.inverse = regrouped(level.inverse, outputs=PACKED_CHANNELS)
        self.inverse.exact = self.inverse.exact * samples.repeat(cell)
        self.head_in = regrouped(level.head_in, outputs=fine)
        self.head_blocks = FusedStack(level.head_blocks, dtype)
        self.head_out = product(level.head_out)
        for made in (self.fine_out, self.head_out):
            assert made.bias is not None
            made.exact, made.bias = made.exact * samples, made.bias * samples

    def step(self, qp: Tensor, form: Tensor) -> Tensor:
        """Level.step."""
        return self.level.step(qp, form)

    def predict(
        self, reference: Planes, base: Planes | None, coarse: Tensor | None,
        grid: tuple[int, int], *, qp: Tensor, form: Tensor, past_qp: Tensor,
    ) -> RowPrediction:  # fmt: skip
        """Level.predict of planes.

        coarse: rows of the coarser scale's features, at half the grid (h, w) of latents.
        """
        height, width = (side * self.down for side in grid)
        fine_width = self.config.fine_width
        rows = torch.empty(height * width, 2 * PACKED_CHANNELS, dtype=self.dtype)
        into = as_array(rows)
        plane_kernels.pack(*arrays(reference), into, 0)
        if base is None:
            rows[:, PACKED_CHANNELS:] = 0
        else:
            plane_kernels.pack(*arrays(base), into, PACKED_CHANNELS)
        gain = _gain(self.level.past_gain, past_qp, form)
        gain = gain * _gain(self.level.fine_gain, qp, form)
        weight, bias = self.fine_in.scaled(gain)
        fine = self.fine_blocks(torch.addmm(bias, rows, weight), height, width)
        added = self.fine_out(fine)

        weight, bias = self.context_in.scaled(_gain(self.level.context_gain, qp, form))
        own = fine_width * self.down**2
        context = torch.addmm(bias, self._blocks_of(fine, grid), weight[:own])
        if coarse is not None:
            across = (grid[0] // 2, 2, grid[1] // 2, 2, -1)
            context = context.view(across)
            context += (coarse @ weight[own:]).view(grid[0] // 2, 1, grid[1] // 2, 1, -1)
            context = context.view(grid[0] * grid[1], -1)
        context = self.context_blocks(context, *grid)
        return RowPrediction(reference, added, fine, context)

    def _blocks_of(self, rows: Tensor, grid: tuple[int, int]) -> Tensor:
        """(cells, C) -> (latents, down^2 * C), the cells of a block behind each other."""
        if self.down == 1:
            return rows
        parts = rows.view(grid[0], self.down, grid[1], self.down, -1).transpose(1, 2)
        return parts.reshape(grid[0] * grid[1], -1)

    def analyse(self, source: Planes, given: RowPrediction, qp: Tensor, form: Tensor) -> Tensor:
        """Source planes of this scale -> residual (1, latent, h, w), float32."""
        height, width = (side // 8 for side in source[0].shape[-2:])
        grid = (height // self.down, width // self.down)
        rows = torch.empty(height * width, 2 * PACKED_CHANNELS, dtype=self.dtype)
        plane_kernels.difference(
            *arrays(source), *arrays(given.reference), as_array(given.added), as_array(rows)
        )
        weight, bias = self.source_in.scaled(_gain(self.level.source_gain, qp, form))
        fine = self.source_blocks(torch.addmm(bias, rows, weight), height, width)
        hidden = self.source_down(self._blocks_of(fine, grid)).add_(given.context)
        hidden = self.source_mix(hidden, *grid)
        apart = self._blocks_of(rows[:, PACKED_CHANNELS:], grid)
        if not form.any():
            # Of intra frames symbols reach hundreds, which a rounded product would put beside.
            apart = apart.float()
        residual = self.transform.to(apart.dtype) @ apart.t() + self.source_out(hidden).t()
        return residual.float().view(1, -1, *grid)

    def second_mean(self, residual: Tensor, mask: Tensor) -> Tensor:
        """Level.second_mean of residual (1, latent, h, w)."""
        padded = F.pad(residual, (1, 1, 1, 1))
        known = padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1]
        known += padded[:, :, 1:-1, :-2]
        known += padded[:, :, 1:-1, 2:]
        known += residual
        return self.mean_of(known) * (1 - mask)

    def mean_of(self, known: Tensor) -> Tensor:
        """(1, latent, h, w) -> the same, float32: the matrix of Level.mean alone."""
        flat = known[0].flatten(1)
        used = torch.from_numpy(index_kernels.places_used(flat.numpy()))
        if 2 * len(used) > flat.shape[1]:
            return (self.mean @ flat.to(self.dtype)).float().view(known.shape)
        found = self.mean @ flat[:, used].to(self.dtype)
        return torch.zeros_like(flat).index_copy_(1, used, found.float()).view(known.shape)

    def synthesise(
        self, given: RowPrediction, residual: Tensor, qp: Tensor, form: Tensor
    ) -> tuple[Planes, Tensor]:
        """Level.synthesise: planes in [0, 1] and rows at the latent stride.

        residual (1, latent, h, w).
        """
        grid = (residual.shape[-2], residual.shape[-1])
        height, width = (side * self.down for side in grid)
        # Most places of a B frame have no residual, and no part in the products of it.
        flat = residual[0].flatten(1)
        used = torch.from_numpy(index_kernels.places_used(flat.numpy()))
        rows = flat[:, used].to(self.dtype).t()  # (places, latent)
        gain = _gain(self.level.synthesis_gain, qp, form)
        weight, bias = self.residual_in.scaled(gain)
        hidden = torch.addcmul(bias, given.context, gain.to(self.dtype))
        hidden.index_add_(0, used, rows @ weight)
        hidden = self.synthesis_blocks(hidden, *grid)
        correction, head = self.inverse(rows), self.head_in(hidden)
        if self.down > 1:
            shape = (grid[0], self.down, grid[1], self.down, -1)
            head = head.view(grid[0], grid[1], self.down, self.down, -1).transpose(1, 2)
            head = (given.fine.view(shape) + head).view(height * width, -1)
        else:
            head = head + given.fine
        head = self.head_blocks(head, height, width)
        fine = self.head_out(head).add_(given.added)
        planes = tuple(torch.empty_like(plane) for plane in given.reference)
        at = np.full(grid[0] * grid[1], -1, np.int32)
        at[used.numpy()] = np.arange(len(used), dtype=np.int32)
        plane_kernels.compose(
            *arrays(given.reference), as_array(fine), as_array(correction), at, self.down,
            *arrays(planes),
        )  # fmt: skip
        return planes, hidden

    def index(
        self, shared: Tensor, first: Tensor | None, history: History, qp: Tensor, *, step: int
    ) -> Tensor:
        """Table indices (1, latent, H, W) uint8, rounded; first: codes less 128, int8."""
        return self.scales.index(shared, first, qp, history.past_qp, history.kind, step=step)


class RowFilter:
    """A LoopFilter for one frame at a time."""

    def __init__(self, module: LoopFilter) -> None:
        self.module = module

    @property
    def ways(self) -> tuple[Tensor, ...]:
        """LoopFilter.ways."""
        return self.module.ways

    def __call__(
        self, planes: Planes, qp: Tensor, form: Tensor, moves: Sequence[Tensor] | None = None,
        *, fitted: bool = True,
    ) -> Planes:  # fmt: skip
        """LoopFilter.forward."""
        tables = self.module.tables(qp, form, moves, fitted=fitted)
        made = []
        for plane, table, shape in zip(arrays(planes), tables, SHAPES, strict=True):
            out = filter_plane(plane, table[0].contiguous().numpy(), shape)
            made.append(torch.from_numpy(out)[None, None])
        return tuple(made)


class RowNetwork:
    """A PredictiveNetwork for one frame at a time; stands in for it in a FrameCoder.

    dtype: float32 or bfloat16, of the mean path. Of a Memory the codes and averages are uint8.
    """

    def __init__(self, network: PredictiveNetwork, dtype: torch.dtype) -> None:
        self.network, self.config, self.dtype = network, network.config, dtype
        self.motion_contexts = network.motion_contexts
        self.levels = [RowLevel(level, dtype) for level in network.levels]
        self.intra = [RowLevel(level, dtype) for level in network.intra]
        self.filter = None if network.filter is None else RowFilter(network.filter)

    def bank(self, intra: bool) -> list[RowLevel]:
        """PredictiveNetwork.bank."""
        return self.intra if intra else self.levels

    def run(
        self, qp: Tensor, kind: Tensor, size: tuple[int, int], code: Coder, *,
        memory: Memory | None = None, vectors: Tensor | None = None,
        second: Second | None = None, layers: int | None = None, tuner: Tuner | None = None,
    ) -> tuple[list[Planes], Memory]:  # fmt: skip
        """PredictiveNetwork.run of one frame; pictures are planes."""
        form = frame_form(kind)
        after = Memory(qp=qp)
        told = second if second is not None and second.told else None
        past_qp = qp if memory is None else reference_qp(memory, told)
        origins = _origins(memory, vectors, second, size)
        read = origins if told is second else origins[:1]
        goes_on = bool(uses_statistics(kind).all())
        planes: Planes | None = None
        features = codes = None
        for number, level in enumerate(self.bank(memory is None)[:layers]):
            shrink, stride = level.config.shrink, level.config.stride
            grid = (size[0] // stride, size[1] // stride)
            base = None
            if planes is not None:
                base = enlarged(planes, self.config.levels[number - 1].shrink // shrink)
            reference = grey(size, shrink) if base is None else base
            if origins:
                parts = [moved(past.pictures[number], field, shrink) for past, field in origins]
                reference = parts[0]
                if second is not None:
                    reference = blended(*parts, second.share)
            given = level.predict(
                reference, base, features, grid, qp=qp, form=form, past_qp=past_qp
            )
            history = self._history(number, grid, read, codes, kind, qp, past_qp)
            residual, k = code(number, given, history)  # type: ignore[arg-type]
            planes, features = level.synthesise(given, residual, qp, form)
            if number == len(self.levels) - 1 and self.filter is not None:
                planes = tuned(self.filter, planes, qp, form, tuner, fitted=told is None)
            codes, averages = (torch.empty(k.shape, dtype=torch.uint8) for _ in range(2))
            index_kernels.remember(
                k[0].flatten(1).numpy(), history.average[0].flatten(1).numpy(), goes_on,
                codes[0].flatten(1).numpy(), averages[0].flatten(1).numpy(),
            )  # fmt: skip
            after.pictures.append(planes)
            after.codes.append(codes)
            after.averages.append(averages)
        return after.pictures, after

    def _history(
        self, number: int, grid: tuple[int, int], origins: Origins, coarser: Tensor | None,
        kind: Tensor, qp: Tensor, past_qp: Tensor,
    ) -> History:  # fmt: skip
        """PredictiveNetwork.history: codes less 128, int8."""
        latent = self.config.levels[number].latent
        cell = self.config.levels[number].stride // VECTOR_BLOCK
        reads = bool(uses_statistics(kind).all())
        past, average = (
            torch.full((1, latent, *grid), -CODE_OFFSET, dtype=torch.int8) for _ in "pa"
        )
        for place, (memory, field) in enumerate(origins if reads else ()):
            at = np.empty(grid[0] * grid[1], np.int32)
            index_kernels.origins(field, cell, *grid, at)
            for kept, out in ((memory.codes, past), (memory.averages, average)):
                codes = kept[number][0].flatten(1).numpy()
                into = out[0].flatten(1).numpy()
                if place == 0:
                    index_kernels.gather(codes, at, into)
                else:
                    index_kernels.gather_mean(codes, at, into)
        coarse = None
        if coarser is not None:
            coarse = torch.empty(1, coarser.shape[1], *grid, dtype=torch.int8)
            index_kernels.spread_out(coarser[0].numpy(), coarse[0].numpy())
        motion = torch.full((1, 2, *grid), -CODE_OFFSET, dtype=torch.int8)
        for _, field in origins:
            index_kernels.motion_codes(field, cell, motion[0].numpy())
        return History(
            past=past, average=average, coarse=coarse, motion=motion, kind=kind,
            past_qp=past_qp if reads else qp,
        )  # fmt: skip


def _origins(
    memory: Memory | None, vectors: Tensor | None, second: Second | None, size: tuple[int, int]
) -> Origins:
    """What a frame refers to and the field of vectors into each."""
    if memory is None:
        return []
    first = (memory, _as_field(vectors, size))
    if second is None:
        return [first]
    return [first, (second.memory, _as_field(second.vectors, size))]


def _as_field(vectors: Tensor | None, size: tuple[int, int]) -> NDArray[np.int32]:
    """Vectors (1, 2, rows, columns) as (rows, columns, 2) int32; None as no motion."""
    if vectors is None:
        return np.zeros((size[0] // VECTOR_BLOCK, size[1] // VECTOR_BLOCK, 2), np.int32)
    return vectors[0].permute(1, 2, 0).to(torch.int32).contiguous().numpy()


def _gain(table: QpGain, qp: Tensor, form: Tensor) -> Tensor:
    """Gains of one frame, (C,)."""
    return table(qp, form).exp().flatten()
