"""BD-rate of weights of the predictive codec against each other, on parts of clips, real bytes.

  python tools/compare_weights.py dhvc_s NEW.safetensors --clips FOLDER --scenes flower_00,man_00

Every scene is encoded as `nvc encode` does it (looking ahead, B frames), a GOP of --frames frames
from the middle of the picture, and decoded again in the same process; bytes are those of the
units, without container. Quality is (6 Y + U + V) / 8 in dB, mean over frames. Prints a Markdown
table: the BD-rate of every weights file against the first. What is measured is kept by the hash of
the weights (--keep FILE), so that weights are measured once; with another encoder or other clips
under the same names use another file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nvc.bitstream.units import pack_head
from nvc.errors import InputError, NvcError
from nvc.evaluation.bdrate import bd_rate
from nvc.evaluation.metrics import plane_psnr
from nvc.predictive.checkpoint import load_network
from nvc.predictive.codec import EncodeOptions, encode_frames
from nvc.predictive.frame_coder import FrameCoder
from nvc.predictive.planes_io import to_levels
from nvc.predictive.row_coder import open_coder
from nvc.predictive.sequence import SequenceDecoder
from nvc.video.frames import Frame, VideoInfo
from nvc.video.reader import VideoReader
from nvc.weights import by_name, hash_of

SCENES = "flower_00,man_00,drive1_00,bug_00"
Curve = list[tuple[int, float]]  # bytes and dB, by QP


def middle_of(path: Path, frames: int, size: tuple[int, int]) -> list[Frame]:
    """The first frames of a clip, cut to at most `size` around the centre; 8-bit 4:2:0."""
    found: list[Frame] = []
    with VideoReader(path) as reader:
        if reader.info.chroma != "420" or reader.info.bit_depth != 8:
            raise InputError(f"{path}: only 8-bit 4:2:0 clips can be compared")
        for frame in reader:
            rows, columns = frame.planes[0].shape
            high, wide = min(size[0], rows) // 2 * 2, min(size[1], columns) // 2 * 2
            top, left = (rows - high) // 4 * 2, (columns - wide) // 4 * 2
            planes = tuple(
                plane[top // by : (top + high) // by, left // by : (left + wide) // by]
                for plane, by in zip(frame.planes, (1, 2, 2), strict=True)
            )
            found.append(Frame(planes=tuple(p.contiguous() for p in planes), pts=len(found)))
            if len(found) == frames:
                break
    return found


def measure(coder: FrameCoder, frames: list[Frame], options: EncodeOptions) -> tuple[int, float]:
    """Bytes of the units of these frames, and the quality of what is decoded from them."""
    rows, columns = frames[0].planes[0].shape
    info = VideoInfo(width=columns, height=rows, frame_count=len(frames))
    decoder = SequenceDecoder(coder)
    spent, parts = 0, dict[int, dict[int, bytes]]()
    for unit in encode_frames(options, frames, info, coder=coder):
        spent += len(pack_head(unit)) + len(unit.payload) + 4
        parts.setdefault(unit.picture, {})[unit.layer] = unit.payload
    quality = 0.0
    for number, layers in parts.items():
        shown = decoder.decode(decoder.read(number, layers))
        for weight, plane, made in zip((6, 1, 1), frames[number].planes, shown, strict=True):
            levels = to_levels(made[0, 0], 255, (plane.shape[0], plane.shape[1]))
            quality += weight * plane_psnr(plane, levels, 8) / 8
    return spent, quality / len(frames)


def curves(weights: Path, args: argparse.Namespace, kept: dict[str, Any]) -> dict[str, Curve]:
    """The curve of every scene; new points are added to `kept`."""
    network = load_network(weights).to(memory_format=torch.channels_last)
    result: dict[str, Curve] = {}
    for scene in args.scenes.split(","):
        frames: list[Frame] = []
        for qp in args.qps:
            options = {"qp": qp, "effort": args.effort, "bframes": args.bframes}
            crop = "x".join(map(str, args.crop))
            what = [hash_of(weights).hex(), scene, args.frames, crop, *options.values()]
            key = " ".join(map(str, what))
            if key not in kept:
                if not frames:
                    frames = middle_of(args.clips / f"{scene}.mp4", args.frames, args.crop)
                coder = open_coder(network, tuple(frames[0].planes[0].shape))
                given = EncodeOptions(**options, gop=args.frames)
                kept[key] = measure(coder, frames, given)
            result.setdefault(scene, []).append((kept[key][0], kept[key][1]))
    return result


def table(names: list[str], found: list[dict[str, Curve]]) -> str:
    """Markdown: BD-rate of everything against the first."""
    scenes = list(found[0])
    heads = ["", *scenes, "mean"]
    lines = [" | ".join(heads), " | ".join(["---"] * len(heads))]
    for name, curve in zip(names, found, strict=True):
        rates = []
        for scene in scenes:
            points = [
                [list(axis) for axis in zip(*sorted(one[scene]), strict=True)]
                for one in (found[0], curve)
            ]
            rates.append(bd_rate(*points[0], *points[1]))
        shown = [f"{rate:+.1f} %" for rate in (*rates, sum(rates) / len(rates))]
        lines.append(" | ".join([name, *shown]))
    return "\n".join(f"| {line} |" for line in lines)


def numbers(mark: str, count: int | None = None) -> Callable[[str], tuple[int, ...]]:
    """What reads whole numbers with `mark` between them; argparse reports what it raises."""

    def read(text: str) -> tuple[int, ...]:
        found = tuple(int(part) for part in text.split(mark))
        if count not in (None, len(found)):
            raise ValueError
        return found

    return read


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 for bad weights or clips, 2 for bad options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", nargs="+", help="names of shipped weights, or files")
    parser.add_argument("--clips", type=Path, required=True, help="folder of the scenes")
    parser.add_argument("--scenes", default=SCENES, help="default %(default)s")
    parser.add_argument("--qps", type=numbers(","), default="24,40,52", help="default %(default)s")
    parser.add_argument("--frames", type=int, default=32)
    crop = "HxW, default %(default)s"
    parser.add_argument("--crop", type=numbers("x", 2), default="192x320", help=crop)
    parser.add_argument("--effort", type=int, default=1)
    parser.add_argument("--bframes", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="JSON file of what was measured before")
    args = parser.parse_args(arguments)
    kept: dict[str, Any] = {}
    if args.keep is not None and args.keep.exists():
        kept = json.loads(args.keep.read_text())
    try:
        found = [curves(by_name(name), args, kept) for name in args.weights]
        result = table(args.weights, found)
    except (NvcError, OSError) as error:
        print(f"compare_weights: error: {' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    finally:
        if args.keep is not None:
            args.keep.write_text(json.dumps(kept))
    print(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
