"""Intra and inter frames apart: of an .nvc file and of any other, from the bytes that are there."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from clips import make_frames
from predictive_weights import write_weights

import nvc
from nvc.errors import InputError
from nvc.evaluation.anchors import encode_anchor, parse_anchor
from nvc.evaluation.frame_types import frame_types, stream_sizes
from nvc.video.count import coded_sizes
from nvc.video.frames import VideoInfo
from nvc.video.reader import open_video

INFO = VideoInfo(width=64, height=48, frame_count=8, frame_rate=Fraction(25))


def test_both_kinds_of_file_have_an_intra_frame_a_gop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = make_frames(INFO, 8)
    anchor = tmp_path / "a.mkv"
    encode_anchor(frames, INFO, anchor, parse_anchor("x264-veryfast", gop=4), 30)
    weights = write_weights(tmp_path / "weights")
    monkeypatch.setenv("NVC_WEIGHTS", str(weights.parent))
    stream = tmp_path / "a.nvc"
    nvc.encode(str(anchor), stream, weights=weights.stem, gop=4, qp=30, device="cpu")
    for path, sizes in ((anchor, coded_sizes(anchor)), (stream, stream_sizes(stream))):
        assert [intra for _, intra in sizes] == [True, False, False, False] * 2
        total = sum(size for size, _ in sizes)
        assert 0.5 * path.stat().st_size < total < path.stat().st_size
        with nvc.open(path) if path == stream else open_video(str(path)) as shown:
            kinds = frame_types(frames, shown, INFO, shown.info, sizes)
        assert (kinds["intra"]["frames"], kinds["inter"]["frames"]) == (2, 6)
        bits = sum(kind["frames"] * kind["bpp"] for kind in kinds.values()) * 64 * 48
        assert bits == pytest.approx(8 * total)
        assert kinds["intra"]["bpp"] > kinds["inter"]["bpp"]


def test_frames_without_bytes_are_named() -> None:
    frames = make_frames(INFO, 3)
    with pytest.raises(InputError, match="2 coded frames, but 3 are shown"):
        frame_types(frames, frames, INFO, INFO, [(10, True), (5, False)])
