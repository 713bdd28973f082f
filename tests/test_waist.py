"""Nothing above the protocols knows which one computes: no import of a scheme, no word and no price of one.

The lists of exceptions are what is left of the time when there was one scheme. They can only shrink: an entry that is
not needed any more fails the test, too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import tacit

SOURCE = Path(tacit.__file__).parent
SCHEMES = sorted(path.parent.name for path in (SOURCE / "protocols").glob("*/__init__.py"))

WORDS = re.compile(r"premask|producer|masked_form|simple_mask|mask_value", re.IGNORECASE)
WITHOUT = ("without_producer", "--without-producer")
NAMES = {
    ("profile/row.py", "producer"),  # documented properties, of what all helpers sent
    ("session/meter.py", "producer"),
    *((f"cli/{file}.py", name) for file in ("bench_serve", "demo", "local") for name in WITHOUT),  # what users ask for
}
"""What has a name that is one scheme's."""

PRICES = re.compile(r"COMPARED|CHOSEN|FEW")
"""What something costs in one scheme is data of that scheme, `Protocol.prices`."""


@cache
def parsed() -> dict[str, ast.Module]:
    """The files of the package with their syntax trees."""
    paths = sorted(SOURCE.rglob("*.py"))
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def files(*without: str) -> Iterator[tuple[str, ast.Module]]:
    """All files but those in some folders."""
    return ((place, tree) for place, tree in parsed().items() if place.partition("/")[0] not in without)


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def named(tree: ast.Module) -> Iterator[str]:
    """Every name that a file's code has, and every text that is no docstring: those may explain."""
    explaining = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield value.strip("_")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in explaining:
            yield node.value


def test_nothing_outside_of_the_protocols_imports_a_scheme() -> None:
    prefixes = tuple(f"tacit.protocols.{scheme}" for scheme in SCHEMES)
    found = {
        (place, ".".join(module.split(".")[2:4]))
        for place, tree in files("protocols")
        for module in imported(tree)
        if module.startswith(prefixes)
    }

    assert "additive" in SCHEMES
    assert not found


def test_nothing_above_the_protocols_has_a_schemes_words() -> None:
    found = {
        (place, name) for place, tree in files("protocols", "ring", "fhe") for name in named(tree) if WORDS.search(name)
    }

    assert found == NAMES


def test_nothing_above_the_protocols_holds_a_schemes_prices() -> None:
    found = {name for _, tree in files("protocols", "ring", "fhe") for name in named(tree) if PRICES.fullmatch(name)}

    assert not found
