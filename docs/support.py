"""What of PyTorch works on secrets, and what it costs: found out by running it, forward and backward."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

import torch
from modules import CASES, Case
from samples import REFUSALS, Call, calls, hidden
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

import tacit
from tacit import SecretTensor
from tacit.errors import TacitError
from tacit.protocols.number import Number
from tacit.session.meter import Cost
from tacit.session.session import Session
from tacit.watch.claims import CLAIMS, Claim

__all__ = ["Passes", "Support", "module_support", "operator_support"]

CLOSE = 2.0**-9
"""How far the results and gradients of a module may be from plain PyTorch's on the small inputs of `modules.py`."""
SAMPLES, LARGEST = 12, 420
"""Samples of an operator to choose from, and the numbers one may have: the largest is run."""
FAILURES = (*REFUSALS, TacitError, NotImplementedError, RuntimeError, TypeError, ValueError, IndexError)


class Passes(NamedTuple):
    """The cost of a forward pass and, where there is one, of a backward pass."""

    forward: Cost
    backward: Cost | None
    elements: int
    """Of the largest tensor that goes in or comes out."""

    @property
    def free(self) -> bool:
        """Whether nobody sends anything."""
        costs = [cost for cost in (self.forward, self.backward) if cost is not None]
        return not any(cost.rounds or cost.producer for cost in costs)


class Support(NamedTuple):
    """How far something works on secrets."""

    how: str
    """"forward and backward", "forward", or "not yet"."""
    shapes: list[str]
    """Of the tensors that it was run on."""
    passes: Passes | None = None


def _settle(tensors: list[Tensor]) -> None:
    """Do the truncations that were put off, so that they count where they belong."""
    for x in tensors:
        if isinstance(x, SecretTensor) and isinstance(x.share, Number):
            x.share.settle()


def _measured(
    session: Session, run: Callable[[], tuple[list[Tensor], list[Tensor]]], inputs: list[Tensor]
) -> tuple[Passes, list[Tensor], list[Tensor]]:
    """Run forward, and backward from secret gradients; return costs, results, and the tensors with gradients."""
    meter = session.meter
    start = meter.cost
    results, leaves = run()
    _settle(results)
    forward = meter.cost - start
    elements = max(x.numel() for x in [*inputs, *results])
    ends = [r for r in results if r.requires_grad]
    if not ends or not leaves:
        return Passes(forward, None, elements), results, leaves
    torch.manual_seed(2)
    gradients = [tacit.share(torch.randn(r.shape)) for r in ends]
    start = meter.cost
    torch.autograd.backward(ends, gradients)
    _settle([x.grad for x in leaves if x.grad is not None])
    return Passes(forward, meter.cost - start, elements), results, leaves


# --- operators --------------------------------------------------------------------------------------------------------


def operator_support(name: str, claim: Claim) -> Support:
    """Run the largest of an operator's samples that runs and, if any does, takes a round: the first power is free."""
    torch.manual_seed(0)
    random.seed(0)  # from which PyTorch draws some of the public arguments of its samples
    found = [(call, _tensors(call.arguments)) for call in islice(calls(name, claim, LARGEST), SAMPLES)]
    full, free = [(call, inputs) for call, inputs in found if all(x.numel() for x in inputs)], None
    for call, inputs in sorted(full, key=lambda one: -max(x.numel() for x in one[1])):
        with tacit.session(seed=1) as session:
            try:
                passes, results, _ = _measured(session, _runner(call), inputs)
            except FAILURES:
                continue
            if any(isinstance(r, SecretTensor) for r in results):
                how = "forward" if passes.backward is None else "forward and backward"
                one = Support(how, [_shape(x) for x in inputs if x.is_floating_point()], passes)
                if not passes.free and not (free and "alpha" in call.arguments[1]):  # that is a product beside the sum
                    return one
                free = free or one
    if free is None:
        raise AssertionError(f"{name} is claimed, but none of its samples runs")
    return free


def operators() -> dict[str, Support]:
    """All operators that are claimed, by name."""
    return {name: operator_support(name, CLAIMS[name]) for name in sorted(CLAIMS, key=_plain_name)}


def _runner(call: Call) -> Callable[[], tuple[list[Tensor], list[Tensor]]]:
    return lambda: call.run(hidden)


def _plain_name(name: str) -> str:
    return name.rsplit(".", 1)[-1].strip("_")


def _tensors(arguments: Any) -> list[Tensor]:
    return [x for x in tree_flatten(arguments)[0] if isinstance(x, Tensor)]


def _shape(x: Tensor) -> str:
    return "×".join(map(str, x.shape)) or "1"


# --- modules ----------------------------------------------------------------------------------------------------------


def module_support(case: Case) -> Support:
    """Run a module on secrets and on plain numbers, forward and backward; it must come to the same."""
    torch.manual_seed(0)
    module, inputs = case.make(), [draw() for draw in case.inputs]
    shapes = [_shape(x) for x in inputs]
    plain, leaves = _run(module, inputs, Tensor.clone)
    with tacit.session(seed=1) as session:
        shared = tacit.share(module)
        try:
            passes, results, secret_leaves = _measured(session, lambda: _run(shared, inputs, hidden), inputs)
        except FAILURES:
            return _without_gradients(module, inputs, session)
        _agree(results, plain)
        if passes.backward is not None:
            torch.manual_seed(2)
            ends = [r for r in plain if r.requires_grad]
            torch.autograd.backward(ends, [torch.randn(r.shape) for r in ends])
            _agree([x.grad for x in secret_leaves], [x.grad for x in leaves])
    return Support("forward and backward" if passes.backward else "forward", shapes, passes)


def _without_gradients(module: nn.Module, inputs: list[Tensor], session: Session) -> Support:
    shapes = [_shape(x) for x in inputs]
    try:
        with torch.no_grad():
            plain, _ = _run(module, inputs, Tensor.clone)
            passes, results, _ = _measured(session, lambda: _run(tacit.share(module), inputs, hidden), inputs)
    except FAILURES:
        return Support("not yet", shapes)
    _agree(results, plain)
    return Support("forward", shapes, passes)


def _run(
    module: nn.Module, inputs: list[Tensor], leaf: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the results, and what has a gradient: inputs and parameters."""
    torch.manual_seed(1)  # of dropout
    leaves = [leaf(x) for x in inputs]
    for x in leaves:
        if x.is_floating_point() and torch.is_grad_enabled():
            x.requires_grad_()
    results = [r for r in tree_flatten(module(*leaves))[0] if isinstance(r, Tensor)]
    return results, [x for x in [*leaves, *module.parameters()] if x.requires_grad]


def _agree(got: list[Tensor], want: list[Tensor]) -> None:
    """Raise an error if secrets are not what they should be."""
    for g, w in zip(got, want, strict=True):
        if g is not None and w is not None and w.is_floating_point() and w.numel():
            found, w = tacit.reveal(g.detach()) if isinstance(g, SecretTensor) else g.detach(), w.detach()
            off = float((found - w).abs().max())
            if not off <= CLOSE * max(1.0, float(w.abs().max())):
                raise AssertionError(f"off by {off}")


def modules() -> dict[str, dict[str, Support]]:
    """All modules and losses of `torch.nn`, by family and name."""
    return {
        family: {name: module_support(case) for name, case in sorted(cases.items())} for family, cases in CASES.items()
    }
