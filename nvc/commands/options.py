"""Options several commands share, and the types their values are parsed with."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from nvc import files
from nvc.errors import UsageError

if TYPE_CHECKING:
    from nvc.video.rawvideo import RawFormat

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}


def scaled(text: str, suffix: str, example: str) -> float:
    """The number a text like 1.5M or 20KiB (with SUFFIX or without) means, in ones."""
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)\s*([kmg]?i?)(?:{suffix})?", text.strip().lower())
    if not match or match[2] not in _UNITS or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not understood; write it like {example}")
    return float(match[1]) * _UNITS[match[2]]


def byte_count(text: str) -> int:
    """Bytes of '500k', '2MB', '1.5MiB' or '123456'."""
    return int(scaled(text, "b", "500kB, 2MB or 1.5MiB"))


def bit_rate(text: str) -> float:
    """Bits per second of '800k' or '1.5M'."""
    return scaled(text, "bps|bit/s|b/s|b", "800k or 1.5M")


def size(text: str) -> tuple[int, int]:
    """(first, second) of '320x640', both positive."""
    match = re.fullmatch(r"(\d+)[xX×](\d+)", text.strip())
    if not match or not int(match[1]) or not int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not two sizes like 320x640")
    return int(match[1]), int(match[2])


def frame_rate(text: str) -> Fraction:
    """Frames per second of '25', '23.976' or '30000/1001'."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a frame rate like 25 or 30000/1001")
    return rate


def at_least(low: int) -> Any:
    """A parser of integers from ``low`` up."""

    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} up")
        return value

    return integer


def positive(text: str) -> float:
    """A positive finite number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def add_selection(parser: argparse.ArgumentParser, *, crop: bool = True) -> None:
    """--start, --frames and --crop: which part of the input is meant."""
    group = parser.add_argument_group("part of the input")
    group.add_argument(
        "--start", type=at_least(0), default=0, metavar="N", help="first frame (default 0)"
    )
    group.add_argument("--frames", type=at_least(1), metavar="N", help="at most this many frames")
    if crop:
        group.add_argument(
            "--crop", type=size, metavar="HxW", help="centre crop, height x width in pixels"
        )


def add_raw_input(parser: argparse.ArgumentParser) -> None:
    """What a headerless input holds, where its name does not say it."""
    group = parser.add_argument_group("headerless .yuv input (when its name does not say)")
    group.add_argument("--raw-size", type=size, metavar="WxH", help="width x height in pixels")
    group.add_argument(
        "--raw-format", metavar="FORMAT", help="chroma and bits: 420, 420p10, 422p10, 444 ..."
    )
    group.add_argument(
        "--raw-rate",
        type=frame_rate,
        metavar="FPS",
        help="frames per second, like 120 or 24000/1001",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device and --threads."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto"
    )
    parser.add_argument(
        "--threads", type=at_least(1), metavar="N", help="CPU threads of the networks"
    )


def add_precision(parser: Any) -> None:
    """--precision."""
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the networks: auto is bfloat16 where the CPU has matrix units for it (dhvc), else "
        "float32",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """--json and -y."""
    add_json(parser)
    parser.add_argument(
        "-y", "--overwrite", action="store_true", help="replace the output if it exists"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def raw_format(args: argparse.Namespace, name: str) -> RawFormat | None:
    """The format of a headerless input from the --raw flags; its name tells what they do not.

    None when no flag was given. Raises UsageError when the size is missing or a flag is not
    understood.
    """
    if args.raw_size is None and args.raw_format is None and args.raw_rate is None:
        return None
    from nvc.video.rawvideo import RawFormat, parse_raw_name

    known = parse_raw_name(name)
    if known is None:
        if args.raw_size is None:
            raise UsageError("a headerless input needs its size: --raw-size WxH")
        known = RawFormat(width=args.raw_size[0], height=args.raw_size[1])
    width, height = args.raw_size or (known.width, known.height)
    chroma, depth = known.chroma, known.bit_depth
    if args.raw_format is not None:
        match = re.fullmatch(r"(?:yuv)?(\d{3})(?:p(\d{0,2})(?:le)?)?", args.raw_format)
        if not match:
            raise UsageError(
                f"--raw-format {args.raw_format!r} is not understood; write it like 420 or 420p10"
            )
        chroma, depth = match[1], int(match[2] or 8)
    return RawFormat(
        width=width,
        height=height,
        chroma=chroma,
        bit_depth=depth,
        frame_rate=args.raw_rate or known.frame_rate,
    )


def check_output(out: str, *, overwrite: bool, json_output: bool) -> None:
    """Raise UsageError before any work when the output may not be written."""
    if out == "-" and json_output:
        raise UsageError("--json and the output - both want stdout: give the output a name")
    files.check_output(out, overwrite=overwrite)


def print_json(result: dict[str, Any]) -> None:
    """One JSON object on one line of stdout; what is no number becomes null."""
    print(json.dumps(finite(result), allow_nan=False), flush=True)


def finite(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def warn(message: str) -> None:
    """One line on stderr about something that did not stop the command."""
    print(f"nvc: warning: {' '.join(message.split())}", file=sys.stderr)
