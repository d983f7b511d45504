"""Count where the adaptive bits of a network's symbols and motion begin, over clips.

  python tools/count_contexts.py WEIGHTS.safetensors CLIP... --out COUNTED.safetensors

Weights of `nvc train` are counted already; this is for other clips, or weights from elsewhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from nvc.errors import InputError, NvcError, UsageError
from nvc.predictive.checkpoint import load_network, save_network
from nvc.predictive.counting import QPS, Clip, count_contexts, set_contexts
from nvc.video.reader import open_video


def clips(paths: list[Path], frames: int) -> Iterator[Clip]:
    """The first frames of each; 8-bit 4:2:0."""
    for path in paths:
        with open_video(path, frames=frames) as reader:
            if reader.info.chroma != "420" or reader.info.bit_depth != 8:
                raise InputError(f"{path}: only 8-bit 4:2:0 clips can be counted")
            clip = [frame.planes for frame in reader]
        if not clip:
            raise InputError(f"{path}: there are no frames to count")
        yield clip


def list_of_qps(text: str) -> list[int]:
    """Numbers of a text like 12,28,44; which of them are QPs is for the encoder to say."""
    try:
        return [int(qp) for qp in text.split(",")]
    except ValueError:
        raise UsageError(f"--qps is {text!r}; it must be numbers with commas between") from None


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 when OUT was written, 1 for bad weights or clips, 2 for bad options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=9, help="of each clip (default 9)")
    parser.add_argument("--qps", default=",".join(map(str, QPS)), help="default %(default)s")
    args = parser.parse_args(arguments)
    try:
        network = load_network(args.weights)
        chosen = clips(args.clips, args.frames)
        counts = count_contexts(network, chosen, qps=list_of_qps(args.qps))
        set_contexts(network, counts)
        save_network(network, args.out)
    except (NvcError, OSError) as error:
        print(f"count_contexts: error: {' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
