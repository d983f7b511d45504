"""What the scheduler adds to tasks: inline, processes, and a Ray cluster of this machine.

    python tools/schedule_overhead.py [--tasks 4] [--seconds 10] [--megabytes 50] [--no-ray]

A task is sent so many bytes and sleeps, so that other work on the machine changes the figures less
than if it worked. Two at a time; the overhead is the wall time beyond the sleeping, in per cent of
it, without and with starting and stopping the workers; and the processor time of this process and,
where they are its children, of the workers.

    python tools/schedule_overhead.py --clip CLIP [--frames 16] [--qps 8 24 40 56] [--rounds 1]

Points of a benchmark instead (dhvc, one at a time): wall time beyond that of the points themselves,
and the processor time of their steps, which tells whether the same work takes longer in a worker.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nvc.evaluation.bench_plan import Clip, Contender, plan
from nvc.evaluation.bench_point import run_point
from nvc.evaluation.protocol import Protocol
from nvc.schedule import Scheduler, Task, open_scheduler
from nvc.schedule.processes import ProcessScheduler
from nvc.video.reader import VideoReader


def rest(seconds: float, data: np.ndarray) -> int:
    """The task."""
    time.sleep(seconds)
    return len(data)


def measure(
    name: str, opening: Callable[[], Scheduler], *, tasks: int, seconds: float, data: np.ndarray
) -> None:
    """Print one line for a back-end."""
    began, spent = time.monotonic(), _processor_time()
    with opening() as scheduler:
        # One short task for each worker: from here on they are all there, with numpy imported.
        list(scheduler.map(rest, [Task((0.5, data[:1]))] * 2))
        ready = time.monotonic()
        for number, result in scheduler.map(rest, (Task((seconds, data)) for _ in range(tasks))):
            assert result == len(data), number
        worked = time.monotonic() - ready
    closed = time.monotonic() - began
    at_once = 1 if name == "inline" else 2
    ideal = -(-tasks // at_once) * seconds
    print(
        f"{name:<10} {worked:7.2f} s for {ideal:g} s: {100 * (worked / ideal - 1):5.2f} %; with "
        f"start and stop {closed:7.2f} s: {100 * (closed / ideal - 1):5.2f} %; processor "
        f"{_processor_time() - spent:.2f} s",
        flush=True,
    )


def imported() -> bool:
    """The first task of a worker: with it everything is there that a point needs."""
    return callable(run_point)


def timed_point(point: Any, folder: str) -> tuple[float, float]:
    """A point done: wall seconds of all of it, processor seconds of encoding and decoding."""
    began = time.monotonic()
    result = run_point(point, folder)
    if "failed" in result:
        sys.exit(f"schedule_overhead: {result['failed']}")
    spent = sum(result[step]["cpu_seconds"] for step in ("encode", "decode"))
    return time.monotonic() - began, spent


def measure_points(name: str, opening: Callable[[], Any], points: list[Any]) -> None:
    """Print one line for a back-end that does the points one after the other."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, opening() as scheduler:
        list(scheduler.map(imported, [Task(())]))
        ready = time.monotonic()
        tasks = (Task((point, folder)) for point in points)
        taken = [result for _, result in scheduler.map(timed_point, tasks, ordered=False)]
        worked = time.monotonic() - ready
    own = sum(wall for wall, _ in taken)
    print(
        f"{name:<10} {len(taken)} points of {min(taken)[0]:.1f} to {max(taken)[0]:.1f} s: "
        f"{worked:7.2f} s for {own:7.2f} s: {100 * (worked / own - 1):5.2f} %; processor "
        f"{sum(spent for _, spent in taken):7.2f} s; start {ready - began:.1f} s",
        flush=True,
    )


@contextmanager
def ray_of_one() -> Iterator[Scheduler]:
    """A Ray cluster of one node with one CPU."""
    from ray.cluster_utils import Cluster  # type: ignore[import-not-found]

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        with open_scheduler(cluster=cluster.address) as scheduler:
            yield scheduler
    finally:
        cluster.shutdown()


def points_of(clip: Path, frames: int, qps: list[float]) -> list[Any]:
    """Points of dhvc on the first frames of a clip."""
    with VideoReader(str(clip)) as reader:
        info = reader.info
    sequence = Clip(
        name=clip.stem,
        source=str(clip.resolve()),
        source_bytes=clip.stat().st_size,
        width=info.width,
        height=info.height,
        fps=float(info.frame_rate),
        frames=frames,
    )
    codec = Contender(label="dhvc", kind="codec", name="dhvc", rate_kind="qp", rates=tuple(qps))
    return plan("files", Protocol(frames=frames), [sequence], [codec])


def _processor_time() -> float:
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def main() -> int:
    """Always 0; the figures are for reading."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--megabytes", type=float, default=50, help="sent to each task")
    parser.add_argument("--no-ray", action="store_true")
    parser.add_argument("--clip", type=Path, help="points of a benchmark on this clip")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--qps", type=float, nargs="+", default=[8, 24, 40, 56])
    parser.add_argument("--rounds", type=int, default=1, help="of points, all back-ends in each")
    args = parser.parse_args()
    if args.clip:
        points = points_of(args.clip, args.frames, args.qps)
        kinds: list[tuple[str, Callable[[], Any]]] = [
            ("inline", open_scheduler),
            ("a process", lambda: ProcessScheduler(1)),
        ]
        for name, opens in (kinds if args.no_ray else [*kinds, ("ray", ray_of_one)]) * args.rounds:
            measure_points(name, opens, points)
        return 0
    data = np.zeros(int(args.megabytes * 1e6), np.uint8)
    backends: list[tuple[str, Callable[[], Scheduler]]] = [
        ("inline", lambda: open_scheduler()),
        ("processes", lambda: open_scheduler(jobs=2)),
    ]
    if not args.no_ray:
        backends.append(("ray", lambda: open_scheduler(cluster="auto")))
    for name, opening in backends:
        measure(name, opening, tasks=args.tasks, seconds=args.seconds, data=data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
