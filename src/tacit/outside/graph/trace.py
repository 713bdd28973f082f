"""From a model to its graph: it is run once for each number of rows, on secrets that hide nothing, and what it does is
written down.

Floating-point tensors of the model are its weights, wherever it keeps them and whatever it makes them of (a list, an
array of NumPy, whole numbers with a scale), and stay the server's. What is public of it is what is public of every
program: operators, shapes, names of weights, single numbers in its code and what is made of them alone, tensors of
whole numbers and of bools, and masks, which hold 0, 1 and infinities.
"""

from __future__ import annotations

import math
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
from tacit.protocols.protocol import Protocol
from tacit.session.config import Config
from tacit.tensor import SecretTensor
from tacit.tensor.nested import secrets_in
from tacit.tensor.refusals import public_name

__all__ = ["Traced", "sizes", "traced"]

aten = torch.ops.aten

LIFTS = (aten.lift_fresh.default, aten.lift_fresh_copy.default, aten.lift.default)
"""By which torch.tensor, as_tensor and from_numpy bring in what they were given: single numbers, or a whole layer."""
FILLS = (aten.full.default, aten.scalar_tensor.default, aten.full_like.default, aten.new_full.default)
FOREIGN = (*LIFTS, aten.from_file.default)
STORAGES = (torch.UntypedStorage, torch.TypedStorage)

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
        """What was made in this run of public numbers alone, or is a mask."""
        self._numbers: set[int] = set()
        """Those of them that are one number, from a tensor; several of them together are a weight."""
        self._lost: list[Tensor] = []
        """What was public and was written to. It is kept, so identities stay theirs."""
        if isinstance(model, nn.Module):
            for name, secret in secrets_in(model):
                if id(secret) not in self._lasting:
                    self._add_weight(name or "a weight", secret)

    def steps(self, rows: int, shape: tuple[int, ...], dtype: torch.dtype) -> Steps:
        """Run the model on so many rows."""
        x = share(torch.zeros(rows, *shape, dtype=dtype), owner=OWNER, name="a request")
        self._nodes, self._known = [], 1
        self._public, self._numbers = {}, set()
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
            public = self._of_code(func, (args, kwargs), tensors)
            out = func(*args, **kwargs)
            self._note(func, out, tensors, public=public, brought=_brings(func, (args, kwargs)))
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

    def _told(self, x: Tensor) -> bool:
        """Whether a tensor that is no weight is told as it is. Whole numbers of the model are positions, and may be
        weights without their scale: what is made of them is looked at.
        """
        return id(x) in self._public or x.dtype == torch.bool or x.dtype.is_floating_point

    def _of_code(self, func: Any, arguments: Any, tensors: Sequence[Tensor]) -> bool:
        """Whether an operator on no secret makes its result of masks and a single number in the model's code alone."""
        if func in FOREIGN or any(isinstance(x, STORAGES) for x in tree_leaves(arguments)):
            return False
        numbers = {id(t) for t in tensors if id(t) in self._numbers}
        return len(numbers) + _brings(func, arguments) < 2 and all(map(self._told, tensors))

    def _note(self, func: Any, out: Any, tensors: Sequence[Tensor], *, public: bool, brought: bool) -> None:
        """Keep which results are public: those of code, masks, and single numbers."""
        single = func in LIFTS or (func not in FOREIGN and all(map(self._told, tensors)))
        number = any(id(t) in self._numbers for t in tensors)
        for t in tree_leaves(out):
            if not isinstance(t, Tensor):
                continue
            mask = t.dtype.is_floating_point and t.numel() > 0 and _is_mask(t, self._protocol)
            memory = t.untyped_storage().data_ptr()
            same = [t]
            if func._schema.is_mutable:  # there may be views of what was written to
                same += [each for each in self._public.values() if each.untyped_storage().data_ptr() == memory]
            if public or mask or (single and not t.dim() and not func._schema.is_mutable):
                self._public[id(t)] = t
                if number or (not mask and (brought or func in LIFTS)):
                    self._numbers.update(map(id, same))
            else:
                self._lost += [self._public.pop(id(each), each) for each in same]

    def _is_weight(self, x: Any, func: Any) -> bool:
        """Whether a plain tensor is the model's own, and not a mask."""
        if not isinstance(x, Tensor) or isinstance(x, SecretTensor) or not x.dtype.is_floating_point:
            return False
        if id(x) in self._public or func in LIFTS:  # of what is lifted, the result decides
            return False
        if unreachable(x, self._protocol) is None:
            return True
        if not _is_mask(x, self._protocol):
            raise DataError(
                f"a tensor of shape {tuple(x.shape)} of this model holds infinities, or numbers as large, and other "
                "numbers: a mask is told to clients and a weight is not, so keep them apart, as x + bias + mask"
            )
        return False

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


def _brings(func: Any, arguments: Any) -> bool:
    """Whether an operator writes a number of the model's code, of which many would be a weight."""
    if not (func in FILLS or func._schema.is_mutable):
        return False
    return any(isinstance(x, float) and abs(x) not in (0.0, 1.0, math.inf) for x in tree_leaves(arguments))


def _is_mask(x: Tensor, protocol: Protocol) -> bool:
    """Whether all numbers are 0, 1 or infinite, or one and the same that fixed point does not hold."""
    far = unreachable(x, protocol)
    near = x if far is None else x[~far]
    large = x.new_empty(0) if far is None else x[far & x.isfinite()].abs().unique()
    return bool(((near == 0) | (near == 1)).all()) and large.numel() <= (far is not None)


def _ring(secret: SecretTensor) -> Tensor:
    """The ring elements of a weight."""
    held = secret.share
    assert isinstance(held, Number)
    return held.content.assembled().contiguous()
