"""Operators that PyTorch takes apart above autograd, caught before it does: where the parts would lose what matters.

PyTorch asks a kernel of its own, the first of all, for every operator on a tensor subclass; so a function that is
registered there sees secrets, and never a plain tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey

from tacit.tensor import SecretTensor
from tacit.tensor.signatures import leaves
from tacit.tensor.tensor import ask_once

__all__ = ["above_autograd"]

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
