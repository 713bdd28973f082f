"""What a check found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tacit.profile import Row
from tacit.profile.table import text, tree
from tacit.session.meter import Cost
from tacit.watch.report import Deviation

__all__ = ["Link", "Report", "Unsupported"]


@dataclass(frozen=True, slots=True)
class Link:
    """The connection between every two roles."""

    latency: float
    """Seconds that a message takes, one way."""
    bandwidth: float
    """Bits a second that a role can send."""

    def transfer(self, count: int) -> float:
        """Seconds that this many bytes take."""
        return 8 * count / self.bandwidth


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Something that secrets cannot do, all its uses in one place taken together."""

    operator: str
    root: str
    """Class of the outermost module it is in, or of the optimizer; empty outside of both."""
    module: str
    """Path from there, as in `named_modules`; empty for the outermost module itself."""
    phase: str
    """`forward`, `backward`, or `step` for an optimizer's."""
    line: str
    """`file:line` of the program; of the forward pass, where a backward pass needs the operator."""
    instead: str
    """What works in its place."""

    def __str__(self) -> str:
        where = self.module or self.root or "outside of modules"
        phase = "" if self.phase == "forward" else f", {self.phase}"
        return f"{where}: {self.operator} ({self.line}{phase}): {self.instead}"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `tacit.check`. Print it, or read its fields."""

    unsupported: list[Unsupported]
    """Everything that would stop the run, in the order of the program."""
    stopped: str | None
    """Why the check could not go on to the end, if it could not: more may be unsupported after that."""
    rows: list[Row]
    """A record for each module, phase and operator; its seconds are estimated, for the link that was asked about."""
    cost: Cost
    """Of everything together, as the meter of a run will count it; its seconds are estimated. What is unsupported is
    not in it."""

    deviations: list[Deviation] = field(default_factory=list)
    """With real inputs: how far each module's outputs, and each operator's results, are from plain PyTorch's."""
    wrong: list[str] = field(default_factory=list)
    """With real inputs: what a session that checks itself would stop at."""

    @property
    def ok(self) -> bool:
        """Whether all of it works on secrets and, as far as there were real inputs, gives right numbers."""
        return not self.unsupported and self.stopped is None and not self.wrong

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self.unsupported:
            parts.append(_problems(self.unsupported))
        if self.stopped is not None:
            parts.append(Text(f"The check could not go on to the end: {self.stopped}", style="red"))
        parts.append(tree(self.rows, seconds="seconds (est.)"))
        if self.deviations:
            parts.append(_numbers(self.deviations))
        parts += [Text(message, style="red") for message in self.wrong]
        verdict = "All of it works on secrets" if self.ok else "Without what does not work on secrets, or not rightly"
        parts.append(Text(f"{verdict}: {self.cost} (estimated)", style="green" if self.ok else "red"))
        return Group(*parts)

    def __str__(self) -> str:
        return text(self)

    def __repr__(self) -> str:
        return f"Report(ok={self.ok}, {len(self.unsupported)} unsupported, {self.cost})"


def estimated(rows: Sequence[Row], link: Link, parties: int) -> list[Row]:
    """The rows with the seconds they would take over a link.

    A row was measured with all roles in one process, one after the other. Apart they work at the same time; taking
    the parties' work for all of it errs on the long side by what is the helpers'. What parties prepare they send in the
    run, too.
    """
    return [
        replace(
            row, seconds=row.seconds / parties + row.rounds * link.latency + link.transfer(row.online + row.prepared)
        )
        for row in rows
    ]


def total(cost: Cost, rows: Sequence[Row], link: Link) -> Cost:
    """The cost of everything. Helpers send while the parties compute: whoever takes longest counts."""
    helped = [link.transfer(count) for count in cost.helped.values()]
    return replace(cost, seconds=max(sum(row.seconds for row in rows), *helped, 0.0))


def _problems(unsupported: Sequence[Unsupported]) -> Table:
    table = Table(title="Not on secrets", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("module", "operator", "line", "instead"):
        table.add_column(heading, overflow="fold")
    for one in unsupported:
        where = one.module or one.root or "outside of modules"
        what = one.operator if one.phase == "forward" else f"{one.operator} ({one.phase})"
        table.add_row(*(Text(cell) for cell in (where, what, one.line, one.instead)))
    return table


MOST = 24
"""Lines of a printed table of deviations, the largest first. All of them are in `Report.deviations`."""


def _numbers(deviations: Sequence[Deviation]) -> Table:
    title = "Largest deviations from PyTorch (outputs: of the whole run, operators: on the same operands)"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("module", overflow="fold")
    table.add_column("operator")
    for heading in ("calls", "deviation", "allowed", "largest value"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in sorted(deviations, key=lambda row: -row.largest / max(row.size, 1.0))[:MOST]:
        where = ".".join(filter(None, (row.place.root, row.place.module))) or "outside of modules"
        what = row.operator if row.place.phase == "forward" else f"{row.operator} ({row.place.phase})"
        allowed = f"{row.allowed:.2g}" if row.allowed else ""
        table.add_row(*map(Text, (where, what, str(row.calls), f"{row.largest:.2g}", allowed, f"{row.size:.3g}")))
    return table
