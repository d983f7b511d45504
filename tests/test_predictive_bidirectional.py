"""Motion between two references: what is expected of it, and the search of both fields at once."""

from __future__ import annotations

import numpy as np

from nvc.predictive.bidirectional import direct_fields, search_pair
from nvc.predictive.plane_kernels import move


def _picture(shift: float) -> np.ndarray:
    """Smooth texture (64, 96) uint8 moved to the right by `shift` samples."""
    y, x = np.mgrid[:64, :96].astype(np.float64)
    x = x - shift
    waves = (
        np.sin(x / 3.1 + y / 7.7) + np.sin(y / 2.9 - x / 11.3) + np.sin(x / 5.3) * np.cos(y / 4.1)
    )
    return np.round(128 + 38 * waves).clip(0, 255).astype(np.uint8)


def _moved(picture: np.ndarray, field: np.ndarray) -> np.ndarray:
    out = np.empty(picture.shape, np.float32)
    move(picture.astype(np.float32), field, 1, out)
    return out


def test_a_frame_between_two_lies_on_the_way() -> None:
    """An even field of 12 to the left, a third of the way: 4 back, 8 on; the other way likewise."""
    field = np.zeros((2, 4, 2), np.int32)
    field[..., 0], field[..., 1] = -12, 6
    for link, from_later in ((field, True), (-field, False)):
        first, second = direct_fields(link, 1, 2, from_later=from_later)
        assert (first == [-4, 2]).all() and (second == [8, -4]).all()
        assert first.dtype == np.int32 and first.shape == field.shape


def test_each_square_expects_one_vector_rounded_in_integers() -> None:
    field = np.arange(16, dtype=np.int32).reshape(2, 4, 2)
    first, second = direct_fields(field, 1, 1, from_later=True)
    sums = field.reshape(1, 2, 2, 2, 2).sum(axis=(1, 3))  # of squares (1, 2, 2)
    assert (first[::2, ::2] == np.floor(sums / 8 + 0.5)).all()
    assert (second[::2, ::2] == np.floor(-sums / 8 + 0.5)).all()
    assert (first[0, 0] == first[1, 1]).all() and (first[0, 2] == first[1, 3]).all()


def test_even_motion_needs_nothing_but_what_is_expected() -> None:
    """Away from the edges the search leaves direct fields that are right as they are."""
    expected = tuple(np.full((8, 12, 2), value, np.int32) * [1, 0] for value in (-8, 8))
    direct = tuple(field.astype(np.int32) for field in expected)
    found = search_pair(_picture(2), _picture(0), _picture(4), direct, weight=60.0)
    inner = (slice(2, -2), slice(2, -2))
    assert all((a[inner] == b[inner]).all() for a, b in zip(found, direct, strict=True))


def test_the_search_finds_motion_that_was_not_expected() -> None:
    """From fields of zeros, a moving picture is predicted by the mean of both references."""
    source, earlier, later = _picture(3), _picture(0), _picture(5)
    nothing = np.zeros((8, 12, 2), np.int32)
    inner = (slice(8, -8), slice(8, -8))
    errors = []
    for rounds in (1, 2):
        first, second = search_pair(
            source, earlier, later, (nothing, nothing), weight=10.0, rounds=rounds
        )
        mean = (_moved(earlier, first) + _moved(later, second)) / 2
        errors.append(np.square(mean - source)[inner].mean())
    still = np.square((earlier.astype(float) + later) / 2 - source)[inner].mean()
    assert errors[0] < 0.05 * still and errors[1] <= errors[0]
