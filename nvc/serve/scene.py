"""What a viewer has chosen to receive: layers, bytes, losses; and which units of a file that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nvc.errors import UsageError
from nvc.evaluation.channel import losses
from nvc.serve.layout import Layout

MAX_LOSS = 50  # percent
MAX_BURST = 16
MAX_SEED = 9999
FULL_RATE = 100

#: What becomes of a unit; the page reads these letters.
ARRIVED, UNSENT, LOST, DAMAGED = "a", "u", "l", "d"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One way of receiving a stream; every field is bounded, so a viewer cannot ask for more.

    layers: how many of the coarsest are sent. rate: bytes received, in percent: of a layered stream
    a budget a second, 100 being what its largest GOP needs; else a share of the file, in order.
    loss: percent of units lost; burst: mean units lost in a row, 1 for independent losses; seed: of
    the losses; protect: the coarsest layer always arrives. Raises UsageError with what is allowed.
    """

    layers: int = 1
    rate: int = FULL_RATE
    loss: int = 0
    burst: int = 1
    seed: int = 0
    protect: bool = False

    def __post_init__(self) -> None:
        ranges = {
            "layers": (1, 16),
            "rate": (1, FULL_RATE),
            "loss": (0, MAX_LOSS),
            "burst": (1, MAX_BURST),
            "seed": (0, MAX_SEED),
            "protect": (0, 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}; allowed: {low} to {high}")

    @classmethod
    def parse(cls, query: Mapping[str, str], layout: Layout) -> Scene:
        """The scene that the fields of a query ask for; what is left out is as in the whole file.

        Raises UsageError for what is no number or out of range.
        """
        values: dict[str, int] = {"layers": layout.layers}
        for name in ("layers", "rate", "loss", "burst", "seed", "protect"):
            text = query.get(name)
            if text is None:
                continue
            if not (text.isascii() and text.isdigit() and len(text) <= 4):
                raise UsageError(f"{name} is {text[:20]!r}; allowed: a whole number")
            values[name] = int(text)
        protect = bool(values.pop("protect", 0))
        return cls(**values, protect=protect).settled(layout)

    def settled(self, layout: Layout) -> Scene:
        """The same scene as one value: of two that receive alike the fields are alike."""
        scene = replace(self, layers=min(self.layers, layout.layers))
        if not scene.loss:
            scene = replace(scene, burst=1, seed=0, protect=False)
        return scene

    def states(self, layout: Layout) -> str:
        """What becomes of every packet of the file, a letter each, in the order of the layout."""
        states = [DAMAGED if packet.damaged else ARRIVED for packet in layout.packets]
        for number in _unsent(self, layout):
            states[number] = UNSENT
        channel = losses(self.loss / 100, self.burst if self.burst > 1 else None, self.seed)
        sent = sorted(range(len(states)), key=lambda number: layout.packets[number].place)
        for number, lost in zip(sent, channel, strict=False):
            safe = self.protect and layout.packets[number].layer == 0
            if lost and not safe and states[number] == ARRIVED:
                states[number] = LOST
        return "".join(states)


def _unsent(scene: Scene, layout: Layout) -> list[int]:
    """Packets that the sender leaves out: layers not wanted, bytes over the budget."""
    wanted = [n for n, packet in enumerate(layout.packets) if packet.layer < scene.layers]
    left_out = sorted(set(range(len(layout.packets))) - set(wanted))
    if scene.rate == FULL_RATE:
        return left_out
    if not layout.layered:
        return left_out + _over(wanted, layout, layout.picture_bytes * scene.rate / FULL_RATE)
    budget = layout.peak_rate * scene.rate / FULL_RATE
    gops: dict[int, list[int]] = {}
    for number in wanted:
        gops.setdefault(layout.gop_of(layout.packets[number].start), []).append(number)
    for gop, numbers in gops.items():
        # Coarse to fine, so that what does not arrive in time is detail of what is coded last.
        numbers.sort(key=lambda n: (layout.packets[n].layer, layout.packets[n].place))
        left_out += _over(numbers, layout, budget * layout.gop_seconds(gop))
    return left_out


def _over(numbers: Sequence[int], layout: Layout, budget: float) -> list[int]:
    """Of packets sent in this order, those from the first on that exceeds the budget in bytes."""
    for place, number in enumerate(numbers):
        budget -= layout.packets[number].bytes
        if budget < 0:
            return list(numbers[place:])
    return []
