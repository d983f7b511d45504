"""Headerless .yuv and .y4m: names, headers, planes, and what is wrong with damaged ones."""

import io
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from clips import make_frames, write_raw

from nvc.errors import InputError, UsageError
from nvc.video.frames import ColorInfo, VideoInfo
from nvc.video.rawvideo import (
    RawFormat,
    format_y4m_header,
    frame_bytes,
    parse_raw_name,
    parse_y4m_header,
)
from nvc.video.reader import open_video
from nvc.video.writer import open_writer

SHAPES = [("420", 8), ("420", 10), ("422", 8), ("444", 12), ("400", 8), ("400", 16)]


def same_frames(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert len(a.planes) == len(b.planes)
        for x, y in zip(a.planes, b.planes, strict=True):
            assert x.dtype == y.dtype
            assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("name", "size", "chroma", "depth", "rate"),
    [
        ("Beauty_1920x1080_120fps_420_8bit_YUV.yuv", (1920, 1080), "420", 8, 120),
        ("Beauty_3840x2160_120fps_420_10bit_YUV.yuv", (3840, 2160), "420", 10, 120),
        ("videoSRC01_1920x1080_30.yuv", (1920, 1080), "420", 8, 30),
        ("videoSRC30_1920x1080_25.yuv", (1920, 1080), "420", 8, 25),
        ("BasketballPass_416x240_50.yuv", (416, 240), "420", 8, 50),
        ("clip_352x288_50hz_yuv422p10le.yuv", (352, 288), "422", 10, 50),
        ("foo-64x48-444.YUV", (64, 48), "444", 8, 25),
    ],
)
def test_the_usual_names_tell_the_format(name, size, chroma, depth, rate):
    known = parse_raw_name(name)
    assert known is not None
    assert (known.width, known.height) == size
    assert (known.chroma, known.bit_depth, known.frame_rate) == (chroma, depth, rate)


def test_a_name_without_a_size_tells_nothing():
    assert parse_raw_name("holiday_2019.yuv") is None


@pytest.mark.parametrize(("chroma", "depth"), SHAPES)
@pytest.mark.parametrize("suffix", [".y4m", ".yuv"])
def test_planes_survive_raw_files_exactly_even_at_odd_sizes(tmp_path, chroma, depth, suffix):
    info = VideoInfo(width=37, height=23, chroma=chroma, bit_depth=depth)
    frames = make_frames(info, 3)
    path = tmp_path / f"x{suffix}"
    with open_writer(path, info) as writer:
        for frame in frames:
            writer.write(frame)
    raw = None
    if suffix == ".yuv":
        assert path.stat().st_size == 3 * frame_bytes(info)
        raw = RawFormat(width=37, height=23, chroma=chroma, bit_depth=depth)
    with open_video(path, raw=raw) as reader:
        assert reader.info.chroma == chroma
        assert reader.info.bit_depth == depth
        assert reader.info.frame_count == 3
        same_frames(list(reader), frames)


def test_start_frames_and_crop_take_the_part_asked_for(tmp_path):
    info = VideoInfo(width=40, height=30)
    frames = make_frames(info, 6)
    path = write_raw(tmp_path / "clip_40x30_50fps_420_8bit.yuv", frames)
    with open_video(path, start=2, frames=3, crop=(15, 22)) as reader:
        assert reader.info.frame_count == 3
        assert reader.info.frame_rate == 50
        assert (reader.info.height, reader.info.width) == (15, 22)
        got = list(reader)
    assert [frame.pts for frame in got] == [0, 1, 2]
    # (30 - 15) // 2 = 7 goes down to 6, (40 - 22) // 2 = 9 to 8: whole chroma samples
    assert torch.equal(got[0].planes[0], frames[2].planes[0][6:21, 8:30])
    assert torch.equal(got[0].planes[1], frames[2].planes[1][3:11, 4:15])


def test_a_crop_that_does_not_fit_is_refused(tmp_path):
    info = VideoInfo(width=40, height=30)
    path = write_raw(tmp_path / "a_40x30.yuv", make_frames(info, 1))
    with pytest.raises(UsageError, match="does not fit"):
        open_video(path, crop=(31, 40))


def test_cropping_keeps_the_matrix_of_the_whole_picture(tmp_path):
    info = VideoInfo(width=32, height=720)
    path = write_raw(tmp_path / "a_32x720.yuv", make_frames(info, 1))
    with open_video(path, crop=(64, 32)) as reader:
        assert reader.info.color.matrix == 1  # BT.709 by its 720 lines, not BT.601 by 64
    with open_video(path, crop=(720, 16)) as reader:
        assert reader.info.color.matrix == 2


@pytest.mark.parametrize("kind", ["bytesio", "pipe"])
def test_y4m_and_raw_come_through_file_objects_and_pipes(kind):
    info = VideoInfo(width=18, height=10, bit_depth=10)
    frames = make_frames(info, 3)
    file = io.BytesIO()
    with open_writer(file, info, format="y4m") as writer:
        for frame in frames:
            writer.write(frame)
    data = file.getvalue()
    with open_video(Slow(data) if kind == "pipe" else io.BytesIO(data), start=1) as reader:
        same_frames(list(reader), frames[1:])
    raw = RawFormat(width=18, height=10, bit_depth=10)
    body = b"".join(part[6:] for part in _split(data, info))
    with open_video(Slow(body), raw=raw) as reader:
        same_frames(list(reader), frames)


