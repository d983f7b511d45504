"""A command of nvc on a Ray cluster of two nodes that this machine plays, one of which may die.

    python tools/two_nodes.py bench clip.mkv --out out             # --cluster ADDRESS is added
    python tools/two_nodes.py --kill-after 30 bench clip.mkv --out out

Each node has one CPU. With --kill-after the second node is killed with its workers, and whatever
these run, as soon as the command has printed so many lines: points of a benchmark. Needs the extra
`cluster`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

# Read when ray is imported, here and by the nodes. Workers get an equal share of a busy machine.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
os.environ.setdefault("RAY_worker_niceness", "0")

from ray.cluster_utils import Cluster  # type: ignore[import-not-found]


def main() -> int:
    """The exit code of the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kill-after", type=int, metavar="LINES")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what follows `nvc`")
    args = parser.parse_args()
    began = time.monotonic()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        second = cluster.add_node(num_cpus=1)
        print(f"two nodes after {time.monotonic() - began:.1f} s", flush=True)
        command = [sys.executable, "-m", "nvc", *args.command, "--cluster", cluster.address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for count, line in enumerate(process.stdout, 1):
                print(line, end="", flush=True)
                if count == args.kill_after:
                    cluster.remove_node(second, allow_graceful=False)
                    print("the second node is killed", flush=True)
        print(f"done after {time.monotonic() - began:.1f} s", flush=True)
    finally:
        cluster.shutdown()
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
