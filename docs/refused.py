"""What PyTorch itself says that it refuses: the error samples of its operators (`op_db`) and modules (`module_db`).

What plain PyTorch refuses, a secret has to refuse. Each case is run with everything secret that can be, and again with
one of its tensors secret and the others public.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

import tacit
from tacit.watch.claims import CLAIMS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

__all__ = ["Refused", "all_cases", "module_cases", "mutants", "operator_cases", "outcomes", "raised", "summary"]

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
            samples = list(info.error_inputs_func(info, "cpu"))  # without a look at the stack for each
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
        args, kwargs = tree_unflatten(filled, spec)
        return function(*args, **kwargs)

    tensors = [flat[k] for k in places]
    error = raised(lambda: call(*(_copy(x) for x in tensors)))
    return None if error is None or not tensors else Refused(name, call, tensors, type(error))


def _copy(x: Tensor) -> Tensor:
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


def mutants(name: str, samples: int, largest: int = 200) -> Iterator[Refused]:
    """Samples of an operator with one thing changed: a dtype, a dimension, a number; those that PyTorch refuses."""
    for info in op_db:
        if info.name == name and info.supports_dtype(torch.float32, "cpu"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                drawn = info.sample_inputs_func(info, "cpu", torch.float32, False)
                found = list(islice((s for s in drawn if _size((s.input, s.args)) < largest), samples))
            for sample in found:
                flat, spec = tree_flatten(([sample.input, *sample.args], sample.kwargs))
                for place, x in enumerate(flat):
                    for y in _changed(x):
                        case = _case(name, info.op, tree_unflatten([*flat[:place], y, *flat[place + 1 :]], spec))
                        if case is not None:
                            yield case


def _size(arguments: Any) -> int:
    return sum(x.numel() for x in tree_flatten(arguments)[0] if isinstance(x, Tensor))


def _changed(x: Any) -> Iterator[Any]:
    if isinstance(x, Tensor):
        x = x.detach()
        for dtype in (torch.int64, torch.bool, torch.float64, torch.uint8, torch.float32):
            if dtype != x.dtype:
                yield (x.abs() if x.is_floating_point() else x).to(dtype)
        yield x.unsqueeze(0).repeat(2, *[1] * x.dim())
        for dim in range(x.dim()):
            yield torch.cat([x, x.narrow(dim, 0, min(1, x.shape[dim]))], dim)
            if x.shape[dim]:
                yield x.narrow(dim, 0, x.shape[dim] - 1)
                yield x.select(dim, 0)
    elif type(x) is int:
        yield from (y for y in (-7, -1, 0, x + 1, 7, 50) if y != x)
    elif type(x) is float:
        yield from (-1.5, 0.0, 100.0)


def masks(case: Refused) -> list[list[bool]]:
    """Which tensors are secret: all that can be, and each of them alone.

    Left out are those that PyTorch would not refuse if the secrets were zeros: whether a secret index is out of range,
    nobody can say.
    """
    can = [_can_be_secret(x) for x in case.tensors]
    found = [can] if any(can) else []
    if sum(can) > 1:
        found += [[k == place for k in range(len(can))] for place, c in enumerate(can) if c]
    return [mask for mask in found if raised(lambda mask=mask: case.call(*_made(case, mask, torch.zeros_like)))]


def outcomes(case: Refused) -> list[tuple[str, BaseException | None]]:
    """What is raised with some of the tensors secret."""
    found = []
    for mask in masks(case):
        if not all(_holds_numbers(x) for x, secret in zip(case.tensors, mask, strict=True) if secret):
            continue
        tensors = _made(case, mask, lambda x: tacit.share(_copy(x)))
        how = ", ".join("secret" if secret else "public" for secret in mask)
        found.append((how, raised(lambda tensors=tensors: case.call(*tensors))))
    return found


def _can_be_secret(x: Tensor) -> bool:
    return x.layout == torch.strided and not x.is_meta and x.dtype not in UNSHARED


def _holds_numbers(x: Tensor) -> bool:
    """Whether a tensor has numbers that a secret holds: samples may have what was in memory before."""
    return bool(x.reshape(-1).double().abs().lt(2.0**40).all())


def _made(case: Refused, mask: list[bool], secret: Callable[[Tensor], Tensor]) -> list[Tensor]:
    return [secret(x) if m else _copy(x) for x, m in zip(case.tensors, mask, strict=True)]


def all_cases() -> Iterator[Refused]:
    """All error samples of what is claimed."""
    for name in CLAIMS:
        yield from operator_cases(name)
    yield from module_cases()


def summary() -> str:
    """How much of it is walked."""
    torch.manual_seed(0)  # PyTorch draws its samples
    calls, cases, names = 0, 0, set()
    for case in all_cases():
        found = len(masks(case))
        if found:
            calls, cases = calls + found, cases + 1
            names.add(case.name)
    return (
        f"PyTorch's own error samples of {len(names)} operators and modules are walked by the tests: {cases} cases, in "
        f"{calls} calls with all of their tensors secret and with each of them alone. Every call is refused."
    )
