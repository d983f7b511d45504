"""Units of a stream as frames in coding order, and where decoding can start anew."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nvc.bitstream.units import MAX_REORDER, Unit, UnitType
from nvc.errors import StreamError
from nvc.predictive.frame_units import is_whole, kind_of
from nvc.predictive.network import KIND_BI, KIND_INTRA

Parts = dict[int, bytes]  # payloads by layer


@dataclass(frozen=True)
class Arrival:
    """A frame of which something arrived: the configuration it is coded with, number and layers.

    first: of an intra frame the number of the first frame that leads to it, else its own; before:
    where decoding starts anew, the last two P frames (number and layers), whose motion may be
    carried on.
    """

    config: bytes
    number: int
    first: int
    parts: Parts
    before: tuple[tuple[int, Parts], ...] = ()


def arrivals(
    units: Iterable[Unit], layers: int | None
) -> Iterator[tuple[bool, Arrival | StreamError | None]]:
    """Frames in coding order, and whether decoding can start anew at one; None at the end.

    It cannot once anything was lost, since what is shown then depends on all that came before.
    layers: how many will be decoded, None for all. An error in the units comes last, in place of
    the end.
    """
    before: deque[tuple[int, Parts]] = deque(maxlen=2)
    group = _Group()
    try:
        for config, number, first, parts in _frames(units):
            kind = kind_of(parts)
            if first < number and kind != KIND_INTRA:
                raise StreamError(f"frame {number}: a unit of several frames")
            group.add(number, first, intra=kind == KIND_INTRA, whole=is_whole(parts, layers))
            starts = group.intact and kind == KIND_INTRA
            yield starts, Arrival(config, number, first, parts, tuple(before) if starts else ())
            if group.intact and kind not in (KIND_INTRA, KIND_BI):
                before.append((number, parts))
    except StreamError as error:
        yield False, error
    else:
        yield False, None


class _Group:
    """Whether every frame so far was there, whole."""

    def __init__(self) -> None:
        self.intact = True
        self._next: int | None = None  # all frames under this were there
        self._ahead: set[int] = set()

    def add(self, number: int, first: int, *, intra: bool, whole: bool) -> None:
        """One more frame, in coding order; first: as Arrival has it."""
        if self._next is None:
            self._next = first
            self.intact = intra
        if intra and (self._ahead or first != self._next):
            self.intact = False
        self.intact = self.intact and whole and number >= self._next
        self.intact = self.intact and number not in self._ahead and len(self._ahead) < MAX_REORDER
        if self.intact:
            self._ahead.add(number)
        while self._next in self._ahead:
            self._ahead.remove(self._next)
            self._next += 1


def _frames(units: Iterable[Unit]) -> Iterator[tuple[bytes, int, int, Parts]]:
    """Configuration, number, first and layers of every frame, as Arrival has them.

    Raises StreamError.
    """
    config: bytes | None = None
    number: int | None = None
    first = 0
    parts: Parts = {}
    for unit in units:
        if unit.type not in (UnitType.CONFIG, UnitType.FRAME):
            continue
        if unit.type == UnitType.CONFIG:
            if number is not None and unit.payload != config:
                raise StreamError(f"the codec's configuration changes behind frame {number}")
            config = unit.payload
            continue
        if config is not None and number is not None and unit.picture != number:
            yield config, number, first, parts
            parts = {}
        if config is None:
            raise StreamError("the stream has frames before its configuration")
        if unit.frame_count > MAX_REORDER:
            raise StreamError(f"frame {unit.picture}: a unit of {unit.frame_count} frames")
        number, first = unit.picture, unit.frame_start
        parts[unit.layer] = unit.payload
    if config is not None and number is not None:
        yield config, number, first, parts
