"""The synthesis of one frame as one graph: what is left for a player after entropy decoding.

The boundary is the symbols. Before it is what must be exact, integers alone: the table indices, the
rANS payloads and the motion field. Behind it, here: quantiser steps, means, motion compensation and
the networks of all scales, whose rounding changes the picture a little and nothing else.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nvc.nn.planes import unpack_planes
from nvc.predictive.motion import VECTOR_BLOCK
from nvc.predictive.network import Memory, PredictiveNetwork
from nvc.predictive.scales import checkerboard


@dataclass(frozen=True)
class Port:
    """A tensor that goes in or comes out: (1, channels, height / stride, width / stride)."""

    name: str
    channels: int
    stride: int


class SynthesisGraph(nn.Module):
    """Symbols, vectors and what the frame before left -> the frame, and what it leaves.

    forward(qp, past_qp, inter, *tensors): qp, past_qp (1,) int64, of this frame and of the one
    before; inter (1,) int64, 0 for an intra frame, for which vectors and what is left may hold
    anything finite. The tensors, float32, are those of `inputs`; it returns those of `outputs`.
    Vectors are x, y in quarter samples, planes of samples in [0, 1]. Batch 1.
    """

    def __init__(self, network: PredictiveNetwork) -> None:
        super().__init__()
        self.network = network
        config = network.config
        self.symbols = [
            Port(f"symbols{number}", level.latent, level.stride)
            for number, level in enumerate(config.levels)
        ]
        self.state = [
            Port(f"{plane}{number}", 1, level.shrink * (1 if plane == "y" else 2))
            for number, level in enumerate(config.levels)
            for plane in "yuv"
        ]
        if config.recurrent:
            self.state.append(Port("features", config.levels[-1].fine_width, VECTOR_BLOCK))

    @property
    def inputs(self) -> list[Port]:
        """Symbols of every scale, vectors, and what the frame before left."""
        past = [Port(f"past_{port.name}", port.channels, port.stride) for port in self.state]
        return [*self.symbols, Port("vectors", 2, VECTOR_BLOCK), *past]

    @property
    def outputs(self) -> list[Port]:
        """Planes of every scale, the finest the picture to show, and features."""
        return self.state

    def forward(
        self, qp: Tensor, past_qp: Tensor, inter: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        count = len(self.symbols)
        symbols, vectors, past = tensors[:count], tensors[count], tensors[count + 1 :]
        memory = Memory(
            pictures=[past[3 * number : 3 * number + 3] for number in range(count)],
            features=past[3 * count] if self.network.config.recurrent else None,
            qp=past_qp,
        )
        past_qp = torch.where(inter > 0, past_qp, qp)
        goes_on = inter.float()[:, None, None, None]
        planes: tuple[Tensor, ...] | None = None
        features: Tensor | None = None
        left: list[Tensor] = []
        for number, level in enumerate(self.network.levels):
            size = past[3 * number].shape[-2:]
            base = self.network.base(number, planes, 1, (size[0] // 8, size[1] // 8))
            reference, before = self.network.reference(number, base, memory, vectors, features)
            given = level.predict(
                torch.where(goes_on > 0, reference, base),
                base,
                features,
                qp,
                inter,
                past_qp=past_qp,
                past=None if before is None else before * goes_on,
            )
            residual = self._residual(number, symbols[number], qp, inter)
            x_hat, features, fine = level.synthesise(given, residual, qp, inter)
            planes = tuple(plane.clamp(0, 1) for plane in unpack_planes(x_hat))
            left += planes
        return (*left, fine) if self.network.config.recurrent else tuple(left)

    def _residual(self, number: int, symbols: Tensor, qp: Tensor, inter: Tensor) -> Tensor:
        """Decoded residual of a scale, both halves of the checkerboard."""
        level = self.network.levels[number]
        step = level.step(qp, inter)
        mask = checkerboard(*symbols.shape[1:], symbols.device)
        return level.second_mean(symbols * mask * step, mask) + symbols * step


def example(graph: SynthesisGraph, height: int, width: int, *, seed: int = 0) -> tuple[Tensor, ...]:
    """Arguments of the graph for a picture of this size, a multiple of the padding; random."""
    source = torch.Generator().manual_seed(seed)
    tensors = []
    for port in graph.inputs:
        shape = (1, port.channels, height // port.stride, width // port.stride)
        value = torch.rand(shape, generator=source)
        if port.name.startswith("symbols"):
            value = (value * 5 - 2.5).round()
        elif port.name == "vectors":
            value = (value * 64 - 32).round()
        tensors.append(value)
    return (torch.tensor([32]), torch.tensor([24]), torch.tensor([1]), *tensors)


def onnx_bytes(graph: SynthesisGraph, size: tuple[int, int] | None) -> bytes:
    """The graph as an ONNX model (opset 20) with its weights inside.

    size: height and width of the one picture size it takes, multiples of the padding; None: any
    such size. Needs onnx and onnxscript: raises ImportError without them.
    """
    padding = graph.network.config.padding
    with _quiet():
        program = torch.onnx.export(
            graph.eval(),
            # Traced at sides that tell rows from columns, and neither from 1.
            example(graph, *(size or (2 * padding, 3 * padding))),
            input_names=["qp", "past_qp", "inter", *(port.name for port in graph.inputs)],
            output_names=[port.name for port in graph.outputs],
            dynamic_shapes=None if size else _dynamic(graph),
            opset_version=20,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # it is None for the older exporter alone
    program.model.metadata_props["padding"] = str(padding)
    return program.model_proto.SerializeToString()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself: deprecations, packages it could use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _dynamic(graph: SynthesisGraph) -> tuple[object, ...]:
    """Shapes by the number of cells of the padding, down and across."""
    padding = graph.network.config.padding
    down, across = torch.export.Dim("rows", max=1024), torch.export.Dim("columns", max=1024)

    def sides(ports: Sequence[Port]) -> tuple[dict[int, object], ...]:
        return tuple(
            {2: padding // port.stride * down, 3: padding // port.stride * across} for port in ports
        )

    return (None, None, None, sides(graph.inputs))
