"""Whether the first line of a file names its columns: a row taken for names would be told to all roles."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["PANDAS", "first_row", "problems_of_names"]

DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([ T].*)?")
WHOLE = re.compile(r"\d{1,9}")
TRUTHS = ("true", "false", "yes", "no")

YEARS = range(1900, 2101)

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
            shown = f"column {place + 1} is named like an earlier one" if _is_value(name) else None
            problems.append(shown or f"two columns are named {name!r}")
    return problems


def first_row(names: Sequence[str], typed: Sequence[bool]) -> list[str]:
    """What to say, without a value, of names that are values, in each column that holds no texts; of none, nothing.

    Names that count (0, 1, 2, … of pixels, years, months) are names.
    """
    above = [name for name, other in zip(names, typed, strict=True) if other]
    if not above or not all(map(_is_value, above)) or _counts(above):
        return []
    places = [str(place + 1) for place, other in enumerate(typed) if other]
    return [
        f"its first line looks like a row, and must name the columns: values stand in the place of names in "
        f"column{'s' * (len(places) > 1)} {', '.join(places[:10])}"
    ]


def _is_value(name: str) -> bool:
    """Whether a name is a number, a date or a truth value."""
    try:
        float(name.replace(",", "."))
    except ValueError:
        return DATE.fullmatch(name) is not None or name.casefold() in TRUTHS
    return True


def _counts(names: Sequence[str]) -> bool:
    """Whether names are whole numbers one after the other from 0 or 1, years, or three dates and more, in order."""
    if len(names) < 2:
        return False
    if all(map(WHOLE.fullmatch, names)):
        found = [int(name) for name in names]
        in_turn = found[0] in (0, 1) and found == list(range(found[0], found[0] + len(found)))
        return in_turn or (all(n in YEARS for n in found) and found == sorted(set(found)))
    return len(names) > 2 and all(map(DATE.fullmatch, names)) and list(names) == sorted(set(names))
