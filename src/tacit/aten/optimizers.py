"""What happens around a step of one of PyTorch's optimizers whose parameters are secret.

Before it, gradients that are going to be squared or divided by are clipped by value, so that no average of them ever
wraps. And all parameters of a group go into the step together, so that it needs the rounds of a single one: most
optimizers do that by operators on lists (`tacit.aten.foreach`); others are given one parameter, all of them end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn, optim
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tacit.aten.arithmetic import LARGEST_FACTOR
from tacit.aten.foreach import cut, flat, keep_end_to_end
from tacit.errors import TacitError
from tacit.functions.clip import clip
from tacit.protocols.number import Number
from tacit.session.ledger import source_line
from tacit.session.watcher import Guard
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, is_precise, plain, protocol_of
from tacit.tensor.refusals import unsupported

Group = dict[str, Any]

LARGEST_SUM = 2.0**18
"""Where Adagrad's sums of squares stop growing, so that with one more square they stay below 2^20."""

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


END_TO_END: dict[type[optim.Optimizer], bool] = {
    optim.Adagrad: False,
    optim.ASGD: True,
    optim.RAdam: False,
    optim.Rprop: True,
}
"""Optimizers whose operators on lists do not take all parameters at once, or multiply by the learning rate before they
divide, which costs bits; and whether, for a single parameter, the form for lists is the better one."""


class Joined(NamedTuple):
    """Parameters that are one in a step."""

    parameters: list[nn.Parameter]
    whole: nn.Parameter


class Prepared(NamedTuple):
    """What a step has been given, and is to be taken back after it."""

    gradients: list[tuple[nn.Parameter, Tensor]]
    """The gradients before they were clipped."""
    groups: list[tuple[Group, list[nn.Parameter], bool | None, list[Joined]]]
    """The parameters of each group that was joined, and what it said of `foreach`."""
    rates: list[tuple[Group, Tensor]]
    """The learning rates that are tensors: on lists, PyTorch takes numbers only."""


_prepared: WeakKeyDictionary[optim.Optimizer, Prepared] = WeakKeyDictionary()


