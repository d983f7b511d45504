"""What is settled of a frame before it is coded: its turn, QP, picture, worth of places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from nvc.nn.blocks import COARSEST_QP, QP_COUNT
from nvc.predictive.lookahead import Link, half_luma, is_steady, linked, plan
from nvc.predictive.network import Planes
from nvc.predictive.structure import Place, in_coding_order, sides
from nvc.predictive.temporal_filter import (
    ANCHOR_REACH,
    CYCLE_REACH,
    INTRA_REACH,
    filtered,
    surrounded,
)
from nvc.video.frames import Frame

if TYPE_CHECKING:
    from nvc.predictive.codec import EncodeOptions

# What is added to the QP between B frames: of P frames with and without looking ahead, of B frames
# by depth; and the offset of nvc.predictive.lookahead there.
ANCHOR_OFFSET, BLIND_ANCHOR_OFFSET, DEPTH_OFFSETS = -2, -4, (3, 7, 9)
PLAN_OFFSET = 4.0
STEADY_BFRAMES = 7  # where nothing else is asked for and frames far apart are alike
# From QP 32 on a QP of an encode with B frames counts for more, 63 for this many more, so that the
# smallest rates can be had.
STRETCH, _MIDDLE = 12, 32


def stretched(qp: int) -> int:
    """What a QP of an encode with B frames counts for."""
    return qp + round(STRETCH * max(0, qp - _MIDDLE) / (QP_COUNT - 1 - _MIDDLE))


def decide(
    options: EncodeOptions,
    place: Place,
    qp: int,
    links: Sequence[Sequence[Link]] | None,
    size: tuple[int, int],
) -> tuple[int, torch.Tensor | None]:
    """QP of a frame where the encode is at `qp`, and what its places are worth.

    place: counted from the start of its GOP; links: of the frames that follow it on its side of its
    GOP (nvc.predictive.lookahead), of an intra frame on both, None where none is looked at; size:
    padded height and width. The QP may lie out of range; the worth is as in lookahead.plan, None
    where all places are worth the same.
    """
    if options.usual_bframes:
        qp = stretched(qp)
    if place.later is not None:
        return qp + DEPTH_OFFSETS[place.depth - 1], None
    change, worth = 0.0, None
    if links is not None:
        offset = {"offset": PLAN_OFFSET} if options.usual_bframes else {}
        change, worth = plan(links, min(qp, COARSEST_QP), size, **offset)
    if place.earlier is None:
        qp -= options.intra_gain
    elif options.usual_bframes:
        qp += BLIND_ANCHOR_OFFSET if links is None else ANCHOR_OFFSET
    else:
        qp += _cycled(options, place)
    return round(qp + change), worth


@dataclass(frozen=True)
class Planned:
    """A frame in coding order with what is known of those around it.

    first: the first frame of its GOP; links: as decide has them; near: frames around it, by how
    many frames further from the intra frame they are, of that itself on the side after it; passed:
    links that lead from its reference to a P frame. Without looking ahead None and nothing.
    """

    place: Place
    first: int
    frame: Frame
    links: Sequence[Sequence[Link]] | None
    near: dict[int, Frame]
    passed: Sequence[Link] | None = None


def planned(
    options: EncodeOptions,
    frames: Iterable[tuple[bool, Frame]],
    planes: Callable[[Frame], Planes],
    *,
    first: int = 0,
) -> Iterator[Planned]:
    """Frames in coding order.

    frames: as they are shown, from number `first` on, each with whether a GOP starts with it.
    """

    def choose(begun: Sequence[Frame]) -> int:
        steady = is_steady(begun, lambda frame: half_luma(planes(frame)))
        return STEADY_BFRAMES if steady else options.usual_bframes

    # Without looking ahead nothing is known of a GOP.
    chosen = options.bframes is not None or not options.effort
    bframes = options.usual_bframes if chosen else choose
    start = first
    for ways in sides(frames, bframes=bframes, first=first):
        orders = [
            in_coding_order(_looked_ahead(options, side.items, planes), bframes=side.bframes)
            for side in ways
        ]
        starts = [found for _, found in map(next, orders)]
        frame, *_ = starts[0]
        known = [links for _, links, _ in starts if links is not None]
        near = {
            -step if side.backward else step: other
            for side, (_, _, around) in zip(ways, starts, strict=True)
            for step, other in around.items()
        }
        done = 1
        yield Planned(Place(ways[0].origin), start, frame, known or None, near)
        for side, order, (_, ahead, _) in zip(ways, orders, starts, strict=True):
            for place, (frame, links, near) in order:
                passed = None
                if place.later is None and place.earlier is not None and ahead is not None:
                    passed, ahead = ahead[: place.number - place.earlier], links
                done += 1
                yield Planned(
                    place.moved(side.origin, backward=side.backward),
                    start,
                    frame,
                    None if links is None else [links],
                    near,
                    passed,
                )
        start += done


def _looked_ahead(
    options: EncodeOptions, frames: Iterable[Frame], planes: Callable[[Frame], Planes]
) -> Iterator[tuple[Frame, list[Link] | None, dict[int, Frame]]]:
    """Frames of a side of a GOP with what is known of those that follow and those around."""
    if not options.effort:
        return ((frame, None, {}) for frame in frames)
    found = linked(frames, lambda frame: half_luma(planes(frame)))
    reaches = (ANCHOR_REACH, CYCLE_REACH)
    before = max(reach.before for reach in reaches)
    after = max(reach.after for reach in (INTRA_REACH, *reaches))
    return (
        (frame, links, {step: other for step, (other, _) in near.items()})
        for (frame, links), near in surrounded(found, before=before, after=after)
    )


def wanted_picture(
    options: EncodeOptions,
    place: Place,
    source: Planes,
    near: dict[int, Frame],
    qp: int,
    planes: Callable[[Frame], Planes],
) -> Planes:
    """What is coded of an intra or P frame.

    place: counted from the start of its GOP; near: those around it, as Planned has them.
    """
    if not near:
        return source
    if place.earlier is None:
        reach = INTRA_REACH
    elif options.usual_bframes:
        reach = ANCHOR_REACH
    elif _cycled(options, place) < 0:
        reach = CYCLE_REACH
    else:
        return source

    def beside(step: int) -> Planes | None:
        return planes(near[step]) if step in near else None

    return filtered(source, beside, qp, reach)


def _cycled(options: EncodeOptions, place: Place) -> int:
    """What a P frame's place in the GOP adds to its QP in low delay."""
    return options.qp_cycle[place.number % len(options.qp_cycle)]
