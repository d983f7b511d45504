"""Fit the loop filter's tables by least squares to what a network makes of clips.

With a table for every frame form and QP knot the filter is linear in its coefficients. A frame
counts for the two knots around its QP as near as it is to each, and the less the larger its error
is already, since quality is a mean of logarithms. Filtered pictures are what other frames refer to,
so what there is to filter changes with the tables: fit a few times over, each time to pictures made
with the tables of the time before. What a filter takes off one frame is not there in those that
refer to it, so tables from one state alone swing between too much and too little; what was
collected for earlier ones goes on counting, for less (FilterFit.fade).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nvc.nn.blocks import KNOT_COUNT, KNOT_SPACING
from nvc.predictive.codec import EncodeOptions, encode_frames
from nvc.predictive.counting import Clip
from nvc.predictive.loop_filter import (
    BLOCK,
    DIRECTIONS,
    FILTERED_FORMS,
    LEVELS,
    SHAPES,
    LoopFilter,
    PlaneShape,
    class_weights,
    differences,
)
from nvc.predictive.network import Planes, PredictiveNetwork
from nvc.predictive.planes_io import to_planes
from nvc.predictive.row_coder import open_coder
from nvc.video.frames import Frame, VideoInfo

QPS = (4, 16, 28, 40, 52, 63)  # what a clip is encoded at
_SHARE = 0.25  # of the samples of a frame that are looked at
_RIDGE = 0.2  # of the mean over classes of each coefficient's diagonal: rare classes change less
ERROR_FLOOR = 0.3  # squared levels, so that frames without errors do not count for all others
_INTERVALS = len(DIRECTIONS) - 1  # cells between direction knots


class PlaneFit:
    """Normal equations of one plane's table for one form and knot.

    Samples of one cell (between the same knots of activity and directions) have the same eight rows
    of the table, so sums are kept by cell: (cells, 8 n, 8 n) in place of (classes n)^2.
    """

    def __init__(self, shape: PlaneShape) -> None:
        self.shape = shape
        size = 8 * shape.coefficients
        cells = (len(shape.activity) - 1) * _INTERVALS**2
        self.products = torch.zeros(cells, size, size)
        self.wanted = torch.zeros(cells, size)
        self.seen = False

    def solve(self) -> Tensor:
        """The table, (classes, coefficients); zeros where nothing was seen."""
        count = self.shape.coefficients
        total = self.shape.classes * count
        if not self.seen:
            return torch.zeros(self.shape.classes, count)
        left = torch.zeros(total, total, dtype=torch.float64)
        right = torch.zeros(total, dtype=torch.float64)
        for cell, corners in enumerate(corner_classes(self.shape)):
            at = (torch.tensor(corners)[:, None] * count + torch.arange(count)).flatten()
            left[at[:, None], at] += self.products[cell].double()
            right[at] += self.wanted[cell].double()
        each = left.diagonal().view(-1, count).mean(0)
        left.diagonal().add_((_RIDGE * each).repeat(self.shape.classes))
        return torch.linalg.solve(left, right).float().view(-1, count)


def corner_classes(shape: PlaneShape) -> list[list[int]]:
    """The eight classes around each cell."""
    side = len(DIRECTIONS)
    return [
        [
            ((i + di) * side + j + dj) * side + k + dk
            for di in (0, 1)
            for dj in (0, 1)
            for dk in (0, 1)
        ]
        for i in range(len(shape.activity) - 1)
        for j in range(_INTERVALS)
        for k in range(_INTERVALS)
    ]


class FilterFit:
    """Collects frames, then gives tables."""

    def __init__(self, *, seed: int = 0) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.fits = {
            (plane, form, knot): PlaneFit(shape)
            for plane, shape in enumerate(SHAPES)
            for form in range(FILTERED_FORMS)
            for knot in range(KNOT_COUNT)
        }

    def add(self, made: Planes, source: Planes, qp: int, form: int) -> None:
        """One frame as the networks made it, before the filter; planes (1, 1, H, W) in [0, 1]."""
        qp = max(qp, 0)
        low = min(qp // KNOT_SPACING, KNOT_COUNT - 2)
        part = qp / KNOT_SPACING - low
        for plane, shape in enumerate(SHAPES):
            near = {low: 1 - part, low + 1: part}
            fits = [(self.fits[plane, form, knot], share) for knot, share in near.items() if share]
            self._add(fits, made[plane], source[plane], shape)

    def _add(
        self, fits: list[tuple[PlaneFit, float]], made: Tensor, source: Tensor, shape: PlaneShape
    ) -> None:
        error = (source - made).flatten()
        worth = 1 / (error.square().mean() + ERROR_FLOOR / LEVELS**2)
        pick = torch.randperm(error.numel(), generator=self.random)
        pick = pick[: int(_SHARE * len(pick))]
        parts = differences(made, shape)[0].flatten(1)[:, pick]  # (coefficients, samples)
        width = made.shape[-1]
        block = pick // width // BLOCK * (width // BLOCK) + pick % width // BLOCK
        weights = class_weights(made, shape)[0].flatten(1)[:, block]  # (classes, samples)
        corners = torch.tensor(corner_classes(shape))  # (cells, 8)
        # A sample lies in the cell whose corners have all of its weight.
        cell = torch.stack([weights[row].sum(0) for row in corners]).argmax(0)
        for number in cell.unique().tolist():
            inside = (cell == number).nonzero()[:, 0]
            corner = weights[corners[number]][:, inside]  # (8, m)
            rows = (corner[:, None] * parts[None, :, inside]).flatten(0, 1)
            products, wanted = rows @ rows.t(), rows @ error[pick[inside]]
            for fit, share in fits:
                fit.products[number] += share * worth * products
                fit.wanted[number] += share * worth * wanted
                fit.seen = True

    def fade(self, share: float) -> None:
        """Let everything so far count for less."""
        for fit in self.fits.values():
            fit.products *= share
            fit.wanted *= share

    def take(self, other: FilterFit) -> None:
        """Add what another collected."""
        for key, fit in self.fits.items():
            fit.products += other.fits[key].products
            fit.wanted += other.fits[key].wanted
            fit.seen = fit.seen or other.fits[key].seen

    def tables(self) -> LoopFilter:
        """The filter that was found."""
        found = LoopFilter()
        self.give(found)
        return found

    def give(self, loop_filter: LoopFilter) -> None:
        """Put the tables that were found into a filter."""
        tables = (loop_filter.y, loop_filter.u, loop_filter.v)
        for (plane, form, knot), fit in self.fits.items():
            tables[plane][form, knot] = fit.solve()


class _Recorder:
    """Stands in for a filter and keeps what it was given last."""

    def __init__(self, inner) -> None:  # type: ignore[no-untyped-def]
        self.inner = inner
        self.given: tuple[Planes, int, int] | None = None

    @property
    def ways(self) -> tuple[Tensor, ...]:
        return self.inner.ways

    def __call__(
        self,
        planes: Planes,
        qp: Tensor,
        form: Tensor,
        moves: Sequence[Tensor] | None = None,
        *,
        fitted: bool = True,
    ) -> Planes:
        if fitted:
            self.given = (planes, int(qp), int(form))
        return self.inner(planes, qp, form, moves, fitted=fitted)


def with_filter(network: PredictiveNetwork) -> PredictiveNetwork:
    """The same network with a filter; one that changes nothing where it had none."""
    if network.filter is not None:
        return copy.deepcopy(network)
    made = PredictiveNetwork(replace(network.config, loop_filter=True))
    made.load_state_dict(network.state_dict(), strict=False)
    return made.requires_grad_(False).eval()


def unfiltered(
    network: PredictiveNetwork, clips: Iterable[Clip], qps: Sequence[int]
) -> Iterator[tuple[Planes, Planes, int, int]]:
    """Frames of these clips as the networks make them, their sources, QPs and forms; of I and P."""
    for clip in clips:
        height, width = clip[0][0].shape
        info = VideoInfo(width=width, height=height, frame_count=len(clip))
        coder = open_coder(network, (height, width))
        inner = coder.network.filter
        coder.network.filter = recorder = _Recorder(inner)
        try:
            for qp in qps:
                frames = [Frame(planes=planes, pts=number) for number, planes in enumerate(clip)]
                options = EncodeOptions(qp=qp, gop=len(clip))
                for unit in encode_frames(options, frames, info, coder=coder):
                    if unit.layer == 0 and recorder.given is not None:
                        frame = frames[unit.picture]
                        source = to_planes(frame, info, coder.size, torch.empty(0))
                        yield recorder.given[0], source, *recorder.given[1:]
                        recorder.given = None
        finally:
            coder.network.filter = inner
