"""What a function reads beside its arguments, as far as Python can tell: found once, and looked at before each replay.

A tape holds what was true when it was recorded. So all that the function can reach (closure, globals that it names, the
modules, optimizers, lists and objects behind them) is walked once and compared each time, by identity or by value. What
cannot be watched (files, clocks, generators, objects without a `__dict__`) is refused: better no tape than a stale one.
"""

from __future__ import annotations

import builtins
import dis
import functools
import site
import sys
import sysconfig
import types
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from operator import is_
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim

from tacit.errors import NotReplayed
from tacit.tensor import SecretTensor

__all__ = ["Watched"]

PLAIN = frozenset(
    {type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, torch.layout}
    | {torch.memory_format, type(Ellipsis), type(NotImplemented), range, slice}
)
"""Values that do not change, and are compared as they are."""

HARMLESS = frozenset({"torch", "tacit", "math", "typing", "functools", "itertools", "operator", "enum"})
"""Modules whose functions do the same for the same arguments, but for random numbers, which a recording notices."""

BUILTINS = frozenset(
    {"len", "range", "zip", "enumerate", "isinstance", "issubclass", "float", "int", "bool", "str", "list", "dict"}
    | {"tuple", "set", "frozenset", "sum", "min", "max", "abs", "round", "map", "filter", "sorted", "reversed", "any"}
    | {"all", "slice", "property", "staticmethod", "classmethod", "object", "callable", "divmod", "pow", "repr", "type"}
    | {"getattr", "hasattr", "super", "Exception", "ValueError", "TypeError", "RuntimeError", "KeyError", "IndexError"}
    | {"AssertionError", "AttributeError", "NotImplementedError", "StopIteration", "__build_class__", "__name__"}
)
"""Names that a function may use: what they do depends on nothing else, and changes nothing else."""

LARGEST = 1 << 16
"""Elements of a plain tensor that is compared each time. More: larger constants may be read; fewer: less time."""

MOST = 20_000
"""Things that may be watched. More: larger programs; fewer: less time a call, some 50 ns for each."""

LIBRARIES = tuple(
    str(Path(path).resolve())
    for path in (sysconfig.get_path("stdlib"), Path(torch.__file__).parent, Path(__file__).parents[1])
)
INSTALLED = tuple(str(Path(p).resolve()) for p in site.getsitepackages())

HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