def _split(data, info):
    start, size = data.index(b"\n") + 1, 6 + frame_bytes(info)
    return [data[at : at + size] for at in range(start, len(data), size)]


class Slow(io.RawIOBase):
    """A pipe: it does not seek and gives at most ``step`` bytes at a time."""

    def __init__(self, data, *, step=7):
        self.data = data
        self.step = step

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(self.step, len(buffer), len(self.data))
        buffer[:count], self.data = self.data[:count], self.data[count:]
        return count


class Endless(Slow):
    """A y4m stream that never ends."""

    def __init__(self, head, frame):
        super().__init__(head)
        self.frame = frame

    def readinto(self, buffer):
        self.data = self.data or self.frame
        return super().readinto(buffer)


def test_frames_are_streamed_one_at_a_time():
    info = VideoInfo(width=18, height=10)
    frame = b"FRAME\n" + bytes(frame_bytes(info))
    with open_video(Endless(format_y4m_header(info), frame)) as reader:
        assert reader.info.frame_count is None
        pts = [frame.pts for frame, _ in zip(reader, range(4), strict=False)]
    assert pts == [0, 1, 2, 3]


def test_the_y4m_header_keeps_rate_shape_range_and_chroma_location():
    info = VideoInfo(
        width=64,
        height=48,
        frame_rate=Fraction(30000, 1001),
        time_base=Fraction(1001, 30000),
        sample_aspect=Fraction(4, 3),
        color=ColorInfo(full_range=True, chroma_location=3),
    )
    line = format_y4m_header(info)
    assert line == b"YUV4MPEG2 W64 H48 F30000:1001 Ip A4:3 C420paldv XCOLORRANGE=FULL\n"
    assert parse_y4m_header(line[:-1], "x") == info


def test_y4m_headers_of_other_programs():
    plain = parse_y4m_header(b"YUV4MPEG2 W64 H48 F25:1 It A0:0 C420jpeg XYSCSS=420JPEG", "x")
    assert (plain.chroma, plain.bit_depth, plain.sample_aspect) == ("420", 8, 1)
    assert plain.color.chroma_location == 2
    deep = parse_y4m_header(b"YUV4MPEG2 W64 H48 F50:1 Ip A1:1 C420p10 XYSCSS=420P10", "x")
    assert (deep.chroma, deep.bit_depth, deep.frame_rate) == ("420", 10, 50)
    assert parse_y4m_header(b"YUV4MPEG2 W64 H48 Cmono12", "x").chroma == "400"
    assert parse_y4m_header(b"YUV4MPEG2 W64 H48", "x").frame_rate == 25


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"YUV4MPEG2 W64 F25:1", "lacks its W"),
        (b"YUV4MPEG2 W64 H48 C411", "C411 is not supported; allowed: C420"),
        (b"YUV4MPEG2 W64 H48 C420p99", "C420p99 is not supported"),
        (b"YUV4MPEG2 W64 H48 F25", "F25 is not a ratio"),
        (b"YUV4MPEG2 W0 H48", "width is 0"),
        (b"YUV4MPEG2 W99999999 H48", "allowed: 1 to 16384"),
    ],
)
def test_a_wrong_y4m_header_is_one_clear_line(line, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_y4m_header(line, "clip.y4m")
    assert str(caught.value).startswith("clip.y4m: ")
    assert "\n" not in str(caught.value)


def test_a_truncated_raw_file_says_so(tmp_path):
    info = VideoInfo(width=40, height=30)
    path = write_raw(tmp_path / "a_40x30.yuv", make_frames(info, 2))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="truncated, or not 40x30 420"):
        open_video(path)


def test_a_truncated_y4m_gives_its_whole_frames_first(tmp_path):
    info = VideoInfo(width=40, height=30)
    path = tmp_path / "a.y4m"
    with open_writer(path, info) as writer:
        for frame in make_frames(info, 3):
            writer.write(frame)
    path.write_bytes(path.read_bytes()[:-5])
    got = []
    with open_video(path) as reader, pytest.raises(InputError, match="truncated in frame 2"):
        got.extend(reader)
    with open_video(path, frames=2) as reader:
        same_frames(list(reader), make_frames(info, 2))


def test_samples_above_the_stated_depth_are_refused(tmp_path):
    info = VideoInfo(width=16, height=16, bit_depth=12)
    path = write_raw(tmp_path / "a_16x16_10bit.yuv", make_frames(info, 1))
    with open_video(path) as reader, pytest.raises(InputError, match="no 10-bit value"):
        list(reader)


def test_a_yuv_without_a_format_says_how_to_name_it(tmp_path):
    path = tmp_path / "movie.yuv"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match="does not say its size"):
        open_video(path)


def test_raw_formats_and_video_infos_say_what_is_allowed():
    with pytest.raises(UsageError, match="allowed: 400, 420, 422, 444"):
        RawFormat(width=8, height=8, chroma="411")
    with pytest.raises(ValueError, match="allowed: 8 to 16"):
        VideoInfo(width=8, height=8, bit_depth=7)
    with pytest.raises(ValueError, match="allowed: 0, 90, 180, 270"):
        replace(VideoInfo(width=8, height=8), rotation=45)
    with pytest.raises(ValueError, match="terms up to 2147483647"):
        VideoInfo(width=8, height=8, time_base=Fraction(1, 2**31))
