"""What another role has announced: it is public, and may be anything."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tacit.errors import DataError
from tacit.ring.memory import memory_bytes

__all__ = ["MOST_NAMES", "fitting", "names", "said_by", "tellable_names", "whole"]

T = TypeVar("T")

COMMANDS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Control characters, but for tabs and ends of lines, which names in tables may have."""

MOST_NAMES = 1 << 20
"""Of columns, in one message."""


def said_by(role: str, message: bytes, what: str, read: Callable[[Any], T]) -> T:
    """Read the JSON that a role has announced, by a function that raises whatever it likes for what is none."""
    try:
        return read(json.loads(message))
    except DataError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        raise DataError(f"{role} announced {what} in a form that is none") from None


def whole(x: Any, least: int = 0, most: int = 1 << 40) -> int:
    """A whole number of these; raise `ValueError` for anything else."""
    if type(x) is not int or not least <= x <= most:
        raise ValueError
    return x


def names(x: Any) -> list[str]:
    """A list of texts without what would command a terminal; raise `ValueError` for anything else."""
    if not isinstance(x, list) or len(x) > MOST_NAMES or not all(isinstance(each, str) for each in x):
        raise ValueError
    if any(COMMANDS.search(each) for each in x):
        raise ValueError
    return x


def tellable_names(given: Sequence[str]) -> list[str]:
    """Names that `names` takes, of an owner's own: what would command a terminal is spelt, "\\x1b"."""
    return [COMMANDS.sub(lambda found: f"\\x{ord(found[0]):02x}", name) for name in given]


def fitting(role: str, shape: Sequence[int]) -> None:
    """Raise `DataError` for a tensor of a role that no memory of this machine holds."""
    if 8 * math.prod(shape) > memory_bytes():
        raise DataError(
            f"{role} announced a tensor of shape {tuple(shape)}, which is more than the memory of this machine"
        )
