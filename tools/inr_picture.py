"""One frame of the files of an INR bake-off side by side, each with its name, bytes and PSNR.

    python tools/inr_picture.py results.jsonl --kept FOLDER --clip NAME --frame N --out picture.png

results.jsonl and FOLDER are what tools/inr_bakeoff.py wrote with --out and --keep; the first
picture is the clip's own frame. PSNR is of the whole clip in RGB. --only names variants, in order.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image, ImageDraw

import nvc
from nvc.video.color import yuv_to_rgb
from nvc.video.frames import Frame, VideoInfo
from nvc.video.reader import open_video

LABEL = 12  # rows of a label
COLUMNS = 3


def picture(frame: Frame, info: VideoInfo) -> Image.Image:
    """A frame as 8-bit RGB."""
    # planes (h, w) -> (1, h, w); RGB (1, 3, H, W) -> (H, W, 3)
    rgb = yuv_to_rgb(tuple(plane[None] for plane in frame.planes), info)[0]
    return Image.fromarray((rgb * 255).round().byte().permute(1, 2, 0).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--frame", type=int, default=0)
    parser.add_argument("--only", action="append", help="these variants")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.results.read_text().splitlines()]
    found = {row["variant"]: row for row in rows if row["clip"] == args.clip}
    with open_video(args.kept / f"{args.clip}.y4m", start=args.frame, frames=1) as reader:
        cells = [("source", picture(next(iter(reader)), reader.info))]
    for name in args.only or found:
        with nvc.open(args.kept / f"{name}_{args.clip}.nvc", device="cpu") as decoded:
            frame = next(iter(decoded.frames(start=args.frame)))
            shown = picture(frame, decoded.info)
        row = found[name]
        label = f"{name.removeprefix('method_')}: {row['bytes']:,} B, {row['psnr_rgb']:.2f} dB"
        cells.append((label, shown))
    width, height = cells[0][1].size
    rows_needed = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, rows_needed * (height + LABEL)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (label, shown) in enumerate(cells):
        left, top = number % COLUMNS * width, number // COLUMNS * (height + LABEL)
        draw.text((left + 2, top), label, fill="black")
        sheet.paste(shown, (left, top + LABEL))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
