"""Work that must not depend on the number of threads: each piece on one, several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def side_by_side(make: Callable[[int], T], numbers: Iterable[int], workers: int) -> Iterator[T]:
    """make(n) of each number in order, `workers` at a time on one torch thread each."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        pending: deque[Future[T]] = deque()
        try:
            for index in numbers:
                pending.append(pool.submit(make, index))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            # A worker's setting is also what threads made later would start with.
            torch.set_num_threads(threads)
