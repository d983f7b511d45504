"""Recipes: YAML files that name a codec and the options of its fit."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from nvc.errors import UsageError
from nvc.inr.fit_config import FitConfig
from nvc.inr.methods import fit_defaults

KEYS = ("codec", "fit")


def read_recipe(path: str | Path) -> tuple[str, dict[str, Any]]:
    """Codec name and fit options of a recipe, checked as FitConfig checks them.

    Raises UsageError naming the file and what is allowed.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not a readable recipe: {error}") from None
    if not isinstance(content, dict) or set(content) != set(KEYS):
        raise UsageError(f"{path}: a recipe has the keys {' and '.join(KEYS)}")
    options = content["fit"]
    known = [item.name for item in fields(FitConfig)]
    if not isinstance(options, dict) or not set(options) <= set(known):
        raise UsageError(f"{path}: fit holds other options than {', '.join(known)}")
    codec = str(content["codec"])
    try:
        FitConfig(**(fit_defaults(codec) | options))
    except (UsageError, TypeError) as error:
        raise UsageError(f"{path}: {error}") from None
    return codec, options
