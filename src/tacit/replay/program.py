"""The program of a step, which is read before it runs: what is not surely the same each time is refused.

Every expression is a `Thing`, an object that was there before and that is known, or data: a tensor, a number or a tuple
that the step was given or has computed. Only what is listed in `allowed` may be done with either, and nothing may be
stored but in local names. So a step that passes depends on nothing but its arguments and what `World` has noted.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tacit.errors import NotReplayed
from tacit.replay.allowed import (
    ATTRIBUTES,
    BUILTINS,
    CONTAINERS,
    GRADIENT_MODES,
    LAYERS,
    METHODS,
    OPTIMIZERS,
    function_named,
)
from tacit.replay.sources import tree_of
from tacit.replay.world import World, is_plain

__all__ = ["world_of"]

DEEPEST = 16
"""Functions within functions. More than any step has; a recursion ends here."""


class Thing(NamedTuple):
    """An object that was there before the step."""

    object: Any
    path: str


class Row(NamedTuple):
    """A tuple, list or module container, of which some elements are things."""

    items: tuple[Any, ...]


class Method(NamedTuple):
    """A function of a user's module, of that module; or `step`, `zero_grad`."""

    owner: Thing
    name: str
    function: Any


DATA = "data"
"""What a step is given or computes."""

UNKNOWN = "unknown"
"""A name that stands for several things by different ways."""

Known = Any
Names = dict[str, Known]


def world_of(function: Any) -> World:
    """All that a step reads, if it can be known. Raises `NotReplayed`, with the line, where it cannot."""
    world = World()
    if type(function) is MethodType:
        raise NotReplayed("it is a method: compile a function that calls it")
    if type(function) is not FunctionType:
        raise NotReplayed(f"it is a {type(function).__name__}, and no function that is written in Python")
    try:
        _Reader(world, function, 0).step()
    except NotReplayed:
        raise
    except Exception as error:  # of an attribute that raises, say
        raise NotReplayed(f"to read its program failed by {type(error).__name__}") from None
    return world


