"""Groups side by side: their results in order, bounded, whole or with the error where it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from nvc.predictive.lanes import side_by_side


def grouped(count: int, size: int) -> Iterator[tuple[bool, int]]:
    return ((number % size == 0, number) for number in range(count))


def squares(items: Iterator[int]) -> Iterator[tuple[int, int]]:
    """The square of each item, after having seen two more; the later the item the faster."""
    seen: list[int] = []
    for item in items:
        seen.append(item)
        if len(seen) > 2:
            time.sleep(0.002 / (1 + item))
            yield seen.pop(0) ** 2, threading.current_thread()
    yield from ((item**2, threading.current_thread()) for item in seen)


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize(("count", "size"), [(0, 4), (1, 4), (4, 4), (5, 4), (29, 4), (9, 1)])
def test_results_come_in_order(lanes: int, count: int, size: int) -> None:
    found = side_by_side(grouped(count, size), squares, lanes=lanes, ahead=5, keeps=2)
    assert [value for value, _ in found] == [number**2 for number in range(count)]


def test_groups_have_threads_of_their_own_and_leave_those_of_torch_alone() -> None:
    threads = torch.get_num_threads()
    found = list(side_by_side(grouped(12, 4), squares, lanes=2, ahead=5, keeps=2))
    assert len({thread for _, thread in found}) == 3
    assert threading.current_thread() not in {thread for _, thread in found}
    assert torch.get_num_threads() == threads


def test_what_is_no_gain_runs_in_the_callers_thread() -> None:
    """One group, and a group too long to be kept."""
    for count, size in ((4, 4), (40, 30)):
        found = list(side_by_side(grouped(count, size), squares, lanes=2, ahead=5, keeps=2))
        assert {thread for _, thread in found} == {threading.current_thread()}
        assert len(found) == count


def test_no_more_is_read_or_kept_than_allowed() -> None:
    """Of 100 groups of 10, 3 lanes that keep 2 results, while the first result is looked at."""
    read = 0

    def source() -> Iterator[tuple[bool, int]]:
        nonlocal read
        for entry in grouped(1000, 10):
            read += 1
            yield entry

    results = side_by_side(source(), squares, lanes=3, ahead=20, keeps=2)
    assert next(results)[0] == 0
    time.sleep(0.1)
    assert read <= 31
    results.close()


def test_an_error_comes_after_the_results_before_it_and_ends_all() -> None:
    def fails(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            if item == 6:
                raise ValueError("six")
            yield item

    before = threading.active_count()
    found = []
    with pytest.raises(ValueError, match="six"):
        for value in side_by_side(grouped(40, 4), fails, lanes=2, ahead=5, keeps=1):
            found.append(value)
    assert found == [0, 1, 2, 3, 4, 5]
    assert threading.active_count() == before


def test_an_error_of_the_source_ends_the_lanes() -> None:
    def breaks() -> Iterator[tuple[bool, int]]:
        yield from grouped(10, 4)
        raise OSError("gone")

    before = threading.active_count()
    with pytest.raises(OSError, match="gone"):
        list(side_by_side(breaks(), squares, lanes=2, ahead=5, keeps=1))
    assert threading.active_count() == before
