"""Coding order: every frame once, after what it refers to, held back as briefly as can be."""

from __future__ import annotations

from itertools import islice

import pytest

from nvc.bitstream.units import MAX_REORDER
from nvc.predictive.structure import BFRAMES, Place, coding_order, in_coding_order


@pytest.mark.parametrize(
    ("frames", "bframes", "numbers"),
    [
        (9, 3, [0, 4, 2, 1, 3, 8, 6, 5, 7]),
        (9, 7, [0, 8, 4, 2, 1, 3, 6, 5, 7]),
        (5, 1, [0, 2, 1, 4, 3]),
        (5, 0, [0, 1, 2, 3, 4]),
        (3, 3, [0, 2, 1]),
        (7, 3, [0, 4, 2, 1, 3, 6, 5]),
        (1, 3, [0]),
        (0, 3, []),
    ],
)
def test_the_middle_comes_first(frames: int, bframes: int, numbers: list[int]) -> None:
    assert [place.number for place in coding_order(frames, bframes)] == numbers


@pytest.mark.parametrize("bframes", BFRAMES)
@pytest.mark.parametrize("gop", [1, 2, 5, 8, 32])
@pytest.mark.parametrize("frames", [1, 2, 5, 34])
def test_every_frame_comes_once_and_after_its_references(
    frames: int, gop: int, bframes: int
) -> None:
    order = list(in_coding_order(range(10, 10 + frames), gop=gop, bframes=bframes, first=10))
    assert sorted(place.number for place, _ in order) == list(range(10, 10 + frames))
    done: set[int] = set()
    gone = start = 0  # frames under `gone` are referred to no more
    for place, item in order:
        number = place.number
        assert item == number
        assert set(place.references) <= done
        if (number - 10) % gop == 0:
            assert place == Place(number)
            start = gone = number
        else:
            assert place.earlier is not None and start <= place.earlier < number
            assert place.later is None or (number < place.later and place.depth > 0)
            assert place.earlier >= gone
            gone = place.earlier
            # What a decoder relies on: no frame before the earlier reference is still to come.
            assert set(range(start, gone)) <= done
        done.add(number)
        missing = set(range(10, max(done))) - done
        assert max(done) - min(missing, default=number) < MAX_REORDER
    ends = [n for n in range(10, 10 + frames) if (n - 10) % gop == gop - 1 or n == 9 + frames]
    assert all(place.later is None for place, _ in order if place.number in ends)


def test_depths_and_references_of_a_pyramid() -> None:
    places = {place.number: place for place in coding_order(9, 7)}
    assert [places[number].depth for number in range(9)] == [0, 3, 2, 3, 1, 3, 2, 3, 0]
    assert places[8].references == (0,) and places[5].references == (4, 6)
    assert places[0].references == ()


def test_no_more_is_read_than_the_next_anchor() -> None:
    read = []

    def source():
        for number in range(100):
            read.append(number)
            yield number

    for bframes, expected in ((0, 2), (3, 5)):
        read.clear()
        assert len(list(islice(in_coding_order(source(), gop=32, bframes=bframes), 2))) == 2
        assert len(read) == expected


def test_other_numbers_of_b_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="bframes is 2; allowed: 0, 1, 3, 7"):
        coding_order(5, 2)
