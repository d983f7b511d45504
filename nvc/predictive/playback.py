"""Frames in the order they are shown from frames in coding order, the lost ones among them.

A frame that refers to frame n is coded behind every frame before n (structure.py). So a decoder
knows of a frame that it is lost as soon as another one refers past it, and conceals it while the
frames around it are still kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from nvc.bitstream.units import MAX_GAP, MAX_REORDER
from nvc.errors import StreamError
from nvc.predictive.network import KIND_INTRA, Planes
from nvc.predictive.sequence import SequenceDecoder

Shown = TypeVar("Shown")


class Playback(Generic[Shown]):
    """Shows what a SequenceDecoder makes of the frames that arrive, each once, without gaps.

    show: makes of a frame's planes and number what is handed out; at most some 2 * MAX_REORDER of
    these wait for frames before them.
    """

    def __init__(self, decoder: SequenceDecoder, show: Callable[[Planes, int], Shown]) -> None:
        self.next: int | None = None  # to be handed out
        self._decoder = decoder
        self._show = show
        self._waiting: dict[int, Shown] = {}
        self._last = -1  # highest number that arrived
        self._highest = -1  # and that there is a picture of

    def take(self, number: int, parts: dict[int, bytes]) -> Iterator[Shown]:
        """What can be shown once the layers of one more frame are there, in coding order.

        Raises StreamError where the frame comes twice or too late, refers to what is not kept, or
        cannot be read.
        """
        frame = self._decoder.read(number, parts)
        self._last = max(self._last, number)
        intra = frame.kind == KIND_INTRA
        if self.next is None:
            if not frame.base and not intra:
                return  # entered in the middle: nothing to begin with
            self.next = min(frame.references, default=number)
        if number < self.next or number in self._waiting:
            raise StreamError(f"frame {number} comes a second time, or too late to be shown")
        yield from self._pass(number - MAX_REORDER)
        if intra:
            yield from self._fill(number)
        for reference in frame.references:
            if reference >= self.next and reference not in self._waiting:
                yield from self._conceal(reference)
        if frame.references:
            yield from self._fill(frame.references[0])
        yield from self._add(number, self._decoder.decode(frame))

    def finish(self, frames: int | None) -> Iterator[Shown]:
        """The rest of a stream of so many frames, if that is known."""
        if self._last < 0:
            return
        if self.next is None:
            self.next = self._last
        yield from self._fill(self._last + 1)
        yield from self._pass(min(frames or 0, self._last + 1 + MAX_GAP))

    def _pass(self, stop: int) -> Iterator[Shown]:
        """Show everything under `stop`, one after another."""
        assert self.next is not None
        while self.next < stop:
            yield from self._conceal(self.next)

    def _fill(self, stop: int) -> Iterator[Shown]:
        """Show everything under `stop`; of frames lost between others the middle one first."""
        assert self.next is not None
        between = range(self.next, min(stop, self._highest))
        missing = [number for number in between if number not in self._waiting]
        while missing:
            run = next((n for n, at in enumerate(missing) if at != missing[0] + n), len(missing))
            for number in _by_halves(missing[:run]):
                yield from self._conceal(number)
            missing = missing[run:]
        yield from self._pass(stop)

    def _conceal(self, number: int) -> Iterator[Shown]:
        yield from self._add(number, self._decoder.conceal(number))

    def _add(self, number: int, picture: Planes) -> Iterator[Shown]:
        self._waiting[number] = self._show(picture, number)
        self._highest = max(self._highest, number)
        while self.next in self._waiting:
            yield self._waiting.pop(self.next)
            self.next += 1


def _by_halves(run: list[int]) -> list[int]:
    """Consecutive numbers, the middle one first, then its two halves in turn."""
    if not run:
        return []
    middle = (len(run) - 1) // 2
    return [run[middle], *_by_halves(run[:middle]), *_by_halves(run[middle + 1 :])]
