"""``nvc encode``: a video in, an .nvc file out."""

from __future__ import annotations

import argparse

from nvc.codecs import CODECS, DEFAULT_CODEC
from nvc.commands import options
from nvc.commands.progress import clear_progress, encode_progress
from nvc.errors import UsageError

OWN_INR, DEFAULT_PRESET = "inr", "best"

EPILOG = """\
INPUT is anything FFmpeg reads, .y4m, headerless .yuv, or - for stdin. OUT.nvc may be - for
stdout. A fit that is interrupted (ctrl-C) leaves its state in OUT.nvc.state; the same command
with --resume goes on from there.

  nvc encode clip.mp4 clip.nvc --preset best --size 200kB
  nvc encode clip.mp4 clip.nvc --codec hnerv --frames 64 --crop 640x1280 --size-params 1.5M
  nvc encode clip.mp4 clip.nvc --recipe recipes/nerv.yaml
  nvc encode a.mp4 b.mp4 two.nvc --codec pfnr
  nvc encode c.mp4 two.nvc --codec pfnr --add
  nvc encode raw.yuv raw.nvc --raw-size 1920x1080 --raw-format 420p10 --raw-rate 120
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``nvc encode``."""
    parser.add_argument(
        "input", metavar="INPUT", nargs="+", help="video to encode, or - for stdin; pfnr: several"
    )
    parser.add_argument("output", metavar="OUT.nvc", help="file to write, or - for stdout")
    parser.add_argument("--codec", choices=tuple(CODECS), help=f"default: {DEFAULT_CODEC}")
    parser.add_argument(
        "--preset",
        choices=("best", "fast"),
        help=f"of codec {OWN_INR}, which it implies (default there: {DEFAULT_PRESET})",
    )
    parser.add_argument(
        "--recipe", metavar="YAML", help="codec and options of its fit; options given here win"
    )
    group = parser.add_argument_group("rate (one of these; a codec says which it can do)")
    rate = group.add_mutually_exclusive_group()
    rate.add_argument("--qp", type=options.at_least(0), metavar="N", help="constant quantiser")
    rate.add_argument(
        "--bitrate", type=options.bit_rate, metavar="RATE", help="bits per second, like 800k"
    )
    rate.add_argument(
        "--size", type=options.byte_count, metavar="BYTES", help="file size, like 2MB"
    )
    rate.add_argument("--psnr", type=options.positive, metavar="DB", help="quality to reach")
    rate.add_argument(
        "--lmbda", type=options.positive, help="minimise bits/pixel + lmbda * MSE (INR codecs)"
    )

    options.add_selection(parser)

    group = parser.add_argument_group("codec")
    group.add_argument("--gop", type=options.at_least(1), metavar="N", help="frames in a group")
    group.add_argument(
        "--anchor-every",
        type=options.at_least(1),
        metavar="N",
        help="of N groups one stands alone, the others are coded as changes (INR)",
    )
    group.add_argument(
        "--motion",
        type=options.positive,
        metavar="LEVELS",
        help="groups end where the luma has changed so much (of 255), and at cuts (INR)",
    )
    group.add_argument("--epochs", type=options.at_least(1), metavar="N", help="length of the fit")
    group.add_argument(
        "--size-params", type=_parameters, metavar="N", help="network size, like 350k or 1.5M"
    )
    group.add_argument(
        "--coding", choices=("own", "paper"), help="paper: 8 bits, Huffman, for comparison (INR)"
    )
    group.add_argument(
        "--ignore-mask", metavar="FILE", help="picture or video, white where not to fit (INR)"
    )
    group.add_argument("--lr", type=options.positive, help="learning rate of the fit")
    group.add_argument("--batch-size", type=options.at_least(1), metavar="N", help="frames a step")
    group.add_argument("--seed", type=options.at_least(0), metavar="N", help="of the fit")
    group.add_argument(
        "--bframes",
        type=options.at_least(0),
        metavar="N",
        help="frames between two that refer one way only: 0 (low delay), 1, 3 or 7 (dhvc; default: "
        "3, and 7 where frames far apart are alike)",
    )
    group.add_argument(
        "--no-scenecut",
        dest="scenecut",
        action="store_const",
        const=False,
        help="begin no GOP where a scene does, only every --gop frames (dhvc)",
    )
    group.add_argument(
        "--reset",
        type=options.at_least(1),
        metavar="N",
        help="frames a lost unit can spoil (dhvc; default: to the next intra frame)",
    )
    group.add_argument(
        "--effort",
        type=options.at_least(0),
        metavar="N",
        help="0: look at no frame ahead; 1, default: at up to 32, for fewer bytes; "
        "2, 3: try 3 or 5 QPs for each frame (dhvc)",
    )
    group.add_argument(
        "--jobs", type=options.at_least(1), metavar="N", help="GOPs or groups coded side by side"
    )
    group.add_argument(
        "--cluster", metavar="ADDRESS", help="code them on a Ray cluster: HOST:PORT, or auto"
    )
    group.add_argument(
        "--no-pack",
        dest="pack",
        action="store_const",
        const=False,
        help="a unit for every layer, also of small frames, for a lossy channel (dhvc)",
    )
    group.add_argument("--weights", metavar="NAME", help="trained weights: a name or a file (dhvc)")
    group.add_argument("--resume", action="store_true", help="go on with an interrupted fit")
    group.add_argument(
        "--add", action="store_true", help="put the videos behind those OUT.nvc has (pfnr)"
    )

    options.add_raw_input(parser)
    parser.add_argument("--no-audio", action="store_true", help="leave the audio out")
    options.add_device(parser)
    options.add_precision(parser)
    options.add_output(parser)


