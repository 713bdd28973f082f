"""The public numbers of optimizers, which are others at each replay: learning rates, and what Adam's averages lack.

PyTorch computes them from a group's learning rate and from how many steps a parameter has taken. A recording knows them
by where they stand in a step, and what is made of them is made anew: the factor of a step of SGD, the last two factors
of one of Adam. All other numbers of such a step are constants of the tape, whose changes `World` notices.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, optim
from typing_extensions import override

from tacit.protocols.followed import Followed, Follower, Ring

__all__ = ["MOST_STEPS", "Number", "Numbers"]

MOST_STEPS = 1 << 23
"""Steps up to which a counter, a float32 of PyTorch's, counts by ones, with room for those of one call."""

Group = dict[str, Any]


class Origin(NamedTuple):
    """How a number follows from what stands in an optimizer."""

    of: Callable[[Group, float], float]
    group: Group
    counter: Tensor | None
    ahead: float
    """Steps from those that have been taken as a call begins to that which the number is for."""

    def now(self) -> float:
        """What it is for a call that begins now, as an operator is given it."""
        return self.of(self.group, 0.0 if self.counter is None else float(self.counter) + self.ahead)


class Number:
    """One that a recording has found."""

    def __init__(self, raw: float, place: str) -> None:
        self.raw = raw
        """As an operator is given it."""
        self.inverse = place == "inverse"
        self.value = self._value(raw)
        self.origins: list[Origin] = []
        """It is the same by all of these, or another recording is due."""
        self.varied = False
        """Whether two recordings by two values of it were the same but for what is made of it, as it is followed."""
        self.uses: list[Followed] = []
        self.used: set[int] = set()
        self.ways: list[tuple[Callable[[float], Hashable], Hashable]] = []
        self.made: list[tuple[Any, Callable[[float], int | None]]] = []
        """Ring elements and tensors that are made of it."""

    @property
    def exact(self) -> bool:
        """Whether only the same number will do: it is used in another way than by a ring element, or may be."""
        return not self.varied or any(id(use) not in self.used for use in self.uses) or not self.uses

    def _value(self, raw: float) -> float:
        return 1 / raw if self.inverse and raw else raw

    def now(self) -> float | None:
        """What it is now, if it goes the same ways."""
        raw, *others = (origin.now() for origin in self.origins)
        if any(other != raw for other in others) or (self.exact and raw != self.raw):
            return None
        self.raw, value = raw, self._value(raw)
        return value if all(way(value) == before for way, before in self.ways) else None


class Numbers(Follower):
    """Those of a recording."""

    def __init__(self, counters: Sequence[Tensor], moving: Callable[[Tensor], Tensor]) -> None:
        self._counters, self._moving = counters, moving
        self._began = [float(t) for t in counters]
        self._found: dict[tuple[int, str, float], Number] = {}
        self._step, self._within = 0, False
        self.taken: list[int] = []
        """How many steps each counter has counted."""

    # --- while it is recorded -----------------------------------------------------------------------------------------

    @override
    def step_begins(self, optimizer: Any) -> None:
        self._step, self._within = self._step + 1, True
        for group in optimizer.param_groups:
            if isinstance(optimizer, optim.SGD):
                if any(p.grad is not None for p in group["params"]):
                    self._announce("alpha", _rate, group)
                continue
            for p in group["params"]:
                state = optimizer.state.get(p)
                if state and p.grad is not None:
                    self._announce("alpha", _step_size, group, state["step"])
                    self._announce("inverse", _correction, group, state["step"])

    def _announce(
        self, place: str, of: Callable[[Group, float], float], group: Group, counter: Tensor | None = None
    ) -> None:
        ahead = 1.0
        if counter is not None:
            began = next((b for t, b in zip(self._counters, self._began, strict=True) if t is counter), None)
            if began is None:
                return  # it has just been made, so this recording comes to nothing
            ahead += float(counter) - began
            raw = of(group, float(counter) + 1)
        else:
            raw = of(group, 0.0)
        number = Number(raw, place)
        found = self._found.setdefault((self._step, place, number.value), number)
        found.origins.append(Origin(of, group, counter, ahead))

    @override
    def step_ends(self) -> None:
        self._within = False

    @override
    def find(self, place: str, value: float) -> Followed | None:
        found = self._found.get((self._step, place, value)) if self._within else None
        if found is None:
            return None
        out = Followed(value)
        out.follower, out.origin = self, found
        found.uses.append(out)
        return out

    @override
    def goes(self, number: Followed, way: Callable[[float], Hashable], before: Hashable) -> None:
        number.origin.ways.append((way, before))

    @override
    def made(self, number: Followed, element: Ring | Tensor, make: Callable[[float], int | None]) -> Any:
        found: Number = number.origin
        found.used.add(id(number))
        out = self._moving(element) if isinstance(element, Tensor) else element
        found.made.append((out, make))
        return out

    def tokens(self, fingerprint: bytes) -> list[bytes | Number]:
        """Of the public operands that an operator enters the transcript with, those that are followed."""
        if not self._within:
            return [fingerprint]
        found = {repr(n.raw).encode(): n for (step, *_), n in self._found.items() if step == self._step}
        return [found.get(token, token) for token in fingerprint.split(b"|")]

    def ended(self) -> None:
        """The recording has ended."""
        self.taken = [round(float(t) - b) for t, b in zip(self._counters, self._began, strict=True)]

    # --- for a tape ---------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Forget the recording."""
        self._moving = None  # type: ignore[assignment]

    @property
    def elements(self) -> list[Any]:
        """Everything that is made of numbers, in one order."""
        return [element for number in self._found.values() for element, _ in number.made]

    @property
    def raws(self) -> list[float]:
        """The numbers themselves."""
        return [number.raw for number in self._found.values()]

    def compare(self, raws: Sequence[float], varied: Sequence[bool]) -> list[bool]:
        """Which of them have varied: since a recording that was the same, by these, or before."""
        found = list(self._found.values())
        for k, number in enumerate(found):
            number.varied = (k < len(raws) and raws[k] != number.raw) or (k < len(varied) and varied[k])
        return [number.varied for number in found]

    def values(self) -> list[int] | None:
        """What is made of them for a call that begins now; None if it is another step than was recorded."""
        out: list[int] = []
        for number in self._found.values():
            value = number.now()
            if value is None:
                return None
            for _, make in number.made:
                element = make(value)
                if element is None:
                    return None
                out.append(element)
        return out

    def count(self) -> None:
        """Count the steps of a replay, as PyTorch does."""
        for counter, steps in zip(self._counters, self.taken, strict=True):
            for _ in range(steps):
                counter.add_(1.0)


def _rate(group: Group, step: float) -> float:
    return -float(group["lr"])


def _step_size(group: Group, step: float) -> float:
    return float(group["lr"] / (1 - group["betas"][0] ** step) * -1)


def _correction(group: Group, step: float) -> float:
    return float((1 - group["betas"][1] ** step) ** 0.5)
