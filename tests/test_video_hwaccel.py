"""The GPU path where there is a GPU, and the report on every machine."""

import json

import av
import numpy as np
import pytest
import torch
from clips import make_frames, write_clip

from nvc.video import hwaccel
from nvc.video.frames import VideoInfo
from nvc.video.hwaccel import hardware_report
from nvc.video.pixels import split_semi_planar
from nvc.video.reader import open_video

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_the_report_names_versions_decoders_and_devices():
    report = json.loads(json.dumps(hardware_report()))
    assert report["cuda_available"] == torch.cuda.is_available()
    assert set(report["decoders"]) >= {"h264", "hevc", "ffv1"}
    assert set(report["encoders"]) >= {"libx264", "libx265", "libsvtav1", "ffv1"}
    assert report["ffmpeg_libraries"]["libavcodec"].count(".") == 2
    assert report["decode_device"] in ("cpu", "cuda")
    if not report["cuda_available"]:
        assert (report["gpus"], report["decode_device"]) == ([], "cpu")


def test_interleaved_chroma_is_split_and_shifted():
    luma = (torch.arange(16).view(4, 4) << 6).to(torch.uint16)
    both = (torch.arange(8).view(2, 2, 2) + 1016 << 6).to(torch.uint16)
    y, u, v = split_semi_planar(luma, both, False, 6)
    assert y.to(torch.int32).flatten().tolist() == list(range(16))
    assert u.to(torch.int32).tolist() == [[1016, 1018], [1020, 1022]]
    assert v.to(torch.int32).tolist() == [[1017, 1019], [1021, 1023]]


def test_the_cpu_says_that_no_hardware_is_used(tmp_path):
    with open_video(write_clip(tmp_path / "a.mp4", frames=1)) as reader:
        assert reader.hardware is None


def semi_planar_frame(planes, name):
    """Built here: swscale leaves the last chroma column of an odd width in P010 unwritten."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, name)
    shift = 6 if name == "p010le" else 0
    luma, *chroma = (plane.numpy() << shift for plane in planes)
    # two (h', w') -> (h', 2 w'), taking turns
    both = np.stack(chroma, -1).reshape(chroma[0].shape[0], -1)
    for target, samples in zip(frame.planes, (luma, both), strict=True):
        lines = np.frombuffer(target, samples.dtype).reshape(samples.shape[0], -1)
        lines[:, : samples.shape[1]] = samples
    return frame


@pytest.mark.parametrize(("name", "depth"), [("nv12", 8), ("p010le", 10)])
@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_the_dlpack_path_takes_the_same_samples(monkeypatch, name, depth, size):
    """The code of the GPU path over frames in memory: PyAV's DLPack planes, split and shifted."""
    monkeypatch.setattr(hwaccel, "gpu_format", lambda frame: frame.format.name)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    info = VideoInfo(width=size[0], height=size[1], bit_depth=depth)
    planes = make_frames(info, 1)[0].planes
    frame = semi_planar_frame(planes, name)
    got = hwaccel.gpu_planes(frame, torch.device("cpu"))
    for a, b in zip(got, planes, strict=True):
        assert torch.equal(a, b)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_ffmpeg_without_a_gpu_falls_back_to_the_cpu(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    assert hwaccel.cuda_hwaccel(torch.device("cuda:0")) is None
    assert "decoding on the CPU" in caplog.text


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    ("codec", "pixel_format", "size"),
    [
        ("libx264", "yuv420p", (256, 160)),
        ("libx265", "yuv420p10le", (256, 160)),
        ("libx264", "yuv444p", (256, 160)),
        ("ffv1", "yuv420p", (255, 161)),
    ],
)
def test_the_gpu_decodes_the_same_samples(tmp_path, codec, pixel_format, size):
    options = {"crf": "20"} if codec != "ffv1" else {}
    path = write_clip(
        tmp_path / "a.mkv",
        frames=12,
        codec=codec,
        pixel_format=pixel_format,
        width=size[0],
        height=size[1],
        options=options,
    )
    with open_video(path) as reader:
        expected = list(reader)
    with open_video(path, device="cuda") as reader:
        assert reader.hardware is not None or codec == "ffv1" or pixel_format == "yuv444p"
        got = list(reader)
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.pts == b.pts
        for x, y in zip(a.planes, b.planes, strict=True):
            assert x.device.type == "cuda"
            assert torch.equal(x.cpu(), y)
