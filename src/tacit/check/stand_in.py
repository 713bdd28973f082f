"""Going on past an operator that secrets do not have: its result's shape and dtype, with zeros inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map, tree_map_only

from tacit.check.report import Unsupported
from tacit.errors import TacitError, UnsupportedOperator
from tacit.protocols.protocol import Protocol
from tacit.protocols.values import Value
from tacit.session.ledger import source_line
from tacit.tensor import SecretTensor
from tacit.tensor.refusals import public_name, unsupported
from tacit.tensor.registry import HANDLERS
from tacit.watch.place import Lines, Modules

__all__ = ["StandIns", "zeros"]


class StandIns(TorchDispatchMode):
    """Collects what is unsupported, and lets the program go on with a secret of zeros in place of each result."""

    def __init__(self, protocol: Protocol, modules: Modules) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[Unsupported, None] = {}
        self._protocol = protocol
        self._modules = modules
        self._lines = Lines()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(issubclass(kind, SecretTensor) for kind in types):
            return func(*args, **kwargs)
        line = self._lines.now()
        if any(x.is_complex() for x in _secrets(args, kwargs)):  # it follows from what has been found before
            return self._stand_in(func, args, kwargs)
        try:
            if any(isinstance(x, torch.dtype) and x.is_complex for x in _leaves(args, kwargs)):
                raise unsupported("a complex dtype", "keep the real and the imaginary part as two tensors")
            return func(*args, **kwargs)
        except (TacitError, NotImplementedError) as error:
            result = self._stand_in(func, args, kwargs, error)
            name = public_name(func)
            what, instead = explained(error, source_line(), name)
            direct = func in HANDLERS and isinstance(error, UnsupportedOperator)
            if not direct and what != name:
                what, instead = name, f"it needs {what}: {instead}"
            self.found[Unsupported(what, *self._modules.now(), line, instead)] = None
            return result

    def _stand_in(self, func: Any, args: Any, kwargs: Any, cause: Exception | None = None) -> Any:
        for argument, x in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                return x
        try:
            result = _on(func, args, kwargs, _shape)
        except (NotImplementedError, RuntimeError):
            try:  # where the shape depends on the values, there is none without
                result = _on(func, args, kwargs, _some_values)
            except (NotImplementedError, RuntimeError, ValueError, IndexError):
                if cause is None:
                    raise
                raise cause from None
        return tree_map_only(Tensor, lambda t: zeros(self._protocol, t), result)


def zeros(protocol: Protocol, like: Tensor) -> SecretTensor:
    """A secret of a tensor's shape and dtype that looks as if it came from somebody: its zeros count as unknown."""
    ring = torch.zeros(like.shape, dtype=torch.uint8 if like.dtype == torch.bool else torch.int64)
    share: Value
    if like.dtype == torch.bool:
        share = protocol.public_bits(ring)
    else:
        share = protocol.public(ring, 0 if not like.dtype.is_floating_point else protocol.frac_bits)
    return SecretTensor(share, like.dtype)


def explained(error: Exception, line: str, otherwise: str) -> tuple[str, str]:
    """What does not work and what to write instead, out of an error's sentence about a line."""
    if isinstance(error, UnsupportedOperator) and error.what:
        return error.what, error.instead
    what, found, rest = str(error).partition(f" ({line})")
    if not found:
        return otherwise, str(error)
    return what.removesuffix(" would turn a secret into a plain value"), rest.removeprefix(": ")


def _on(func: Any, args: Any, kwargs: Any, plain: Callable[[Tensor], Tensor]) -> Any:
    """Run the operator on plain tensors, on one device."""
    args, kwargs = tree_map_only(Tensor, plain, (args, kwargs))
    device = next(x.device for x in _leaves(args, kwargs) if isinstance(x, Tensor))
    kwargs = tree_map_only(torch.device, lambda _: device, kwargs)
    return func(*args, **kwargs)


def _shape(x: Tensor) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _some_values(x: Tensor) -> Tensor:
    """Ones, and zeros where they may be positions."""
    if not isinstance(x, SecretTensor):
        return x
    fill = 1 if x.dtype.is_floating_point or x.dtype == torch.bool else 0
    return torch.full(tuple(x.shape), fill, dtype=x.dtype)


def _secrets(args: Any, kwargs: Any) -> list[SecretTensor]:
    return [x for x in _leaves(args, kwargs) if isinstance(x, SecretTensor)]


def _leaves(args: Any, kwargs: Any) -> list[Any]:
    found: list[Any] = []
    tree_map(found.append, (args, kwargs))
    return found
