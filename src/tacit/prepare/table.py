"""Prepare an owner's table: fitted on training rows, kept in a file without code, applied to one row as to all."""

from __future__ import annotations

import base64
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from tacit.api import current_session, share
from tacit.data.read import remember_columns
from tacit.errors import DataError, UnusableTable
from tacit.prepare import foreign
from tacit.prepare.fitted import Array, Fitted, Settings, as_kind, fitted
from tacit.prepare.given import CATEGORY, DATE, PLURAL, TRUTH, Column, columns_of, is_column, names_of, refuse
from tacit.private_files import write
from tacit.records.stored import Stored
from tacit.records.table import announced, check_names
from tacit.session.announced import MOST_NAMES, fitting, tellable_names, whole
from tacit.session.announced import names as names_in
from tacit.tensor import SecretTensor

__all__ = ["Table", "load"]

FORMAT, VERSION = "tacit preparation", 1
MOST_BYTES = 1 << 28
"""Of a file. Nobody's columns need more, and a larger one is not read."""


class Table:
    """What becomes of an owner's columns before they are shared.

    Fit it on training rows, at the owner; then it makes a matrix of numbers of any rows, a single one too, always in
    the same way. Nothing of it is sent anywhere.

    Args:
        impute: what stands for a missing number or date: "median" or "mean" of the training rows, "zero", or a number.
            Without, missing cells are an error. A missing word is no word.
        categories: "one-hot", a column for each word of the training rows, or "ordinal", its place among them. A word
            that they do not have is no word: all zeros, or place 0.
        dates: "days" since 1970, or "parts": year, month and day of the week.
        scale: "standard" (mean 0 and deviation 1 on the training rows) or "min-max" (0 to 1), of numbers and dates.
        clip: the largest magnitude of numbers and dates, after scaling.
        columns: those that are used, all but `drop` if None.
        drop: columns that are left out.
        keep: columns that look like keys and are none, or words that look like numbers.
        most_categories: with more words, a column is taken for a key, and refused.
        transform: a transformer of scikit-learn that does all this in place of the built-in steps.
    """

    def __init__(
        self,
        *,
        impute: str | float | None = None,
        categories: str | None = None,
        dates: str | None = None,
        scale: str | None = None,
        clip: float | None = None,
        columns: Sequence[str] | None = None,
        drop: Sequence[str] = (),
        keep: Sequence[str] = (),
        most_categories: int = 64,
        transform: Any = None,
    ) -> None:
        chosen = None if columns is None else _tuple(columns)
        self.settings = Settings(
            impute, categories, dates, scale, clip, chosen, _tuple(drop), _tuple(keep), most_categories
        )
        built_in = (impute, categories, dates, scale, clip)
        if transform is not None and any(x is not None for x in built_in):
            raise DataError(
                "transform= takes the place of impute, categories, dates, scale and clip: say one or the other"
            )
        self._transform = transform
        self._fitted: list[Fitted] | None = None
        self._names: list[str] = []

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read settings from a TOML file, by the names that the arguments have."""
        try:
            found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is no TOML file: {error}") from None
        known = {f.name for f in fields(Settings)}
        unknown = sorted(set(found) - known)
        if unknown:
            raise DataError(
                f"{path} has settings that there are not: {', '.join(unknown)}; there are {', '.join(sorted(known))}"
            )
        return cls(**found)

    def __repr__(self) -> str:
        state = "not fitted" if self._fitted is None else f"{len(self._fitted)} columns to {len(self._names)}"
        return f"tacit.prepare.Table({state})"

    # --- at the owner ------------------------------------------------------------------------------------------------

    def fit(self, table: Any, rows: Any = None) -> Self:
        """Fit on a table, or on those of its rows that a mask or a list of places names: the training rows.

        `table` is a data frame of pandas or polars, an Arrow table, a dict of columns, or a list of dicts.

        Raises:
            DataError: with all that is wrong with the table at once, without a value.
        """
        there = names_of(table)
        stray = [f"drop names {name!r}, and it has no such column" for name in self.settings.drop if name not in there]
        if self._transform is not None:
            columns, problems = self._chosen(table)
            refuse(stray + problems)
            training = _rows(rows, len(columns[0].values))
            seen = [Fitted(c.name, c.kind) for c in columns]
            names = foreign.fit(self._transform, _taken(table, [c.name for c in columns], training))
            self._fitted, self._names = seen, names
            return self
        found, problems = [], stray
        part: Array | slice | None = None
        for column in self._one_by_one(table, problems):
            part = _rows(rows, len(column.values)) if part is None else part
            try:
                found.append(fitted(column, part, self.settings))
            except DataError as error:
                problems.append(str(error))
        refuse(problems)
        self._fitted = found
        self._names = [name for f in found for name in f.names(self.settings)]
        return self

    def transform(self, table: Any) -> Array:
        """Return the matrix of numbers that comes of a table, or of a dict that is one row. Float64, [rows, columns].

        Names, order and kinds of the columns must be those that it was fitted on; the order of a dict does not matter.
        """
        known = self._known()
        columns, problems = self._chosen(table)
        refuse(problems)
        columns = _in_order(columns, known, free=isinstance(table, (Mapping, list, tuple)))
        if self._transform is not None:
            if isinstance(table, Mapping):
                table, columns = _as_seen(table, columns, known)
            _check_kinds(columns, known)
            return foreign.apply(self._transform, _taken(table, [f.name for f in known], slice(None)), self._names)
        out, problems = list[Array](), []
        for column, one in zip(columns, known, strict=True):
            try:
                out += one.applied(column, self.settings)
            except DataError as error:
                problems.append(str(error))
        refuse(problems)
        return np.stack(out, axis=1) if out else np.zeros((len(columns[0].values), 0))

    def fit_transform(self, table: Any, rows: Any = None) -> Array:
        """`fit`, and `transform` of all rows."""
        return self.fit(table, rows).transform(table)

    @property
    def columns(self) -> list[str]:
        """The names of the columns that come out."""
        self._known()
        return list(self._names)

    def _known(self) -> list[Fitted]:
        if self._fitted is None:
            raise DataError("this preparation is not fitted: call fit(table, rows=…) at the owner, or load one")
        return self._fitted

    def _chosen(self, table: Any) -> tuple[list[Column], list[str]]:
        """The columns that are used, in the order that was asked for, and what is wrong with the table."""
        wanted, drop = self.settings.columns, self.settings.drop
        found, problems = columns_of(table, lambda n: n not in drop and (wanted is None or n in wanted))
        if wanted is not None:
            named = {c.name: c for c in found}
            problems += [f"column {n!r} is missing" for n in wanted if n not in named and not _told(n, problems)]
            found = [named[n] for n in wanted if n in named]
        if not found:
            refuse([*problems, "no column is left of it"])
        return found, problems

    def _one_by_one(self, table: Any, problems: list[str]) -> Iterator[Column]:
        """The same columns; those of a dict one after the other, so that one at a time is in memory."""
        wanted, drop = self.settings.columns, self.settings.drop
        lengths = {len(v) for v in table.values() if is_column(v)} if isinstance(table, Mapping) else set()
        if len(lengths) != 1:
            columns, found = self._chosen(table)
            problems += found
            if len({len(c.values) for c in columns} - {0}) != 1:
                refuse(problems)
            yield from columns
            return
        names = [n for n in (table if wanted is None else wanted) if n in table and n not in drop]
        problems += [f"column {n!r} is missing" for n in wanted or () if n not in names]
        if not names or lengths == {0}:
            refuse([*problems, "it has no rows" if names else "no column is left of it"])
        for name in names:
            columns, found = columns_of({name: table[name]}, lambda _: True)
            problems += found
            yield from columns

    # --- to secrets --------------------------------------------------------------------------------------------------

    def share(
        self, table: Any, owner: str, *, rows: Any = None, names: str = "shown", name: str | None = None
    ) -> SecretTensor:
        """Share what comes of a table that only `owner` has; the others pass None, and their preparation is not fitted.

        One that is not fitted yet is fitted first, at the owner, on `rows`. Which rows these are, the others need not
        know. `name` is what errors call the table.

        Reveals: the number of rows, and the names of the columns or, with names="hidden", how many they are; to all.

        Raises:
            UnusableTable: at the owner, with all that is wrong.
            DataError: at the other roles then; they are not told why.
        """
        called = name or f"a table of {owner}"

        def make() -> tuple[Array, Any]:
            if table is None:
                raise UnusableTable(f"{owner} owns the table and must give it")
            matrix = self._made(table, rows)
            return matrix, {"rows": len(matrix), "columns": self._told(names)}

        check_names(names)
        matrix, public = announced(owner, called, make, lambda said: _public(owner, said))
        columns = _named(public["columns"])
        value = None if matrix is None else torch.from_numpy(matrix).to(torch.float32)
        out = share(value, owner, shape=(public["rows"], len(columns)), dtype=torch.float32, name=called)
        remember_columns(out, columns)
        return out

    def _made(self, table: Any, rows: Any) -> Array:
        """What comes of a table; fitted on it, where it is not yet."""
        try:
            if self._fitted is None:
                self.fit(table, rows)
            return self.transform(table)
        except UnusableTable:
            raise
        except DataError as error:
            raise UnusableTable(str(error)) from None

    def _told(self, names: str) -> list[str] | int:
        return tellable_names(self._names) if names == "shown" else len(self._names)

    # --- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write what was fitted to a file of the owner's, which nobody else may read. It is JSON, and holds no code."""
        known = self._known()
        data: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "settings": asdict(self.settings),
            "inputs": [f.as_json() for f in known],
            "outputs": self._names,
            "transform": None,
        }
        if self._transform is not None:
            data["transform"] = base64.b64encode(foreign.dump(self._transform)).decode()
        write(Path(path), json.dumps(data, indent=1, allow_nan=False).encode())


