"""The temporal filter of sources: what a made scene gains by it, and what it must leave alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nvc.predictive.level import qp_distortion
from nvc.predictive.network import Planes
from nvc.predictive.temporal_filter import ANCHOR_REACH, INTRA_REACH, filtered, surrounded

QP = 40
NOISE = 2 / 255  # standard deviation


def scene(step: int, *, noise: float = NOISE, shape: tuple[int, int] = (64, 96)) -> Planes:
    """A smooth picture two samples further left with each step, with noise of its own."""
    generator = torch.Generator().manual_seed(1000 + step)

    def plane(rows: int, columns: int, scale: int) -> Tensor:
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        across = (x * scale + 2 * step) / 7.0
        picture = 0.5 + 0.2 * torch.sin(across) * torch.cos(y * scale / 5.0)
        return (picture + noise * torch.randn(rows, columns, generator=generator))[None, None]

    rows, columns = shape
    chroma = rows // 2, columns // 2
    return plane(rows, columns, 1), plane(*chroma, 2), plane(*chroma, 2)


def error(planes: Planes, other: Planes) -> list[float]:
    """Squared error of each plane, away from the edges, which motion brings in from outside."""
    inner = (..., slice(8, -8), slice(16, -16))
    return [
        float((a[inner] - b[inner]).square().mean()) for a, b in zip(planes, other, strict=True)
    ]


@pytest.mark.parametrize("reach", [INTRA_REACH, ANCHOR_REACH])
def test_noise_falls_in_a_moving_scene(reach) -> None:
    """More than a third of it, in every plane: what several frames do not share is not coded."""
    found = filtered(scene(0), scene, QP, reach)
    clean = scene(0, noise=0.0)
    for before, after in zip(error(scene(0), clean), error(found, clean), strict=True):
        assert after < 0.65 * before
    assert [plane.shape for plane in found] == [plane.shape for plane in scene(0)]


def test_another_scene_is_not_mixed_in() -> None:
    """Cuts to black on either side: nothing changes but by rounding."""
    black = tuple(torch.zeros_like(plane) for plane in scene(0))
    asked: list[int] = []

    def around(step: int) -> Planes:
        asked.append(step)
        return black

    found = filtered(scene(0), around, QP, ANCHOR_REACH)
    for mine, plane in zip(found, scene(0), strict=True):
        torch.testing.assert_close(mine, plane, atol=1e-6, rtol=0)
    assert asked == [-1, -2, 1, 2]  # nothing further behind the cuts is looked at


def test_a_frame_alone_stays_as_it_is() -> None:
    found = filtered(scene(0), lambda _: None, QP, INTRA_REACH)
    for mine, plane in zip(found, scene(0), strict=True):
        assert torch.equal(mine, plane)


def test_fine_qps_change_less_than_coarse_ones() -> None:
    """What is coded finely keeps its grain."""
    changes = [error(filtered(scene(0), scene, qp, INTRA_REACH), scene(0))[0] for qp in (0, 24, 63)]
    assert changes[0] < 0.8 * changes[1] < changes[2]


def test_distortion_of_a_qp_is_the_slope_of_rate() -> None:
    """At D = qp_distortion a bit saves as much error as the coder's lambda asks for it."""
    distortion = qp_distortion(30)
    step = 1e-4
    bits = 0.5 * np.log2(distortion / (distortion * (1 - step)))
    lambda_ = bits / (distortion * step)
    assert lambda_ == pytest.approx(16384 * (64 / 16384) ** (30 / 63), rel=1e-3)


def test_each_item_comes_with_those_around_it() -> None:
    found = list(surrounded("abcde", before=1, after=2))
    assert [item for item, _ in found] == list("abcde")
    assert [near for _, near in found] == [
        {1: "b", 2: "c"},
        {-1: "a", 1: "c", 2: "d"},
        {-1: "b", 1: "d", 2: "e"},
        {-1: "c", 1: "e"},
        {-1: "d"},
    ]


def test_no_more_is_read_ahead_than_is_needed() -> None:
    read: list[int] = []

    def items():
        for number in range(100):
            read.append(number)
            yield number

    for number, _ in surrounded(items(), before=3, after=8):
        assert read[-1] <= number + 8
