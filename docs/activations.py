"""What each activation function costs on secrets, forward and backward: found out by running each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

import tacit
import tacit.nn

COUNT = 1000
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
        x = tacit.share(torch.randn(COUNT), owner="alice") * tacit.share(torch.randn(COUNT), owner="bob")
        x = x.detach().requires_grad_()
        grad = tacit.share(torch.randn(COUNT), owner="bob") * tacit.share(torch.randn(COUNT), owner="alice")
        before = session.meter.cost
        y = module(x)
        after = session.meter.cost
        y.backward(grad)
        costs = after - before, session.meter.cost - after
    return tuple(Cost(c.rounds, c.online["alice"] / COUNT, c.producer / COUNT) for c in costs)  # type: ignore[return-value]


def error(module: nn.Module, bound: float) -> float | None:
    """Return how far a stand-in for the sigmoid is from it on [-bound, bound], in the clear."""
    if not isinstance(module, tacit.nn.Polynomial | tacit.nn.FourierSigmoid):
        return None
    x: Tensor = torch.linspace(-bound, bound, 20_001, dtype=torch.float64)
    return float((module(x) - x.sigmoid()).abs().max())