def load(path: str | Path, owner: str | None = None) -> Table:
    """Read a preparation that `Table.save` has written. A file of somebody else's cannot run code.

    With `owner` it is read at that role alone, who has the file; the others get one that is not fitted, and not used.

    Raises:
        DataError: for a file that is none.
    """
    if owner is not None and not current_session().hosts(owner):
        return Table()
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise DataError(f"{path} is too large for a preparation")
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return _read(json.loads(content))
    except DataError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise DataError(f"{path} is no preparation that this version of Tacit has saved") from None


def _read(data: Any) -> Table:
    if data["format"] != FORMAT or data["version"] != VERSION:
        raise ValueError
    settings = data["settings"]
    names = data["outputs"]
    if set(settings) != {f.name for f in fields(Settings)} or not all(isinstance(n, str) for n in names):
        raise ValueError
    blob = data["transform"]
    table = Table(**settings, transform=None if blob is None else foreign.read(base64.b64decode(blob, validate=True)))
    found = [Fitted.from_json(one) for one in data["inputs"]] if blob is None else [_seen(o) for o in data["inputs"]]
    if blob is None and [n for f in found for n in f.names(table.settings)] != names:
        raise ValueError
    table._fitted, table._names = found, list(names)
    return table


def _told(name: str, problems: Sequence[str]) -> bool:
    """Whether something else is wrong with the column."""
    return any(p.startswith(f"column {name!r} ") for p in problems)


