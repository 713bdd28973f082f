"""What runs at a role: the files of its program and the versions of its environment, as digests to agree on.

The files of a program are its script and all modules in the script's folder that it imports, and these import, wherever
the import stands. A role that has approved a digest runs these files, as they were when they were hashed. An
import of anything else that is neither an installed package nor Python's own is refused.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import re
import runpy
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from tacit.errors import ConfigError

__all__ = ["SCHEME", "Program", "approve", "environment", "environment_digest", "executed", "only", "read_digest"]

SCHEME = "sha256:"


@dataclass(frozen=True, slots=True)
class Program:
    """A script and the modules beside it, by their path from its folder."""

    root: Path
    files: dict[str, bytes]

    @staticmethod
    def read(script: str | Path) -> Program:
        """Read a script and what it imports; nothing is run. A script that is not there has no files."""
        script = Path(script).resolve()
        root, files, waiting = script.parent, dict[str, bytes](), [script]
        while waiting:
            path = waiting.pop()
            name = path.relative_to(root).as_posix()
            if name in files:
                continue
            try:
                files[name] = path.read_bytes()
            except OSError:
                continue
            waiting += _imported(files[name], path, root)
        return Program(root, dict(sorted(files.items())))

    @property
    def digest(self) -> str:
        """One digest of all files and their names, in hexadecimal; empty where there are none."""
        if not self.files:
            return ""
        total = hashlib.sha256(b"tacit program\0")
        for name, content in self.files.items():
            total.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(content).digest())
        return total.hexdigest()


def _imported(source: bytes, path: Path, root: Path) -> Iterator[Path]:
    """The files below the root that a module may import; what cannot be parsed imports nothing, for it cannot run."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base: list[str] = []
            if node.level:
                above = path.parent.relative_to(root).parts
                base = list(above[: len(above) - node.level + 1])
            base += node.module.split(".") if node.module else []
            yield from _files(root, base)
            for alias in node.names:
                yield from _files(root, [*base, alias.name])


def _files(root: Path, names: Sequence[str]) -> Iterator[Path]:
    """A module's file, and those of the packages that it is in."""
    folder = root
    for name in names:
        for candidate in (folder / f"{name}.py", folder / name / "__init__.py"):
            if candidate.is_file() and candidate.resolve().is_relative_to(root):
                yield candidate
        folder /= name


# --- the environment -------------------------------------------------------------------------------------------------


def environment(extras: Sequence[str] = ()) -> dict[str, str]:
    """The versions of Python, of Tacit and of all packages that it needs, and that extras of it do."""
    versions = {"python": platform.python_version()}
    waiting = ["tacit"]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in versions:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        versions[name] = found.version
        for needed in found.requires or ():
            extra = re.search(r"extra == ['\"]([^'\"]+)", needed)
            if extra is None or (name == "tacit" and extra[1] in extras):
                waiting.append(re.split(r"[^A-Za-z0-9._-]", needed, maxsplit=1)[0])
    return dict(sorted(versions.items()))


def environment_digest() -> str:
    """One digest of them, in hexadecimal."""
    text = "\n".join(f"{name}=={version}" for name, version in environment().items())
    return hashlib.sha256(b"tacit environment\0" + text.encode()).hexdigest()


# --- what a role has approved ----------------------------------------------------------------------------------------


def read_digest(key: str, value: object) -> str:
    """Read "sha256:" and 64 hexadecimal digits."""
    if not isinstance(value, str) or not re.fullmatch(SCHEME + "[0-9a-fA-F]{64}", value):
        raise ConfigError(f"'{key}' must be {SCHEME} and 64 hexadecimal digits, as `tacit run --dry-run` shows them")
    return value.lower()


def approve(role: str, program: Program, script: str | None, packages: str | None) -> None:
    """Raise `ConfigError` unless this is the program, and this the environment, that a role has approved, if it has."""
    if packages is not None and packages != SCHEME + environment_digest():
        raise ConfigError(
            f"the packages of this environment are not those that {role} approved, {packages[:19]}…: compare them by "
            f"`tacit run --dry-run`, and set 'tacit.environment' to the new digest if they should run"
        )
    if script is not None and script != SCHEME + program.digest:
        raise ConfigError(
            f"the program is not the one that {role} approved, {script[:19]}…: read it, see its files by "
            f"`tacit run --dry-run`, and set 'tacit.program' to the new digest if it should run"
        )


def only(program: Program) -> None:
    """Let this process import, from now on, the program's files as they were read, and installed packages."""
    if any(isinstance(finder, _Approved) for finder in sys.meta_path):
        return
    sys.pycache_prefix = tempfile.mkdtemp(prefix="tacit-")  # no compiled file that came with the program counts
    sys.meta_path.insert(0, _Approved(program))


def executed(script: Path, name: str) -> dict[str, Any]:
    """Run a script under a name of a module, as `runpy.run_path` does, and return what it has defined.

    One that was approved runs as it was when it was hashed, whatever has become of its file since.
    """
    approved = next((finder.program for finder in sys.meta_path if isinstance(finder, _Approved)), None)
    if approved is None:
        return runpy.run_path(str(script), run_name=name)
    path = script.resolve()
    place = path.relative_to(approved.root).as_posix() if path.is_relative_to(approved.root) else ""
    if place not in approved.files:
        raise ConfigError(f"{script} is not of the files that were approved")
    module = ModuleType(name)
    module.__file__ = str(script)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        exec(_code(approved.files[place], str(script)), module.__dict__)  # noqa: S102 - it was approved
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
    return module.__dict__


class _Approved(MetaPathFinder):
    """Finds the modules of a program in what was read of it, and refuses what was not."""

    def __init__(self, program: Program) -> None:
        self.program = program
        paths = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
        self._installed = (*(Path(path).resolve() for path in paths), Path(__file__).resolve().parents[1])

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module of the program here, and leave others to the finders that come next."""
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None or not spec.has_location:
            return None
        origin = Path(spec.origin).resolve()
        root = self.program.root
        name = origin.relative_to(root).as_posix() if origin.is_relative_to(root) else ""
        if name in self.program.files:
            source = _Source(self.program.files[name], str(origin))
            return spec_from_loader(
                fullname, source, origin=str(origin), is_package=spec.submodule_search_locations is not None
            )
        if any(origin.is_relative_to(folder) for folder in self._installed):
            return None
        raise ConfigError(
            f"the program imports {origin}, which is neither an installed package nor of the files that were approved"
        )


class _Source(Loader):
    """Runs a module from what was read of its file."""

    def __init__(self, source: bytes, origin: str) -> None:
        self._source, self._origin = source, origin

    def create_module(self, spec: ModuleSpec) -> None:
        """As Python makes modules."""

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        module.__file__ = self._origin
        if module.__spec__ is not None and module.__spec__.submodule_search_locations is not None:
            module.__path__ = [str(Path(self._origin).parent)]
        exec(_code(self._source, self._origin), module.__dict__)  # noqa: S102 - that is how a module is run


def _code(source: bytes, name: str) -> Any:
    """What Python makes of a file: with the future statements that are in it, and not those of this one."""
    return compile(source, name, "exec", dont_inherit=True)
