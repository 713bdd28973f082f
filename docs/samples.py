"""PyTorch's own samples of its operators (`op_db`), in the domain of a claim, to run on plain or secret tensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only

import tacit
from tacit.errors import DataError, EncodingError, RevealError, UnsupportedOperator
from tacit.watch.claims import Claim

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

__all__ = ["NAMES", "REFUSALS", "Call", "calls", "hidden"]

NAMES = frozenset(info.name for info in op_db)
"""Of all operators that PyTorch has samples for."""
REFUSALS = (UnsupportedOperator, EncodingError, DataError, RevealError, ZeroDivisionError)
"""What an operator raises for a sample that it does not take."""


class Call(NamedTuple):
    """An operator with arguments; those that PyTorch would differentiate by require gradients."""

    function: Callable[..., Any]
    arguments: Any

    def run(self, leaf: Callable[[Tensor], Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the results, and the arguments that results depend on, after `leaf` has made each argument."""
        leaves: list[Tensor] = []

        def make(x: Tensor) -> Tensor:
            made = leaf(x.detach())
            if x.requires_grad:
                leaves.append(made.requires_grad_())
            return made

        args, kwargs = tree_map_only(Tensor, make, self.arguments)
        with warnings.catch_warnings():  # of deprecated forms, which are still to work
            warnings.simplefilter("ignore")
            results = [r for r in tree_flatten(self.function(*args, **kwargs))[0] if isinstance(r, Tensor)]
        return results, leaves


def calls(name: str, claim: Claim, largest: float) -> Iterator[Call]:
    """The samples of an operator in all its variants, up to a number of elements, on the grid of fixed point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for info in op_db:
            if info.name == name and info.supports_dtype(torch.float32, "cpu"):
                drawn = info.sample_inputs_func(info, "cpu", torch.float32, info.supports_autograd)
                for sample in drawn:  # `sample_inputs` looks at the stack for each, which takes longer than all else
                    if not isinstance(sample.input, Tensor) or sample.input.numel() <= largest:
                        arguments = ([sample.input, *sample.args], sample.kwargs)
                        yield Call(info.op, tree_map_only(Tensor, lambda x: _prepared(x, claim), arguments))


def _prepared(x: Tensor, claim: Claim) -> Tensor:
    if not x.is_floating_point():
        return x
    y = claim.between.fold(x.detach()) if claim.between else x.detach()
    return ((y * 2**12).round() / 2**12).requires_grad_(x.requires_grad)


def hidden(x: Tensor) -> Tensor:
    """Numbers are secret; positions are public here, and secret in other tests."""
    return tacit.share(x.clone()) if x.is_floating_point() else x.clone()
