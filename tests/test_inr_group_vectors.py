"""Streams written once stay readable: residual groups, patches, and sub-networks of two videos."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
TOOL = ROOT / "tools" / "make_inr_vectors.py"
VECTORS = ROOT / "tests" / "vectors"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_inr_vectors", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("codec", ["hnerv", "nirvana", "pfnr"])
def test_golden_streams(codec, tool):
    """Every integer is the one that was coded; pictures may round otherwise on another machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = tool.describe(VECTORS / f"inr_{codec}.nvc")
    torch.set_num_threads(threads)
    known = json.loads((VECTORS / "inr_groups.json").read_text())[codec]
    assert found["integers"] == known["integers"]
    np.testing.assert_allclose(found["means"], known["means"], atol=0.05)