def _parameters(text: str) -> int:
    """A number of parameters: '350k', '1.5M' or '750000'."""
    return int(options.scaled(text, "", "350k or 1.5M"))


def run(args: argparse.Namespace) -> int:
    """Encode, then say in one line (or one JSON object) what came out."""
    # A file that videos are added to is to be there.
    replacing = args.overwrite or args.add
    options.check_output(args.output, overwrite=replacing, json_output=args.json)
    from nvc import api

    rates = ("qp", "bitrate", "size", "psnr")
    own: tuple[str, ...] = ("preset", "lmbda", "coding", "ignore_mask")
    own += ("gop", "anchor_every", "motion", "epochs", "size_params", "lr", "batch_size", "seed")
    own += ("bframes", "scenecut", "reset", "jobs", "cluster", "pack", "effort", "weights")
    given = {name: getattr(args, name) for name in (*rates, *own)}
    given["precision"] = None if args.precision == "auto" else args.precision
    given = {name: value for name, value in given.items() if value is not None}
    given |= {name: True for name in ("resume", "add") if getattr(args, name)}
    codec = args.codec or (OWN_INR if args.preset else None)
    if args.recipe is not None:
        from nvc.inr.recipe import read_recipe

        named, fit = read_recipe(args.recipe)
        if codec not in (None, named):
            raise UsageError(f"{args.recipe} is of codec {named}, not {codec}")
        codec = named
        if any(given.get(rate) is not None for rate in (*rates, "lmbda", "size_params")):
            fit = {k: v for k, v in fit.items() if k not in ("size_bytes", "size_params", "psnr")}
        given = fit | given
    elif codec == OWN_INR:
        given.setdefault("preset", DEFAULT_PRESET)
    codec = codec or DEFAULT_CODEC
    result = api.encode(
        args.input if len(args.input) > 1 else args.input[0],
        args.output,
        codec=codec,
        start=args.start,
        frames=args.frames,
        crop=args.crop,
        device=args.device,
        threads=args.threads,
        audio=not args.no_audio,
        overwrite=args.overwrite,
        progress=encode_progress(),
        raw=options.raw_format(args, args.input[0]),
        **given,
    )
    clear_progress()
    if args.json:
        options.print_json({"output": args.output, "codec": codec, **result.to_dict()})
    elif args.output != "-":
        print(
            f"{args.output}: {result.bytes} bytes, {result.frames} frames, {result.bpp:.4f} bpp, "
            f"{result.seconds:.1f} s"
        )
    return 0