class _Reader:
    """Reads one function."""

    def __init__(self, world: World, function: FunctionType, depth: int) -> None:
        if depth > DEEPEST:
            raise NotReplayed(f"{function.__name__} calls itself, or is nested too deep")
        if function.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            raise NotReplayed(f"{function.__name__} is a generator, or asynchronous")
        self._world, self._function, self._depth = world, function, depth
        self._code = function.__code__
        self._local = {*self._code.co_varnames, *self._code.co_cellvars}
        self._returned: list[Known] = []
        if "__signature__" in vars(function):
            raise NotReplayed(f"{function.__name__} says that it takes other arguments than it does")
        world.defaults(function)

    def run(self, names: Names) -> Known:
        """What it returns for such arguments."""
        tree = tree_of(self._function)
        if isinstance(tree, ast.Lambda):
            return self._of(tree.body, names)
        self._do(tree.body, names)
        return _either(self._returned) if self._returned else DATA

    def step(self) -> None:
        """The step itself, which is given data and returns data."""
        code = self._code
        count = code.co_argcount + code.co_kwonlyargcount
        more = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
        found = self.run(dict.fromkeys(code.co_varnames[: count + more], DATA))
        try:
            self._data(tree_of(self._function), found)
        except NotReplayed:
            raise NotReplayed("it returns what is neither a secret nor a number") from None

    def _refuse(self, node: ast.AST, why: str) -> NotReplayed:
        line = self._code.co_firstlineno if not hasattr(node, "lineno") else node.lineno
        return NotReplayed(f"line {line}: {why}")

    # --- statements ---------------------------------------------------------------------------------------------------

    def _do(self, body: Sequence[ast.stmt], names: Names) -> None:
        for statement in body:
            method = _STATEMENTS.get(type(statement))
            if method is None:
                raise self._refuse(statement, f"a {type(statement).__name__} is not replayed")
            method(self, statement, names)

    def skip(self, node: ast.Pass, names: Names) -> None:
        pass

    def evaluate(self, node: ast.Expr, names: Names) -> None:
        self._of(node.value, names)

    def give_back(self, node: ast.Return, names: Names) -> None:
        self._returned.append(DATA if node.value is None else self._of(node.value, names))

    def assign(self, node: ast.Assign, names: Names) -> None:
        value = self._of(node.value, names)
        for target in node.targets:
            self._bind(target, value, names)

    def assign_typed(self, node: ast.AnnAssign, names: Names) -> None:
        if node.value is not None:
            self._bind(node.target, self._of(node.value, names), names)

    def assign_more(self, node: ast.AugAssign, names: Names) -> None:
        if not isinstance(node.target, ast.Name):
            raise self._refuse(node, "it stores in something that is not a local name")
        before = self._of(ast.copy_location(ast.Name(node.target.id, ast.Load()), node), names)
        self._data(node, before, self._of(node.value, names))
        self._bind(node.target, DATA, names)

    def _bind(self, target: ast.expr, value: Known, names: Names) -> None:
        if isinstance(target, ast.Name):
            if target.id not in self._local:
                raise self._refuse(target, f"it stores in {target.id}, which is not a local name")
            names[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            count = len(target.elts)
            if any(isinstance(t, ast.Starred) for t in target.elts):
                raise self._refuse(target, "a starred name is not replayed")
            if isinstance(value, Row) and len(value.items) == count:
                row: Sequence[Known] = value.items
            else:
                self._data(target, value)
                row = [DATA] * count
            for t, v in zip(target.elts, row, strict=True):
                self._bind(t, v, names)
        else:
            raise self._refuse(target, "it stores in something that is not a local name")

    def branch(self, node: ast.If, names: Names) -> None:
        self._data(node, self._of(node.test, names))
        ways = []
        for body in (node.body, node.orelse):
            way = dict(names)
            self._do(body, way)
            ways.append(way)
        _join(names, ways)

    def loop(self, node: ast.For, names: Names) -> None:
        if node.orelse:
            raise self._refuse(node, "an else of a loop is not replayed")
        items = self._items(node, self._of(node.iter, names))
        if items is not None:
            for item in items:
                self._bind(node.target, item, names)
                self._do(node.body, names)
            return
        while True:
            way, before = dict(names), dict(names)
            self._bind(node.target, DATA, way)
            self._do(node.body, way)
            _join(names, [before, way])
            if names.keys() == before.keys() and all(_one(x, before[key]) for key, x in names.items()):
                return

    def _items(self, node: ast.AST, value: Known) -> tuple[Known, ...] | None:
        """What a loop goes over, one by one; None for data."""
        if isinstance(value, Row):
            return value.items
        if isinstance(value, Thing) and type(value.object) in (nn.Sequential, nn.ModuleList):
            self._world.module(value.object, value.path)
            return tuple(Thing(m, f"{value.path}[{k}]") for k, m in enumerate(value.object))
        self._data(node, value)
        return None

    def within(self, node: ast.With, names: Names) -> None:
        for item in node.items:
            call = item.context_expr
            if item.optional_vars is not None or not isinstance(call, ast.Call) or call.keywords:
                raise self._refuse(node, "of contexts, torch.no_grad() and its like may be named")
            callee = self._of(call.func, names)
            mode = callee.object if isinstance(callee, Thing) else None
            if not any(mode is getattr(torch, name) for name in GRADIENT_MODES):
                raise self._refuse(node, "of contexts, torch.no_grad() and its like may be named")
            self._data(node, *(self._of(x, names) for x in call.args))
        self._do(node.body, names)

    # --- expressions --------------------------------------------------------------------------------------------------

    def _of(self, node: ast.expr, names: Names) -> Known:
        """What an expression stands for."""
        for name in (getattr(node, "id", ""), getattr(node, "attr", "")):
            if name.startswith("__"):
                raise self._refuse(node, f"{name} is private")
        if isinstance(node, ast.Constant):
            if not is_plain(node.value) and node.value is not Ellipsis:
                raise self._refuse(node, "such a constant is not replayed")
            return DATA
        if isinstance(node, ast.Name):
            return self._name(node, names)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, self._of(node.value, names))
        if isinstance(node, ast.Call):
            return self._call(node, names)
        if isinstance(node, ast.Subscript):
            return self._subscript(node, names)
        if isinstance(node, (ast.Tuple, ast.List)):
            return Row(tuple(self._of(x, names) for x in node.elts))
        if isinstance(node, ast.Compare) and all(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            if not all(isinstance(x, ast.Constant) and x.value is None for x in node.comparators):
                raise self._refuse(node, "`is` of other things than None is not replayed")
            self._of(node.left, names)
            return DATA
        if isinstance(node, ast.IfExp):
            self._data(node, self._of(node.test, names))
            return _either([self._of(node.body, names), self._of(node.orelse, names)])
        if isinstance(node, _OPERATIONS):
            parts = [x for x in ast.iter_child_nodes(node) if isinstance(x, ast.expr)]
            self._data(node, *(self._of(x, names) for x in parts))
            return DATA
        if isinstance(node, ast.Dict):
            self._data(node, *(self._of(x, names) for x in (*node.keys, *node.values) if x is not None))
            if None in node.keys:
                raise self._refuse(node, "** is not replayed")
            return DATA
        raise self._refuse(node, f"a {type(node).__name__} is not replayed")

    def _is_data(self, value: Known) -> bool:
        if value is DATA:
            return True
        if isinstance(value, Row):
            return all(map(self._is_data, value.items))
        if isinstance(value, Thing):
            return is_plain(value.object) or isinstance(value.object, Tensor)
        return False

    def _data(self, node: ast.AST, *values: Known) -> None:
        """Ask that these are tensors, numbers, or tuples of such; secrets among them are noted."""
        for value in values:
            if isinstance(value, Row):
                self._data(node, *value.items)
            elif isinstance(value, Thing) and isinstance(value.object, Tensor):
                self._world.tensor(value.object, value.path)
            elif not self._is_data(value):
                raise self._refuse(node, f"{_said(value)} is used as if it were a number or a tensor")

    def _name(self, node: ast.Name, names: Names) -> Known:
        if node.id in self._local and node.id not in self._code.co_freevars:
            if node.id not in names:
                raise self._refuse(node, f"{node.id} may not have been set")
            return names[node.id]
        return Thing(self._world.name(self._function, node.id), node.id)

    def _attribute(self, node: ast.Attribute, owner: Known) -> Known:
        name = node.attr
        if owner is DATA or (isinstance(owner, Thing) and isinstance(owner.object, Tensor)):
            self._data(node, owner)
            if name not in ATTRIBUTES:
                raise self._refuse(node, f".{name} is not replayed")
            return DATA
        if not isinstance(owner, Thing):
            raise self._refuse(node, f".{name} of {_said(owner)} is not replayed")
        x, path = owner.object, f"{owner.path}.{name}"
        if type(x) is ModuleType:
            return Thing(self._world.of_module(x, name, path), path)
        if isinstance(x, nn.Module):
            return self._of_module(node, owner, name)
        if type(x) in OPTIMIZERS and name in ("step", "zero_grad"):
            return Method(owner, name, None)
        raise self._refuse(node, f"{path}: what a {type(x).__name__} holds is not replayed")

    def _of_module(self, node: ast.AST, owner: Thing, name: str) -> Known:
        """An attribute of a module, by the way that Python finds it."""
        m, path = owner.object, f"{owner.path}.{name}"
        self._check(node, owner)
        missing = object()
        on_class = inspect.getattr_static(type(m), name, missing)
        if on_class is not missing:
            if name == "zero_grad" and on_class is nn.Module.zero_grad:
                if "zero_grad" in vars(m):
                    raise self._refuse(node, f"{path} is not PyTorch's")
                raise self._refuse(node, f"{path}() is not replayed: call that of the optimizer")
            if name in vars(m) or type(m) in LAYERS or type(m) in CONTAINERS:
                if is_plain(value := self._world.read(path, lambda: getattr(m, name))):
                    return Thing(value, path)
                raise self._refuse(node, f"{path} is not replayed")
            if type(on_class) is FunctionType and not _of_pytorch(type(m), name):
                self._world.read(path, lambda: inspect.getattr_static(type(m), name, missing))
                self._world.read(path, lambda: name in vars(m))
                return Method(owner, name, on_class)
            if is_plain(on_class):
                return Thing(self._world.read(path, lambda: getattr(m, name)), path)
            raise self._refuse(node, f"{path} is neither a function nor a number")
        value = self._world.read(path, lambda: getattr(m, name))
        if isinstance(value, (nn.Module, Tensor)) or is_plain(value) or function_named(value):
            return Thing(value, path)
        raise self._refuse(node, f"{path} is a {type(value).__name__}, which is not watched")

    def _check(self, node: ast.AST, owner: Thing) -> None:
        """Note a module, and look at its class."""
        m, path = owner.object, owner.path
        kind = type(m)
        if kind not in LAYERS and kind not in CONTAINERS:
            _look_at(kind, path)
            self._world.read(f"the class of {path}", lambda: _bases(kind))
        self._world.module(m, path)

    def _subscript(self, node: ast.Subscript, names: Names) -> Known:
        owner = self._of(node.value, names)
        if isinstance(owner, Thing) and type(owner.object) in CONTAINERS:
            self._world.module(owner.object, owner.path)
            place = node.slice.operand if isinstance(node.slice, ast.UnaryOp) else node.slice
            if not isinstance(place, ast.Constant):
                raise self._refuse(node, "a layer is taken by a number that is not written there")
            key = -place.value if isinstance(node.slice, ast.UnaryOp) else place.value  # type: ignore[operator]
            return Thing(owner.object[key], f"{owner.path}[{key!r}]")
        if isinstance(node.slice, ast.Slice):
            parts = [x for x in (node.slice.lower, node.slice.upper, node.slice.step) if x is not None]
        else:
            parts = [node.slice]
            if isinstance(node.slice, ast.Tuple) and any(isinstance(x, ast.Slice) for x in node.slice.elts):
                parts = []
                for x in node.slice.elts:
                    rows = (x.lower, x.upper, x.step) if isinstance(x, ast.Slice) else (x,)
                    parts += [y for y in rows if y is not None]
        if isinstance(owner, Row) and isinstance(node.slice, ast.Constant) and type(node.slice.value) is int:
            return owner.items[node.slice.value]
        self._data(node, owner, *(self._of(x, names) for x in parts))
        return DATA

    # --- calls --------------------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call, names: Names) -> Known:
        if any(isinstance(x, ast.Starred) for x in node.args) or any(k.arg is None for k in node.keywords):
            raise self._refuse(node, "* and ** in a call are not replayed")
        callee: Known = None  # a method of data
        if isinstance(node.func, ast.Attribute):
            owner = self._of(node.func.value, names)
            if owner is DATA or (isinstance(owner, Thing) and isinstance(owner.object, Tensor)):
                self._data(node, owner)
                if node.func.attr not in METHODS:
                    raise self._refuse(node, f".{node.func.attr}() is not replayed")
                self._world.goes_back |= node.func.attr == "backward"
            else:
                callee = self._attribute(node.func, owner)
        else:
            callee = self._of(node.func, names)
        args = [self._of(x, names) for x in node.args]
        more = {k.arg: self._of(k.value, names) for k in node.keywords if k.arg is not None}
        if callee is None:
            self._data(node, *args, *more.values())
            return DATA
        return self._called(node, callee, args, more)

    def _called(self, node: ast.Call, callee: Known, args: list[Known], more: Names) -> Known:
        if isinstance(callee, Method):
            if callee.function is None:
                return self._optimizer(node, callee, args, more)
            return self._inside(node, callee.function, [callee.owner, *args], more)
        if not isinstance(callee, Thing):
            raise self._refuse(node, f"{_said(callee)} is called")
        x, path = callee.object, callee.path
        if isinstance(x, nn.Module):
            return self._module(node, callee, args, more)
        if type(x) is FunctionType and function_named(x) is None:
            return self._inside(node, x, args, more)
        built_in = BUILTINS.get(getattr(x, "__name__", ""))
        if built_in is not None and x is built_in and vars(builtins).get(x.__name__) is x:
            if x is enumerate and len(args) == 1 and not more:
                items = self._items(node, args[0])
                return DATA if items is None else Row(tuple(Row((DATA, item)) for item in items))
            self._data(node, *args, *more.values())
            return DATA
        if function_named(x) is None:
            raise self._refuse(node, f"{path} is not among the functions whose calls are replayed")
        self._data(node, *args, *more.values())
        return DATA

    def _optimizer(self, node: ast.Call, callee: Method, args: list[Known], more: Names) -> Known:
        self._world.optimizer(callee.owner.object, callee.owner.path, callee.name)
        how = [*node.args, *(k.value for k in node.keywords)]
        if callee.name == "zero_grad" and all(isinstance(x, ast.Constant) and x.value is True for x in how):
            self._world.drops(callee.owner.object)
        if callee.name == "step" and (args or more):
            raise self._refuse(node, "step(closure) is not replayed")
        self._data(node, *args, *more.values())
        return DATA

    def _module(self, node: ast.Call, callee: Thing, args: list[Known], more: Names) -> Known:
        m, path = callee.object, callee.path
        kind = type(m)
        self._check(node, callee)
        if kind is nn.Sequential:
            value: Known = args[0] if len(args) == 1 and not more else None
            for k, layer in enumerate(m):
                value = self._module(node, Thing(layer, f"{path}[{k}]"), [value], {})
            return value
        if kind in LAYERS:
            self._data(node, *args, *more.values())
            return DATA
        if kind in CONTAINERS:
            raise self._refuse(node, f"{path} is not called but looped over")
        forward = inspect.getattr_static(kind, "forward")
        if type(forward) is not FunctionType:
            raise self._refuse(node, f"{path}.forward is not a function")
        return self._inside(node, forward, [callee, *args], more)

    def _inside(self, node: ast.Call, function: FunctionType, args: list[Known], more: Names) -> Known:
        """A function of the user's."""
        reader = _Reader(self._world, function, self._depth + 1)
        parameters = inspect.signature(function, follow_wrapped=False)
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.parameters.values()):
            raise self._refuse(node, f"{function.__name__} takes * or **, which is not replayed")
        try:
            bound = parameters.bind(*args, **more)
        except TypeError:
            raise self._refuse(node, f"{function.__name__} is called with other arguments than it takes") from None
        names = dict.fromkeys(parameters.parameters, DATA)  # defaults are plain
        names.update(bound.arguments)
        return reader.run(names)


