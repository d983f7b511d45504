"""Coding order: an intra frame, anchors every few frames, pyramids by halves between two.

The intra frame of a GOP lies in its middle, so that frames refer to it over half the distance. From
there the GOP is coded back to its first frame, then on to its last one, each side by itself; both
ends are anchors, so that a GOP refers to nothing outside it. Between two anchors the middle frame
comes first, then its halves, that beside the intra frame before the other: of nine frames with
three B frames 4, 0, 2, 3, 1, 8, 6, 5, 7. In low delay, without B frames, the first frame is intra
and all are coded as they come. Pyramids as the hierarchical B pictures of H.264 (H. Schwarz,
D. Marpe, T. Wiegand, ICME 2006); what is shown before its intra frame HEVC calls leading pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Generic, TypeVar

BFRAMES = (0, 1, 3, 7)  # allowed between two anchors; 0 is low delay: coded as they come
MAX_LEAD = 16  # frames of a GOP shown before its intra frame; a decoder holds as many

Item = TypeVar("Item")


@dataclass(frozen=True)
class Place:
    """A frame in coding order: its number in display order, what it refers to, how deep it is.

    An intra frame has no reference. A P frame has one, `earlier`, which is shown later where it
    leads to its intra frame, and perhaps an older one, further away on the same side, that it may
    refer to as well. A B frame has `earlier` and `later`, in display order. depth: 0 for intra and
    P frames, 1 and more for a B frame by its halving.
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

    def moved(self, origin: int, *, backward: bool = False) -> Place:
        """This place where its numbers count frames from `origin` on, back or forth."""
        numbers = (self.number, self.earlier, self.later, self.older)
        sign = -1 if backward else 1
        number, earlier, later, older = (
            None if counted is None else origin + sign * counted for counted in numbers
        )
        if backward and later is not None:
            earlier, later = later, earlier
        assert number is not None
        return Place(number, earlier, later, self.depth, older)


@dataclass(frozen=True)
class Side(Generic[Item]):
    """A GOP to one side of its intra frame: that frame's number, which side, its items from there.

    The intra frame is the first item on either side. bframes: between two anchors.
    """

    origin: int
    backward: bool
    items: Iterator[Item]
    bframes: int


def lead_of(frames: int, bframes: int) -> int:
    """Frames shown before the intra frame of a GOP of so many frames: whole groups, up to half."""
    return min(frames // 2, MAX_LEAD) // (bframes + 1) * (bframes + 1) if bframes else 0


def sides(
    items: Iterable[tuple[bool, Item]],
    *,
    bframes: int | Callable[[Sequence[Item]], int],
    first: int = 0,
) -> Iterator[list[Side[Item]]]:
    """The one or two sides of every GOP, that before the intra frame first, to be used in turn.

    items: in display order, each with whether a GOP starts with it; bframes: between two anchors,
    or what says so of the first 2 * MAX_LEAD + 1 items of a GOP, which are read at once but for no
    B frames; first: number of the first item.
    """
    rest = iter(items)
    upcoming = next(rest, None)

    def group() -> Iterator[Item]:
        nonlocal upcoming, first
        while upcoming is not None:
            yield upcoming[1]
            first += 1
            upcoming = next(rest, None)
            if upcoming is not None and upcoming[0]:
                return

    while upcoming is not None:
        start, gop = first, group()
        begun = list(islice(gop, 2 * MAX_LEAD + 1 if bframes else 1))
        chosen = bframes if isinstance(bframes, int) else bframes(begun)
        lead = lead_of(len(begun), chosen)
        found = [Side(start + lead, True, iter(begun[lead::-1]), chosen)] if lead else []
        yield [*found, Side(start + lead, False, chain(begun[lead:], gop), chosen)]


def coding_order(frames: int, bframes: int, *, lead: int = 0) -> list[Place]:
    """Places of a GOP of so many frames, of which `lead` are shown before the intra frame.

    Raises ValueError for a number of B frames not allowed.
    """
    ways = [(lead + 1, True), (frames - lead, False)] if lead else [(frames, False)]
    order: list[Place] = []
    for count, backward in ways:
        side = in_coding_order(range(count), bframes=bframes)
        found = [place.moved(lead, backward=backward) for place, _ in side]
        order += found[1:] if order else found
    return order


def in_coding_order(items: Iterable[Item], *, bframes: int) -> Iterator[tuple[Place, Item]]:
    """Each item with its place; items of one side of a GOP, the intra frame first, which is 0.

    Holds back as few as can be: those between two anchors. Raises ValueError for a number of B
    frames not allowed.
    """
    if bframes not in BFRAMES:
        raise ValueError(f"bframes is {bframes}; allowed: {', '.join(map(str, BFRAMES))}")
    held: list[Item] = []  # what came after the last anchor
    anchor, older = 0, None
    for number, item in enumerate(items):
        if number == 0:
            yield Place(0), item
            continue
        held.append(item)
        if number % (bframes + 1) == 0:
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
