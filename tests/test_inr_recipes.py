"""Every INR recipe of the repository parses, and a bad one is refused in one line."""

from dataclasses import asdict
from pathlib import Path

import pytest

from nvc.errors import UsageError
from nvc.inr.fit_config import FitConfig
from nvc.inr.recipe import read_recipe

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("hnerv*.yaml")), ids=lambda p: p.name)
def test_recipes_parse(path):
    codec, options = read_recipe(path)
    assert codec == "hnerv"
    FitConfig(**options)


def test_paper_recipe_is_the_papers():
    fit = FitConfig(**read_recipe(RECIPES / "hnerv_paper.yaml")[1])
    assert (fit.optimizer, fit.adam_lr, fit.embedding, fit.batch_size) == (
        "adam",
        1e-3,
        "encoder",
        2,
    )
    assert fit.epochs_for(132) * fit.steps_per_epoch(132) == 300 * 66


def test_default_recipe_is_the_default():
    """hnerv.yaml says what an encode without options does."""
    fit = FitConfig(**read_recipe(RECIPES / "hnerv.yaml")[1])
    assert asdict(fit) | {"lr": fit.adam_lr} == asdict(FitConfig()) | {"lr": FitConfig().adam_lr}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("codec: hnerv", "keys codec and fit"),
        ("codec: hnerv\nfit: {speed: 3}", "other options"),
        ("codec: hnerv\nfit: {optimizer: sgd}", "allowed: muon, adam"),
        ("codec: hnerv\nfit: {epochs: many}", "bad.yaml"),
        ("{", "not a readable recipe"),
    ],
)
def test_bad_recipes_are_refused(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_recipe(path)
