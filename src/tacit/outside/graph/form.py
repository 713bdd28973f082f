"""The graph of a model: which operators it is made of, in which order, on what.

A graph is public and holds nothing that could be executed: names of operators that Tacit has for secrets, shapes, and
the numbers that stand in the model's code. Weights are in it by name, shape and dtype, and their values are the
server's. There is a list of operators for each number of rows that a request may have::

    {"format": 1, "input": [shape, dtype], "weights": [[name, shape, dtype, frac_bits], …],
     "constants": [[dtype, shape, base64], …],
     "rows": {"1": {"nodes": [["aten.addmm.default", [{"w": 1}, {"v": 0}, {"v": 1}], {}, 1], …], "result": 7}, …}}

Value 0 is the input, and each operator gives one or several more.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.errors import DataError, UnsupportedOperator
from tacit.outside.schema import DTYPES, MOST_DIMENSIONS
from tacit.protocols.scale import PRECISE_BITS
from tacit.tensor.compositions import in_terms_of_others
from tacit.tensor.registry import HANDLERS

__all__ = ["DIGEST", "MOST_BYTES", "Graph", "Node", "Place", "Steps", "Weight", "checked_operator"]

FORMAT = 1
DIGEST = "sha256:"

MOST_BYTES = 1 << 24
"""Of the text of a graph, which travels as one public message."""

MOST_NODES = 1 << 16
DEEPEST = 4
"""Lists in lists of arguments."""

OPERATOR = re.compile(r"(aten|tacit)\.([A-Za-z0-9_]{1,80})\.([A-Za-z0-9_]{1,80})", re.ASCII)
VALUE, WEIGHT, CONSTANT = "v", "w", "c"
SPECIAL = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
PUBLIC_DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
NAMED: dict[str, Callable[[str], Any]] = {
    "d": lambda name: _named(name, torch.dtype),
    "m": lambda name: _named(name, torch.memory_format),
    "l": lambda name: _named(name, torch.layout),
}

UNSEEN = (torch.ops.aten._new_zeros_with_same_feature_meta.default,)
"""Of derivatives forward alone; and it crashes where it is told to leave out more dimensions than there are."""

KINDS = {
    "ScalarType": torch.dtype,
    "Layout": torch.layout,
    "MemoryFormat": torch.memory_format,
    "Device": torch.device,
}
"""By what an operator calls an argument that has names for values: what they are in Python."""


class Place(NamedTuple):
    """Where an operand is found: among values, weights or constants."""

    kind: str
    at: int


class Weight(NamedTuple):
    """What is public of a weight."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    frac_bits: int


class Node(NamedTuple):
    """An operator with its arguments, in which places stand for tensors, and how many values it gives."""

    operator: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: int


@dataclass(frozen=True, slots=True)
class Steps:
    """The operators for one number of rows."""

    nodes: tuple[Node, ...]
    result: Place


