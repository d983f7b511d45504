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

    before: where decoding starts anew, the last two P frames (number and layers), whose motion may
    be carried on.
    """

    config: bytes
    number: int
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
        for config, number, parts in _frames(units):
            kind = kind_of(parts)
            group.add(number, intra=kind == KIND_INTRA, whole=is_whole(parts, layers))
            starts = group.intact and kind == KIND_INTRA
            yield starts, Arrival(config, number, parts, tuple(before) if starts else ())
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

    def add(self, number: int, *, intra: bool, whole: bool) -> None:
        """One more frame, in coding order."""
        if self._next is None:
            self._next = number
            self.intact = intra
        if intra and (self._ahead or number != self._next):
            self.intact = False
        self.intact = self.intact and whole and number >= self._next
        self.intact = self.intact and number not in self._ahead and len(self._ahead) < MAX_REORDER
        if self.intact:
            self._ahead.add(number)
        while self._next in self._ahead:
            self._ahead.remove(self._next)
            self._next += 1


def _frames(units: Iterable[Unit]) -> Iterator[tuple[bytes, int, Parts]]:
    """Configuration, number and layers of every frame that arrives. Raises StreamError."""
    config: bytes | None = None
    number: int | None = None
    parts: Parts = {}
    for unit in units:
        if unit.type not in (UnitType.CONFIG, UnitType.FRAME):
            continue
        if unit.type == UnitType.CONFIG:
            if number is not None and unit.payload != config:
                raise StreamError(f"the codec's configuration changes behind frame {number}")
            config = unit.payload
            continue
        if config is not None and number is not None and unit.frame_start != number:
            yield config, number, parts
            parts = {}
        if config is None:
            raise StreamError("the stream has frames before its configuration")
        if unit.frame_count != 1:
            raise StreamError(f"frame {unit.frame_start}: a unit of several frames")
        number = unit.frame_start
        parts[unit.layer] = unit.payload
    if config is not None and number is not None:
        yield config, number, parts
