"""Gradients clipped by value before a step, so that no average of their squares ever wraps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn, optim

from tacit.aten.arithmetic import LARGEST_FACTOR
from tacit.aten.foreach import cut, flat, keep_end_to_end
from tacit.functions.clip import clip
from tacit.optim.lists import Group
from tacit.protocols.number import Number
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, is_precise, plain, protocol_of

CLIPPED = (
    optim.Adadelta,
    optim.Adagrad,
    optim.Adam,
    optim.Adamax,
    optim.AdamW,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
    optim.Rprop,
)
"""Optimizers that square gradients, divide by them or take their sign: the size of a step is not that of a gradient.
Their gradients are clipped by value, see `LARGEST_FACTOR`; those of RAdam from its first division on."""


LARGEST_SUM = 2.0**18
"""Where Adagrad's sums of squares stop growing, so that with one more square they stay below 2^20."""


def clip_gradients(optimizer: optim.Optimizer, group: Group) -> list[tuple[nn.Parameter, Tensor]]:
    """Give parameters clipped gradients, with all their bits; return those they had. 4 rounds, 4 more for Adagrad's."""
    had = [(p, p.grad) for p in group["params"] if p.grad is not None and _clippable(p.grad)]
    states = [optimizer.state[p] for p, _ in had]
    if isinstance(optimizer, optim.Adagrad):
        _clip_states(states, "sum", LARGEST_SUM)
    if isinstance(optimizer, optim.Adadelta) and had:
        optimizer._init_group(group, [], [], [], [], [])
        for p, _ in had:
            optimizer.state[p]["acc_delta"].share.declare(precise=True)  # the squares of steps, which are no gradients
    if isinstance(optimizer, optim.RAdam):
        if not all(_rectified(group, float(s.get("step", 0.0)) + 1) for s in states):
            for p, gradient in had:
                p.grad = _as_gradient(gradient)
            return had
        _clip_states([s for s in states if not is_precise(s["exp_avg"])], "exp_avg", LARGEST_FACTOR)
    if not isinstance(optimizer, CLIPPED) or not had:
        return []
    for (p, _), piece in zip(had, _clipped([g.detach() for _, g in had], LARGEST_FACTOR), strict=True):
        p.grad = piece
    watcher = protocol_of(had[0][1]).session.watcher
    if watcher is not None:
        why = f"gradients of {type(optimizer).__name__} are clipped by value at {LARGEST_FACTOR:g}"
        watcher.replaced([g for _, g in had], [p.grad for p, _ in had], why)
    return had


def _as_gradient(x: Tensor) -> SecretTensor:
    """x, unclipped, but known as a gradient, whose squares are kept precisely: see `arithmetic.gradients`."""
    share = arithmetic(x.detach()).fork()  # type: ignore[arg-type]
    share.declare(headroom=max(share.scale.headroom, 1))
    return SecretTensor(share, x.dtype)


def _rectified(group: Group, step: float) -> bool:
    """Whether RAdam divides in this step, as its first ones do not."""
    beta = group["betas"][1]
    longest = 2 / (1 - beta) - 1
    return bool(longest - 2 * step * beta**step / (1 - beta**step) > 5)


def _clippable(x: Any) -> bool:
    return isinstance(x, SecretTensor) and plain(x) is None and isinstance(x.share, Number)


def _clip_states(states: Sequence[dict[str, Any]], name: str, bound: float) -> None:
    states = [s for s in states if name in s and _clippable(s[name])]
    for state, piece in zip(states, _clipped([s[name] for s in states], bound), strict=True):
        state[name] = piece


def _clipped(xs: Sequence[Tensor], bound: float) -> list[Tensor]:
    """All of them clipped, at once."""
    if not xs:
        return []
    whole = SecretTensor(clip(arithmetic(flat(xs)), bound), xs[0].dtype)  # type: ignore[arg-type]
    pieces = cut(whole, [x.shape for x in xs])
    keep_end_to_end(pieces, whole)
    return pieces