_STATEMENTS: dict[type[ast.stmt], Callable[[_Reader, Any, Names], None]] = {
    ast.Pass: _Reader.skip,
    ast.Expr: _Reader.evaluate,
    ast.Return: _Reader.give_back,
    ast.Assign: _Reader.assign,
    ast.AnnAssign: _Reader.assign_typed,
    ast.AugAssign: _Reader.assign_more,
    ast.If: _Reader.branch,
    ast.For: _Reader.loop,
    ast.With: _Reader.within,
}
_OPERATIONS = (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare)


def _either(values: Sequence[Known]) -> Known:
    """What a name stands for that stands for one of these."""
    first = values[0]
    if all(_one(first, v) for v in values[1:]):
        return first
    if all(v is DATA or _plain(v) for v in values):
        return DATA
    return UNKNOWN


def _plain(v: Known) -> bool:
    if isinstance(v, Row):
        return all(x is DATA or _plain(x) for x in v.items)
    return isinstance(v, Thing) and is_plain(v.object)


def _one(x: Known, y: Known) -> bool:
    if type(x) is not type(y):
        return False
    if isinstance(x, Thing):
        return x.object is y.object
    if isinstance(x, Row):
        return len(x.items) == len(y.items) and all(map(_one, x.items, y.items))
    if isinstance(x, Method):
        return _one(x.owner, y.owner) and x.name == y.name
    return x is y


