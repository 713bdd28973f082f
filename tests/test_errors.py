"""One tree of exceptions: all of them in one file, and drawn there as they are."""

from __future__ import annotations

import ast
import builtins
import re
from pathlib import Path

import tacit
from tacit import errors
from tacit.errors import TacitError, tellable

EXCEPTIONS = {name for name in dir(builtins) if isinstance(getattr(builtins, name), type)}
EXCEPTIONS = {name for name in EXCEPTIONS if issubclass(getattr(builtins, name), BaseException)} | set(errors.__all__)
LINE = re.compile(r"((?:[│ ]   )*)(?:[├└]── )?(\w+)(?: \((\w+)\))?( .*)?")


def drawn() -> dict[str, tuple[str, ...]]:
    """The bases of each exception, as the docstring draws them."""
    assert errors.__doc__ is not None
    found: dict[str, tuple[str, ...]] = {}
    above: list[str] = []
    for line in errors.__doc__.split("::\n\n")[1].split("\n\n")[0].splitlines():
        match = LINE.fullmatch(line.removeprefix("    "))
        assert match is not None, line
        indent, name, other, _ = match.groups()
        del above[len(indent) // 4 + ("──" in line) :]
        found[name] = (*above[-1:], *([other] if other else []))
        above.append(name)
    return found


def exceptions_of(path: Path) -> list[str]:
    """The classes of a file that derive from an exception by name."""
    classes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ClassDef)]
    found: list[str] = []
    for node in classes:
        bases = {base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases}
        if bases & {*EXCEPTIONS, *found} or any(re.search("(Error|Exception|Warning)$", base) for base in bases):
            found.append(node.name)
    return found


def test_every_exception_of_the_package_is_in_one_file() -> None:
    root = Path(tacit.__file__).parent

    elsewhere = {str(path.relative_to(root)): exceptions_of(path) for path in root.rglob("*.py")}
    there = elsewhere.pop("errors.py")

    assert sorted(there) == errors.__all__
    assert not {path: names for path, names in elsewhere.items() if names}


def test_the_tree_is_drawn_as_it_is() -> None:
    actual = {
        name: tuple(base.__name__ for base in getattr(errors, name).__bases__ if base is not Exception)
        for name in errors.__all__
    }

    assert drawn() == actual
    assert all(issubclass(getattr(errors, name), TacitError) for name in errors.__all__)


def test_a_stray_exception_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "stray.py").write_text("class A: ...\nclass B(A, ValueError): ...\nclass C(B): ...")

    assert exceptions_of(tmp_path / "stray.py") == ["B", "C"]


def test_only_messages_without_secrets_are_told() -> None:
    assert tellable(TacitError("x"))
    assert not tellable(ValueError("x"))
