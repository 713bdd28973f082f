"""What a user gives as rows: a table with or without the names of its columns, and what the client does to it in clear.

Names are scikit-learn's `feature_names_in_`: of a data frame whose columns are all strings. They are part of the
client's half, so that a frame with its columns in another order is refused there as scikit-learn refuses it, in place
of being read by position.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.errors import DataError
from tacit.fhe.fields import insist
from tacit.fhe.steps import Steps

Float = npt.NDArray[np.float64]


def names_of(x: Any) -> tuple[str, ...]:
    """Return the names of the columns of a data frame; none for anything else, or if not all are strings."""
    columns = getattr(x, "columns", None)
    names = () if columns is None or isinstance(x, np.ndarray) else tuple(columns)
    return tuple(map(str, names)) if all(isinstance(name, str) for name in names) else ()


def trained_names(model: Any) -> tuple[str, ...]:
    """Return the names that a model was trained on; LightGBM's own numbering counts as none."""
    names = tuple(map(str, getattr(model, "feature_names_in_", ())))
    return () if names == tuple(f"Column_{i}" for i in range(len(names))) else names


def numbers(x: Any) -> Float:
    """Return a dense float table of whatever scikit-learn takes, or say which column is no number."""
    x = x.toarray() if hasattr(x, "toarray") else x
    if isinstance(getattr(x, "dtypes", None), Iterable) and any(_nullable(dtype) for dtype in x.dtypes):
        x = x.astype({name: "float64" for name, dtype in x.dtypes.items() if _nullable(dtype)})  # pd.NA to NaN
    for name, dtype in zip(getattr(x, "columns", ()), getattr(x, "dtypes", ()), strict=False):
        if getattr(dtype, "kind", "f") not in "biufO":
            raise DataError(_no_number(f"column {name!r}", str(dtype)))
    try:
        if getattr(np.asarray(x).dtype, "kind", "O") not in "biufO":
            raise DataError(_no_number("this table", str(np.asarray(x).dtype)))
        return np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(_no_number("this table", "something else")) from error


def _nullable(dtype: Any) -> bool:
    """Return whether this is a type of pandas' numbers that may be missing."""
    return hasattr(dtype, "na_value") and getattr(dtype, "kind", "") in ("b", "i", "u", "f")


def _no_number(where: str, what: str) -> str:
    return (
        f"{where} holds {what}, not numbers: put a step that makes numbers of it (a ColumnTransformer with a "
        "OneHotEncoder) in front of the model in a tacit.fhe.Pipeline"
    )


@dataclass(frozen=True)
class Front:
    """What happens to a user's table before it is encoded: its names are checked, or public steps transform it."""

    names: tuple[str, ...] = ()
    steps: Steps | None = None

    def __post_init__(self) -> None:
        """Refuse a file whose names are none."""
        named = isinstance(self.names, tuple) and all(type(name) is str for name in self.names)
        insist(named and (self.steps is None or isinstance(self.steps, Steps)), "the names of columns")

    def __call__(self, x: Any) -> Float:
        """Return the table of numbers that is encoded.

        Raises:
            DataError: for columns under other names or in another order, and for what the steps refuse.
        """
        if self.steps is not None:
            return self.steps(x)
        found = names_of(x)
        if self.names and found and found != self.names:
            raise DataError(_other_names(self.names, found))
        return numbers(x)


def _other_names(expected: tuple[str, ...], found: tuple[str, ...]) -> str:
    missing, unknown = [n for n in expected if n not in found], [n for n in found if n not in expected]
    if not missing and not unknown:
        return "the columns are in another order than those that the model was trained on: give them in that order"
    parts = [f"{what}: {', '.join(names[:5])}" for what, names in (("missing", missing), ("unknown", unknown)) if names]
    return f"the columns are not those that the model was trained on ({'; '.join(parts)})"
