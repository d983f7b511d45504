"""Training: clips are prepared once, batches keep planes and vectors together, a recipe trains."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from clips import write_clip

from nvc.cli import main
from nvc.data import ClipBatches, Stage, load_clip, prepare_clip
from nvc.errors import InputError
from nvc.predictive.checkpoint import load_network
from nvc.predictive.contexts import symbol_contexts
from nvc.predictive.motion import compensate
from nvc.predictive.validation import measure_sequence

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("pan_00", "pan_01", "walk_00"):
        write_clip(folder / f"{name}.mkv", width=150, height=134, frames=5)
    return folder


def test_a_clip_is_decoded_once(clips: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = prepare_clip(clips / "pan_00.mkv", cache)
    stamp = (folder / "y.npy").stat().st_mtime_ns
    assert prepare_clip(clips / "pan_00.mkv", cache) == folder
    assert (folder / "y.npy").stat().st_mtime_ns == stamp
    clip = load_clip(folder)
    assert clip.size == (128, 144) and clip.frames == 5
    assert [p.shape for p in clip.planes] == [(5, 128, 144), (5, 64, 72), (5, 64, 72)]


def test_flipped_batches_keep_their_motion(clips: Path, tmp_path: Path) -> None:
    """Whatever the flips, the vectors predict a frame from the one before it."""
    clip = load_clip(prepare_clip(clips / "pan_00.mkv", tmp_path / "cache"))
    batches = iter(ClipBatches([clip], [Stage(steps=2, frames=2, crop=128, batch=8)], seed=1))
    batch = next(batches)
    assert batch["y"].shape == (2, 8, 1, 128, 128) and batch["u"].shape == (2, 8, 1, 64, 64)
    before, after = batch["y"].float()
    (moved,) = compensate([before], batch["vectors"][1], 1)
    inside = (slice(None), slice(None), slice(16, -16), slice(16, -16))
    copied = (before - after)[inside].square().mean((1, 2, 3))
    predicted = (moved - after)[inside].square().mean((1, 2, 3))
    assert (predicted <= copied + 1e-3).all() and predicted.sum() < copied.sum()


def test_batches_with_b_frames_come_in_coding_order(clips: Path, tmp_path: Path) -> None:
    """Each frame stands behind its references, and the mean of these predicts it."""
    clip = load_clip(prepare_clip(clips / "pan_00.mkv", tmp_path / "cache"))
    stage = Stage(steps=1, frames=5, crop=128, batch=3, bframes=3)
    batch = next(iter(ClipBatches([clip], [stage], seed=1)))
    assert batch["references"].tolist() == [[-1, -1], [0, -1], [0, 1], [0, 2], [2, 1]]
    assert batch["depth"].tolist() == [0, 0, 1, 2, 2]
    luma = batch["y"].float()
    for place in (2, 3, 4):
        earlier, later = batch["references"][place]
        (first,) = compensate([luma[earlier]], batch["vectors"][place], 1)
        (second,) = compensate([luma[later]], batch["later_vectors"][place], 1)
        inside = (slice(None), slice(None), slice(24, -24), slice(24, -24))
        one = (luma[earlier] - luma[place])[inside].square().mean()
        assert ((first + second) / 2 - luma[place])[inside].square().mean() < 0.5 * one


def test_clips_too_small_for_the_schedule_are_named(clips: Path, tmp_path: Path) -> None:
    clip = load_clip(prepare_clip(clips / "pan_00.mkv", tmp_path / "cache"))
    with pytest.raises(InputError, match="2 frames of 256x256"):
        next(iter(ClipBatches([clip], [Stage(steps=1, crop=256)])))


def test_a_tiny_recipe_trains_resumes_and_validates_on_real_bytes(
    clips: Path, tmp_path: Path
) -> None:
    recipe = yaml.safe_load((RECIPES / "dhvc_s.yaml").read_text())
    runs = str(tmp_path / "runs")
    recipe["trainer"] |= {"max_steps": 6, "precision": "32-true", "default_root_dir": runs}
    recipe["trainer"] |= {
        "enable_progress_bar": False,
        "accelerator": "cpu",
        "log_every_n_steps": 1,
    }
    recipe["trainer"]["logger"]["init_args"]["save_dir"] = runs
    checkpoints, validation = recipe["trainer"]["callbacks"]
    checkpoints["init_args"] |= {"dirpath": runs}
    validation["init_args"] |= {"folder": runs, "every": 4, "qps": 2, "frames": 2}
    recipe["model"]["size"] = "tiny"
    recipe["data"] = {
        "folder": str(clips),
        "cache": str(tmp_path / "cache"),
        "validation_scenes": ["walk"],
        "stages": [
            {"steps": 4, "frames": 2, "crop": 128, "batch": 2},
            {"steps": 6, "frames": 3, "crop": 128, "batch": 1, "bframes": 1},
        ],
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert main(["train", str(path)]) == 0
    assert (tmp_path / "runs" / "last.ckpt").exists()
    resume = ["--ckpt_path", f"{runs}/last.ckpt", "--trainer.max_steps", "8"]
    assert main(["train", str(path), *resume]) == 0

    with (tmp_path / "runs" / "rd.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [4, 4, 6, 6, 8, 8]
    assert {row["clip"].split("-")[0] for row in rows} == {"walk_00"}
    assert all(0 < float(row["bpp"]) < 20 for row in rows)
    # The figures are those of the weights written beside them.
    network = load_network(tmp_path / "runs" / "weights.safetensors")
    counted, start = network.intra[-1].contexts.codes, symbol_contexts(3).codes
    assert not torch.equal(counted[0], start[0])  # their contexts were counted
    clip = load_clip(next((tmp_path / "cache").glob("walk_00-*")))
    frames = [
        tuple(
            torch.from_numpy(np.array(plane[n, : 128 >> int(i > 0), : 128 >> int(i > 0)]))[
                None, None
            ].float()
            / 255
            for i, plane in enumerate(clip.planes)
        )
        for n in range(2)
    ]
    bpp, psnr = measure_sequence(network, frames, int(rows[-1]["qp"]))
    assert bpp == pytest.approx(float(rows[-1]["bpp"]), rel=0.1)
    assert psnr == pytest.approx(float(rows[-1]["psnr_yuv"]), abs=0.5)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("dhvc*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_consistent(recipe: Path) -> None:
    """Every key is known to what it configures, and the schedule fills the run."""
    from nvc.predictive.config import size_config

    values = yaml.safe_load(recipe.read_text())
    stages = [Stage(**stage) for stage in values["data"]["stages"]]
    assert sum(stage.steps for stage in stages) == values["trainer"]["max_steps"]
    assert size_config(values["model"]["size"], reference=values["model"]["reference"])
