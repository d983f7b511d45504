"""Clips and a stand-in codec that several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

# Read when torch loads: threads that spin while they wait stall on a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
from clips import write_clip
from hypothesis import settings
from predictive_weights import write_weights

import nvc.codecs
from nvc.codecs import CodecEntry
from nvc.video.reader import open_video
from nvc.video.writer import open_writer

# The networks of the tests are too small to gain anything from more.
torch.set_num_threads(1)

# The same examples in every run, and no deadline: the machine may be busy with other work.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

DIFFICULT_TIMES = [0, 40, 100, 140, 260, 300, 310, 420, 460, 500]  # milliseconds


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a tiny predictive network's weights, which can be found."""
    path = write_weights(tmp_path / "weights")
    monkeypatch.setenv("NVC_WEIGHTS", str(path.parent))
    return path.stem


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Ten frames, 32x24, 8-bit 4:2:0, 25 frames a second, lossless, no sound."""
    return write_clip(tmp_path / "clip.mkv", width=32, height=24, frames=10)


@pytest.fixture
def difficult_clip(tmp_path: Path) -> Path:
    """Odd size, 10-bit 4:2:2, variable frame rate, colour description, aspect and sound."""
    plain = write_clip(
        tmp_path / "plain.mkv",
        width=45,
        height=35,
        frames=len(DIFFICULT_TIMES),
        pixel_format="yuv422p10le",
        time_base=Fraction(1, 1000),
        pts=DIFFICULT_TIMES,
        audio="flac",
        color={"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1},
    )
    # PyAV alone cannot put the aspect into a Matroska file; the writer can.
    with open_video(plain, audio=True) as reader:
        info = replace(reader.info, sample_aspect=Fraction(4, 3))
        target = tmp_path / "difficult.mkv"
        with open_writer(target, info, audio=reader.audio_chunks()) as writer:
            for frame in reader:
                writer.write(frame)
    plain.unlink()
    return target


@pytest.fixture
def copy_codec(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A codec that stores samples as they are, under a name the format knows; gives the name.

    With it everything around a codec is tested exactly and quickly.
    """
    entry = CodecEntry(
        name="nerv",
        module="copy_codec",
        factory="CopyCodec",
        config="copy_codec:CopyConfig",
        summary="stores samples",
        rates=("qp", "bitrate", "size"),
        layered=True,
        whole_files=True,
    )
    monkeypatch.setitem(nvc.codecs.CODECS, "nerv", entry)
    yield "nerv"
