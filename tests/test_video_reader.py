"""Reading through FFmpeg: planes taken as they are, what a file says about itself, bad input."""

import io
import logging
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from clips import make_frames, video_times, write_clip
from test_video_raw import Slow

from nvc.errors import InputError, UsageError
from nvc.video.color import yuv_to_rgb
from nvc.video.count import count_frames
from nvc.video.decode import Clock
from nvc.video.frames import VideoInfo, plane_shapes
from nvc.video.pixels import frame_planes, make_frame, pixel_layout
from nvc.video.reader import open_video

DIRECT = [
    ("yuv420p", "420", 8),
    ("yuv422p", "422", 8),
    ("yuv444p", "444", 8),
    ("gray", "400", 8),
    ("yuv420p10le", "420", 10),
    ("yuv422p10le", "422", 10),
    ("yuv444p12le", "444", 12),
    ("gray10le", "400", 10),
    ("yuv420p16le", "420", 16),
]
# (FFmpeg's format, the planar format that holds the same samples)
OTHER = [
    ("nv12", "yuv420p"),
    ("nv21", "yuv420p"),
    ("nv16", "yuv422p"),
    ("nv24", "yuv444p"),
    ("nv42", "yuv444p"),
    ("p010le", "yuv420p10le"),
    ("p012le", "yuv420p12le"),
    ("p016le", "yuv420p16le"),
    ("p210le", "yuv422p10le"),
    ("p410le", "yuv444p10le"),
    ("yuyv422", "yuv422p"),
    ("uyvy422", "yuv422p"),
    ("y210le", "yuv422p10le"),
    ("yuv420p10be", "yuv420p10le"),
    ("yuva420p", "yuv420p"),
    ("gray16be", "gray16le"),
    ("ya8", "gray"),
]


