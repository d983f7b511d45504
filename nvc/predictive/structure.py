"""Coding order: anchors every few frames, frames between two of them in a pyramid by halves.

The first frame of a GOP is intra and the last one an anchor, so that a GOP refers to nothing
outside it. Between two anchors the middle frame comes first, then its first half, then the second:
with three B frames 0, 4, 2, 1, 3, 8, 6, 5, 7. As the hierarchical B pictures of H.264 (H. Schwarz,
D. Marpe, T. Wiegand, ICME 2006).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

BFRAMES = (0, 1, 3, 7)  # allowed between two anchors; 0 is low delay: coded as they come

Item = TypeVar("Item")


@dataclass(frozen=True)
class Place:
    """A frame in coding order: its number in display order, what it refers to, how deep it is.

    earlier, later: numbers of its references, None where there is none; an intra frame has neither,
    a P frame no later one, but perhaps an older one that it may refer to as well. depth: 0 for
    these two, 1 and more for a B frame by its halving.
    """

    number: int
    earlier: int | None = None
    later: int | None = None
    depth: int = 0
    older: int | None = None

    @property
    def references(self) -> tuple[int, ...]:
        """Numbers of the frames it refers to for certain, the earlier first."""
        return tuple(number for number in (self.earlier, self.later) if number is not None)


def coding_order(frames: int, bframes: int) -> list[Place]:
    """Places of a GOP of so many frames. Raises ValueError for a number of B frames not allowed."""
    return [
        place for place, _ in in_coding_order(range(frames), gop=max(frames, 1), bframes=bframes)
    ]


def in_coding_order(
    items: Iterable[Item], *, gop: int, bframes: int, first: int = 0
) -> Iterator[tuple[Place, Item]]:
    """Each item with its place; items in display order from the start of a GOP on.

    gop: frames from one intra frame to the next; first: number of the first item. Holds back as few
    as can be: those between two anchors. Raises ValueError for a number of B frames not allowed.
    """
    if bframes not in BFRAMES:
        raise ValueError(f"bframes is {bframes}; allowed: {', '.join(map(str, BFRAMES))}")
    held: list[Item] = []  # what came after the last anchor
    anchor, older = first, None
    for number, item in enumerate(items, start=first):
        position = (number - first) % gop
        if position == 0:
            yield Place(number), item
            anchor, older = number, None
            continue
        held.append(item)
        if position % (bframes + 1) == 0 or position == gop - 1:
            yield from _between(anchor, older, held)
            anchor, older, held = number, anchor, []
    if held:
        yield from _between(anchor, older, held)


def _between(anchor: int, older: int | None, held: list[Item]) -> Iterator[tuple[Place, Item]]:
    """The next anchor, which is the last of the items held, then the frames up to it."""
    following = anchor + len(held)
    for place in (Place(following, anchor, older=older), *_pyramid(anchor, following, 1)):
        yield place, held[place.number - anchor - 1]


def _pyramid(earlier: int, later: int, depth: int) -> Iterator[Place]:
    """The frames between two that are coded."""
    if later - earlier < 2:
        return
    middle = (earlier + later) // 2
    yield Place(middle, earlier, later, depth)
    yield from _pyramid(earlier, middle, depth + 1)
    yield from _pyramid(middle, later, depth + 1)
