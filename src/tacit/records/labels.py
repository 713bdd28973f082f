"""Labels: what stands for a class becomes its number, at the owner; whole tables of rules, no guesses about words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tacit.errors import ConfigError
from tacit.records.numbers import missing, rows_of

__all__ = ["Classes", "Label", "as_label", "check_classes"]

Classes = int | Sequence[Any] | Mapping[Any, int]
"""How many classes there are, their values in order, or the number of each value."""

MOST_CLASSES = 1000
"""Different words in a label. More would be names or keys, by mistake."""


class Label(NamedTuple):
    """A label at its owner."""

    values: Tensor
    """Of classes int64 [rows], of numbers float64 [rows, 1]."""
    classes: int | None
    names: tuple[Any, ...]
    """What each class stood for, where that was not its number."""


def check_classes(classes: Classes | None) -> None:
    """Raise `ConfigError` for classes that no label can have."""
    if classes is None:
        return
    if isinstance(classes, bool | str | bytes):
        raise ConfigError("classes are a number of classes, their values in order, or {value: number}")
    if isinstance(classes, int):
        if classes < 2:
            raise ConfigError(f"a label has at least 2 classes, not {classes}")
        return
    numbers = list(classes.values()) if isinstance(classes, Mapping) else list(range(len(classes)))
    if any(type(number) is not int for number in numbers) or sorted(set(numbers)) != list(range(len(set(numbers)))):
        raise ConfigError("the numbers of classes are 0, 1, …, each at least once: classes={'no': 0, 'yes': 1}")
    if len(set(numbers)) < 2:
        raise ConfigError("a label has at least 2 classes")
    words = [_word(value) for value in classes]
    if len(set(words)) < len(words):
        raise ConfigError("two values of classes are the same but for case and white space")


def as_label(name: str, column: np.ndarray, classes: Classes | None, limit: float, problems: list[str]) -> Label | None:
    """The label that a column is; None, and why in `problems`, if it is none.

    Without `classes`: truth values are 0 and 1; words are classes in sorted order, alike but for case and white space
    at the ends; numbers that are all 0 or 1 are classes, too, and other numbers are numbers.
    """
    here = f"the label {name!r}"
    none = missing(column)
    if none.any():
        problems.append(f"{here} has no value in {rows_of(none)}")
        return None
    if column.dtype.kind == "M":
        problems.append(f"{here} holds dates")
        return None
    if classes is None and column.dtype.kind in "iuf":
        if not np.isin(column, (0, 1)).all():
            wrong = ~(np.abs(column) < limit)
            if wrong.any():
                problems.append(f"{here} is infinite, or not below {limit:g}, in {rows_of(wrong)}")
                return None
            return Label(torch.from_numpy(column.astype(np.float64))[:, None], None, ())
        classes = 2
    if isinstance(classes, int):
        return _numbered(here, column, classes, problems)
    return _worded(here, column, classes, problems)


def _numbered(here: str, column: np.ndarray, classes: int, problems: list[str]) -> Label | None:
    if column.dtype.kind not in "biuf":
        problems.append(f"{here} holds words: say which they are, classes=[…]")
        return None
    wrong = ~np.isin(column, np.arange(classes))
    if wrong.any():
        problems.append(f"{here} is none of the classes 0 to {classes - 1} in {rows_of(wrong)}")
        return None
    return Label(torch.from_numpy(column.astype(np.int64)), classes, ())


def _worded(
    here: str, column: np.ndarray, classes: Sequence[Any] | Mapping[Any, int] | None, problems: list[str]
) -> Label | None:
    words = np.array([_word(value) for value in column.tolist()], dtype=object)
    different, place = np.unique(words, return_inverse=True)
    if classes is None:
        if column.dtype.kind == "b":
            classes = [False, True]
        elif len(different) < 2:
            problems.append(f"{here} has the same value in all rows: say which there are, classes=[…]")
            return None
        elif len(different) > MOST_CLASSES or (len(different) > 20 and 2 * len(different) > len(column)):
            problems.append(f"{here} has {len(different)} different values in {len(column)} rows, which are no classes")
            return None
        else:
            classes = different.tolist()
    numbers = dict(classes) if isinstance(classes, Mapping) else {value: k for k, value in enumerate(classes)}
    known = {_word(value): number for value, number in numbers.items()}
    code = np.array([known.get(word, -1) for word in different.tolist()], dtype=np.int64)[place]
    if (code < 0).any():
        problems.append(f"{here} is none of the classes that are stated in {rows_of(code < 0)}")
        return None
    count = max(numbers.values()) + 1
    names: list[Any] = [None] * count
    for value, number in reversed(numbers.items()):
        names[number] = value
    return Label(torch.from_numpy(code), count, tuple(names))


def _word(value: Any) -> str:
    """What a value is compared by: 1, 1.0 and "1" are the same, and so are True and "true"."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().casefold()
