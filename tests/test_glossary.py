"""The glossary and the code have the same words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import tacit

SOURCE = Path(tacit.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "glossary.md"
ROW = re.compile(r"^\| (?!word |---)(.+?) \| (.+) \| `(\S+)` \|$", re.MULTILINE)
MARKED = re.compile(r"(?<![*\w`])\*([a-z][a-z -]+[a-z])\*(?![*\w`])")
"""A word that a docstring of a file introduces by setting it apart."""

SCHEMES = [path.parent.name for path in (SOURCE / "protocols").glob("*/__init__.py")]
STEPS = {
    "Bilinear",
    "BitJob",
    "Choice",
    "Dealt",
    "Delivery",
    "Division",
    "Form",
    "Job",
    "Joined",
    "Links",
    "Masking",
    "Multiple",
    "Note",
    "Packed",
    "Pending",
    "Places",
    "Powers",
    "Precision",
    "Product",
    "Rows",
    "Spreading",
    "Summed",
    "Term",
}
"""Types of one file's own, which it explains itself."""


def rows() -> list[tuple[str, str, str]]:
    """Word, meaning and home."""
    return ROW.findall(PAGE.read_text())


def words() -> set[str]:
    return {word.strip("` ") for cell, _, _ in rows() for word in cell.split(",")}


def test_every_word_is_at_home_where_it_is_said_to_be() -> None:
    missing = []
    for cell, _, home in rows():
        text = (SOURCE / home).read_text().lower()
        missing += [(w, home) for w in cell.replace("`", "").split(", ") if w.lower().rstrip("s") not in text]

    assert len(rows()) > 60
    assert not missing


def test_every_word_has_one_meaning() -> None:
    cells = [cell for cell, _, _ in rows()]

    assert len(cells) == len(set(cells))


def test_words_that_a_docstring_introduces_are_in_the_glossary() -> None:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE).as_posix()
        if place.split("/")[0] not in ("fhe", "federated"):
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            found |= dict.fromkeys(MARKED.findall(docstring), place)

    assert {word: place for word, place in found.items() if word not in words()} == {}


def test_types_of_the_protocols_are_in_the_glossary() -> None:
    folders = [SOURCE / "protocols", *(SOURCE / "protocols" / scheme for scheme in SCHEMES)]
    types = set()
    for path in (path for folder in folders for path in folder.glob("*.py")):
        types |= {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef) and n.name[0] != "_"}

    assert types - STEPS - words() == set()
