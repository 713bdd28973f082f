"""What a check runs, on secrets or on plain values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

import tacit.api as api
from tacit.check.stand_in import zeros
from tacit.errors import DataError
from tacit.protocols.number import Number
from tacit.protocols.protocol import Protocol
from tacit.tensor import SecretTensor

__all__ = ["Loss", "MakeOptimizer", "Program", "prepared", "real"]

Loss = Callable[..., Tensor]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True, slots=True)
class Program:
    """What a check runs."""

    module: nn.Module
    inputs: Sequence[Any]
    kwargs: Mapping[str, Any]
    public_module: bool
    public_inputs: frozenset[int | str]
    train: bool
    loss: Loss | None
    target: Any
    optimizer: MakeOptimizer | None


def prepared(program: Program, protocol: Protocol | None) -> Callable[[], None]:
    """Share everything, or nothing without a protocol, and return what is left to do."""
    module = _with_values(program.module)
    public = program.public_module or protocol is None
    module = (module if public or protocol is None else _shared(protocol, module)).train(program.train)
    inputs = [_input(protocol, x, k in program.public_inputs) for k, x in enumerate(program.inputs)]
    kwargs = {name: _input(protocol, x, name in program.public_inputs) for name, x in program.kwargs.items()}
    targets = [] if program.target is None else [_input(protocol, program.target, "target" in program.public_inputs)]
    optimizer = None if program.optimizer is None else program.optimizer(module.parameters())

    def run() -> None:
        if not program.train:
            with torch.no_grad():
                module(*inputs, **kwargs)
            return
        output = module(*inputs, **kwargs)
        scalar = _sum(output) if program.loss is None else program.loss(output, *targets)
        scalar.backward()
        if optimizer is not None:
            optimizer.step()

    return run


def _with_values(module: nn.Module) -> nn.Module:
    """A copy of the module in which tensors without plain values have some."""
    memo: dict[int, Any] = {}
    tensors = (*module.parameters(), *module.buffers())  # kept, so that none is made where another one was
    for tensor in tensors:
        if tensor.is_meta or isinstance(tensor, SecretTensor):
            value = _filled(tensor.shape, tensor.dtype)
            is_parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(value, requires_grad=tensor.requires_grad) if is_parameter else value
    return copy.deepcopy(module, memo)


def _filled(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Values for a tensor that has none; a public fraction costs a truncation, so they are no whole numbers."""
    return torch.full(tuple(shape), 1 / 3 if dtype.is_floating_point else 0, dtype=dtype)


def _input(protocol: Protocol | None, x: Any, public: bool) -> Any:
    """An input as the module will get it; tensors in lists and dictionaries, too."""
    if isinstance(x, tuple) and x and all(type(n) is int for n in x):
        x = torch.empty(x, device="meta")
    if not isinstance(x, Tensor):
        return x if not any(isinstance(t, Tensor) for t in tree_leaves(x)) else _nested(protocol, x, public)
    valued = _valued(x)
    if public or protocol is None:
        return x if valued else _filled(x.shape, x.dtype).requires_grad_(x.requires_grad)
    if valued:
        return _of_nobody(protocol, api.share(x))
    out = zeros(protocol, x)
    out.share.storage.lasting = True
    return _of_nobody(protocol, out).requires_grad_(x.requires_grad)


def _of_nobody(protocol: Protocol, x: SecretTensor) -> SecretTensor:
    """The same secret, known to no party: what one of two parties knows is cheap where nobody helps, or free."""
    held = x.share
    if protocol.scheme.helpers or not protocol.scheme.networked or not isinstance(held, Number):
        return x
    scale = held.scale
    parts = protocol.refresh(held)
    number = protocol.adopt(
        parts, held.shape, scale.frac_bits, headroom=scale.headroom, precise=scale.precise, lasting=True
    )
    number.facts.within = held.facts.within
    out = SecretTensor(number, x.dtype)
    out.requires_grad_(x.requires_grad)
    return out


def _shared(protocol: Protocol, module: nn.Module) -> nn.Module:
    """A module of secrets that no party knows; one that has a parameter twice has it twice again."""
    secret = api.share(module)
    if protocol.scheme.helpers or not protocol.scheme.networked:
        return secret
    again: dict[int, Tensor] = {}
    state = secret.state_dict(keep_vars=True)
    for value in state.values():
        if isinstance(value, SecretTensor) and id(value) not in again:
            with torch.no_grad():
                out = _of_nobody(protocol, value.detach())  # type: ignore[arg-type]
            parameter = isinstance(value, nn.Parameter)
            again[id(value)] = nn.Parameter(out, requires_grad=value.requires_grad) if parameter else out
    secret.load_state_dict({name: again.get(id(value), value) for name, value in state.items()}, assign=True)
    return secret


def _nested(protocol: Protocol | None, x: Any, public: bool) -> Any:
    return tree_map(lambda leaf: _input(protocol, leaf, public), x)


def _sum(output: Any) -> Tensor:
    """A scalar that depends on every output."""
    parts = [t.sum() for t in tree_leaves(output) if isinstance(t, Tensor) and t.requires_grad]
    if not parts:
        raise DataError("tacit.check(train=True) needs an output to differentiate, or a loss")
    return torch.stack(parts).sum() if len(parts) > 1 else parts[0]


def _valued(x: Tensor) -> bool:
    return not (x.is_meta or isinstance(x, SecretTensor))


def real(program: Program) -> bool:
    """Whether all inputs and parameters have values."""
    inputs = [*program.inputs, *program.kwargs.values(), *([] if program.target is None else [program.target])]
    shapes = any(isinstance(x, tuple) and x and all(type(n) is int for n in x) for x in inputs)
    tensors = [x for x in tree_leaves(inputs) if isinstance(x, Tensor)]
    return not shapes and bool(tensors) and all(map(_valued, [*tensors, *program.module.parameters()]))
