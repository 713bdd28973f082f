"""Form 1 at Flower's server: it leads the clients through the stages of a session, and reads the sum.

Beside the vectors of a session clients advertise keys for the next one, and beside its last shares they share these: so
in a run that asks the same nodes each time a session takes two messages a client. Where the next session asks others,
or somebody failed meanwhile, what was prepared is dropped with its number, and the session begins anew. So it does
where it turns out that nodes have lost their keys, by a restart say, and too few are left without them.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from flwr.app import Message, RecordDict
from flwr.app.typing import ConfigRecordValues
from flwr.serverapp import Grid

from tacit.federated import records
from tacit.federated.errors import (
    FederatedError,
    RosterError,
    RoundError,
    RoundFailedError,
    ThresholdError,
    UpdateError,
)
from tacit.federated.form import APP_RAISED, OUT_OF_STEP, Aggregate, Course
from tacit.federated.identity import Roster
from tacit.federated.masks.collector import Collector
from tacit.federated.masks.member import Stage, session_name
from tacit.federated.masks.packets import Advertisement
from tacit.federated.masks.settings import HEAD, Settings
from tacit.federated.masks.wide import quotients
from tacit.federated.update import Layout
from tacit.federated.vectors import Floats, Ring
from tacit.federated.view import common_view, whole

__all__ = ["Leader"]

Accept = Callable[[int, RecordDict], Any]


NO_MOD = "; the app was asked: does ClientApp(mods=[…]) have SecureAggregationMod?"
"""What is added where the app raised an exception at the first stage, at which the mod asks it nothing."""


@dataclass
class Gathering:
    """Keys and shares of one session: the first two stages, before anything is computed on."""

    collector: Collector
    number: int
    agreed: bytes
    asked: frozenset[int]
    nodes: dict[int, int] = field(default_factory=dict)
    """The node of each client; which it is, its signature says."""
    only: frozenset[int] | None = None
    """The clients that may be in it, where sums are of those of one before."""
    late: set[int] = field(default_factory=set)
    """Nodes of others, that were left out."""

    @classmethod
    def of(cls, settings: Settings, roster: Roster, run: int, number: int, asked: frozenset[int]) -> Self:
        """Return the beginning of a session, with nobody in it yet."""
        agreed = settings.agreed(roster)
        return cls(Collector(roster, settings, session_name(run, number, agreed)), number, agreed, asked)

    def accept_keys(self, node: int, content: RecordDict, prefix: str = "") -> None:
        """Take a node's keys; which client it is, they say."""
        packet = records.get(content, f"{prefix}keys", bytes)
        if records.get(content, f"{prefix}agreed", bytes) != self.agreed:
            raise RosterError("this client has other settings than the server, or another roster")
        if self.only is not None and Advertisement.unpack(packet).index not in self.only:
            self.late.add(node)
            raise RosterError("it was not in the first of these sums, so it is left out of those that follow")
        self.nodes[self.collector.accept_advertisement(packet)] = node

    def keys_for(self, client: int, prefix: str = "") -> dict[str, ConfigRecordValues]:
        """Return what a client needs to share its secrets."""
        keys = [advertised.pack() for advertised in self.collector.advertisements_for(client)]
        participants = records.pack_indices(self.collector.participants)
        return {f"{prefix}keys": keys, f"{prefix}participants": participants}

    def accept_boxes(self, node: int, content: RecordDict, prefix: str = "") -> None:
        """Take a node's encrypted shares."""
        clients = records.get_all(content, f"{prefix}clients", int)
        boxes = records.get_all(content, f"{prefix}boxes", bytes)
        self.collector.accept_shares(self.client(node), dict(zip(clients, boxes, strict=False)))

    def client(self, node: int) -> int:
        """Return which client answers at a node."""
        return next(client for client, own in self.nodes.items() if own == node)

    @property
    def advertised_by_all(self) -> bool:
        """Whether every node that was asked has advertised keys."""
        return set(self.nodes.values()) == self.asked

    def is_for(self, other: Gathering) -> bool:
        """Whether this is ready in place of another that has not begun: same run, settings, roster and nodes."""
        alike = self.agreed == other.agreed and self.asked == other.asked
        alike = alike and self.collector.settings == other.collector.settings  # `minimum`, too, which is each one's own
        alike = alike and (other.only is None or other.only.issuperset(self.nodes))
        return alike and self.advertised_by_all and set(self.collector.boxes) == set(self.nodes)


