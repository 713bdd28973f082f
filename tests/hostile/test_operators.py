"""No operator that a graph may name, whatever its arguments are, crashes who checks it, or keeps it for long.

A crash of PyTorch is none of an exception, so that each operator is tried in a child of this process.
"""

from __future__ import annotations

import base64
import json
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from tacit.errors import DataError, TacitError
from tacit.outside.graph.form import Graph, checked_operator
from tacit.outside.graph.run import check

SEED = int(os.environ.get("TACIT_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
TRIES = 20
"""Of each operator."""

PATIENCE = 60
"""Seconds for all tries of some operators."""

NUMBERS = [0, 1, 2, -1, -2, 3, 4, 5, 100, -100, 1 << 31, 1 << 40, 1 << 62, -(1 << 63), (1 << 63) - 1]
REALS = [0, 1, -1, 0.5, 1e30, 1 << 62, {"f": "nan"}, {"f": "-inf"}, True]
KINDS = [{"d": "float32"}, {"d": "int64"}, {"d": "bool"}, {"d": "complex64"}, None, 3, -1]
TENSORS = [{"v": 0}, {"v": 0}, {"w": 0}, {"c": 0}, {"c": 1}]


def _names() -> list[str]:
    """All operators of PyTorch that a graph may have."""
    found = []
    for name in sorted(set(torch._C._dispatch_get_all_op_names())):
        base, _, overload = name.removeprefix("aten::").partition(".")
        operator = f"aten.{base}.{overload or 'default'}"
        try:
            checked_operator(operator)
        except DataError:
            continue
        found.append(operator)
    return found


def _some(draws: random.Random, kind: str) -> Any:
    """An argument of a kind, as often out of any range."""

    def whole() -> int:
        return draws.choice(NUMBERS[:8] if draws.random() < 0.7 else NUMBERS)

    single: list[tuple[str, Callable[[], Any]]] = [
        ("Tensor", lambda: draws.choice(TENSORS)),
        ("bool", lambda: draws.random() < 0.5),
        ("ScalarType", lambda: draws.choice(KINDS)),
        ("Layout", lambda: draws.choice([{"l": "strided"}, None, 3, -1])),
        ("MemoryFormat", lambda: draws.choice([{"m": "contiguous_format"}, None, 7, -1])),
        ("Device", lambda: draws.choice([{"on": "cpu"}, None, "meta", 1])),
        ("int", whole),
        ("SymInt", whole),
        ("number", lambda: draws.choice(REALS)),
        ("float", lambda: draws.choice(REALS)),
        ("str", lambda: draws.choice(["", "mean", "none", "a,b->ab", "floor"])),
    ]
    if "Optional" in kind and draws.random() < 0.3:
        return None
    make = next((make for name, make in single if name in kind), lambda: None)
    return [make() for _ in range(draws.randrange(5))] if "List" in kind else make()


def _graph(draws: random.Random, operator: str) -> bytes:
    args, kwargs = [], {}
    for argument in checked_operator(operator)._schema.arguments:
        value = _some(draws, str(argument.real_type))
        if not argument.kwarg_only:
            args.append(value)
        elif draws.random() < 0.7:
            kwargs[argument.name] = value
    places = draws.choice([[0], [1, 0], [5, -7, 1 << 40], []])
    packed = base64.b64encode(b"".join(x.to_bytes(8, "little", signed=True) for x in places)).decode()
    literal = {
        "format": 1,
        "input": [draws.choice([[4], [2, 3], [1, 4, 4], [0], [2, 0, 3], []]), "float32"],
        "weights": [["w", draws.choice([[4, 3], [4], [2, 3, 3], [0], []]), "float32", 20]],
        "constants": [["int64", [len(places)], packed], ["bool", [2], "AQA="]],
        "rows": {"2": {"nodes": [[operator, args, kwargs, 1]], "result": {"v": 1}}},
    }
    return json.dumps(literal).encode()


def _try(operators: list[str], path: Path) -> None:
    for operator in operators:
        draws = random.Random(f"{SEED} {operator}")
        for _ in range(TRIES):
            text = _graph(draws, operator)
            path.write_bytes(text)
            with suppress(TacitError):
                check(Graph.parse(text))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(8))
def test_no_operator_of_a_graph_crashes_who_checks_it(part: int, tmp_path: Path) -> None:
    names = _names()[part::8]
    assert len(names) > 50
    last = tmp_path / "last"

    child = os.fork()
    if not child:
        signal.alarm(PATIENCE)
        try:
            _try(names, last)
        except BaseException as error:
            last.write_bytes(f"{type(error).__name__}: ".encode() + last.read_bytes())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"seed {SEED}, status {status}: {last.read_bytes()!r}"
