"""Whether folders of `nvc bench` hold the same: files byte for byte, figures, each point once.

    python tools/compare_sweeps.py ONE OTHER...

Compares every other folder with the first: the lines of results.jsonl by key, the kept files by
SHA-256, every figure that does not depend on time. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

#: Of a result, what another run of the same point must not change.
FIGURES = (
    "dataset", "protocol", "sequence", "label", "rate", "seed", "fingerprint", "bytes", "frames",
    "width", "height", "fps", "bpp", "kbps", "psnr_y", "psnr_u", "psnr_v", "psnr_yuv", "psnr_rgb",
    "ms_ssim", "vmaf", "intra", "inter", "device", "threads",
)  # fmt: skip


def read(folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Results by key, and the complaints about them."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    times = Counter(row["key"] for row in rows)
    wrong = [f"{key} is there {count} times" for key, count in times.items() if count > 1]
    kept = {path.name for path in (folder / "files").iterdir()}
    named = {Path(row["file"]).name for row in rows}
    wrong += [f"files/{name} belongs to no result" for name in sorted(kept - named)]
    wrong += [f"files/{name} is missing" for name in sorted(named - kept)]
    if (folder / "work").exists():
        wrong.append("work is left over")
    return {row["key"]: row for row in rows}, wrong


def differences(
    first: Path, one: dict[str, Any], second: Path, other: dict[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """What differs of a point: name of the figure, both values; the file's hash as "file"."""
    hashes = [
        hashlib.sha256((folder / row["file"]).read_bytes()).hexdigest()
        for folder, row in ((first, one), (second, other))
    ]
    found = {name: (one.get(name), other.get(name)) for name in FIGURES}
    found["file"] = (hashes[0], hashes[1])
    return {name: pair for name, pair in found.items() if pair[0] != pair[1]}


def main() -> int:
    """0 when all are the same."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    args = parser.parse_args()
    first, *others = args.folders
    mine, wrong = read(first)
    print(f"{first}: {len(mine)} points; {'; '.join(wrong) or 'each once, with its file'}")
    bad = bool(wrong)
    for folder in others:
        theirs, wrong = read(folder)
        wrong += [f"{key} is missing" for key in sorted(mine.keys() - theirs.keys())]
        wrong += [f"{key} is not in {first}" for key in sorted(theirs.keys() - mine.keys())]
        same = 0
        for key in mine.keys() & theirs.keys():
            differ = differences(first, mine[key], folder, theirs[key])
            if differ:
                title = " ".join(str(mine[key][name]) for name in ("sequence", "label", "rate"))
                wrong.append(f"{title}: {differ}")
            same += not differ
        print(f"{folder}: {len(theirs)} points, {same} the same byte for byte and figure by figure")
        for line in wrong:
            print(f"  {line}")
        bad = bad or bool(wrong)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