def _seen(data: Mapping[str, Any]) -> Fitted:
    if not isinstance(data["name"], str) or not isinstance(data["kind"], str):
        raise ValueError
    return Fitted(data["name"], data["kind"])


def _public(owner: str, said: Any) -> dict[str, Any]:
    """Check what an owner says of a matrix: its rows, and the names of its columns, or how many they are."""
    rows, columns = whole(said["rows"]), said["columns"]
    columns = whole(columns, 0, MOST_NAMES) if isinstance(columns, int) else names_in(columns)
    fitting(owner, (rows, columns if isinstance(columns, int) else len(columns)))
    return {"rows": rows, "columns": columns}


def _named(told: list[str] | int) -> tuple[str, ...]:
    """The names of columns, or names for so many."""
    return tuple(f"column {k + 1}" for k in range(told)) if isinstance(told, int) else tuple(told)


def _tuple(names: Any) -> tuple[str, ...]:
    if isinstance(names, str):
        raise DataError(f"a list of names of columns is needed, not {names!r}")
    return tuple(names)


def _rows(rows: Any, count: int) -> Array | slice:
    """Training rows by a mask or by places."""
    if rows is None:
        return slice(None)
    part = np.asarray(rows.detach() if hasattr(rows, "detach") else rows)
    if part.dtype == bool:
        if part.shape != (count,):
            raise DataError(f"the mask of rows has shape {part.shape}, and the table {count} rows")
    elif part.dtype.kind not in "iu" or part.ndim != 1:
        raise DataError("rows are a mask or a list of places")
    elif part.size and (part.min() < 0 or part.max() >= count):
        raise DataError(f"rows are places from 0 to {count - 1}")
    if not (part.any() if part.dtype == bool else part.size):
        raise DataError("there are no rows to fit on")
    return part


