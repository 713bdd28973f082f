"""Where the rows of a service's batches come from: shares that clients cut, or columns that owners put in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import reduce
from operator import mul
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from tacit.errors import ConfigError, DataError
from tacit.outside.door import Handler
from tacit.outside.plan import KeyPlan, Plan
from tacit.predictions.columns import Named, Shelf
from tacit.predictions.questions import Questions
from tacit.predictions.queue import Queue
from tacit.protocols.protocol import Protocol
from tacit.protocols.values import Value
from tacit.records.joining import single
from tacit.records.table import Held, Records, said_by_owner
from tacit.tensor import SecretTensor

__all__ = ["ByClients", "ByOwners", "Inputs", "check_columns"]

Model = Callable[[Any], Any]


class Inputs(ABC):
    """What differs between kinds of services."""

    @property
    @abstractmethod
    def plan(self) -> Plan | KeyPlan:
        """What clients are told."""

    @abstractmethod
    def handler(self, queue: Queue, party: str) -> Handler:
        """What puts requests into a party's queue."""

    @abstractmethod
    def blank(self, party: str) -> Tensor:
        """What stands at a party for a batch that nobody asked for; requests overwrite its first rows."""

    @abstractmethod
    def run(self, model: Model, tensors: Sequence[Tensor]) -> SecretTensor:
        """The model's results of a batch, of which each hosted party has one tensor, as clients get them."""


class ByClients(Inputs):
    """Clients cut their inputs into shares."""

    def __init__(self, protocol: Protocol, plan: Plan) -> None:
        self._protocol, self._plan = protocol, plan

    @property
    @override
    def plan(self) -> Plan:
        return self._plan

    @override
    def handler(self, queue: Queue, party: str) -> Handler:
        return Questions(self._plan, queue)

    @override
    def blank(self, party: str) -> Tensor:
        return torch.zeros(self._shape, dtype=torch.int64)

    @property
    def _shape(self) -> torch.Size:
        return torch.Size((self._plan.batch, *self._plan.shape))

    @override
    def run(self, model: Model, tensors: Sequence[Tensor]) -> SecretTensor:
        frac_bits = self._protocol.frac_bits if self._plan.torch_dtype.is_floating_point else 0
        x = self._protocol.adopt(list(tensors), self._shape, frac_bits, name="a batch")
        return results(model, SecretTensor(x, self._plan.torch_dtype), self._plan.batch)


class ByOwners(Inputs):
    """Clients name people, and owners put in their columns: those of the first table, then those of the others."""

    def __init__(self, protocol: Protocol, tables: Sequence[Records], batch: int, given: Sequence[str] = ()) -> None:
        self._protocol, self._batch, self._given = protocol, batch, frozenset(given)
        owners = [table.owner for table in tables]
        if not tables or any(not isinstance(table, Records) for table in tables):
            raise ConfigError("a service takes tables as tacit.read_table returns them, one of each owner")
        if len(set(owners)) < len(owners):
            raise ConfigError("a service takes one table of each owner: join those of one owner by a query=… there")
        if any(len(table.alternatives) > 1 for table in tables):
            raise ConfigError("clients name people by one key: read tables for a service without tacit.either")
        if isinstance(given, str) or not self._given <= set(owners):
            raise ConfigError(f"given= lists owners of tables, who are {', '.join(owners)}, and not {given!r}")
        empty = [table.owner for table in tables if not table.columns]
        if empty:
            raise ConfigError(f"the table of {' and '.join(empty)} has no columns but keys and labels")
        self.tables = tuple(single(table, first=False) if table.parts else table for table in tables)
        self._shelves: dict[str, Shelf] = {}
        for table in self.tables:
            said_by_owner(table, Held.numbers)  # what cannot be computed with is told before anybody asks
            if table.held is not None:
                self._shelves[table.owner] = Shelf(table, protocol.frac_bits)
        self._result: tuple[int, ...] = ()

    @property
    @override
    def plan(self) -> KeyPlan:
        return KeyPlan(tuple((table.owner, table.parts) for table in self.tables), self._batch, self._result)

    @override
    def handler(self, queue: Queue, party: str) -> Handler:
        return Named(lambda: self.plan, queue, self._shelves.get(party), given=party in self._given)

    @override
    def blank(self, party: str) -> Tensor:
        width = next((len(table.columns) + 1 for table in self.tables if table.owner == party), 0)
        return torch.zeros((self._batch, width), dtype=torch.int64)

    @override
    def run(self, model: Model, tensors: Sequence[Tensor]) -> SecretTensor:
        """[y Π m, Π m] for the model's results y of each row and the owners' marks m of who is there."""
        session = self._protocol.session
        mine = {session.parties[i]: t for i, t in zip(session.party_indices, tensors, strict=True)}
        columns, marks = [], []
        for table in self.tables:
            held = mine.get(table.owner)
            columns.append(self._of(table, held, slice(0, -1), len(table.columns), self._protocol.frac_bits))
            marks.append(self._of(table, held, slice(-1, None), 1, 0))
        known = reduce(mul, marks)
        y = results(model, torch.cat(columns, dim=1), self._batch).to(torch.float32)
        self._result = tuple(y.shape[1:])
        out = torch.cat([y.reshape(self._batch, -1) * known, known.to(torch.float32)], dim=1)
        assert isinstance(out, SecretTensor)
        return out

    def _of(self, table: Records, held: Tensor | None, part: slice, width: int, frac_bits: int) -> Tensor:
        value = None if held is None else held[:, part].contiguous()
        share: Value = self._protocol.share(value, table.owner, (self._batch, width), frac_bits)
        if not frac_bits:
            share.facts.within = range(2)
        return SecretTensor(share, torch.float32 if frac_bits else torch.int64)


def check_columns(tables: Sequence[Records], trained: list[str]) -> None:
    """Raise where tables do not have the columns that a model was trained with, in that order. Names are public."""
    here = [name for table in tables for name in table.columns]
    if here == trained:
        return
    lacking, new = [n for n in trained if n not in here], [n for n in here if n not in trained]
    if lacking or new:
        parts = [("lack", lacking), ("have", new)]
        what = " and ".join(f"{verb} {', '.join(map(repr, names))}" for verb, names in parts if names)
        raise ConfigError(f"the tables of this service {what}, unlike those that its model was trained with")
    raise ConfigError(
        f"the tables of this service have the columns of training in another order: the first ones were "
        f"{', '.join(map(repr, trained[:3]))}; give tables in the order of the join"
    )


def results(model: Model, x: Tensor, batch: int) -> SecretTensor:
    """What the model gives for a batch, as numbers."""
    y = model(x)
    if not isinstance(y, SecretTensor) or y.dim() == 0 or len(y) != batch:
        raise DataError(f"a served model gives a secret tensor of {batch} rows, one for each input")
    return y.to(torch.int64) if y.dtype == torch.bool else y  # type: ignore[return-value]
