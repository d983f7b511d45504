"""``nvc info``: what an .nvc file holds, or what hardware is in use."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nvc.commands import options
from nvc.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``nvc info``."""
    parser.add_argument("file", metavar="FILE.nvc", nargs="?", help="file to look at, - for stdin")
    parser.add_argument(
        "--hw", action="store_true", help="show the hardware decoding and networks use"
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Describe a file or the hardware."""
    if args.hw == (args.file is not None):
        raise UsageError("nvc info takes a file, or --hw")
    if args.hw:
        from nvc.video.hwaccel import hardware_report

        report = hardware_report()
        if args.json:
            options.print_json(report)
        else:
            for name, value in report.items():
                print(f"{name.replace('_', ' ')}: {_plain(value)}")
        return 0
    from nvc.bitstream.describe import describe
    from nvc.bitstream.reader import StreamReader

    if args.file == "-":
        found = describe(StreamReader(sys.stdin.buffer, name="stdin", partial=True))
    else:
        with Path(args.file).open("rb") as file:
            found = describe(StreamReader(file, name=args.file, partial=True))
    if args.json:
        options.print_json(found)
    else:
        _print(found)
    if found["damage"]:
        options.warn(f"{found['name']}: {found['damage']}")
        return 1
    return 0


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _print(found: dict[str, Any]) -> None:
    color = found["color"]
    full = {None: "unspecified", True: "full", False: "limited"}[color["full_range"]]
    pixels = found["frames"] * found["width"] * found["height"]
    bpp = f", {8 * found['bytes'] / pixels:.4f} bpp" if pixels else ""
    rate = f", {found['bitrate'] / 1000:.1f} kbit/s" if found["bitrate"] else ""
    variable = "" if found["constant_frame_rate"] else " on average, variable"
    sound = f"{found['audio_bytes']} bytes" if found["audio_bytes"] else "none"
    rows = {
        "codec": found["codec"],
        "picture": f"{found['width']}x{found['height']}, 4:{':'.join(found['chroma'][1:])}, "
        f"{found['bit_depth']} bit",
        "frames": f"{found['frames']} at {found['frame_rate']} fps{variable}, "
        f"{found['duration']:.3f} s",
        "bytes": f"{found['bytes']}{bpp}{rate}",
        "colour": f"matrix {color['matrix']}, primaries {color['primaries']}, transfer "
        f"{color['transfer']} (H.273), range {full}",
        "sample aspect": found["sample_aspect"],
        "rotation": f"{found['rotation']} degrees clockwise",
        "audio": sound,
        "weights": found["weights"] or "in the file",
        "seek points": f"{len(found['key_frames'])}",
        "format": found["format"],
    }
    for name, unit in found["units"].items():
        rows[f"{name} units"] = f"{unit['count']}, {unit['bytes']} bytes"
    for name, layer in found["layers"].items():
        rows[f"layer {name}"] = f"{layer['count']} units, {layer['bytes']} bytes"
    if found["tracks"] > 1:
        for name, frames in found["track_frames"].items():
            rows[f"track {name}"] = f"{frames} frames, {found['track_bytes'][name]} bytes"
    for name, value in rows.items():
        print(f"{name + ':':18}{value}")
