"""How far a module on secrets is from the same one in plain PyTorch, operator by operator and module by module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

import tacit.api as api
from tacit.check.program import Program, prepared
from tacit.errors import TacitError
from tacit.protocols.values import Value
from tacit.session.config import Config
from tacit.tensor import SecretTensor
from tacit.watch.content import content
from tacit.watch.place import Modules, Place
from tacit.watch.precision import Precision
from tacit.watch.report import Deviation

__all__ = ["OUTPUTS", "Numbers", "measured"]

OUTPUTS = "outputs"
"""What stands in the place of an operator where a module's outputs are compared with plain PyTorch's: all roundings
before and in it count."""

Outputs = list[tuple[str, str, list[Tensor]]]
"""Of each module that ran: class of the outermost one, path from there, and its outputs."""


class Numbers(NamedTuple):
    """What was found."""

    deviations: list[Deviation]
    wrong: list[str]


def measured(program: Program, config: Config) -> Numbers:
    """Run the program in a session that checks itself, and in plain PyTorch with the same public randomness."""
    wrong: list[str] = []
    with torch.random.fork_rng(devices=[]), _disable_current_modes():
        torch.manual_seed(config.seed or 0)
        plain = _outputs(prepared(program, None))
        opened = api.embedded(config)
        watch = opened.watcher = Precision(wrong.append)
        try:
            secret = _outputs(prepared(program, api.active_protocol()))
        finally:
            opened.end(TacitError("the check is over"))
    return Numbers([*_by_module(secret, plain), *watch.deviations.values()], wrong)


def _outputs(run: Callable[[], None]) -> Outputs:
    """Run, and return what each module gave."""
    found: Outputs = []
    modules = Modules()

    def keep(module: nn.Module, _: object, output: Any) -> None:
        place = modules.now()
        found.append((place.root, place.module, [_value(x) for x in tree_leaves(output) if isinstance(x, Tensor)]))

    hook = register_module_forward_hook(keep)
    try:
        with modules:
            run()
    finally:
        hook.remove()
    return found


def _value(x: Tensor) -> Tensor:
    if not isinstance(x, SecretTensor):
        return x.detach().double()
    return content(x).double() if isinstance(x._share, Value) else torch.empty(0)


def _by_module(secret: Outputs, plain: Outputs) -> list[Deviation]:
    """The largest deviation of each module's outputs."""
    rows: dict[Place, Deviation] = {}
    for (root, path, got), (_, other, want) in zip(secret, plain, strict=False):
        for x, y in zip(got, want, strict=False):
            if path != other or x.shape != y.shape or not x.numel():
                continue
            place = Place(root, path, "forward")
            row = rows.setdefault(place, Deviation(place, OUTPUTS))
            row.calls += 1
            finite = y.isfinite()
            row.largest = max(row.largest, float((x - y)[finite].abs().max()) if bool(finite.any()) else 0.0)
            row.size = max(row.size, float(y[finite].abs().max()) if bool(finite.any()) else 0.0)
    return list(rows.values())
