"""The conventional side of ``nvc bench``, one step in a process of its own.

    python -m nvc.commands.bench_video encode CLIP OUT.mkv --anchor x264-medium --crf 24 --gop 32
    python -m nvc.commands.bench_video decode FILE OUT.y4m

Both go through the package's own reader and writer. --json prints what was done and how long the
work took, without the start of the process.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nvc.commands import options
from nvc.commands.progress import clear_progress, frame_progress
from nvc.errors import NvcError
from nvc.video.frames import Frame
from nvc.video.reader import VideoReader


def _watched(reader: VideoReader) -> Iterator[Frame]:
    show = frame_progress()
    for count, frame in enumerate(reader):
        yield frame
        if show is not None:
            show(count + 1, reader.info.frame_count)


def encode(args: argparse.Namespace) -> dict[str, Any]:
    """Encode the chosen part with an anchor."""
    from nvc.evaluation.anchors import encode_anchor, parse_anchor

    anchor = parse_anchor(args.anchor, gop=args.gop)
    with VideoReader(args.input, start=args.start, frames=args.frames, crop=args.crop) as reader:
        began = time.monotonic()
        made = encode_anchor(_watched(reader), reader.info, Path(args.output), anchor, args.crf)
        seconds = time.monotonic() - began
    stats = {"library": made.library, **made.options}
    return {"bytes": made.bytes, "seconds": seconds, "stats": stats}


def decode(args: argparse.Namespace) -> dict[str, Any]:
    """Decode the chosen part of any video into raw frames."""
    from nvc.video.writer import open_writer

    with VideoReader(args.input, start=args.start, frames=args.frames, crop=args.crop) as reader:
        began = time.monotonic()
        count = 0
        with open_writer(args.output, reader.info) as writer:
            for frame in _watched(reader):
                writer.write(frame)
                count += 1
        seconds = time.monotonic() - began
    return {"frames": count, "seconds": seconds}


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="bench_video", description=(__doc__ or "").split("\n")[0])
    steps = parser.add_subparsers(required=True)
    for step in (encode, decode):
        command = steps.add_parser(step.__name__, help=step.__doc__)
        command.add_argument("input")
        command.add_argument("output")
        options.add_selection(command)
        options.add_json(command)
        command.set_defaults(run=step)
        if step is encode:
            command.add_argument("--anchor", required=True)
            command.add_argument("--crf", type=float, required=True)
            command.add_argument("--gop", type=options.at_least(1))
    args = parser.parse_args()
    try:
        result = args.run(args)
    except NvcError as error:
        print(f"nvc: error: {error}", file=sys.stderr)
        return error.exit_code
    clear_progress()
    if args.json:
        options.print_json(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
