"""Form 2: several computing parties that do not collude. Clients share their updates to them, and under multi-party
computation they clip, sort and average what none of them sees (`tacit.federated.robust`).

A client needs one message: its vector in shares, each sealed for its party (`tacit.federated.sealed`). Flower's server
passes the boxes on, and gets the parties' shares of the result (`tacit.federated.computation`).

`ComputingParties` asks parties that are processes of their own, wherever they run (`tacit.federated.aggregator`).
`InsecureEmbeddedParties` runs all parties in the server's process, which so holds all their keys: it computes what
separate parties would compute, message for message, and protects nothing from that process. It is for tests, for
notebooks, and for choosing a rule.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid

from tacit.api import embedded
from tacit.federated import budget, wire
from tacit.federated.aggregation import Aggregate, Aggregation, Credentials
from tacit.federated.aggregators import Aggregators
from tacit.federated.calls import call_roles
from tacit.federated.computation import FRAC_BITS, Outcome, Terms, Work, compute, open_boxes
from tacit.federated.errors import FederatedError, ForgeryError, RosterError, RoundError, ThresholdError
from tacit.federated.identity import Roster
from tacit.federated.masked import contribution
from tacit.federated.privacy import Privacy
from tacit.federated.robust import Rule
from tacit.federated.sealed import Submission, seal_shares, session_name
from tacit.federated.secagg import keys
from tacit.session.config import Config

__all__ = ["ComputingParties", "InsecureEmbeddedParties"]

Boxes = dict[int, list[bytes]]
"""Each client's boxes, one for each party."""


