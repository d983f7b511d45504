"""Tasks on a Ray cluster: the extra `cluster`.

Ray places a task where its cpus and gpus are free, runs it again when its worker or node dies, and
keeps at most one result of it; this file only draws tasks and takes results. Every worker checks
that it runs the same version of this package, since other code would make other bytes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvc.errors import UsageError
from nvc.schedule.scheduler import WorkerScheduler
from nvc.schedule.task import Outcome, Task, WorkerError, run_task
from nvc.version import __version__

AUTO = "auto"

#: Set unless the user has. Nothing is sent to Ray's makers; nothing of Ray's is printed, since it
#: would go to stdout, where a stream or JSON may be expected. Workers of a cluster of our own get
#: their share of a busy machine, as processes do: Ray's default leaves them what nobody else wants.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_worker_niceness": "0",
}


class RayScheduler(WorkerScheduler):
    """Tasks of one cluster; a cluster it started itself ends with it.

    address: `host:port` of the cluster's head, or `auto` for the cluster this machine is part of
    (RAY_ADDRESS, or what `ray start` noted here), or else one of this machine alone. Raises
    UsageError without Ray, or when no cluster answers at the address.
    """

    def __init__(self, address: str) -> None:
        self._ray, self._joined = _connect(address)
        self._call = self._ray.remote(_run_here)
        self._under_way: dict[Any, int] = {}

    def width(self) -> int:
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def submit(self, number: int, function: Callable[..., Any], task: Task, retries: int) -> None:
        self._check_room(task)
        call = self._call.options(
            num_cpus=task.cpus,
            num_gpus=task.gpus,
            max_retries=retries,
            name=getattr(function, "__name__", "task"),
        )
        self._under_way[call.remote(__version__, function, task)] = number

    def wait(self) -> list[tuple[int, Outcome]]:
        waiting = list(self._under_way)
        ready, _ = self._ray.wait(waiting, num_returns=1)
        more, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        found = []
        for one in {*ready, *more}:
            number = self._under_way[one]
            found.append((number, self._outcome(one, number)))
            del self._under_way[one]
        return found

    def cancel(self) -> None:
        for one in self._under_way:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(one, force=True)
        self._under_way.clear()

    def close(self) -> None:
        self.cancel()
        if self._joined:
            self._ray.shutdown()

    def _outcome(self, one: Any, number: int) -> Outcome:
        errors = self._ray.exceptions
        try:
            return self._ray.get(one)
        except errors.RayTaskError as error:
            # Not the task's own exception, which is an outcome: it could not start or be sent.
            cause = _first_line(error.cause)
            return Outcome(error=RuntimeError(f"task {number} on the cluster: {cause}"))
        except errors.RayError as error:
            reason = _first_line(error)
            return Outcome(
                error=WorkerError(
                    f"task {number} lost its worker on the cluster too often "
                    f"({type(error).__name__}: {reason})"
                )
            )

    def _check_room(self, task: Task) -> None:
        """Ray waits for ever for a node that is large enough; we say that there is none."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        fits = any(
            node.get("CPU", 0) >= task.cpus and node.get("GPU", 0) >= task.gpus for node in nodes
        )
        if nodes and not fits:
            have = ", ".join(
                f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes
            )
            raise UsageError(
                f"a task needs {task.cpus:g} CPUs and {task.gpus:g} GPUs on one node; "
                f"the cluster's nodes have: {have}"
            )


def _connect(address: str) -> tuple[Any, bool]:
    """The module ray, connected; and whether we connected it, or it was."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    found = _running() if address == AUTO else address
    if found is None and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        # A cluster runs what it is sent. Ours takes it from nobody else on the network.
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UsageError(
            "a cluster needs Ray, which is not installed: pip install 'nvc[cluster]'"
        ) from error
    if ray.is_initialized():
        return ray, False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if found is None:
        ray.init(address="local", include_dashboard=False, **quiet)
        return ray, True
    host, _, port = found.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise UsageError(f"cluster {found!r}; allowed: auto, or HOST:PORT of the cluster's head")
    _knock(host.strip("[]"), int(port))
    try:
        ray.init(address=found, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(f"the Ray cluster at {found} cannot be joined: {error}") from error
    return ray, True


def _running() -> str | None:
    """Address of the cluster this machine is part of, from where Ray itself would take it."""
    if address := os.environ.get("RAY_ADDRESS"):
        return address
    note = Path(tempfile.gettempdir()) / "ray" / "ray_current_cluster"  # left by `ray start`
    return (note.read_text().strip() or None) if note.is_file() else None


def _knock(host: str, port: int) -> None:
    """Ray itself tries for a long time, and says much, where nobody answers."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        raise UsageError(
            f"no Ray cluster answers at {host}:{port} ({error.strerror or error}); "
            "`ray stop` clears what one that is gone left here"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _run_here(version: str, function: Callable[..., Any], task: Task) -> Outcome:
    if version != __version__:
        return Outcome(
            error=UsageError(
                f"node {os.uname().nodename} of the cluster has nvc {__version__}, "
                f"this machine {version}: install the same"
            )
        )
    return run_task(function, task)
