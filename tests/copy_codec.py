"""A codec for tests: stores samples as they are, luma in layer 0 and chroma in layer 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from nvc.bitstream.units import Unit, UnitType
from nvc.errors import StreamError
from nvc.video.frames import Frame, VideoInfo


@dataclass(frozen=True, kw_only=True)
class CopyConfig:
    gop: int = 4
    qp: int = 0
    size: int | None = None


class CopyCodec:
    weights_hash = bytes(8)
    decoded_frames = 0  # by every instance: tells how much a random access decodes

    def __init__(self, config: CopyConfig | None = None, *, device: str = "cpu") -> None:
        self.config = config or CopyConfig()
        self.stats = {"gop": self.config.gop, "size": self.config.size}

    def encode(self, frames: Iterable[Frame], info: VideoInfo, *, progress=None) -> Iterator[Unit]:
        yield Unit(UnitType.CONFIG, b"copy")
        for number, frame in enumerate(frames):
            key = number % self.config.gop == 0
            planes = [plane.cpu().numpy().tobytes() for plane in frame.planes]
            yield Unit(UnitType.FRAME, planes[0], number, 1, 0, key)
            yield Unit(UnitType.FRAME, b"".join(planes[1:]), number, 1, 1)

    def decode(
        self, units: Iterable[Unit], info: VideoInfo, *, device="cpu", layers: int | None = None
    ) -> Iterator[Frame]:
        frames = (unit for unit in units if unit.type == UnitType.FRAME)
        for number, parts in groupby(frames, key=lambda unit: unit.frame_start):
            payloads = {unit.layer: unit.payload for unit in parts}
            if 0 not in payloads:
                raise StreamError(f"frame {number} has no luma")
            CopyCodec.decoded_frames += 1
            yield Frame(self._planes(payloads, info), number)

    def _planes(self, payloads: dict[int, bytes], info: VideoInfo) -> tuple[torch.Tensor, ...]:
        kind = np.uint8 if info.bit_depth == 8 else np.uint16
        shapes = info.plane_shapes()
        sizes = [height * width for height, width in shapes]
        if 1 not in payloads:
            grey = np.full(sum(sizes[1:]), 1 << (info.bit_depth - 1), kind)
            payloads[1] = grey.tobytes()
        data = np.frombuffer(payloads[0] + payloads[1], kind)
        parts = np.split(data, np.cumsum(sizes)[:-1])
        return tuple(
            torch.from_numpy(part.reshape(shape).copy())
            for part, shape in zip(parts, shapes, strict=True)
        )
