"""All that a step reads, which is known before it runs, and is read again before each call.

A step is compiled only where its whole program is of a kind that can be proved (see `program`); what that program reads
is listed here: names, attributes, numbers, modules, optimizers. A call asks whether each of them is what it was.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType, ModuleType
from typing import Any
from weakref import ReferenceType

import torch
from torch import Tensor, nn

from tacit.errors import NotReplayed, Unsteady
from tacit.replay.allowed import CONTAINERS, FUNCTIONAL, LAYERS, OPTIMIZERS, of_a_library
from tacit.replay.numbers import MOST_STEPS
from tacit.tensor import SecretTensor

__all__ = ["PLAIN", "World", "is_plain"]

PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.Size})
"""Classes of values that never change, and are compared by value."""

_GONE = object()

_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs"),
)
_OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")

_STANDARD = frozenset(vars(nn.Module()))
_FLAT = ("_flat_weights", "_flat_weight_refs")

_CALLED = frozenset(
    {"forward", "__call__", "_call_impl", "_wrapped_call_impl", "__getattr__", "step", "zero_grad", "_init_group"}
    | {"__getitem__", "__iter__", "__getattribute__", "__setattr__"}
    | {"check_forward_args", "check_input", "check_hidden_size", "get_expected_hidden_size", "permute_hidden"}
    | {"_update_flat_weights", "_weights_have_changed", "_init_flat_weights", "flatten_parameters"}
)

_PYTORCH_S = {
    kind: {key: x for key, x in vars(kind).items() if key in _CALLED}
    for kind in (*LAYERS, *CONTAINERS, *OPTIMIZERS, nn.RNNBase, nn.RNNCellBase, nn.Module)
}
"""What of these classes is called, as it was when Tacit was imported: a patched one is another."""


def is_plain(x: Any) -> bool:
    """Whether a value can never change."""
    return type(x) in PLAIN or (type(x) is tuple and all(map(is_plain, x)))


def alike(now: Any, before: Any) -> bool:
    """The same object, or an equal plain value."""
    if now is before:
        return True
    if type(now) is not type(before):
        return False
    if type(now) is tuple:
        return len(now) == len(before) and all(map(alike, now, before))
    if type(now) is float:  # there are two zeros, and NaN is not what it is
        return bool(now.hex() == before.hex())
    return type(now) in PLAIN and (repr(now) == repr(before) if type(now) is complex else bool(now == before))


class World:
    """What a step reads."""

    def __init__(self) -> None:
        self._guards: list[tuple[str, Callable[[], Any], Any]] = []
        functions = vars(nn.functional)
        self._guards.append(("torch.nn.functional", lambda: tuple(map(functions.get, FUNCTIONAL)), None))
        self._guards = [(name, look, look()) for name, look, _ in self._guards]
        self._seen: dict[int, Any] = {}
        self._places: set[Any] = set()
        self.secrets: list[SecretTensor] = []
        """Parameters, and other secrets, each once."""
        self.averages: dict[int, SecretTensor] = {}
        """Those of them that an optimizer keeps."""
        self.goes_back = False
        """Whether it asks for gradients."""
        self._dropped: set[int] = set()
        """Parameters whose gradients it drops by `zero_grad()`."""
        self.counters: list[Tensor] = []
        """Public tensors in which optimizers count their steps."""
        self._scheduled: list[torch.optim.Optimizer] = []
        """Optimizers whose `step` a schedule wraps."""
        self._waits = ""
        """The name of an optimizer that has yet to make what it keeps."""

    def changed(self) -> str:
        """What is not as it was, in words; empty if all of it is."""
        for name, read, before in self._guards:
            try:
                same = alike(read(), before)
            except Exception:
                return name
            if not same:
                return name
        return ""

    def read(self, name: str, read: Callable[[], Any], place: Any = None) -> Any:
        """Read something now, and again before each call. It is one of `place`, if that is given, so asked for once."""
        found = read()
        if place is None or place not in self._places:
            self._places.add(place)
            self._guards.append((name, read, found))
        return found

    def sums(self) -> list[SecretTensor]:
        """Gradients that are there, to which a step may add."""
        if not self.goes_back:
            return []
        found = [x.grad for x in self.secrets if x.requires_grad and x.grad is not None and id(x) not in self._dropped]
        if any(type(g) is not SecretTensor or g.requires_grad or not g.is_leaf for g in found):
            raise Unsteady("gradients go through those that it adds to, or they are public")
        return found  # type: ignore[return-value]

    def drops(self, opt: torch.optim.Optimizer) -> None:
        """Say that it drops the gradients of an optimizer's parameters."""
        self._dropped.update(id(p) for group in opt.param_groups for p in group["params"])

    def counted(self) -> tuple[float, ...]:
        """By how much counters are ahead of one another. Raises `Unsteady` where steps cannot be followed."""
        if self._waits:
            raise Unsteady(f"{self._waits} has not stepped before")
        counts = [float(t) for t in self.counters]
        if any(not (0 <= count < MOST_STEPS and count.is_integer()) for count in counts):
            raise Unsteady("an optimizer counts its steps by no whole number, or has counted too many")
        return tuple(count - counts[0] for count in counts)

    def note_called(self) -> None:
        """Say that schedules have seen their optimizers step."""
        for opt in self._scheduled:
            opt._opt_called = True  # type: ignore[attr-defined]

    # --- where names stand --------------------------------------------------------------------------------------------

    def name(self, function: FunctionType, name: str) -> Any:
        """What a name that is not local stands for in a function."""
        code = function.__code__
        if name in code.co_freevars:
            cell = (function.__closure__ or ())[code.co_freevars.index(name)]
            return self.read(name, lambda: cell.cell_contents, (id(cell), self.keep(cell)))
        space, built_in = function.__globals__, vars(builtins)

        def look() -> Any:
            return space.get(name, built_in.get(name, _GONE))

        if space.get("__builtins__") not in (builtins, built_in):
            raise NotReplayed(f"{function.__name__} has other built-in functions")
        found = self.read(name, look, (id(space), name, self.keep(space)))
        if found is _GONE:
            raise NotReplayed(f"{name} is not to be found")
        return found

    def keep(self, x: Any) -> bool:
        """Keep an object, so that its id stays its own."""
        self._seen[id(x)] = x
        return True

    def of_module(self, module: ModuleType, name: str, path: str) -> Any:
        """An attribute of a Python module."""
        return self.read(path, lambda: vars(module).get(name, _GONE), (id(module), name, self.keep(module)))

    def defaults(self, function: FunctionType) -> None:
        """The code and the defaults of a function."""

        def look() -> Any:
            more = function.__kwdefaults__ or {}
            return function.__code__, function.__defaults__, tuple(more), tuple(more.values())

        name = function.__name__
        found = self.read(f"a default of {name}", look, (id(function), self.keep(function)))
        if not is_plain(found[1:]):
            raise NotReplayed(f"a default of {name} is not a number or a string")

    # --- secrets, modules, optimizers ---------------------------------------------------------------------------------

    def tensor(self, x: Tensor, name: str) -> None:
        """A tensor that a step reads."""
        if type(x) is not SecretTensor:
            raise NotReplayed(f"{name} is a public tensor: share it, or its module, or write numbers")
        if id(x) in self._seen:
            return
        self.keep(x)
        self.secrets.append(x)
        self.read(f"{name}, or a hook of it,", lambda: _tensor_row(x))
        if x._backward_hooks or x._post_accumulate_grad_hooks:
            raise NotReplayed(f"{name} has a hook")
        if not x.is_leaf:
            raise NotReplayed(f"gradients go on from {name}: it was made of others, give it as an argument, detached")

    def module(self, m: nn.Module, name: str) -> None:
        """A module, which is called or asked for a part of it. Its class is PyTorch's, or the caller looks at it."""
        if id(m) in self._seen:
            return
        self.keep(m)
        kind = type(m)
        row = self.read(f"{name} (its hooks, parts or parameters)", lambda: tuple(_module_row(m)))
        if any(row[2 : 2 + len(_HOOKS)]):
            raise NotReplayed(f"{name} has hooks")
        if "forward" in vars(m) or m._compiled_call_impl is not None:
            raise NotReplayed(f"{name} has a forward of its own, or was compiled")
        if _patched(kind) or _patched(nn.Module):
            raise NotReplayed(f"the class of {name} is not what PyTorch has")
        self.read(f"the class of {name}", lambda: _patched(kind) or _patched(nn.Module), (kind, "patched"))
        if isinstance(m, nn.RNNBase) and m._weights_have_changed():  # as it was shared
            m._init_flat_weights()  # which is what it begins with when it is called
        if kind in LAYERS or kind in CONTAINERS:
            for key, x in vars(m).items():
                if key in _FLAT and isinstance(m, nn.RNNBase):
                    if not _of_parameters(m, x):
                        raise NotReplayed(f"{name}.{key} is not made of its parameters")
                elif key not in _STANDARD and not is_plain(_frozen(x)):
                    raise NotReplayed(f"{name}.{key} is not a number or a string")
            self.read(f"{name} (its settings)", lambda: _settings_row(m))
        for key, x in m._parameters.items():
            if x is not None:
                self.tensor(x, f"{name}.{key}")
        for key, b in m._buffers.items():
            if b is not None and (kind in LAYERS or kind in CONTAINERS):
                self.tensor(b, f"{name}.{key}")

    def optimizer(self, opt: torch.optim.Optimizer, name: str, method: str) -> None:
        """One of PyTorch's optimizers, with all that its step reads, or its zero_grad."""
        if type(opt) not in OPTIMIZERS:
            raise NotReplayed(f"{name} is a {type(opt).__name__}: SGD, Adam and AdamW are known")
        if method in vars(opt):
            if method != "step" or not _by_a_schedule(vars(opt)["step"], opt):
                raise NotReplayed(f"{name}.{method} is not PyTorch's")
            self._scheduled.append(opt)
            self.read(f"{name}.step", lambda: vars(opt).get("step"))
        if (id(opt), method) in self._places:
            return
        self._places.add((id(opt), method))
        self.keep(opt)
        kind = type(opt)
        row = self.read(f"{name} (its hooks)", lambda: tuple(_optimizer_row(opt, method)))
        if any(row[2 : 2 + len(_OPTIMIZER_HOOKS)]):
            raise NotReplayed(f"{name} has hooks")
        if _patched(kind):
            raise NotReplayed(f"the class of {name} is not what PyTorch has")
        self.read(f"the class of {name}", lambda: _patched(kind), (kind, "patched"))
        for k, group in enumerate(opt.param_groups):
            if type(group) is not dict:
                raise NotReplayed(f"{name}.param_groups[{k}] is a {type(group).__name__}")
            values = {key: x for key, x in group.items() if key != "params" and method == "step"}
            for key, x in values.items():
                if not is_plain(_frozen(x)):
                    raise NotReplayed(f"{name}.param_groups[{k}][{key!r}] is a {type(x).__name__}: give it as a number")
                followed = key == "lr" and type(x) is float and not group.get("decoupled_weight_decay")
                look = _kind_of_rate if followed else _of_a_group
                self.read(f"{name}.param_groups[{k}][{key!r}]", partial(look, group, key))
            if any(values.get(key) for key in ("differentiable", "capturable", "fused")):
                raise NotReplayed(f"{name} is differentiable, capturable or fused")
            for n, p in enumerate(group["params"]):
                self.tensor(p, f"{name}.param_groups[{k}]['params'][{n}]")
        if method == "step":
            self._kept(opt, name)

    def _kept(self, opt: torch.optim.Optimizer, name: str) -> None:
        """What an optimizer keeps of each parameter: averages, which are secret, and how many steps it has taken."""
        parameters = [p for group in opt.param_groups for p in group["params"]]
        self.read(f"what {name} keeps", lambda: tuple(x for p in parameters for x in _kept_row(opt, p)))
        states = [opt.state.get(p) or {} for p in parameters]
        keeps = [bool(g.get("momentum")) or "betas" in g for g in opt.param_groups]
        if any(keeps) and not any(states):
            self._waits = name
        for state in states:
            for key, x in state.items():
                if type(x) is SecretTensor:
                    self.tensor(x, f"{name}.state[…][{key!r}]")
                    self.averages[id(x)] = x
                elif key == "step" and type(x) is Tensor and x.shape == () and x.dtype == torch.float32:
                    # two optimizers may have one, of a state that was loaded
                    if all(x is not t for t in self.counters):
                        self.counters.append(x)
                elif x is not None:
                    raise NotReplayed(f"{name}.state[…][{key!r}] is a {type(x).__name__}")


