"""Columns of a table that is larger than memory: in files of the owner's own, of which rows come in when they are used.

The files have no names: nobody else can open them, and they are gone with the process, however it ends. DuckDB's own,
while a table is read, have: in a private folder that is removed afterwards, or stays if the process is killed then.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tacit.errors import DataError, UnusableTable

__all__ = ["CHUNK", "TEXT", "Column", "Stored", "mapped", "prepared", "written"]

CHUNK = 1 << 16
"""Rows in memory at a time. More: fewer steps; fewer: less memory, for a hundred columns of 8 bytes 50 MB."""

MOST_WORDS = 1 << 20
"""Different texts of a column, which stay in memory. More would be keys, or remarks."""

TEXT = object
"""NumPy's type of texts."""

Column = Any
"""An array in memory, or a `Stored` one; both are indexed by a slice, a mask or places."""


class Preparing(Protocol):
    """What is asked of a preparation here."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of the columns that come out."""

    def transform(self, table: Any) -> np.ndarray:
        """The matrix that comes of a dict of columns."""


class Stored:
    """A column in a file. Texts are places in a list of the different ones; None, the last of these, is place -1."""

    def __init__(self, values: np.ndarray, words: np.ndarray | None = None, places: np.ndarray | None = None) -> None:
        self._values, self._words, self._places = values, words, places

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the rows."""
        return self._values.dtype if self._words is None else self._words.dtype

    def __len__(self) -> int:
        return len(self._values if self._places is None else self._places)

    def __getitem__(self, rows: Any) -> np.ndarray:
        found = np.array(self._values[rows if self._places is None else self._places[rows]])
        return found if self._words is None else np.asarray(self._words[found])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def to_numpy(self) -> np.ndarray:
        """All rows, in memory."""
        return self[:]

    def picked(self, places: np.ndarray) -> Stored:
        """Some of the rows, which stay where they are."""
        return Stored(self._values, self._words, places if self._places is None else self._places[places])


def mapped(folder: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array in a file without a name, mapped into memory."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))  # a disk that is full is told now, not by a signal later
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise UnusableTable(f"there is no room for the table in {folder}: {error.strerror}") from None


def written(folder: Path, rows: int, kinds: Mapping[str, Any], batches: Any, problems: list[str]) -> dict[str, Stored]:
    """Columns of Arrow's record batches, one after the other; `kinds` are what NumPy calls their types."""
    files = {name: mapped(folder, np.int32 if kind is TEXT else kind, (rows,)) for name, kind in kinds.items()}
    words: dict[str, dict[str, int]] = {name: {} for name, kind in kinds.items() if kind is TEXT}
    many: set[str] = set()
    at = 0
    for batch in batches:
        for name, kind in kinds.items():
            if name in many:
                continue
            column = batch.column(name)
            piece = _codes(column, words[name]) if kind is TEXT else _cells(column, kind)
            files[name][at : at + len(piece)] = piece
            if kind is TEXT and len(words[name]) > MOST_WORDS:
                many.add(name)
        at += batch.num_rows
    problems += [
        f"column {name!r} has more than {MOST_WORDS} different texts: is it a key? Leave it out with columns=[…]"
        for name in kinds
        if name in many
    ]
    listed = {}
    for name, found in words.items():
        listed[name] = np.empty(len(found) + 1, dtype=object)
        listed[name][:-1] = list(found)
    return {name: Stored(file, listed.get(name)) for name, file in files.items()}


def _codes(column: Any, words: dict[str, int]) -> np.ndarray:
    """Places of texts among those that are known, to which new ones are added; -1 for none."""
    coded = column.dictionary_encode()
    known = [-1 if word is None else words.setdefault(word, len(words)) for word in coded.dictionary.to_pylist()]
    places = np.array([*known, -1], dtype=np.int32)
    return np.asarray(places[coded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)])


def _cells(column: Any, kind: Any) -> np.ndarray:
    """Numbers, truth values or dates; where there is none, NaN or NaT, for which the type has room."""
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype(kind)


def prepared(preparation: Preparing, frame: Mapping[str, Column], folder: Path) -> dict[str, Stored]:
    """The columns that a fitted preparation makes of these, in a file, some rows at a time."""
    rows = len(next(iter(frame.values())))
    out: np.ndarray | None = None
    for start in range(0, rows, CHUNK):
        try:
            part = np.asarray(preparation.transform({name: c[start : start + CHUNK] for name, c in frame.items()}))
        except DataError as error:
            raise DataError(f"in the rows from {start + 1} on, {error}" if start else str(error)) from None
        if out is None:
            out = mapped(folder, np.float32, (rows, part.shape[1]))
        out[start : start + CHUNK] = part
    assert out is not None
    return {name: Stored(out[:, place]) for place, name in enumerate(preparation.columns)}
