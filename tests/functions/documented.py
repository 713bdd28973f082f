"""What the docstring of a function promises: domain, error and rounds, read so that tests can hold it to them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Promise", "promise_of"]

_TERM = re.compile(r"^[\d\s().*/+\-^fxy]*$")


class Promise(NamedTuple):
    """A docstring's facts, for a number of fractional bits."""

    low: float
    """The smallest |x|, or x, of the domain."""
    high: float
    signed: bool
    """Whether the domain is one of |x|."""
    error: Callable[[Tensor, Tensor], Tensor]
    """The bound, as a function of x and of the exact result."""
    rounds: int


def promise_of(function: Any, frac_bits: int) -> Promise:
    """Read `Domain:`, `Error: <=` and `Cost: N rounds` in a docstring."""
    text = " ".join(function.__doc__.split())
    low, high, signed = _domain(_found(r"Domain: (.*?)(?:[.;,] |\.$)", text), frac_bits)
    bound = _found(r"Error: <= (.*?)(?:[.,] |\.$)", text)
    rounds = int(_found(r"Cost: (\d+) rounds?", text))
    return Promise(low, high, signed, lambda x, y: _value(bound, f=frac_bits, x=x, y=y) + torch.zeros_like(x), rounds)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"the docstring does not say {pattern!r}: {text}"
    return match[1]


def _domain(text: str, frac_bits: int) -> tuple[float, float, bool]:
    match = re.fullmatch(r"(?:(.+?) <=? )?(\|x\||x) <=? (.+)", text)
    assert match, f"not a domain: {text}"
    low, high = (float(_value(side, f=frac_bits)) if side else None for side in (match[1], match[3]))
    assert high is not None
    return low if low is not None else 0.0, high, match[2] == "|x|"


def _value(formula: str, **names: Any) -> Any:
    """Compute a docstring's formula: numbers, ^, |x|, and the letters f, x, y."""
    formula = re.sub(r"\|([xy])\|", r"\1.abs()", formula).replace("^", "**")
    assert _TERM.match(formula.replace(".abs()", "").replace("**", "^")), f"not a formula: {formula}"
    formula = re.sub(r"(?<=\d) (?=[xy])", " * ", formula)
    return eval(formula, {"__builtins__": {}}, names)
