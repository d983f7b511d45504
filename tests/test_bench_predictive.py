"""The speed tool still finds every stage it times."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from bench_predictive import Stages

from nvc.predictive import inference


def test_every_stage_is_there() -> None:
    """Timers replace what they name, and only while they measure."""
    before = inference.moved
    with Stages().measuring():
        assert inference.moved is not before
    assert inference.moved is before
