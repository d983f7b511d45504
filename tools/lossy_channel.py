"""Send an .nvc file through a channel that loses units, to see what a decoder makes of the rest.

    python tools/lossy_channel.py IN.nvc OUT.nvc --loss 0.1 [--burst 4] --seed 3 [--json]

Every FRAME unit is a packet that arrives or not, independently, or in bursts: with --burst N the
channel is a two-state Gilbert model whose bad state loses everything, lasts N units on average and
is met as often as makes the mean loss the one asked for. Configuration, timestamps, sound and the
end of the stream always arrive, as over a reliable side channel. OUT is an intact .nvc file without
the lost units: `nvc decode` conceals what is missing, the last frames of the stream too.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from nvc.bitstream.container import StreamReader, StreamWriter, UnitType
from nvc.bitstream.units import pack_unit
from nvc.errors import NvcError, UsageError
from nvc.files import opened, whole_file


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
    """What became of the FRAME units of a stream: in all, and of each layer."""

    frames: int = 0
    total: Tally = field(default_factory=Tally)
    layers: dict[int, Tally] = field(default_factory=dict)


def losses(loss: float, burst: float | None, seed: int) -> Iterator[bool]:
    """Whether each packet in turn is lost; endless.

    loss: mean share of lost packets, 0 to 1. burst: mean number of packets lost in a row, None for
    independent losses. Raises UsageError where there is no such channel.
    """
    if not 0 <= loss <= 1:
        raise UsageError(f"--loss is {loss:g}; allowed: 0 to 1")
    if burst is not None and (burst < 1 or loss == 1 or loss > burst * (1 - loss)):
        raise UsageError(
            f"--burst is {burst:g} at --loss {loss:g}; allowed: 1 or more, and at least "
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
        if unit.type == UnitType.FRAME:
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


def _describe(report: Report) -> str:
    rows = [("all layers", report.total)]
    rows += [(f"layer {number}", report.layers[number]) for number in sorted(report.layers)]
    return "\n".join(
        f"{name + ':':<12}{tally.lost_units:>6} of {tally.units} units lost,"
        f"{tally.lost_bytes:>10} of {tally.bytes} bytes"
        for name, tally in rows
    )


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 when OUT was written, 1 for a bad file, 2 for bad options."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0],
        epilog="Losses follow from --seed alone, so a run can be repeated.",
    )
    parser.add_argument("input", metavar="IN.nvc", help="intact stream, or - for stdin")
    parser.add_argument("output", metavar="OUT.nvc", help="file to write, or - for stdout")
    parser.add_argument("--loss", type=float, required=True, help="share of units lost, 0 to 1")
    parser.add_argument("--burst", type=float, metavar="N", help="mean units lost in a row")
    parser.add_argument("--seed", type=int, default=0, help="of the losses (default 0)")
    parser.add_argument(
        "--keep", type=int, default=0, metavar="N", help="lose nothing of the first N frames"
    )
    parser.add_argument(
        "--protect", type=int, default=0, metavar="N", help="lose nothing of the N coarsest layers"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("-y", "--overwrite", action="store_true", help="replace OUT if it exists")
    args = parser.parse_args(arguments)
    try:
        if args.output == "-" and args.json:
            raise UsageError("--json and the output - both want stdout: give the output a name")
        channel = losses(args.loss, args.burst, args.seed)
        with opened(args.input) as (file, name):
            reader = StreamReader(file, name=name)
            with (
                whole_file(args.output, overwrite=args.overwrite) as out,
                StreamWriter(out, reader.header) as writer,
            ):
                report = transmit(reader, writer, channel, keep=args.keep, protect=args.protect)
    except (NvcError, OSError) as error:
        print(f"lossy_channel: error: {' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    if args.json:
        print(json.dumps(asdict(report)))
    elif args.output != "-":
        print(_describe(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