class Leader:
    """The server in one session."""

    def __init__(
        self,
        settings: Settings,
        grid: Grid,
        messages: list[Message],
        timeout: float | None,
        number: int,
        roster: Roster,
    ) -> None:
        self.settings, self.grid, self.timeout = settings, grid, timeout
        self.instructions = {message.metadata.dst_node_id: message for message in messages}
        self.encoding = self.settings.encoding(len(roster))
        self.begun = Gathering.of(settings, roster, grid.run.run_id, number, frozenset(self.instructions))
        self.prepared = False
        """Whether this session's keys were made beside the session before it."""
        self.sent = common_view(messages)
        self.summed = messages[0].metadata.message_type.startswith("query")
        self.course: Course | None = None
        """Where what is prepared for the next session is kept; without one nothing is prepared."""
        self.next: Gathering | None = None
        self.failures: dict[str, str] = {}
        self.out_of_step: dict[str, str] = {}
        """Why clients did not go on with a session that was prepared; empty again once enough others have."""
        self.seconds = 0.0
        self.layouts: dict[int, Layout] = {}

    @classmethod
    def of(
        cls,
        settings: Settings,
        grid: Grid,
        messages: list[Message],
        timeout: float | None,
        course: Course,
        roster: Roster,
    ) -> Self:
        """Return the leader of the next session of a run: of that which is prepared, if it is for the same nodes."""
        leader = cls(settings, grid, messages, timeout, course.taken + 1, roster)
        prepared, course.prepared, leader.course = course.prepared, None, course
        leader.begun.only, leader.begun.late = course.insists, course.late
        if isinstance(prepared, Gathering) and prepared.is_for(leader.begun):
            leader.begun, leader.prepared = prepared, True
        else:
            course.take()
        course.number = leader.begun.number
        return leader

    @property
    def collector(self) -> Collector:
        """The session's own."""
        return self.begun.collector

    @property
    def nodes(self) -> dict[int, int]:
        """The node of each client."""
        return self.begun.nodes

    @nodes.setter
    def nodes(self, nodes: dict[int, int]) -> None:
        self.begun.nodes = nodes

    def run(self) -> Aggregate:
        """Lead the clients through the stages, and return the sum."""
        try:
            return self._stages()
        except FederatedError as error:
            raise RoundFailedError(str(error), self.failures) from error

    def _stages(self) -> Aggregate:
        c = self.collector
        if not c.boxes:
            self._gather()
        self._prepare()
        layout = self._exchange_vectors({self.nodes[i]: self.model_for(i) for i in sorted(c.boxes)})
        self.timed(c.close_vectors)
        self._insist()
        self.out_of_step.clear()
        if not c.complete:
            survivors = records.pack_indices(sorted(c.survivors))
            asked = {self.nodes[i]: records.put(RecordDict(), survivors=survivors) for i in sorted(c.survivors)}
            self._exchange(Stage.CONFIRMED, asked, self.accept_confirmation)
            self.timed(c.close_confirmations)
        asked = {self.nodes[i]: self.confirmations_for(i) for i in sorted(c.confirmed or c.survivors)}
        self._exchange(Stage.UNMASKED, self._with_keys_ahead(asked), self.accept_shares)
        total: Ring = self.timed(lambda: c.sum(self.encoding))
        for v, u in sorted(c.wrong):
            holder, dealer = c.roster.names[v], c.roster.names[u]
            self.failures[holder] = f"its share of a secret of {dealer} is wrong, and was left out: one of both lied"
        if self.course is not None:
            self.course.clients = frozenset(c.survivors)
            self.course.absent = self.begun.asked - {self.nodes[i] for i in c.survivors}
            if self.course.insists is not None:
                self.course.late.update(self.course.absent)
        return self._decode(layout, total)

    def _insist(self) -> None:
        """Raise `ThresholdError`, before anything is unmasked, if others are in this sum than have to be."""
        insists = None if self.course is None else self.course.insists
        if insists is not None and insists != self.collector.survivors:
            names = [self.collector.roster.names[i] for i in sorted(insists ^ self.collector.survivors)]
            raise ThresholdError(
                f"{', '.join(names[:20])}: in this sum and not in those before, or the other way round. What both tell "
                "together would be that client's own, so nothing was unmasked"
            )

    def _decode(self, layout: Layout, total: Ring) -> Aggregate:
        survivors, words = len(self.collector.survivors), self.settings.words(layout)[1]
        privacy, head = self.settings.privacy, self.settings.head(layout)
        narrow, encoded = total[: len(total) - words], self.settings.wide(len(self.collector.roster))
        whole, *metrics = encoded.decode(total[len(narrow) :])
        weight = whole * 2.0**-encoded.frac_bits
        if weight <= 0:
            raise FederatedError(f"no client had any {self.settings.weighted_by}: nothing can be averaged")
        if self.summed:
            whole, weight = 1 << encoded.frac_bits, 1.0
        mean: Floats = layout.join(self.encoding.decode(narrow[head:]) / weight, quotients(metrics, whole))
        counts = [int(self.encoding.signed(total[:1])[0]), *map(int, self.encoding.signed(total[HEAD:head]))]
        names = (self.settings.weighted_by, *layout.names)
        return Aggregate(
            layout=layout,
            mean=mean,
            examples=weight * (self.settings.max_examples if privacy is None else 1),
            asked=len(self.instructions),
            survivors=survivors,
            failures=self.failures,
            saturated={name: count for name, count in zip(names, counts, strict=False) if count},
            seconds=self.seconds,
            rho=privacy.rho(layout.count, self.encoding.frac_bits) if privacy is not None else None,
            error=survivors * self.encoding.error / weight,
        )

    def _gather(self) -> None:
        """The first two stages in messages of their own."""
        c = self.collector
        empty = {node: records.put(RecordDict()) for node in self.instructions}
        self._exchange(Stage.ADVERTISED, empty, self.begun.accept_keys)
        self.timed(c.close_advertisements)
        asked = {self.nodes[i]: self.keys_for(i) for i in c.participants}
        self._exchange(Stage.SHARED, asked, self.begun.accept_boxes)
        self.timed(c.close_shares)

    def _prepare(self) -> None:
        if self.course is not None:
            roster, asked = self.collector.roster, self.begun.asked - self.begun.late
            self.next = Gathering.of(self.settings, roster, self.grid.run.run_id, self.course.take(), asked)
            self.course.prepared = self.next

    def _with_keys_ahead(self, asked: dict[int, RecordDict]) -> dict[int, RecordDict]:
        """Add the keys for the next session, if all have advertised some and are asked again."""
        gathering = self.next
        if gathering is None or not gathering.advertised_by_all or set(asked) != gathering.asked:
            self.next = None
            return asked
        self.timed(gathering.collector.close_advertisements)  # as many as this session has had from the beginning
        for client, node in gathering.nodes.items():
            asked[node].config_records[records.RECORD].update(gathering.keys_for(client, "ahead_"))
        return asked

    def _beside(self, accept: Callable[[int, RecordDict, str], None], node: int, content: RecordDict) -> None:
        """Take what came for the next session; without it that begins with messages of its own."""
        with contextlib.suppress(FederatedError):
            accept(node, content, "ahead_")

    def keys_for(self, client: int) -> RecordDict:
        """Return what a client needs to share its secrets."""
        return records.put(RecordDict(), **self.begun.keys_for(client))

    def model_for(self, client: int) -> RecordDict:
        """Return the model, and the shares that neighbours sent."""
        boxes = self.collector.boxes_for(client)
        content = RecordDict(dict(self.instructions[self.nodes[client]].content))
        ahead = {} if self.next is None else {"ahead": self.next.number}
        return records.put(content, clients=list(boxes), boxes=list(boxes.values()), **ahead)

    def _exchange_vectors(self, asked: dict[int, RecordDict]) -> Layout:
        """Collect the vectors; those of another layout or run config than most have count as vanished."""
        vectors: dict[int, tuple[tuple[Layout, bytes], Ring]] = {}

        def accept(node: int, content: RecordDict) -> None:
            layout = Layout.unpack(records.get(content, "layout", str))
            if node in vectors:
                raise RoundError("an update came twice")
            run, seen = records.get(content, "run", bytes), records.get(content, "view", bytes)
            if seen != whole(self.sent, run):
                raise UpdateError("it computed from another model or other settings than were sent")
            self.collector.check_view(self._client(node), seen, records.get(content, "signature", bytes))
            vectors[node] = (layout, seen), records.get_vector(content)
            if self.next is not None:
                self._beside(self.next.accept_keys, node, content)

        self._exchange(Stage.MASKED, asked, accept)
        if not vectors:
            raise ThresholdError("no client sent an update")
        common = Counter(common for common, _ in vectors.values()).most_common(1)[0][0]
        layout, self.collector.view = common
        for node, (own, vector) in vectors.items():
            if own != common:
                what = "metrics or arrays" if own[0] != layout else "run's settings"
                self._fail(node, f"its {what} differ from those of most clients")
                continue
            self._checked(node, lambda node=node, vector=vector: self.accept_vector(node, vector, layout))  # type: ignore[misc]
        return layout

    def accept_vector(self, node: int, vector: Ring, layout: Layout) -> None:
        """Take a node's masked vector."""
        count, self.collector.words = self.settings.words(layout)
        self.collector.accept_vector(self._client(node), vector, count, self.encoding)

    def accept_confirmation(self, node: int, content: RecordDict) -> None:
        """Take a node's signature over the survivors."""
        self.collector.accept_confirmation(self._client(node), records.get(content, "signature", bytes))

    def confirmations_for(self, client: int) -> RecordDict:
        """Return the signatures of a client's neighbours; none if nobody vanished."""
        if self.collector.complete:
            return records.put(RecordDict())
        signatures = self.collector.confirmations_for(client)
        return records.put(RecordDict(), clients=list(signatures), signatures=list(signatures.values()))

    def accept_shares(self, node: int, content: RecordDict) -> None:
        """Take the shares that a node reveals."""
        self.collector.accept_revealed(self._client(node), records.get_all(content, "shares", bytes))
        if self.next is not None:
            self._beside(self.next.accept_boxes, node, content)

    def _client(self, node: int) -> int:
        return self.begun.client(node)

    def _exchange(self, stage: Stage, asked: dict[int, RecordDict], accept: Accept) -> None:
        """Send each node its part of a stage, and take the replies; who fails is noted, and counts as vanished."""
        outgoing = []
        for node, content in asked.items():
            content.config_records[records.RECORD].update({"stage": int(stage), "number": self.begun.number})
            kind = self.instructions[node].metadata
            outgoing.append(
                Message(content, dst_node_id=node, message_type=kind.message_type, group_id=kind.group_id)
            )  # fmt: skip
        silent, prepared = set(asked), stage == Stage.MASKED and self.prepared
        for reply in self.grid.send_and_receive(outgoing, timeout=self.timeout):
            node = reply.metadata.src_node_id
            if reply.has_error() and node not in asked:  # the SuperLink answers for a node that does not
                sent = {message.metadata.message_id: message.metadata.dst_node_id for message in outgoing}
                node = sent.get(reply.metadata.reply_to_message_id, node)
            silent.discard(node)
            if reply.has_error():
                alone = stage == Stage.ADVERTISED and reply.error.code == APP_RAISED
                client = self._fail(node, str(reply.error.reason), NO_MOD if alone else "")
                if prepared and reply.error.code == OUT_OF_STEP:
                    self.out_of_step[client] = self.failures[client]
            elif node in asked:
                self._checked(node, lambda node=node, reply=reply: accept(node, reply.content))  # type: ignore[misc]
        for node in silent:
            self._fail(node, f"vanished before it had {stage.name.lower()}")

    def _checked(self, node: int, accept: Callable[[], None]) -> None:
        try:
            self.timed(accept)
        except FederatedError as error:
            self._fail(node, str(error))

    def _fail(self, node: int, reason: str, more: str = "") -> str:
        client = next((self.collector.roster.names[i] for i, own in self.nodes.items() if own == node), f"node {node}")
        self.failures[client] = (reason.strip().splitlines()[-1] if reason.strip() else "failed") + more
        return client

    def timed(self, work: Callable[[], Any]) -> Any:
        """Do some of the server's own work, and count its seconds."""
        start = time.process_time()
        try:
            return work()
        finally:
            self.seconds += time.process_time() - start
