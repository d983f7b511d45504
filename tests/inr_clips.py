"""A small moving clip and short fits of it, for the tests of the INR family."""

from fractions import Fraction

import torch

from nvc.inr.codec import InrCodec
from nvc.inr.fit_config import FitConfig
from nvc.inr.methods import fit_defaults
from nvc.video.frames import ColorInfo, Frame, VideoInfo


def make_clip(count=4, height=40, width=60, *, chroma="420", bit_depth=8, step=1.0):
    """Coloured waves that drift from frame to frame, `step` units of time apart."""
    info = VideoInfo(
        width=width,
        height=height,
        chroma=chroma,
        bit_depth=bit_depth,
        frame_rate=Fraction(25),
        time_base=Fraction(1, 25),
        frame_count=count,
        color=ColorInfo(matrix=6),
    )
    frames = []
    for number in range(count):
        planes, time = [], step * number
        for index, (rows, columns) in enumerate(info.plane_shapes()):
            y = torch.arange(rows)[:, None] / rows
            x = torch.arange(columns)[None] / columns
            wave = torch.sin(6 * (x + index * y) + 0.4 * time) * torch.cos(4 * y + 0.2 * time)
            samples = (128 + 70 * wave) * 2 ** (bit_depth - 8)
            planes.append(samples.round().to(torch.int32).to(info.sample_dtype))
        frames.append(Frame(tuple(planes), pts=number))
    return frames, info


def fit_units(frames, info, codec="hnerv", **options):
    """Units and statistics of a short fit in float32."""
    settings = {"epochs": 2, "size_params": 4000, "precision": "float32"} | options
    if "size_bytes" in options or "lmbda" in options:
        settings = {k: v for k, v in settings.items() if k != "size_params" or k in options}
    encoder = InrCodec(FitConfig(**(fit_defaults(codec) | settings)))
    return list(encoder.encode(frames, info)), encoder.stats


def luma_psnr(one, two, peak=255):
    """Mean over frames of the PSNR of the luma planes in dB."""
    error = torch.stack(
        [
            (a.planes[0].to(torch.float32) - b.planes[0].to(torch.float32)).square().mean()
            for a, b in zip(one, two, strict=True)
        ]
    )
    return float(10 * torch.log10(peak**2 / error.clamp(min=1e-3)).mean())
