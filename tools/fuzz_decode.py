"""Decode mutated .nvc files and see that each gives frames or one clear line, within bounds.

    python tools/fuzz_decode.py a.nvc b.nvc --count 2000 --seed 1 --json

Files are mutated as bytes (flips, cuts, overwriting, deleting, doubling, splicing) and as streams
(payload bits, lengths, fields, units deleted, doubled, swapped, the file header), in the second
case with all checksums right again, so that mutations reach the codecs. Each is decoded by a worker
process that may take so much address space over what it needed for the unmutated files, and so much
time a file. Outcomes: frames, error (an NvcError of one line), crash (any other exception, or the
end of the process), hang, memory. The last three are saved to a folder and make the exit status 1.

--target: `nvc` decodes by the Python API, `reader` reads the container only, and `module:function`
calls a function of a path and a random.Random that returns a number of frames.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stream_mutations import MUTATIONS, Seed

from nvc.bitstream.container import StreamReader, UnitType
from nvc.errors import NvcError, StreamError

BAD = ("crash", "hang", "memory")
FILES_PER_WORKER = 250
MAX_FRAMES = 40

# The worker: one line of JSON in, one out.


def decode_by_api(path: Path, rng: random.Random) -> int:
    """Frames of a file by one of the ways of the Python API, at most MAX_FRAMES of them."""
    import nvc

    partial = rng.random() < 0.5
    way = rng.randrange(3)
    start = rng.choice((0, 0, 3))
    if way == 2:
        with nvc.open(path, partial=partial) as video:
            return sum(1 for i in range(start, min(len(video), start + 4)) if video[i].planes)
    with tempfile.TemporaryDirectory() as folder:
        # Matroska takes the sound along, which is as damaged as the rest.
        out = Path(folder) / rng.choice(("out.yuv", "out.y4m", "out.mkv", "out.mp4"))
        if way == 0:
            result = nvc.decode(path, out, start=start, frames=MAX_FRAMES, partial=partial)
            return result.frames
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            # A pipe: nothing can be sought, the decoder may stop before its end.
            result = nvc.decode(process.stdout, out, frames=MAX_FRAMES, partial=partial)
            return result.frames


def read_container(path: Path, rng: random.Random) -> int:
    """Frame units of a file, read in order and by frame."""
    partial = rng.random() < 0.5
    with path.open("rb") as file:
        reader = StreamReader(file, name=str(path), partial=partial)
        units = sum(1 for unit in reader.units() if unit.type == UnitType.FRAME)
        list(reader.audio_chunks())
        return units + sum(1 for _ in reader.units_for(rng.randrange(8), 2))


def _target(name: str) -> Callable[[Path, random.Random], int]:
    if name == "nvc":
        return decode_by_api
    if name == "reader":
        return read_container
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _outcome(target: Callable[[Path, random.Random], int], path: Path, seed: int) -> dict[str, Any]:
    try:
        frames = target(path, random.Random(seed))
    except NvcError as error:
        lines = str(error).strip().splitlines()
        kind = "error" if len(lines) == 1 else "crash"
        return {"kind": kind, "text": f"{type(error).__name__}: {error}"}
    except MemoryError:
        return {"kind": "memory", "text": traceback.format_exc()}
    except Exception as error:
        # torch tells of too little memory by a plain RuntimeError.
        full = "allocate memory" in str(error) or "out of memory" in str(error)
        return {"kind": "memory" if full else "crash", "text": traceback.format_exc()}
    return {"kind": "frames", "frames": frames}


def work(target_name: str, seeds: Sequence[Path], memory: int) -> None:
    """Answer the parent until it closes the pipe."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    target = _target(target_name)
    for path in seeds:
        for attempt in range(6):
            target(path, random.Random(attempt))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(json.dumps({"ready": True}), file=replies)
    for line in sys.stdin:
        job = json.loads(line)
        began = time.monotonic()
        reply = _outcome(target, Path(job["path"]), job["seed"])
        reply["seconds"] = time.monotonic() - began
        print(json.dumps(reply), file=replies)


