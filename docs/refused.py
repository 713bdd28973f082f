"""What PyTorch itself says that it refuses: the error samples of its operators (`op_db`) and modules (`module_db`).

What plain PyTorch refuses, a secret has to refuse. Each case is run with everything secret that can be, and again with
one of its tensors secret and the others public.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

import tacit
from tacit.errors import TacitError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

__all__ = ["Refused", "module_cases", "operator_cases", "outcomes", "raised"]

UNSHARED = (torch.complex64, torch.complex128, torch.half, torch.bfloat16)


class Refused(NamedTuple):
    """A call that PyTorch refuses."""

    name: str
    call: Callable[..., Any]
    """Takes the tensors."""
    tensors: list[Tensor]
    error: type[BaseException]


def raised(call: Callable[[], Any]) -> BaseException | None:
    """What a call raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except Exception as error:
            return error
    return None


def operator_cases(name: str) -> Iterator[Refused]:
    """The error samples of an operator that plain PyTorch refuses on this machine."""
    for info in op_db:
        if info.name != name or info.error_inputs_func is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            samples = list(info.error_inputs("cpu"))
        for sample in samples:
            one = sample.sample_input
            case = _case(name, info.op, ([one.input, *one.args], one.kwargs))
            if case is not None:
                yield case


def _case(name: str, function: Callable[..., Any], arguments: Any) -> Refused | None:
    flat, spec = tree_flatten(arguments)
    places = [k for k, x in enumerate(flat) if isinstance(x, Tensor)]

    def call(*tensors: Tensor) -> Any:
        filled = list(flat)
        for k, x in zip(places, tensors, strict=True):
            filled[k] = x
        args, kwargs = torch.utils._pytree.tree_unflatten(filled, spec)
        return function(*args, **kwargs)

    tensors = [flat[k] for k in places]
    error = raised(lambda: call(*(_copy(x) for x in tensors)))
    return None if error is None or not tensors else Refused(name, call, tensors, type(error))


def _copy(x: Tensor) -> Tensor:
    """A tensor of its own with the same strides, as far as elements do not overlap."""
    return x.detach().clone()


def module_cases() -> Iterator[Refused]:
    """The error samples of the forward passes of modules."""
    for info in module_db:
        if info.module_error_inputs_func is None or not issubclass(info.module_cls, nn.Module):
            continue
        for sample in info.module_error_inputs_func(info, "cpu", torch.float32, requires_grad=False, training=True):
            if sample.error_on is not ModuleErrorEnum.FORWARD_ERROR:
                continue
            made, given = sample.module_error_input.constructor_input, sample.module_error_input.forward_input
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = info.module_cls(*made.args, **made.kwargs)
            case = _case(info.name, module, (list(given.args), given.kwargs))
            if case is not None:
                yield case


def outcomes(case: Refused) -> list[tuple[str, BaseException | None]]:
    """What is raised with all tensors secret, and with each of them alone; empty if none of them can be a secret.

    Left out are those that PyTorch would not refuse if the secrets were zeros: whether a secret index is out of range,
    nobody can say.
    """
    found = []
    can = [x.layout == torch.strided and not x.is_meta and x.dtype not in UNSHARED for x in case.tensors]
    masks = [can] if any(can) else []
    if sum(can) > 1:
        masks += [[k == place for k in range(len(can))] for place, c in enumerate(can) if c]
    for mask in masks:
        pairs = list(zip(case.tensors, mask, strict=True))
        zeros = [torch.zeros_like(x) if secret else _copy(x) for x, secret in pairs]
        if raised(lambda zeros=zeros: case.call(*zeros)) is None:
            continue
        try:
            tensors = [tacit.share(_copy(x)) if secret else _copy(x) for x, secret in pairs]
        except TacitError:
            continue  # numbers that no secret holds
        how = ", ".join("secret" if secret else "public" for secret in mask)
        found.append((how, raised(lambda tensors=tensors: case.call(*tensors))))
    return found
