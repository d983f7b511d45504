"""What is kept of coded frames for those that refer to them, in encoder and decoder alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvc.predictive.bidirectional import direct_fields, followed
from nvc.predictive.motion import VECTOR_BLOCK
from nvc.predictive.network import Memory
from nvc.predictive.vectors import MAX_VECTOR

MAX_RECORDS = 8

Field = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Record:
    """A coded frame: its number, what it leaves to others, its references and its motion.

    fields: (rows, columns, 2) of the padded grid, into each reference; whole: by layer, whether its
    symbols are known (a decoder's).
    """

    number: int
    memory: Memory
    references: tuple[int, ...] = ()  # the nearer of a P frame, the earlier of a B frame first
    fields: tuple[Field, ...] = ()
    whole: tuple[bool, ...] = ()

    @property
    def between(self) -> bool:
        """Whether it is a B frame."""
        return len(self.references) > 1 and self.references[0] < self.number < self.references[1]


class Records:
    """Frames by number, at most MAX_RECORDS of them whatever a stream says."""

    def __init__(self) -> None:
        self._kept: dict[int, Record] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, number: int) -> Record | None:
        """The record of a frame, None where it is not kept."""
        return self._kept.get(number)

    def put(self, record: Record) -> None:
        """Keep one more; of too many the one coded first goes, but no intra frame."""
        self._kept.pop(record.number, None)
        self._kept[record.number] = record
        if len(self._kept) > MAX_RECORDS:
            intra = self.intra
            del self._kept[next(kept for kept in self._kept if kept != intra)]

    @property
    def intra(self) -> int | None:
        """The last intra frame, None where none is kept; frames before it lead to it."""
        found = (kept for kept, record in self._kept.items() if not record.references)
        return max(found, default=None)

    def forget_before(self, number: int) -> None:
        """Let go of the frames before one."""
        self._kept = {kept: record for kept, record in self._kept.items() if kept >= number}

    def tidy(self, number: int, references: tuple[int, ...]) -> None:
        """Let go of what no frame after this one refers to, once it is coded.

        P frames refer to the last two anchors of their side, of which the intra frame is the first
        of both; B frames to what lies between their references.
        """
        if len(references) > 1 and references[0] < number < references[1]:
            intra = self.intra
            leading = intra is not None and number < intra
            self._kept = {
                kept: record
                for kept, record in self._kept.items()
                if not record.between
                or (kept <= references[1] if leading else kept >= references[0])
            }
        elif references and references[0] > number:
            first = max(self._kept)  # the intra frame, also where it was lost
            self._kept = {
                kept: record
                for kept, record in self._kept.items()
                if kept <= references[0] or kept == first
            }
        else:
            self.forget_before(references[0] if references else number)

    def around(self, number: int) -> tuple[Record | None, Record | None]:
        """The nearest frames before and after, None where there is none."""
        before = max((kept for kept in self._kept if kept < number), default=None)
        after = min((kept for kept in self._kept if kept > number), default=None)
        return (
            None if before is None else self._kept[before],
            None if after is None else self._kept[after],
        )


def direct(number: int, earlier: Record, later: Record) -> tuple[Field, Field] | None:
    """Fields expected of a frame between two others; None where these do not refer to each other.

    The field that leads from one to the other is shared out by distance (bidirectional.py).
    """
    before, after = number - earlier.number, later.number - number
    for record, other in ((later, earlier), (earlier, later)):
        # A P frame that has an older reference has the nearer one first.
        if other.number in (record.references if record.between else record.references[:1]):
            field = record.fields[record.references.index(other.number)]
            return direct_fields(field, before, after, from_later=record is later)
    return None


def onward(number: int, field: Field, earlier: Record, older: Record) -> Field:
    """Field expected from a P frame into its older reference, given that into the earlier one.

    It goes on along the earlier frame's own field where that leads to the older one, else as if
    everything moved evenly.
    """
    if earlier.references[:1] == (older.number,):
        return bounded(followed(field, earlier.fields[0]))
    return scaled(field, number - older.number, number - earlier.number)


def scaled(motion: Field, frames: int, of: int) -> Field:
    """A field over `of` frames as one over `frames`, as if everything moved evenly."""
    wide = motion.astype(np.int64) * (2 * frames)
    return bounded((wide + of) // (2 * of))


def bounded(motion: NDArray[np.integer]) -> Field:
    """Vectors no longer than any that can be sent, so that nothing after them overflows."""
    return np.clip(motion, -MAX_VECTOR, MAX_VECTOR).astype(np.int32)


def vector_grid(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the vectors that cover a picture of this height and width."""
    return -(-size[0] // VECTOR_BLOCK), -(-size[1] // VECTOR_BLOCK)


def extended(motion: Field, grid: tuple[int, int]) -> Field:
    """Repeat the last row and column of a field out to the padded grid."""
    rows, columns = grid[0] - motion.shape[0], grid[1] - motion.shape[1]
    return np.pad(motion, ((0, rows), (0, columns), (0, 0)), mode="edge")