def _join(names: Names, ways: Sequence[Names]) -> None:
    """Names after one of several ways; one that was not set on all of them may not be."""
    names.clear()
    names.update({key: _either([way[key] for way in ways]) for key in ways[0] if all(key in way for way in ways)})


def _said(value: Known) -> str:
    if isinstance(value, Thing):
        return f"{value.path} (a {type(value.object).__name__})"
    return f"{value.owner.path}.{value.name}" if isinstance(value, Method) else "one of several things"


def _of_pytorch(kind: type, name: str) -> bool:
    return inspect.getattr_static(nn.Module, name, None) is inspect.getattr_static(kind, name, None)


_OWN = frozenset(
    {
        "forward",
        "extra_repr",
        "__repr__",
        "__dict__",
        "__weakref__",
        "__parameters__",
        "__init__",
        "__module__",
        "__qualname__",
        "__doc__",
        "__annotations__",
        "__constants__",
    }
    | {"__firstlineno__", "__static_attributes__"}
)


def _look_at(kind: type, path: str) -> None:
    """A user's class of modules: one whose attributes are found as in any other."""
    bases = kind.__mro__
    if bases[-2:] != (nn.Module, object) or type(kind) is not type:
        raise NotReplayed(f"the class of {path} is made of more than nn.Module")
    theirs = set(dir(nn.Module))
    for base in bases[:-2]:
        if base.__module__.startswith("torch."):
            raise NotReplayed(f"{path} is a {kind.__name__}, of which it is not known what it reads")
        taken = [name for name in vars(base) if name not in _OWN and (name in theirs or name.startswith("__"))]
        if taken:
            raise NotReplayed(f"the class of {path} has a {taken[0]} of its own")


def _bases(kind: type) -> tuple[Any, ...]:
    """The classes of a module and the names that they have."""
    return tuple((base, tuple(vars(base))) for base in kind.__mro__[:-2])
