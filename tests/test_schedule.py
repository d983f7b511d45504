"""Tasks inline and in processes: order, bounds, dead workers, errors, interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import schedule_tasks as work

from nvc.errors import StreamError, UsageError
from nvc.schedule import Scheduler, Task, WorkerError, open_scheduler


@pytest.fixture(scope="module")
def pair() -> Iterator[Scheduler]:
    with open_scheduler(jobs=2) as scheduler:
        yield scheduler


@pytest.fixture(params=[1, 2], ids=["inline", "processes"])
def either(request: pytest.FixtureRequest, pair: Scheduler) -> Scheduler:
    return pair if request.param == 2 else open_scheduler(jobs=1)


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_results_come_in_order_of_the_tasks(either: Scheduler) -> None:
    tasks = [Task((number, 0.2 - 0.05 * number)) for number in range(4)]
    assert list(either.map(work.slow_square, tasks)) == [(0, 0), (1, 1), (2, 4), (3, 9)]


def test_or_as_they_are_done(pair: Scheduler) -> None:
    tasks = [Task((0, 0.6)), Task((1, 0.0)), Task((2, 0.0))]
    found = list(pair.map(work.slow_square, tasks, ordered=False))
    assert sorted(found) == [(0, 0), (1, 1), (2, 4)]
    assert found[-1] == (0, 0)


def test_no_tasks_no_results(either: Scheduler) -> None:
    assert list(either.map(work.square, [])) == []


@pytest.mark.parametrize(("ahead", "most"), [(None, 4), (3, 3), (1, 1)])
def test_tasks_are_drawn_only_as_needed(pair: Scheduler, ahead: int | None, most: int) -> None:
    drawn = 0

    def tasks() -> Iterator[Task]:
        nonlocal drawn
        for number in range(12):
            drawn += 1
            yield Task((number,))

    for number, _ in pair.map(work.square, tasks(), ahead=ahead):
        assert drawn - number <= most
    assert drawn == 12


def test_inline_draws_a_task_when_its_result_is_asked_for() -> None:
    drawn: list[int] = []
    tasks = (Task((number,)) for number in range(5) if drawn.append(number) is None)
    results = open_scheduler().map(work.square, tasks)
    assert next(results) == (0, 0)
    assert drawn == [0]


def test_processes_run_side_by_side_and_are_used_again(pair: Scheduler) -> None:
    tasks = [Task((0.2,)) for _ in range(6)]
    workers = {worker for _, worker in pair.map(work.who, tasks)}
    assert len(workers) == 2
    assert os.getpid() not in workers


def test_an_error_of_ours_comes_back_as_itself_at_its_turn(either: Scheduler) -> None:
    found = []
    with pytest.raises(StreamError) as caught:
        for number, result in either.map(work.broken_stream, [Task((n,)) for n in range(5)]):
            found.append((number, result))
    assert str(caught.value) == "unit 2 is broken"
    assert found == [(0, 0), (1, 1)]
    assert list(either.map(work.square, [Task((3,))])) == [(0, 9)]


def test_what_cannot_be_sent_is_named(pair: Scheduler) -> None:
    with pytest.raises(RuntimeError, match="Unsendable: something at 3"):
        list(pair.map(work.unsendable_error, [Task(())]))
    with pytest.raises(TypeError, match="result of a task cannot be sent"):
        list(pair.map(work.unsendable_result, [Task(())]))


def test_arrays_go_there_and_back_whole(pair: Scheduler) -> None:
    rng = np.random.default_rng(0)
    sizes = [(0,), (5, 3), (300, 300), (2, 400, 301)]
    sent = [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]
    sent.append(sent[3][:, ::2, ::3])  # not contiguous
    tasks = [Task((sent,)), Task((sent[2:4],))]
    (_, first), (_, second) = pair.map(work.negative, tasks)
    for picture, original in zip(first + second, sent + sent[2:4], strict=True):
        assert np.array_equal(255 - picture, original)
    first[3][0] = 0  # may be written to


def test_a_killed_worker_costs_only_its_task(pair: Scheduler, tmp_path: Path) -> None:
    tasks = [Task((number, str(tmp_path))) for number in range(5)]
    found = list(pair.map(work.log_and_die_once, tasks))
    assert found == [(number, number) for number in range(5)]
    runs = Counter((tmp_path / "runs").read_text().split())
    assert runs == {"0": 1, "1": 2, "2": 1, "3": 1, "4": 1}


def test_a_task_that_always_dies_is_given_up(pair: Scheduler) -> None:
    with pytest.raises(WorkerError, match=r"task 0 lost its process 2 times, .* by signal 9"):
        list(pair.map(work.die, [Task((0,))], retries=1))


def test_tasks_that_need_more_cores_run_fewer_at_once(tmp_path: Path, pair: Scheduler) -> None:
    tasks = [Task((str(tmp_path), number), cpus=2) for number in range(3)]
    assert [count for _, count in pair.map(work.busy_at_once, tasks)] == [1, 1, 1]
    assert list(pair.map(work.threads, [Task((), cpus=2)])) == [(0, "2")]
    assert list(pair.map(work.threads, [Task(())])) == [(0, "1")]


def test_what_is_abandoned_is_stopped(pair: Scheduler, tmp_path: Path) -> None:
    late = tmp_path / "late"
    results = pair.map(work.write_after, [Task((str(tmp_path / "a"), 0.0)), Task((str(late), 1.0))])
    next(results)
    results.close()
    time.sleep(1.2)
    assert not late.exists()


def test_workers_end_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    with open_scheduler(jobs=2) as scheduler:
        list(scheduler.map(work.leave_slowly, [Task((number,)) for number in range(3)]))
    assert capfd.readouterr().err == ""


def test_every_task_sees_the_gpu_it_was_given(
    pair: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UsageError, match="asks for a GPU, and there is none"):
        list(pair.map(work.gpu, [Task((), gpus=1)]))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with open_scheduler(jobs=3) as scheduler:
        seen = [gpu for _, gpu in scheduler.map(work.gpu, [Task((), gpus=1)] * 4)]
        assert set(seen) == {"4", "7"}
        tasks = [Task((str(tmp_path), number), gpus=1) for number in range(4)]
        assert max(count for _, count in scheduler.map(work.busy_at_once, tasks)) <= 2
        halves = [gpu for _, gpu in scheduler.map(work.gpu, [Task((), gpus=0.5)] * 2)]
        assert halves == ["4", "4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "jobs is 0; allowed: 1 to 256"),
        ({"jobs": 2, "cluster": "auto"}, "jobs and cluster were given"),
    ],
)
def test_options_that_cannot_be_meant(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_scheduler(**options)


def test_tasks_that_cannot_be_meant(pair: Scheduler) -> None:
    with pytest.raises(ValueError, match="allowed: a tuple"):
        Task([1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cpus > 0"):
        Task((1,), cpus=0)
    with pytest.raises(UsageError, match="2 GPUs"):
        list(pair.map(work.square, [Task((1,), gpus=2)]))


PARENT = """
import sys
sys.path.insert(0, {tests!r})
import schedule_tasks as work
from nvc.schedule import Task, open_scheduler
if __name__ == "__main__":
    with open_scheduler(jobs=2) as scheduler:
        tasks = [Task(({folder!r}, number)) for number in range(3)]
        list(scheduler.map(work.pid_file_then_sleep, tasks))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupt", "kill"])
def test_no_worker_outlives_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        start_new_session=True,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    files = [tmp_path / "pid0", tmp_path / "pid1"]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    if how == signal.SIGINT:
        os.killpg(parent.pid, how)  # as the terminal does: the workers get it too
    else:
        parent.kill()
    # Workers hold the same stderr and sleep for a minute: its end is the end of all of them.
    _, said = parent.communicate(timeout=20)
    assert not (tmp_path / "pid2").exists()
    if how == signal.SIGINT:
        assert said.count(b"Traceback") == 1, said.decode()  # the parent's own
        assert said.strip().endswith(b"KeyboardInterrupt")
