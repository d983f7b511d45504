"""QP of each frame for a bit rate or a quality, in one pass.

Frames come in coding order; those that cost about alike are a group: 0 intra, 1 P, 2 and more B
frames by depth. The QP is that of the encode, to which each group has its own offset.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from nvc.nn.blocks import QP_COUNT

QPS_PER_HALVING = 9.0  # QPs over which the bits of a frame halve, about
DECIBELS_PER_QP = 0.25  # about; only the speed of convergence hangs on it
# Bits of a frame of each group among those of an intra frame, until one is known.
SHARES = (1.0, 0.25, 0.12, 0.06, 0.03)


class RateControl(Protocol):
    """Asked for a QP before each frame, told afterwards what it cost."""

    def qp(self, group: int) -> int: ...

    def update(self, *, bits: int, group: int, psnr: Callable[[], float]) -> None: ...


class ConstantQp:
    """The same QP throughout."""

    def __init__(self, qp: int) -> None:
        self._qp = qp

    def qp(self, group: int) -> int:
        return self._qp

    def update(self, *, bits: int, group: int, psnr: Callable[[], float]) -> None:
        pass


class BitrateControl:
    """Spends what is left of the budget over a window of frames to come.

    Bits of a frame are modelled as complexity * 2^(-QP / 9), with a complexity for each group of
    frames, following what frames cost. `window`: frames over which a debt is paid back; `groups`:
    of the frames of a GOP in coding order; `frames`: length of the clip where it is known, so that
    the window ends with it.
    """

    def __init__(
        self,
        *,
        bits_per_frame: float,
        pixels: int,
        window: int,
        groups: Sequence[int],
        frames: int | None,
    ) -> None:
        self.bits_per_frame = bits_per_frame
        self.window = window
        self.groups = groups
        self.frames = frames
        # Typical content at QP 32: 0.25 bits a pixel intra.
        scale = 0.25 * pixels * 2 ** (32 / QPS_PER_HALVING)
        self.complexity = [share * scale for share in SHARES]
        self.known = [False] * len(SHARES)
        self.debt = 0.0
        self.done = 0
        self.last: float | None = None

    def qp(self, group: int) -> int:
        window = _window(self.window, self.frames, self.done)
        budget = max(window * self.bits_per_frame - self.debt, 0.05 * window * self.bits_per_frame)
        work = sum(self.complexity[each] for each in _ahead(self.groups, self.done, window))
        wanted = QPS_PER_HALVING * math.log2(max(work, 1.0) / budget)
        if self.last is not None and self.known[group]:
            wanted = min(max(wanted, self.last - 3), self.last + 3)
        self.last = min(max(wanted, 0.0), QP_COUNT - 1.0)
        self.used = round(self.last)
        return self.used

    def update(self, *, bits: int, group: int, psnr: Callable[[], float]) -> None:
        seen = bits * 2 ** (self.used / QPS_PER_HALVING)
        follow = 0.35 if self.known[group] else 1.0
        self.complexity[group] *= (seen / self.complexity[group]) ** follow
        if not any(self.known):
            whole = seen / SHARES[group]
            self.complexity = [share * whole for share in SHARES]
        self.known[group] = True
        self.debt += bits - self.bits_per_frame
        self.done += 1


class PsnrControl:
    """Brings the average PSNR of all frames to a target.

    PSNR of a frame is modelled as a level of its group less DECIBELS_PER_QP a QP; each level
    follows what frames show. `window`, `groups`, `frames`: as of BitrateControl.
    """

    def __init__(
        self, target: float, *, window: int, groups: Sequence[int], frames: int | None
    ) -> None:
        self.target = target
        self.window = window
        self.groups = groups
        self.frames = frames
        self.level = [target + 32 * DECIBELS_PER_QP] * len(SHARES)
        self.known = [False] * len(SHARES)
        self.error = 0.0  # sum over frames of target - reached
        self.done = 0
        self.last = 32.0

    def qp(self, group: int) -> int:
        window = _window(self.window, self.frames, self.done)
        ahead = _ahead(self.groups, self.done, window)
        level = sum(self.level[each] for each in ahead) / window
        wanted = (level - self.target - self.error / window) / DECIBELS_PER_QP
        if self.known[group]:
            wanted = min(max(wanted, self.last - 6), self.last + 6)
        self.last = min(max(wanted, 0.0), QP_COUNT - 1.0)
        self.used = round(self.last)
        return self.used

    def update(self, *, bits: int, group: int, psnr: Callable[[], float]) -> None:
        reached = psnr()
        seen = reached + self.used * DECIBELS_PER_QP
        follow = 0.6 if self.known[group] else 1.0
        self.level[group] += follow * (seen - self.level[group])
        self.known[group] = True
        for other in range(group, len(self.level)):
            if not self.known[other]:
                self.level[other] = seen
        self.error += self.target - reached
        self.done += 1


def _window(window: int, frames: int | None, done: int) -> int:
    """Frames to plan for, no more than there are still."""
    return window if frames is None else max(1, min(window, frames - done))


def _ahead(groups: Sequence[int], done: int, count: int) -> Iterator[int]:
    """Groups of the next frames."""
    return (groups[(done + number) % len(groups)] for number in range(count))
