"""Bjontegaard deltas between two rate-distortion curves, interpolated by PCHIP over log rate.

PCHIP is the shape-preserving cubic of Fritsch and Butland (1984) with the one-sided three-point
end slopes of Moler's ``pchiptx``, which is what scipy and the ``bjontegaard`` package use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nvc.errors import UsageError


def pchip_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slopes (n,) at the nodes x (n,), strictly increasing, of the values y (n,); float64."""
    step = np.diff(x)
    secant = np.diff(y) / step
    if len(x) == 2:
        return np.array([secant[0], secant[0]])
    left, right = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
    slopes = np.zeros(len(x))
    # A node where the secants disagree in sign, or one is flat, is an extremum: slope zero.
    same = secant[:-1] * secant[1:] > 0
    inverse = left[same] / secant[:-1][same] + right[same] / secant[1:][same]
    slopes[1:-1][same] = (left + right)[same] / inverse
    slopes[0] = _end_slope(step[0], step[1], secant[0], secant[1])
    slopes[-1] = _end_slope(step[-1], step[-2], secant[-1], secant[-2])
    return slopes


def _end_slope(step: float, next_step: float, secant: float, next_secant: float) -> float:
    slope = ((2 * step + next_step) * secant - step * next_secant) / (step + next_step)
    if np.sign(slope) != np.sign(secant):
        return 0.0
    if np.sign(secant) != np.sign(next_secant) and abs(slope) > 3 * abs(secant):
        return 3 * secant
    return float(slope)


def pchip_integral(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Exact integral from low to high, both inside [x[0], x[-1]], of the PCHIP through (x, y)."""
    slopes = pchip_slopes(x, y)
    total = 0.0
    for i in range(len(x) - 1):
        start, stop = max(low, x[i]), min(high, x[i + 1])
        if stop <= start:
            continue
        step = x[i + 1] - x[i]
        secant = (y[i + 1] - y[i]) / step
        cubic = (slopes[i] + slopes[i + 1] - 2 * secant) / step**2
        square = (3 * secant - 2 * slopes[i] - slopes[i + 1]) / step
        a, b = start - x[i], stop - x[i]
        total += (
            cubic * (b**4 - a**4) / 4
            + square * (b**3 - a**3) / 3
            + slopes[i] * (b**2 - a**2) / 2
            + y[i] * (b - a)
        )
    return float(total)


def _curve(rate: Sequence[float], quality: Sequence[float], name: str) -> np.ndarray:
    """Points (2, n) of log rate and quality, both strictly increasing."""
    if len(rate) != len(quality):
        raise UsageError(f"{name}: {len(rate)} rates for {len(quality)} qualities")
    points = np.array([rate, quality], dtype=np.float64)
    if points.shape[1] < 2:
        raise UsageError(f"{name}: a curve needs at least 2 points, not {points.shape[1]}")
    if not np.isfinite(points).all() or (points[0] <= 0).any():
        raise UsageError(f"{name}: rates must be positive and qualities finite")
    points = points[:, np.argsort(points[0])]
    if (np.diff(points) <= 0).any():
        raise UsageError(f"{name}: quality must rise strictly with rate")
    points[0] = np.log(points[0])
    return points


def _mean_difference(anchor: np.ndarray, test: np.ndarray, over: int, what: str) -> float:
    """Mean over the overlap of row ``over`` of test minus anchor in the other row."""
    low = max(anchor[over, 0], test[over, 0])
    high = min(anchor[over, -1], test[over, -1])
    if high <= low:
        raise UsageError(f"the curves share no range of {what}: nothing to compare")
    of = 1 - over
    areas = [pchip_integral(curve[over], curve[of], low, high) for curve in (anchor, test)]
    return (areas[1] - areas[0]) / (high - low)


def bd_rate(
    anchor_rate: Sequence[float],
    anchor_quality: Sequence[float],
    test_rate: Sequence[float],
    test_quality: Sequence[float],
) -> float:
    """Average rate change in percent of test against anchor at equal quality; negative saves bits.

    Rates in any one unit, qualities in dB (or any increasing measure), at least 2 points a curve.
    Raises UsageError for curves that do not rise or do not overlap in quality.
    """
    anchor = _curve(anchor_rate, anchor_quality, "anchor")
    test = _curve(test_rate, test_quality, "test")
    return float(np.expm1(_mean_difference(anchor, test, 1, "quality")) * 100)


def bd_psnr(
    anchor_rate: Sequence[float],
    anchor_quality: Sequence[float],
    test_rate: Sequence[float],
    test_quality: Sequence[float],
) -> float:
    """Average quality change in dB of test against anchor at equal rate; positive is better.

    Arguments and errors as for ``bd_rate``; the curves must overlap in rate.
    """
    anchor = _curve(anchor_rate, anchor_quality, "anchor")
    test = _curve(test_rate, test_quality, "test")
    return _mean_difference(anchor, test, 0, "rate")