@dataclass(frozen=True, slots=True)
class Graph:
    """A model as data. Make one with `trace.traced`, or with `parse`."""

    shape: tuple[int, ...]
    """Of one input."""
    dtype: str
    weights: tuple[Weight, ...]
    constants: tuple[Tensor, ...]
    steps: Mapping[int, Steps]
    """By the number of rows."""

    @property
    def rows(self) -> tuple[int, ...]:
        """The numbers of rows that there are operators for, in their order."""
        return tuple(sorted(self.steps))

    @property
    def told(self) -> tuple[int, int]:
        """How many numbers of the model clients are told: different ones that stand with an operator, but for whole
        ones up to 2, and elements of constant tensors, but for truth values and masks' 0, 1 and infinities.
        """
        lists = (x for steps in self.steps.values() for node in steps.nodes for x in _floats((node.args, node.kwargs)))
        single = {abs(x) for x in lists if math.isfinite(x)} - {0.0, 1.0, 2.0}
        return len(single), sum(map(_telling, self.constants))

    @property
    def text(self) -> bytes:
        """What travels."""
        literal = {
            "format": FORMAT,
            "input": [list(self.shape), self.dtype],
            "weights": [[w.name, list(w.shape), w.dtype, w.frac_bits] for w in self.weights],
            "constants": [_literal_constant(c) for c in self.constants],
            "rows": {
                str(rows): {
                    "nodes": [[str(n.operator), _literal(n.args), _literal(n.kwargs), n.results] for n in steps.nodes],
                    "result": _literal(steps.result),
                }
                for rows, steps in sorted(self.steps.items())
            },
        }
        return json.dumps(literal, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """By which two graphs are told apart."""
        return digest_of(self.text)

    @staticmethod
    def parse(text: bytes) -> Graph:
        """Read what somebody else has sent; raise `DataError` for whatever is no graph of operators of Tacit."""
        try:
            literal = json.loads(text)
            if literal["format"] != FORMAT or len(text) > MOST_BYTES:
                raise ValueError
            shape, dtype = literal["input"]
            weights = tuple(_weight(each) for each in literal["weights"])
            constants = tuple(_constant(each) for each in literal["constants"])
            steps = {_whole(int(rows), 1, 1 << 16): _steps(each) for rows, each in literal["rows"].items()}
            if not steps or dtype not in DTYPES:
                raise ValueError
            graph = Graph(_shape(shape), dtype, weights, constants, steps)
            for each in steps.values():
                _check_places(graph, each)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError("what was sent as a model is no graph of operators") from None
        return graph


def digest_of(text: bytes) -> str:
    """The digest of a graph by its text."""
    return DIGEST + hashlib.sha256(b"tacit graph\0" + text).hexdigest()


def checked_operator(name: str) -> Any:
    """The operator of this name, if it is one that secrets have; raise `DataError` if it is not."""
    found = OPERATOR.fullmatch(name)
    if found is None:
        raise DataError(f"a model is made of operators of PyTorch, and {name[:80]!r} is none")
    packet = getattr(getattr(torch.ops, found[1]), found[2], None)
    operator = getattr(packet, found[3], None)
    if not isinstance(operator, torch._ops.OpOverload):
        raise DataError(f"a model is made of operators of PyTorch, and {name[:80]!r} is none")
    if operator in HANDLERS and operator not in UNSEEN:
        return operator
    if any(a.is_out for a in operator._schema.arguments):
        raise DataError(
            f"{name[:80]} writes into a tensor that is given, which a served model does not: leave out= out"
        )
    if found[2].startswith("_"):
        raise DataError(f"{name[:80]} is an operator of PyTorch's own, which no program calls")
    try:
        if operator.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
            raise DataError(f"a model is told by the operators that {name[:80]} is made of, not by its own name")
        in_terms_of_others(operator)
    except UnsupportedOperator as error:
        raise DataError(str(error)) from None
    except RuntimeError:  # of scripts alone, not of programs
        raise DataError(f"a model is made of operators of PyTorch, and {name[:80]!r} is none") from None
    return operator


def _telling(constant: Tensor) -> int:
    if constant.dtype == torch.bool:
        return 0
    x = constant.abs().double()
    return int(((x != 0) & (x != 1) & x.isfinite()).sum())


def _floats(x: Any) -> Iterator[float]:
    if isinstance(x, float):
        yield x
    elif isinstance(x, Mapping):
        for value in x.values():
            yield from _floats(value)
    elif isinstance(x, (list, tuple)):
        for value in x:
            yield from _floats(value)


# --- writing ---------------------------------------------------------------------------------------------------------


def _literal(x: Any) -> Any:
    """An argument in a form for JSON."""
    if isinstance(x, Place):
        return {x.kind: x.at}
    if isinstance(x, Mapping):
        return {key: _literal(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_literal(value) for value in x]
    if isinstance(x, float) and not math.isfinite(x):
        return {"f": repr(x)}
    if isinstance(x, torch.dtype):
        return {"d": str(x).removeprefix("torch.")}
    if isinstance(x, torch.memory_format):
        return {"m": str(x).removeprefix("torch.")}
    if isinstance(x, torch.layout):
        return {"l": str(x).removeprefix("torch.")}
    if isinstance(x, torch.device):
        return {"on": "cpu"}
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    raise DataError(f"a model that is told to clients has an operator with a {type(x).__name__} among its arguments")


def _literal_constant(constant: Tensor) -> list[Any]:
    data = constant.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return [str(constant.dtype).removeprefix("torch."), list(constant.shape), base64.b64encode(data).decode()]


# --- reading ---------------------------------------------------------------------------------------------------------


def _whole(x: object, least: int, most: int) -> int:
    if type(x) is not int or not least <= x <= most:
        raise ValueError
    return x


def _shape(literal: Any) -> tuple[int, ...]:
    if not isinstance(literal, list) or len(literal) > MOST_DIMENSIONS:
        raise ValueError
    return tuple(_whole(n, 0, 1 << 40) for n in literal)


def _weight(literal: Any) -> Weight:
    name, shape, dtype, frac_bits = literal
    if not isinstance(name, str) or dtype not in PUBLIC_DTYPES:
        raise ValueError
    return Weight(name[:200], _shape(shape), dtype, _whole(frac_bits, 0, PRECISE_BITS))


def _constant(literal: Any) -> Tensor:
    dtype, shape, text = literal
    if dtype not in PUBLIC_DTYPES:
        raise ValueError
    kind, sizes = getattr(torch, dtype), _shape(shape)
    data = base64.b64decode(text, validate=True)
    if math.prod(sizes) * kind.itemsize != len(data):
        raise ValueError
    if not data:
        return torch.empty(sizes, dtype=kind)
    if dtype == "bool" and data.strip(b"\0\1"):
        raise ValueError
    return torch.frombuffer(bytearray(data), dtype=kind).view(sizes)


def _named(name: str, kind: type) -> Any:
    found = getattr(torch, name, None)
    if not isinstance(found, kind):
        raise ValueError
    return found


def _argument(x: Any, depth: int = 0) -> Any:
    """An argument from its form for JSON."""
    if isinstance(x, list):
        if depth > DEEPEST:
            raise ValueError
        return [_argument(value, depth + 1) for value in x]
    if not isinstance(x, dict):
        return x
    ((key, value),) = x.items()
    if key in (VALUE, WEIGHT, CONSTANT):
        return Place(key, _whole(value, 0, 1 << 32))
    if key == "f":
        return SPECIAL[value]
    if key == "on":
        return torch.device("cpu")
    return NAMED[key](value)


def _steps(literal: Any) -> Steps:
    nodes = []
    if len(literal["nodes"]) > MOST_NODES:
        raise ValueError
    for name, args, kwargs, count in literal["nodes"]:
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise ValueError
        named = {key: _argument(value) for key, value in kwargs.items()}
        node = Node(checked_operator(name), tuple(_argument(args)), named, _whole(count, 0, 1 << 16))
        _check_kinds(node)
        nodes.append(node)
    result = _argument(literal["result"])
    if not isinstance(result, Place):
        raise ValueError
    return Steps(tuple(nodes), result)


def _check_kinds(node: Node) -> None:
    """Refuse numbers where PyTorch has names: it looks one up in a table of its own, wherever that ends."""
    arguments = node.operator._schema.arguments
    given = {**dict(zip((a.name for a in arguments), node.args, strict=False)), **node.kwargs}
    for argument in arguments:
        kind = KINDS.get(re.sub(r"Optional\[(\w+)\]", r"\1", str(argument.real_type)))
        if kind is not None and not isinstance(given.get(argument.name), (kind, type(None))):
            raise ValueError


def _check_places(graph: Graph, steps: Steps) -> None:
    """Every operator has a secret among its operands, so that Tacit computes it, and knows them all before."""
    known = 1
    for node in steps.nodes:
        found = list(places((node.args, node.kwargs)))
        for place in found:
            _check_place(graph, place, known)
        if all(place.kind == CONSTANT for place in found):
            raise ValueError
        known += node.results
    _check_place(graph, steps.result, known)
    if steps.result.kind != VALUE:
        raise ValueError


def _check_place(graph: Graph, place: Place, known: int) -> None:
    counts = {VALUE: known, WEIGHT: len(graph.weights), CONSTANT: len(graph.constants)}
    if place.at >= counts[place.kind]:
        raise ValueError


def places(x: Any) -> Iterator[Place]:
    """All places in some arguments."""
    if isinstance(x, Place):
        yield x
    elif isinstance(x, Mapping):
        for value in x.values():
            yield from places(value)
    elif isinstance(x, Sequence) and not isinstance(x, str):
        for value in x:
            yield from places(value)
