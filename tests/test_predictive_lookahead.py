"""Looking ahead: what importance says of made motion, and that GOPs stay apart."""

import numpy as np
import pytest
import torch

from nvc.predictive import lookahead
from nvc.predictive.lookahead import (
    AHEAD,
    CELL,
    Link,
    composed,
    importance,
    is_steady,
    link,
    linked,
    plan,
)

QUIET = 1e-9  # squared error of a prediction that is as good as perfect


def still(rows: int = 4, columns: int = 6, error: float = QUIET) -> Link:
    return Link(
        np.full((rows, columns), error, np.float32), np.zeros((rows, columns, 2), np.float32)
    )


def test_a_still_scene_hands_everything_back() -> None:
    assert importance([still()] * 7, 1e-3, (4, 6)) == pytest.approx(8, rel=1e-4)
    assert importance([], 1e-3, (4, 6)) == pytest.approx(1)


def test_what_cannot_be_predicted_hands_nothing_back() -> None:
    """With an error as large as the distortion half is inherited, with a far larger one nothing."""
    assert importance([still(error=1e-3)], 1e-3, (4, 6)) == pytest.approx(1.5)
    assert importance([still(error=10.0)], 1e-3, (4, 6)) == pytest.approx(1, abs=1e-3)


def test_importance_follows_the_vectors() -> None:
    """All cells of the next frame come from one cell to the right; the last from the edge."""
    moved = still()
    moved.field[..., 0] = 1
    cells = importance([moved], 1e-3, (4, 6))
    assert cells[:, 0] == pytest.approx(1)
    assert cells[:, 1:5] == pytest.approx(2, rel=1e-4)
    assert cells[:, 5] == pytest.approx(3, rel=1e-4)


def test_a_link_finds_motion_and_what_is_left() -> None:
    generator = np.random.default_rng(1)
    scene = generator.integers(0, 255, (80, 96)).astype(np.uint8)
    scene = np.repeat(np.repeat(scene, 4, 0), 4, 1)[:200, :240]
    before, after = scene[8:72, 8:104], scene[8:72, 12:108]
    found = link(after, before)
    inner = (slice(1, -1), slice(1, -2))
    assert found.field[inner][..., 0] == pytest.approx(0.5)  # 4 samples of half size, cells of 8
    assert found.field[inner][..., 1] == pytest.approx(0)
    assert found.error[inner].max() < 1e-6


def test_frames_are_linked_with_those_that_follow() -> None:
    picture = np.zeros((16, 16), np.uint8)
    counts = [len(links) for _, links in linked(range(AHEAD + 3), lambda _: picture)]
    assert counts == [AHEAD, AHEAD, *range(AHEAD, -1, -1)]


def test_no_more_frames_are_read_than_are_looked_at() -> None:
    read: list[int] = []

    def frames():
        for number in range(3 * AHEAD):
            read.append(number)
            yield number

    picture = np.zeros((16, 16), np.uint8)
    walk = linked(frames(), lambda _: picture)
    assert len(next(walk)[1]) == AHEAD
    assert len(read) <= AHEAD + 2


def test_a_frame_much_hangs_on_gets_a_finer_qp_and_its_still_places_a_higher_worth() -> None:
    half = still(4, 4)
    half.error[:, 2:] = 10.0
    size = (4 * CELL, 4 * CELL)
    change, worth = plan([[half] * 7], 32, size)
    none, even = plan([[]], 32, size)
    assert none == lookahead.OFFSET and torch.equal(even, torch.ones(1, 1, 4, 4))
    assert change < none
    assert worth[0, 0, 0, 0] > 1 > worth[0, 0, 0, 3]
    assert worth.log().mean() == pytest.approx(0, abs=1e-5)
    # On both sides of an intra frame, as much as hangs on it on one side of twice the length.
    assert plan([[half] * 4, [half] * 3], 32, size)[0] == pytest.approx(change, rel=0.05)


def test_motion_over_several_frames_follows_each_place() -> None:
    """A cell right of the middle of a field that moves right by one, then down by two."""
    still = np.zeros((4, 6), np.float32)
    fields = [np.zeros((4, 6, 2), np.float32) for _ in range(2)]
    fields[1][1, 3] = 1, 0  # the last frame's cell (1, 3) came from (1, 4) of the one before
    fields[0][1, 4] = 0, 2  # and that from (3, 4)
    found = composed([Link(still, field) for field in fields], (8, 12))
    assert (found[2:4, 6:8] == [64, 128]).all()  # a cell is 64 quarter samples wide
    assert (found[2:4, 8:10] == [0, 128]).all()
    assert found.dtype == np.int32 and np.count_nonzero(found) == 3 * 4


def test_noise_alone_is_steady_motion_and_change_are_not() -> None:
    rng = np.random.default_rng(3)
    coarse = torch.from_numpy(rng.uniform(40, 215, (1, 1, 20, 30)))
    scene = torch.nn.functional.interpolate(coarse, scale_factor=8.0, mode="bicubic")[0, 0].numpy()

    def noisy(picture: np.ndarray) -> np.ndarray:
        return (picture + rng.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8)

    still = [noisy(scene[:96, :160]) for _ in range(32)]
    other = rng.permutation(scene.ravel()).reshape(scene.shape)
    turning = [noisy(scene + (other - scene) * n / 32)[:96, :160] for n in range(32)]
    for frames, steady in (
        (still, True),
        (still[:17], True),
        (still[:16], False),
        (turning, False),
    ):
        assert is_steady(frames, lambda picture: picture) == steady
