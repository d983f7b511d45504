"""tools/train_ablation.py: every row is a recipe that stands, the table says what was measured."""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path

import pytest
import yaml

from nvc.data import Stage
from nvc.predictive.config import size_config
from nvc.predictive.module import PredictiveModule

TOOL = Path(__file__).parent.parent / "tools" / "train_ablation.py"
ablation = runpy.run_path(str(TOOL))
PLAN = yaml.safe_load(TOOL.with_suffix(".yaml").read_text())


@pytest.mark.parametrize("row", ["base", *PLAN["rows"]])
def test_rows_are_recipes(row: str, tmp_path: Path) -> None:
    """Keys that the module knows, a network that can be, a schedule that fills the run."""
    recipe = ablation["recipe_of"](PLAN, row, tmp_path, "clips", "cache")
    model = recipe["model"]
    assert set(model) <= set(inspect.signature(PredictiveModule).parameters)
    size_config(model["size"], reference=model["reference"], finest=model.get("finest"))
    stages = [Stage(**stage) for stage in recipe["data"]["stages"]]
    assert sum(stage.steps for stage in stages) == recipe["trainer"]["max_steps"]
    validation = recipe["trainer"]["callbacks"][1]["init_args"]
    assert validation["every"] == recipe["trainer"]["max_steps"]
    base = ablation["recipe_of"](PLAN, "base", tmp_path, "clips", "cache")
    assert (recipe != base) == (row != "base")


def test_the_table_is_of_the_files(tmp_path: Path) -> None:
    """A row with a tenth fewer bits at every quality has -10 %; rows not run are left out."""
    for row, share in (("base", 1.0), ("narrow", 0.9)):
        (tmp_path / row).mkdir()
        points = [(0.1 * 2**n * share, 30 + 2 * n) for n in range(4)]
        lines = [f"9,walk_00-0123,{n},{bpp:.6f},{psnr}" for n, (bpp, psnr) in enumerate(points)]
        (tmp_path / row / "rd.csv").write_text("\n".join(["step,clip,qp,bpp,psnr_yuv", *lines]))
        (tmp_path / row / "seconds").write_text("12\n")
    table = ablation["table"](["base", "narrow", "size m"], tmp_path).splitlines()
    assert table[0] == "|  | walk_00 | mean | processor s |"
    assert table[2:] == ["| base | +0.0 % | +0.0 % | 12 |", "| narrow | -10.0 % | -10.0 % | 12 |"]


def test_finest_fields_are_checked() -> None:
    assert size_config("s", finest={"latent": 192}).intra[-1].latent == 192
    with pytest.raises(ValueError, match="latents; allowed: block, latent"):
        size_config("s", finest={"latents": 192})
