"""QP of each frame for a bit rate or a quality, in one pass and with no look-ahead."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from nvc.nn.blocks import QP_COUNT

QPS_PER_HALVING = 9.0  # QPs over which the bits of a frame halve, about
DECIBELS_PER_QP = 0.25  # about; only the speed of convergence hangs on it


class RateControl(Protocol):
    """Asked for a QP before each frame, told afterwards what it cost."""

    def qp(self, *, intra: bool) -> int: ...

    def update(self, *, bits: int, intra: bool, psnr: Callable[[], float]) -> None: ...


class ConstantQp:
    """The same QP throughout."""

    def __init__(self, qp: int) -> None:
        self._qp = qp

    def qp(self, *, intra: bool) -> int:
        return self._qp

    def update(self, *, bits: int, intra: bool, psnr: Callable[[], float]) -> None:
        pass


class BitrateControl:
    """Spends what is left of the budget over a window of frames to come.

    Bits of a frame are modelled as complexity * 2^(-QP / 9), with a complexity for intra and one
    for inter frames, each following what frames cost. `window`: frames over which a debt is paid
    back; `frames`: length of the clip where it is known, so that the window ends with it.
    """

    def __init__(
        self, *, bits_per_frame: float, pixels: int, window: int, gop: int, frames: int | None
    ) -> None:
        self.bits_per_frame = bits_per_frame
        self.window = window
        self.gop = gop
        self.frames = frames
        # Typical content at QP 32: 0.25 bits a pixel intra, 0.06 inter.
        scale = pixels * 2 ** (32 / QPS_PER_HALVING)
        self.complexity = {True: 0.25 * scale, False: 0.06 * scale}
        self.known = {True: False, False: False}
        self.debt = 0.0
        self.done = 0
        self.last: float | None = None

    def qp(self, *, intra: bool) -> int:
        window = self.window
        if self.frames is not None:
            window = max(1, min(window, self.frames - self.done))
        budget = max(window * self.bits_per_frame - self.debt, 0.05 * window * self.bits_per_frame)
        intras = sum((self.done + ahead) % self.gop == 0 for ahead in range(window))
        work = intras * self.complexity[True] + (window - intras) * self.complexity[False]
        wanted = QPS_PER_HALVING * math.log2(max(work, 1.0) / budget)
        if self.last is not None and self.known[intra]:
            wanted = min(max(wanted, self.last - 3), self.last + 3)
        self.last = min(max(wanted, 0.0), QP_COUNT - 1.0)
        self.used = round(self.last)
        return self.used

    def update(self, *, bits: int, intra: bool, psnr: Callable[[], float]) -> None:
        seen = bits * 2 ** (self.used / QPS_PER_HALVING)
        follow = 0.35 if self.known[intra] else 1.0
        self.complexity[intra] *= (seen / self.complexity[intra]) ** follow
        if not self.known[intra] and intra and not self.known[False]:
            self.complexity[False] = 0.25 * seen
        self.known[intra] = True
        self.debt += bits - self.bits_per_frame
        self.done += 1


class PsnrControl:
    """Holds the average PSNR of the frames so far at a target."""

    def __init__(self, target: float) -> None:
        self.target = target
        self.level = 32.0
        self.error = 0.0  # sum over frames of target - reached

    def qp(self, *, intra: bool) -> int:
        self.used = round(min(max(self.level, 0.0), QP_COUNT - 1.0))
        return self.used

    def update(self, *, bits: int, intra: bool, psnr: Callable[[], float]) -> None:
        missing = self.target - psnr()
        self.error += missing
        step = 0.5 * missing + 0.1 * self.error
        level = self.used - step / DECIBELS_PER_QP
        self.level = min(max(level, 0.0), QP_COUNT - 1.0)
