"""What a network's output is compared with and becomes: RGB, or packed planes of 4:2:0."""

from __future__ import annotations

import torch
from torch.nn import functional

from nvc.errors import InputError
from nvc.video.color import (
    LUMA_WEIGHTS,
    effective_matrix,
    quantise,
    rgb_to_yuv,
    sample_spans,
    yuv_to_rgb,
)
from nvc.video.frames import VideoInfo


class PictureSpace:
    """The samples a head writes for a video, and errors in them as errors of RGB.

    "rgb" heads write (B, 3, H, W) in [0, 1]. The "yuv420" head writes (B, 6, H / 2, W / 2): four
    luma samples of a 2x2 block row by row, Cb, Cr, as shares of the largest sample value. Their
    squared error is weighted to be that of the RGB they stand for, where one chroma sample is
    shown in four pixels.
    """

    def __init__(self, head: str, info: VideoInfo) -> None:
        self.info = info
        self.packed = head == "yuv420"
        self.peak = float(2**info.bit_depth - 1)
        self._matrix = _to_rgb(info) if self.packed else torch.eye(3)
        self._gram = _block_gram(self._matrix)

    @property
    def bytes(self) -> int:
        """Bytes of a frame's samples in float32: six of four pixels where packed."""
        samples = self.info.height * self.info.width
        return 6 * samples if self.packed else 12 * samples

    def target(self, planes: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """What the head should write: float32, of the video's size, from planes (B, h, w)."""
        if not self.packed:
            return yuv_to_rgb(planes, self.info)
        luma = planes[0].to(torch.float32)
        luma = _even(luma[:, None])
        # (B, 1, 2 h, 2 w) -> (B, 4, h, w)
        parts = [functional.pixel_unshuffle(luma, 2)]
        if len(planes) == 1:
            middle = torch.full_like(parts[0][:, :1], float(2 ** (self.info.bit_depth - 1)))
            parts += [middle, middle]
        else:
            parts += [plane[:, None].to(torch.float32) for plane in planes[1:]]
        return torch.cat(parts, dim=1) / self.peak

    def cut(self, output: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The padding cut off, as it costs nothing and teaches nothing."""
        return output[..., : like.shape[-2], : like.shape[-1]]

    def weight(self, kept: torch.Tensor) -> torch.Tensor:
        """(B, 1, H, W) of 0 and 1 in the head's own samples: (B, 1, h, w); a block counts when all
        of its luma does."""
        if not self.packed:
            return kept
        return -functional.max_pool2d(-_even(kept), 2)

    def squared_error(
        self, output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B,) mean squared error of RGB in [0, 1] a frame; weight: 0 leaves a place out."""
        error = self.cut(output, target) - target
        places: torch.Tensor | float
        if weight is not None:
            error = error * weight
            places = weight.sum(dim=(1, 2, 3)).clamp(min=1)
        else:
            places = float(error.shape[-2] * error.shape[-1])
        if not self.packed:
            return error.square().mean(dim=1).sum(dim=(1, 2)) / places
        # (B, 6, h, w) -> (B, h * w, 6): no copy where it is channels_last. The sum over places of
        # e' G e is that of the elements of G times those of (B, 6, 6) e e', so no map is made.
        flat = error.permute(0, 2, 3, 1).flatten(1, 2)
        moments = flat.transpose(1, 2) @ flat
        if self._gram.device != moments.device:
            self._gram = self._gram.to(moments.device)  # once: a copy would wait in each step
        return (moments * self._gram).sum(dim=(1, 2)) / places

    def rgb(self, samples: torch.Tensor) -> torch.Tensor:
        """Samples of the head, cut to the video, as RGB (B, 3, H, W) for losses that look at
        neighbourhoods; chroma repeated."""
        if not self.packed:
            return samples
        luma = functional.pixel_shuffle(samples[:, :4], 2)
        chroma = samples[:, 4:].repeat_interleave(2, 2).repeat_interleave(2, 3)
        matrix = self._matrix.to(samples.device)
        luma_offset, _, centre, _ = sample_spans(self.info.color, self.info.bit_depth)
        shift = samples.new_tensor([luma_offset, centre, centre])[:, None, None] / self.peak
        rgb = torch.einsum("rc,bchw->brhw", matrix, torch.cat([luma, chroma], dim=1) - shift)
        return rgb[..., : self.info.height, : self.info.width]

    def planes(self, output: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A network's output (B, C, h, w), padded, as the video's integer planes (B, h, w)."""
        height, width = self.info.height, self.info.width
        if not self.packed:
            return rgb_to_yuv(output[..., :height, :width], self.info)
        samples = output * self.peak
        luma = functional.pixel_shuffle(samples[:, :4], 2)[:, 0, :height, :width]
        planes = [luma]
        if self.info.chroma != "400":
            rows, columns = -(-height // 2), -(-width // 2)
            planes += samples[:, 4:, :rows, :columns].unbind(1)
        return tuple(quantise(plane.contiguous(), self.info.bit_depth) for plane in planes)


def _even(x: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) with the last row and column repeated where their number is odd."""
    down, across = x.shape[-2] % 2, x.shape[-1] % 2
    return functional.pad(x, (0, across, 0, down), mode="replicate") if down or across else x


def _block_gram(matrix: torch.Tensor) -> torch.Tensor:
    """(6, 6) G: e' G e is the mean squared error of RGB over the four pixels and three channels of
    a 2x2 block, whose errors e are of four luma samples, Cb and Cr."""
    # (3, 3) M' M, of one pixel's Y, Cb, Cr; each pixel has its own luma and the common chroma.
    gram = matrix.T @ matrix / 12
    picks = torch.zeros(4, 3, 6)
    for pixel in range(4):
        picks[pixel, 0, pixel] = picks[pixel, 1, 4] = picks[pixel, 2, 5] = 1.0
    return torch.einsum("pai,ab,pbj->ij", picks, gram, picks)


def _to_rgb(info: VideoInfo) -> torch.Tensor:
    """(3, 3): from Y, Cb, Cr as shares of the largest sample value, less their offsets, to RGB.

    Raises InputError for planes that are no luma and chroma.
    """
    _, luma_span, _, chroma_span = sample_spans(info.color, info.bit_depth)
    peak = 2**info.bit_depth - 1
    code = effective_matrix(info.color, info.height)
    if code not in LUMA_WEIGHTS:
        allowed = ", ".join(map(str, LUMA_WEIGHTS))
        raise InputError(f"colour matrix {code} has no luma to write; allowed: {allowed}")
    kr, kb = LUMA_WEIGHTS[code]
    kg = 1 - kr - kb
    red, blue = 2 * (1 - kr), 2 * (1 - kb)
    matrix = torch.tensor([[1, 0, red], [1, -kb / kg * blue, -kr / kg * red], [1, blue, 0]])
    return matrix * torch.tensor([peak / luma_span, peak / chroma_span, peak / chroma_span])
