"""What a session that checks itself says, and what it has measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tacit.ring.fixed_point import VALUE_BITS
from tacit.watch.place import Place
from tacit.watch.tolerance import documented

__all__ = ["Deviation", "Where", "advice", "described"]


@dataclass(frozen=True, slots=True)
class Where:
    """An operator at its place in the program."""

    func: Any
    place: Place
    line: str

    def __str__(self) -> str:
        module = ".".join(filter(None, (self.place.root, self.place.module)))
        inside = f" in {module}" if module else ""
        phase = "" if self.place.phase == "forward" else f", {self.place.phase}"
        return f"{self.func}{inside} ({self.line}{phase})"


@dataclass(slots=True)
class Deviation:
    """The largest deviation of one operator in one module from PyTorch's result."""

    place: Place
    operator: str
    calls: int = 0
    largest: float = 0.0
    """Of an element, from PyTorch's on the same operands."""
    allowed: float = 0.0
    """The tolerance at that element."""
    size: float = 0.0
    """The largest element of that result."""


def ranges(operands: Sequence[tuple[str, Tensor]]) -> str:
    """The range of each operand, by its argument's name."""
    parts = []
    for name, x in operands:
        finite = x.double()[x.double().isfinite()]
        span = f"{finite.min():.6g} … {finite.max():.6g}" if finite.numel() else "nothing finite"
        shape = "×".join(map(str, x.shape)) or "a scalar"
        parts.append(f"{name} ({shape}) {span}")
    return "; ".join(parts)


def described(where: Where, operands: Sequence[tuple[str, Tensor]], found: str, todo: str) -> str:
    """The whole message."""
    facts = documented(where.func)
    claim = f"within {facts.claim.error:.2g} of max(1, largest result)"
    if facts.claim.between is not None:
        claim += f", tested on {facts.claim.between}"
    lines = [f"{where}: {found}"]
    if operands:
        lines.append(f"operands: {ranges(operands)}")
    lines.append(f"documented: {claim}" + (f"; {facts.domain}" if facts.domain else ""))
    lines.append(f"what to do: {todo}")
    return "\n  ".join(lines)


def advice(want: Tensor, bad: Tensor, operands: Sequence[tuple[str, Tensor]], frac_bits: int) -> str:
    """What may help, by what went wrong."""
    largest = float(want[bad].abs().max()) if want.dtype.is_floating_point else 0.0
    inputs = [x.abs()[x.isfinite()] for _, x in operands if x.dtype.is_floating_point and x.numel()]
    top = max((float(x.max()) for x in inputs if x.numel()), default=0.0)
    if not want.dtype.is_floating_point:
        return "the result is exact on operands within the ring: bring them to a smaller scale, or use fewer frac_bits"
    room = max(VALUE_BITS - 2 * frac_bits, 10)
    if max(largest, top) >= 2.0 ** (room - 1):
        return (
            f"numbers are too large for {frac_bits} fractional bits, at which a product holds 2^{room}: "
            "divide the data by a constant, clamp, or take fewer bits, "
            f"tacit.session(frac_bits={max(8, frac_bits - 6)})"
        )
    if top < 2.0**-6 or largest < 2.0**-6:
        return (
            f"numbers are small beside 2^-{frac_bits}: multiply the data by a constant, or take more fractional bits, "
            f"tacit.session(frac_bits={min(frac_bits + 4, 28)})"
        )
    return (
        "bring the operand into the domain (divide the data by a constant, standardise, clamp), use another function, "
        f"or take more fractional bits, tacit.session(frac_bits={min(frac_bits + 4, 28)})"
    )


def at(index: int, shape: torch.Size) -> str:
    """An element's index, out of its position in the flattened tensor."""
    place = [int(i) for i in torch.unravel_index(torch.tensor(index), shape)]
    return f"at index {place[0] if len(place) == 1 else tuple(place)}" if place else "of the scalar"