def _tensor_row(x: SecretTensor) -> Any:
    return (
        *(x.requires_grad, x.is_leaf, not x._backward_hooks),
        *(not x._post_accumulate_grad_hooks, *sorted(vars(x))),
    )


def _module_row(m: nn.Module) -> Iterator[Any]:
    kind = type(m)
    yield from (kind, kind.forward)
    for name in _HOOKS:
        yield len(getattr(m, name))
    yield from (m.training, "forward" in vars(m), m._compiled_call_impl is None, type(m._modules) is dict)
    for part in (m._parameters, m._buffers, m._modules):
        yield from part.keys()
        yield from part.values()


def _of_parameters(m: nn.RNNBase, kept: list[Any]) -> bool:
    """Whether a recurrent layer keeps its own parameters, or references to them, under their names."""
    now = [x() if isinstance(x, ReferenceType) else x for x in kept]
    names = m._flat_weights_names
    return len(now) == len(names) and all(x is m._parameters.get(n) for x, n in zip(now, names, strict=True))


def _settings_row(m: nn.Module) -> Any:
    return tuple((key, _frozen(x)) for key, x in vars(m).items() if key not in _STANDARD)


def _optimizer_row(opt: torch.optim.Optimizer, method: str) -> Iterator[Any]:
    yield from (type(opt), type(opt.state))
    for name in _OPTIMIZER_HOOKS:
        yield len(getattr(opt, name))
    yield from (method in vars(opt), type(opt.param_groups), len(opt.param_groups))
    for group in opt.param_groups:
        yield from (group, type(group["params"]), *group.keys(), *group["params"])


