"""Intra and inter frames apart: of an .nvc file and of any other, from the bytes that are there."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from clips import make_frames
from predictive_weights import write_weights

import nvc
from nvc.commands.measure import measure_file
from nvc.evaluation.anchors import encode_anchor, parse_anchor
from nvc.evaluation.frame_types import KINDS, frame_types, stream_sizes
from nvc.video.count import coded_sizes
from nvc.video.frames import VideoInfo
from nvc.video.writer import open_writer

INFO = VideoInfo(width=64, height=48, frame_count=8, frame_rate=Fraction(25))


def test_both_kinds_of_file_have_an_intra_frame_a_gop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = make_frames(INFO, 8)
    source, anchor = tmp_path / "source.y4m", tmp_path / "a.mkv"
    with open_writer(source, INFO) as writer:
        for frame in frames:
            writer.write(frame)
    encode_anchor(frames, INFO, anchor, parse_anchor("x264-veryfast", gop=4), 30)
    weights = write_weights(tmp_path / "weights")
    monkeypatch.setenv("NVC_WEIGHTS", str(weights.parent))
    stream = tmp_path / "a.nvc"
    nvc.encode(str(source), stream, weights=weights.stem, gop=4, qp=30, device="cpu")
    for path, sizes in ((anchor, coded_sizes(anchor)), (stream, stream_sizes(stream))):
        assert [intra for _, intra in sizes] == [True, False, False, False] * 2
        total = sum(size for size, _ in sizes)
        assert 0.5 * path.stat().st_size < total < path.stat().st_size
        kinds = measure_file(str(source), str(path), coded=str(path))
        assert (kinds["intra"]["frames"], kinds["inter"]["frames"]) == (2, 6)
        bits = sum(kinds[name]["frames"] * kinds[name]["bpp"] for name in KINDS) * 64 * 48
        assert bits == pytest.approx(8 * total)
        assert kinds["intra"]["bpp"] > kinds["inter"]["bpp"]
        assert kinds["psnr_yuv"] == pytest.approx(
            sum(kinds[name]["frames"] * kinds[name]["psnr_yuv"] for name in KINDS) / 8
        )


def test_kinds_are_means_of_their_frames_and_missing_where_nothing_is_known() -> None:
    scores = [{"psnr_y": y, "psnr_yuv": y + 1, "ms_ssim": None} for y in (40.0, 30.0, 32.0)]
    kinds = frame_types(scores, [(100, True), (10, False), (20, False)], 80)
    assert kinds == {
        "intra": {"frames": 1, "bpp": 10, "psnr_y": 40, "psnr_yuv": 41, "ms_ssim": None},
        "inter": {"frames": 2, "bpp": 1.5, "psnr_y": 31, "psnr_yuv": 32, "ms_ssim": None},
    }
    assert frame_types(scores, [(100, True)] * 3, 80)["inter"] is None
    assert frame_types(scores, [(100, True), (10, False)], 80) == {"intra": None, "inter": None}
