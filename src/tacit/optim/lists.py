"""All parameters of a group as one, laid end to end, so that a step needs the rounds of a single one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import torch.utils._foreach_utils as foreach_utils
from torch import Tensor, nn, optim

from tacit.aten.foreach import flat
from tacit.session.changes import while_open
from tacit.tensor import SecretTensor

__all__ = ["END_TO_END", "Group", "Joined", "join"]

Group = dict[str, Any]
"""Of parameters, as an optimizer has it."""


@while_open
def _taken_for_lists() -> Iterator[None]:
    """Have clipping take secrets for tensors that operators on lists know, as PyTorch does with its own DTensor."""
    supported: list[type[Tensor]] = foreach_utils._foreach_supported_types
    supported.append(SecretTensor)
    yield
    supported.remove(SecretTensor)


class Joined(NamedTuple):
    """Parameters that are one in a step."""

    parameters: list[nn.Parameter]
    whole: nn.Parameter


END_TO_END: dict[type[optim.Optimizer], bool] = {
    optim.Adagrad: False,
    optim.ASGD: True,
    optim.RAdam: False,
    optim.Rprop: True,
}
"""Optimizers whose operators on lists do not take all parameters at once, or multiply by the learning rate before they
divide, which costs bits; and whether, for a single parameter, the form for lists is the better one."""


def join(
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
