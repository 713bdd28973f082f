"""Operators that PyTorch takes apart above autograd, caught before it does: where the parts would lose what matters.

PyTorch asks a kernel of its own, the first of all, for every operator on a tensor subclass; so a function that is
registered there sees secrets, and never a plain tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey

from tacit.tensor import SecretTensor
from tacit.tensor.signatures import leaves
from tacit.tensor.tensor import ask_once

__all__ = ["above_autograd", "before_autograd", "with_secret_states"]

_FIRST = "PythonTLSSnapshot"
_LIBRARY = torch.library.Library("aten", "IMPL")  # its kernels live as long as it does
_REST = torch._C._dispatch_keyset_full_after(getattr(DispatchKey, _FIRST))


def above_autograd(overload: Any) -> Callable[[Callable[..., Tensor | None]], Callable[..., Tensor | None]]:
    """Register a function that computes an operator of secrets, or returns None and leaves it to PyTorch."""

    def register(function: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
        def kernel(keys: Any, *args: Any, **kwargs: Any) -> Any:
            if any(isinstance(x, SecretTensor) for x in leaves(args, kwargs)):
                ask_once(overload, args, kwargs)
            found = function(*args, **kwargs)
            if found is None:
                return overload.redispatch(keys & _REST, *args, **kwargs)
            watcher = found._protocol.session.watcher if isinstance(found, SecretTensor) else None
            if watcher is not None:
                watcher.composed(overload, args, kwargs, found)
            return found

        _LIBRARY.impl(overload.__name__.replace(".default", ""), kernel, _FIRST, with_keyset=True)
        return function

    return register


LIBRARY = torch.library.Library("aten", "IMPL")
"""PyTorch packs and pads by writing into new plain tensors, before autograd or in its formulas: no handler sees that.

A kernel under the key that only tensors with a dispatch in Python have comes first, and is differentiated as it runs.
"""
KEY = torch._C.DispatchKey.PythonTLSSnapshot


def before_autograd(overload: Any, function: Any) -> None:
    """Answer for an operator before autograd does, if there is a secret among its operands."""

    def kernel(keys: Any, x: Tensor | Sequence[Tensor], *args: Any) -> Any:
        operands = (*([x] if isinstance(x, Tensor) else x), *args)
        if any(isinstance(t, SecretTensor) for t in operands):
            return function(x, *args)
        return overload.redispatch(keys & torch._C._dispatch_keyset_full_after(KEY), x, *args)

    LIBRARY.impl(overload, kernel, KEY.name, with_keyset=True)


def with_secret_states(overload: Any, place: int) -> None:
    """Have public weights write the products with a public state, where a secret input is added, into a secret.

    `place` is that of the states; those of LSTMs are a list.
    """

    def kernel(keys: Any, x: Tensor, *args: Any) -> Any:
        tensors = [t for a in args for t in (a if isinstance(a, list | tuple) else [a]) if isinstance(t, Tensor)]
        weights = tensors[place + (len(args[place]) if isinstance(args[place], list | tuple) else 1) :]
        if isinstance(x, SecretTensor) and not any(isinstance(t, SecretTensor) for t in weights):
            states = args[place]
            hidden = [_trivially(t, x) for t in states] if isinstance(states, list | tuple) else _trivially(states, x)
            args = (*args[:place], hidden, *args[place + 1 :])
        return overload.redispatch(keys & torch._C._dispatch_keyset_full_after(KEY), x, *args)

    LIBRARY.impl(overload, kernel, KEY.name, with_keyset=True)


def _trivially(state: Tensor, beside: SecretTensor) -> Tensor:
    return state if isinstance(state, SecretTensor) else beside.new_zeros(state.shape, dtype=state.dtype) + state
