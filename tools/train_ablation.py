"""What each choice of the predictive network and its training is worth, by short equal trainings.

    python tools/train_ablation.py --clips CLIPS --out runs/ablation [--rows base,implicit]

Every row of train_ablation.yaml is a training of its own from the block transform, by `nvc train`,
which codes the validation clips with real bytes at the end. Prints a Markdown table: BD-rate
against `base` over the validation clips (a chain of P frames, constant QPs) and processor seconds.
Rows that are there are not trained again unless their recipe has changed. One thread, so that rows
can run side by side and compare in time. Contexts are counted at the end, so all of a training goes
by the bits of the Gaussian tables.
"""

from __future__ import annotations

import argparse
import copy
import csv
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from nvc.evaluation.bdrate import bd_rate

PLAN = Path(__file__).with_suffix(".yaml")
Curves = dict[str, tuple[list[float], list[float]]]  # by clip: bits a pixel, dB


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` with what `changes` has in its place, dictionaries within each other."""
    result = copy.deepcopy(values)
    for name, value in changes.items():
        inner = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(result[name], value) if inner else value
    return result


def recipe_of(
    plan: dict[str, Any], row: str, folder: Path, clips: str, cache: str
) -> dict[str, Any]:
    """The recipe of one row; what it writes goes into `folder`."""
    recipe = yaml.safe_load((PLAN.parent / plan["recipe"]).read_text())
    recipe = merged(merged(recipe, plan["base"]), plan["rows"].get(row) or {})
    steps = recipe["trainer"]["max_steps"]
    stages = recipe["data"]["stages"]
    share = steps / sum(stage["steps"] for stage in stages)
    for stage in stages:
        stage["steps"] = round(stage["steps"] * share)
    stages[-1]["steps"] += steps - sum(stage["steps"] for stage in stages)
    recipe["trainer"]["default_root_dir"] = str(folder)
    recipe["trainer"]["logger"]["init_args"]["save_dir"] = str(folder)
    checkpoints, validation = recipe["trainer"]["callbacks"]
    checkpoints["init_args"]["dirpath"] = str(folder)
    validation["init_args"] |= {"folder": str(folder), "every": steps} | plan["validation"]
    recipe["data"] |= {"folder": clips, "cache": cache}
    return recipe


def train(recipe: dict[str, Any], folder: Path) -> bool:
    """One training in a process of its own; its processor seconds go into `folder`/seconds.

    Returns whether there was anything to do.
    """
    path = folder / "recipe.yaml"
    text = yaml.safe_dump(recipe, sort_keys=False)
    if (folder / "seconds").exists() and path.read_text() == text:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seconds").unlink(missing_ok=True)
    path.write_text(text)
    (folder / "rd.csv").unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (folder / "output.txt").open("w") as output:
        subprocess.run(
            [sys.executable, "-m", "nvc", "train", str(path)],
            check=True,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (folder / "seconds").write_text(f"{spent:.0f}\n")
    return True


def curves(folder: Path) -> Curves:
    """The curves that a training wrote at its end."""
    with (folder / "rd.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    result: Curves = {}
    for row in sorted(rows, key=lambda row: float(row["bpp"])):
        rates, qualities = result.setdefault(row["clip"], ([], []))
        rates.append(float(row["bpp"]))
        qualities.append(float(row["psnr_yuv"]))
    return result


def table(rows: list[str], out: Path) -> str:
    """Markdown: every row that is there against `base`."""
    anchor = curves(out / "base")
    names = sorted(anchor)
    heads = ["", *(name.rsplit("-", 1)[0] for name in names), "mean", "processor s"]
    lines = [" | ".join(heads), " | ".join(["---"] * len(heads))]
    for row in rows:
        if not (out / row / "seconds").exists():
            continue
        made = curves(out / row)
        rates = [bd_rate(*anchor[name], *made[name]) for name in names]
        shown = [f"{rate:+.1f} %" for rate in (*rates, sum(rates) / len(rates))]
        lines.append(" | ".join([row, *shown, (out / row / "seconds").read_text().strip()]))
    return "\n".join(f"| {line} |" for line in lines)


def main(arguments: list[str] | None = None) -> None:
    plan = yaml.safe_load(PLAN.read_text())
    known = ["base", *plan["rows"]]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", required=True, help="folder of training clips")
    parser.add_argument("--cache", default="~/.cache/nvc/clips", help="of prepared clips")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--rows", help="which, with commas between; else all")
    parser.add_argument("--steps", type=int, help="in place of base's, for a trial")
    args = parser.parse_args(arguments)
    wanted = args.rows.split(",") if args.rows else known
    unknown = [row for row in wanted if row not in known]
    if unknown:
        parser.error(f"no rows {', '.join(unknown)}; allowed: {', '.join(known)}")
    if args.steps:
        plan["base"]["trainer"]["max_steps"] = args.steps
    for row in wanted:
        folder = args.out / row
        if train(recipe_of(plan, row, folder, args.clips, args.cache), folder):
            print(f"{row}: done", file=sys.stderr, flush=True)
    if not (args.out / "base" / "seconds").exists():
        parser.error(f"{args.out} has no row `base` to compare with: name it in --rows too")
    print(table(known, args.out))


if __name__ == "__main__":
    main()
