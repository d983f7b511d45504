"""Tasks in processes on this machine, each process known by its own pipe.

A pool of the standard library is lost as a whole when one of its processes dies; here the task of
a dead process is the only one that is run again.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from nvc.errors import UsageError
from nvc.schedule import exchange
from nvc.schedule.scheduler import WorkerScheduler
from nvc.schedule.task import Outcome, Task, WorkerError, run_task

_LOG = logging.getLogger(__name__)
_GRACE = 3.0  # seconds a worker has to stop its own children and to remove what it left


@dataclass
class _Job:
    """A task on its way through the scheduler."""

    number: int
    function: Callable[..., Any]
    task: Task
    retries: int
    deaths: int = 0


class ProcessScheduler(WorkerScheduler):
    """At most `jobs` processes; tasks run while their cpus fit into `jobs`.

    A task that asks for a GPU, or a share of one, runs where it sees only the one it was given.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._gpus: list[str] | None = None  # looked for when a task asks
        self._queue: deque[_Job] = deque()
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, tuple[_Worker, _Job]] = {}
        self._done: list[tuple[int, Outcome]] = []

    def width(self) -> int:
        return self._jobs

    def submit(self, number: int, function: Callable[..., Any], task: Task, retries: int) -> None:
        if task.gpus > 1:
            raise UsageError(
                f"a task asks for {task.gpus:g} GPUs; allowed: 1, unless on a cluster (--cluster)"
            )
        if task.gpus and self._gpus is None:
            self._gpus = _visible_gpus()
        if task.gpus and not self._gpus:
            raise UsageError("a task asks for a GPU, and there is none here that torch can use")
        self._queue.append(_Job(number, function, task, retries))
        self._start()

    def wait(self) -> list[tuple[int, Outcome]]:
        while not self._done:
            self._start()
            for pipe in connection.wait(list(self._busy)):
                worker, job = self._busy[pipe]  # type: ignore[index]
                try:
                    outcome = worker.receive()
                except (EOFError, OSError):
                    del self._busy[worker.pipe]
                    self._lost(worker, job)
                    continue
                del self._busy[worker.pipe]
                self._idle.append(worker)
                self._done.append((job.number, outcome))
        self._start()
        found, self._done = self._done, []
        return found

    def cancel(self) -> None:
        self._queue.clear()
        self._done.clear()
        _stop([worker for worker, _ in self._busy.values()])
        self._busy.clear()

    def close(self) -> None:
        self.cancel()
        _stop(self._idle)
        self._idle.clear()

    def _start(self) -> None:
        """Hand out tasks, in their order, as long as the next one fits."""
        while self._queue and self._fits(self._queue[0].task):
            gpu = self._free_gpu(self._queue[0].task.gpus)
            if gpu is None and self._queue[0].task.gpus:
                return
            job = self._queue.popleft()
            worker = self._worker(gpu)
            try:
                worker.send(job.function, job.task)
            except (BrokenPipeError, ConnectionResetError):
                self._lost(worker, job)
                continue
            except BaseException:
                _stop([worker])
                raise
            self._busy[worker.pipe] = (worker, job)

    def _fits(self, task: Task) -> bool:
        running = [job.task for _, job in self._busy.values()]
        if not running:
            return True
        cpus = sum(one.cpus for one in running) + task.cpus
        return len(running) < self._jobs and cpus <= self._jobs

    def _free_gpu(self, share: float) -> str | None:
        """The first GPU with so much to spare; None when there is none, or none is asked for."""
        for gpu in (self._gpus or []) if share else []:
            used = sum(job.task.gpus for worker, job in self._busy.values() if worker.gpu == gpu)
            if used + share <= 1:
                return gpu
        return None

    def _worker(self, gpu: str | None) -> _Worker:
        """A process bound to this GPU; one of another kind makes room for it."""
        for worker in list(self._idle):
            if worker.gpu == gpu or not worker.process.is_alive():
                self._idle.remove(worker)
                if worker.process.is_alive():
                    return worker
                worker.end()
        if self._idle and len(self._idle) + len(self._busy) >= self._jobs:
            _stop([self._idle.pop()])
        return _Worker(gpu)

    def _lost(self, worker: _Worker, job: _Job) -> None:
        """A worker died: its task goes to the head of the queue, or is given up."""
        how = worker.end()
        job.deaths += 1
        _LOG.warning("task %d lost its process (%s)", job.number, how)
        if job.deaths <= job.retries:
            self._queue.appendleft(job)
            return
        error = WorkerError(
            f"task {job.number} lost its process {job.deaths} times, the last time {how}; "
            "too little memory is one reason: try fewer jobs"
        )
        self._done.append((job.number, Outcome(error=error)))


class _Worker:
    """A process, the pipe to it, and the GPU it sees in place of all."""

    def __init__(self, gpu: str | None) -> None:
        self.gpu = gpu
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(far, gpu), daemon=True)
        # Blocked until the process has a handler: an interrupt while it still imports would
        # otherwise print a traceback. The tracker comes first because starting it unblocks.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        far.close()

    def send(self, function: Callable[..., Any], task: Task) -> None:
        exchange.send(self.pipe, (function, task))

    def receive(self) -> Outcome:
        return exchange.receive(self.pipe)

    def end(self) -> str:
        """Reap a process that died; how it did."""
        self.pipe.close()
        self.process.join(_GRACE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        return f"by signal {-code}" if code < 0 else f"with exit code {code}"


def _stop(workers: list[_Worker]) -> None:
    """End processes, by force if they do not end by themselves."""
    for worker in workers:
        worker.pipe.close()
        worker.process.terminate()
    late = time.monotonic() + _GRACE
    for worker in workers:
        worker.process.join(max(0.0, late - time.monotonic()))
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()


def _visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES says, or else the numbers of the GPUs."""
    import torch

    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names.split(",")[:count] if names else [str(number) for number in range(count)]


def _serve(pipe: Connection, gpu: str | None) -> None:
    """A worker's life: tasks until the pipe closes, a SIGTERM, or the end of the parent.

    An interrupt from the keyboard reaches the whole process group: the parent decides what comes of
    it. A handler that does nothing, unlike one that ignores, is not inherited by programs started
    here, so these end at once.
    """
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_watch_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before a task imports torch
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            _answer(pipe, _next(pipe))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is left to be closed


def _next(pipe: Connection) -> Outcome:
    try:
        function, task = exchange.receive(pipe)
    except (EOFError, OSError):
        raise
    except Exception as error:  # a function that cannot be imported here, for one
        return Outcome(error=RuntimeError(f"{type(error).__name__}: {error}"))
    return run_task(function, task)


def _answer(pipe: Connection, outcome: Outcome) -> None:
    try:
        exchange.send(pipe, outcome)
    except OSError:
        raise
    except Exception as error:  # a result that cannot be pickled
        exchange.send(
            pipe, Outcome(error=TypeError(f"the result of a task cannot be sent: {error}"))
        )


def _leave(*_: object) -> None:
    # An exception, so that what the task has open is closed and what it started is stopped; only
    # once, so that this is not disturbed itself.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def _watch_parent() -> None:
    """Leave when the parent is gone, killed perhaps, even in the middle of a task."""
    # A signal that comes to this thread would not wake the main one, whose task it should end.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(1)
