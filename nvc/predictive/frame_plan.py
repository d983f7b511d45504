"""What is settled of a frame before it is coded: its QP, what its places are worth, its picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch

from nvc.nn.blocks import QP_COUNT
from nvc.predictive.lookahead import Link, half_luma, linked, plan
from nvc.predictive.network import Planes
from nvc.predictive.structure import Place
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
    links: list[Link] | None,
    size: tuple[int, int],
) -> tuple[int, torch.Tensor | None]:
    """QP of a frame where the encode is at `qp`, and what its places are worth.

    links: of the frames that follow it in its GOP (nvc.predictive.lookahead), None where none is
    looked at; size: padded height and width. The QP may lie out of range; the worth is as in
    lookahead.plan, None where all places are worth the same.
    """
    if options.bframes:
        qp = stretched(qp)
    if place.later is not None:
        return qp + DEPTH_OFFSETS[place.depth - 1], None
    change, worth = 0.0, None
    if links is not None:
        offset = {"offset": PLAN_OFFSET} if options.bframes else {}
        change, worth = plan(links, min(qp, QP_COUNT - 1), size, **offset)
    if place.earlier is None:
        qp -= options.intra_gain
    elif options.bframes:
        qp += BLIND_ANCHOR_OFFSET if links is None else ANCHOR_OFFSET
    else:
        qp += _cycled(options, place)
    return round(qp + change), worth


def looked_ahead(
    options: EncodeOptions, frames: Iterable[Frame], planes: Callable[[Frame], Planes]
) -> Iterator[tuple[Frame, list[Link] | None, dict[int, Frame]]]:
    """Frames with what is known of those that follow and those around, by how much later they come.

    None and nothing where no frame is looked ahead.
    """
    if not options.effort:
        return ((frame, None, {}) for frame in frames)
    gop = options.gop
    found = linked(frames, lambda frame: half_luma(planes(frame)), gop=gop)
    reaches = (INTRA_REACH, ANCHOR_REACH, CYCLE_REACH)
    before, after = (max(reach[side] for reach in reaches) for side in (0, 1))
    return (
        (frame, links, {step: other for step, (other, _) in near.items()})
        for (frame, links), near in surrounded(found, gop=gop, before=before, after=after)
    )


def wanted_picture(
    options: EncodeOptions,
    place: Place,
    source: Planes,
    near: dict[int, Frame],
    qp: int,
    planes: Callable[[Frame], Planes],
) -> Planes:
    """What is coded of an intra or P frame; near: those around it, as looked_ahead has them."""
    if not near:
        return source
    if place.earlier is None:
        reach = INTRA_REACH
    elif options.bframes:
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
    return options.qp_cycle[place.number % options.gop % len(options.qp_cycle)]