class Watched:
    """All that a function reads beside its arguments, and how it was."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.secrets: list[SecretTensor] = []
        """Secrets among it: parameters, buffers, an optimizer's averages."""
        self._names: dict[int, str] = {}
        self._seen: dict[int, Any] = {}
        self._rows: list[tuple[Any, list[Any], str]] = []
        """Containers, with what was in them: compared by identity, and where that fails by value."""
        self._cells: list[tuple[Any, Any, str]] = []
        self._globals: list[tuple[dict[str, Any], str, Any]] = []
        self._kinds: list[tuple[Any, type, str]] = []
        self._plain: list[tuple[Tensor, int, Tensor, str]] = []
        self._leaves: list[tuple[Tensor, bool, str]] = []
        self._visit(function, getattr(function, "__name__", "the function"))

    # --- comparison ---------------------------------------------------------------------------------------------------

    def changed(self) -> str:
        """What is not as it was, in words; empty if all of it is."""
        for rows, before, name in self._rows:
            now = rows.values() if isinstance(rows, dict) else rows
            if len(rows) != len(before) or not all(map(is_, now, before)):
                where = _difference(rows, before)
                if where is not None:
                    return f"{name}{where}"
        for cell, before, name in self._cells:
            if _contents(cell) is not before and not _equal(_contents(cell), before):
                return name
        for scope, key, before in self._globals:
            now = scope.get(key, _GONE)
            if now is not before and not _equal(now, before):
                return key
        for thing, kind, name in self._kinds:
            if type(thing) is not kind:
                return name
        for t, requires, name in self._leaves:
            if t.requires_grad is not requires:
                return f"{name}.requires_grad"
            if any(getattr(t, hook) for hook in HOOKS):
                return f"hooks of {name}"
        for t, version, copy, name in self._plain:
            if t._version != version or t.shape != copy.shape or not torch.equal(t, copy):
                return name
        return ""

    # --- the walk -----------------------------------------------------------------------------------------------------

    def _visit(self, x: Any, name: str) -> None:
        """Watch one thing, and all behind it."""
        if type(x) in PLAIN or isinstance(x, Enum):
            return
        if id(x) in self._seen:
            return
        if len(self._seen) > MOST:
            raise NotReplayed(f"it reaches more than {MOST} objects ({name})")
        self._seen[id(x)] = x
        if isinstance(x, Tensor):
            self._tensor(x, name)
        elif isinstance(x, types.FunctionType):
            self._function(x, name)
        elif isinstance(x, types.MethodType):
            self._visit(x.__self__, name)
            self._visit(x.__func__, name)
        elif isinstance(x, functools.partial):
            for part in (x.func, list(x.args), dict(x.keywords)):
                self._visit(part, name)
        elif type(x) is weakref.ref:
            self._cells.append((x, x(), name))
            self._visit(x(), name)
        elif isinstance(x, type):
            self._class(x, name)
        elif isinstance(x, types.ModuleType):
            if x.__name__.partition(".")[0] not in HARMLESS and _of_a_library(getattr(x, "__file__", None) or ""):
                raise NotReplayed(f"it uses the module {x.__name__}, whose functions may do something else each time")
        elif isinstance(x, _BUILTIN):
            if not _harmless(x):
                raise NotReplayed(f"it uses {name}, which may do something else each time")
        elif type(x) in _DICTS:
            self._dictionary(x, name)
        elif type(x) in (list, tuple):
            self._rows.append((x, list(x), name))
            for k, item in enumerate(x):
                self._visit(item, f"{name}[{k}]")
        elif type(x) in (set, frozenset):
            if any(type(item) not in PLAIN for item in x):
                raise NotReplayed(f"{name} is a set of objects")
            self._cells.append((lambda: frozenset(x), frozenset(x), name))
        else:
            self._object(x, name)

    def _tensor(self, x: Tensor, name: str) -> None:
        if isinstance(x, SecretTensor):
            self.secrets.append(x)
        elif type(x) not in (Tensor, nn.Parameter, nn.Buffer) or x.layout is not torch.strided or not x.is_cpu:
            raise NotReplayed(f"{name} is a tensor of a kind of its own")
        elif x.numel() > LARGEST:
            raise NotReplayed(f"{name} is a plain tensor of more than {LARGEST} elements")
        else:
            self._plain.append((x, x._version, x.detach().clone(), name))
        if any(getattr(x, hook) for hook in HOOKS):
            raise NotReplayed(f"{name} has hooks of its gradient")
        self._leaves.append((x, x.requires_grad, name))

    def _dictionary(self, x: dict[Any, Any], name: str) -> None:
        for key in x:
            if type(key) not in PLAIN and not isinstance(key, (Tensor, type, Enum)):
                raise NotReplayed(f"{name} has keys of type {type(key).__name__}")
        self._rows.append((x, list(x.values()), name))
        self._rows.append((_Keys(x), list(x), name))
        for key, item in list(x.items()):
            self._visit(item, f"{name}.{key}" if isinstance(key, str) else f"{name}[…]")
        if isinstance(x, defaultdict):
            self._visit(x.default_factory, name)

    def _object(self, x: Any, name: str) -> None:
        kind = type(x)
        home = kind.__module__.partition(".")[0]
        if not hasattr(x, "__dict__") or home == "tacit" or kind.__module__ in _OPAQUE or isinstance(x, _MOVING):
            raise NotReplayed(f"it reads {name}, of type {kind.__name__}, which cannot be watched")
        if any(getattr(base, "__slots__", ()) for base in kind.__mro__):
            raise NotReplayed(f"it reads {name}, of type {kind.__name__}, which has slots")
        self._kinds.append((x, kind, name))
        self._dictionary(vars(x), name)
        self._visit(kind, kind.__name__)

    def _class(self, x: type, name: str) -> None:
        """What functions of a class may read; those of PyTorch's own do what they always do."""
        for base in x.__mro__:
            file = getattr(sys.modules.get(base.__module__), "__file__", None) or ""
            if base.__module__ == "builtins" or _of_a_library(file):
                continue
            self._seen[id(base)] = base
            for key, item in list(vars(base).items()):
                if key in (
                    "__dict__",
                    "__weakref__",
                    "__doc__",
                    "__module__",
                    "__annotations__",
                    "__abstractmethods__",
                ):
                    continue
                held = getattr(item, "__func__", item)
                held = item.fget if isinstance(item, property) else held
                if isinstance(held, (types.GetSetDescriptorType, types.MemberDescriptorType)) or key == "_abc_impl":
                    continue
                self._cells.append((functools.partial(vars(base).get, key), item, f"{base.__name__}.{key}"))
                self._visit(held, f"{base.__name__}.{key}")

    def _function(self, x: types.FunctionType, name: str) -> None:
        self._cells.append((lambda: x.__code__, x.__code__, name))
        if _of_a_library(x.__code__.co_filename) and not x.__closure__:
            return
        for value, what in ((x.__defaults__, "defaults"), (x.__kwdefaults__, "defaults")):
            if value is not None:
                self._visit(value, f"{what} of {name}")
        for label, cell in zip(x.__code__.co_freevars, x.__closure__ or (), strict=True):
            value = _contents(cell)
            self._cells.append((cell, value, label))
            self._visit(value, label)
        if not _of_a_library(x.__code__.co_filename):
            for code in _codes(x.__code__):
                self._names_of(code, x.__globals__)

    def _names_of(self, code: types.CodeType, scope: dict[str, Any]) -> None:
        """The globals that a code names, and what it names of modules that are the user's."""
        if code.co_flags & _SUSPENDS:
            raise NotReplayed(f"{code.co_name} is a generator or a coroutine")
        for key in dict.fromkeys(i.argval for i in dis.get_instructions(code) if i.opname in _NAMES):
            if key in scope:
                value = scope[key]
                self._globals.append((scope, key, value))
                self._visit(value, key)
                if isinstance(value, types.ModuleType) and not _of_a_library(getattr(value, "__file__", None) or ""):
                    for each in code.co_names:
                        if each in vars(value):
                            self._globals.append((vars(value), each, vars(value)[each]))
                            self._visit(vars(value)[each], f"{key}.{each}")
            elif hasattr(builtins, key) and key not in BUILTINS:
                raise NotReplayed(f"it calls {key}")


