"""What holds many tensors: the secrets of a module, and those in dicts, lists, tuples and dataclasses.

Tensors are found by their identity, so each is kept as long as it is looked for: a `ScriptModule` makes new objects for
its parameters whenever it is asked, and the identity of one that has gone is given to the next.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from tacit.errors import DataError, RevealError
from tacit.tensor.tensor import SecretTensor

__all__ = ["labelled", "mapped", "revealed_module", "secrets_in", "shared_module"]


def labelled(*parts: str | None) -> str | None:
    """A name made of the parts that there are."""
    return ".".join(part for part in parts if part) or None


# --- modules ----------------------------------------------------------------------------------------------------------


def shared_module(
    module: nn.Module,
    name: str | None,
    share: Callable[[Tensor, str], Tensor],
    is_mask: Callable[[Tensor], bool],
    *,
    known: bool = True,
) -> nn.Module:
    """A copy of a module with secret parameters and buffers; tied parameters stay tied.

    Buffers of integers, and of infinities, which are masks, stay public. Where the values are not `known`, another
    role's, parameters may be on the meta device.

    What has been computed of parameters and is kept beside them, as the old `weight_norm` and pruning do until they
    compute it anew, is shared as well. Parameters that are secret already stay the secrets they are.
    """
    given = {place: tensor for place, _, _, tensor in _places(module)}
    for place, tensor in given.items():
        _check_shareable(labelled(name, place) or "a parameter", tensor, known)
    derived = _derived(module)  # PyTorch copies no results
    memo: dict[int, Any] = {id(t): t.detach().clone() for part in module.modules() for t in _results(part)}
    for tensor in given.values():  # of a parameter that is hidden below, nobody needs a copy
        if isinstance(tensor, nn.Parameter) and tensor.dtype.is_floating_point and not isinstance(tensor, SecretTensor):
            memo[id(tensor)] = tensor
    out = copy.deepcopy(module, memo)
    done: dict[int, tuple[Tensor, Tensor]] = {}

    def hidden(place: str, tensor: Tensor) -> Tensor:
        if id(tensor) not in done:
            shared = share(tensor.detach(), labelled(name, place) or "a parameter")
            done[id(tensor)] = tensor, _alike(shared, given.get(place))  # a ScriptModule's copy knows no parameters
        return done[id(tensor)][1]

    for place, kind, key, tensor in _places(out):
        if not tensor.dtype.is_floating_point or isinstance(tensor, SecretTensor):
            continue
        if isinstance(given[place], nn.Parameter) or not is_mask(tensor):
            kind[key] = hidden(place, tensor)
    for prefix, key in derived:
        kept = vars(out.get_submodule(prefix))
        if kept[key].dtype.is_floating_point and not isinstance(kept[key], SecretTensor):
            kept[key] = hidden(labelled(prefix, key) or key, kept[key])
    return out


def revealed_module(module: nn.Module, name: str | None, reveal: Callable[[Tensor, str | None], Any]) -> Any:
    """A plain copy of a module with secrets, or None where they are not revealed."""
    memo: dict[int, Any] = {}
    values: dict[str, Tensor] = {}
    received = True
    for place, tensor in _secrets(module):
        if id(tensor) not in memo:
            value = reveal(tensor.detach(), labelled(name, place))
            received = received and value is not None
            memo[id(tensor)] = value if value is None else _alike(value, tensor)
        values[place] = memo[id(tensor)]
    if not received:
        return None
    memo |= {id(t): t.detach().clone() for p in module.modules() for t in _results(p) if id(t) not in memo}
    out = copy.deepcopy(module, memo)
    for place, kind, key, copied in _places(out):  # a ScriptModule copies its tensors by itself
        if isinstance(copied, SecretTensor):
            kind[key] = values[place]
    return out


def _secrets(module: nn.Module) -> list[tuple[str, SecretTensor]]:
    """The secrets of a module, tied ones at each place, and then what has been computed of them."""
    found = [(place, t) for place, _, _, t in _places(module)]
    for prefix, key in _derived(module):
        found.append((labelled(prefix, key) or key, vars(module.get_submodule(prefix))[key]))
    return [(place, t) for place, t in found if isinstance(t, SecretTensor)]


def _alike(value: Tensor, original: Tensor | None) -> Tensor:
    """A value as a parameter, if it takes the place of one."""
    if original is None or not original.is_leaf:
        return value
    if isinstance(original, nn.Parameter):
        return nn.Parameter(value, requires_grad=original.requires_grad)
    return value.requires_grad_(original.requires_grad)


def _places(module: nn.Module) -> list[tuple[str, Any, str, Tensor]]:
    """Parameters and buffers, tied ones at each place: their qualified names, the dicts and keys they are under."""
    return [
        (labelled(prefix, key) or key, kind, key, tensor)
        for prefix, part in module.named_modules()
        for kind in (part._parameters, part._buffers)
        for key, tensor in list(kind.items())
        if tensor is not None
    ]


def _derived(module: nn.Module) -> list[tuple[str, str]]:
    """The attributes that are results of autograd: the submodule and the key of each."""
    return [
        (prefix, key)
        for prefix, part in module.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, Tensor) and value.grad_fn is not None
    ]


def _results(part: nn.Module) -> Iterator[Tensor]:
    """Results of autograd among a module's attributes, in lists and dicts too."""
    kept = {key: value for key, value in vars(part).items() if not key.startswith("_") or key == "_flat_weights"}
    return (t for t in tree_leaves(kept) if isinstance(t, Tensor) and t.grad_fn is not None)


