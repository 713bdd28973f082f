"""What each activation function costs on secrets, forward and backward: found out by running each.

python docs/activations.py    # prints what they take of one core; rounds and bytes are rendered by generate.py
"""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor, nn

import tacit
import tacit.nn

COUNT = 1000
MANY = 200_000
FORMS: dict[str, tuple[nn.Module, float]] = {
    "tacit.nn.PolynomialSigmoid(3)": (tacit.nn.PolynomialSigmoid(3), 8),
    "tacit.nn.PolynomialSigmoid(5)": (tacit.nn.PolynomialSigmoid(5), 8),
    "tacit.nn.PolynomialSigmoid(9)": (tacit.nn.PolynomialSigmoid(9), 8),
    "tacit.nn.FourierSigmoid()": (tacit.nn.FourierSigmoid(), 10),
    "nn.Sigmoid()": (nn.Sigmoid(), 10),
    "nn.ReLU()": (nn.ReLU(), 10),
}


class Cost(NamedTuple):
    """Of one element; bytes online are those that each of two parties sends."""

    rounds: int
    online: float
    producer: float


def measured(module: nn.Module) -> tuple[Cost, Cost]:
    """Return the cost of the function and of its gradient, of a product that is not truncated yet."""
    with tacit.session(seed=1) as session:
        x, grad = _products(COUNT)
        before = session.meter.cost
        y = module(x)
        after = session.meter.cost
        y.backward(grad)
        costs = after - before, session.meter.cost - after
    return tuple(Cost(c.rounds, c.online["alice"] / COUNT, c.producer / COUNT) for c in costs)  # type: ignore[return-value]


def nanoseconds(module: nn.Module, repeats: int = 4) -> tuple[float, float]:
    """Return the CPU time of an element, of all roles together, forward and backward: the least of some runs."""
    runs = []
    with tacit.session(seed=1):
        for _ in range(repeats):
            x, grad = _products(MANY)
            start = time.process_time()
            y = module(x)
            between = time.process_time()
            y.backward(grad)
            runs.append((between - start, time.process_time() - between))
    forward, backward = (1e9 * min(column) / MANY for column in zip(*runs, strict=True))
    return forward, backward


def _products(count: int) -> tuple[Tensor, Tensor]:
    """An argument and the gradient of a result, as they come from a linear layer: not truncated."""
    x = tacit.share(torch.randn(count), owner="alice") * tacit.share(torch.randn(count), owner="bob")
    grad = tacit.share(torch.randn(count), owner="bob") * tacit.share(torch.randn(count), owner="alice")
    return x.detach().requires_grad_(), grad


def error(module: nn.Module, bound: float) -> float | None:
    """Return how far a stand-in for the sigmoid is from it on [-bound, bound], in the clear."""
    if not isinstance(module, tacit.nn.Polynomial | tacit.nn.FourierSigmoid):
        return None
    x: Tensor = torch.linspace(-bound, bound, 20_001, dtype=torch.float64)
    return float((module(x) - x.sigmoid()).abs().max())


if __name__ == "__main__":
    for name, (module, _) in FORMS.items():
        forward, backward = nanoseconds(module)
        print(f"{name}: {forward:.0f} + {backward:.0f} ns an element")
