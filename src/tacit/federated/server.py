"""The server's line: `SecureAggregation(FedAvg(...), form, roster).start(grid, ...)`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from flwr.supercore.run import Run

from tacit.errors import TacitError, called
from tacit.federated.errors import FederatedError, RoundFailedError
from tacit.federated.form import Aggregate, Aggregation, Course
from tacit.federated.identity import Roster
from tacit.federated.masks.form import PairwiseMasks
from tacit.federated.privacy.accountant import Accountant
from tacit.federated.resuming import Resuming
from tacit.federated.strategies import check_strategy
from tacit.federated.update import average

__all__ = ["RoundReport", "SecureAggregation", "SecureGrid"]

log = logging.getLogger("flwr.tacit")

_COURSES: dict[int, Course] = {}
"""The sessions that this process has led in each run: clients take each number once in a run, so a second `start` goes
on counting."""

SHOWN = 20
"""Clients whose reasons a line of the log tells. More would hide the round that failed; the report has all."""

CUT = "give tally a center= near the mean, the same at every site, or answer in larger units"
"""What the author of a query does about numbers that are too large."""


@dataclass(frozen=True)
class RoundReport:
    """What happened in one session of secure aggregation."""

    number: int
    kind: str
    asked: int
    survivors: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    saturated: int = 0
    """Coordinates that were larger than the limit, over all clients; `cut` says of which arrays and metrics."""
    seconds: float = 0.0
    error: str | None = None
    """Why nothing was aggregated; the last good model is kept."""
    epsilon: float | None = None
    """Of all rounds up to this one."""
    delta: float | None = None
    roster: int = 0
    """All clients that there are: a strategy asks those that are connected, or a fraction of them."""
    cut: dict[str, int] = field(default_factory=dict)

    @property
    def incomplete(self) -> bool:
        """Whether a client that was asked is not in the sum, or there is none."""
        return self.error is not None or self.survivors < self.asked

    def __str__(self) -> str:
        if self.error is not None:
            failed = f"session {self.number} ({self.kind}) failed, the last good model is kept: {self.error}"
            return "\n".join([failed, *self.reasons])
        parts = [f"session {self.number} ({self.kind}): {self.survivors} of {self.asked} clients"]
        if self.asked < self.roster:
            parts.append(f"of {self.roster} in the roster")
        if self.saturated:
            parts.append(
                f"{self.saturated} coordinates saturated, so the average is not exact ({_counts(self.cut)}): "
                "raise limit in the settings, or max_examples for what weighs clients"
            )
        if self.epsilon is not None:
            parts.append(f"epsilon = {self.epsilon:.3g} at delta = {self.delta:g} so far")
        return ", ".join([*parts, *self.reasons])

    @property
    def reasons(self) -> list[str]:
        """What went wrong at each client, a line for each, up to `SHOWN` of them."""
        lines = [f"{client}: {reason}" for client, reason in self.failures.items()]
        more = len(lines) - SHOWN
        return [*lines[:SHOWN], f"and {more} more clients: see `failures`"] if more > 0 else lines


class SecureAggregation(Strategy):
    """Any of Flower's strategies that works on the weighted average, with the server seeing nothing but that average.

    The strategy inside (FedAvg, FedProx, FedAvgM, FedAdam, ...) chooses clients, and gets one reply a round: the
    average over all survivors, as if one client had sent it. `report` holds a line for each round. With `checkpoint`,
    a file, the model is kept after each round, and a `start` after a crash leads what is left of `num_rounds`.
    """

    def __init__(
        self,
        strategy: Strategy,
        roster: Roster,
        form: Aggregation | None = None,
        *,
        checkpoint: str | Path | None = None,
    ) -> None:
        if isinstance(strategy, SecureAggregation):
            raise FederatedError("this strategy aggregates securely already: wrap Flower's own, and once")
        if not isinstance(strategy, Strategy):
            raise FederatedError(f"wrap one of Flower's strategies, FedAvg() for example, not {called(strategy)}")
        if not isinstance(roster, Roster):
            raise FederatedError(f"the roster is Roster.load(path), or what enroll gives, not {called(roster)}")
        if form is not None and not isinstance(form, Aggregation):
            raise FederatedError(f"the form is PairwiseMasks(Settings(…)), for example, not {called(form)}")
        self.strategy = strategy
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.roster = roster
        self.form = form or PairwiseMasks()
        check_strategy(strategy, self.form)
        self.report: list[RoundReport] = []

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the strategy over a grid that aggregates securely.

        A round that fails is reported and leaves the model as it was. Raises `FederatedError` if every round failed.
        """
        self.report.clear()
        secure = SecureGrid(grid, self.roster, self.form)
        secure.report = self.report
        given = initial_arrays, num_rounds, timeout, train_config, evaluate_config, evaluate_fn
        if self.checkpoint is None:
            result = self.strategy.start(secure, *given)
        else:
            resuming = Resuming(self.strategy, self.checkpoint, lambda: secure.rho)
            secure.rho = max(secure.rho, resuming.kept.rho)  # the file has the rounds of this run so far, or lacks some
            result = resuming.run(secure, *given)
        trained = [line for line in self.report if line.kind == "train"]
        incomplete = [line for line in trained if line.incomplete]
        if incomplete:
            failed = sum(line.error is not None for line in incomplete)
            lines = "\n".join(map(str, incomplete[:SHOWN]))
            log.warning(
                "%s of %s rounds of training lack clients, and %s left the model as it was:\n%s",
                len(incomplete), len(trained), failed, lines,
            )  # fmt: skip
        if trained and all(line.error for line in trained):
            last = "\n".join([str(trained[-1].error), *trained[-1].reasons])
            raise FederatedError(f"no round could be aggregated; the last one said: {last}")
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Leave it to the strategy inside."""
        return self.strategy.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Leave it to the strategy inside."""
        return self.strategy.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Leave it to the strategy inside."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Leave it to the strategy inside."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Log the settings of the strategy inside."""
        self.strategy.summary()


class SecureGrid(Grid):
    """A grid on which a set of messages has one reply: to training and evaluation the average, to a query the sum.

    A strategy gets one from `SecureAggregation`. An app that asks queries by itself wraps its own:
    `grid = SecureGrid(grid, roster, FORM)`. `clear` are the queries that clients answer in clear, as in their mod.
    """

    def __init__(
        self, grid: Grid, roster: Roster, form: Aggregation | None = None, *, clear: Collection[str] = ()
    ) -> None:
        self._grid, self._form, self._roster = grid, form or PairwiseMasks(), roster
        self._clear = frozenset(clear)
        self.report: list[RoundReport] = []
        self._accountant: Accountant | None = None
        self._insists: frozenset[int] | None = None
        self._course = _COURSES.setdefault(grid.run.run_id, Course())

    @property
    def rho(self) -> float:
        """The privacy loss of all rounds of the run, those before a crash and those of another `start` among them."""
        return self._course.rho

    @rho.setter
    def rho(self, spent: float) -> None:
        self._course.rho = spent

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Aggregate securely; no reply at all if the round failed. A query that failed raises `FederatedError`."""
        outgoing = list(messages)
        if not outgoing:
            return []
        kind, _, action = outgoing[0].metadata.message_type.partition(".")
        privacy = self._form.privacy
        if kind == "query" and (action or "default") in self._clear:
            return self._grid.send_and_receive(outgoing, timeout=timeout)
        if kind == "query" and privacy is not None:
            raise FederatedError("answers to queries have no noise: with differential privacy, ask none")
        if kind == "evaluate" and privacy is not None:
            log.warning("metrics have no noise: with differential privacy, evaluate at the server (evaluate_fn)")
            return []
        self._course.insists = self._insists if kind == "query" else None
        if self._course.insists is not None:
            outgoing = [message for message in outgoing if message.metadata.dst_node_id not in self._course.late]
        self._course.number = self._course.taken + 1  # unless the session takes one that was prepared
        try:
            self._form.check_asked(len(outgoing), len(self._roster))
            aggregate = self._form.aggregate(self._grid, outgoing, timeout, self._course, self._roster)
        except TacitError as error:
            failures = error.failures if isinstance(error, RoundFailedError) else {}
            self._note(RoundReport(self._course.number, kind, len(outgoing), failures=failures, error=str(error)))
            if kind == "query":
                raise FederatedError(f"the query was not answered: {self.report[-1]}") from error
            return []
        if kind == "query" and aggregate.saturated:
            beyond = "above 2^64, or in arrays above the limit of the settings,"
            reason = f"answers {beyond} were cut, and the sum would be wrong ({_counts(aggregate.saturated)}): {CUT}"
            self._note(replace(self._line(kind, aggregate), error=reason))
            raise FederatedError(f"the query was not answered: {reason}")
        self._note(self._line(kind, aggregate))
        weighted_by = None if kind == "query" else self._form.weighted_by
        return [average(outgoing[0], aggregate.layout, aggregate.mean, aggregate.examples, weighted_by)]

    def insist(self, on: bool = True) -> None:
        """From now on sum over exactly the clients of the last sum, or nothing is unmasked; `False` for any clients.

        What sums over all clients and over all but one tell together is that one's own. A client that comes later is
        left out; one that is missing fails the query. Evaluation takes who is there.
        """
        if on and not self._course.clients:
            raise FederatedError("nothing was summed under masks yet: insist() is for the clients of the last sum")
        self._insists = self._course.clients if on else None
        self._course.late = set(self._course.absent) if on else set()

    def ask(
        self, action: str = "", config: ConfigRecord | None = None, *, timeout: float | None = 3600
    ) -> MetricRecord:
        """Ask all nodes that are connected the query of this name, and return the sum of their answers."""
        kind = f"query.{action}" if action else "query"
        content = RecordDict({"config": config if config is not None else ConfigRecord()})
        asked = [Message(content, dst_node_id=node, message_type=kind) for node in self.get_node_ids()]
        if (action or "default") in self._clear:
            raise FederatedError("answers to this query come in clear, one a node, and are not summed: send messages")
        if not asked:
            raise FederatedError("no node is connected that could be asked")
        (reply,) = self.send_and_receive(asked, timeout=timeout)
        return next(iter(reply.content.metric_records.values()))

    def _line(self, kind: str, aggregate: Aggregate) -> RoundReport:
        epsilon = delta = None
        privacy = self._form.privacy
        if privacy is not None and aggregate.rho is not None:
            if self._accountant is None:
                self._accountant = Accountant(privacy.delta)
                if self.rho:
                    self._accountant.spend(self.rho)
            self.rho += aggregate.rho
            epsilon, delta = self._accountant.spend(aggregate.rho), privacy.delta
        return RoundReport(
            self._course.number,
            kind,
            aggregate.asked,
            aggregate.survivors,
            aggregate.failures,
            sum(aggregate.saturated.values()),
            aggregate.seconds,
            epsilon=epsilon,
            delta=delta,
            roster=len(self._roster),
            cut=aggregate.saturated,
        )

    def _note(self, line: RoundReport) -> None:
        self.report.append(line)
        log.log(
            logging.ERROR if line.error else logging.WARNING if line.failures or line.saturated else logging.INFO,
            "%s",
            line,
        )

    def set_run(self, run: Run) -> None:
        """Leave it to the grid below."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run of the grid below."""
        return self._grid.run

    def create_message(
        self, content: object, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Leave it to the grid below."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)  # type: ignore[arg-type]

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes of the grid below."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Refuse: a strategy that sends by itself would get replies in clear, if clients gave any."""
        raise FederatedError("secure aggregation needs send_and_receive; this strategy pushes messages by itself")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Refuse, as `push_messages` does."""
        raise FederatedError("secure aggregation needs send_and_receive; this strategy pulls messages by itself")


def _counts(cut: Mapping[str, int]) -> str:
    """Return how many coordinates of which arrays and metrics were cut, up to `SHOWN` names."""
    return ", ".join(f"{name} {count}" for name, count in list(cut.items())[:SHOWN])
