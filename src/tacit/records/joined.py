"""What a join gives: rows of several owners, whose columns become secrets when somebody asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from tacit.api import active_protocol, adopted, share
from tacit.aten.rows import weighted
from tacit.errors import ConfigError, DataError
from tacit.protocols.matching import Match
from tacit.records.parts import InParts, Part, places_of
from tacit.records.table import FITTED, Held, Preparation, Records, check_fitted, check_names, said_by_owner
from tacit.ring.fixed_point import encode
from tacit.tensor import SecretTensor
from tacit.tensor.operands import secret

__all__ = ["Joined"]


class Joined(InParts):
    """Rows that belong together, of several owners' tables. `len()` is how many they are.

    All roles ask for its tensors at the same point of the program, for then they are shared. Rows of weight 0 are
    zeros.
    """

    def __init__(
        self,
        tables: Sequence[Records],
        rows: int,
        match: Match | None,
        places: dict[str, Tensor],
        *,
        left: bool = False,
    ) -> None:
        self.tables = tuple(tables)
        self._rows = rows
        self._match, self._places, self._left = match, places, left
        self._parts: dict[str, SecretTensor] = {}

    def __len__(self) -> int:
        return self._rows

    def __repr__(self) -> str:
        return f"Joined({len(self)} rows of {', '.join(table.owner for table in self.tables)})"

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of `x`: those of the first table, then those of the others."""
        return tuple(name for table in self.tables for name in table.columns)

    @cached_property
    def x(self) -> SecretTensor:
        """The columns of all owners but keys and labels, float32 [rows, columns]."""
        parts: list[Tensor] = [self.x_of(table.owner) for table in self.tables if table.columns]
        if not parts:
            raise DataError("these tables have no columns but keys and labels")
        out = torch.cat(parts, dim=1)
        assert isinstance(out, SecretTensor)
        return out

    def x_of(self, owner: str) -> SecretTensor:
        """The columns of one owner."""
        if owner not in self._parts:
            self._parts[owner] = self._part(self._table(owner))
        return self._parts[owner]

    @property
    @override
    def sharded(self) -> bool:
        return self.tables[0].shard is not None

    def _part_of(self, rows: Tensor) -> Part:
        labelled = any(table.label is not None for table in self.tables)
        if self._match is not None or "x" in self.__dict__:
            x, label = self.x[rows], self.y[rows] if labelled else None
            return (x,) if label is None else (x, label)  # type: ignore[return-value]
        places = {owner: found[rows] for owner, found in self._places.items()}
        parts = [t.numbers_of(len(rows), places.get(t.owner)) for t in self.tables if t.columns]
        if not parts:
            raise DataError("these tables have no columns but keys and labels")
        x = torch.cat(parts, dim=1)  # type: ignore[arg-type]
        if not labelled:
            return (x,)  # type: ignore[return-value]
        table = self._labelled()
        return x, table.labels_of(len(rows), places.get(table.owner))  # type: ignore[return-value]

    def _labelled(self) -> Records:
        """The table with the label."""
        labelled = [table for table in self.tables if table.label is not None]
        if len(labelled) != 1:
            owners = " and ".join(table.owner for table in labelled)
            found = f"{owners} have one each" if labelled else "nobody has"
            raise ConfigError(f"of these tables one must have a label, and {found}: tacit.read_table(…, label=…)")
        if self._left and labelled[0] is not self.tables[0]:
            raise ConfigError(
                f'a join with how="left" keeps rows that {labelled[0].owner} has no label for: make the table with the '
                f"label the first one"
            )
        return labelled[0]

    @cached_property
    def y(self) -> SecretTensor:
        """The label: int64 [rows] for classes, float32 [rows, 1] for numbers."""
        label, match = self._label(self._labelled()), self._match
        marks = None if match is None else match.weight(0)
        if marks is None:
            return label
        return weighted(label, secret(marks.move(lambda t: t.reshape(label.shape), view=False), torch.int64))

    @cached_property
    def weight(self) -> SecretTensor:
        """1 for every row that counts and 0 for those of nobody, float32 [rows]; `y` takes it along by itself.

        The latter are there with reveal="nothing".
        """
        protocol = active_protocol()
        if self._match is None:
            return share(torch.ones(len(self)), name="weights of rows")
        protocol.session.transcript.record("tacit.join: weights of rows")
        weight = self._match.weight(protocol.frac_bits)
        if weight is None:
            return share(torch.ones(len(self)), name="weights of rows")
        out = adopted(weight, torch.float32).squeeze(1)
        assert isinstance(out, SecretTensor)
        return out

    @property
    def padded(self) -> bool:
        """Whether some rows may be nobody's, and `weight` says which."""
        return self._match is not None and self._match.common != self._match.rows

    @property
    def common(self) -> int | None:
        """How many rows belong together; None if nobody knows, with reveal="nothing"."""
        return len(self) if self._match is None else self._match.common

    @cached_property
    def matched(self) -> dict[str, SecretTensor]:
        """For each owner but the first, 1 where it has somebody and 0 where not, float32 [rows]."""
        return {table.owner: self._presence(table) for table in self.tables[1:]}

    def prepared(self, preparations: Mapping[str, Preparation], train: Any = None, *, names: str = "shown") -> Joined:
        """These rows with the columns that each owner's preparation makes of its own, by the names of the owners.

        Each is fitted before, at its owner, on the rows that `train` says, a mask or places of rows here; without it,
        they must be fitted already. With reveal="size" no owner knows which of its rows are held out, so `train` can
        only be "own": each is fitted on all rows that its owner has, those of nobody here among them.

        Reveals: the names of the columns that come out or, with names="hidden", how many of each owner's they are.
        """
        check_names(names)
        for owner in preparations:
            check_fitted(self._table(owner), train)
        blind = self._match is not None
        own = isinstance(train, str) and train == "own"
        if blind and not (own or train is None):
            raise ConfigError('with reveal="size" nobody knows which of its rows are held out: write train="own"')
        fitted_on = None if own or train is None else places_of(train, len(self), FITTED)
        tables, places = [], dict(self._places)
        for table in self.tables:
            preparation, held, rows = preparations.get(table.owner), table.held, None
            if preparation is None:
                tables.append(table)
                continue
            if held is not None and own:
                rows = torch.arange(len(held.origin))
            elif held is not None and not blind:
                here = self._places[table.owner] >= 0
                rows = None if fitted_on is None else (here.cumsum(0) - 1)[fitted_on][here[fitted_on]]
                held = held.subset(self._places[table.owner][here])
                places[table.owner] = torch.where(here, here.cumsum(0) - 1, -1)
            tables.append(table.made_of(preparation, held, rows, names))
        return Joined(tables, len(self), self._match, places, left=self._left)

    def rows_of(self, owner: str) -> Tensor | None:
        """At the owner, the number of its own row (from 0) in each row here, -1 for none; None at the other roles.

        With it an owner puts predictions beside its records. Nobody knows this of a join with reveal="size".
        """
        table = self._table(owner)
        if self._match is not None:
            raise ConfigError('with reveal="size" no owner knows which of its rows are here: use reveal="members"')
        places, held = self._places.get(owner), table.held
        if places is None or held is None:
            return None
        return torch.cat([held.origin, torch.tensor([-1])])[places]

    # --- sharing -------------------------------------------------------------------------------------------------

    def _table(self, owner: str) -> Records:
        for table in self.tables:
            if table.owner == owner:
                return table
        raise ConfigError(f"{owner!r} has no table here; there are those of {', '.join(t.owner for t in self.tables)}")

    def _part(self, table: Records) -> SecretTensor:
        if not table.columns:
            raise DataError(f"{table.name} has no columns but key and label")
        values = said_by_owner(table, Held.numbers)
        return self._shared(table, values, torch.float32, f"the columns of {table.owner}", len(table.columns))

    def _label(self, table: Records) -> SecretTensor:
        name = f"the label of {table.owner}"
        values = None if table.held is None or table.held.label is None else table.held.label.values
        if table.classes is None:
            return self._shared(table, values, torch.float32, name, 1)
        if self._match is None:
            mine = None if values is None else values[self._places[table.owner]]
            return share(mine, table.owner, shape=(len(self),), name=name, classes=table.classes)
        column = None if values is None else values[:, None]
        out = self._shared(table, column, torch.int64, name, 1).squeeze(1)
        assert isinstance(out, SecretTensor)
        out.share.facts.within = range(table.classes)
        return out

    def _presence(self, table: Records) -> SecretTensor:
        protocol = active_protocol()
        marks = None if self._match is None else self._match.presence(table.owner, protocol.frac_bits)
        if marks is not None:
            protocol.session.transcript.record(f"tacit.join: who is at {table.owner} ({len(self)}, 1)")
            there = adopted(marks, torch.float32).squeeze(1)
            assert isinstance(there, SecretTensor)
            return there
        ones = None if table.held is None else torch.ones(len(table.held.origin), 1)
        out = self._shared(table, ones, torch.float32, f"who is at {table.owner}", 1).squeeze(1)
        assert isinstance(out, SecretTensor)
        return out

    def _shared(self, table: Records, values: Tensor | None, dtype: torch.dtype, name: str, width: int) -> SecretTensor:
        """The rows here of values that an owner has for all of its rows."""
        if self._match is None:
            mine = None if values is None else _rows(values.to(dtype), self._places[table.owner])
            return share(mine, table.owner, shape=(len(self), width), dtype=dtype, name=name)
        protocol = active_protocol()
        frac_bits = protocol.frac_bits if dtype.is_floating_point else 0
        protocol.session.transcript.record(f"tacit.join: {name} ({len(self)}, {width})")
        x = None if values is None else encode(values.to(dtype), frac_bits, name=name)
        return adopted(self._match.picked(table.owner, x, width, frac_bits), dtype)


def _rows(values: Tensor, places: Tensor) -> Tensor:
    """Rows of a table, and zeros for -1."""
    nobody = values.new_zeros((1, values.shape[1]))
    return torch.cat([values, nobody])[places] if bool((places < 0).any()) else values[places]
