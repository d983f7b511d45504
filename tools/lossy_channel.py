"""Send an .nvc file through a channel that loses units, to see what a decoder makes of the rest.

    python tools/lossy_channel.py IN.nvc OUT.nvc --loss 0.1 [--burst 4] --seed 3 [--json]

The channel is that of nvc.evaluation.channel: each unit that carries pictures is a packet, lost
independently or in bursts of --burst N on average. OUT is an intact .nvc file without the lost
units: `nvc decode` conceals what is missing, the last frames of the stream too.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from nvc.bitstream.container import StreamReader, StreamWriter
from nvc.errors import NvcError, UsageError
from nvc.evaluation.channel import Report, losses, transmit
from nvc.files import opened, whole_file


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
