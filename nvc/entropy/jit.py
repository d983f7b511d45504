"""Compilation of the kernels with numba."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile on first use, without the GIL, keeping the machine code on disk where possible.

    numba refuses at decoration when it finds no directory it may write its cache to (a read-only
    installation run by a user without a home); the kernel is then compiled once a process.

    The cached code is that of the kernel's own file as it is on disk: an edit of another file whose
    constants or functions are compiled in goes unnoticed. So these live in that file, or the file
    holds a digest of those it takes them from, MADE_WITH, which must be set anew when one of them
    is edited (tests/test_kernel_cache.py compares).
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
