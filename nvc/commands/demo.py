"""``nvc demo``: the main job in one go, on a clip it makes itself when none is given."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvc.codecs import CODECS, DEFAULT_CODEC, codec_entry
from nvc.commands import options
from nvc.commands.progress import clear_progress, encode_progress
from nvc.errors import NvcError

if TYPE_CHECKING:
    from nvc.video.frames import Frame, VideoInfo

ANCHOR = "x265-medium"
LARGEST = (192, 320)  # height, width
FRAMES = 24
EPOCHS = 60

EPILOG = """\
Writes into DIR: original.mkv (lossless), clip.nvc, decoded.mp4, x265.mkv of about the same bytes,
and side_by_side.png of a frame in the middle (original | nvc | x265). Of INPUT it takes the
first frames and the centre, so that fitting takes a minute or two; --frames and --crop take more.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``nvc demo``."""
    parser.add_argument("input", metavar="INPUT", nargs="?", help="a video (default: make a clip)")
    parser.add_argument("--out", metavar="DIR", default="demo", help="default: demo")
    parser.add_argument(
        "--codec", choices=tuple(CODECS), default=DEFAULT_CODEC, help=f"default: {DEFAULT_CODEC}"
    )
    parser.add_argument("--frames", type=options.at_least(1), default=FRAMES, metavar="N")
    parser.add_argument(
        "--crop", type=options.size, metavar="HxW", help="centre crop (default: at most 192x320)"
    )
    parser.add_argument("--epochs", type=options.at_least(1), default=EPOCHS, metavar="N")
    parser.add_argument("--size", type=options.byte_count, metavar="BYTES", help="like 20kB")
    options.add_device(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Make or take a clip, encode, decode and measure in fresh processes, compare, draw."""
    from nvc import api
    from nvc.commands.measure import measure_file
    from nvc.device import set_threads
    from nvc.evaluation.anchors import encode_anchor_to_size, parse_anchor
    from nvc.video.reader import open_video

    def say(line: str) -> None:
        if not args.json:
            print(line, flush=True)

    set_threads(args.threads)
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    original, stream = folder / "original.mkv", folder / "clip.nvc"
    decoded, conventional = folder / "decoded.mp4", folder / "x265.mkv"

    # How long to fit means nothing to a codec that does not fit.
    fit = {"epochs": args.epochs} if codec_entry(args.codec).resumable else {}
    info = _take_clip(args, original)
    say(f"clip: {info.frame_count} frames {info.width}x{info.height} -> {original}")
    result = api.encode(
        original,
        stream,
        codec=args.codec,
        size=args.size,
        device=args.device,
        overwrite=True,
        progress=encode_progress(),
        **fit,
    )
    clear_progress()
    say(f"encoded with {args.codec} in {result.seconds:.0f} s -> {stream}")
    _fresh_process("decode", stream, decoded, "-y", "--device", args.device)
    say(f"decoded in a fresh process -> {decoded}")
    ours = json.loads(_fresh_process("eval", original, stream, "--json", "--device", args.device))

    def frames() -> Any:
        with open_video(original) as reader:
            yield from reader

    anchor = encode_anchor_to_size(
        frames, info, conventional, parse_anchor(ANCHOR), target_bytes=ours["bytes"]
    )
    theirs = measure_file(str(original), str(conventional))
    picture = folder / "side_by_side.png"
    _draw(picture, args.codec, [original, stream, conventional], [ours, theirs])
    if args.json:
        options.print_json(
            {
                **ours,
                "codec": args.codec,
                "seconds": result.seconds,
                "x265": {**theirs, "preset": ANCHOR, "options": anchor.options},
            }
        )
        return 0
    say(f"{ANCHOR} at crf {anchor.crf:g} -> {conventional}")
    say(f"\n{'':12}{'bytes':>8}{'bpp':>9}{'PSNR YUV':>10}{'Y':>8}{'RGB':>8}{'MS-SSIM':>9}")
    for name, row in ((f"nvc {args.codec}", ours), ("x265 medium", theirs)):
        similarity = "" if row["ms_ssim"] is None else f"{row['ms_ssim']:9.4f}"
        say(
            f"{name:12}{row['bytes']:8}{row['bpp']:9.4f}{row['psnr_yuv']:10.2f}"
            f"{row['psnr_y']:8.2f}{row['psnr_rgb']:8.2f}{similarity}"
        )
    say(f"\nside by side -> {picture}")
    return 0


def _take_clip(args: argparse.Namespace, path: Path) -> VideoInfo:
    """Write the clip, made or taken, without loss; what it is."""
    from dataclasses import replace

    from nvc.video.reader import open_video
    from nvc.video.writer import open_writer

    if args.input is None:
        info, clip = _made_clip(args.frames, args.crop)
        with open_writer(path, info) as writer:
            for frame in clip:
                writer.write(frame)
        return info
    crop = args.crop
    if crop is None:
        with open_video(args.input) as reader:
            crop = tuple(map(min, LARGEST, (reader.info.height, reader.info.width)))
    with open_video(args.input, frames=args.frames, crop=crop) as reader:
        count = 0
        with open_writer(path, reader.info) as writer:
            for frame in reader:
                writer.write(frame)
                count += 1
        return replace(reader.info, frame_count=count)


def _made_clip(count: int, size: tuple[int, int] | None) -> tuple[VideoInfo, list[Frame]]:
    from fractions import Fraction

    import torch

    from nvc.evaluation.scene import SCENE_RATE, SCENE_SIZE, scene_frame
    from nvc.video.color import rgb_to_yuv
    from nvc.video.frames import ColorInfo, Frame, VideoInfo

    height, width = size or SCENE_SIZE
    info = VideoInfo(
        width=width,
        height=height,
        frame_rate=Fraction(SCENE_RATE),
        time_base=Fraction(1, SCENE_RATE),
        frame_count=count,
        color=ColorInfo(matrix=1, primaries=1, transfer=1, full_range=False, chroma_location=1),
    )
    frames = []
    for index in range(count):
        # (h, w, 3) -> (1, 3, h, w)
        rgb = torch.from_numpy(scene_frame(index, height, width)).permute(2, 0, 1)[None]
        frames.append(Frame(tuple(plane[0] for plane in rgb_to_yuv(rgb, info)), index))
    return info, frames


def _fresh_process(*arguments: str | Path) -> str:
    """Run one nvc command in a new interpreter; its stdout. Raises NvcError when it fails."""
    command = [sys.executable, "-m", "nvc", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NvcError(f"nvc {arguments[0]} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _draw(path: Path, codec: str, videos: list[Path], rows: list[dict[str, Any]]) -> None:
    from nvc.commands.measure import frame_picture
    from nvc.evaluation.picture import side_by_side, write_png

    number = rows[0]["frames"] // 2
    labels = ["original"]
    for name, row in zip((f"nvc {codec}", "x265"), rows, strict=True):
        labels.append(f"{name} {row['bytes'] / 1000:.1f} kB {row['psnr_yuv']:.1f} dB")
    pictures = [frame_picture(video, number)[0] for video in videos]
    # Small glyphs for small pictures, so that a label fits over its panel.
    scale = max(1, min(3, pictures[0].shape[1] // (6 * max(map(len, labels)))))
    write_png(path, side_by_side(list(zip(labels, pictures, strict=True)), scale=scale))
