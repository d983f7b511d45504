"""What the scheduler adds to tasks: inline, processes, and a Ray cluster of this machine.

    python tools/schedule_overhead.py [--tasks 4] [--seconds 10] [--megabytes 50] [--no-ray]

A task is sent so many bytes and sleeps, so that other work on the machine changes the figures less
than if it worked. Two at a time; the overhead is the wall time beyond the sleeping, in per cent of
it, without and with starting and stopping the workers; and the processor time of this process and,
where they are its children, of the workers.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from nvc.schedule import Scheduler, Task, open_scheduler


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
    args = parser.parse_args()
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
