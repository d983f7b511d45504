"""A channel that loses units of a stream: which are lost, and what of a stream then arrives.

Every FRAME or PARAMETERS unit is a packet that arrives or not, independently, or in bursts: with a
burst length the channel is a two-state Gilbert model whose bad state loses everything, lasts that
many units on average and is met as often as makes the mean loss the one asked for. Configuration,
timestamps, sound and the end of the stream always arrive, as over a reliable side channel.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from nvc.bitstream.reader import StreamReader
from nvc.bitstream.units import FRAME_TYPES, pack_unit
from nvc.bitstream.writer import StreamWriter
from nvc.errors import UsageError


@dataclass
class Tally:
    """Units and bytes (headers and checksums included), sent and lost of them."""

    units: int = 0
    bytes: int = 0
    lost_units: int = 0
    lost_bytes: int = 0

    def count(self, size: int, lost: bool) -> None:
        """One unit of `size` bytes."""
        self.units += 1
        self.bytes += size
        self.lost_units += lost
        self.lost_bytes += size * lost


@dataclass
class Report:
    """What became of the units that carry pictures: in all, and of each layer."""

    frames: int = 0
    total: Tally = field(default_factory=Tally)
    layers: dict[int, Tally] = field(default_factory=dict)


def losses(loss: float, burst: float | None, seed: int) -> Iterator[bool]:
    """Whether each packet in turn is lost; endless, and the same again for the same seed.

    loss: mean share of lost packets, 0 to 1. burst: mean number of packets lost in a row, None for
    independent losses. Raises UsageError where there is no such channel.
    """
    if not 0 <= loss <= 1:
        raise UsageError(f"loss is {loss:g}; allowed: 0 to 1")
    if burst is not None and (burst < 1 or loss == 1 or loss > burst * (1 - loss)):
        raise UsageError(
            f"burst is {burst:g} at loss {loss:g}; allowed: 1 or more, and at least "
            "loss / (1 - loss), with a loss under 1"
        )
    return _draw(loss, burst, random.Random(seed))


def _draw(loss: float, burst: float | None, rng: random.Random) -> Iterator[bool]:
    bad = False
    while True:
        if burst is None:
            bad = rng.random() < loss
        elif bad:
            bad = rng.random() >= 1 / burst
        else:
            bad = rng.random() < loss / (burst * (1 - loss))
        yield bad


def transmit(
    reader: StreamReader,
    writer: StreamWriter,
    channel: Iterator[bool],
    *,
    keep: int = 0,
    protect: int = 0,
) -> Report:
    """Write what arrives of a stream.

    keep: frames at its start of which nothing is lost; protect: coarsest layers that always arrive.
    """
    report = Report()
    for unit in reader.all_units():
        if unit.type in FRAME_TYPES:
            lost = next(channel) and unit.frame_start >= keep and unit.layer >= protect
            size = len(pack_unit(unit))
            report.total.count(size, lost)
            report.layers.setdefault(unit.layer, Tally()).count(size, lost)
            if lost:
                continue
        writer.write(unit)
    report.frames = reader.frame_count or 0
    writer.frame_count = max(writer.frame_count, report.frames)
    return report
