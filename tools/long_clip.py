"""Encode a long clip as one process does and GOP-parallel, and compare the bytes.

    python tools/long_clip.py CLIP [--seconds 300] [--rate 10] [--crop 144x176] [--jobs 2]
                              [--cluster auto] [--encode "--qp 32"]

The long clip is CLIP over and over, as .y4m in a temporary folder. Every way is an `nvc encode` of
its own. Said of each: bytes, whether they are those of the first, wall time, processor time of all
its processes (not of a cluster's), and the memory of the largest process.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from nvc.commands import options
from nvc.video.frames import Frame
from nvc.video.reader import open_video
from nvc.video.writer import open_writer


def make_long(clip: str, out: Path, *, frames: int, rate: Fraction, crop: tuple | None) -> None:
    """Write `frames` frames of a clip, begun anew at its end."""
    with open_video(clip, crop=crop) as reader:
        info = reader.info
    info = replace(info, frame_count=frames, frame_rate=rate, time_base=1 / rate)
    with open_writer(str(out), info) as writer:
        for number, frame in enumerate(itertools.islice(_again(clip, crop), frames)):
            writer.write(Frame(planes=frame.planes, pts=number))


def _again(clip: str, crop: tuple | None) -> Iterator[Frame]:
    while True:
        with open_video(clip, crop=crop) as reader:
            yield from reader


def encode(source: Path, out: Path, extra: list[str]) -> tuple[float, float, float]:
    """Wall and processor seconds of `nvc encode`, and MiB of the largest process."""
    began = time.monotonic()
    command = [sys.executable, "-m", "nvc", "encode", str(source), str(out), *extra]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"failed: {' '.join(command)}")
    return time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> int:
    """Exit status 0 when every way gave the bytes of one process, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clip", metavar="CLIP")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--rate", type=Fraction, default=Fraction(10), help="frames a second")
    parser.add_argument("--crop", type=options.size, metavar="HxW")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cluster", metavar="ADDRESS", help="also on this Ray cluster, or auto")
    parser.add_argument("--encode", default="", metavar="OPTIONS", help="options of every encode")
    args = parser.parse_args()
    ways = [[], ["--jobs", str(args.jobs)]]
    if args.cluster:
        ways.append(["--cluster", args.cluster])
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "long.y4m", Path(folder) / "long.nvc"
        frames = round(args.seconds * args.rate)
        make_long(args.clip, source, frames=frames, rate=args.rate, crop=args.crop)
        print(f"{frames} frames, {source.stat().st_size} bytes of samples")
        first: bytes | None = None
        same = True
        for way in ways:
            wall, spent, memory = encode(source, out, [*args.encode.split(), "-y", *way])
            made = out.read_bytes()
            first = made if first is None else first
            same = same and made == first
            print(
                f"{' '.join(way) or 'one process':<16} {len(made)} bytes, "
                f"{'the same' if made == first else 'NOT THE SAME'}; {wall:.1f} s, processor "
                f"{spent:.1f} s, largest process {memory:.0f} MiB",
                flush=True,
            )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