class _Keys:
    """The keys of a dictionary, as a row that is compared."""

    __slots__ = ("of",)

    def __init__(self, of: dict[Any, Any]) -> None:
        self.of = of

    def __len__(self) -> int:
        return len(self.of)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.of)


_GONE = object()
_BUILTIN = (
    *(types.BuiltinFunctionType, types.MethodWrapperType, types.WrapperDescriptorType, types.MethodDescriptorType),
    *(types.GetSetDescriptorType, types.ClassMethodDescriptorType, type(torch.ops.aten.add), type(torch.ops.aten)),
    type(torch.ops.aten.add.Tensor),
)
_DICTS = (dict, OrderedDict, defaultdict, types.MappingProxyType)
_OPAQUE = frozenset({"builtins", "_thread", "threading", "_io", "io", "random", "numpy", "numpy.random"})
_MOVING = (torch.Generator, torch.utils.data.DataLoader, nn.parallel.DistributedDataParallel, optim.LBFGS)
_NAMES = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"})
_SUSPENDS = 0x20 | 0x80 | 0x100 | 0x200  # generators and coroutines


def _codes(code: types.CodeType) -> Iterable[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _contents(cell: Any) -> Any:
    if isinstance(cell, types.CellType):
        try:
            return cell.cell_contents
        except ValueError:  # not filled yet
            return _GONE
    return cell()


def _equal(now: Any, before: Any) -> bool:
    """Whether values that do not change are the same; of two zeros and of NaN one is not the other."""
    if type(now) is not type(before) or type(now) not in (PLAIN | {frozenset}):
        return False
    if type(now) is float:
        return bool(now.hex() == before.hex())
    return bool(now == before)


def _difference(rows: Any, before: list[Any]) -> str | None:
    """Where a container is not what it was, in words; None if it is."""
    now = list(rows.values() if isinstance(rows, dict) else rows)
    if len(now) != len(before):
        return " (its length)"
    keys = list(rows) if isinstance(rows, dict) else [f"[{k}]" for k in range(len(now))]
    for key, one, other in zip(keys, now, before, strict=True):
        if one is not other and not _equal(one, other):
            return f".{key}" if isinstance(rows, dict) and isinstance(key, str) else "[…]"
    return None


def _of_a_library(file: str) -> bool:
    return file.startswith(("<frozen", *LIBRARIES))


def _harmless(x: Any) -> bool:
    if isinstance(x, types.BuiltinFunctionType) and isinstance(x.__self__, types.ModuleType | type(None)):
        home = x.__module__ or ""
        if home == "builtins":
            return x.__name__ in BUILTINS
        return home.partition(".")[0] in {*HARMLESS, "_operator", "_functools", "_collections", ""}
    return True
