"""Whether a run's numbers are still within range: asked securely at certain points, and answered by one public bit.

Secret positions, and weights to draw by, are asked one by one, where they are used.

Fixed point wraps around where a number gets too large, and nobody can see that in a secret. What has wrapped is random,
of the size of the ring, so it betrays itself in sums: of all the numbers x_i of a point a few sums y = Σ r_i x_i are
made, with public random r_i in {-1, 0, 1}, which costs nothing, and only these are compared with a bound T:

- With any |x_i| >= 2 T, in the ring, a sum is outside of (-T, T) with probability 1/2 at least, whatever the others
  are: r_i is 0 as often as it is 1 (or -1), and only one of the two sums can be inside. So `SUMS` sums miss it with
  probability 2^-`SUMS` at most, and hardly ever numbers that are spread over the ring.
- With ‖x‖₂ <= T / 6 a sum is outside with probability 2 exp(-36) at most, by Hoeffding's inequality: r_i is a
  difference of two bits. So a run in range is not stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves

from tacit.errors import PrecisionError
from tacit.protocols.number import Number
from tacit.protocols.protocol import Protocol
from tacit.protocols.values import Bits
from tacit.session.watcher import Guard
from tacit.tensor import SecretTensor

__all__ = ["NAME", "Range"]

NAME = "within range"
"""What ledger and policy call the bit."""

SUMS = 20
"""Random sums of each scale. More: fewer numbers just out of range are missed; fewer: fewer comparisons, two for each
sum. Twice as many are a multiple of `TOGETHER`."""

TOGETHER = 10
"""Bits whose conjunction takes one round."""

Part = tuple[str, Sequence[Any]]
"""Tensors, and what a message calls them."""


class Range(Guard):
    """Checks the outputs of outermost modules, losses, gradients before a step and parameters after it."""

    def __init__(self, protocol: Protocol, bound: float | None, reveal: Callable[..., Any]) -> None:
        """`bound` is 2 T; half a square's range without one. `reveal` is `tacit.reveal`."""
        self._protocol, self._reveal = protocol, reveal
        self._bound = 2.0 ** (31 - protocol.frac_bits) if bound is None else bound
        self._generator = torch.Generator().manual_seed(torch.initial_seed() & ((1 << 63) - 1))
        self._depth, self._calls = 0, 0
        self._steps: WeakKeyDictionary[torch.optim.Optimizer, int] = WeakKeyDictionary()
        self._hooks = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]

    def close(self) -> None:
        """Look at no module any more."""
        for hook in self._hooks:
            hook.remove()

    # --- the points ---------------------------------------------------------------------------------------------------

    def _enter(self, module: nn.Module, inputs: object) -> None:
        self._depth += 1

    def _leave(self, module: nn.Module, inputs: object, output: object) -> None:
        self._depth -= 1
        if self._depth == 0 and output is not None:
            self._calls += 1
            label = f"outputs of {type(module).__name__}, call {self._calls} of an outermost module,"
            self._check([(label, tree_leaves(output))])

    def loss(self, x: SecretTensor) -> None:
        """Check a loss that has been computed; one that nobody has looked at is nobody's number."""
        self._check([("a loss at its backward pass", [x])])

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Check the gradients."""
        step = self._steps[optimizer] = self._steps.get(optimizer, 0) + 1
        self._check(_parts(optimizer, step, "gradients", lambda p: p.grad))

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Check the parameters."""
        self._check(_parts(optimizer, self._steps.get(optimizer, 1), "parameters", lambda p: p))

    @torch.no_grad()
    def require(self, bits: Any, what: str) -> None:
        """Stop the run unless all bits are set: a sum of those that are not is 0.

        Cost: 5 rounds: 1 of bits as integers, 3 of a comparison, one for the bit.   Reveals: that bit.
        """
        if not bits.numel:
            return
        self._protocol.session.transcript.record(f"{NAME}({tuple(bits.shape)})")
        failed = bits.invert().arithmetic().sum(range(len(bits.shape)))
        (none,) = self._protocol.less(failed, [1])
        answer = self._reveal(SecretTensor(none, torch.bool), to="all", name=NAME)
        if not self._protocol.session.preparing and not bool(answer):
            raise PrecisionError(what)

    # --- the check ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _check(self, parts: Sequence[Part]) -> None:
        """Stop the run if a number is out of range: after one bit for all, one for each part finds the first."""
        found = [(label, self._numbers(tensors)) for label, tensors in parts]
        found = [(label, shares) for label, shares in found if shares]
        if not found or self._within([x for _, shares in found for x in shares]):
            return
        if self._protocol.session.supply is None:
            where = next((label for label, shares in found if len(found) > 1 and not self._within(shares)), found[0][0])
        else:  # a search would ask for correlations that nobody has prepared
            where = ", or ".join(label for label, _ in found)
        raise PrecisionError(
            f"numbers have left the range: {where} hold one of {self._bound:g} or more in magnitude, which leaves no "
            f"room for products at {self._protocol.frac_bits} fractional bits; what has been computed since may be "
            "wrong. Lower the learning rate, clip gradients (torch.nn.utils.clip_grad_norm_), bring data to a scale of "
            "about 1, or take fewer frac_bits; tacit.session(check=True) finds the operator on data that one may see"
        )

    def _numbers(self, tensors: Sequence[Any]) -> list[Number]:
        """Secret numbers in fixed point, of this session, that have been computed and are not public."""
        return [
            share
            for x in tensors
            if isinstance(x, SecretTensor) and x._protocol is self._protocol and x.dtype.is_floating_point
            if isinstance(share := x._share, Number) and share.numel and share.known_public() is None
        ]

    def _within(self, shares: Sequence[Number]) -> bool:
        """Whether all numbers are within range.

        Cost: 6 rounds: 3 of comparisons, 2 for their conjunction (3 with more than two scales), one for the bit.
        Reveals: that bit.
        """
        shapes = ", ".join(str(tuple(x.shape)) for x in shares)
        self._protocol.session.transcript.record(f"{NAME}({shapes})")
        sums: dict[int, Number] = {}
        for x in shares:
            y = self._sums(x)
            sums[x.frac_bits] = sums[x.frac_bits].added(y) if x.frac_bits in sums else y
        edges = [min(round(self._bound / 2 * 2.0**f), 1 << 61) for f in sums]
        below = [y.plus(torch.tensor(-edge)) for y, edge in zip(sums.values(), edges, strict=True)]
        above = [y.plus(torch.tensor(edge)) for y, edge in zip(sums.values(), edges, strict=True)]
        (negative,) = self._protocol.less(Number.end_to_end([*below, *above]), [0])
        wanted = torch.zeros(negative.numel, dtype=torch.uint8)
        wanted[negative.numel // 2 :] = 1
        inside = self._all(negative.flipped(wanted))
        answer = self._reveal(SecretTensor(inside, torch.bool), to="all", name=NAME)
        return self._protocol.session.preparing or bool(answer)  # whoever prepares a run expects it to go well

    def _sums(self, x: Number) -> Number:
        """Random sums of all numbers, read as integers: every scale has its own bound. Local."""
        drawn = torch.randint(-(1 << 63), (1 << 63) - 1, (x.numel,), generator=self._generator)

        def op(t: Tensor) -> Tensor:
            t = t.reshape(-1)
            bits = drawn.to(t.device)
            return torch.stack([(t * (((bits >> 2 * k) & 1) - ((bits >> (2 * k + 1)) & 1))).sum() for k in range(SUMS)])

        y = x.linear(op, shape=torch.Size((SUMS,)))
        y.declare(precise=False)
        return y.rescaled(0)

    def _all(self, bits: Bits) -> Bits:
        """The conjunction of all bits of a row."""
        columns = self._protocol.all_of([bits.move(partial(_row, k), view=False) for k in range(TOGETHER)])
        return self._protocol.all_of([columns.move(itemgetter(k), view=False) for k in range(columns.numel)])


def _row(k: int, t: Tensor) -> Tensor:
    return t.view(TOGETHER, -1)[k]


def _parts(optimizer: torch.optim.Optimizer, step: int, what: str, of: Callable[[Any], Any]) -> list[Part]:
    """A part for each parameter group."""
    name = type(optimizer).__name__
    groups = optimizer.param_groups
    which = [f"parameter group {k} of {name}" if len(groups) > 1 else f"{name}" for k in range(len(groups))]
    when = "before" if what == "gradients" else "after"
    return [
        (f"{what} of {label} {when} step {step}", [of(p) for p in group["params"]])
        for label, group in zip(which, groups, strict=True)
    ]
