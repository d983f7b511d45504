"""What a task is, how it is run wherever it is run, and what comes of it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

from nvc.errors import NvcError


class WorkerError(NvcError):
    """A task was lost with its worker more often than it may be run again."""


@dataclass(frozen=True)
class Task:
    """Arguments of one call, plain picklable data, and what it takes to run it.

    cpus: cores, also the threads torch may use in it; gpus: GPUs, of which shares can be asked for.
    """

    arguments: tuple
    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        if not isinstance(self.arguments, tuple):
            raise ValueError(f"arguments is a {type(self.arguments).__name__}; allowed: a tuple")
        if self.cpus <= 0 or self.gpus < 0:
            raise ValueError(f"cpus {self.cpus}, gpus {self.gpus}; allowed: cpus > 0, gpus >= 0")


@dataclass(frozen=True)
class Outcome:
    """What came of a task: its value, or the exception it raised."""

    value: Any = None
    error: Exception | None = None

    def result(self) -> Any:
        """The value; raises the task's own exception."""
        if self.error is not None:
            raise self.error
        return self.value


def run_task(function: Callable[..., Any], task: Task) -> Outcome:
    """Call a function in a worker. What it raises is an outcome, its traceback in a note."""
    _set_threads(max(1, int(task.cpus)))
    try:
        return Outcome(value=function(*task.arguments))
    except Exception as error:  # all of it goes back and is raised there
        return Outcome(error=_portable(error))


def _set_threads(count: int) -> None:
    """Threads of torch here, of a torch still to be imported, and of programs started here."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _portable(error: Exception) -> Exception:
    """The exception itself when it survives the journey, else a RuntimeError that names it."""
    trace = "".join(traceback.format_exception(error))
    try:
        copy = ForkingPickler.loads(ForkingPickler.dumps(error))
        whole = type(copy) is type(error) and str(copy) == str(error)
    except Exception:  # pickling runs the exception's own code, which may raise anything
        whole = False
    sent = error if whole else RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note(f"It was raised in a worker:\n{trace}")
    return sent
