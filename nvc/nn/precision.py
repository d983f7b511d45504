"""What networks compute in where they need not be exact."""

from __future__ import annotations

import torch

from nvc.errors import UsageError

PRECISIONS = ("auto", "float32", "bfloat16")


def has_matrix_units() -> bool:
    """Whether the CPU has matrix units (AMX) for bfloat16, which make it worth while there."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return bool(supported())


def multiplies_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 faster than float32: by matrix units, or AVX-512's dot
    products, with which a training step of the INR family takes 0.6 of the time and decoding dhvc
    0.65 (docs/speed.md)."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return has_matrix_units() or bool(supported())


def network_dtype(precision: str) -> torch.dtype:
    """What a network trained in bfloat16 computes in: "auto" is that on a CPU with units for it,
    else float32.

    Raises UsageError for what is not in PRECISIONS.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} is not known; allowed: {', '.join(PRECISIONS)}")
    if precision == "auto":
        return torch.bfloat16 if multiplies_bfloat16() else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
