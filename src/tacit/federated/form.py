"""What every form of secure aggregation has in common: a client's end, a server's end, and what comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid

from tacit.federated.errors import RosterError, ThresholdError
from tacit.federated.identity import Identity, Roster
from tacit.federated.privacy.noise import Privacy
from tacit.federated.update import Layout, Train
from tacit.federated.vectors import Floats

__all__ = ["APP_RAISED", "OUT_OF_STEP", "Aggregate", "Aggregation", "Credentials", "Train", "from_node_config"]

APP_RAISED = 2
"""Flower's code of an error reply for an app that raised an exception."""

OUT_OF_STEP = 1002
"""The code of an error reply to a message of another session or stage than a client is in: it computed nothing."""

Credentials = Callable[[Context], tuple[Identity, Roster]]
"""Finds, at a node, the client's identity and the roster."""


def from_node_config(context: Context) -> tuple[Identity, Roster]:
    """Read the files that the node's config names: `identity` and `roster`."""
    config = context.node_config
    missing = [name for name in ("identity", "roster") if name not in config]
    if missing:
        raise RosterError(f"the node's config lacks {' and '.join(missing)}, the paths of two files")
    return Identity.load(Path(str(config["identity"]))), Roster.load(Path(str(config["roster"])))


@dataclass(frozen=True)
class Aggregate:
    """The weighted average of the survivors' updates, and what is to be told about it."""

    layout: Layout
    mean: Floats = field(repr=False)
    """Of a query, the sum."""
    examples: float
    asked: int
    survivors: int
    failures: dict[str, str]
    saturated: dict[str, int]
    """Of each array and metric, how many coordinates were larger than the limit, over all clients."""
    seconds: float
    """The server's own work; of the processor where the work is done in this process."""
    rho: float | None = None
    """The privacy loss of this round, in zero-concentrated differential privacy."""
    error: float = 0.0
    """The largest error of the mean from encoding."""


@dataclass
class Course:
    """The sessions of one run at the server: their numbers, each taken once, and what was prepared for the next."""

    number: int = 0
    """Of the session that is led."""
    taken: int = 0
    """The highest that was given to any session."""
    prepared: object = None
    clients: frozenset[int] = frozenset()
    """Who was in the last sum."""
    insists: frozenset[int] | None = None
    """Who has to be in the next sum, and nobody else: else nothing is unmasked. Sums over all and over all but one tell
    of that one."""
    late: set[int] = field(default_factory=set)
    """Nodes without a part in such sums, as their clients came later, or they were silent: they are asked no more."""
    absent: frozenset[int] = frozenset()
    """Nodes that were asked for the last sum and are not in it."""
    rho: float = 0.0
    """The privacy loss of all of them, in zero-concentrated differential privacy: a second `start` adds to it."""

    def take(self) -> int:
        """Return the next number."""
        self.taken += 1
        return self.taken


class Aggregation(ABC):
    """A form of secure aggregation."""

    @abstractmethod
    def fewest(self, clients: int) -> int:
        """Return the fewest clients in a sum, of so many in the roster."""

    def check_asked(self, asked: int, clients: int) -> None:
        """Raise `ThresholdError` before anybody works if the strategy asks fewer clients than may be summed."""
        fewest = self.fewest(clients)
        if asked < fewest:
            raise ThresholdError(
                f"the strategy asks {asked} of {clients} clients, and clients take part in sums of {fewest} or more: "
                f"let it ask more (fraction_train, min_train_nodes), or write minimum={max(asked, 2)} in the settings"
            )

    @property
    @abstractmethod
    def weighted_by(self) -> str:
        """The metric that weighs a client."""

    @property
    @abstractmethod
    def privacy(self) -> Privacy | None:
        """The noise that clients add, if any."""

    @abstractmethod
    def reply(
        self,
        message: Message,
        context: Context,
        train: Train,
        credentials: Credentials,
    ) -> RecordDict:
        """Answer a message at a client; `train` is the ClientApp's own function."""

    @abstractmethod
    def aggregate(
        self, grid: Grid, messages: list[Message], timeout: float | None, course: Course, roster: Roster
    ) -> Aggregate:
        """Lead the clients that the messages go to through one session, and say its number in `course`."""
