"""Compilation of the kernels with numba."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile on first use, without the GIL, keeping the machine code on disk where possible.

    numba refuses at decoration when it finds no directory it may write its cache to (a read-only
    installation run by a user without a home); the kernel is then compiled once a process.

    The cached code is keyed by the text of the kernel's own file and nothing else, so every
    constant and function that a kernel uses must live in that file.
    """
    try:
        return cast(Function, njit(nogil=True, cache=True)(function))
    except RuntimeError:
        return cast(Function, njit(nogil=True)(function))


def inlined(function: Function) -> Function:
    """Compile into the code of each caller: for the few steps of an inner loop.

    A call counts the references of every array it hands over, which takes longer than a bit of an
    arithmetic coder. Inlined the counts fall away, unless the function holds a loop in a loop.
    """
    return cast(Function, njit(nogil=True, forceinline=True)(function))
