"""Gated blocks for inference on the CPU: strips of rows that stay in the cache.

Pictures are rows here: (H * W, C), C contiguous, which is the memory of a channels_last tensor. A
block is two matrix products around one kernel that convolves, gates and rounds, over strips of rows
small enough for a shared cache: of a 2160p picture at stride 8 the expanded rows alone would be
33 MB and more. Strips for a core's own cache take longer: each repeats the product of two rows.
Rows are float32 or bfloat16; sums inside the kernel are float32 either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray
from torch import Tensor, nn

from nvc.nn.blocks import GatedBlock

_STRIP_BYTES = 1 << 22  # of the expanded rows of a strip


@intrinsic
def float_of_bits(context, bits):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def bits_of_float(context, value):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@intrinsic
def multiply_add(context, a, b, c):  # type: ignore[no-untyped-def]
    """a * b + c of float32 in kernels, rounded once where the machine can, in just this order."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        single = ir.FloatType()
        kind = ir.FunctionType(single, [single] * 3)
        made = builder.module.declare_intrinsic("llvm.fmuladd", [single], kind)
        return builder.call(made, arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


def load(value: Any) -> Any:
    """In kernels: an element of rows, float32 or the bits of a bfloat16, as float32."""
    raise NotImplementedError("for compiled code only")


def store(out: Any, at: Any, value: Any) -> None:
    """In kernels: out[at] = value in rows of either kind; to nearest, ties to even."""
    raise NotImplementedError("for compiled code only")


@overload(load, inline="always")
def _load(value):  # type: ignore[no-untyped-def]
    if isinstance(value, types.Float):
        return lambda value: value
    return lambda value: float_of_bits(np.uint32(value) << np.uint32(16))


@overload(store, inline="always")
def _store(out, at, value):  # type: ignore[no-untyped-def]
    if isinstance(out.dtype, types.Float):

        def put(out, at, value):  # type: ignore[no-untyped-def]
            out[at] = value

        return put

    def put_bits(out, at, value):  # type: ignore[no-untyped-def]
        bits = bits_of_float(np.float32(value))
        bits += np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        out[at] = np.uint16(bits >> np.uint32(16))

    return put_bits


def as_array(rows: Tensor) -> NDArray[Any]:
    """The same memory for a kernel: bfloat16 as its bits in uint16."""
    return (rows.view(torch.uint16) if rows.dtype == torch.bfloat16 else rows).numpy()


@numba.njit(nogil=True, cache=True, fastmath=True)
def _take_row(expanded, y, first, height, added, ring):  # type: ignore[no-untyped-def]
    """Row y of the expanded picture, with its bias, into its place of the ring; zeros outside."""
    width, channels = expanded.shape[1], expanded.shape[2]
    row = ring[(y + 3) % 3]
    if y < 0 or y >= height:
        row[1 : width + 1] = np.float32(0)
        return
    for x in range(width):
        source, target = expanded[y - first, x], row[x + 1]
        for c in range(channels):
            target[c] = load(source[c]) + added[c]


@numba.njit(nogil=True, cache=True, fastmath=True)
def _convolve_and_gate(expanded, first, height, added, weight, bias, start, ring, out):  # type: ignore[no-untyped-def]
    """Depthwise 3x3 of `expanded` (rows from `first` on, W, 2C), then value * hardsigmoid(gate).

    added (2C,) is the bias of `expanded`, which has none yet inside of the picture's `height`.
    weight (9, 2C); out (rows from `start` on, W, C); ring (3, W + 2, 2C) float32, its sides zero.
    """
    width = expanded.shape[1]
    half = expanded.shape[2] // 2
    _take_row(expanded, start - 1, first, height, added, ring)
    _take_row(expanded, start, first, height, added, ring)
    for y in range(start, start + out.shape[0]):
        _take_row(expanded, y + 1, first, height, added, ring)
        above, here, below = ring[(y + 2) % 3], ring[y % 3], ring[(y + 1) % 3]
        for x in range(width):
            target = out[y - start, x]
            for c in range(half):
                g = c + half
                value = (
                    bias[c]
                    + above[x, c] * weight[0, c]
                    + above[x + 1, c] * weight[1, c]
                    + above[x + 2, c] * weight[2, c]
                    + here[x, c] * weight[3, c]
                    + here[x + 1, c] * weight[4, c]
                    + here[x + 2, c] * weight[5, c]
                    + below[x, c] * weight[6, c]
                    + below[x + 1, c] * weight[7, c]
                    + below[x + 2, c] * weight[8, c]
                )
                gate = (
                    bias[g]
                    + above[x, g] * weight[0, g]
                    + above[x + 1, g] * weight[1, g]
                    + above[x + 2, g] * weight[2, g]
                    + here[x, g] * weight[3, g]
                    + here[x + 1, g] * weight[4, g]
                    + here[x + 2, g] * weight[5, g]
                    + below[x, g] * weight[6, g]
                    + below[x + 1, g] * weight[7, g]
                    + below[x + 2, g] * weight[8, g]
                )
                gate = gate * np.float32(1 / 6) + np.float32(0.5)
                gate = min(max(gate, np.float32(0)), np.float32(1))
                store(target, c, value * gate)


@dataclass(frozen=True, eq=False)
class _Block:
    """Weights of one block."""

    expand: Tensor  # (C, 2C)
    added: NDArray[np.float32]  # (2C,), after it
    weight: NDArray[np.float32]  # (9, 2C), depthwise
    bias: NDArray[np.float32]  # (2C,), after that
    project: Tensor  # (C, C)


class FusedStack:
    """A stack of GatedBlock for inference: (H * W, C) rows of `dtype` -> the same.

    The bias of each projection is added once, at the end; what follows it inside the stack has it
    in its own bias.
    """

    def __init__(self, blocks: nn.Sequential, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.blocks: list[_Block] = []
        offset: Tensor | None = None
        for block in blocks:
            assert isinstance(block, GatedBlock)
            expand, depthwise, project = block.expand, block.depthwise, block.project
            bias = expand.bias if offset is None else expand.bias + expand.weight @ offset
            self.blocks.append(
                _Block(
                    expand=expand.weight.t().to(dtype).contiguous(),
                    added=bias.float().numpy(),
                    weight=depthwise.weight[:, 0].flatten(1).t().float().contiguous().numpy(),
                    bias=depthwise.bias.float().numpy(),
                    project=project.weight.t().to(dtype).contiguous(),
                )
            )
            offset = project.bias if offset is None else offset + project.bias
        self.offset = None if offset is None else offset.to(dtype)

    def __call__(self, rows: Tensor, height: int, width: int) -> Tensor:
        """rows (height * width, C) of `dtype`; not written to."""
        if not self.blocks:
            return rows
        channels = rows.shape[1]
        strip = max(2, _STRIP_BYTES // (2 * channels * rows.element_size() * width))
        strips = [(start, min(start + strip, height)) for start in range(0, height, strip)]
        ring = np.zeros((3, width + 2, 2 * channels), np.float32)
        spare = rows.new_empty(2, min(strip + 2, height) * width, 2 * channels)
        gated = rows.new_empty(min(strip, height) * width, channels)
        out = torch.empty_like(rows)

        def expand(number: int, weight: Tensor) -> tuple[Tensor, int]:
            """A strip with a row around it, expanded; the first of its rows."""
            first, last = max(strips[number][0] - 1, 0), min(strips[number][1] + 1, height)
            into = spare[number % 2, : (last - first) * width]
            return torch.mm(rows[first * width : last * width], weight, out=into), first

        for block in self.blocks:
            # A strip is expanded before the one above it is written, so that all but the first
            # block can work in place.
            upcoming = expand(0, block.expand)
            for number, (start, end) in enumerate(strips):
                expanded, first = upcoming
                if number + 1 < len(strips):
                    upcoming = expand(number + 1, block.expand)
                part = slice(start * width, end * width)
                gate = gated[: (end - start) * width]
                _convolve_and_gate(
                    as_array(expanded).reshape(-1, width, 2 * channels), first, height,
                    block.added, block.weight, block.bias, start, ring,
                    as_array(gate).reshape(-1, width, channels),
                )  # fmt: skip
                torch.addmm(rows[part], gate, block.project, out=out[part])
                if block is self.blocks[-1]:
                    out[part].add_(self.offset)
            rows = out
        return rows
