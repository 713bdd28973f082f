"""What happens around a step of one of PyTorch's optimizers whose parameters are secret.

Before it, gradients that are going to be squared or divided by are clipped by value (`clipping`), so that no average of
them ever wraps. And all parameters of a group go into the step together, so that it needs the rounds of a single one:
most optimizers do that by operators on lists (`tacit.aten.foreach`); others are given one parameter, all of them end to
end (`lists`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn, optim
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tacit.aten.foreach import cut, keep_end_to_end
from tacit.errors import TacitError
from tacit.optim.clipping import clip_gradients
from tacit.optim.lists import END_TO_END, Group, Joined, join
from tacit.protocols.followed import follower
from tacit.session.changes import while_open
from tacit.session.ledger import source_line
from tacit.session.watcher import Guard
from tacit.tensor import SecretTensor
from tacit.tensor.refusals import unsupported


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
    if (following := follower()) is not None:
        following.step_begins(optimizer)
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
        undo.gradients.extend(clip_gradients(optimizer, group))
    form = next((form for kind, form in END_TO_END.items() if isinstance(optimizer, kind)), None)
    for group in undecided:
        if form is None:
            group["foreach"] = True
        elif closure is None:
            undo.groups.append(join(optimizer, group, form))
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


def _clipping(closure: Callable[[], Any], optimizer: optim.Optimizer, groups: Sequence[Group]) -> Callable[[], Any]:
    """A closure that clips the gradients it has computed."""

    def clipped() -> Any:
        loss = closure()
        guard = _guard(optimizer)
        if guard is not None:
            guard.before_step(optimizer)
        for group in groups:
            clip_gradients(optimizer, group)
        return loss

    return clipped


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
    if (following := follower()) is not None:
        following.step_ends()
    guard = _guard(optimizer)
    if guard is not None:
        guard.after_step(optimizer)


def _guard(optimizer: optim.Optimizer) -> Guard | None:
    """What checks the range of the numbers, if a parameter is secret and its session has it checked."""
    secrets = (p for group in optimizer.param_groups for p in group["params"] if isinstance(p, SecretTensor))
    first = next(secrets, None)
    return None if first is None else first._protocol.session.guard


@while_open
def around_steps() -> Iterator[None]:
    """Hooks of every optimizer."""
    hooks = register_optimizer_step_pre_hook(before_step), register_optimizer_step_post_hook(finish_step)
    yield
    for hook in hooks:
        hook.remove()
