"""Compiled kernels are cached by their own file: what else is in them must be felt there."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import pytest

import nvc

PACKAGE = Path(nvc.__file__).parent
# What a kernel's file may import of the package without compiling anything of it in.
PLAIN = {"entropy.jit", "nn.blocks", "predictive.coarse_search"}
KERNELS = (
    "entropy/adaptive_kernels.py",
    "entropy/kernels.py",
    "nn/fused.py",
    "predictive/block_error.py",
    "predictive/choice_kernels.py",
    "predictive/coarse_search.py",
    "predictive/filter_kernels.py",
    "predictive/index_kernels.py",
    "predictive/motion_price.py",
    "predictive/motion_search.py",
    "predictive/motion_settling.py",
    "predictive/motion_units.py",
    "predictive/plane_kernels.py",
    "predictive/share_kernels.py",
    "predictive/symbol_kernels.py",
    "predictive/vector_conditions.py",
    "predictive/vector_kernels.py",
    "predictive/vector_rates.py",
)


def digest_of_imports(tree: ast.Module) -> str | None:
    """Of the files a file takes kernels or constants from, in the order of their names."""
    modules = {
        node.module.removeprefix("nvc.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nvc.")
    }
    files = [PACKAGE / (module.replace(".", "/") + ".py") for module in sorted(modules - PLAIN)]
    if not files:
        return None
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_know_what_they_were_made_with(name: str) -> None:
    tree = ast.parse((PACKAGE / name).read_text())
    said = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MADE_WITH"
    ]
    wanted = digest_of_imports(tree)
    assert said == ([] if wanted is None else [wanted]), f"set MADE_WITH of {name} to {wanted!r}"
