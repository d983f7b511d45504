"""The figures of `nvc eval`, the anchors beside ours, and the demo's clip and picture."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import make_frames

from nvc.errors import InputError, UsageError
from nvc.evaluation.anchors import encode_anchor, encode_anchor_to_size, parse_anchor
from nvc.evaluation.compare import compare
from nvc.evaluation.lettering import draw_text
from nvc.evaluation.picture import side_by_side, write_png
from nvc.evaluation.scene import scene_frame
from nvc.video.frames import ColorInfo, Frame, VideoInfo
from nvc.video.reader import open_video

INFO = VideoInfo(width=48, height=32, frame_rate=Fraction(30), time_base=Fraction(1, 30))


def off_by(frames: list[Frame], *errors: int) -> list[Frame]:
    """The frames with plane p changed by errors[p], away from the ends of the range."""
    return [
        Frame(
            tuple(
                torch.where(plane > 128, plane - error, plane + error).to(plane.dtype)
                for plane, error in zip(frame.planes, errors, strict=True)
            ),
            frame.pts,
        )
        for frame in frames
    ]


def psnr(error: float, peak: int = 255) -> float:
    return 20 * float(np.log10(peak / error))


def test_figures_by_hand() -> None:
    frames = make_frames(INFO, 3)
    found = compare(frames, off_by(frames, 1, 2, 4), INFO, INFO, file_bytes=900)
    assert (found["frames"], found["width"], found["height"], found["fps"]) == (3, 48, 32, 30)
    assert found["bpp"] == pytest.approx(8 * 900 / (3 * 48 * 32))
    assert found["kbps"] == pytest.approx(72)
    assert found["psnr_y"] == pytest.approx(psnr(1))
    assert found["psnr_v"] == pytest.approx(psnr(4))
    assert found["psnr_yuv"] == pytest.approx((6 * psnr(1) + psnr(2) + psnr(4)) / 8)
    assert 30 < found["psnr_rgb"] < found["psnr_y"]
    assert found["ms_ssim"] is None


def test_psnr_is_averaged_over_frames_not_over_errors() -> None:
    frames = make_frames(INFO, 2)
    decoded = [off_by(frames, 1, 1, 1)[0], off_by(frames, 8, 8, 8)[1]]
    found = compare(frames, decoded, INFO, INFO, file_bytes=1)
    assert found["psnr_y"] == pytest.approx((psnr(1) + psnr(8)) / 2)


def test_rgb_of_grey_is_taken_in_bt709_unless_the_clip_says_otherwise() -> None:
    """An error in V alone weighs by the matrix: 1.5748 in BT.709's red, 1.402 in BT.601's."""
    planes = (torch.full((32, 48), 120), torch.full((16, 24), 128), torch.full((16, 24), 128))
    grey = [Frame(tuple(plane.to(torch.uint8) for plane in planes), 0)]
    wrong = [Frame((*grey[0].planes[:2], grey[0].planes[2] + 2), 0)]

    def rgb_psnr(matrix: int) -> float:
        info = replace(INFO, color=ColorInfo(matrix=matrix))
        return compare(grey, wrong, info, info, file_bytes=1)["psnr_rgb"]

    def expected(kr: float, kb: float) -> float:
        red = 2 * (1 - kr) * 2 / 224
        green = kr * red / (1 - kr - kb)
        return -10 * float(np.log10((red**2 + green**2) / 3))

    assert rgb_psnr(2) == rgb_psnr(1) == pytest.approx(expected(0.2126, 0.0722), abs=1e-3)
    assert rgb_psnr(6) == pytest.approx(expected(0.299, 0.114), abs=1e-3)


def test_another_depth_is_brought_to_the_reference() -> None:
    deep = replace(INFO, bit_depth=10)
    frames = make_frames(INFO, 1)
    shifted = [Frame(tuple(plane.to(torch.int32) * 4 for plane in frames[0].planes), 0)]
    shifted = [Frame(tuple(plane.to(torch.uint16) for plane in shifted[0].planes), 0)]
    for reference, decoded, infos in (
        (frames, shifted, (INFO, deep)),
        (shifted, frames, (deep, INFO)),
    ):
        assert compare(reference, decoded, *infos, file_bytes=1)["psnr_yuv"] == 100


def test_other_chroma_has_no_chroma_figures() -> None:
    full = replace(INFO, chroma="444")
    (frame,) = make_frames(INFO, 1)
    wide = [plane.repeat_interleave(2, 0).repeat_interleave(2, 1) for plane in frame.planes[1:]]
    found = compare([frame], [Frame((frame.planes[0], *wide), 0)], INFO, full, file_bytes=1)
    assert found["psnr_y"] == 100
    assert found["psnr_u"] is found["psnr_v"] is found["psnr_yuv"] is None
    assert 20 < found["psnr_rgb"] < 100


def test_grey_video_has_luma_for_yuv() -> None:
    grey = replace(INFO, chroma="400")
    frames = make_frames(grey, 2)
    found = compare(frames, off_by(frames, 3), grey, grey, file_bytes=1)
    assert found["psnr_yuv"] == found["psnr_y"] == pytest.approx(psnr(3))
    assert found["psnr_u"] is None


def test_videos_that_do_not_match_are_refused() -> None:
    frames = make_frames(INFO, 3)
    with pytest.raises(InputError, match="the file has only 2 frames"):
        compare(frames, frames[:2], INFO, INFO, file_bytes=1)
    with pytest.raises(InputError, match="the reference has only 1 frames"):
        compare(frames[:1], frames, INFO, INFO, file_bytes=1)
    with pytest.raises(InputError, match="48x32 and the file 32x32"):
        compare(frames, frames, INFO, replace(INFO, width=32), file_bytes=1)
    with pytest.raises(InputError, match="no frames"):
        compare([], [], INFO, INFO, file_bytes=1)


@pytest.mark.parametrize("name", ["x264-veryfast", "x265-ultrafast", "svtav1-12"])
def test_anchors_encode_what_they_are_given(name: str, tmp_path: Path) -> None:
    info = replace(INFO, width=96, height=64)
    frames = make_frames(info, 6)
    anchor = parse_anchor(name, gop=3)
    made = encode_anchor(frames, info, tmp_path / "a.mkv", anchor, 30)
    again = encode_anchor(frames, info, tmp_path / "b.mkv", anchor, 30)
    assert made.bytes == made.path.stat().st_size
    assert again.path.read_bytes() == made.path.read_bytes()
    assert made.options["crf"] == "30" and made.options["preset"] == name.split("-")[1]
    with open_video(made.path) as reader:
        found = compare(frames, reader, info, reader.info, file_bytes=made.bytes)
    assert found["frames"] == 6
    assert 20 < found["psnr_yuv"] < 60
    with av.open(str(made.path)) as file:
        keys = [packet.is_keyframe for packet in file.demux(video=0) if packet.size]
    assert sum(keys) == 2


def test_a_size_is_searched_for(tmp_path: Path) -> None:
    info = replace(INFO, width=96, height=64)
    frames = make_frames(info, 6)
    anchor = parse_anchor("x264-veryfast")
    low, high = (encode_anchor(frames, info, tmp_path / "a.mkv", anchor, q).bytes for q in (40, 12))
    target = (low * high) ** 0.5
    made = encode_anchor_to_size(lambda: frames, info, tmp_path / "b.mkv", anchor, round(target))
    assert made.bytes == pytest.approx(target, rel=0.05)
    assert made.path.stat().st_size == made.bytes
    smallest = encode_anchor_to_size(lambda: frames, info, tmp_path / "c.mkv", anchor, 10)
    assert smallest.crf == 51


def test_anchor_names() -> None:
    for name, message in (
        ("vp9-good", "allowed: x264-PRESET"),
        ("x265-quick", "no preset 'quick'; allowed: ultrafast"),
        ("svtav1", "no preset ''; allowed: -1"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_anchor(name)


def test_pictures_are_png_with_labels(tmp_path: Path) -> None:
    left = (scene_frame(0, 48, 80) * 255).astype(np.uint8)
    right = (scene_frame(9, 48, 80) * 255).astype(np.uint8)
    assert np.abs(left.astype(int) - right).mean() > 2, "the scene does not move"
    picture = side_by_side([("original", left), ("nvc 1.2 kB", right)], scale=1)
    write_png(tmp_path / "p.png", picture)
    with av.open(str(tmp_path / "p.png")) as file:
        back = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert np.array_equal(back, picture)
    assert np.array_equal(picture[19 : 19 + 48, 6:86], left)
    assert (picture[6:13, 6:86] == 235).any(), "there is no label"
    with pytest.raises(ValueError, match="one size"):
        side_by_side([("a", left), ("b", right[1:])])


def test_letters_are_all_different() -> None:
    characters = "0123456789abcdefghijklmnopqrstuvwxyzBKM.,:-/ "
    glyphs = {draw_text(character, scale=1).tobytes() for character in characters}
    assert len(glyphs) == len(characters)
    assert draw_text("ab", scale=3).shape == (21, 36)
