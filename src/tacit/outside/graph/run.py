"""Computing a graph: on secrets, and before that on tensors without values, to see that it is possible at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from tacit.errors import DataError
from tacit.outside.graph.form import CONSTANT, VALUE, Graph, Place, Steps, places
from tacit.outside.schema import DTYPES
from tacit.ring.memory import memory_bytes
from tacit.tensor import SecretTensor

__all__ = ["check", "run"]

SHARE_BYTES = 16
"""Of an element of a value, as long as an operator works on it."""

MOST_PIECES = 1 << 16
"""Results of one operator, as many as a graph may name."""


def run(graph: Graph, x: SecretTensor, weights: Sequence[Tensor]) -> SecretTensor:
    """The model on as many rows as x has, by the session of x; all its parties call this alike."""
    steps = graph.steps[len(x)]

    def call(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return operator(*args, **kwargs)

    with torch.no_grad():
        found = _follow(steps, x, weights, graph.constants, call)
    if not isinstance(found, SecretTensor):
        raise DataError("the result of a model is a secret")
    return found


def check(graph: Graph) -> dict[int, tuple[tuple[int, ...], torch.dtype]]:
    """The shape and dtype of the result for each number of rows; raise `DataError` for what cannot be computed here."""
    return {rows: _check(graph, rows) for rows in graph.rows}


def _check(graph: Graph, rows: int) -> tuple[tuple[int, ...], torch.dtype]:
    most = memory_bytes() // SHARE_BYTES

    def meta(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        out = torch.empty(tuple(shape), dtype=dtype, device="meta")
        if out.numel() > most:
            raise DataError("this model needs more than the memory of this machine")
        return out

    def call(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if _pieces(operator, args, kwargs) > MOST_PIECES:
            raise DataError(f"{operator} of this model gives more than {MOST_PIECES} results")
        try:
            found = operator(*args, **kwargs)
            large = any(_elements(t) > most for t in tree_leaves(found))
        except Exception as error:
            raise DataError(f"{operator} cannot be computed for this model ({type(error).__name__})") from None
        if large:
            raise DataError(f"{operator} of this model needs more than the memory of this machine")
        return found

    with torch.no_grad():
        x = meta((rows, *graph.shape), DTYPES[graph.dtype])
        weights = [meta(w.shape, getattr(torch, w.dtype)) for w in graph.weights]
        constants = [meta(c.shape, c.dtype) for c in graph.constants]
        result = _follow(graph.steps[rows], x, weights, constants, call, on="meta", most=most)
    if not isinstance(result, Tensor) or not result.dim() or len(result) != rows:
        raise DataError(f"a served model gives a row for each input: of {rows} rows it makes something else")
    return tuple(result.shape), result.dtype


def _follow(
    steps: Steps,
    x: Tensor,
    weights: Sequence[Tensor],
    constants: Sequence[Tensor],
    call: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any],
    on: str = "cpu",
    most: int | None = None,
) -> Any:
    """Call one operator after the other; a value is let go when nothing more is made of it.

    Raises:
        DataError: if values that are there at one time have more than `most` elements.
    """
    values: dict[int, Any] = {0: x}
    live = _elements(x)
    last = _last_uses(steps)
    known = 1

    def resolved(arg: Any) -> Any:
        kind = type(arg)
        if kind is Place:
            if arg.kind == VALUE:
                return values[arg.at]
            return weights[arg.at] if arg.kind != CONSTANT else constants[arg.at]
        if kind is list:
            return [resolved(each) for each in arg]
        return torch.device(on) if kind is torch.device else arg

    for at, node in enumerate(steps.nodes):
        args, kwargs = tuple(map(resolved, node.args)), {key: resolved(arg) for key, arg in node.kwargs.items()}
        results = _flat(call(node.operator, args, kwargs))
        if len(results) != node.results:
            raise DataError(f"{node.operator} of this model gives {len(results)} results, not {node.results}")
        values.update(enumerate(results, known))
        known += node.results
        live += sum(map(_elements, results))
        if most is not None and live > most:
            raise DataError("the values of this model, all in all, need more than the memory of this machine")
        for index in last.get(at, ()):
            live -= _elements(values.pop(index))
    return values[steps.result.at]


def _pieces(operator: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """How many tensors an operator that gives a list of them may give, before it is asked: each takes a kilobyte."""
    if not any(isinstance(each.type, torch.ListType) for each in operator._schema.returns):
        return 0
    given = tree_leaves((args, kwargs))
    longest = max((size for x in given if isinstance(x, Tensor) for size in x.shape), default=0)
    name, second = operator._schema.name.partition("::")[2], args[1] if len(args) > 1 else None
    if type(second) is int and second > 0 and name in ("split", "unsafe_split"):
        return -(-longest // second)
    return len(given) if isinstance(second, list) else longest


def _elements(value: Any) -> int:
    return math.prod(value.shape) if isinstance(value, Tensor) else 0


def _flat(result: Any) -> list[Any]:
    if isinstance(result, (list, tuple)):
        return [each for part in result for each in _flat(part)]
    return [result]


def _last_uses(steps: Steps) -> Mapping[int, list[int]]:
    """Which values are not needed any more after each operator."""
    last: dict[int, int] = {}
    known = 1
    for at, node in enumerate(steps.nodes):
        last.update((index, at) for index in range(known, known + node.results))
        known += node.results
        last.update((place.at, at) for place in places((node.args, node.kwargs)) if place.kind == VALUE)
    last.pop(steps.result.at, None)
    by_node: dict[int, list[int]] = {}
    for index, at in last.items():
        by_node.setdefault(at, []).append(index)
    return by_node
