"""A table that one party owns: its columns stay there; all roles know their names, and how many rows there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from tacit.api import active_protocol, current_session, share
from tacit.errors import ConfigError, DataError, UnusableTable, called
from tacit.records.labels import Label
from tacit.records.numbers import as_numbers, looks_like_a_key
from tacit.records.parts import InParts, Part, places_of
from tacit.records.stored import Column, Stored, prepared
from tacit.ring.fixed_point import VALUE_BITS
from tacit.session.announced import MOST_NAMES, fitting, said_by, tellable_names, whole
from tacit.session.announced import names as names_in
from tacit.tensor import SecretTensor

__all__ = [
    "FITTED",
    "Held",
    "Preparation",
    "Records",
    "announced",
    "check",
    "check_names",
    "limit_of_numbers",
    "promised",
    "said_by_owner",
]

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Held:
    """What the owner of a table has of it."""

    source: str
    """What its owner calls it, a path for example."""
    frame: dict[str, Column]
    """The columns but key and label: numbers (NaN for none), truth values, dates (NaT), or objects (None)."""
    label: Label | None
    digests: Tensor | None
    """Of the rows' keys, int64 [rows, 2 k] for k alternatives; random where a row has none."""
    origin: Tensor
    """The number of each row in the source, from 0."""
    limit: float
    """What fixed point holds."""
    folder: Path | None = None
    """Where the columns are, of a table that is larger than memory."""
    stated: bool = True
    """Whether the owner has named its columns, or prepared them: otherwise one that looks like a key is no feature."""

    def numbers(self) -> Tensor:
        """All columns as float32 [rows, columns]; `UnusableTable` with all that is none."""
        self.check_numbers()
        return self.part(slice(None))

    def check_numbers(self) -> None:
        """Raise `UnusableTable` with all that is no number, a column at a time."""
        problems: list[str] = []
        for name, column in self.frame.items():
            found = as_numbers(name, column[:], self.limit, problems)
            if found is not None and not self.stated and looks_like_a_key(name, found):
                problems.append(
                    f"column {name!r} looks like a key: say key={name!r}, or which ones are wanted, columns=[…]"
                )
        check(self.source, problems)

    def part(self, rows: Any) -> Tensor:
        """Some rows of columns that have been checked: float32 [rows, columns]."""
        columns = [np.asarray(c[rows]).astype(np.float64).astype(np.float32) for c in self.frame.values()]
        return torch.from_numpy(np.stack(columns, axis=1))

    def subset(self, rows: Tensor) -> Held:
        """Some of the rows."""
        places = rows.numpy()
        label = None if self.label is None else self.label._replace(values=self.label.values[rows])
        digests = None if self.digests is None else self.digests[rows]
        frame = {n: c.picked(places) if isinstance(c, Stored) else c[places] for n, c in self.frame.items()}
        return replace(self, frame=frame, label=label, digests=digests, origin=self.origin[rows])


def check(source: str, problems: list[str]) -> None:
    """Raise for all problems of a table at once, in a sentence for its owner."""
    if problems:
        raise UnusableTable(f"{source} cannot be used: {'; '.join(problems)}")


class Preparation(Protocol):
    """What makes numbers of an owner's columns: `tacit.prepare.Table`, or what is used as that is."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of the columns that come out, once it is fitted."""

    def fit(self, table: Any, rows: Any = None) -> Any:
        """Fit it on a dict of columns, or some rows of these."""

    def transform(self, table: Any) -> np.ndarray:
        """The matrix that comes of a dict of columns."""


