"""Operators that are caught above autograd: where what PyTorch makes of them there would lose what matters.

PyTorch asks a kernel of its own, the first of all, for every operator on a tensor subclass with a dispatch in Python;
so a kernel that is registered there sees secrets. It is there while a session is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import DispatchKey

from tacit.session.changes import while_open
from tacit.tensor import SecretTensor
from tacit.tensor.dispatch import ask_once
from tacit.tensor.signatures import leaves

__all__ = ["Unlike", "above_autograd", "before_autograd", "first", "go_on"]

KEY = DispatchKey.PythonTLSSnapshot
"""The key that only tensors with a dispatch in Python have."""
_REST = torch._C._dispatch_keyset_full_after(KEY)
_KERNELS: dict[Any, Callable[..., Any]] = {}
_library: torch.library.Library | None = None


def first(overload: Any, kernel: Callable[..., Any]) -> None:
    """Register a kernel that PyTorch asks before all others, with the keys that `go_on` needs as first argument."""
    if overload in _KERNELS:
        raise ValueError(f"{overload} has two kernels above autograd")
    _KERNELS[overload] = kernel
    if _library is not None:
        _library.impl(overload, kernel, KEY.name, with_keyset=True)


def go_on(overload: Any, keys: Any, *args: Any, **kwargs: Any) -> Any:
    """What PyTorch does without a kernel of ours."""
    return overload.redispatch(keys & _REST, *args, **kwargs)


@while_open
def _first_of_all() -> Iterator[None]:
    global _library
    _library = torch.library.Library("aten", "IMPL")  # its kernels live as long as it does
    for overload, kernel in _KERNELS.items():
        _library.impl(overload, kernel, KEY.name, with_keyset=True)
    yield
    _library._destroy()
    _library = None


class Unlike(NamedTuple):
    """A result that is not PyTorch's, and is not meant to be: a session that checks itself does not compare it."""

    result: Tensor


Function = Callable[..., Tensor | Unlike | None]


def above_autograd(overload: Any) -> Callable[[Function], Function]:
    """Register a function that computes an operator of secrets, or returns None and leaves it to PyTorch."""

    def register(function: Function) -> Function:
        def kernel(keys: Any, *args: Any, **kwargs: Any) -> Any:
            if any(isinstance(x, SecretTensor) for x in leaves(args, kwargs)):
                ask_once(SecretTensor, overload, args, kwargs)
            found = function(*args, **kwargs)
            if isinstance(found, Unlike):
                return found.result
            if found is None:
                return go_on(overload, keys, *args, **kwargs)
            watcher = found._protocol.session.watcher if isinstance(found, SecretTensor) else None
            if watcher is not None:
                watcher.composed(overload, args, kwargs, found)
            return found

        first(overload, kernel)
        return function

    return register


def before_autograd(overload: Any, function: Any) -> None:
    """Answer for an operator before autograd does, if there is a secret among its operands.

    PyTorch packs and pads by writing into new plain tensors, before autograd or in its formulas, which no handler sees.
    The function is differentiated as it runs.
    """

    def kernel(keys: Any, x: Tensor | Sequence[Tensor], *args: Any) -> Any:
        operands = (*([x] if isinstance(x, Tensor) else x), *args)
        if any(isinstance(t, SecretTensor) for t in operands):
            return function(x, *args)
        return go_on(overload, keys, x, *args)

    first(overload, kernel)
