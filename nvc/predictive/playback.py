"""Frames in the order they are shown from frames in coding order, the lost ones among them.

On either side of an intra frame, a frame that refers to frame n is coded behind every frame between
n and the intra frame (structure.py), and those that lead to it before those after it. So a decoder
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
        self._intra = -1  # that of the GOP

    def take(
        self, number: int, parts: dict[int, bytes], first: int | None = None
    ) -> Iterator[Shown]:
        """What can be shown once the layers of one more frame are there, in coding order.

        first: the first frame that leads to an intra frame, None for the number of the frame.
        Raises StreamError where the frame comes twice or too late, refers to what is not kept, or
        cannot be read.
        """
        frame = self._decoder.read(number, parts)
        self._last = max(self._last, number)
        first = number if first is None else first
        intra = frame.kind == KIND_INTRA
        if self.next is None:
            if not frame.base and not intra:
                return  # entered in the middle: nothing to begin with
            self.next = min((first, *frame.references))
        if number < self.next or number in self._waiting:
            raise StreamError(f"frame {number} comes a second time, or too late to be shown")
        yield from self._pass(number - MAX_REORDER)
        if intra:
            yield from self._fill(first)
        lost = [n for n in frame.references if n >= self.next and n not in self._waiting]
        leads = frame.references[0] > number if frame.references else intra
        if leads or len(lost) == 2:  # an intra frame that is lost may lie there
            self._intra = max(self._intra, number, *frame.references)
        for reference in lost:
            yield from self._conceal(reference)
        if frame.references:
            yield from self._complete(number, frame.references)
        yield from self._add(number, self._decoder.decode(frame))

    def _complete(self, number: int, references: tuple[int, ...]) -> Iterator[Shown]:
        """Show what a frame with these references is coded behind."""
        if references[0] < number and number > self._intra:
            yield from self._fill(references[0])
            return
        for lost in self._missing(max(references), self._intra):
            yield from self._conceal(lost)

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
        for number in self._missing(self.next, min(stop, self._highest)):
            yield from self._conceal(number)
        yield from self._pass(stop)

    def _missing(self, start: int, stop: int) -> list[int]:
        """Frames from `start` to before `stop` that there is no picture of, by halves."""
        assert self.next is not None
        between = range(max(start, self.next), stop)
        missing = [number for number in between if number not in self._waiting]
        order: list[int] = []
        while missing:
            run = next((n for n, at in enumerate(missing) if at != missing[0] + n), len(missing))
            order += _by_halves(missing[:run])
            missing = missing[run:]
        return order

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
