"""Which module an operator belongs to, forward and backward."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.weak import WeakTensorKeyDictionary

from tacit.session.ledger import source_line

__all__ = ["Lines", "Modules", "Place", "Scope"]

ACCUMULATE = 2**64 - 1
"""The sequence number of every autograd node that adds to a leaf's gradient: such a node has no forward operator."""

MARKS = 1 << 17
"""Module calls remembered for backward passes to come, two marks each. More would attribute a backward pass that
begins later; fewer would take less memory, 24 bytes each. A model makes some hundred a step."""


class Scope(NamedTuple):
    """A module: the class of the outermost module that ran, and the path from there as in `named_modules`."""

    root: str = ""
    module: str = ""


class Place(NamedTuple):
    """Where an operator belongs: a scope, and `forward`, `backward` or `step`, that is, an optimizer's."""

    root: str
    module: str
    phase: str


NOWHERE = Scope()


class Modules:
    """Follows modules as they run.

    Autograd numbers its nodes in the order of the forward pass. So a list of (number, module) at each change of module
    tells for every node of a backward pass whose forward pass made it.
    """

    def __init__(self, left: Callable[[Scope, float], None] | None = None) -> None:
        """`left` is called when a module's forward pass ends, with the time at which it began."""
        self._left = left
        self._scopes: WeakKeyDictionary[nn.Module, Scope] = WeakKeyDictionary()
        self._owners: Any = WeakTensorKeyDictionary()
        self._stack: list[tuple[Scope, float]] = []
        self._numbers = [0]
        self._marks = [NOWHERE]
        self._behind = NOWHERE
        self._optimizer = ""
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        self._hooks = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
            register_optimizer_step_pre_hook(self._begin_step),
            register_optimizer_step_post_hook(self._end_step),
        ]
        self._mark()
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._stack.clear()
        self._optimizer = ""

    # --- where the program is ----------------------------------------------------------------------------------------

    def now(self) -> Place:
        """The place of the operator that is about to run."""
        if torch._C._current_graph_task_id() != -1:
            node = torch._C._current_autograd_node()
            if node is not None:  # it is None between two nodes, where gradients of one tensor are added up
                self._behind = self._origin(node)
            return Place(*self._behind, "backward")
        if self._stack:
            return Place(*self._stack[-1][0], "forward")
        if self._optimizer:
            return Place(self._optimizer, "", "step")
        return Place("", "", "forward")

    def _origin(self, node: Any) -> Scope:
        """The module whose forward pass made an autograd node, or that owns the leaf whose gradient it adds to."""
        number = node._sequence_nr()
        if number == ACCUMULATE:
            owner: Scope = self._owners.get(node.variable, NOWHERE)
            return owner
        return self._marks[bisect_right(self._numbers, number) - 1]

    def scope(self, module: nn.Module) -> Scope | None:
        """The scope of a module that has run."""
        return self._scopes.get(module)

    # --- hooks -------------------------------------------------------------------------------------------------------

    def _enter(self, module: nn.Module, _: object) -> None:
        scope = self._scopes.get(module)
        if scope is None:
            scope = self._register(module)
        self._stack.append((scope, time.perf_counter()))
        self._mark()

    def _leave(self, *_: object) -> None:
        if not self._stack:
            return
        scope, began = self._stack.pop()
        self._mark()
        if self._left is not None:
            self._left(scope, began)

    def _mark(self) -> None:
        self._numbers.append(torch._C._autograd._get_sequence_nr())
        self._marks.append(self._stack[-1][0] if self._stack else NOWHERE)
        if len(self._marks) > MARKS:
            del self._numbers[1 : MARKS // 2], self._marks[1 : MARKS // 2]

    def _register(self, root: nn.Module) -> Scope:
        """Name a module that is in no other one which has run, and all modules in it."""
        if self._stack:
            outer = self._stack[-1][0]
            scope = Scope(outer.root, ".".join(filter(None, (outer.module, type(root).__name__))))
        else:
            scope = Scope(self._free_name(type(root).__name__))
        for path, module in root.named_modules():
            inner = Scope(scope.root, ".".join(filter(None, (scope.module, path))))
            self._scopes[module] = inner
            for parameter in module.parameters(recurse=False):
                self._owners[parameter] = inner
        return scope

    def _free_name(self, name: str) -> str:
        taken = {scope.root for scope in self._scopes.values()}
        count = 1
        while (numbered := name if count == 1 else f"{name} ({count})") in taken:
            count += 1
        return numbered

    def _begin_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self._optimizer = type(optimizer).__name__

    def _end_step(self, *_: object) -> None:
        self._optimizer = ""


class Lines:
    """The user's line of each operator; in a backward pass, that of the forward operator, by autograd's numbering."""

    def __init__(self) -> None:
        self._lines: dict[int, str] = {}

    def now(self) -> str:
        """The line of the operator that is about to run, `file:line`."""
        node = torch._C._current_autograd_node()
        if node is not None:
            return self._lines.get(node._sequence_nr()) or source_line()
        line = source_line()
        if torch.is_grad_enabled():
            self._lines[torch._C._autograd._get_sequence_nr() - 1] = line
            if len(self._lines) > MARKS:
                for number in list(self._lines)[: MARKS // 2]:
                    del self._lines[number]
        return line
