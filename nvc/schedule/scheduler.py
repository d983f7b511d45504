"""The interface of the back-ends, what they have in common, and the choice among them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from nvc.errors import UsageError
from nvc.schedule.task import Outcome, Task

MAX_JOBS = 256


def open_scheduler(*, jobs: int = 1, cluster: str | None = None) -> Scheduler:
    """A scheduler, to be used in a `with`.

    jobs: processes on this machine; with 1, tasks run in this process. cluster: the address of a
    Ray cluster, or `auto` for the one this machine is part of, or else one made of this machine.
    Raises UsageError for what cannot be meant and for a cluster without the extra `cluster`.
    """
    if not 1 <= jobs <= MAX_JOBS:
        raise UsageError(f"jobs is {jobs}; allowed: 1 to {MAX_JOBS}")
    if cluster is not None:
        if jobs != 1:
            raise UsageError("jobs and cluster were given; allowed: one of them")
        from nvc.schedule.ray_cluster import RayScheduler

        return RayScheduler(cluster)
    if jobs == 1:
        return InlineScheduler()
    from nvc.schedule.processes import ProcessScheduler

    return ProcessScheduler(jobs)


class Scheduler(ABC):
    """Runs tasks; a context manager, which leaves no worker behind. For one thread."""

    @abstractmethod
    def map(
        self,
        function: Callable[..., Any],
        tasks: Iterable[Task],
        *,
        retries: int = 2,
        ahead: int | None = None,
        ordered: bool = True,
    ) -> Iterator[tuple[int, Any]]:
        """(number of the task, function(*task.arguments)) of every task, each exactly once.

        function: of a module, so that a worker can import it. tasks: drawn only as needed; at most
        `ahead` (by default twice as many as run at once) are drawn and not yet given out, which
        bounds the memory. ordered: in the order of the tasks, else as they are done. retries: how
        often a task is run again whose worker died; what it left behind (a file half written) must
        not hinder that. Raises what a task raises, at its turn; WorkerError after the last retry.
        Abandoning the iterator stops what is under way. One map at a time.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop every worker; done by leaving the `with`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class InlineScheduler(Scheduler):
    """Every task in this process, when its result is asked for."""

    def map(
        self,
        function: Callable[..., Any],
        tasks: Iterable[Task],
        *,
        retries: int = 2,
        ahead: int | None = None,
        ordered: bool = True,
    ) -> Iterator[tuple[int, Any]]:
        for number, task in enumerate(tasks):
            yield number, function(*task.arguments)

    def close(self) -> None:
        """Nothing to stop."""


class WorkerScheduler(Scheduler):
    """What back-ends with workers have in common: drawing tasks, and the order of results."""

    def map(
        self,
        function: Callable[..., Any],
        tasks: Iterable[Task],
        *,
        retries: int = 2,
        ahead: int | None = None,
        ordered: bool = True,
    ) -> Iterator[tuple[int, Any]]:
        if ahead is not None and ahead < 1:
            raise ValueError(f"ahead is {ahead}; allowed: 1 and more")
        source: Iterator[tuple[int, Task]] | None = enumerate(tasks)
        under_way: set[int] = set()
        done: dict[int, Outcome] = {}
        turn = 0
        try:
            while True:
                room = ahead or 2 * self.width()
                while source is not None and len(under_way) + len(done) < room:
                    drawn = next(source, None)
                    if drawn is None:
                        source = None
                        break
                    number, task = drawn
                    self.submit(number, function, task, retries)
                    under_way.add(number)
                if not under_way and not done:
                    return
                number = turn if ordered else next(iter(done), turn)
                if number not in done:
                    for finished, outcome in self.wait():
                        under_way.discard(finished)
                        done[finished] = outcome
                    continue
                turn += 1
                yield number, done.pop(number).result()
        finally:
            self.cancel()

    @abstractmethod
    def width(self) -> int:
        """How many tasks run at once, about."""

    @abstractmethod
    def submit(self, number: int, function: Callable[..., Any], task: Task, retries: int) -> None:
        """Take a task, to be run as soon as there is room; does not wait for that."""

    @abstractmethod
    def wait(self) -> list[tuple[int, Outcome]]:
        """Wait until tasks are done; their numbers and outcomes, each given once."""

    @abstractmethod
    def cancel(self) -> None:
        """Forget every task, stopping those under way."""
