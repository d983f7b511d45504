"""Several processes train together: gradients are shared, sequences and noise are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from clips import write_clip

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """The command of docs/cluster.md, on a tiny network over gloo."""
    pytest.importorskip("jsonargparse", reason="needs the extra train")
    (tmp_path / "clips").mkdir()
    for name in ("pan_00", "walk_00"):
        write_clip(tmp_path / "clips" / f"{name}.mkv", width=150, height=134, frames=5)
    recipe = yaml.safe_load((RECIPES / "dhvc_s.yaml").read_text())
    recipe["trainer"] |= {
        "max_steps": 3,
        "precision": "32-true",
        "default_root_dir": str(tmp_path),
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "logger": False,
        "callbacks": [
            {"class_path": "rank_probe.RankProbe", "init_args": {"folder": str(tmp_path)}}
        ],
    }
    recipe["model"]["size"] = "tiny"
    recipe["data"] = {
        "folder": str(tmp_path / "clips"),
        "cache": str(tmp_path / "cache"),
        "validation_scenes": ["walk"],
        # One frame first: the parts for inter frames get no gradient then.
        "stages": [
            {"steps": 1, "frames": 1, "crop": 64, "batch": 2},
            {"steps": 9, "frames": 2, "crop": 64, "batch": 2},
        ],
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "nvc", "train", str(path), "--trainer.accelerator", "cpu"]
    command += ["--trainer.devices", "2"]
    command += ["--trainer.strategy", "ddp_find_unused_parameters_true"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    one, other = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert one["world"] == 2 and len(one["batches"]) == 3
    assert not set(one["batches"]) & set(other["batches"])
    assert one["noise"] != other["noise"]
    assert one["weights"] == other["weights"]
    assert one["average"] == other["average"]
