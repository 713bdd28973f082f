"""Collectives on lists of lists, in which PyTorch does not look for secrets: it would run its own on their memory.

`dist.all_gather`, `gather`, `scatter` and `reduce_scatter` end in methods of the process group that take them. An
operator is a secret's where a tensor, or a list of tensors, among its operands has one; so that is seen to here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

import torch.distributed as dist
from torch import Tensor

from tacit.errors import TacitError
from tacit.session.changes import replaced, while_open
from tacit.session.ledger import source_line
from tacit.tensor import SecretTensor
from tacit.tensor.operands import as_secret
from tacit.tensor.refusals import no_place_for_a_secret

NESTED = {
    "allgather": "dist.all_gather",
    "allgather_coalesced": "dist.all_gather_coalesced",
    "gather": "dist.gather",
    "reduce_scatter": "dist.reduce_scatter",
    "scatter": "dist.scatter",
}
"""Methods of a process group of which one operand is a list of lists, and what programs call."""


def _secrets_of(x: Any) -> list[SecretTensor]:
    """The secrets in a tensor, or in lists of any depth."""
    if isinstance(x, Tensor):
        return [x] if isinstance(x, SecretTensor) else []
    return [y for row in x for y in _secrets_of(row)] if isinstance(x, (list, tuple)) else []


def _shared(x: Any, beside: SecretTensor) -> Any:
    return as_secret(x, beside) if isinstance(x, Tensor) else [_shared(y, beside) for y in x]


def _seen(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose secrets are all seen: targets that are plain are refused, and what is public is shared first.

    Not so in a gather: what the other ranks bring is for them to share.
    """

    @wraps(method)
    def seeing(self: Any, *operands: Any, **named: Any) -> Any:
        outputs, inputs, *rest = operands
        targets, given = _secrets_of(outputs), _secrets_of(inputs)
        if given and not targets and name in ("reduce_scatter", "scatter"):
            raise no_place_for_a_secret(f"{NESTED[name]} would write a secret into a plain tensor")
        if targets and not given and name == "gather":
            raise TacitError(
                f"dist.gather of a public tensor into secrets ({source_line()}): share it first, at all ranks, with "
                f"tacit.share, or gather it into plain tensors"
            )
        if targets and not given and name.startswith("allgather"):
            inputs = _shared(inputs, targets[0])
        return method(self, outputs, inputs, *rest, **named)

    return seeing


@while_open
def _seeing_lists() -> Iterator[None]:
    return replaced(dist.ProcessGroup, {name: partial(_seen, name) for name in NESTED})
