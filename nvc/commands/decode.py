"""``nvc decode``: an .nvc file in, a video, pictures or a pipe out."""

from __future__ import annotations

import argparse

from nvc.commands import options
from nvc.commands.progress import clear_progress, frame_progress

EPILOG = """\
OUT is chosen by its ending: .mp4 .mkv .mov .webm .y4m .yuv, pictures like out_%04d.png; - is
stdout.

  nvc decode clip.nvc clip.mkv                  lossless from here on, with the audio
  nvc decode clip.nvc - | ffplay -              y4m through a pipe
  nvc decode fit.nvc smooth.mp4 --fps 2x        frames between frames (INR codecs)
  nvc decode broken.nvc rest.mp4 --partial      what came before the damage
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``nvc decode``."""
    parser.add_argument("input", metavar="IN.nvc", help="file to decode, or - for stdin")
    parser.add_argument("output", metavar="OUT", help="what to write, or - for stdout")
    parser.add_argument(
        "--format", choices=("y4m", "yuv"), help="what to write to stdout (default: y4m)"
    )
    parser.add_argument(
        "--layers", type=options.at_least(1), metavar="N", help="only the N coarsest layers"
    )
    parser.add_argument(
        "--partial", action="store_true", help="of a damaged file, decode what is before the damage"
    )
    parser.add_argument(
        "--fps", metavar="RATE", help="2x, or a multiple of the rate: frames between (INR codecs)"
    )
    parser.add_argument(
        "--track", type=options.at_least(0), default=0, metavar="N", help="which video of the file"
    )
    options.add_selection(parser, crop=False)
    options.add_device(parser)
    options.add_precision(parser)
    options.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Decode, then say in one line (or one JSON object) what was written."""
    options.check_output(args.output, overwrite=args.overwrite, json_output=args.json)
    from nvc import api

    result = api.decode(
        args.input,
        args.output,
        format=args.format,
        layers=args.layers,
        partial=args.partial,
        fps=args.fps,
        track=args.track,
        start=args.start,
        frames=args.frames,
        device=args.device,
        threads=args.threads,
        precision=args.precision,
        overwrite=args.overwrite,
        progress=frame_progress(),
    )
    clear_progress()
    if result.damage:
        options.warn(result.damage)
    if args.json:
        options.print_json({"output": args.output, **result.to_dict()})
    elif args.output != "-":
        print(f"{args.output}: {result.frames} frames, {result.seconds:.1f} s")
    return 0
