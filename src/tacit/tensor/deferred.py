"""Values that wait until somebody needs them, and what is made of them: a loss nobody reveals costs nothing.

PyTorch takes a loss apart into sums, products and means where it has no operator of its own for it: cross-entropy with
probabilities for targets or with label smoothing, a sum of two losses, a penalty added to one. The gradient needs none
of their values, so these operators wait as well where an operand does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor

from tacit.protocols.values import Value
from tacit.tensor import SecretTensor
from tacit.tensor.registry import implements

__all__ = ["Once", "deferring", "held", "waits"]

DEEPEST = 16
"""How many operators wait for one another. A sum of losses over an epoch would grow without end, so it is computed
whenever it gets so deep. More: losses in more parts cost nothing; fewer: less memory is held."""


class Once:
    """A share that is computed when it is first asked for."""

    __slots__ = ("_compute", "_held", "_share", "_writable", "depth")

    def __init__(self, compute: Callable[[], Value], depth: int = 0) -> None:
        self.depth = depth
        self._compute: Callable[[], Value] | None = compute
        self._share: Value | None = None
        self._writable: Value | None = None
        self._held = False

    def __call__(self) -> Value:
        """The share, which may be written to; whoever asks twice gets the same one."""
        if self._writable is None:
            share = self._computed()
            self._writable = share.fork() if self._held else share
        return self._writable

    def hold(self) -> Callable[[], Value] | None:
        """What gives the share as it is computed, whatever is written to it later; None if that may have been done."""
        if self._writable is not None:
            return None
        self._held = True
        return self._computed

    def _computed(self) -> Value:
        if self._compute is not None:
            self._share = self._compute()
            self._compute = None  # what it was made of may go
        assert self._share is not None
        return self._share

    def after(self, func: Any, operands: Sequence[Any]) -> SecretTensor | Callable[..., Once] | None:
        """What an operator makes of it, where that is known to be one function of another content; or the class of
        what waits in its place, of the same arguments as this one."""
        return None


def waits(x: Any) -> bool:
    """Whether a tensor has not been computed yet."""
    return isinstance(x, SecretTensor) and not isinstance(x._share, Value)


def held(x: Any) -> Any:
    """An operand as it is now, whatever is written to it later."""
    if not isinstance(x, Tensor):
        return x
    if not isinstance(x, SecretTensor):
        return x.detach().clone()
    if not isinstance(x._share, Value | Once):
        return SecretTensor(x._share, x.dtype, protocol=x._protocol, shape=x.shape)
    if isinstance(x._share, Once) and (later := x._share.hold()) is not None:
        return SecretTensor(Once(later, x._share.depth), x.dtype, protocol=x._protocol, shape=x.shape)
    if x._protocol.session.watcher is not None:  # who follows each operator
        return x.detach().clone()
    copy = x.share.move(lambda t: t.clone(memory_format=torch.contiguous_format), view=False)
    return SecretTensor(copy, x.dtype)


def deferring(*overloads: Any) -> Callable[[Callable[..., SecretTensor]], Callable[..., SecretTensor]]:
    """Register a function for ATen overloads as `implements` does, and have them wait where an operand does.

    They have one result, which is no view of an operand.
    """

    def register(handler: Callable[..., SecretTensor]) -> Callable[..., SecretTensor]:
        implements(*overloads)(_patient(handler))
        return handler

    return register


def _patient(handler: Callable[..., SecretTensor]) -> Callable[..., SecretTensor]:
    """A handler whose result is computed when it is needed, if one of the operands waits."""

    @wraps(handler)
    def waiting(func: Any, *args: Any, **kwargs: Any) -> SecretTensor:
        found = [x for x in args if waits(x)]
        depth = 1 + max((x._share.depth for x in found if isinstance(x._share, Once)), default=0)
        if not found or depth > DEEPEST:
            return handler(func, *args, **kwargs)
        known = [] if kwargs else [x._share.after(func, args) for x in found if isinstance(x._share, Once)]
        after = next((a for a in known if a is not None), Once)
        if isinstance(after, SecretTensor):
            return after
        operands = [held(x) for x in args]
        shape, dtype = _result(func, tuple(map(_kind, args)), tuple((k, _kind(x)) for k, x in kwargs.items()))
        value = after(lambda: handler(func, *operands, **kwargs).share, depth)
        return SecretTensor(value, dtype, protocol=found[0]._protocol, shape=shape)

    return waiting


Kind = tuple[Any, Any]
"""Of an argument: shape and dtype of a tensor, or the type of anything else and what it is."""


def _kind(x: Any) -> Kind:
    if isinstance(x, Tensor):
        return x.shape, x.dtype
    if type(x) is float:
        return float, 1.0  # which one it is decides nothing
    return type(x), tuple(x) if isinstance(x, list) else x


@lru_cache(maxsize=1024)
def _result(func: Any, args: tuple[Kind, ...], kwargs: tuple[tuple[str, Kind], ...]) -> tuple[torch.Size, torch.dtype]:
    """Shape and dtype of what an operator makes of arguments of these kinds."""
    like = func(*map(_without_values, args), **{k: _without_values(x) for k, x in kwargs})
    return like.shape, like.dtype


def _without_values(kind: Kind) -> Any:
    first, second = kind
    return torch.empty(first, dtype=second, device="meta") if isinstance(first, torch.Size) else second
