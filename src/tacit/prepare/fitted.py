"""What is known of each column once a preparation has been fitted, and what becomes of the column with it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tacit.data.table import ABSENT
from tacit.errors import DataError
from tacit.prepare.given import CATEGORY, DATE, NOTHING, NUMBER, PLURAL, TRUTH, Column
from tacit.records.numbers import look_like_numbers, looks_like_a_key

__all__ = ["Fitted", "Settings", "as_kind", "fitted"]

KINDS = (NUMBER, TRUTH, CATEGORY, DATE)
PARTS = ("year", "month", "weekday")
ISO = re.compile(r"\d{4}-\d\d-\d\d")
TRUTHS = {"yes": True, "no": False, "true": True, "false": False, "t": True, "f": False}
"""Texts that the reader of CSV takes for truth values."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """How columns are prepared; see `Table`."""

    impute: str | float | None = None
    categories: str | None = None
    dates: str | None = None
    scale: str | None = None
    clip: float | None = None
    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    most_categories: int = 64

    def __post_init__(self) -> None:
        self._one_of("categories", ("one-hot", "ordinal", None))
        self._one_of("dates", ("days", "parts", None))
        self._one_of("scale", ("standard", "min-max", None))
        number = isinstance(self.impute, (int, float)) and not isinstance(self.impute, bool)
        if number:
            if not math.isfinite(self.impute):  # type: ignore[arg-type]
                raise DataError("impute is a finite number, not NaN or infinity")
        else:
            self._one_of("impute", ("median", "mean", "zero", None))
        if self.clip is not None and not (_is_number(self.clip) and 0 < self.clip < math.inf):
            raise DataError(f"clip is a positive number, not {self.clip!r}")
        if self.impute == ABSENT and (self.scale is not None or self.clip is not None or self.dates == "parts"):
            raise DataError(
                "scale, clip and dates='parts' would make other numbers of tacit.ensemble.MISSING: leave them out, for "
                "trees take columns as they are"
            )
        for name in ("columns", "drop", "keep"):
            names = getattr(self, name)
            if names is not None and not (isinstance(names, tuple) and all(isinstance(n, str) for n in names)):
                raise DataError(f"{name} is a list of names of columns, not {names!r}")
            if names is not None and len(set(names)) < len(names):
                raise DataError(f"{name} names a column twice")
        if type(self.most_categories) is not int or self.most_categories < 1:
            raise DataError(f"most_categories is a number of words, not {self.most_categories!r}")

    def _one_of(self, name: str, allowed: Sequence[str | None]) -> None:
        value = getattr(self, name)
        if not (value is None or isinstance(value, str)) or value not in allowed:
            raise DataError(f"{name} is one of {', '.join(map(repr, allowed))}, not {value!r}")


@dataclass(frozen=True, slots=True)
class Fitted:
    """One column: what missing cells become, which words there are, and how its numbers are scaled."""

    name: str
    kind: str
    fill: float | None = None
    words: tuple[str, ...] | None = None
    centre: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    """What a number is less, and divided by; 0 stands for a constant, which becomes 0."""

    def names(self, settings: Settings) -> list[str]:
        """The columns that come of it."""
        if self.words is not None and settings.categories == "one-hot":
            return [f"{self.name}={word}" for word in self.words]
        if self.kind == DATE and settings.dates == "parts":
            return [f"{self.name} ({part})" for part in PARTS]
        return [self.name]

    def applied(self, column: Column, settings: Settings) -> list[Array]:
        """The columns that come of it. Raises `DataError` where a cell is missing and nothing stands for it."""
        values = as_kind(column, self.kind)
        if self.words is not None:
            return _of_words(values, self.words, one_hot=settings.categories == "one-hot")
        absent = np.isnan(values)
        if absent.any():
            if self.fill is None:
                raise DataError(
                    f"column {self.name!r} has no value in {int(absent.sum())} rows, the first of them row "
                    f"{int(absent.argmax()) + 1}: say what stands for one with impute=…"
                )
            values = np.where(absent, self.fill, values)
        out = _parts(values) if self.kind == DATE and settings.dates == "parts" else [values]
        if self.spread:
            scales = zip(out, self.centre, self.spread, strict=True)
            out = [(v - c) / s if s else np.zeros_like(v) for v, c, s in scales]
        return [np.clip(v, -settings.clip, settings.clip) for v in out] if settings.clip is not None else out

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fitted:
        """What `as_json` has made; raises for anything else."""
        name, kind, fill, words = data["name"], data["kind"], data["fill"], data["words"]
        centre, spread = tuple(data["centre"]), tuple(data["spread"])
        texts = words is None or (isinstance(words, list) and all(isinstance(w, str) for w in words))
        numbers = [*centre, *spread, *([] if fill is None else [fill])]
        if not isinstance(name, str) or kind not in KINDS or not texts or not all(map(_is_number, numbers)):
            raise ValueError
        if len(centre) != len(spread) or len(data) != 6 or (words is not None) != (kind == CATEGORY):
            raise ValueError
        return cls(name, kind, fill, None if words is None else tuple(words), centre, spread)


def fitted(column: Column, rows: Array | slice, settings: Settings) -> Fitted:
    """Fit one column on some of its rows."""
    name, kind = column.name, column.kind
    part = column.values[rows]
    absent = column.missing[rows]
    if kind == NOTHING or absent.all():
        raise DataError(f"column {name!r} has no value in the rows it is fitted on: leave it out with drop=[…]")
    if kind == CATEGORY:
        return _fitted_words(name, part[~absent], settings)
    if kind == DATE and settings.dates is None:
        raise DataError(f"column {name!r} holds dates: say dates='days' or 'parts', or drop=[…]")
    present = part[~absent]
    if name not in settings.keep and looks_like_a_key(name, present):
        raise DataError(f"column {name!r} looks like a key: leave it out with drop=[…], or say keep=[{name!r}]")
    fill = _fill(present, settings.impute)
    if fill is not None and not math.isfinite(fill):
        raise DataError(f"column {name!r} holds numbers that are too large for a mean")
    if fill is None and absent.any():
        raise DataError(f"column {name!r} has no value in {int(absent.sum())} rows: say what stands for one, impute=…")
    whole = np.where(absent, 0.0 if fill is None else fill, part)
    out = _parts(whole) if kind == DATE and settings.dates == "parts" else [whole]
    if settings.scale is None:
        return Fitted(name, kind, fill)
    with np.errstate(over="ignore"):
        centre, spread = zip(*(_scaled(v, settings.scale) for v in out), strict=True)
    if not all(map(math.isfinite, (*centre, *spread))):
        raise DataError(f"column {name!r} holds numbers that are too large to be scaled")
    return Fitted(name, kind, fill, None, centre, spread)


def _fitted_words(name: str, words: Array, settings: Settings) -> Fitted:
    if settings.categories is None:
        raise DataError(f"column {name!r} holds words: say categories='one-hot' or 'ordinal', or drop=[…]")
    found = sorted(set(words.tolist()))
    if name not in settings.keep and look_like_numbers(found):
        raise DataError(
            f"column {name!r} holds texts that look like numbers or dates: have them read as such (decimal=… and "
            f"date_format=… of tacit.read_table), or say keep=[{name!r}] if they are words"
        )
    if len(found) > settings.most_categories:
        raise DataError(
            f"column {name!r} has {len(found)} different words, more than {settings.most_categories}: is it a key? "
            f"Leave it out with drop=[…], or allow more with most_categories=…"
        )
    return Fitted(name, CATEGORY, None, tuple(found))


def _fill(present: Array, impute: str | float | None) -> float | None:
    if impute is None or not isinstance(impute, str):
        return None if impute is None else float(impute)
    if impute == "zero":
        return 0.0
    with np.errstate(over="ignore"):
        return float(np.median(present) if impute == "median" else present.mean())


def _scaled(values: Array, how: str) -> tuple[float, float]:
    """Mean and deviation, or least value and extent; 0 for a constant, whose mean is off by rounding."""
    size = float(np.abs(values).max())
    if how == "min-max":
        low, extent = float(values.min()), float(np.ptp(values))
        return low, extent
    centre, spread = float(values.mean()), float(values.std())
    return centre, 0.0 if spread <= 1e-12 * size else spread


def as_kind(column: Column, kind: str) -> Array:
    """The values, where the kind is that of the training rows, or may be read as it."""
    if column.kind == NOTHING:
        return np.full(len(column.values), None, dtype=object) if kind == CATEGORY else column.values
    if column.kind == kind or {column.kind, kind} == {NUMBER, TRUTH}:
        return column.values
    if kind == TRUTH and column.kind == CATEGORY:  # as a form has them
        words = [None if v is None else v.strip().casefold() for v in column.values]
        if not all(v is None or v in TRUTHS for v in words):
            raise DataError(f"column {column.name!r} holds words that are no truth values as yes or no, true or false")
        return np.array([np.nan if v is None else float(TRUTHS[v]) for v in words], dtype=np.float64)
    if kind == DATE and column.kind == CATEGORY:  # as JSON has dates
        try:  # not "NaT", nor "now" by the owner's clock
            if not all(v is None or ISO.match(v) for v in column.values):
                raise ValueError
            days = [np.nan if v is None else np.datetime64(v, "s").astype(np.int64) / 86400 for v in column.values]
        except ValueError:
            raise DataError(f"column {column.name!r} holds texts that are no dates as 2024-12-31") from None
        return np.array(days, dtype=np.float64)
    raise DataError(f"column {column.name!r} holds {PLURAL[column.kind]}, and was fitted on {PLURAL[kind]}")


def _of_words(values: Array, words: Sequence[str], *, one_hot: bool) -> list[Array]:
    """A column for each word, all 0 for one that is not known; or the places of words from 1, and 0 for such."""
    places = {word: place for place, word in enumerate(words, start=1)}
    codes = np.array([0 if v is None else places.get(v, 0) for v in values.tolist()], dtype=np.float64)
    return [(codes == k).astype(np.float64) for k in range(1, len(words) + 1)] if one_hot else [codes]


def _parts(days: Array) -> list[Array]:
    """Year, month from 1, and day of the week from 0, Monday."""
    whole = np.floor(days).astype(np.int64)
    dates = whole.astype("datetime64[D]")
    years = dates.astype("datetime64[Y]").astype(np.int64)
    months = dates.astype("datetime64[M]").astype(np.int64)
    return [v.astype(np.float64) for v in (years + 1970, months - 12 * years + 1, (whole + 3) % 7)]


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)