class Records(InParts):
    """A table of one owner. `len()` is the number of its rows; everybody knows that, and the names of its columns.

    `x` and `y` are its columns and its label as secrets: all roles ask for them at the same point of the program.
    """

    columns: tuple[str, ...]
    """The names of its columns, but for key and label."""
    classes: int | None
    """How many classes the label has; None for a label of numbers, and without one."""
    _rows: int

    def __init__(
        self,
        owner: str,
        name: str,
        label: str | None,
        alternatives: Sequence[int],
        parts: int,
        held: Held | None,
        hear: Callable[[], Mapping[str, Any]],
        shard: str | None = None,
    ) -> None:
        self.owner = owner
        self.name = name
        """What all roles call it."""
        self.label = label
        self.parts = parts
        """Of how many columns its key is made."""
        self.alternatives = tuple(alternatives)
        """Of how many columns each key is made that is tried, one after the other; see `tacit.either`."""
        self.held = held
        """What its owner has of it; None at every other role."""
        self.shard = shard
        """How its rows are divided among ranks, of which this one has some; None where each has all."""
        self.preparation: Preparation | None = None
        """At the owner, what has made its columns; other roles' are not used."""
        self.checked = False
        """Whether its owner has said that all of its columns are numbers."""
        self._hear = hear
        """What returns, at once or when the owner has read it, what it says of the table: rows, columns, classes."""
        if held is not None:
            self._listen()

    def _listen(self) -> None:
        said = self._hear()
        self._rows, self.columns, self.classes = said["rows"], tuple(said["columns"]), said["classes"]

    def __getattr__(self, name: str) -> Any:
        if name not in ("_rows", "columns", "classes"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        self._listen()
        return self.__dict__[name]

    def __len__(self) -> int:
        return self._rows

    def __repr__(self) -> str:
        beside = f", label={self.label!r}" if self.label is not None else ""
        return f"Records({self.name!r}, {len(self)} rows, columns={self.columns}{beside})"

    def prepared(self, preparation: Preparation, train: Any = None, *, names: str = "shown") -> Records:
        """The table with the columns that a preparation makes of these, at the owner; the others' is not used.

        It is fitted before on `train`, a mask or places of rows or "own" for all, if that is given; otherwise it must
        be fitted already.
        Reveals: the names of the columns that come out or, with names="hidden", how many they are.
        """
        check_names(names)
        check_fitted(self, train)
        own = isinstance(train, str) and train == "own"
        rows = None if train is None else places_of(slice(None) if own else train, len(self), FITTED)
        return self.made_of(preparation, self.held, rows, names)

    def made_of(self, preparation: Preparation, held: Held | None, rows: Tensor | None, names: str) -> Records:
        """`prepared` of what the owner holds, fitted on rows of this."""

        check_preparation(preparation)

        def make() -> tuple[Held, list[str] | int]:
            assert held is not None
            try:
                if rows is not None:
                    preparation.fit(held.frame, rows.numpy())
                if held.folder is None:
                    matrix, found = np.asarray(preparation.transform(held.frame)), list(preparation.columns)
                    frame: dict[str, Column] = dict(zip(found, matrix.T, strict=True))
                else:
                    frame = prepared(preparation, held.frame, held.folder)
                    found = list(frame)
            except (DataError, ConfigError) as error:
                raise UnusableTable(f"{held.source} cannot be prepared: {error}") from None
            public = tellable_names(found) if names == "shown" else len(found)
            return replace(held, frame=frame, stated=True), public

        kept, public = announced(self.owner, self.name, make, self._columns)
        out = self.shortened(len(self), kept)
        hidden = isinstance(public, int)
        out.columns = tuple(f"{self.owner}'s column {k + 1}" for k in range(public)) if hidden else tuple(public)
        out.preparation = None if held is None else preparation
        return out

    def _columns(self, public: Any) -> list[str] | int:
        """Check what the owner says of columns: their names, or how many they are."""
        return whole(public, 0, MOST_NAMES) if isinstance(public, int) else names_in(public)

    def shortened(self, rows: int, held: Held | None) -> Records:
        """Some of its rows, of which only the owner knows which."""
        out = copy(self)
        out._rows, out.held, out.checked = rows, held, False
        for made in ("x", "y"):
            out.__dict__.pop(made, None)
        return out

    @property
    @override
    def sharded(self) -> bool:
        return self.shard is not None

    def _part_of(self, rows: Tensor) -> Part:
        if "x" in self.__dict__:
            return (self.x[rows], self.y[rows]) if self.label is not None else (self.x[rows],)  # type: ignore[return-value]
        x = self.numbers_of(len(rows), rows)
        return (x,) if self.label is None else (x, self.labels_of(len(rows), rows))

    def numbers_of(self, count: int, places: Tensor | None) -> SecretTensor:
        """The columns of some rows, which the owner has at these places, -1 for zeros; the other roles give none.

        That all are numbers is checked once.
        """
        if not self.columns:
            raise DataError(f"{self.name} has no columns but key and label")
        if not self.checked:
            said_by_owner(self, Held.check_numbers)
            self.checked = True
        mine = None
        if self.held is not None and places is not None:
            mine = self.held.part(places.clamp(min=0).numpy())
            mine[places < 0] = 0
        shape = (count, len(self.columns))
        return share(mine, self.owner, shape=shape, dtype=torch.float32, name=f"rows of {self.owner}")

    def labels_of(self, count: int, places: Tensor | None) -> SecretTensor:
        """The labels of some rows."""
        label, name = None if self.held is None else self.held.label, f"labels of {self.owner}"
        values = None if label is None or places is None else label.values[places]
        if self.classes is not None:
            return share(values, self.owner, shape=(count,), name=name, classes=self.classes)
        mine = None if values is None else values.to(torch.float32)
        return share(mine, self.owner, shape=(count, 1), dtype=torch.float32, name=name)

    @property
    def types(self) -> dict[str, str] | None:
        """At the owner, what the reader has taken each column for; None at the other roles."""
        if self.held is None:
            return None
        return {name: KINDS[column.dtype.kind] for name, column in self.held.frame.items()}

    @property
    def class_names(self) -> tuple[Any, ...] | None:
        """At the owner, what stands for each class in the table; None at the other roles, and for numbers."""
        return None if self.held is None or self.held.label is None else self.held.label.names or None

    @cached_property
    def x(self) -> SecretTensor:
        """The columns but key and label, float32 [rows, columns]."""
        if not self.columns:
            raise DataError(f"{self.name} has no columns but key and label")
        shape = (len(self), len(self.columns))
        fitting(self.owner, shape)
        values = said_by_owner(self, Held.numbers)
        mine = None if values is None else values.to(torch.float32)
        return share(mine, self.owner, shape=shape, dtype=torch.float32, name=f"the columns of {self.owner}")

    @cached_property
    def y(self) -> SecretTensor:
        """The label: int64 [rows] for classes, float32 [rows, 1] for numbers."""
        if self.label is None:
            raise DataError(f"{self.name} has no label: say which column it is, tacit.read_table(…, label=…)")
        label = None if self.held is None else self.held.label
        values, name = None if label is None else label.values, f"the label of {self.owner}"
        if self.classes is not None:
            return share(values, self.owner, shape=(len(self),), name=name, classes=self.classes)
        mine = None if values is None else values.to(torch.float32)
        return share(mine, self.owner, shape=(len(self), 1), dtype=torch.float32, name=name)


def check_preparation(preparation: object) -> None:
    """Refuse, at all roles, what an owner could not prepare its table with."""
    kind = type(preparation)
    if preparation is None or (callable(getattr(kind, "transform", None)) and not hasattr(kind, "get_params")):
        return
    if hasattr(kind, "get_params"):
        raise ConfigError(f"a {kind.__name__} prepares columns inside of a tacit.prepare.Table(transform=…)")
    raise ConfigError(f"a preparation is a tacit.prepare.Table(…) for each owner, not {called(preparation)}")


def check_fitted(table: Records, train: Any) -> None:
    """Refuse to fit on the rows of one rank, for others would have other columns."""
    if table.shard is not None and train is not None:
        raise ConfigError(
            f"each rank has some rows of {table.name}, and preparations fitted on them would differ: fit one on the "
            "whole table before, keep it with save, and leave train=… out here"
        )


KINDS = {"b": "truth value", "i": "whole number", "u": "whole number", "f": "number", "M": "date", "O": "text"}


def said_by_owner(table: Records, make: Callable[[Held], Made]) -> Made | None:
    """What the owner makes of its table, there; the other roles learn whether it could."""
    made, _ = announced(table.owner, table.name, lambda: (make(_of(table)), None))
    return made


def _of(table: Records) -> Held:
    assert table.held is not None
    return table.held


def announced(
    owner: str, name: str, make: Callable[[], tuple[Made, Any]], read: Callable[[Any], Any] = lambda public: public
) -> tuple[Made | None, Any]:
    """What `make` returns: the first at the owner alone, the second, which is public, at all roles.

    If it raises `UnusableTable` the owner has the error, and the others learn that there is one. What is public comes
    from another role, so `read` checks it, and raises `ValueError` for what is none.
    """
    made, hear = promised(owner, name, make, read)
    return made, hear()


def promised(
    owner: str, name: str, make: Callable[[], tuple[Made, Any]], read: Callable[[Any], Any]
) -> tuple[Made | None, Callable[[], Any]]:
    """`announced`, but that the other roles wait for what is public only when they call the second."""
    session = current_session()
    made, unusable, message = None, None, None
    if session.hosts(owner):
        try:
            made, public = make()
            message = json.dumps({"public": public}).encode()
        except UnusableTable as error:
            unusable, message = error, b"null"
    said = session.promise(owner, message)
    if unusable is not None:
        raise unusable

    def hear() -> Any:
        what = f"what it has of {name}"
        found = said_by(owner, said(), what, lambda x: None if x is None else (read(x["public"]),))
        if found is None:
            raise DataError(f"{name} cannot be used as it is, and {owner} alone is told why")
        return found[0]

    return made, hear


FITTED = "a preparation is fitted on one row at least"


def check_names(names: str) -> None:
    """Raise for what names of columns cannot be."""
    if names not in ("shown", "hidden"):
        raise DataError(f'names are "shown" or "hidden", not {names!r}')


def limit_of_numbers() -> float:
    """What a number of a table must stay below."""
    return 2.0 ** (VALUE_BITS - active_protocol().frac_bits)
