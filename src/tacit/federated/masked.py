"""Form 1: one server, and masks between pairs of clients (`tacit.federated.secagg`), as Flower messages.

The five stages are five messages of the type that the strategy sends, so they reach the same function of the ClientApp
and the same mod. Only the third carries the model, and only then does the ClientApp train.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid

from tacit.federated import budget, wire
from tacit.federated.aggregation import Aggregate, Aggregation, Credentials
from tacit.federated.errors import FederatedError, ForgeryError, RoundError, ThresholdError
from tacit.federated.identity import Roster
from tacit.federated.privacy import Privacy
from tacit.federated.secagg import Collector, Member, Settings
from tacit.federated.secagg.encoding import Encoding, Floats, Ring
from tacit.federated.secagg.member import Stage
from tacit.federated.secagg.packets import Advertisement
from tacit.federated.update import Layout, Update

__all__ = ["PairwiseMasks", "Session", "contribution"]

_HEAD = 2
"""Coordinates before the values: how many saturated, and the weight."""

Accept = Callable[[int, RecordDict], Any]
Train = Callable[[Message, Context], Message]


class PairwiseMasks(Aggregation):
    """Secure aggregation by one server, whose settings clients and server share."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()

    @property
    def privacy(self) -> Privacy | None:
        """The noise that the settings ask for."""
        return self.settings.privacy

    # the client

    def reply(self, message: Message, context: Context, train: Train, credentials: Credentials) -> RecordDict:
        """Do the stage that the message asks for; the state between stages lies in the node's own context."""
        identity, roster = credentials(context)
        stage, number = wire.get(message.content, "stage", int), wire.get(message.content, "number", int)
        last, kept = _kept(context)
        if stage == Stage.ADVERTISED:
            if number <= last:
                raise RoundError(f"session {number} is over: this client took part in session {last}")
            if self.privacy is not None and message.metadata.message_type.startswith("train"):
                budget.check(context, self.privacy)
            member = Member(roster.index(identity), roster, self.settings, _session(context.run_id, number))
            content = wire.put(RecordDict(), keys=member.advertise(identity).pack())
        else:
            if number != last:
                raise RoundError(f"a message of session {number} came to a client in session {last}")
            member = Member.load(kept, roster, self.settings)
            if stage == Stage.CONFIRMED:
                survivors = wire.indices(wire.get(message.content, "survivors", bytes))
                content = wire.put(RecordDict(), signature=member.confirm(survivors, identity))
            else:
                content = self._later(stage, member, message, context, train)
        context.state[wire.RECORD] = ConfigRecord({"number": number, "member": member.dump()})
        return content

    def _later(self, stage: int, member: Member, message: Message, context: Context, train: Train) -> RecordDict:
        get = message.content
        if stage == Stage.SHARED:
            advertised = [Advertisement.unpack(data) for data in wire.get_all(get, "keys", bytes)]
            boxes = member.share(wire.indices(wire.get(get, "participants", bytes)), advertised)
            return wire.put(RecordDict(), clients=list(boxes), boxes=list(boxes.values()))
        if stage == Stage.MASKED:
            incoming = dict(zip(wire.get_all(get, "clients", int), wire.get_all(get, "boxes", bytes), strict=False))
            update = contribution(message, context, train, metrics=self.settings.privacy is None)
            encoding = self.settings.encoding(len(member.roster))
            if self.privacy is not None and update.layout.arrays:
                budget.charge(context, self.privacy, self.privacy.rho(update.layout.count, encoding.frac_bits))
            masked = member.mask(self.encode(update, encoding), incoming, encoding)
            return wire.put_vector(wire.put(RecordDict(), layout=update.layout.pack()), masked)
        if stage == Stage.UNMASKED:
            signatures = zip(wire.get_all(get, "clients", int), wire.get_all(get, "signatures", bytes), strict=False)
            revealed = member.unmask(dict(signatures))
            return wire.put(RecordDict(), shares=[share.pack() for share in revealed])
        raise RoundError(f"there is no stage {stage}")

    def encode(self, update: Update, encoding: Encoding) -> Ring:
        """Return a client's vector: how many coordinates saturated, its weight, and all values times the weight."""
        weight, privacy = min(update.examples / self.settings.max_examples, 1.0), self.settings.privacy
        beyond = int(update.examples > self.settings.max_examples)
        values = update.values
        if privacy is not None:
            weight, beyond, values = 1.0, 0, privacy.clipped(values)
        values, saturated = encoding.clamp(values, "the update")
        scaled = np.empty(values.size + _HEAD)
        scaled[0], scaled[1] = 0, weight
        np.multiply(values, weight, out=scaled[_HEAD:])
        vector = encoding.integers(scaled)
        vector[0] = beyond + saturated
        if privacy is not None:
            vector[_HEAD:] += privacy.noise(values.size, encoding.frac_bits)
        return encoding.ring(vector)

    # the server

    def aggregate(
        self, grid: Grid, messages: list[Message], timeout: float | None, number: int, roster: Roster
    ) -> Aggregate:
        """Lead the clients that the messages go to through the five stages."""
        return Session(self, grid, messages, timeout, number, roster).run()