class Worker:
    """A worker process and its pipes."""

    def __init__(self, args: argparse.Namespace) -> None:
        command = [sys.executable, __file__, *map(str, args.files), "--worker"]
        command += ["--target", args.target, "--memory-mb", str(args.memory_mb)]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log
        )
        self.done = 0
        if self._reply(300) is None:
            self.stop()
            raise SystemExit(f"the worker cannot decode the files given:\n{self.error()}")

    def decode(self, path: Path, seed: int, timeout: float) -> dict[str, Any]:
        """Outcome of one file; afterwards the worker may be dead."""
        assert self.process.stdin is not None
        self.done += 1
        self.process.stdin.write(json.dumps({"path": str(path), "seed": seed}).encode() + b"\n")
        self.process.stdin.flush()
        reply = self._reply(timeout)
        if reply is None:
            ended = self.process.poll()
            self.stop()
            if ended is None:
                return {"kind": "hang", "text": f"no answer in {timeout} s", "seconds": timeout}
            return {"kind": "crash", "text": f"process ended with {ended}\n{self.error()}"}
        return reply

    def _reply(self, timeout: float) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        line = self.process.stdout.readline() if ready else b""
        if ready and not line:
            self.process.wait()
        return json.loads(line) if line else None

    def error(self) -> str:
        """The end of what the worker wrote to stderr."""
        self.log.seek(0)
        return self.log.read()[-4000:].decode(errors="replace")

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()


def campaign(args: argparse.Namespace) -> dict[str, Any]:
    """Run all the mutations; the summary."""
    seeds = [Seed(path) for path in args.files]
    rng = random.Random(args.seed)
    counts: Counter[str] = Counter()
    by_mutation: dict[str, Counter[str]] = {name: Counter() for name in MUTATIONS}
    offenders: list[dict[str, Any]] = []
    slowest = 0.0
    began = time.monotonic()
    worker: Worker | None = None
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.count):
            names = list(MUTATIONS)
            (name,) = rng.choices(names, [MUTATIONS[each][0] for each in names])
            data = MUTATIONS[name][1](rng, rng.choice(seeds))
            path = Path(folder) / f"fuzz_{number}.nvc"
            path.write_bytes(data)
            if worker is None:
                worker = Worker(args)
            result = worker.decode(path, number, args.timeout)
            kind = result["kind"]
            counts[kind] += 1
            by_mutation[name][kind] += 1
            slowest = max(slowest, result.get("seconds", 0.0))
            if kind in BAD:
                args.out.mkdir(parents=True, exist_ok=True)
                saved = args.out / f"{kind}_{args.seed}_{number}_{name}.nvc"
                saved.write_bytes(data)
                saved.with_suffix(".txt").write_text(result["text"])
                last = result["text"].strip().splitlines()[-1]
                offenders.append({"file": str(saved), "kind": kind, "text": last})
            path.unlink()
            if worker.process.poll() is not None or worker.done >= FILES_PER_WORKER:
                worker.stop()
                worker = None
            if sys.stderr.isatty():
                print(f"\r{number + 1}/{args.count} {dict(counts)}", end="", file=sys.stderr)
    if worker is not None:
        worker.stop()
    return {
        "files": args.count,
        "seed": args.seed,
        **{kind: counts[kind] for kind in ("frames", "error", *BAD)},
        "mutations": {name: dict(each) for name, each in by_mutation.items()},
        "slowest_seconds": slowest,
        "seconds": time.monotonic() - began,
        "offenders": offenders,
    }


def main() -> int:
    """Exit status: 0 when there was no bad outcome, 1 when there was."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="intact .nvc files to mutate")
    parser.add_argument("--count", type=int, default=2000, help="mutated files (2000)")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (1)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds a file (30)")
    parser.add_argument("--memory-mb", type=int, default=1024, help="over the baseline (1024)")
    parser.add_argument("--target", default="nvc", help="nvc, reader or module:function (nvc)")
    parser.add_argument("--out", type=Path, default=Path("fuzz_offenders"), help="for bad files")
    parser.add_argument("--json", action="store_true", help="the summary as JSON")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.target, args.files, args.memory_mb << 20)
        return 0
    try:
        summary = campaign(args)
    except (StreamError, OSError) as error:
        print(f"fuzz_decode: error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(summary, indent=1))
    else:
        for key in ("files", "frames", "error", *BAD, "slowest_seconds", "seconds"):
            print(f"{key:16} {summary[key]}")
        for each in summary["offenders"]:
            print(f"{each['kind']:8} {each['file']}: {each['text']}")
    return int(any(summary[kind] for kind in BAD))


if __name__ == "__main__":
    sys.exit(main())