def before_step(optimizer: optim.Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
    """Clip the gradients, and have all parameters of a group handled at once, unless the user decided otherwise."""
    if isinstance(optimizer, optim.LBFGS) and any(_secret(g["params"]) for g in optimizer.param_groups):
        raise unsupported(
            "torch.optim.LBFGS",
            "it decides by the values of losses and gradients how far to go; use SGD with momentum or Adam, or, for a "
            "linear model, torch.linalg.lstsq",
        )
    after_step(optimizer, args, kwargs)  # of a step that failed
    for group in optimizer.param_groups:
        _check_shared(group["params"])
    undo = Prepared([], [], [])
    guard = _guard(optimizer)
    groups = [g for g in optimizer.param_groups if _secret(g["params"]) and not g.get("differentiable")]
    undecided = [g for g in groups if "foreach" in g and g["foreach"] is None and not g.get("fused")]
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    if closure is None:
        _prepared[optimizer] = undo
        if guard is not None:
            guard.before_step(optimizer)
        for group in undecided:
            if isinstance(group.get("lr"), Tensor):
                undo.rates.append((group, group["lr"]))
                group["lr"] = float(group["lr"])
    for group in groups if closure is None else []:
        undo.gradients.extend(_clip(optimizer, group))
    form = next((form for kind, form in END_TO_END.items() if isinstance(optimizer, kind)), None)
    for group in undecided:
        if form is None:
            group["foreach"] = True
        elif closure is None:
            undo.groups.append(_join(optimizer, group, form))
    if closure is None or not groups:
        return None
    return (optimizer,), {**kwargs, "closure": _clipping(closure, optimizer, groups)}


def _check_shared(parameters: Sequence[nn.Parameter]) -> None:
    """Refuse a step of plain parameters by secret gradients: of a module, or a part of one, that was not shared."""
    forgotten = [p for p in parameters if isinstance(p.grad, SecretTensor) and not isinstance(p, SecretTensor)]
    if forgotten:
        shape = tuple(forgotten[0].shape)
        raise TacitError(
            f"{len(forgotten)} of the optimizer's parameters are plain (the first of shape {shape}) and their "
            f"gradients secret ({source_line()}): share the whole module, tacit.share(module), before its optimizer "
            f"is made"
        )


def _secret(parameters: Sequence[nn.Parameter]) -> bool:
    return bool(parameters) and all(isinstance(p, SecretTensor) for p in parameters)


def _clip(optimizer: optim.Optimizer, group: Group) -> list[tuple[nn.Parameter, Tensor]]:
    """Give parameters clipped gradients, with all their bits; return those they had. 4 rounds, 4 more for Adagrad's."""
    had = [(p, p.grad) for p in group["params"] if p.grad is not None and _clippable(p.grad)]
    states = [optimizer.state[p] for p, _ in had]
    if isinstance(optimizer, optim.Adagrad):
        _clip_states(states, "sum", LARGEST_SUM)
    if isinstance(optimizer, optim.Adadelta) and had:
        optimizer._init_group(group, [], [], [], [], [])
        for p, _ in had:
            optimizer.state[p]["acc_delta"].share.storage.precise = True  # the squares of steps, which are no gradients
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
    share.storage.headroom = max(share.storage.headroom, 1)
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


def _clipping(closure: Callable[[], Any], optimizer: optim.Optimizer, groups: Sequence[Group]) -> Callable[[], Any]:
    """A closure that clips the gradients it has computed."""

    def clipped() -> Any:
        loss = closure()
        guard = _guard(optimizer)
        if guard is not None:
            guard.before_step(optimizer)
        for group in groups:
            _clip(optimizer, group)
        return loss

    return clipped


def _join(
    optimizer: optim.Optimizer, group: Group, foreach: bool
) -> tuple[Group, list[nn.Parameter], bool | None, list[Joined]]:
    """Put one parameter for all of a group that have come equally far into their place, with its gradient and state."""
    together: dict[Hashable, list[nn.Parameter]] = {}
    for p in group["params"]:
        if isinstance(p.grad, SecretTensor):
            public = tuple((k, float(v)) for k, v in optimizer.state[p].items() if not isinstance(v, SecretTensor))
            together.setdefault(public, []).append(p)
    joined = []
    for parameters in together.values():
        whole = nn.Parameter(flat([p.detach() for p in parameters]), requires_grad=False)
        whole.grad = flat([p.grad for p in parameters])  # type: ignore[misc]
        states = [optimizer.state[p] for p in parameters]
        optimizer.state[whole] = {
            name: flat([s[name] for s in states]) if isinstance(value, SecretTensor) else value.clone()
            for name, value in states[0].items()
        }
        joined.append(Joined(parameters, whole))
    before = group["params"], group["foreach"]
    group["params"], group["foreach"] = [j.whole for j in joined], foreach
    return group, *before, joined


@torch.no_grad()
def after_step(optimizer: optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Give every parameter its part of what was joined, and its gradient."""
    undo = _prepared.pop(optimizer, None)
    if undo is None:
        return
    for group, parameters, foreach, joined in undo.groups:
        group["params"], group["foreach"] = parameters, foreach
        for mine, whole in joined:
            shapes = [p.shape for p in mine]
            torch._foreach_copy_(list[Tensor](mine), cut(whole.detach(), shapes))
            for name, value in optimizer.state.pop(whole).items():
                secret = isinstance(value, SecretTensor)
                pieces = cut(value, shapes) if secret else [value.clone() for _ in mine]
                if secret:
                    keep_end_to_end(pieces, value)
                for p, piece in zip(mine, pieces, strict=True):
                    optimizer.state[p][name] = piece
    for p, gradient in undo.gradients:
        p.grad = gradient
    for group, rate in undo.rates:
        group["lr"] = rate


def finish_step(optimizer: optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Undo what was done for a step, and check its parameters, where a session checks their range."""
    after_step(optimizer, args, kwargs)
    guard = _guard(optimizer)
    if guard is not None:
        guard.after_step(optimizer)


def _guard(optimizer: optim.Optimizer) -> Guard | None:
    """What checks the range of the numbers, if a parameter is secret and its session has it checked."""
    secrets = (p for group in optimizer.param_groups for p in group["params"] if isinstance(p, SecretTensor))
    first = next(secrets, None)
    return None if first is None else first._protocol.session.guard


register_optimizer_step_pre_hook(before_step)
register_optimizer_step_post_hook(finish_step)
