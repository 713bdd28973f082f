"""Form 2 as an app names it, and a client's end of it, which is one message: its vector in shares, each in a box.

Flower's server passes the boxes on (`intake.py`), and gets the parties' shares of the result (`computation.py`).

`ComputingParties` asks parties that are processes of their own, wherever they run (`aggregator.py`).
`InsecureEmbeddedParties` runs all parties in the server's process, which so holds all their keys: it computes what
separate parties would compute, message for message, and protects nothing from that process. It is for tests, for
notebooks, and for choosing a rule.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid

from tacit.errors import TacitError
from tacit.federated import records, turns
from tacit.federated.boxes import fresh_key, public_key
from tacit.federated.errors import RosterError, RoundError, RoundFailedError, ThresholdError
from tacit.federated.form import Aggregate, Aggregation, Course, Credentials, Train
from tacit.federated.identity import Roster
from tacit.federated.parties.directory import Aggregators
from tacit.federated.parties.intake import Intake
from tacit.federated.parties.rules import Rule
from tacit.federated.parties.submission import Boxes, Submission, session_name
from tacit.federated.parties.terms import FRAC_BITS, Terms
from tacit.federated.parties.work import Work
from tacit.federated.privacy import budget
from tacit.federated.privacy.noise import Privacy
from tacit.federated.update import contribution
from tacit.federated.view import common_view, run_view, view, whole
from tacit.session.config import Config

if TYPE_CHECKING:
    from tacit.federated.parties.computation import Outcome

__all__ = ["ComputingParties", "InsecureEmbeddedParties"]


class SharedUpdates(Aggregation):
    """Aggregation by computing parties, wherever they run."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    def fewest(self, clients: int) -> int:
        """Return what the terms say."""
        return self.terms.fewest(clients)

    @property
    def weighted_by(self) -> str:
        """The metric that weighs a client."""
        return self.terms.weighted_by

    @property
    def privacy(self) -> Privacy | None:
        """The noise that the parties add."""
        return self.terms.privacy

    @abstractmethod
    def _keys(self, context: Context) -> Sequence[bytes]:
        """Return the parties' public keys, at a client."""

    @abstractmethod
    def _compute(self, work: Work, boxes: Boxes, roster: Roster, timeout: float | None) -> Outcome:
        """Let the parties compute; return all their shares of the result."""

    # the client

    def reply(
        self,
        message: Message,
        context: Context,
        train: Train,
        credentials: Credentials,
    ) -> RecordDict:
        """Train, and share the update to the parties."""
        if message.metadata.message_type.startswith("query"):
            raise RoundError("computing parties answer no queries: PairwiseMasks sums them")
        identity, roster = credentials(context)
        number, privacy = records.get(message.content, "number", int), self.terms.privacy
        turns.take(context, number, begins=True)
        kept = context.state.config_records.get(records.kept(context), ConfigRecord({"number": -1}))
        last = records.get(RecordDict({records.RECORD: kept}), "number", int)
        if number <= last:
            raise RoundError(f"session {number} is over: this client took part in session {last}")
        client, public_keys = roster.index(identity), self._keys(context)
        if privacy is not None and message.metadata.message_type.startswith("train"):
            budget.check(context, privacy)
        run, agreed = run_view(context), self.terms.agreed(roster)
        seen = whole(view(message), run)  # before the ClientApp gets the message, who may change it
        update = contribution(message, context, train, metrics=privacy is None, weight=self.terms.weighted_by)
        rho = self.terms.rho(update.layout)
        if privacy is not None and rho is not None and update.layout.arrays:
            budget.charge(context, privacy, rho)
        context.state[records.kept(context)] = ConfigRecord({"number": number})
        session = session_name(context.run_id, number)
        from tacit.federated.parties.shares import seal_shares  # PyTorch, which a client needs from here on

        boxes = seal_shares(self.terms.encode(update), public_keys, client, session)
        submission = Submission.of(identity, client, update.layout, session, boxes, seen, agreed)
        return records.put(
            RecordDict(),
            client=client,
            layout=update.layout.pack(),
            run=run,
            view=seen,
            agreed=agreed,
            digests=list(submission.digests),
            signature=submission.signature,
            boxes=boxes,
        )

    # the server

    def aggregate(
        self, grid: Grid, messages: list[Message], timeout: float | None, course: Course, roster: Roster
    ) -> Aggregate:
        """Collect one message from each client, and let the parties compute."""
        number = course.number = course.take()
        intake = Intake(grid.run.run_id, number, roster, common_view(messages), self.terms.agreed(roster))
        intake.collect(grid, messages, timeout)
        try:
            return self._aggregate(intake, len(messages), timeout)
        except TacitError as error:
            raise RoundFailedError(str(error), intake.failures) from error

    def _aggregate(self, intake: Intake, asked: int, timeout: float | None) -> Aggregate:
        work, roster = intake.work(), intake.roster
        fewest = self.terms.fewest(len(roster))
        if len(work.clients) < fewest:
            raise ThresholdError(f"{len(work.clients)} of {len(roster)} clients sent an update, {fewest} are needed")
        begun = time.perf_counter()
        outcome = self._compute(work, {client: intake.boxes[client] for client in work.clients}, roster, timeout)
        survivors = len(work.clients) - len(outcome.excluded)
        intake.failures.update(
            {roster.names[client]: "a share of it does not open at its party" for client in outcome.excluded}
        )
        mean, examples, saturated = self.terms.read(list(outcome.shares.values()), work.layout, survivors)
        return Aggregate(
            work.layout, mean, examples, asked, survivors, intake.failures,
            {"coordinates": saturated} if saturated else {},
            intake.seconds + time.perf_counter() - begun,
            rho=self.terms.rho(work.layout), error=2.0 ** -(FRAC_BITS + 1),
        )  # fmt: skip


