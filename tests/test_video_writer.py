"""Writing: what each kind of file keeps, encoders and their options, all or nothing."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import make_frames
from test_video_raw import same_frames

from nvc.errors import InputError, UsageError
from nvc.video.color import yuv_to_rgb
from nvc.video.encode import coded_info, default_encoder
from nvc.video.frames import ColorInfo, VideoInfo
from nvc.video.matroska import PLACEHOLDER, with_sample_aspect
from nvc.video.reader import open_video
from nvc.video.writer import open_writer

COLOR = ColorInfo(matrix=9, primaries=9, transfer=16, full_range=False, chroma_location=3)
VARIABLE = [0, 1001, 3003, 3504, 9009]


def write(path, info, frames, **options):
    with open_writer(path, info, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def psnr(a, b, depth=8):
    error = torch.mean((a.to(torch.float64) - b.to(torch.float64)) ** 2)
    return float(10 * torch.log10((2**depth - 1) ** 2 / error))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_description_and_timestamps_survive(tmp_path, suffix):
    info = VideoInfo(
        width=48,
        height=32,
        frame_rate=Fraction(30000, 1001),
        time_base=Fraction(1, 30000),
        color=COLOR,
        sample_aspect=Fraction(16, 11),
        rotation=270,
    )
    frames = make_frames(info, 5, pts=VARIABLE)
    path = write(tmp_path / f"a{suffix}", info, frames)
    with open_video(path) as reader:
        got = reader.info
        read = list(reader)
    assert (got.width, got.height, got.chroma, got.bit_depth) == (48, 32, "420", 8)
    assert (got.color, got.sample_aspect, got.rotation) == (COLOR, Fraction(16, 11), 270)
    times = [frame.pts * got.time_base for frame in read]
    if suffix in (".mp4", ".mov"):
        assert times == [Fraction(tick, 30000) for tick in VARIABLE]
    else:  # Matroska counts milliseconds
        assert times == [Fraction(round(tick / 30), 1000) for tick in VARIABLE]
    assert psnr(read[2].planes[0], frames[2].planes[0]) > 38
    assert names(tmp_path) == [path.name]


def test_a_clock_that_begins_later_is_kept(tmp_path):
    info = VideoInfo(width=32, height=32, time_base=Fraction(1, 90000))
    frames = make_frames(info, 3, pts=[12345, 16000, 20001])
    for suffix in (".mp4", ".mkv"):
        with open_video(write(tmp_path / f"a{suffix}", info, frames)) as reader:
            times = [float(frame.pts * reader.info.time_base) for frame in reader]
        assert times == pytest.approx([12345 / 90000, 16000 / 90000, 20001 / 90000], abs=5.1e-4)
        if suffix == ".mp4":
            assert times[0] == pytest.approx(12345 / 90000, abs=1e-9)


@pytest.mark.parametrize("chroma", ["400", "420", "422", "444"])
@pytest.mark.parametrize("depth", [8, 9, 10, 12, 14, 16])
def test_mkv_keeps_every_sample_at_odd_sizes(tmp_path, chroma, depth):
    info = VideoInfo(width=37, height=23, chroma=chroma, bit_depth=depth)
    frames = make_frames(info, 2)
    with open_video(write(tmp_path / "a.mkv", info, frames)) as reader:
        assert (reader.info.chroma, reader.info.bit_depth) == (chroma, depth)
        same_frames(list(reader), frames)


def test_eleven_bits_go_into_twelve_without_loss(tmp_path):
    info = VideoInfo(width=16, height=16, bit_depth=11)
    frames = make_frames(info, 1)
    with open_video(write(tmp_path / "a.mkv", info, frames)) as reader:
        assert reader.info.bit_depth == 12
        got = next(iter(reader)).planes[0].to(torch.int32)
    assert torch.equal(got, frames[0].planes[0].to(torch.int32) * 2)


@pytest.mark.parametrize(
    ("size", "expected"), [((48, 32), "420"), ((48, 31), "422"), ((47, 31), "444")]
)
def test_mp4_takes_finer_chroma_where_the_size_is_odd(tmp_path, caplog, size, expected):
    info = VideoInfo(width=size[0], height=size[1])
    frames = make_frames(info, 2)
    with open_video(write(tmp_path / "a.mp4", info, frames)) as reader:
        assert reader.info.chroma == expected
        assert (reader.info.width, reader.info.height) == size
        got = next(iter(reader)).planes[0]
    assert psnr(got, frames[0].planes[0]) > 38
    assert ("written as" in caplog.text) == (expected != "420")


def test_encoders_get_the_nearest_format_they_hold():
    def coded(codec, chroma, depth):
        info = coded_info(codec, VideoInfo(width=64, height=48, chroma=chroma, bit_depth=depth))
        return info.chroma, info.bit_depth

    assert coded("libx264", "422", 10) == ("422", 10)
    assert coded("libx264", "444", 12) == ("444", 10)
    assert coded("libx265", "444", 12) == ("444", 12)
    assert coded("libsvtav1", "400", 8) == ("420", 8)
    assert coded("libsvtav1", "444", 9) == ("420", 10)
    assert coded("ffv1", "422", 14) == ("422", 14)


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"crf": "20", "preset": "veryfast", "g": "4"}),
        ("libx265", {"crf": "20", "preset": "ultrafast", "x265-params": "keyint=4"}),
        ("libsvtav1", {"crf": "20", "preset": "12", "g": "4"}),
    ],
)
def test_anchor_encoders_run_with_their_options_and_say_nothing(tmp_path, capfd, codec, options):
    info = VideoInfo(width=64, height=64, frame_rate=Fraction(30))
    frames = make_frames(info, 6)
    sizes = []
    for crf in ("20", "45"):
        path = write(tmp_path / "a.mkv", info, frames, codec=codec, options={**options, "crf": crf})
        sizes.append(path.stat().st_size)
        with open_video(path) as reader:
            got = list(reader)
        assert len(got) == 6
        if crf == "20":
            assert psnr(got[3].planes[0], frames[3].planes[0]) > 30
            with av.open(str(path)) as container:
                keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
            assert sum(keys) >= 2
    assert sizes[1] < sizes[0]
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""


def test_the_default_encoders_are_told():
    assert default_encoder("mp4")[0] == "libx264"
    assert default_encoder("matroska") == ("ffv1", {"level": "3", "slicecrc": "1"})
    options = default_encoder("mp4")[1]
    options["crf"] = "0"
    assert default_encoder("mp4")[1]["crf"] != "0"


def test_options_alone_change_the_default_encoder(tmp_path):
    info = VideoInfo(width=64, height=48)
    frames = make_frames(info, 3)
    small = write(tmp_path / "a.mp4", info, frames, options={"crf": "45"}).stat().st_size
    assert small < write(tmp_path / "b.mp4", info, frames).stat().st_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "libx999"}, "no video encoder is called 'libx999'"),
        ({"codec": "aac"}, "aac is no video encoder"),
        ({"options": {"quality": "3"}}, "libx264 has no option quality"),
        ({"options": {"preset": "warp"}}, "does not take its options"),
    ],
)
def test_wrong_encoders_and_options_are_usage_errors(tmp_path, options, message):
    info = VideoInfo(width=64, height=48)
    with (
        pytest.raises(UsageError, match=message),
        open_writer(tmp_path / "a.mp4", info, **options) as writer,
    ):
        writer.write(make_frames(info, 1)[0])
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.avi", "unknown kind of output '.avi'; allowed: .mp4"),
        ("a", "unknown kind of output ''"),
        ("%q.png", "not a pattern"),
        ("%s%d.png", "not a pattern"),
    ],
)
def test_unknown_targets_are_usage_errors(tmp_path, name, message):
    with pytest.raises(UsageError, match=message):
        open_writer(tmp_path / name, VideoInfo(width=8, height=8))


def test_a_missing_directory_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        open_writer(tmp_path / "none" / "a.mp4", VideoInfo(width=8, height=8))


def test_without_overwrite_an_existing_file_stays(tmp_path):
    (tmp_path / "a.y4m").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        open_writer(tmp_path / "a.y4m", VideoInfo(width=8, height=8), overwrite=False)
    assert (tmp_path / "a.y4m").read_text() == "mine"


def test_without_overwrite_existing_pictures_stay(tmp_path):
    (tmp_path / "p_01.png").write_text("mine")
    with pytest.raises(UsageError, match=r"p_01\.png: exists already"):
        open_writer(tmp_path / "p_%02d.png", VideoInfo(width=8, height=8), overwrite=False)


def test_a_device_is_written_in_place_and_never_replaced(tmp_path):
    info = VideoInfo(width=8, height=8)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(pipe, info, make_frames(info, 1), format="yuv")
    assert len(os.read(reader, 1000)) == 96
    os.close(reader)
    assert pipe.is_fifo()
    with pytest.raises(InputError, match="only y4m and yuv"):
        open_writer(pipe, info, format="mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.y4m", "a.yuv", "a_%02d.png"])
def test_an_error_leaves_nothing_and_the_old_file_in_place(tmp_path, name):
    (tmp_path / "a.mp4").write_text("old")
    info = VideoInfo(width=32, height=32)
    with pytest.raises(RuntimeError, match="stop"), open_writer(tmp_path / name, info) as writer:
        for frame in make_frames(info, 3):
            writer.write(frame)
        raise RuntimeError("stop")
    assert names(tmp_path) == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_text() == "old"


@pytest.mark.parametrize("name", ["a.mp4", "a_%02d.png"])
def test_no_frame_is_an_error_that_leaves_nothing(tmp_path, name):
    with (
        pytest.raises(InputError, match="no frame to write"),
        open_writer(tmp_path / name, VideoInfo(width=32, height=32)),
    ):
        pass
    assert names(tmp_path) == []


def test_timestamps_must_rise(tmp_path):
    info = VideoInfo(width=32, height=32)
    with pytest.raises(InputError, match="does not come after"):
        write(tmp_path / "a.mp4", info, make_frames(info, 2, pts=[5, 5]))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("chroma", "depth", "name"),
    [("420", 8, "rgb24"), ("444", 10, "rgb48be"), ("400", 8, "gray"), ("400", 12, "gray16be")],
)
def test_png_pictures_are_the_frames_in_rgb(tmp_path, chroma, depth, name):
    info = VideoInfo(width=33, height=18, chroma=chroma, bit_depth=depth)
    frames = make_frames(info, 3)
    write(tmp_path / "p_%03d.png", info, frames)
    assert names(tmp_path) == ["p_001.png", "p_002.png", "p_003.png"]
    with av.open(str(tmp_path / "p_002.png")) as container:
        picture = next(container.decode(video=0))
    assert picture.format.name == name
    top = 255 if depth == 8 else 65535
    got = torch.from_numpy(picture.to_ndarray().astype(np.int64)).reshape(18, 33, -1)
    rgb = yuv_to_rgb(frames[1].planes, info)[0].permute(1, 2, 0)
    assert (got - rgb * top).abs().max() <= 0.51


def test_one_png_takes_one_frame(tmp_path):
    info = VideoInfo(width=16, height=16)
    write(tmp_path / "a.png", info, make_frames(info, 1))
    assert names(tmp_path) == ["a.png"]
    with pytest.raises(UsageError, match=r"give a pattern such as b_%04d\.png"):
        write(tmp_path / "b.png", info, make_frames(info, 2))
    assert names(tmp_path) == ["a.png"]


def test_raw_and_png_turn_the_pixels_upright(tmp_path):
    info = VideoInfo(width=48, height=32, rotation=90, sample_aspect=Fraction(4, 3))
    frames = make_frames(info, 1)
    with open_video(write(tmp_path / "a.y4m", info, frames)) as reader:
        assert (reader.info.width, reader.info.height) == (32, 48)
        assert reader.info.sample_aspect == Fraction(3, 4)
        got = next(iter(reader))
    assert torch.equal(got.planes[0], torch.rot90(frames[0].planes[0], -1))


def test_a_reader_that_leaves_the_pipe_ends_it_quietly(tmp_path):
    script = tmp_path / "pour.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from clips import make_frames\n"
        "from nvc.video.frames import VideoInfo\n"
        "from nvc.video.writer import open_writer\n"
        "info = VideoInfo(width=256, height=256)\n"
        "frame = make_frames(info, 1)[0]\n"
        "try:\n"
        "    with open_writer('-', info) as writer:\n"
        "        while True:\n"
        "            writer.write(frame)\n"
        "except BrokenPipeError:\n"
        "    sys.exit(7)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    head = process.stdout.read(100)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 7
    assert head.startswith(b"YUV4MPEG2 W256 H256 F25:1 Ip A1:1 C420\nFRAME\n")
    assert errors == b""


def test_a_pipe_takes_only_raw_formats():
    info = VideoInfo(width=8, height=8)
    with pytest.raises(UsageError, match="allowed: y4m, yuv"):
        open_writer("-", info, format="mp4")
    file = io.BytesIO()
    with open_writer(file, info, format="yuv") as writer:
        writer.write(make_frames(info, 1)[0])
    assert len(file.getvalue()) == 96


def test_the_sample_aspect_goes_into_matroska_in_place(tmp_path):
    info = VideoInfo(width=48, height=32, sample_aspect=Fraction(16, 11))
    frames = make_frames(info, 2)
    path = write(tmp_path / "a.mkv", info, frames)
    data = path.read_bytes()
    assert PLACEHOLDER.encode() not in data
    with open_video(path) as reader:
        same_frames(list(reader), frames)
    with pytest.raises(ValueError, match="no video track with room"):
        with_sample_aspect(data, replace(info, sample_aspect=Fraction(2)))
    for cut in (3, 60, 400):
        with pytest.raises(ValueError):
            with_sample_aspect(data[:cut], info)


@pytest.mark.parametrize("count", [1, 2])
def test_a_clip_too_short_to_reorder_has_its_times(tmp_path, count):
    """libx265 leaves the decoding times of such a clip to chance."""
    info = VideoInfo(width=64, height=48, frame_rate=Fraction(25))
    path = write(tmp_path / "a.mp4", info, make_frames(info, count), codec="libx265")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [packet.dts for packet in packets] == [packet.pts for packet in packets]
        assert len(packets) == count