def contribution(message: Message, context: Context, train: Train, *, metrics: bool = True) -> Update:
    """Let the ClientApp do its work on the message without Tacit's record, and read its reply."""
    del message.content[wire.RECORD]
    sent = None
    if message.metadata.message_type.startswith("train"):
        if len(message.content.array_records) != 1:
            raise ForgeryError("a training message must hold one ArrayRecord, the model")
        sent = ArrayRecord(dict(next(iter(message.content.array_records.values()))))
    reply = train(message, context)
    if reply.has_error():
        raise FederatedError(f"the ClientApp failed: {reply.error.reason}")
    return Update.of(sent, reply.content, metrics=metrics)


def _kept(context: Context) -> tuple[int, bytes]:
    """Return the number of the last session, and the member as it was after the last stage."""
    if wire.RECORD not in context.state.config_records:
        return -1, b""
    return wire.get(context.state, "number", int), wire.get(context.state, "member", bytes)


def _session(run: int, number: int) -> bytes:
    return b"%d/%d" % (run, number)


class Session:
    """The server in one session."""

    def __init__(
        self,
        form: PairwiseMasks,
        grid: Grid,
        messages: list[Message],
        timeout: float | None,
        number: int,
        roster: Roster,
    ) -> None:
        self.settings, self.grid, self.timeout, self.number = form.settings, grid, timeout, number
        self.instructions = {message.metadata.dst_node_id: message for message in messages}
        self.encoding = self.settings.encoding(len(roster))
        self.collector = Collector(roster, self.settings, _session(grid.run.run_id, number))
        self.nodes: dict[int, int] = {}
        """The node of each client; which it is, its signature says."""
        self.failures: dict[str, str] = {}
        self.seconds = 0.0
        self.layouts: dict[int, Layout] = {}

    def run(self) -> Aggregate:
        """Lead the clients through the five stages, and return the sum."""
        c = self.collector
        empty = {node: wire.put(RecordDict()) for node in self.instructions}
        self._exchange(Stage.ADVERTISED, empty, self.accept_keys)
        self.timed(c.close_advertisements)
        asked = {self.nodes[i]: self.keys_for(i) for i in c.participants}
        self._exchange(Stage.SHARED, asked, self.accept_boxes)
        self.timed(c.close_shares)
        asked = {self.nodes[i]: self.model_for(i) for i in sorted(c.boxes)}
        layout = self._exchange_vectors(asked)
        self.timed(c.close_vectors)
        survivors = wire.pack_indices(sorted(c.survivors))
        asked = {self.nodes[i]: wire.put(RecordDict(), survivors=survivors) for i in sorted(c.survivors)}
        self._exchange(Stage.CONFIRMED, asked, self.accept_confirmation)
        self.timed(c.close_confirmations)
        asked = {self.nodes[i]: self.confirmations_for(i) for i in sorted(c.confirmed)}
        self._exchange(Stage.UNMASKED, asked, self.accept_shares)
        total: Ring = self.timed(lambda: c.sum(self.encoding))
        for v, u in sorted(c.wrong):
            holder, dealer = c.roster.names[v], c.roster.names[u]
            self.failures[holder] = f"its share of a secret of {dealer} is wrong, and was left out: one of both lied"
        return self._decode(layout, total)

    def _decode(self, layout: Layout, total: Ring) -> Aggregate:
        weight, survivors = float(self.encoding.decode(total[1:2])[0]), len(self.collector.survivors)
        privacy = self.settings.privacy
        mean: Floats = self.encoding.decode(total[_HEAD:]) / weight
        return Aggregate(
            layout=layout,
            mean=mean,
            examples=weight * (self.settings.max_examples if privacy is None else 1),
            asked=len(self.instructions),
            survivors=survivors,
            failures=self.failures,
            saturated=int(self.encoding.signed(total[:1])[0]),
            seconds=self.seconds,
            rho=privacy.rho(layout.count, self.encoding.frac_bits) if privacy is not None else None,
            error=survivors * self.encoding.error / weight,
        )

    def accept_keys(self, node: int, content: RecordDict) -> None:
        """Take a node's keys; which client it is, they say."""
        self.nodes[self.collector.accept_advertisement(wire.get(content, "keys", bytes))] = node

    def keys_for(self, client: int) -> RecordDict:
        """Return what a client needs to share its secrets."""
        keys = [advertised.pack() for advertised in self.collector.advertisements_for(client)]
        return wire.put(RecordDict(), keys=keys, participants=wire.pack_indices(self.collector.participants))

    def accept_boxes(self, node: int, content: RecordDict) -> None:
        """Take a node's encrypted shares."""
        clients, boxes = wire.get_all(content, "clients", int), wire.get_all(content, "boxes", bytes)
        self.collector.accept_shares(self._client(node), dict(zip(clients, boxes, strict=False)))

    def model_for(self, client: int) -> RecordDict:
        """Return the model, and the shares that neighbours sent."""
        boxes = self.collector.boxes_for(client)
        content = RecordDict(dict(self.instructions[self.nodes[client]].content))
        return wire.put(content, clients=list(boxes), boxes=list(boxes.values()))

    def _exchange_vectors(self, asked: dict[int, RecordDict]) -> Layout:
        """Collect the vectors; those of another layout than most have count as vanished."""
        vectors: dict[int, tuple[Layout, Ring]] = {}

        def accept(node: int, content: RecordDict) -> None:
            layout = Layout.unpack(wire.get(content, "layout", str))
            if node in vectors:
                raise RoundError("an update came twice")
            vectors[node] = layout, wire.get_vector(content)

        self._exchange(Stage.MASKED, asked, accept)
        if not vectors:
            raise ThresholdError("no client sent an update")
        layout = Counter(layout for layout, _ in vectors.values()).most_common(1)[0][0]
        for node, (own, vector) in vectors.items():
            if own != layout:
                self._fail(node, "its metrics or arrays differ from those of most clients")
                continue
            self._checked(node, lambda node=node, vector=vector: self.accept_vector(node, vector, layout))  # type: ignore[misc]
        return layout

    def accept_vector(self, node: int, vector: Ring, layout: Layout) -> None:
        """Take a node's masked vector."""
        self.collector.accept_vector(self._client(node), vector, layout.count + _HEAD, self.encoding)

    def accept_confirmation(self, node: int, content: RecordDict) -> None:
        """Take a node's signature over the survivors."""
        self.collector.accept_confirmation(self._client(node), wire.get(content, "signature", bytes))

    def confirmations_for(self, client: int) -> RecordDict:
        """Return the signatures of a client's neighbours."""
        signatures = self.collector.confirmations_for(client)
        return wire.put(RecordDict(), clients=list(signatures), signatures=list(signatures.values()))

    def accept_shares(self, node: int, content: RecordDict) -> None:
        """Take the shares that a node reveals."""
        self.collector.accept_revealed(self._client(node), wire.get_all(content, "shares", bytes))

    def _client(self, node: int) -> int:
        return next(client for client, own in self.nodes.items() if own == node)

    def _exchange(self, stage: Stage, asked: dict[int, RecordDict], accept: Accept) -> None:
        """Send each node its part of a stage, and take the replies; who fails is noted, and counts as vanished."""
        outgoing = []
        for node, content in asked.items():
            content.config_records[wire.RECORD].update({"stage": int(stage), "number": self.number})
            kind = self.instructions[node].metadata
            outgoing.append(
                Message(content, dst_node_id=node, message_type=kind.message_type, group_id=kind.group_id)
            )  # fmt: skip
        silent = set(asked)
        for reply in self.grid.send_and_receive(outgoing, timeout=self.timeout):
            node = reply.metadata.src_node_id
            silent.discard(node)
            if reply.has_error():
                self._fail(node, str(reply.error.reason))
            elif node in asked:
                self._checked(node, lambda node=node, reply=reply: accept(node, reply.content))  # type: ignore[misc]
        for node in silent:
            self._fail(node, f"vanished before it had {stage.name.lower()}")

    def _checked(self, node: int, accept: Callable[[], None]) -> None:
        try:
            self.timed(accept)
        except FederatedError as error:
            self._fail(node, str(error))

    def _fail(self, node: int, reason: str) -> None:
        client = next((self.collector.roster.names[i] for i, own in self.nodes.items() if own == node), f"node {node}")
        self.failures[client] = reason.strip().splitlines()[-1] if reason.strip() else "failed"

    def timed(self, work: Callable[[], Any]) -> Any:
        """Do some of the server's own work, and count its seconds."""
        start = time.process_time()
        try:
            return work()
        finally:
            self.seconds += time.process_time() - start