def _kept_row(opt: torch.optim.Optimizer, p: Tensor) -> Iterator[Any]:
    state = opt.state.get(p)
    yield type(state)
    if state is not None:
        yield from state.keys()
        yield from state.values()


def _by_a_schedule(step: Any, opt: torch.optim.Optimizer) -> bool:
    """Whether it is what a learning rate's schedule puts in the place of an optimizer's step, and nothing else."""
    code = getattr(step, "__code__", None)
    plain = inspect.getattr_static(type(opt), "step")  # a class of optimizers may have that of another
    inner = inspect.unwrap(step, stop=lambda f: f is plain) if code is not None else None
    return (
        code is not None
        and code.co_filename == torch.optim.lr_scheduler.__file__
        and code.co_name == "wrapper"
        and inner is plain
    )


def _kind_of_rate(group: dict[str, Any], key: str) -> Any:
    """Of what stands in for itself at each replay: what kind of a number it is."""
    return type(group[key])


def _of_a_group(group: dict[str, Any], key: str) -> Any:
    return _frozen(group[key])


def _frozen(x: Any) -> Any:
    """Lists as tuples: they are compared by what is in them."""
    return tuple(map(_frozen, x)) if type(x) in (list, tuple) else x


def _patched(kind: type) -> bool:
    return any(
        not _one_function(vars(base).get(key), x)
        for base in kind.__mro__
        for key, x in _PYTORCH_S.get(base, {}).items()
    )


def _one_function(now: Any, before: Any) -> bool:
    """PyTorch wraps the step of a class of optimizers when it makes the first."""
    return now is before or (of_a_library(now) and inspect.unwrap(now) is inspect.unwrap(before))