def _check_shareable(name: str, tensor: Tensor, known: bool) -> None:
    if is_lazy(tensor):
        raise DataError(f"{name} has no shape yet: run the module once on plain tensors of the right shape, then share")
    if tensor.is_complex():
        raise DataError(f"{name} is {tensor.dtype}, and secrets are real: keep its real and its imaginary part")
    if tensor.is_meta and not known and not isinstance(tensor, nn.Parameter):
        raise DataError(
            f"{name} is on the meta device, where only parameters may be, not buffers: some of these are public, such "
            "as masks, so every role needs them; make it on the CPU"
        )
    if tensor.is_meta and known:
        raise DataError(f"{name} is on the meta device and has no values: write module.to_empty(device='cpu') first")


# --- dicts, lists, tuples and dataclasses -----------------------------------------------------------------------------


def secrets_in(x: Any, name: str | None = None) -> list[tuple[str | None, SecretTensor]]:
    """The secrets in a structure, and in the modules in it, in their order, each by the way to it."""
    if isinstance(x, SecretTensor):
        return [(name, x)]
    if isinstance(x, nn.Module):
        return [(labelled(name, place), t) for place, t in _secrets(x)]
    return [found for key, value in _entries(x) for found in secrets_in(value, labelled(name, str(key)))]


def mapped(x: Any, name: str | None, change: Callable[[Any, str | None], Any]) -> Any:
    """The same structure, of the same types, with `change` made to its secrets and modules; all else stays."""
    if isinstance(x, (SecretTensor, nn.Module)):
        return change(x, name)
    changed = {key: mapped(value, labelled(name, str(key)), change) for key, value in _entries(x)}
    if isinstance(x, Mapping):
        items: Any = copy.copy(x)
        for key, value in changed.items():
            items[key] = value
        return items
    if isinstance(x, tuple):
        return type(x)._make(changed.values()) if hasattr(x, "_make") else tuple(changed.values())
    if isinstance(x, list):
        return list(changed.values())
    if is_dataclass(x) and not isinstance(x, type):
        out = copy.copy(x)
        for key, value in changed.items():
            object.__setattr__(out, key, value)
        return out
    return x


def _entries(x: Any) -> list[tuple[Any, Any]]:
    if isinstance(x, Mapping):
        return list(x.items())
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return list(zip(x._fields, x, strict=True))
    if isinstance(x, (list, tuple)):
        return list(enumerate(x))
    if is_dataclass(x) and not isinstance(x, type):
        return [(field.name, getattr(x, field.name)) for field in fields(x)]
    if isinstance(x, (set, frozenset, Iterator)):
        raise RevealError(f"tacit.reveal takes lists, tuples, dicts and dataclasses, not a {type(x).__name__}")
    return []
