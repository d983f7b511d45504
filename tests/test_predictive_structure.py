"""Coding order: every frame once, after what it refers to, held back as briefly as can be."""

from __future__ import annotations

from itertools import islice

import pytest

from nvc.bitstream.units import MAX_REORDER
from nvc.predictive.structure import (
    BFRAMES,
    Place,
    coding_order,
    in_coding_order,
    lead_of,
    sides,
)


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
@pytest.mark.parametrize("gop", [1, 2, 5, 8, 32, 50])
@pytest.mark.parametrize("frames", [1, 2, 5, 34, 70])
def test_every_frame_comes_once_and_after_its_references(
    frames: int, gop: int, bframes: int
) -> None:
    order: list[Place] = []
    items = [(number % gop == 0, 10 + number) for number in range(frames)]
    for ways in sides(items, bframes=bframes, first=10):
        for side in ways:
            for place, item in in_coding_order(side.items, bframes=bframes):
                seen = place.moved(side.origin, backward=side.backward)
                assert seen.number == item
                if place.number or side is ways[0]:
                    order.append(seen)
    assert sorted(place.number for place in order) == list(range(10, 10 + frames))
    done: set[int] = set()
    for start in range(10, 10 + frames, gop):
        stop = min(start + gop, 10 + frames)
        group = order[start - 10 : stop - 10]
        intra = group[0].number
        assert group[0] == Place(intra) and intra - start == lead_of(stop - start, bframes)
        assert (intra - start) % (bframes + 1) == 0 and intra - start <= min(16, len(group) // 2)
        assert bframes or intra == start
        wanted = coding_order(len(group), bframes, lead=intra - start)
        assert [place.moved(start) for place in wanted] == group
        done = {intra}
        ends = set(range(start, intra))
        for place in group[1:]:
            number = place.number
            assert set(place.references) <= done and place.references
            assert all(start <= reference < stop for reference in place.references)
            leads = number < intra
            # Those that lead to the intra frame come first.
            assert leads or ends <= done
            if place.later is not None:
                assert place.earlier < number < place.later and place.depth > 0
            else:
                assert (place.earlier > number) == leads and place.depth == 0
                further = place.older is None or (place.older > place.earlier) == leads
                assert further
            # What a decoder relies on: all between a reference and the intra frame are there.
            bound = max(place.references) if leads else min(place.references)
            assert set(range(bound, intra) if leads else range(intra, bound)) <= done
            done.add(number)
            missing = set(range(start, max(done))) - done
            assert max(done) - min(missing, default=number) < MAX_REORDER
        assert all(
            place.later is None for place in group if place.number in (start, stop - 1, intra)
        )


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
        assert len(list(islice(in_coding_order(source(), bframes=bframes), 2))) == 2
        assert len(read) == expected


def test_other_numbers_of_b_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="bframes is 2; allowed: 0, 1, 3, 7"):
        coding_order(5, 2)