class ComputingParties(SharedUpdates):
    """Aggregation by parties that are processes of their own, started by `tacit aggregate`, on machines of their own.

    A client needs the public keys of `aggregators`; without, it reads the file that its node's config names
    `aggregators`. The server needs their addresses and, in the folder `certs`, their certificates and its own key,
    under the name `aggregators.server`; see `at`.
    """

    def __init__(self, terms: Terms, aggregators: Aggregators | None = None, certs: str | Path | None = None) -> None:
        super().__init__(terms)
        self.aggregators, self._certs = aggregators, certs

    def at(self, aggregators: str | Path, certs: str | Path) -> ComputingParties:
        """Return the same for the server: with the file of the parties, and the folder of keys and certificates."""
        return ComputingParties(self.terms, Aggregators.load(aggregators), certs)

    def _keys(self, context: Context) -> Sequence[bytes]:
        if self.aggregators is not None:
            return list(self.aggregators.keys.values())
        if "aggregators" not in context.node_config:
            raise RosterError("the node's config lacks aggregators, the path of the file with the parties' keys")
        return list(Aggregators.load(str(context.node_config["aggregators"])).keys.values())

    def _compute(self, work: Work, boxes: Boxes, roster: Roster, timeout: float | None) -> Outcome:
        if self.aggregators is None or self._certs is None:
            raise RosterError("the server has to know the parties: write form.at(aggregators, certs)")
        from tacit.federated.parties.calls import call_roles

        return call_roles(self.aggregators, Path(self._certs), work, boxes, timeout)


class InsecureEmbeddedParties(SharedUpdates):
    """Aggregation by computing parties, all of them in this process."""

    def __init__(
        self,
        rule: Rule,
        *,
        parties: Sequence[str] = ("aggregator-1", "aggregator-2"),
        minimum: int | None = None,
        limit: float = 64.0,
        max_examples: int = 10_000,
        privacy: Privacy | None = None,
    ) -> None:
        super().__init__(Terms(rule, minimum, limit, max_examples, privacy))
        self.parties = tuple(parties)
        self._private = [fresh_key() for _ in self.parties]
        self._public = [public_key(key) for key in self._private]

    def _keys(self, context: Context) -> Sequence[bytes]:
        return self._public

    def _compute(self, work: Work, boxes: Boxes, roster: Roster, timeout: float | None) -> Outcome:
        from tacit.api import embedded
        from tacit.federated.parties.computation import compute, open_boxes

        work.check(self.terms, roster, len(self.parties))  # as each party of its own would
        opened = {
            name: open_boxes(self._private[party], party, work, [boxes[client][party] for client in work.clients])
            for party, name in enumerate(self.parties)
        }
        with embedded(Config.embedded(self.parties, frac_bits=FRAC_BITS)):
            return compute(self.terms, work, opened, self.terms.fewest(len(roster)))
