"""Run one command and report what it took; run by path, in an interpreter of its own.

    python -I bench_launch.py REPORT COMMAND...

Linux counts into a child's peak memory that of the process which started it, so the process that
starts a measured command must be small: this one imports the standard library only. It passes on
the standard streams, writes {"returncode", "seconds", "cpu_seconds", "peak_memory"} to REPORT as
JSON (seconds, bytes), and ends its command when whoever started it is gone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

_POLL = 0.5


def _end_with_parent(process: subprocess.Popen, parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL)
    process.kill()


def main() -> int:
    """Run, wait, report."""
    report, command = sys.argv[1], sys.argv[2:]
    parent = os.getppid()
    began = time.monotonic()
    process = subprocess.Popen(command)
    # ctrl-C reaches the command too; it is waited for, so that it can put its state away.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    threading.Thread(target=_end_with_parent, args=(process, parent), daemon=True).start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    with open(report, "w") as file:  # noqa: PTH123 - pathlib would double this process
        json.dump(
            {
                "returncode": os.waitstatus_to_exitcode(status),
                "seconds": seconds,
                "cpu_seconds": usage.ru_utime + usage.ru_stime,
                "peak_memory": usage.ru_maxrss * unit,
            },
            file,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
