"""One thread that decodes for all viewers, a frame at a time, so that none waits for another."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor

from nvc.errors import StreamError
from nvc.serve.cache import ByteCache
from nvc.serve.sources import Run, Source
from nvc.video.frames import Frame

MAX_RUNS = 6
MAX_SOURCES = 24


class Abandoned(Exception):
    """The viewer who asked for a frame is gone."""


class Decoder:
    """Frames of sources, decoded when they are asked for and kept in a cache.

    Each step decodes one frame; the steps of all who ask take turns. Runs are gone on with where
    one stands before the frame that is wanted, between its entry and it. No more ask at a time than
    there are runs: else each would end the run of another, and none would ever arrive.
    """

    def __init__(self, cache: ByteCache[Frame], *, name: str) -> None:
        self._cache = cache
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._sources: OrderedDict[Hashable, Source] = OrderedDict()
        self._runs: OrderedDict[tuple[Hashable, int], Run] = OrderedDict()
        self._turns = asyncio.Semaphore(MAX_RUNS - 1)  # one is left for what is prepared
        self.waiting = 0

    async def frame(
        self,
        key: Hashable,
        make: Callable[[], Source],
        number: int,
        *,
        gone: Callable[[], Awaitable[bool]] | None = None,
    ) -> Frame:
        """Frame `number` of the source that `make` gives, known as `key`.

        `gone` is asked before every step. Raises Abandoned when it says yes, NvcError when the
        frame cannot be had.
        """
        self.waiting += 1
        try:
            found = self._cache.get((key, number))
            if found is not None:
                return found
            async with self._turns:
                while found is None:
                    if gone is not None and await gone():
                        raise Abandoned
                    found = await self.step(key, make, number)
            return found
        finally:
            self.waiting -= 1

    async def step(self, key: Hashable, make: Callable[[], Source], number: int) -> Frame | None:
        """Decode one frame towards `number`; that frame if it is reached."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._step, key, make, number)

    async def source(self, key: Hashable, make: Callable[[], Source]) -> Source:
        """The source itself. Raises NvcError when it cannot be opened."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._source, key, make)

    def close(self) -> None:
        """Wait for the step under way and let go of everything."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for run in self._runs.values():
            run.close()

    def _source(self, key: Hashable, make: Callable[[], Source]) -> Source:
        if key not in self._sources:
            self._sources[key] = make()
            if len(self._sources) > MAX_SOURCES:
                self._sources.popitem(last=False)
        self._sources.move_to_end(key)
        return self._sources[key]

    def _step(self, key: Hashable, make: Callable[[], Source], number: int) -> Frame | None:
        kept = self._cache.get((key, number))
        if kept is not None:
            return kept
        source = self._source(key, make)
        run = self._run(key, source, number)
        try:
            found, frame = run.step()
        except BaseException:
            # A generator that raised has ended.
            self._drop((key, source.entry(number)))
            raise
        frame = frame.to("cpu")
        size = sum(plane.nbytes for plane in frame.planes)
        self._cache.put((key, found), frame, size)
        if found == number:
            return frame
        if found > number:
            raise StreamError(f"frame {number} cannot be shown: {source.ended}")
        return None

    def _run(self, key: Hashable, source: Source, number: int) -> Run:
        place = (key, source.entry(number))
        run = self._runs.get(place)
        if run is None or run.next > number:
            self._drop(place)
            run = self._runs[place] = Run(source, place[1])
            while len(self._runs) > MAX_RUNS:
                self._drop(next(iter(self._runs)))
        self._runs.move_to_end(place)
        return run

    def _drop(self, place: tuple[Hashable, int]) -> None:
        run = self._runs.pop(place, None)
        if run is not None:
            run.close()
