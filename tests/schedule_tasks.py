"""Functions that the workers of the scheduler's tests run; these must be able to import them."""

from __future__ import annotations

import atexit
import os
import signal
import time
from pathlib import Path

import numpy as np

from nvc.errors import StreamError


def square(number: int) -> int:
    return number * number


def slow_square(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number * number


def who(seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getpid()


def broken_stream(number: int) -> int:
    if number == 2:
        raise StreamError("unit 2 is broken")
    return number


class Unsendable(Exception):
    """Its constructor takes other things than it keeps, so that a copy cannot be made of it."""

    def __init__(self, name: str, place: int) -> None:
        super().__init__(f"{name} at {place}")


def unsendable_error() -> None:
    raise Unsendable("something", 3)


def unsendable_result() -> object:
    return lambda: None


def log_and_die_once(number: int, folder: str) -> int:
    """Write down that the task ran; the first run of task 1 kills its own process."""
    with (Path(folder) / "runs").open("a") as log:
        log.write(f"{number}\n")
    died = Path(folder) / "died"
    if number == 1 and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)  # the others are under way while one dies
    return number


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def busy_at_once(folder: str, number: int) -> int:
    """How many tasks run while this one starts."""
    here = Path(folder)
    mark = here / str(number)
    mark.touch()
    count = len(list(here.iterdir()))
    time.sleep(0.15)
    mark.unlink()
    return count


def threads() -> str:
    return os.environ["OMP_NUM_THREADS"]


def gpu() -> str | None:
    time.sleep(0.1)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def negative(pictures: list[np.ndarray]) -> list[np.ndarray]:
    for picture in pictures:
        np.subtract(255, picture, out=picture)
    return pictures


def leave_slowly(number: int) -> int:
    """The process of this task is told to end when it is ending already."""
    atexit.register(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(0.1)))
    return number


def write_after(path: str, seconds: float) -> None:
    time.sleep(seconds)
    Path(path).touch()


def pid_file_then_sleep(folder: str, number: int) -> None:
    (Path(folder) / f"pid{number}").write_text(str(os.getpid()))
    time.sleep(60)


def note_node(folder: str, number: int, doomed: str) -> int:
    """On a Ray cluster: note the node, and stay for ever on the one that is going to be killed."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    (Path(folder) / f"{number}-{here}").touch()
    time.sleep(600 if here == doomed else 0.1)
    return number
