"""Find the ways along which single frames would move the loop filter's tables.

What least squares would change of all rows of a table, for one frame, is a point in the space of
its coefficients; the ways are the principal components of these points, in the measure of what they
take off the error, a share of each frame's own. So a way is one unit long where moving along it
changes the picture by as much as its error is, on average.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvc.predictive.filter_fit import ERROR_FLOOR
from nvc.predictive.loop_filter import LEVELS, SHAPES, WAYS, LoopFilter, PlaneShape, differences
from nvc.predictive.network import Planes

_RIDGE = 1e-3  # of the mean over coefficients


class _PlaneWays:
    """Sums and single frames of one plane."""

    def __init__(self, shape: PlaneShape) -> None:
        count = shape.coefficients
        self.shape = shape
        self.products = torch.zeros(count, count, dtype=torch.float64)
        self.wanted: list[Tensor] = []

    def add(self, made: Tensor, plain: Tensor, source: Tensor) -> None:
        parts = LEVELS * differences(made, self.shape)[0].flatten(1)  # (coefficients, samples)
        left = LEVELS * (source - plain).flatten()
        worth = 1 / (left.numel() * (left.square().mean() + ERROR_FLOOR))
        self.products += (worth * (parts @ parts.t())).double()
        self.wanted.append((worth * (parts @ left)).double())

    def ways(self, count: int) -> Tensor:
        """The first `count` of them, (count, coefficients)."""
        products = self.products / max(len(self.wanted), 1)
        products = products + _RIDGE * products.diagonal().mean() * torch.eye(len(products))
        factor = torch.linalg.cholesky(products)
        wanted = torch.stack(self.wanted, dim=1)  # (coefficients, frames)
        points = torch.linalg.solve_triangular(factor, wanted, upper=False)
        axes, _, _ = torch.linalg.svd(points, full_matrices=True)
        found = torch.linalg.solve_triangular(factor.t(), axes[:, :count], upper=True)
        return found.t().float()


class WayFit:
    """Collects frames, then gives the ways of all planes."""

    def __init__(self) -> None:
        self.planes = [_PlaneWays(shape) for shape in SHAPES]

    def add(self, made: Planes, plain: Planes, source: Planes) -> None:
        """One frame as the networks made it and behind its tables; planes (1, 1, H, W)."""
        for fit, *planes in zip(self.planes, made, plain, source, strict=True):
            fit.add(*planes)

    def take(self, other: WayFit) -> None:
        """Add what another collected."""
        for mine, theirs in zip(self.planes, other.planes, strict=True):
            mine.products += theirs.products
            mine.wanted += theirs.wanted

    def give(self, loop_filter: LoopFilter) -> None:
        """Put what was found into a filter."""
        for fit, kept, count in zip(self.planes, loop_filter.ways, WAYS, strict=True):
            kept.copy_(fit.ways(count))
