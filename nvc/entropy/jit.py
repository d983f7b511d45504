"""Compilation of the kernels with numba."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile on first use, without the GIL, keeping the machine code on disk where possible.

    numba refuses at decoration when it finds no directory it may write its cache to (a read-only
    installation run by a user without a home); the kernel is then compiled once a process.
    """
    try:
        return cast(Function, njit(nogil=True, cache=True)(function))
    except RuntimeError:
        return cast(Function, njit(nogil=True)(function))
