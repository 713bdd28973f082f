"""Operators that overwrite their first operand: the functional one, followed by a write."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.tensor import SecretTensor
from tacit.tensor.operands import write
from tacit.tensor.refusals import no_place_for_a_secret, public_name
from tacit.tensor.registry import HANDLERS, implements

__all__ = ["complete"]

aten = torch.ops.aten


def in_place(overload: Any, functional: Any) -> None:
    """Register `op_` as `op` followed by a write."""

    def handler(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not isinstance(x, SecretTensor):
            raise no_place_for_a_secret(f"{public_name(func)} would write a secret into a plain tensor")
        result = HANDLERS[functional](functional, x, *args, **kwargs)
        if result.shape != x.shape:
            shapes = f"{tuple(result.shape)} and does not fit into {tuple(x.shape)}"
            raise DataError(f"{public_name(func)}: the result has shape {shapes}")
        if not torch.can_cast(result.dtype, x.dtype):
            raise DataError(
                f"{public_name(func)}: the result has dtype {result.dtype} and cannot be written to {x.dtype}"
            )
        write(x, result)
        return x

    implements(overload)(handler)


def in_place_view(overload: Any, functional: Any) -> None:
    """Register `view_` as `view` of the share, and the same change of shape of the tensor that wraps it."""

    def handler(func: Any, x: SecretTensor, *args: Any, **kwargs: Any) -> SecretTensor:
        x._share = HANDLERS[functional](functional, x, *args, **kwargs)._share
        with torch._C._DisableTorchDispatch():  # the wrapper has no values, only sizes and strides to change
            func(x, *args, **kwargs)
        x._kind = x.shape, x.stride(), x.dtype
        return x

    implements(overload)(handler)


def complete() -> None:
    """Give every functional operator with a handler its in-place twin, where PyTorch has one without a handler.

    To be called once, when all families are there; what it adds follows from the table alone.
    """
    for overload in list(HANDLERS):
        twin = NAMED_OTHERWISE.get(overload) or _twin(overload)
        if twin is not None and twin not in HANDLERS and twin._schema.arguments[0].alias_info is not None:
            (in_place_view if torch.Tag.inplace_view in twin.tags else in_place)(twin, overload)


NAMED_OTHERWISE = {aten.pow.Tensor_Scalar: aten.pow_.Scalar, aten.transpose.int: aten.transpose_.default}
"""Twins whose overload has another name."""


def _twin(overload: Any) -> Any:
    name, _, kind = overload.__name__.partition(".")
    packet = getattr(aten, f"{name}_", None)
    return None if packet is None else getattr(packet, kind, None)
