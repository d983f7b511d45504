"""Groups of pictures side by side in threads, their results in order.

The networks' products and the compiled kernels let go of the interpreter, so threads of one process
do here what processes would, without handing pictures from one to another. Within a lane everything
is as it would be alone, on one thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Stopped(Exception):
    """Nobody wants the results any more."""


class _Lane(Generic[Item, Result]):
    """One group: a thread, what it still has to do and what it has done."""

    def __init__(
        self,
        work: Callable[[Iterator[Item]], Iterator[Result]],
        changed: threading.Condition,
        keeps: int,
    ) -> None:
        self.waiting: deque[Item] = deque()
        self.results: deque[Result] = deque()
        self.complete = self.done = self.stopped = False
        self.error: BaseException | None = None
        self._work, self._changed, self._keeps = work, changed, keeps
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def put(self, item: Item) -> None:
        """One more item."""
        with self._changed:
            self.waiting.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """No more items come."""
        with self._changed:
            self.complete = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Results are not wanted any more."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def take(self, last: _Lane[Item, Result], room: int) -> tuple[list[Result], bool]:
        """Results there are, and whether fewer than `room` items wait in the lane `last`.

        Waits until there is something to be done.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.results or self.done or len(last.waiting) < room)
            results = list(self.results)
            self.results.clear()
            self._changed.notify_all()
            return results, len(last.waiting) < room

    def finished(self) -> bool:
        """Whether all results are taken; raises what the work raised."""
        with self._changed:
            over = self.done and not self.results
        if over and self.error is not None:
            raise self.error
        return over

    def _run(self) -> None:
        torch.set_num_threads(1)
        try:
            for result in self._work(self._items()):
                with self._changed:
                    self._changed.wait_for(lambda: self.stopped or len(self.results) < self._keeps)
                    if self.stopped:
                        return
                    self.results.append(result)
                    self._changed.notify_all()
        except _Stopped:
            return
        except BaseException as error:  # raised again where the results are read
            self.error = error
        finally:
            with self._changed:
                self.done = True
                self._changed.notify_all()

    def _items(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.waiting or self.complete or self.stopped)
                if self.stopped:
                    raise _Stopped
                if not self.waiting:
                    return
                item = self.waiting.popleft()
                self._changed.notify_all()
            yield item


def side_by_side(
    items: Iterable[tuple[bool, Item]],
    work: Callable[[Iterator[Item]], Iterator[Result]],
    *,
    lanes: int,
    ahead: int,
    keeps: int,
) -> Iterator[Result]:
    """What `work` makes of the items, in order, worked on in groups side by side.

    items: (whether it starts a group, item), taken in the caller's own thread; work: of one group
    or of several that follow each other; lanes: groups at a time; ahead: items of a group that may
    wait to be worked on; keeps: results of a group that may wait for their turn. A single group, or
    a first one longer than `ahead`, is worked on in the caller's thread, and all after it. Raises
    what `work` raises, after the results before it.
    """
    source = iter(items)
    begun: list[Item] = []
    following: tuple[bool, Item] | None = None
    if lanes > 1:
        for starts, item in source:
            if begun and (starts or len(begun) >= ahead):
                following = (starts, item)
                break
            begun.append(item)
    rest = source if following is None else chain((following,), source)
    if following is None or not following[0]:
        yield from work(chain(begun, (item for _, item in rest)))
        return
    threads = torch.get_num_threads()
    changed = threading.Condition()
    running: deque[_Lane[Item, Result]] = deque()
    try:
        rest = chain(((number == 0, item) for number, item in enumerate(begun)), rest)
        yield from _in_order(rest, running, lambda: _Lane(work, changed, keeps), lanes, ahead)
    finally:
        for lane in running:
            lane.stop()
        for lane in running:
            lane.thread.join()
        torch.set_num_threads(threads)  # each lane has set its own, and what new threads begin with


def _in_order(
    source: Iterator[tuple[bool, Item]],
    running: deque[_Lane[Item, Result]],
    open_lane: Callable[[], _Lane[Item, Result]],
    lanes: int,
    ahead: int,
) -> Iterator[Result]:
    """Feed the last lane and read the first, whichever can go on."""
    upcoming = next(source, None)
    while upcoming is not None or running:
        if upcoming is None or (upcoming[0] and len(running) == lanes):
            room = 0  # the last group has all its items, or all there are
            running[-1].close()
        else:
            room = ahead
        if upcoming is not None and upcoming[0] and room:
            if running:
                running[-1].close()
            running.append(open_lane())
            running[-1].put(upcoming[1])
            upcoming = next(source, None)
            continue
        results, wants_more = running[0].take(running[-1], room)
        yield from results
        if running[0].finished():
            running.popleft().thread.join()
        if wants_more and upcoming is not None:
            running[-1].put(upcoming[1])
            upcoming = next(source, None)
