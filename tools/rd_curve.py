"""Rate-distortion curve of dhvc beside conventional encoders on one clip, from whole files.

    python tools/rd_curve.py CLIP --frames 64 --crop 640x1280 --json out.json

Every point of ours is a file written by `nvc encode` and measured by `nvc eval` in a fresh process;
anchors run on the same frames with the same distance of key frames. Prints Markdown rows and the
BD-rate of ours against each anchor (YUV PSNR, PCHIP over log rate); --json appends points as lines,
and a point that is there already is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from nvc.commands.measure import is_stream, measure_file
from nvc.commands.options import size
from nvc.evaluation.anchors import encode_anchor, parse_anchor
from nvc.evaluation.bdrate import bd_rate
from nvc.evaluation.frame_types import frame_types, stream_sizes
from nvc.player import Video
from nvc.video.count import coded_sizes
from nvc.video.reader import VideoReader

CRFS = {"x264": (18, 24, 30, 36, 42), "x265": (16, 22, 28, 34, 40), "svtav1": (20, 32, 42, 52, 62)}
ANCHORS = ("x264-veryfast", "x264-medium", "x265-medium", "svtav1-8")


def nvc(*arguments: str) -> dict[str, Any]:
    """One nvc command in a fresh process; its JSON."""
    command = [sys.executable, "-m", "nvc", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"rd_curve: {' '.join(command)} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def our_point(args: argparse.Namespace, selection: list[str], qp: int) -> dict[str, Any]:
    """Encode at a QP, then measure the file against the clip."""
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/point.nvc"
        options = ["--qp", str(qp), "--gop", str(args.gop), "--device", args.device]
        options += ["--weights", args.weights, "--threads", str(args.threads), "--no-audio"]
        encoded = nvc("encode", args.clip, made, "--codec", "dhvc", *options, *selection)
        measured = nvc("eval", args.clip, made, *selection, "--threads", str(args.threads))
        apart = by_type(args, Path(made))
    return {**measured, **apart, "encode_seconds": encoded["seconds"]}


def by_type(args: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Intra and inter frames of a file apart: bytes of the frames alone, YUV PSNR."""
    stream = is_stream(path)
    with ExitStack() as stack:
        original = stack.enter_context(VideoReader(args.clip, frames=args.frames, crop=args.crop))
        decoded = stack.enter_context(
            Video(path, device=args.device) if stream else VideoReader(str(path))
        )
        sizes = stream_sizes(path) if stream else coded_sizes(path)
        return frame_types(original, decoded, original.info, decoded.info, sizes)


def anchor_point(args: argparse.Namespace, name: str, crf: float) -> dict[str, Any]:
    """Encode the same frames conventionally, then measure the file against them."""
    reader = VideoReader(args.clip, frames=args.frames, crop=args.crop)
    with tempfile.TemporaryDirectory() as folder, reader:
        path = Path(folder) / "point.mkv"
        anchor = parse_anchor(name, gop=args.gop)
        made = encode_anchor(reader, reader.info, path, anchor, crf)
        measured = measure_file(args.clip, str(path), frames=args.frames, crop=args.crop)
        apart = by_type(args, path)
    return {**measured, **apart, "options": made.options}


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All points, those of an earlier run read back."""
    path = Path(args.json) if args.json else None
    lines = path.read_text().splitlines() if path and path.exists() else []
    done = {(row["codec"], row["quality"]): row for row in map(json.loads, lines)}
    selection = ["--frames", str(args.frames)] if args.frames else []
    if args.crop:
        selection += ["--crop", "x".join(map(str, args.crop))]
    wanted: list[tuple[str, float]] = [("dhvc", qp) for qp in args.qps]
    for name in args.anchors:
        wanted += [(name, crf) for crf in CRFS[name.split("-")[0]]]
    rows = []
    for codec, quality in wanted:
        row = done.get((codec, quality))
        if row is None:
            point = (
                our_point(args, selection, int(quality))
                if codec == "dhvc"
                else anchor_point(args, codec, quality)
            )
            row = {"codec": codec, "quality": quality, **point}
            if path:
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        rows.append(row)
        print(
            f"| {codec} | {quality:g} | {row['bytes']} | {row['bpp']:.4f} | {row['psnr_y']:.2f} "
            f"| {row['psnr_yuv']:.2f} |",
            flush=True,
        )
    return rows


def main() -> None:
    """Parse, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--crop", type=size, metavar="HxW")
    parser.add_argument("--gop", type=int, default=32)
    parser.add_argument("--qps", type=int, nargs="*", default=[8, 20, 32, 44, 56])
    parser.add_argument("--weights", default="dhvc_s")
    parser.add_argument("--anchors", nargs="*", default=list(ANCHORS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="points as JSON lines; resumes from them")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = run(args)

    def curve(codec: str, kind: str | None = None) -> tuple[list[float], list[float]]:
        chosen = [row[kind] if kind else row for row in rows if row["codec"] == codec]
        points = sorted((point["bpp"], point["psnr_yuv"]) for point in chosen)
        return [p[0] for p in points], [p[1] for p in points]

    for name in args.anchors if len(args.qps) > 1 else ():
        whole, intra, inter = (
            bd_rate(*curve(name, kind), *curve("dhvc", kind)) for kind in (None, "intra", "inter")
        )
        print(
            f"BD-rate against {name}: {whole:+.1f} % "
            f"(bytes of the frames alone: intra {intra:+.1f} %, inter {inter:+.1f} %)"
        )


if __name__ == "__main__":
    main()
