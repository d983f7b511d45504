"""Results of a benchmark on disk: a JSON object a line, each point once, one writer at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nvc.errors import InputError, UsageError
from nvc.evaluation.bench_point import PROGRESS, RECORD

RESULTS = "results.jsonl"
WORK = "work"


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Every result in the order it was written, the latest of each key; a torn last line is none.

    Raises InputError when there are no results, or a line in the middle is none.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise InputError(f"{folder}: there is no {RESULTS} in it; `nvc bench --out {folder}` first")
    lines = path.read_text(encoding="utf-8").splitlines()
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            found[row["key"]] = row
        except (ValueError, TypeError, KeyError):
            if number < len(lines):
                raise InputError(f"{path}: line {number} is not a result") from None
    return list(found.values())


class ResultStore:
    """Results being added to; made by ``opened_store``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / RESULTS
        self.done: set[str] = set()
        if self._path.exists():
            self._drop_torn_line()
            self.done = {row["key"] for row in read_results(folder)}
        self._adopt()

    def _drop_torn_line(self) -> None:
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with self._path.open("r+b") as file:
                file.truncate(whole)

    def _adopt(self) -> None:
        """Take over points that were finished by a worker and not yet written down."""
        for record in sorted((self.folder / WORK).glob(f"*/{RECORD}")):
            self.add(json.loads(record.read_text()))

    def add(self, result: dict[str, Any]) -> None:
        """Write a result down, once, and remove what the point left in ``work``."""
        if result["key"] not in self.done:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.done.add(result["key"])
        shutil.rmtree(self.folder / WORK / result["key"], ignore_errors=True)

    def under_way(self) -> list[tuple[str, str]]:
        """(key, how far it is) of the points that are being done."""
        found = []
        for path in sorted((self.folder / WORK).glob(f"*/{PROGRESS}")):
            with contextlib.suppress(OSError):
                found.append((path.parent.name, path.read_text()))
        return found


@contextmanager
def opened_store(folder: Path) -> Iterator[ResultStore]:
    """The store of ``folder``, made if need be, for this process alone. UsageError when taken."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        _take(lock, folder)
        for path in (folder / WORK).glob(f"*/{PROGRESS}"):
            path.unlink()
        yield ResultStore(folder)
        with contextlib.suppress(OSError):
            (folder / WORK).rmdir()


def _take(lock: Any, folder: Path) -> None:
    """Held until the process ends, however it ends; not on systems without such locks."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UsageError(f"{folder}: another nvc bench is writing there") from None
