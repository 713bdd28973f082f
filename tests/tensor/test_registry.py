"""The table of operators: one function for each, whatever the order in which the families are imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tacit.aten
from tacit.tensor import above_autograd
from tacit.tensor.deferred import deferring
from tacit.tensor.public import publicly_first
from tacit.tensor.registry import HANDLERS, implements

IN_ORDER = """
import importlib, json, sys, types

for name, path in (("tacit", sys.argv[1]), ("tacit.aten", sys.argv[1] + "/aten")):  # without what they import
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
for family in json.loads(sys.argv[2]):
    importlib.import_module(f"tacit.aten.{family}")
from tacit.tensor.above_autograd import _KERNELS
from tacit.tensor.in_place import complete
from tacit.tensor.registry import HANDLERS

complete()
told = [{str(o): [f.__module__, f.__qualname__] for o, f in table.items()} for table in (HANDLERS, _KERNELS)]
print(json.dumps(told))
"""


def told(families: list[str]) -> str:
    """What the tables hold once these are imported one after the other, in a process of its own."""
    home = Path(tacit.__file__).parent
    run = [sys.executable, "-c", IN_ORDER, str(home), json.dumps(families)]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout


def test_the_table_does_not_depend_on_the_order_of_imports() -> None:
    forwards, backwards = (json.loads(told(sorted(tacit.aten.__all__, reverse=way))) for way in (False, True))

    assert forwards == backwards
    here = {str(o): [f.__module__, f.__qualname__] for o, f in HANDLERS.items()}
    assert here == forwards[0]


def test_the_package_imports_every_file_that_registers_something() -> None:
    files = {path.stem for path in Path(tacit.aten.__file__).parent.glob("*.py")} - {"__init__"}

    assert files - {"indexing", "windows"} == set(tacit.aten.__all__)


@pytest.mark.parametrize("register", [implements, deferring, publicly_first, above_autograd.above_autograd])
def test_a_second_function_for_an_operator_is_an_error(register: Callable[..., Any]) -> None:
    taken = torch.ops.aten.one_hot.default if register is above_autograd.above_autograd else torch.ops.aten.add.Tensor
    before = dict(HANDLERS), dict(above_autograd._KERNELS)

    with pytest.raises(ValueError, match="two"):
        register(taken)(lambda *args: None)

    assert before == (HANDLERS, above_autograd._KERNELS)
