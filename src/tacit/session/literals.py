"""What users type into a config, on its way to checked values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tacit.errors import ConfigError

__all__ = ["SETTINGS", "no_constant", "read_integer", "read_path", "read_seconds", "show", "unique_keys"]

SETTINGS = "tacit"
"""The key under which everything stands but roles and addresses."""


def show(value: object) -> str:
    """A value as the user typed it, cut where it gets long."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else text[:57] + "…"


def unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, if no key is there twice."""
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ConfigError(f"key {key!r} is there twice")
        result[key] = value
    return result


def no_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python's reader would take."""
    raise ConfigError(f"{name} is not a number that a config may hold")


def read_integer(key: str, value: object, least: int, most: int) -> int:
    """Read a whole number."""
    if type(value) is not int or not least <= value <= most:
        raise ConfigError(f"'{SETTINGS}.{key}' must be a whole number from {least} to {most}, not {show(value)}")
    return value


def read_seconds(key: str, value: object) -> float:
    """Read a span of time."""
    if type(value) not in (int, float) or not 0.1 <= value <= 1e6:  # type: ignore[operator]
        raise ConfigError(f"'{SETTINGS}.{key}' must be a number of seconds from 0.1 to 1000000, not {show(value)}")
    return float(value)  # type: ignore[arg-type]


def read_path(key: str, value: object, folder: Path) -> str:
    """Read the path of a folder; a relative one starts at `folder`."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ConfigError(f"'{SETTINGS}.{key}' must be the path of a folder, not {show(value)}")
    return str(folder / Path(value).expanduser())
