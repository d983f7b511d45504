"""Tasks on Ray: a cluster of two nodes on this machine, one of which is killed; GOPs on it.

Skipped without Ray (pip install "nvc[cluster]"); about half a minute, most of it Ray's own starts:
pytest -m "not slow" leaves them out.
"""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import schedule_tasks as work
from clips import make_frames
from predictive_weights import write_weights

import nvc.schedule.ray_cluster
from nvc.bitstream.units import Unit
from nvc.errors import StreamError, UsageError
from nvc.predictive.codec import EncodeOptions, PredictiveCodec
from nvc.schedule import Scheduler, Task, WorkerError, open_scheduler
from nvc.video.frames import VideoInfo

SKIP = "Ray is not installed: pip install 'nvc[cluster]'"
TESTS = str(Path(__file__).parent)


def test_a_missing_ray_is_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_ray(name: str, *rest: Any, **named: Any) -> Any:
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # nothing is set up for a cluster of our own
    with pytest.raises(UsageError, match=r"pip install 'nvc\[cluster\]'$"):
        open_scheduler(cluster="auto")


@pytest.mark.parametrize(
    ("address", "message"),
    [("nowhere", "HOST:PORT"), ("ray://a:1", "HOST:PORT"), ("127.0.0.1:9", "no Ray cluster")],
)
def test_addresses_of_no_cluster(address: str, message: str) -> None:
    pytest.importorskip("ray", reason=SKIP)
    with pytest.raises(UsageError, match=message):
        open_scheduler(cluster=address)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each; this process is part of the first."""
    pytest.importorskip("ray", reason=SKIP)
    with pytest.MonkeyPatch.context() as patch:
        # Read when ray is imported, and by the nodes, whose workers import the tests' functions.
        patch.setenv("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
        patch.setenv("PYTHONPATH", TESTS)
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def scheduler(cluster: Any) -> Iterator[Scheduler]:
    with open_scheduler(cluster=cluster.address) as scheduler:
        yield scheduler


@pytest.mark.slow
def test_order_and_errors_are_those_of_one_process(scheduler: Scheduler) -> None:
    tasks = [Task((number, 0.2 - 0.05 * number)) for number in range(4)]
    assert list(scheduler.map(work.slow_square, tasks)) == [(0, 0), (1, 1), (2, 4), (3, 9)]
    found = []
    with pytest.raises(StreamError) as caught:
        for number, result in scheduler.map(work.broken_stream, [Task((n,)) for n in range(5)]):
            found.append((number, result))
    assert str(caught.value) == "unit 2 is broken"
    assert found == [(0, 0), (1, 1)]
    with pytest.raises(RuntimeError, match="Unsendable: something at 3"):
        list(scheduler.map(work.unsendable_error, [Task(())]))


@pytest.mark.slow
def test_tasks_are_drawn_only_as_needed(scheduler: Scheduler) -> None:
    drawn: list[int] = []
    tasks = (Task((number,)) for number in range(9) if drawn.append(number) is None)
    for number, _ in scheduler.map(work.square, tasks):
        assert len(drawn) - number <= 4  # twice the CPUs
    assert len(drawn) == 9


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_task(scheduler: Scheduler, tmp_path: Path) -> None:
    tasks = [Task((number, str(tmp_path))) for number in range(4)]
    found = list(scheduler.map(work.log_and_die_once, tasks))
    assert found == [(number, number) for number in range(4)]
    assert sorted((tmp_path / "runs").read_text().split()) == ["0", "1", "1", "2", "3"]
    with pytest.raises(WorkerError, match="task 0 lost its worker on the cluster too often"):
        list(scheduler.map(work.die, [Task((0,))], retries=0))


@pytest.mark.slow
def test_what_no_node_can_run_is_refused(scheduler: Scheduler) -> None:
    with pytest.raises(UsageError, match=r"needs 2 CPUs and 0 GPUs on one node; .* 1 CPUs"):
        list(scheduler.map(work.square, [Task((1,), cpus=2)]))


@pytest.mark.slow
def test_another_version_is_refused(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvc.schedule.ray_cluster, "__version__", "0.0.0")
    with pytest.raises(UsageError, match=r"this machine 0\.0\.0: install the same"):
        list(scheduler.map(work.square, [Task((1,))]))


@pytest.mark.slow
def test_gops_on_a_cluster_give_the_bytes_of_one_process(
    cluster: Any, scheduler: Scheduler, tmp_path: Path
) -> None:
    weights = str(write_weights(tmp_path))
    info = VideoInfo(width=80, height=48, frame_count=7, frame_rate=Fraction(25))
    frames = make_frames(info, 7)

    def encode(**options: Any) -> list[Unit]:
        codec = PredictiveCodec(EncodeOptions(weights=weights, gop=3, **options))
        return list(codec.encode(frames, info))

    assert encode(cluster=cluster.address) == encode()


@pytest.mark.slow
def test_a_killed_node_costs_only_its_task(
    cluster: Any, scheduler: Scheduler, tmp_path: Path
) -> None:
    (node,) = cluster.worker_nodes

    def kill() -> None:
        end = time.monotonic() + 20
        while not list(tmp_path.glob(f"*-{node.node_id}")) and time.monotonic() < end:
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    tasks = [Task((str(tmp_path), number, node.node_id)) for number in range(6)]
    found = list(scheduler.map(work.note_node, tasks))
    killer.join()
    assert found == [(number, number) for number in range(6)]
    started = [mark.name.partition("-") for mark in tmp_path.iterdir()]
    (lost,) = [number for number, _, where in started if where == node.node_id]
    assert sorted(number for number, _, _ in started) == sorted([*"012345", lost])


ALONE = """
import json, os, sys
from nvc.schedule import Task, open_scheduler
import schedule_tasks as work
with open_scheduler(cluster="auto") as scheduler:
    print(json.dumps(list(scheduler.map(work.square, [Task((n,)) for n in range(3)]))))
    print(os.environ["RAY_AUTH_MODE"])
"""


@pytest.mark.slow
def test_auto_without_a_cluster_makes_one_of_this_machine() -> None:
    pytest.importorskip("ray", reason=SKIP)
    hidden = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    # Of its own, so that no note of a cluster is there; short, since paths of sockets are.
    with tempfile.TemporaryDirectory(prefix="nvc") as folder:
        env |= {"TMPDIR": folder, "PYTHONPATH": TESTS}
        done = subprocess.run(
            [sys.executable, "-c", ALONE], env=env, capture_output=True, text=True, check=True
        )
    results, mode = done.stdout.splitlines()
    assert json.loads(results) == [[0, 0], [1, 1], [2, 4]]
    assert mode == "token"
    assert done.stderr == ""