def expected_planes(path, name):
    """The planes of the first frame by PyAV's own arrays, in planar format ``name``."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        if frame.format.name != name:
            frame = frame.reformat(format=name, threads=1)
        return [
            np.array(plane)
            .view(np.uint8 if frame.format.components[0].bits == 8 else np.uint16)
            .reshape(plane.height, -1)[:, : plane.width]
            for plane in frame.planes
        ]


def check_planes(path, name, chroma, depth):
    with open_video(path) as reader:
        assert (reader.info.chroma, reader.info.bit_depth) == (chroma, depth)
        frame = next(iter(reader))
        for plane, expected, shape in zip(
            frame.planes, expected_planes(path, name), reader.info.plane_shapes(), strict=True
        ):
            assert tuple(plane.shape) == shape
            assert plane.dtype == reader.info.sample_dtype
            assert np.array_equal(plane.numpy(), expected)


@pytest.mark.parametrize(("name", "chroma", "depth"), DIRECT)
def test_planar_formats_come_unchanged_at_odd_sizes(tmp_path, name, chroma, depth):
    path = write_clip(tmp_path / "a.mkv", width=53, height=35, frames=1, pixel_format=name)
    check_planes(path, name, chroma, depth)
    assert pixel_layout(name).convert_to == ()


@pytest.mark.parametrize(("name", "planar"), OTHER)
def test_other_layouts_hold_the_same_samples_as_their_planar_format(name, planar):
    layout = pixel_layout(planar)
    info = VideoInfo(width=36, height=22, chroma=layout.chroma, bit_depth=layout.bit_depth)
    planes = make_frames(info, 1)[0].planes
    got = frame_planes(
        make_frame(planes, planar).reformat(format=name, threads=1), pixel_layout(name)
    )
    for a, b in zip(got, planes, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "chroma"), [("yuv411p", "422"), ("yuv410p", "420"), ("yuv440p", "444")]
)
def test_rarer_chroma_goes_to_the_next_finer_and_luma_stays(name, chroma):
    layout = pixel_layout(name)
    assert layout.chroma == chroma
    luma = make_frames(VideoInfo(width=36, height=24), 1)[0].planes[0]
    source = make_frame((luma, luma[::2, ::2], luma[::2, ::2]), "yuv420p")
    source = source.reformat(format=name, threads=1)
    got = frame_planes(source, layout)
    assert torch.equal(got[0], luma)
    assert tuple(tuple(plane.shape) for plane in got) == plane_shapes(24, 36, chroma)


def test_semi_planar_planes_need_no_conversion():
    for name in ("nv12", "nv21", "nv16", "nv24", "p010le", "p016le", "p210le", "p410le"):
        assert pixel_layout(name).convert_to == ()


@pytest.mark.parametrize("name", ["rgb24", "gbrp", "bgra", "rgb48le", "gbrp10le", "rgb565le"])
def test_rgb_becomes_full_range_444_and_keeps_its_colours(tmp_path, caplog, name):
    path = write_clip(
        tmp_path / "a.nut", width=33, height=17, frames=1, pixel_format=name, codec="rawvideo"
    )
    with open_video(path) as reader:
        info = reader.info
        assert info.chroma == "444"
        assert (info.color.matrix, info.color.full_range) == (1, True)
        planes = next(iter(reader)).planes
    assert ("alpha" in caplog.text) == (name == "bgra")
    with av.open(str(path)) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
    got = (yuv_to_rgb(planes, info)[0] * 255).round().permute(1, 2, 0)
    # 8-bit YUV of RGB is at most 1.4 levels off; swscale dithers what it makes shallower
    assert (got - torch.from_numpy(shown).float()).abs().max() <= 2


def test_a_palette_is_read_as_rgb(tmp_path, caplog):
    path = write_clip(tmp_path / "a.gif", codec="gif", pixel_format="rgb8", frames=3)
    with open_video(path) as reader:
        assert reader.info.chroma == "444"
        frames = list(reader)
    assert len(frames) == 3
    assert frames[0].planes[0].float().std() > 10
    assert "alpha channel is dropped" in caplog.text


def test_a_format_that_is_no_picture_of_ours_names_those_that_are():
    with pytest.raises(InputError, match="gbrpf32le is not supported; allowed: gray, YUV 4:2:0"):
        pixel_layout("gbrpf32le")


def test_yuvj_is_full_range(tmp_path):
    path = write_clip(tmp_path / "a.avi", frames=2, pixel_format="yuvj420p", codec="mjpeg")
    with open_video(path) as reader:
        assert reader.info.color.full_range is True
        assert reader.info.chroma == "420"


def test_shape_rotation_and_colour_are_read(tmp_path):
    tags = {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 16}
    path = write_clip(
        tmp_path / "a.mp4",
        frames=3,
        rotation=270,
        sample_aspect=Fraction(16, 11),
        color=tags,
        options={"qp": "0", "chroma_sample_location": "topleft"},
        rate=Fraction(30000, 1001),
    )
    with open_video(path) as reader:
        info = reader.info
    assert (info.rotation, info.sample_aspect) == (270, Fraction(16, 11))
    color = info.color
    assert (color.matrix, color.primaries, color.transfer) == (9, 9, 16)
    assert (color.full_range, color.chroma_location) == (False, 3)
    assert info.frame_rate == Fraction(30000, 1001)
    assert info.frame_count == 3


def test_what_a_file_does_not_say_stays_unspecified(tmp_path):
    path = write_clip(tmp_path / "a.mkv", frames=2)
    with open_video(path) as reader:
        color = reader.info.color
    assert (color.matrix, color.primaries, color.transfer, color.full_range) == (2, 2, 2, None)
    assert color.chroma_location == 0
    assert reader.info.sample_aspect == 1
    assert reader.info.frame_count is None


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_variable_timestamps_are_the_files_own(tmp_path, name):
    pts = [0, 40, 41, 100, 350, 351, 1000]
    path = write_clip(tmp_path / name, frames=7, pts=pts, time_base=Fraction(1, 1000))
    with open_video(path) as reader:
        base = reader.info.time_base
        times = [frame.pts * base for frame in reader]
    assert times == [Fraction(tick, 1000) for tick in pts] == video_times(path)


def stamps(ticks, *, second=1000):
    """What the clock makes of frames with these timestamps, 40 ticks a frame."""
    clock = Clock(40, second, "x")
    frames = [av.VideoFrame(16, 16, "gray") for _ in ticks]
    for frame, tick in zip(frames, ticks, strict=True):
        frame.pts = tick
    return [clock.stamp(frame) for frame in frames]


def test_timestamps_may_be_negative_missing_repeated_or_jump_back():
    assert stamps([-80, -40, 0, 17]) == [-80, -40, 0, 17]
    assert stamps([None, None, 100, None]) == [0, 40, 100, 140]
    assert stamps([0, 40, 40, 80]) == [0, 40, 41, 80]
    assert stamps([50000, 50040, 0, 40, 80]) == [50000, 50040, 50080, 50120, 50160]


def test_missing_timestamps_are_counted_from_the_rate(tmp_path):
    path = write_clip(tmp_path / "a.h264", frames=5, codec="libx264", container="h264")
    with open_video(path) as reader:
        pts = [frame.pts for frame in reader]
        step = reader.info.frame_duration
    assert [tick - pts[0] for tick in pts] == [step * index for index in range(5)]


def test_interlaced_input_is_frames(tmp_path):
    path = write_clip(tmp_path / "a.mkv", codec="mpeg2video", interlaced=True, frames=4)
    with open_video(path) as reader:
        frames = list(reader)
    assert len(frames) == 4
    assert frames[0].planes[0].shape == (48, 64)


def test_a_part_begins_at_zero_and_is_the_same_frames(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=12)
    with open_video(path) as reader:
        whole = [(frame.pts, frame.planes[0].clone()) for frame in reader]
    with open_video(path, start=5, frames=4, crop=(31, 33)) as reader:
        assert reader.info.frame_count == 4
        part = list(reader)
    assert [frame.pts for frame in part] == [tick - whole[5][0] for tick, _ in whole[5:9]]
    for frame, (_, luma) in zip(part, whole[5:9], strict=True):
        assert torch.equal(frame.planes[0], luma[8:39, 14:47])
        assert frame.planes[1].shape == (16, 17)


def test_starting_behind_the_end_is_an_error(tmp_path):
    path = write_clip(tmp_path / "a.mkv", frames=3)
    with open_video(path, start=3) as reader, pytest.raises(InputError, match="no frame 3"):
        list(reader)


@pytest.mark.parametrize("kind", ["seekable", "pipe"])
def test_any_format_comes_through_a_file_object(tmp_path, kind):
    path = write_clip(tmp_path / "a.mkv", frames=3)
    data = path.read_bytes()
    with (
        open_video(io.BytesIO(data) if kind == "seekable" else Slow(data)) as reader,
        open_video(path) as direct,
    ):
        got, expected = list(reader), list(direct)
    assert [frame.pts for frame in got] == [frame.pts for frame in expected]
    assert torch.equal(got[-1].planes[2], expected[-1].planes[2])


def test_an_mp4_on_a_pipe_with_its_index_behind_says_why(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=30, width=320, height=256)
    with pytest.raises(InputError, match="only with its index in front"):
        open_video(Slow(path.read_bytes(), step=4096))


def test_frames_outlive_the_reader(tmp_path):
    path = write_clip(tmp_path / "a.mkv", frames=3)
    with open_video(path) as reader:
        frames = list(reader)
    assert torch.equal(frames[0].planes[0], torch.from_numpy(expected_planes(path, "yuv420p")[0]))


def test_a_png_sequence_is_a_video(tmp_path):
    for index in range(3):
        write_clip(
            tmp_path / f"p_{index:03d}.png",
            frames=1,
            pixel_format="rgb24",
            codec="png",
            container="image2",
        )
    with open_video(tmp_path / "p_%03d.png") as reader:
        assert reader.info.chroma == "444"
        assert len(list(reader)) == 3


def test_a_name_may_hold_what_ffmpeg_takes_for_more(tmp_path):
    path = write_clip(tmp_path / "a.mkv", frames=2).rename(tmp_path / "take: 1%.mkv")
    with open_video(path) as reader:
        assert len(list(reader)) == 2


def bad_file(tmp_path, kind):
    path = tmp_path / "bad.mp4"
    if kind == "no such file":
        return path
    if kind == "directory":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "noise":
        path.write_bytes(bytes(range(256)) * 40)
    elif kind == "audio only":
        write_clip(path, frames=25, audio="aac")
        with av.open(str(path)) as source, av.open(str(tmp_path / "b.mp4"), "w") as target:
            track = target.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(audio=0):
                if packet.size:
                    packet.stream = track
                    target.mux(packet)
        return tmp_path / "b.mp4"
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no such file", "no such file"),
        ("directory", "is a directory"),
        ("empty", "not a video that FFmpeg reads"),
        ("noise", "not a video that FFmpeg reads"),
        ("audio only", "no video stream"),
    ],
)
def test_bad_input_is_one_line_that_names_the_file(tmp_path, kind, message):
    path = bad_file(tmp_path, kind)
    with pytest.raises(InputError, match=message) as caught:
        open_video(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_damaged_video_gives_what_can_be_decoded(tmp_path, caplog):
    path = write_clip(tmp_path / "a.mkv", codec="libx264", frames=30, options={"g": "5"})
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = b"\xaa" * 300
    path.write_bytes(data)
    caplog.set_level(logging.WARNING)
    with open_video(path) as reader:
        count = sum(1 for _ in reader)
    assert 10 <= count <= 30


def test_a_cut_off_video_gives_the_frames_before_the_cut(tmp_path):
    path = write_clip(tmp_path / "a.mkv", frames=20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with open_video(path) as reader:
        frames = list(reader)
    assert 8 <= len(frames) <= 16


def test_a_video_of_which_nothing_decodes_is_an_error(tmp_path):
    path = write_clip(tmp_path / "a.mkv", codec="libx264", frames=3)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for packet in packets:
        data = data.replace(packet, b"\xff" * len(packet))
    path.write_bytes(data)
    with pytest.raises(InputError, match="no frame of it can be decoded"):
        open_video(path)


def test_wrong_options_are_usage_errors(tmp_path):
    path = write_clip(tmp_path / "a.mkv", frames=1)
    with pytest.raises(UsageError, match="start is -1"):
        open_video(path, start=-1)
    with pytest.raises(UsageError, match="frames is 0"):
        open_video(path, frames=0)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="finds no CUDA device"):
            open_video(path, device="cuda")


def test_frames_are_counted_without_decoding(tmp_path) -> None:
    """Matroska claims no number of frames; a rate target needs one."""
    path = write_clip(tmp_path / "clip.mkv", width=32, height=24, frames=7, audio="flac")
    with open_video(path) as reader:
        assert reader.info.frame_count is None
    assert count_frames(path) == 7
    with pytest.raises(InputError, match="no such file"):
        count_frames(tmp_path / "missing.mkv")
