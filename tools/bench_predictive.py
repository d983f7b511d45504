"""Where the time of dhvc goes: encoding and decoding a clip file to file, split by stage.

    python tools/bench_predictive.py CLIP --frames 64 --qp 32 --threads 2 --json

Runs the API in this process with timers around the stages, each nested one taken out of the one
around it; the first frames compile and warm up and are not counted. GOPs run side by side in as
many lanes as threads, and stages are told in processor time of the lanes' own threads, which a busy
machine blurs less than the time that passes. Beside it, as the measure of the machine: x265 medium
encoding the same frames, and FFmpeg decoding that file.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import nvc
from nvc.commands.options import size
from nvc.device import keep_freed_memory, set_threads
from nvc.evaluation.anchors import encode_anchor, parse_anchor
from nvc.predictive import (
    codec,
    frame_motion,
    frame_plan,
    inference,
    lookahead,
    motion_search,
    row_coder,
    sequence,
)
from nvc.video.frames import VideoInfo
from nvc.video.reader import VideoReader


class Stages:
    """Seconds of processor time by stage, exclusive of the stages called inside."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._own = threading.local()
        self._adding = threading.Lock()

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, its time counted as `stage`."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            open_here: list[float] = self._own.__dict__.setdefault("stack", [])
            began = time.thread_time()
            open_here.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.thread_time() - began
                inner = open_here.pop()
                if open_here:
                    open_here[-1] += whole
                with self._adding:
                    self.seconds[stage] = self.seconds.get(stage, 0.0) + whole - inner

        return timed

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Put the timers around the stages of the codec."""
        targets = [
            ("motion coding", frame_motion, "encode_vectors"),
            ("motion coding", frame_motion, "decode_vectors"),
            ("motion coding", frame_motion, "encode_shares"),
            ("motion coding", frame_motion, "decode_shares"),
            ("motion search", frame_motion, "search_units"),
            ("motion search", frame_motion, "search_pair"),
            ("motion search", frame_motion, "search_older"),
            ("motion search", frame_motion, "choose_shares"),
            ("motion search", motion_search, "_search"),  # in threads of its own
            ("looking ahead", lookahead, "link"),
            ("looking ahead", frame_plan, "plan"),
            ("temporal filter", frame_plan, "filtered"),  # but for its motion search
            ("symbols and scales", row_coder.RowLayerCoder, "__init__"),
            ("symbols and scales", row_coder.RowLayerCoder, "encode"),
            ("symbols and scales", row_coder.RowLayerCoder, "decode"),
            ("prediction", inference.RowLevel, "predict"),
            ("analysis", inference.RowLevel, "analyse"),
            ("synthesis", inference.RowLevel, "synthesise"),
            ("motion compensation", inference, "moved"),
            ("motion compensation", inference, "blended"),
            ("loop filter", inference.RowFilter, "__call__"),
            ("other", sequence.SequenceEncoder, "encode"),
            ("other", sequence.SequenceDecoder, "decode"),
            ("planes", codec, "to_planes"),
            ("planes", codec, "to_frame"),
        ]
        with ExitStack() as stack:
            for stage, owner, name in targets:
                timer = self.around(stage, getattr(owner, name))
                stack.enter_context(mock.patch.object(owner, name, timer))
            yield


def measure(run: Callable[[], Any], frames: int) -> dict[str, Any]:
    """Milliseconds a frame of `run`, in all and by stage, without reading and writing files."""
    stages = Stages()
    began, cpu = time.perf_counter(), time.process_time()
    with stages.measuring():
        run()
    whole = time.perf_counter() - began
    split = {name: 1000 * seconds / frames for name, seconds in sorted(stages.seconds.items())}
    return {
        "fps": frames / whole,
        "cpu_ms": 1000 * (time.process_time() - cpu) / frames,
        "stages_ms": {name: round(value, 2) for name, value in split.items()},
    }


def bench(args: argparse.Namespace) -> dict[str, Any]:
    """All figures of one clip."""
    keep_freed_memory()
    set_threads(args.threads)
    chosen = {"qp": args.qp, "gop": args.gop, "audio": False, "threads": args.threads}
    chosen |= {"effort": args.effort, "precision": args.precision, "bframes": args.bframes}
    with tempfile.TemporaryDirectory() as folder:
        made, out = Path(folder) / "a.nvc", Path(folder) / "a.yuv"
        with VideoReader(args.clip, frames=args.frames, crop=args.crop) as reader:
            info, frames = reader.info, list(reader)
        count = len(frames)
        nvc.encode(args.clip, made, frames=min(3, count), crop=args.crop, **chosen)  # compiles
        nvc.decode(made, out, threads=args.threads, precision=args.precision)
        selection = {"frames": args.frames, "crop": args.crop}
        encoded = measure(
            lambda: nvc.encode(args.clip, made, overwrite=True, **selection, **chosen), count
        )
        decoded = measure(
            lambda: nvc.decode(
                made, out, threads=args.threads, precision=args.precision, overwrite=True
            ),
            count,
        )
        other = Path(folder) / "a.mkv"
        if not args.anchor:
            return _result(args, info, count, encoded, decoded, None, None)
        began = time.perf_counter()
        encode_anchor(frames, info, other, parse_anchor("x265-medium", gop=args.gop), 28)
        x265 = count / (time.perf_counter() - began)
        began = time.perf_counter()
        with VideoReader(str(other)) as reader:
            hevc = sum(1 for _ in reader) / (time.perf_counter() - began)
    return _result(args, info, count, encoded, decoded, x265, hevc)


def _result(
    args: argparse.Namespace,
    info: VideoInfo,
    count: int,
    encoded: dict[str, Any],
    decoded: dict[str, Any],
    x265: float | None,
    hevc: float | None,
) -> dict[str, Any]:
    return {
        "clip": Path(args.clip).name,
        "size": f"{info.width}x{info.height}",
        "frames": count,
        "qp": args.qp,
        "threads": args.threads,
        "effort": args.effort,
        "bframes": args.bframes,
        "precision": args.precision,
        "encode": encoded,
        "decode": decoded,
        "x265_medium_encode_fps": x265,
        "ffmpeg_hevc_decode_fps": hevc,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--crop", type=size, metavar="HxW")
    parser.add_argument("--qp", type=int, default=32)
    parser.add_argument("--gop", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--effort", type=int, default=1)
    parser.add_argument("--bframes", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--no-anchor", dest="anchor", action="store_false")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = bench(args)
    if args.json:
        print(json.dumps(result))
        return
    print(f"{result['clip']} {result['size']}, {result['frames']} frames, QP {args.qp}")
    for direction in ("encode", "decode"):
        figures = result[direction]
        stages = ", ".join(f"{name} {value}" for name, value in figures["stages_ms"].items())
        print(
            f"{direction}: {figures['fps']:.2f} fps, {figures['cpu_ms']:.0f} ms of processor "
            f"a frame; ms by stage: {stages}"
        )
    if args.anchor:
        print(
            f"x265 medium encodes {result['x265_medium_encode_fps']:.2f} fps, FFmpeg decodes it at "
            f"{result['ffmpeg_hevc_decode_fps']:.1f} fps"
        )
    print(f"peak {result['peak_mb']:.0f} MB")


if __name__ == "__main__":
    main()
