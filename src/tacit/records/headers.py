"""Whether the first line of a file names its columns: a row taken for names would be told to all roles."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import pairwise

__all__ = ["STATED", "first_row", "problems_of_names"]

DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([ T].*)?")
TRUTHS = ("true", "false", "yes", "no")

STATED = "; if these are names, say so, columns=[…]"
"""How to go on where a name looks like a value and is none: what the program says is public."""

PANDAS = "pandas writes its index so, if it is not told index=False"


def problems_of_names(names: Sequence[str]) -> list[str]:
    """What is wrong with the names of columns."""
    problems = []
    for place, name in enumerate(names):
        if not name:
            problems.append(
                f"column {place + 1} has no name" + (f" ({PANDAS})" if not place and len(names) > 1 else "")
            )
        elif not name.isprintable():
            problems.append(f"the name of column {place + 1} has characters that cannot be printed")
        elif name.casefold() in [other.casefold() for other in names[:place]]:
            hidden = _is_value(name) and name.casefold() not in TRUTHS  # a cell, perhaps, which nobody shall see
            shown = f"column {place + 1} is named as an earlier one" if hidden else f"two columns are named {name!r}"
            problems.append(shown)
    return problems


def first_row(names: Sequence[str], typed: Sequence[bool], stated: Collection[str]) -> list[str]:
    """What to say, without a value, of names that are values, in each column that holds no texts; of none, nothing.

    Names that count (0, 1, 2, … of pixels, years, wavelengths) are names. A program that has `stated` one of them that
    is no value knows that there is a header.
    """
    above = [name for name, other in zip(names, typed, strict=True) if other]
    if any(name in stated and not _is_value(name) for name in names):  # who names a column there knows of the header
        return []
    if not set(above) - set(stated) or not all(map(_is_value, above)) or _counts(above):
        return []
    places = [str(place + 1) for place, other in enumerate(typed) if other]
    columns = f"column{'s' * (len(places) > 1)} {', '.join(places[:10])}"
    return [f"its first line looks like a row, and must name the columns: in {columns} a value stands there{STATED}"]


def _is_value(name: str) -> bool:
    """Whether a name is a number, a date or a truth value."""
    try:
        float(name.replace(",", "."))
    except ValueError:
        return DATE.fullmatch(name) is not None or name.casefold() in TRUTHS
    return True


def _counts(names: Sequence[str]) -> bool:
    """Whether three names or more are whole numbers a step apart, as places, years and wavelengths are."""
    if len(names) < 3 or not all(re.fullmatch(r"\d{1,9}", name) for name in names):
        return False
    found = [int(name) for name in names]
    steps = {after - before for before, after in pairwise(found)}
    return len(steps) == 1 and steps != {0}
