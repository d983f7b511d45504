"""The fuzzer itself: the container passes it, and it tells crashes, hangs and greed apart."""

import json
import os
import subprocess
import sys
from pathlib import Path

import clips
import pytest

import nvc

ROOT = Path(__file__).parents[1]
SEED = ROOT / "tests" / "vectors" / "container_v1.nvc"

BAD_DECODER = """
import os, time
from nvc.errors import StreamError
CALLS = 0

def decode(path, rng):
    global CALLS
    CALLS += 1
    if path.name.startswith("container"):
        return 1
    number = int(path.stem.split("_")[1])
    if number == 1:
        raise ValueError("not a clear error")
    if number == 2:
        time.sleep(60)
    if number == 3:
        return len(bytearray(2 << 30))
    if number == 4:
        os.abort()
    if number == 5:
        raise StreamError("clear")
    return 1
"""


def fuzz(*options: str, path: str = "", file: Path = SEED) -> tuple[int, dict]:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "fuzz_decode.py", file, "--json", *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_container_survives_the_fuzzer(tmp_path):
    code, summary = fuzz("--target", "reader", "--count", "400", "--out", str(tmp_path / "bad"))
    assert code == 0, summary["offenders"]
    assert summary["frames"] + summary["error"] == 400
    assert min(summary["frames"], summary["error"]) > 50
    assert not (tmp_path / "bad").exists()


def test_bad_outcomes_are_found_and_kept(tmp_path):
    (tmp_path / "bad_decoder.py").write_text(BAD_DECODER)
    out = tmp_path / "bad"
    code, summary = fuzz(
        *("--target", "bad_decoder:decode", "--count", "7", "--timeout", "1.5", "--out", str(out)),
        path=str(tmp_path),
    )
    assert code == 1
    found = {kind: summary[kind] for kind in ("frames", "error", "crash", "hang", "memory")}
    assert found == {"frames": 2, "error": 1, "crash": 2, "hang": 1, "memory": 1}
    kinds = sorted(file.name.split("_")[0] for file in out.glob("*.nvc"))
    assert kinds == ["crash", "crash", "hang", "memory"]
    texts = "".join(file.read_text() for file in out.glob("*.txt"))
    assert "not a clear error" in texts and "MemoryError" in texts


@pytest.mark.filterwarnings("ignore:.*collapsed:RuntimeWarning")
def test_decoding_survives_the_fuzzer(tmp_path):
    """The whole way from mutated file to written video; the full campaign is run by hand."""
    clip = clips.write_clip(tmp_path / "clip.mkv", width=51, height=35, frames=5, audio="libopus")
    file = tmp_path / "clip.nvc"
    nvc.encode(clip, file, codec="hnerv", epochs=1, gop=3, size_params=2500)
    out = tmp_path / "bad"
    code, summary = fuzz("--count", "150", "--seed", "11", "--out", str(out), file=file)
    assert code == 0, [file.read_text() for file in out.glob("*.txt")]
    assert summary["frames"] > 20 and summary["error"] > 20


def test_the_same_seed_gives_the_same_outcomes(tmp_path):
    options = ("--target", "reader", "--count", "60", "--seed", "7", "--out", str(tmp_path))
    runs = [fuzz(*options)[1] for _ in range(2)]
    assert runs[0]["mutations"] == runs[1]["mutations"]
