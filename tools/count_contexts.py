"""Count where the adaptive bits of a network's symbols and motion begin, over clips.

  python tools/count_contexts.py WEIGHTS.safetensors CLIP... --out COUNTED.safetensors

Weights of `nvc train` are counted already; this is for other clips, or weights from elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from nvc.predictive.checkpoint import load_network, save_network
from nvc.predictive.counting import QPS, Clip, count_contexts, set_contexts
from nvc.video.reader import VideoReader


def clips(paths: list[Path], frames: int) -> Iterator[Clip]:
    """The first frames of each; 8-bit 4:2:0."""
    for path in paths:
        with VideoReader(path) as reader:
            if reader.info.chroma != "420" or reader.info.bit_depth != 8:
                raise SystemExit(f"{path}: only 8-bit 4:2:0 clips can be counted")
            yield [frame.planes for frame in islice(reader, frames)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=9, help="of each clip (default 9)")
    parser.add_argument("--qps", default=",".join(map(str, QPS)))
    args = parser.parse_args()
    network = load_network(args.weights)
    qps = [int(qp) for qp in args.qps.split(",")]
    set_contexts(network, count_contexts(network, clips(args.clips, args.frames), qps=qps))
    save_network(network, args.out)


if __name__ == "__main__":
    main()
