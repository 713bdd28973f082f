"""From a model to its graph: it is run once for each number of rows, on secrets that hide nothing, and what it does is
written down.

Floating-point tensors of the model are its weights, wherever it keeps them, and stay the server's. What is public of
it is what is public of every program: operators, shapes, numbers in its code, and tensors of whole numbers, of bools
and of infinities, which are positions and masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tacit.api import active_protocol, embedded, share
from tacit.errors import ConfigError, DataError
from tacit.functions.linear import unreachable
from tacit.outside.graph.form import (
    CONSTANT,
    MOST_BYTES,
    VALUE,
    WEIGHT,
    Graph,
    Node,
    Place,
    Steps,
    Weight,
    checked_operator,
)
from tacit.outside.graph.run import check
from tacit.outside.schema import DTYPES
from tacit.protocols.number import Number
from tacit.session.config import Config
from tacit.tensor import SecretTensor
from tacit.tensor.nested import secrets_in
from tacit.tensor.refusals import public_name

__all__ = ["Traced", "sizes", "traced"]

aten = torch.ops.aten

OWNER = "alice"
"""Of weights, while a model is traced: any of the two names that an embedded session has."""


class Traced(NamedTuple):
    """A graph, and what the server alone knows: the ring elements of its weights."""

    graph: Graph
    weights: tuple[Tensor, ...]

    def __repr__(self) -> str:
        return f"Traced({self.graph.digest}, <{len(self.weights)} hidden weights>)"


def sizes(batch: int) -> list[int]:
    """The numbers of rows that a model is traced for: powers of two, so that few rows do not cost what many do."""
    return sorted({batch, *(1 << k for k in range(batch.bit_length()) if 1 << k < batch)})


def traced(model: Callable[[Any], Any], shape: Sequence[int], dtype: str, batch: int, *, frac_bits: int = 16) -> Traced:
    """Trace a model, a module or a function of plain tensors, for up to `batch` rows.

    Raises:
        UnsupportedOperator, RevealError, DataError: for what secrets cannot do, at the line of the model.
    """
    with torch.random.fork_rng(devices=[]), embedded(Config.embedded(protocol="plain", frac_bits=frac_bits)):
        if isinstance(model, nn.Module):
            if any(isinstance(t, SecretTensor) for t in (*model.parameters(), *model.buffers())):
                raise ConfigError("a server that computes with its clients has a plain model: leave tacit.share out")
            model = share(model.eval(), owner=OWNER)
        recorder = _Recorder(model)
        steps = {rows: recorder.steps(rows, tuple(shape), DTYPES[dtype]) for rows in sizes(batch)}
        graph = Graph(tuple(shape), dtype, tuple(recorder.weights), tuple(recorder.constants), steps)
        rings = tuple(recorder.rings)
    if len(graph.text) > MOST_BYTES:
        raise ConfigError(
            f"the graph of this model has {len(graph.text) >> 20} MiB for up to {batch} rows, and {MOST_BYTES >> 20} "
            f"MiB at most are told to clients: serve smaller batches, or keep large masks out of it"
        )
    graph = Graph.parse(graph.text)  # what a client will read, checked as it will check it
    check(graph)
    return Traced(graph, rings)


class _Recorder(TorchDispatchMode):
    """Writes down the operators on secrets."""

    def __init__(self, model: Callable[[Any], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weights: list[Weight] = []
        self.rings: list[Tensor] = []
        self.constants: list[Tensor] = []
        self._model = model
        self._protocol = active_protocol()
        self._nodes: list[Node] = []
        self._known = 1
        self._values: dict[int, tuple[Tensor, Place]] = {}
        """By identity: the secrets of this run, and where they are found. They are kept, so identities stay theirs."""
        self._lasting: dict[int, tuple[SecretTensor, Place]] = {}
        self._hidden: dict[int, tuple[Tensor, SecretTensor]] = {}
        """Plain tensors that were found to be weights, and the secrets that stand for them."""
        self._public: dict[int, Tensor] = {}
        """What was made in this run of public numbers alone."""
        if isinstance(model, nn.Module):
            for name, secret in secrets_in(model):
                if id(secret) not in self._lasting:
                    self._add_weight(name or "a weight", secret)

    def steps(self, rows: int, shape: tuple[int, ...], dtype: torch.dtype) -> Steps:
        """Run the model on so many rows."""
        x = share(torch.zeros(rows, *shape, dtype=dtype), owner=OWNER, name="a request")
        self._nodes, self._known, self._public = [], 1, {}
        self._values = {id(x): (x, Place(VALUE, 0))}
        with torch.no_grad(), self:
            y = self._model(x)
            if not isinstance(y, SecretTensor) or not y.dim() or len(y) != rows:
                raise DataError(f"a served model gives a tensor of {rows} rows for {rows} inputs, made of the inputs")
            if y.dtype == torch.bool:
                y = y.to(torch.int64)
            if y is x or id(y) not in self._values:
                y = y.clone()
            for (secret, _), ring in zip(self._lasting.values(), self.rings, strict=True):
                if not torch.equal(_ring(secret), ring):
                    raise DataError(
                        "this model overwrites a weight of its own, so that no two clients had the same one"
                    )
        return Steps(tuple(self._nodes), self._place(y))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise DataError(f"{public_name(func)} draws random numbers, which a served model does not: call .eval()")
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if not any(isinstance(t, SecretTensor) or self._is_weight(t, func) for t in tensors):
            out = func(*args, **kwargs)
            self._public.update((id(t), t) for t in tree_leaves(out) if isinstance(t, Tensor))
            return out
        args, kwargs = tree_map(lambda x: self._as_secret(x, func), (args, kwargs))
        operator = checked_operator(str(func))
        places = tree_map(self._place, (args, kwargs))
        out = func(*args, **kwargs)
        results = tree_leaves(out) if isinstance(out, (list, tuple)) else [out]
        self._nodes.append(Node(operator, tuple(places[0]), places[1], len(results)))
        for index, result in enumerate(results, self._known):
            if isinstance(result, SecretTensor):
                self._values[id(result)] = result, Place(VALUE, index)
        self._known += len(results)
        return out

    def _is_weight(self, x: Any, func: Any) -> bool:
        """Whether a plain tensor is the model's own, and not a mask."""
        if not isinstance(x, Tensor) or isinstance(x, SecretTensor) or not x.dtype.is_floating_point:
            return False
        if id(x) in self._public or func is aten.lift_fresh.default:  # a number in the model's code
            return False
        return unreachable(x, self._protocol) is None

    def _as_secret(self, x: Any, func: Any) -> Any:
        if not self._is_weight(x, func):
            return x
        if id(x) not in self._hidden:
            alike = (s for t, s in self._hidden.values() if t.dtype == x.dtype and torch.equal(t, x))
            secret = next(alike, None)  # a function may make it anew for each number of rows
            if secret is None:
                name = f"weight {len(self.weights)}"
                secret = share(x.detach(), OWNER, name=name, frac_bits=self._protocol.parameter_bits)
                self._add_weight(name, secret)
            self._hidden[id(x)] = x, secret
        return self._hidden[id(x)][1]

    def _add_weight(self, name: str, secret: SecretTensor) -> None:
        self._lasting[id(secret)] = secret, Place(WEIGHT, len(self.weights))
        dtype = str(secret.dtype).removeprefix("torch.")
        self.weights.append(Weight(name, tuple(secret.shape), dtype, secret.share.scale.frac_bits))
        self.rings.append(_ring(secret))

    def _place(self, x: Any) -> Any:
        """Where a tensor is found; everything else is as it is."""
        if isinstance(x, SecretTensor):
            found = self._values.get(id(x)) or self._lasting.get(id(x))
            if found is None:
                raise DataError(
                    "this model makes a secret by other means than operators of PyTorch, which cannot be told to "
                    "clients: serve it from two servers"
                )
            return found[1]
        return self._constant(x) if isinstance(x, Tensor) else x

    def _constant(self, x: Tensor) -> Place:
        x = x.detach().cpu()
        for index, known in enumerate(self.constants):
            if known.dtype == x.dtype and known.shape == x.shape and torch.equal(known, x):
                return Place(CONSTANT, index)
        self.constants.append(x.clone().contiguous())
        return Place(CONSTANT, len(self.constants) - 1)


def _ring(secret: SecretTensor) -> Tensor:
    """The ring elements of a weight."""
    held = secret.share
    assert isinstance(held, Number)
    return held.content.assembled().contiguous()
