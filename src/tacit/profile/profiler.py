"""`tacit.profile`: where rounds, bytes and seconds of a run go, by module and operator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode

from tacit.api import current_session
from tacit.errors import TacitError
from tacit.profile.row import Row
from tacit.profile.table import text, tree
from tacit.profile.trace import Event, write_trace
from tacit.session.meter import Cost
from tacit.session.session import Session
from tacit.tensor import SecretTensor
from tacit.tensor.compositions import otherwise
from tacit.tensor.registry import HANDLERS
from tacit.watch.place import Modules, Place, Scope

__all__ = ["Profile", "profile"]

EVENTS = 1 << 18
"""Events kept for a trace; what comes later is counted in the rows but not drawn. Viewers stall beyond a few hundred
thousand, and each takes some 200 bytes."""


class _Key(NamedTuple):
    place: Place
    operator: str


class Profile(TorchDispatchMode):
    """The costs of what runs inside of a `with tacit.profile() as p:` block. Print it, or read `rows`.

    It holds names, shapes of the program and counts, and nothing of any value. Every role may profile or not: it sends
    nothing and changes nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._session: Session | None = None
        self._modules = Modules(self._module_left)
        self._sums: dict[_Key, tuple[int, Cost]] = {}
        self._events: list[Event] = []
        self._dropped = 0
        self._first = self._last = self._end = Cost()
        self._clock = 0.0

    # --- the block ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._session is not None:
            raise TacitError("a profile is for one block: call tacit.profile() for the next one")
        self._session = current_session()
        self._clock = time.time() - time.perf_counter()
        self._first = self._last = self._end = self._session.meter.cost
        self._modules.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._modules.__exit__()
        self._end = self._between()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(issubclass(kind, SecretTensor) for kind in types):
            return func(*args, **kwargs)
        if func not in HANDLERS:
            with self._again():
                return otherwise(func, args, kwargs)
        key = _Key(self._modules.now(), str(func))
        before, began = self._between(), time.perf_counter()
        try:
            return func(*args, **kwargs)
        finally:
            self._last = self._meter()
            self._book(key, self._last - before, began)

    @contextmanager
    def _again(self) -> Iterator[None]:
        """See operators inside of an operator, too: PyTorch has switched this mode off while it is handling one."""
        super().__enter__()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            super().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def _meter(self) -> Cost:
        assert self._session is not None
        return self._session.meter.cost

    def _between(self) -> Cost:
        """The meter now; what has been spent since the last operator was no operator's: mostly, a reveal's."""
        assert self._session is not None
        now = self._meter()
        spent = now - self._last
        if spent.rounds or any(spent.sent.values()) or any(spent.prepared.values()):
            recorded = self._session.transcript.operator.partition("(")[0]
            operator = recorded if recorded.startswith("tacit.") else "outside of operators"
            self._book(_Key(self._modules.now(), operator), spent, time.perf_counter() - spent.seconds)
        return now

    def _book(self, key: _Key, cost: Cost, began: float) -> None:
        calls, total = self._sums.get(key, (0, Cost()))
        self._sums[key] = calls + 1, total + cost
        self._keep(Event(key.operator, key.place, began, cost.seconds, cost))

    def _module_left(self, scope: Scope, began: float) -> None:
        name = scope.module or scope.root
        self._keep(Event(name, Place(*scope, "forward"), began, time.perf_counter() - began, None))

    def _keep(self, event: Event) -> None:
        if len(self._events) < EVENTS:
            self._events.append(event)
        else:
            self._dropped += 1

    # --- what was seen -----------------------------------------------------------------------------------------------

    @property
    def modules(self) -> Modules:
        """Which module runs, and which ones ran."""
        return self._modules

    @property
    def cost(self) -> Cost:
        """What the whole block cost by the session's meter, Python between the operators included."""
        return self._end - self._first

    @property
    def rows(self) -> list[Row]:
        """A record for each module, phase and operator, in the order of their first calls."""
        return [
            Row(
                *key.place,
                key.operator,
                calls,
                cost.rounds,
                _most(cost.online),
                cost.helped,
                cost.seconds,
                _most(cost.prepared),
                cost.ahead_seconds,
            )
            for key, (calls, cost) in self._sums.items()
        ]

    def to_trace(self, path: str | Path) -> None:
        """Write a trace that chrome://tracing and ui.perfetto.dev show: a bar for each operator and module.

        Times are those of this machine's clock, so that one viewer can show the files of several roles together.
        """
        assert self._session is not None
        roles = (*self._session.transport.roles, "embedded")
        role = self._session.role
        write_trace(Path(path), self._events, role, roles.index(role), self._clock, self._dropped)

    def __rich__(self) -> Table:
        return tree(self.rows)

    def __str__(self) -> str:
        return text(self.__rich__())

    def __repr__(self) -> str:
        return f"Profile({len(self._sums)} rows, {self.cost})"


def profile() -> Profile:
    """Measure by module and operator what a block of the program costs in rounds, bytes and seconds.

    ::

        with tacit.profile() as p:
            loss(model(x), y).backward()
        print(p)
        p.to_trace("trace.json")

    Backward operators are counted at the module whose forward pass they differentiate. Without a profile nothing is
    slower than it would be.
    """
    return Profile()


def _most(sent: dict[str, int]) -> int:
    return max(sent.values(), default=0)
