"""BD-rate and BD-PSNR against the `bjontegaard` package and against cases known by hand."""

import bjontegaard
import numpy as np
import pytest

from nvc.errors import UsageError
from nvc.evaluation.bdrate import bd_psnr, bd_rate, pchip_integral

ANCHOR = ([100, 210, 430, 900, 1700], [30.1, 33.0, 35.6, 37.9, 40.2])
TEST = ([80, 190, 350, 800, 1500], [30.4, 33.3, 35.2, 38.5, 40.9])


def random_curve(generator: np.random.Generator) -> tuple[list[float], list[float]]:
    points = int(generator.integers(2, 9))
    rate = np.exp(np.cumsum(generator.uniform(0.1, 0.9, points)))
    quality = 30 + np.cumsum(generator.uniform(0.05, 3, points))
    return rate.tolist(), quality.tolist()


def test_agrees_with_the_bjontegaard_package() -> None:
    generator = np.random.default_rng(0)
    curves = [(ANCHOR, TEST)]
    curves += [(random_curve(generator), random_curve(generator)) for _ in range(40)]
    compared = 0
    for anchor, test in curves:
        if max(anchor[1][0], test[1][0]) < min(anchor[1][-1], test[1][-1]):
            expected = bjontegaard.bd_rate(
                *anchor, *test, method="pchip", require_matching_points=False, min_overlap=0
            )
            assert bd_rate(*anchor, *test) == pytest.approx(expected, rel=1e-6, abs=1e-6)
            compared += 1
        if max(anchor[0][0], test[0][0]) < min(anchor[0][-1], test[0][-1]):
            expected = bjontegaard.bd_psnr(
                *anchor, *test, method="pchip", require_matching_points=False, min_overlap=0
            )
            assert bd_psnr(*anchor, *test) == pytest.approx(expected, rel=1e-6, abs=1e-6)
            compared += 1
    assert compared > 40


def test_a_constant_factor_in_rate_is_that_many_percent() -> None:
    rate, quality = ANCHOR
    assert bd_rate(rate, quality, [r * 0.8 for r in rate], quality) == pytest.approx(-20)
    assert bd_rate(rate, quality, rate, quality) == pytest.approx(0, abs=1e-9)
    assert bd_psnr(rate, quality, rate, [q + 0.7 for q in quality]) == pytest.approx(0.7)


def test_the_order_of_the_points_does_not_matter() -> None:
    backwards = tuple(values[::-1] for values in TEST)
    assert bd_rate(*ANCHOR, *backwards) == bd_rate(*ANCHOR, *TEST)


def test_integral_of_a_straight_line_is_exact() -> None:
    x = np.array([0.0, 1.0, 2.5, 4.0])
    assert pchip_integral(x, 2 * x + 1, 0.5, 3.5) == pytest.approx(15)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (([1, 2], [30]), "2 rates for 1"),
        (([1], [30]), "at least 2 points"),
        (([1, 2], [31, 30]), "rise strictly"),
        (([0, 2], [30, 31]), "positive"),
        (([1, 2], [50, 51]), "share no range of quality"),
    ],
)
def test_curves_that_cannot_be_compared_are_refused(test, message) -> None:
    with pytest.raises(UsageError, match=message):
        bd_rate(*ANCHOR, *test)
