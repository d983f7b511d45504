"""The synthesis of one frame as one graph: what is left for a player after entropy decoding.

The boundary is the symbols. Before it is what must be exact, integers alone: the table indices and
the adaptive bits of symbols and motion. Behind it, here: quantiser steps, means, motion
compensation and the networks of all scales, whose rounding changes the picture a little and nothing
else.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nvc.predictive.filter_tuning import STEP
from nvc.predictive.loop_filter import WAYS
from nvc.predictive.motion import VECTOR_BLOCK
from nvc.predictive.network import Memory, PredictiveNetwork, Second, frame_form
from nvc.predictive.scales import KIND_BI, KIND_INTER, KIND_INTRA, checkerboard
from nvc.predictive.shares import SQUARE


@dataclass(frozen=True)
class Port:
    """A tensor that goes in or comes out.

    (1, channels, height / stride, width / stride); without a stride (1, channels).
    """

    name: str
    channels: int
    stride: int | None

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """Of the tensor for a picture of this size."""
        if self.stride is None:
            return 1, self.channels
        return 1, self.channels, height // self.stride, width // self.stride


# Kinds of frames and the references of each.
GRAPHS = {
    "intra": (KIND_INTRA, ()),
    "inter": (KIND_INTER, ("past",)),
    "inter2": (KIND_INTER, ("past", "older")),
    "bi": (KIND_BI, ("past", "next")),
}


class SynthesisGraph(nn.Module):
    """Symbols, vectors and what the references left -> the frame, and what it leaves.

    name: of GRAPHS. forward(*numbers, *tensors): numbers, (1,) int64, are the QPs of this frame and
    of each reference but the older one. The tensors, float32, are those of `inputs`, and it returns
    those of `outputs`. Vectors are x, y in quarter samples, planes of samples in [0, 1]; share is
    the part of the second reference in every square, 0, 1/2 or 1; tuning, of networks with a loop
    filter, how far its tables are moved along each way, those of Y, U and V. Batch 1.
    """

    def __init__(self, network: PredictiveNetwork, name: str) -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.kind, self.references = GRAPHS[name]
        config = network.config
        told = self.references if self.kind == KIND_BI else self.references[:1]
        self.numbers = ["qp", *(f"{reference}_qp" for reference in told)]
        self.symbols = [
            Port(f"symbols{number}", level.latent, level.stride)
            for number, level in enumerate(config.levels)
        ]
        self.outputs = [
            Port(f"{plane}{number}", 1, level.shrink * (1 if plane == "y" else 2))
            for number, level in enumerate(config.levels)
            for plane in "yuv"
        ]
        self.inputs = list(self.symbols)
        for reference in self.references:
            self.inputs.append(Port(f"{reference}_vectors", 2, VECTOR_BLOCK))
            self.inputs += [
                Port(f"{reference}_{port.name}", port.channels, port.stride)
                for port in self.outputs
            ]
        if len(self.references) == 2:
            self.inputs.append(Port("share", 1, SQUARE))
        if network.filter is not None:
            self.inputs.append(Port("tuning", sum(WAYS), None))

    def forward(self, qp: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        count, given = len(self.symbols), len(self.references)
        numbers = len(self.numbers) - 1
        qps = [*tensors[:numbers], None, None][:given]
        tensors = tensors[numbers:]
        moves: tuple[Tensor, ...] | None = None
        if self.network.filter is not None:
            moves = tensors[-1][0].split(WAYS)
            tensors = tensors[:-1]
        symbols, rest = tensors[:count], tensors[count:]
        size = len(self.outputs) + 1
        memories = [
            Memory(
                pictures=[
                    rest[at + 1 + 3 * number : at + 4 + 3 * number] for number in range(count)
                ],
                # Of the scale path, which the graph does without.
                codes=[torch.zeros_like(part) for part in symbols],
                averages=[torch.zeros_like(part) for part in symbols],
                qp=past_qp,
            )
            for at, past_qp in zip(range(0, size * given, size), qps, strict=True)
        ]
        finest, stride = symbols[-1], self.network.config.levels[-1].stride
        _, left = self.network.run(
            qp,
            torch.full_like(qp, self.kind),
            (finest.shape[-2] * stride, finest.shape[-1] * stride),
            lambda number, given, history: (self._residual(number, symbols[number], qp),) * 2,
            memory=memories[0] if given else None,
            vectors=rest[0] if given else None,
            second=Second(memories[1], rest[size], rest[-1], told=self.kind == KIND_BI)
            if given > 1
            else None,
            tuner=lambda made, plain: moves,
        )
        return tuple(plane for picture in left.pictures for plane in picture)

    def _residual(self, number: int, symbols: Tensor, qp: Tensor) -> Tensor:
        """Decoded residual of a scale, both halves of the checkerboard."""
        level = self.network.bank(self.kind == KIND_INTRA)[number]
        step = level.step(qp, frame_form(torch.full_like(qp, self.kind)))
        mask = checkerboard(*symbols.shape[1:], symbols.device)
        return level.second_mean(symbols * mask * step, mask) + symbols * step


def example(graph: SynthesisGraph, height: int, width: int, *, seed: int = 0) -> tuple[Tensor, ...]:
    """Arguments of the graph for a picture of this size, a multiple of the padding; random."""
    source = torch.Generator().manual_seed(seed)
    tensors = []
    for port in graph.inputs:
        value = torch.rand(port.shape(height, width), generator=source)
        if port.name.startswith("symbols"):
            value = (value * 5 - 2.5).round()
        elif port.name.endswith("vectors"):
            value = (value * 64 - 32).round()
        elif port.name == "share":
            value = (value * 2).round() / 2
        elif port.name == "tuning":
            value = (value * 16 - 8).round() * STEP
        tensors.append(value)
    numbers = [torch.tensor([32 - 8 * number]) for number in range(len(graph.numbers))]
    return (*numbers, *tensors)


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
            input_names=[*graph.numbers, *(port.name for port in graph.inputs)],
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
    sides = tuple(
        port.stride and {2: padding // port.stride * down, 3: padding // port.stride * across}
        for port in graph.inputs
    )
    # Of forward's two arguments, qp and all the others.
    return None, (*(None for _ in graph.numbers[1:]), *sides)