def _in_order(columns: list[Column], known: Sequence[Fitted], *, free: bool) -> list[Column]:
    """The columns that were fitted, in that order; anything else is named."""
    named = {c.name: c for c in columns}
    problems = [f"column {f.name!r} is missing" for f in known if f.name not in named]
    wanted = {f.name for f in known}
    problems += [f"column {c.name!r} is not one that it was fitted on" for c in columns if c.name not in wanted]
    if not problems and not free:
        wrong = [(c.name, f.name) for c, f in zip(columns, known, strict=True) if c.name != f.name]
        if wrong:
            problems.append(f"column {wrong[0][0]!r} stands where {wrong[0][1]!r} stood: keep the order")
    refuse(problems)
    return [named[f.name] for f in known]


def _as_seen(
    table: Mapping[str, Any], columns: Sequence[Column], known: Sequence[Fitted]
) -> tuple[dict[str, Any], list[Column]]:
    """A dict and its columns, in which texts are the dates or the truth values that were fitted: JSON has no dates."""
    out, seen, problems = dict(table), [], []
    for column, one in zip(columns, known, strict=True):
        if column.kind == CATEGORY and one.kind in (DATE, TRUTH):
            try:
                values = as_kind(column, one.kind)
            except DataError as error:
                problems.append(str(error))
                continue
            column = Column(column.name, one.kind, values)
            out[column.name] = values
            if one.kind == DATE:
                out[column.name] = np.datetime64(0, "us") + np.round(values * 86_400e6).astype("m8[us]")
            elif not np.isnan(values).any():
                out[column.name] = values.astype(bool)
        seen.append(column)
    refuse(problems)
    return out, seen


def _check_kinds(columns: Sequence[Column], known: Sequence[Fitted]) -> None:
    refuse(
        [
            f"column {c.name!r} holds {PLURAL[c.kind]}, and was fitted on {PLURAL[f.kind]}"
            for c, f in zip(columns, known, strict=True)
            if c.kind not in (f.kind, "nothing") and {c.kind, f.kind} != {"number", "truth"}
        ]
    )


def _taken(table: Any, names: Sequence[str], rows: Array | slice) -> Any:
    """These columns and rows as a data frame, for scikit-learn, which knows columns by name in no other form."""
    import pandas  # not before it is needed: the built-in steps do without

    if hasattr(table, "to_pandas"):
        table = table.to_pandas()
    if isinstance(table, Mapping):
        if all(isinstance(table[name], np.ndarray | Stored) for name in names):  # what is in files stays there
            return pandas.DataFrame({name: table[name][rows] for name in names})
        cells = {name: v if is_column(v) else [v] for name, v in table.items()}
        table = pandas.DataFrame({name: v.numpy() if isinstance(v, torch.Tensor) else v for name, v in cells.items()})
    frame = table if isinstance(table, pandas.DataFrame) else pandas.DataFrame(list(table))
    return frame[list(names)].iloc[rows]
