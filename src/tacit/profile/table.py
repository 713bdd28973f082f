"""Costs as a tree of modules."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tacit.profile.row import Row
from tacit.session.meter import readable

__all__ = ["text", "tree"]

WIDTH = 140
"""Columns of a printed table. Module paths of transformers take some 60 beside the six numbers."""


@dataclass
class Line:
    """A line of the table, and those beneath it."""

    name: str
    phase: str = ""
    calls: int = 0
    rounds: int = 0
    online: int = 0
    prepared: int = 0
    helped: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    ahead_seconds: float = 0.0
    modules: dict[str, Line] = field(default_factory=dict)
    operators: dict[tuple[str, str], Line] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Count a row in this line."""
        self.calls += row.calls
        self.rounds += row.rounds
        self.online += row.online
        self.prepared += row.prepared
        for helper, count in row.helped.items():
            self.helped[helper] = self.helped.get(helper, 0) + count
        self.seconds += row.seconds
        self.ahead_seconds += row.ahead_seconds

    def below(self) -> list[Line]:
        """The lines beneath, operators before modules, those that take longest first."""
        operators, modules = self.operators.values(), self.modules.values()
        return [*_slowest_first(operators), *_slowest_first(modules)]


def tree(rows: Iterable[Row], title: str | None = None, seconds: str = "seconds") -> Table:
    """Sum the rows up by module: a table in which modules contain modules and operators.

    Operators that cost no round and no bytes are one line a module: they work on shares where they lie.
    """
    total = Line("total")
    for row in rows:
        total.add(row)
        line = total
        for part in (row.root or "outside of modules", *filter(None, row.module.split("."))):
            line = line.modules.setdefault(part, Line(part))
            line.add(row)
        line.operators.setdefault(_operator(row), Line(*_operator(row))).add(row)
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("module, operator", no_wrap=True)
    table.add_column("phase")
    prepared = ("prepared",) if total.prepared else ()
    ahead = ("to prepare",) if total.ahead_seconds else ()
    for heading in ("calls", "rounds", "bytes a party", *prepared, *total.helped, seconds, *ahead):
        table.add_column(heading, justify="right", no_wrap=True)
    for guide, line in _walk(total, "", ""):
        sent = [line.online, *((line.prepared,) if prepared else ())]
        sent += [line.helped.get(helper, 0) for helper in total.helped]
        times = [line.seconds, *((line.ahead_seconds,) if ahead else ())]
        _add(table, guide, line, sent, times, bold=bool(line.operators or line.modules))
    return table


def text(*tables: object) -> str:
    """Tables as plain text."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, color_system=None, force_terminal=False, markup=False, highlight=False)
    for table in tables:
        console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _operator(row: Row) -> tuple[str, str]:
    if row.local:
        return "local operators", ""
    return row.operator.removeprefix("aten.").removesuffix(".default"), row.phase


def _slowest_first(lines: Iterable[Line]) -> Sequence[Line]:
    return sorted(lines, key=lambda line: -line.seconds)


def _walk(line: Line, own: str, children: str) -> Iterator[tuple[str, Line]]:
    """Every line with the guides that stand before its name."""
    yield own, line
    below = line.below()
    for place, child in enumerate(below, start=1):
        last = place == len(below)
        yield from _walk(child, children + ("└ " if last else "├ "), children + ("  " if last else "│ "))


def _add(table: Table, guide: str, line: Line, sent: Sequence[int], times: Sequence[float], *, bold: bool) -> None:
    name = Text(guide, style="dim").append(line.name, style="bold" if bold else "not dim")
    numbers = str(line.calls), str(line.rounds), *map(readable, sent), *(f"{t:.4f}" for t in times)
    table.add_row(name, line.phase, *numbers)
