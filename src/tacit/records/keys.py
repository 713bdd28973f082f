"""Keys of rows: the one form in which those of all owners are compared, and digests of it, made at the owner.

A key is the text of its columns, one after the other. In each,

- text loses white space at both ends, is brought to Unicode's NFKC and case folded; text that is a whole number with a
  fraction of zeros, as pandas writes whole numbers beside gaps, loses the fraction ("12.0" is "12");
- whole numbers are their digits, without leading zeros (but text keeps its own: "007" is not 7);
- dates, and times at midnight, are YYYY-MM-DD; other times YYYY-MM-DD HH:MM:SS, with what fraction they have, in
  microseconds (what is finer is cut off) and without zeros at its end;
- truth values are "true" and "false".

A row in which a column of its key has no value has no key, and matches nobody.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from tacit.errors import ConfigError, DataError
from tacit.protocols.matching import DIGEST_WORDS

__all__ = [
    "DIGEST_BYTES",
    "Either",
    "alternatives_of",
    "digest_of",
    "digest_of_parts",
    "either",
    "is_raw",
    "key_query",
    "normal_text",
]

DIGEST_BYTES = 8 * DIGEST_WORDS

FRACTION = re.compile(r"(-?[0-9]+)\.0+")


@dataclass(frozen=True, slots=True)
class Either:
    """Keys that are tried one after the other; `either` makes it."""

    keys: tuple[tuple[str, ...], ...]


def either(*keys: str | Sequence[str]) -> Either:
    """Several keys that `tacit.join` tries one after the other, each a column or more: `key=either("phone", "email")`.

    Rows that have the first one in common belong together; of the others, those that have the second one, and so on.
    All tables of a join have as many, and they mean the same in the same order.
    """
    if len(keys) < 2:
        raise ConfigError(
            "tacit.either takes two keys or more, tried one after the other; for a single one write key=…"
        )
    listed = tuple((key,) if isinstance(key, str) else tuple(key) for key in keys)
    if any(not key or any(not isinstance(name, str) for name in key) for key in listed):
        raise ConfigError("tacit.either takes names of columns, or lists of such")
    if any(len(set(key)) < len(key) for key in listed) or len(set(listed)) < len(listed):
        raise ConfigError("tacit.either names a key, or a column of one, twice")
    return Either(listed)


def alternatives_of(key: str | Sequence[str] | Either | None) -> tuple[tuple[str, ...], ...]:
    """The keys that a table is read with, each of one column or more; none without a key."""
    if isinstance(key, Either):
        return key.keys
    names = (key,) if isinstance(key, str) else tuple(key or ())
    return (names,) if names else ()


def normal_text(text: str) -> str:
    """The form of a text in a key; empty if it stands for no value."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).strip()
    whole = FRACTION.fullmatch(folded)
    return whole[1] if whole else folded


def key_query(columns: Sequence[tuple[str, str]], table: str) -> str:
    """A query for the columns of the key of each row of a table, texts `part0`, …, empty where there is no value.

    They are given by their quoted names and types. Those that `is_raw` are still to be brought to their form.
    """
    parts = ", ".join(f"coalesce({_part(name, kind)}, '') AS part{k}" for k, (name, kind) in enumerate(columns))
    return f"SELECT {parts} FROM {table}"


def is_raw(kind: str) -> bool:
    """Whether a column of a type is text, that its owner may have written in any way."""
    return kind == "VARCHAR" or kind.startswith("ENUM")


def _part(name: str, kind: str) -> str:
    if kind.startswith("TIMESTAMP") and "TIME ZONE" not in kind:
        time = f"{name}::TIMESTAMP"
        if kind == "TIMESTAMP_NS":  # a cast would round, and the reader of CSV does not
            nanoseconds = f"epoch_ns({name})"
            time = f"make_timestamp(({nanoseconds} - CASE WHEN {nanoseconds} < 0 THEN 999 ELSE 0 END) // 1000)"
        midnight = f"{time} = date_trunc('day', {time})"
        return f"CASE WHEN {midnight} THEN CAST({time} AS DATE)::VARCHAR ELSE {time}::VARCHAR END"
    if kind.startswith("DECIMAL"):
        return f"regexp_replace({name}::VARCHAR, '[.]?0+$', '')" if not kind.endswith(",0)") else f"{name}::VARCHAR"
    if kind in ("DOUBLE", "FLOAT"):
        whole = f"abs({name}) < 1e18 AND {name} = trunc({name})"
        digits = f"CAST({name} AS BIGINT)::VARCHAR"
        return f"CASE WHEN isnan({name}) THEN NULL WHEN {whole} THEN {digits} ELSE {name}::VARCHAR END"
    return f"{name}::VARCHAR"


def digest_of(columns: Sequence[Any]) -> bytes:
    """The digest of a key, given by Python's values of its columns, as the reader makes it of a row of a table.

    Raises `DataError` for what is no key.
    """
    return digest_of_parts([_part_of(value) for value in columns])


def digest_of_parts(parts: Sequence[str]) -> bytes:
    """The digest of a key, each part of which stands behind its length, so that no two different keys are one text."""
    text = "".join(f"{len(part.encode())}:{part}" for part in parts)
    return sha256(text.encode()).digest()[:DIGEST_BYTES]


def _part_of(value: Any) -> str:
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        value = getattr(value, "asm8", value)  # of pandas, whose times have nanoseconds
    if isinstance(value, np.datetime64):
        value = _moment(value)
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        fraction = f".{value.microsecond:06}".rstrip("0").rstrip(".")
        midnight = value.time() == datetime.time()
        return value.date().isoformat() if midnight else value.isoformat(" ", "seconds") + fraction
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e18:
        value = int(value)
    if not isinstance(value, str | int | datetime.date) or isinstance(value, datetime.datetime):
        raise DataError(f"a key is a text, a whole number or a date, not a {type(value).__name__}")
    text = normal_text(str(value))
    if not text:
        raise DataError("a key that is empty is nobody's")
    return text


def _moment(value: np.datetime64) -> datetime.datetime:
    """NumPy's time, in microseconds."""
    moment = value.astype("M8[us]").item()
    if not isinstance(moment, datetime.datetime):
        raise DataError("a key is a date of the years 1 to 9999, or a time in them")
    return moment
