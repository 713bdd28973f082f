"""Operators in terms of others: PyTorch's own definitions, and results that are written into a tensor that is given."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table

from tacit.errors import DataError, UnsupportedOperator
from tacit.tensor.refusals import ALTERNATIVES, public_name, unsupported_operator, within
from tacit.tensor.registry import HANDLERS, LAST_RESORTS

__all__ = ["in_terms_of_others", "otherwise"]


def otherwise(func: Any, args: Any, kwargs: Any) -> Any:
    """The result of an operator without a handler."""
    try:
        return in_terms_of_others(func)(*args, **kwargs)
    except UnsupportedOperator:
        for resort in LAST_RESORTS:
            result = resort(func, args, kwargs)
            if result is not None:
                return result
        raise


@cache
def in_terms_of_others(func: Any) -> Callable[..., Any]:
    """The definition of an operator by other operators, which come back to the secret tensor one by one."""
    packet = str(func).rsplit(".", 1)[0]
    siblings = sorted(str(other) for other in HANDLERS if str(other).rsplit(".", 1)[0] == packet)
    outs = [a.name for a in func._schema.arguments if a.is_out]
    functional = _functional(func) if outs else None
    if functional is not None:
        return _into(func, functional, outs)
    functional = _of_in_place(func)
    if functional in HANDLERS:
        return _overwriting(func, functional)
    composite = func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)
    definition = func.decompose if composite else decomposition_table.get(func)
    if definition is None and functional is not None:
        return _overwriting(func, functional)
    if definition is None and (view := _view(func)) is not None:
        return _copying(view)
    if definition is None:
        raise unsupported_operator(func, siblings)

    def composed(*args: Any, **kwargs: Any) -> Any:
        try:
            return definition(*args, **kwargs)
        except UnsupportedOperator as error:  # of a part of the definition, which no program calls by its name
            raise within(func, error, siblings) from None

    return composed


# --- in place, and copies of views ------------------------------------------------------------------------------------


def _of_in_place(func: Any) -> Any:
    """`op` for `op_`, if there is one that takes the same."""
    name = func.__name__.partition(".")[0]
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if not name.endswith("__") else None
    if packet is None or not name.endswith("_") or name in ALTERNATIVES:
        return None
    wanted = [(a.name, str(a.type)) for a in func._schema.arguments]
    return next((o for n in packet.overloads() if _signature(o := getattr(packet, n)) == wanted), None)


def _view(func: Any) -> Any:
    """`view` for `view_copy`."""
    name, _, overload = func.__name__.partition(".")
    packet = getattr(torch.ops.aten, name.removesuffix("_copy"), None) if name.endswith("_copy") else None
    return getattr(packet, overload, None)


def _overwriting(func: Any, functional: Any) -> Callable[..., Any]:
    def composed(target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = functional(target, *args, **kwargs)
        _check(public_name(func), target, result)
        return target.copy_(result)

    return composed


def _copying(view: Any) -> Callable[..., Any]:
    def composed(*args: Any, **kwargs: Any) -> Any:
        result = view(*args, **kwargs)
        return [part.clone() for part in result] if isinstance(result, (tuple, list)) else result.clone()

    return composed


# --- out=… ------------------------------------------------------------------------------------------------------------


def _functional(func: Any) -> Any:
    """The overload that returns what `func` writes into its `out`; None if there is none."""
    wanted = _signature(func)
    packet = getattr(torch.ops.aten, func.__name__.partition(".")[0])
    overloads = [getattr(packet, name) for name in packet.overloads()]
    return next((other for other in overloads if other is not func and _signature(other) == wanted), None)


def _signature(func: Any) -> list[Any] | None:
    """Names and types of the arguments but for the outs; None for what writes into another of its arguments."""
    arguments = func._schema.arguments
    if any(a.alias_info is not None and a.alias_info.is_write and not a.is_out for a in arguments):
        return None
    return [(a.name, str(a.type)) for a in arguments if not a.is_out]


def _into(func: Any, functional: Any, outs: list[str]) -> Callable[..., Any]:
    """`functional`, and its results written into the tensors given as `out`."""

    def composed(*args: Any, **kwargs: Any) -> Any:
        targets = [kwargs.pop(name) for name in outs]
        results = functional(*args, **kwargs)
        pairs = list(zip(targets, results if isinstance(results, (tuple, list)) else [results], strict=True))
        for target, result in pairs:
            _check(public_name(func), target, result)
        for target, result in pairs:
            target.copy_(result)
        return tuple(targets) if len(targets) > 1 else targets[0]

    return composed


def _check(name: str, target: Tensor, result: Tensor) -> None:
    """Refuse what PyTorch refuses, and to resize `out`, of which it warns."""
    if target.shape != result.shape:
        raise DataError(
            f"{name} into shape {tuple(target.shape)}: its result has shape {tuple(result.shape)}; make the target "
            f"with torch.zeros_like of a secret of that shape"
        )
    if not torch.can_cast(result.dtype, target.dtype):
        raise DataError(f"{name} into dtype {target.dtype}: its result has dtype {result.dtype}")
