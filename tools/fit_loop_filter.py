"""Fit the loop filter of a network to what it makes of clips.

  python tools/fit_loop_filter.py WEIGHTS.safetensors CLIP... --out FILTERED.safetensors
  python tools/fit_loop_filter.py WEIGHTS.safetensors CLIP... --ways --out TUNABLE.safetensors

Every clip is encoded at the middle of its picture and once more at half the size, by --jobs
processes. Pictures that others refer to change with the filter, so it is fitted --rounds times,
what was collected before counting half as much each time. --ways leaves the tables as they are and
finds the ways along which a frame moves them (nvc.predictive.filter_tuning).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from compare_weights import middle_of, numbers

from nvc.errors import NvcError, UsageError
from nvc.nn.planes import shrink_planes
from nvc.predictive.checkpoint import load_network, save_network
from nvc.predictive.counting import Clip
from nvc.predictive.filter_fit import QPS, FilterFit, unfiltered, with_filter
from nvc.predictive.way_fit import WayFit
from nvc.weights import by_name


def clips_of(path: Path, frames: int, crop: tuple[int, int]) -> list[Clip]:
    """The middle of a clip, and of the same at half the size."""
    whole = [frame.planes for frame in middle_of(path, frames, crop)]
    twice = [frame.planes for frame in middle_of(path, frames, (2 * crop[0], 2 * crop[1]))]
    sides = [(plane.shape[0] // 4 * 4, plane.shape[1] // 4 * 4) for plane in twice[0]]
    halves = [
        tuple(
            shrink_planes([plane[None, None, :rows, :columns].float()], 2)[0][0, 0]
            .round()
            .to(torch.uint8)
            for plane, (rows, columns) in zip(planes, sides, strict=True)
        )
        for planes in twice
    ]
    return [whole, halves]


def collect(
    paths: list[Path],
    weights: Path,
    frames: int,
    crop: tuple[int, int],
    qps: tuple[int, ...],
    ways: bool,
) -> FilterFit | WayFit:
    """Sums over some clips, for tables or ways. Every other clip has every other QP."""
    torch.set_num_threads(1)
    network = with_filter(load_network(weights)).to(memory_format=torch.channels_last)
    assert network.filter is not None
    fit = WayFit() if ways else FilterFit()
    for number, path in enumerate(paths):
        for size, clip in enumerate(clips_of(path, frames, crop)):
            for frame in unfiltered(network, [clip], qps[(number + size) % 2 :: 2]):
                if isinstance(fit, FilterFit):
                    fit.add(*frame)
                    continue
                made, source, *told = frame
                plain = network.filter(made, *(torch.tensor([value]) for value in told))
                fit.add(made, plain, source)
        print(path.name, file=sys.stderr, flush=True)
    return fit


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 when OUT was written, 1 for bad weights or clips, 2 for bad options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", help="a shipped name, or a file")
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", action="store_true", help="fit these and not the tables")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--frames", type=int, default=17, help="of each clip (default 17)")
    parser.add_argument("--crop", type=numbers("x", 2), default="192x320", help="HxW")
    parser.add_argument("--qps", type=numbers(","), default=",".join(map(str, QPS)))
    args = parser.parse_args(arguments)
    try:
        if min(args.rounds, args.jobs) < 1:
            raise UsageError(f"{args.rounds} rounds, {args.jobs} jobs; allowed: 1 and more")
        network = with_filter(load_network(by_name(args.weights)))
        parts = [args.clips[number :: args.jobs] for number in range(args.jobs)]
        with (
            tempfile.TemporaryDirectory() as folder,
            ProcessPoolExecutor(
                args.jobs, mp_context=multiprocessing.get_context("spawn")
            ) as processes,
        ):
            assert network.filter is not None
            fit = WayFit() if args.ways else FilterFit()
            for number in range(1 if args.ways else args.rounds):
                path = Path(folder) / f"{number}.safetensors"
                save_network(network, path)
                work = partial(
                    collect, weights=path, frames=args.frames, crop=args.crop, qps=args.qps,
                    ways=args.ways,
                )  # fmt: skip
                if isinstance(fit, FilterFit):
                    fit.fade(0.5)
                for found in processes.map(work, parts):
                    fit.take(found)
                fit.give(network.filter)
        save_network(network, args.out)
    except (NvcError, OSError) as error:
        print(f"fit_loop_filter: error: {' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