class SharedUpdates(Aggregation):
    """Aggregation by computing parties, wherever they run."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    @property
    def privacy(self) -> Privacy | None:
        """The noise that the parties add."""
        return self.terms.privacy

    @abstractmethod
    def _keys(self, context: Context) -> Sequence[bytes]:
        """Return the parties' public keys, at a client."""

    @abstractmethod
    def _compute(self, work: Work, boxes: Boxes, timeout: float | None) -> Outcome:
        """Let the parties compute; return all their shares of the result."""

    # the client

    def reply(
        self,
        message: Message,
        context: Context,
        train: Callable[[Message, Context], Message],
        credentials: Credentials,
    ) -> RecordDict:
        """Train, and share the update to the parties."""
        identity, roster = credentials(context)
        number, privacy = wire.get(message.content, "number", int), self.terms.privacy
        kept = context.state.config_records.get(wire.RECORD)
        last = -1 if kept is None else wire.get(context.state, "number", int)
        if number <= last:
            raise RoundError(f"session {number} is over: this client took part in session {last}")
        client, public_keys = roster.index(identity), self._keys(context)
        if privacy is not None and message.metadata.message_type.startswith("train"):
            budget.check(context, privacy)
        update = contribution(message, context, train, metrics=privacy is None)
        rho = self.terms.rho(update.layout)
        if privacy is not None and rho is not None and update.layout.arrays:
            budget.charge(context, privacy, rho)
        context.state[wire.RECORD] = ConfigRecord({"number": number})
        session = session_name(context.run_id, number)
        boxes = seal_shares(self.terms.encode(update), public_keys, client, session)
        submission = Submission.of(identity, client, update.layout, session, boxes)
        return wire.put(
            RecordDict(),
            client=client,
            layout=update.layout.pack(),
            digests=list(submission.digests),
            signature=submission.signature,
            boxes=boxes,
        )

    # the server

    def aggregate(
        self, grid: Grid, messages: list[Message], timeout: float | None, number: int, roster: Roster
    ) -> Aggregate:
        """Collect one message from each client, and let the parties compute."""
        intake = Intake(grid.run.run_id, number, roster)
        intake.collect(grid, messages, timeout)
        work = intake.work()
        if len(work.clients) < self.terms.minimum:
            raise ThresholdError(
                f"{len(work.clients)} of {len(roster)} clients sent an update, {self.terms.minimum} are needed"
            )
        begun = time.perf_counter()
        outcome = self._compute(work, {client: intake.boxes[client] for client in work.clients}, timeout)
        survivors = len(work.clients) - len(outcome.excluded)
        intake.failures.update(
            {roster.names[client]: "a share of it does not open at its party" for client in outcome.excluded}
        )
        mean, examples, saturated = self.terms.read(list(outcome.shares.values()), work.layout, survivors)
        return Aggregate(
            work.layout, mean, examples, len(messages), survivors, intake.failures, saturated,
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

    def _compute(self, work: Work, boxes: Boxes, timeout: float | None) -> Outcome:
        if self.aggregators is None or self._certs is None:
            raise RosterError("the server has to know the parties: write form.at(aggregators, certs)")
        return call_roles(self.aggregators, Path(self._certs), work, boxes, timeout)


class InsecureEmbeddedParties(SharedUpdates):
    """Aggregation by computing parties, all of them in this process."""

    def __init__(
        self,
        rule: Rule,
        *,
        parties: Sequence[str] = ("aggregator-1", "aggregator-2"),
        minimum: int = 3,
        limit: float = 64.0,
        max_examples: int = 10_000,
        privacy: Privacy | None = None,
    ) -> None:
        super().__init__(Terms(rule, minimum, limit, max_examples, privacy))
        self.parties = tuple(parties)
        self._private = [keys.fresh_key() for _ in self.parties]
        self._public = [keys.public_key(key) for key in self._private]

    def _keys(self, context: Context) -> Sequence[bytes]:
        return self._public

    def _compute(self, work: Work, boxes: Boxes, timeout: float | None) -> Outcome:
        opened = {
            name: open_boxes(self._private[party], party, work, [boxes[client][party] for client in work.clients])
            for party, name in enumerate(self.parties)
        }
        with embedded(Config.embedded(self.parties, frac_bits=FRAC_BITS)):
            return compute(self.terms, work, opened)


class Intake:
    """The server's end of one session: what came from clients, in boxes that it cannot open."""

    def __init__(self, run: int, number: int, roster: Roster) -> None:
        self.run, self.number, self.roster = run, number, roster
        self.submissions: dict[int, Submission] = {}
        self.boxes: Boxes = {}
        self.failures: dict[str, str] = {}
        self.seconds = 0.0

    def collect(self, grid: Grid, messages: list[Message], timeout: float | None) -> None:
        """Ask each client once; who fails is noted."""
        outgoing = []
        for message in messages:
            content = wire.put(RecordDict(dict(message.content)), number=self.number)
            outgoing.append(Message(content, message.metadata.dst_node_id, message.metadata.message_type))
        silent = {message.metadata.dst_node_id for message in messages}
        for reply in grid.send_and_receive(outgoing, timeout=timeout):
            node, begun = reply.metadata.src_node_id, time.perf_counter()
            silent.discard(node)
            try:
                if reply.has_error():
                    raise FederatedError(str(reply.error.reason))
                self._accept(reply.content)
            except FederatedError as error:
                self.failures[f"node {node}"] = str(error)
            self.seconds += time.perf_counter() - begun
        self.failures.update({f"node {node}": "vanished before it had shared" for node in silent})

    def _accept(self, content: RecordDict) -> None:
        boxes = wire.get_all(content, "boxes", bytes)
        submission = Submission.parse(
            {
                "client": wire.get(content, "client", int),
                "layout": wire.get(content, "layout", str),
                "digests": [digest.hex() for digest in wire.get_all(content, "digests", bytes)],
                "signature": wire.get(content, "signature", bytes).hex(),
            }
        )
        submission.verify(self.roster, session_name(self.run, self.number), len(boxes))
        name = self.roster.names[submission.client]
        if not all(submission.fits(party, box) for party, box in enumerate(boxes)):
            raise ForgeryError(f"the boxes of {name} are not those that it signed for")
        if submission.client in self.submissions:
            raise RoundError(f"{name} sent an update twice")
        self.submissions[submission.client], self.boxes[submission.client] = submission, boxes

    def work(self) -> Work:
        """Return the round of all clients whose updates look like those of most."""
        layouts = [submission.layout for submission in self.submissions.values()]
        if not layouts:
            raise ThresholdError(f"0 of {len(self.roster)} clients sent an update")
        common = max(layouts, key=layouts.count)
        for client, submission in self.submissions.items():
            if submission.layout != common:
                self.failures[self.roster.names[client]] = "its metrics or arrays differ from those of most clients"
        chosen = tuple(s for _, s in sorted(self.submissions.items()) if s.layout == common)
        return Work(self.run, self.number, common, chosen)
