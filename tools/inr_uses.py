"""Figures of what a fit is good for besides compression: frames between frames, holes, noise.

    python tools/inr_uses.py CLIP --out docs/inr --epochs 150

Each figure comes of a file: encoded, decoded again, and measured against frames that the fit never
saw. Prints one JSON line a figure and writes uses_interpolate.png, uses_inpaint.png and
uses_denoise.png: the given frame, what came out, the truth.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

import nvc
from nvc.evaluation.metrics import plane_psnr
from nvc.inr.recipe import read_recipe
from nvc.video.color import yuv_to_rgb
from nvc.video.frames import Frame, VideoInfo
from nvc.video.reader import open_video
from nvc.video.writer import open_writer

RECIPES = Path(__file__).parent.parent / "recipes"
NOISE = 20.0  # standard deviation, in levels of 255


def write(frames: list[Frame], info: VideoInfo, path: Path) -> None:
    """Frames as a y4m file at an even rate."""
    with open_writer(os.fspath(path), replace(info, frame_count=len(frames))) as writer:
        for number, frame in enumerate(frames):
            writer.write(Frame(frame.planes, pts=number))


def fitted(path: Path, recipe: str, epochs: int, size: int, **options: Any) -> Path:
    """The file a recipe makes of a clip."""
    codec, fit = read_recipe(RECIPES / f"{recipe}.yaml")
    fit |= {"epochs": epochs, **options}
    out = path.with_suffix(".nvc")
    nvc.encode(path, out, codec, size=size, device="cpu", threads=1, overwrite=True, **fit)
    return out


def decoded(path: Path, fps: str | None = None) -> list[Frame]:
    """The frames of a file, by way of a lossless one."""
    back = path.with_suffix(".back.y4m")
    nvc.decode(path, back, fps=fps, device="cpu", threads=1, overwrite=True)
    with open_video(back) as reader:
        return list(reader)


def luma(one: list[Frame], two: list[Frame], part: tuple[slice, slice] | None = None) -> float:
    """Mean luma PSNR in dB, of a part of the picture when one is given."""
    part = part or (slice(None), slice(None))
    pairs = zip(one, two, strict=True)
    values = [plane_psnr(a.planes[0][part], b.planes[0][part], 8) for a, b in pairs]
    return round(sum(values) / len(values), 2)


def picture(frames: list[Frame], info: VideoInfo, path: Path) -> None:
    """Frames side by side as PNG."""
    from PIL import Image

    rgb = [yuv_to_rgb([p[None] for p in frame.planes], info)[0] for frame in frames]
    wide = (torch.cat(rgb, dim=2) * 255).round().to(torch.uint8).permute(1, 2, 0)
    image = Image.fromarray(wide.contiguous().numpy())
    image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", help="video of at least 16 frames")
    parser.add_argument("--out", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--size", type=int, default=8000, help="bytes of each file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    with open_video(args.clip, frames=17, audio=False) as reader:
        info, whole = reader.info, list(reader)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        half, between = whole[::2], whole[1::2]
        write(half, info, folder / "half.y4m")
        double = decoded(
            fitted(folder / "half.y4m", "interpolate", args.epochs, args.size), fps="2x"
        )
        made = double[1 : 2 * len(half) - 1 : 2]
        row = {"figure": "interpolate", "made": luma(between, made)}
        row |= {"repeated": luma(between, double[: 2 * len(half) - 2 : 2])}
        row |= {"fitted_frames": luma(half, double[::2])}
        print(json.dumps(row), flush=True)
        picture([double[8], made[4], between[4]], info, args.out / "uses_interpolate.png")

        frames = whole[:16]
        rows, columns = info.height // 4 // 2 * 2, info.width // 4 // 2 * 2
        hole = (slice(rows, 2 * rows), slice(columns, 2 * columns))
        given = [Frame(tuple(p.clone() for p in frame.planes), pts=0) for frame in frames]
        for frame in given:
            frame.planes[0][hole] = 235
        blank = [torch.full_like(plane, 128) for plane in frames[0].planes]
        blank[0].fill_(16)
        blank[0][hole] = 235
        write([Frame(tuple(blank), pts=0)], info, folder / "mask.y4m")
        write(given, info, folder / "given.y4m")
        mask = os.fspath(folder / "mask.y4m")
        out = decoded(
            fitted(folder / "given.y4m", "inpaint", args.epochs, args.size, ignore_mask=mask)
        )
        row = {"figure": "inpaint", "hole_given": luma(frames, given, hole)}
        row |= {"hole_filled": luma(frames, out, hole), "whole_filled": luma(frames, out)}
        print(json.dumps(row), flush=True)
        picture([given[8], out[8], frames[8]], info, args.out / "uses_inpaint.png")

        generator = torch.Generator().manual_seed(0)
        noisy = []
        for frame in frames:
            planes = [
                (p.float() + NOISE * torch.randn(p.shape, generator=generator)).round()
                for p in frame.planes
            ]
            noisy.append(Frame(tuple(p.clamp(0, 255).to(torch.uint8) for p in planes), pts=0))
        write(noisy, info, folder / "noisy.y4m")
        out = decoded(fitted(folder / "noisy.y4m", "denoise", args.epochs, args.size))
        row = {"figure": "denoise", "noisy": luma(frames, noisy), "fitted": luma(frames, out)}
        print(json.dumps(row), flush=True)
        picture([noisy[8], out[8], frames[8]], info, args.out / "uses_denoise.png")


if __name__ == "__main__":
    main()
