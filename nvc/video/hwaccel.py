"""Decoding on an NVIDIA GPU with frames that stay there, and a report of what this machine has."""

from __future__ import annotations

import logging
from typing import Any

import av
import torch
from av.codec.hwaccel import HWAccel, hwdevices_available

from nvc.errors import InputError
from nvc.video.pixels import frame_planes, pixel_layout, split_semi_planar

log = logging.getLogger("nvc.video")

# What is decoded on the GPU: PyAV hands these over by DLPack. P016 it would too, but NVDEC puts
# 12-bit samples into it without saying so.
GPU_FORMATS = ("nv12", "p010le")
REPORTED_DECODERS = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg2video", "mjpeg", "ffv1")
REPORTED_ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "h264_nvenc")


def cuda_hwaccel(device: torch.device) -> HWAccel | None:
    """Settings for av.open that decode on ``device`` and leave the frames there.

    Streams the GPU cannot decode fall back to the CPU; ``decoded_on_gpu`` tells which happened.
    None, with a warning, where FFmpeg cannot use the GPU at all (a driver without NVDEC).
    """
    torch.cuda.init()  # FFmpeg joins the primary context that torch made
    index = device.index if device.index is not None else torch.cuda.current_device()
    settings = HWAccel(
        device_type="cuda",
        device=str(index),
        allow_software_fallback=True,
        is_hw_owned=True,
    )
    try:
        settings.create(av.Codec("h264", "r"))
    except (av.error.FFmpegError, NotImplementedError) as error:
        log.warning("FFmpeg cannot decode on the GPU (%s); decoding on the CPU", error)
        return None
    return settings


def decoded_on_gpu(frame: av.VideoFrame) -> bool:
    """Whether ``frame`` lies in GPU memory."""
    return frame.format.name == "cuda"


def gpu_format(frame: av.VideoFrame) -> str:
    """The name of the pixel format that a GPU frame holds."""
    inner = frame.sw_format
    if inner is None:
        raise InputError("the GPU decoder does not say which pixel format it wrote")
    return inner.name


def gpu_planes(frame: av.VideoFrame, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Planes of a CUDA frame on ``device``.

    NV12 and P010 of even size come by DLPack without leaving the GPU and are copied there, since
    the decoder uses its surfaces again; anything else is downloaded first.
    """
    name = gpu_format(frame)
    layout = pixel_layout(name)
    even = frame.width % 2 == 0 and frame.height % 2 == 0
    if name not in GPU_FORMATS or not even or layout.semi_planar is None:
        held = frame.reformat(format=name)
        return tuple(plane.to(device) for plane in frame_planes(held, layout))
    # The decoder runs on its own stream and DLPack export cannot wait for it.
    torch.cuda.synchronize(device)
    # Capsules rather than the planes: torch would ask these to wait for its stream, which PyAV
    # refuses.
    luma = torch.from_dlpack(frame.planes[0].__dlpack__())
    both = torch.from_dlpack(frame.planes[1].__dlpack__())
    planes = split_semi_planar(luma, both, *layout.semi_planar)
    return tuple(plane.contiguous() if plane is not luma else plane.clone() for plane in planes)


def _cuda_decoders() -> list[str]:
    """Names of the codecs whose decoder in this FFmpeg can use CUDA."""
    found = []
    for name in REPORTED_DECODERS:
        if name == "av1":  # PyAV opens AV1 files with libdav1d, which is CPU only
            continue
        try:
            configs = av.Codec(name, "r").hardware_configs
        except ValueError:  # PyAV's UnknownCodecError: not in this build
            continue
        if any(config.device_type.name == "cuda" and config.is_supported for config in configs):
            found.append(name)
    return found


def _present(names: tuple[str, ...], mode: str) -> list[str]:
    """Those of ``names`` that this FFmpeg holds."""
    return [name for name in names if _has_codec(name, mode)]


def _has_codec(name: str, mode: str) -> bool:
    try:
        av.Codec(name, mode)
    except ValueError:
        return False
    return True


def hardware_report() -> dict[str, Any]:
    """What ``nvc info --hw`` shows: versions, devices, and which decoders can use the GPU.

    Plain values only, ready for JSON. ``decode_device`` is what ``device="auto"`` would use.
    """
    cuda = torch.cuda.is_available()
    built_for_cuda = "cuda" in hwdevices_available()
    return {
        "torch": torch.__version__,
        "pyav": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
        "ffmpeg_libraries": {
            name: ".".join(str(part) for part in version)
            for name, version in av.library_versions.items()
        },
        "hardware_device_types": list(hwdevices_available()),
        "cuda_available": cuda,
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        if cuda
        else [],
        "cuda_decoders": _cuda_decoders() if built_for_cuda else [],
        "decoders": _present(REPORTED_DECODERS, "r"),
        "encoders": _present(REPORTED_ENCODERS, "w"),
        "decode_device": "cuda" if cuda and built_for_cuda else "cpu",
        "torch_threads": torch.get_num_threads(),
    }
