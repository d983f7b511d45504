"""A stream of which not everything arrives, read as if it had been stored that way."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import BinaryIO

from nvc.bitstream.reader import StreamReader
from nvc.bitstream.units import FRAME_TYPES, Unit

Place = tuple[int, int]  # last frame and layer of a unit


class ReceivedReader(StreamReader):
    """A partial reader that gives no unit whose (last frame, layer) is among `missing`.

    Everything else, the number of frames and their times, is as in the whole file: these arrive
    over a reliable side channel (nvc.evaluation.channel).
    """

    def __init__(self, file: BinaryIO, *, name: str, missing: Collection[Place]) -> None:
        super().__init__(file, name=name, partial=True)
        self._missing = missing

    def units(self, *, layers: int | None = None) -> Iterator[Unit]:
        """Units for the codec in file order, of those that arrive."""
        return filter(self._arrives, super().units(layers=layers))

    def units_for(
        self, frame_start: int, frame_count: int, *, track: int = 0, layers: int | None = None
    ) -> Iterator[Unit]:
        """Units that decode some frames, of those that arrive."""
        units = super().units_for(frame_start, frame_count, track=track, layers=layers)
        return filter(self._arrives, units)

    def _arrives(self, unit: Unit) -> bool:
        return unit.type not in FRAME_TYPES or (unit.picture, unit.layer) not in self._missing
