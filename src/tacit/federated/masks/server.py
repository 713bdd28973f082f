"""Form 1 at Flower's server: it leads the clients through the five stages of a session, and reads the sum."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from flwr.app import Message, RecordDict
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
from tacit.federated.form import Aggregate
from tacit.federated.identity import Roster
from tacit.federated.masks.collector import Collector
from tacit.federated.masks.member import Stage, session_name
from tacit.federated.masks.settings import HEAD, Settings
from tacit.federated.update import Layout
from tacit.federated.vectors import Floats, Ring
from tacit.federated.view import common_view, whole

__all__ = ["Leader"]

Accept = Callable[[int, RecordDict], Any]


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
        self.settings, self.grid, self.timeout, self.number = settings, grid, timeout, number
        self.instructions = {message.metadata.dst_node_id: message for message in messages}
        self.encoding = self.settings.encoding(len(roster))
        self.agreed = self.settings.agreed(roster)
        session = session_name(grid.run.run_id, number, self.agreed)
        self.collector = Collector(roster, self.settings, session)
        self.sent = common_view(messages)
        self.nodes: dict[int, int] = {}
        """The node of each client; which it is, its signature says."""
        self.failures: dict[str, str] = {}
        self.seconds = 0.0
        self.layouts: dict[int, Layout] = {}

    def run(self) -> Aggregate:
        """Lead the clients through the five stages, and return the sum."""
        try:
            return self._stages()
        except FederatedError as error:
            raise RoundFailedError(str(error), self.failures) from error

    def _stages(self) -> Aggregate:
        c = self.collector
        empty = {node: records.put(RecordDict()) for node in self.instructions}
        self._exchange(Stage.ADVERTISED, empty, self.accept_keys)
        self.timed(c.close_advertisements)
        asked = {self.nodes[i]: self.keys_for(i) for i in c.participants}
        self._exchange(Stage.SHARED, asked, self.accept_boxes)
        self.timed(c.close_shares)
        asked = {self.nodes[i]: self.model_for(i) for i in sorted(c.boxes)}
        layout = self._exchange_vectors(asked)
        self.timed(c.close_vectors)
        survivors = records.pack_indices(sorted(c.survivors))
        asked = {self.nodes[i]: records.put(RecordDict(), survivors=survivors) for i in sorted(c.survivors)}
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
        privacy, head = self.settings.privacy, self.settings.head(layout)
        if weight <= 0:
            raise FederatedError(f"no client had any {self.settings.weighted_by}: nothing can be averaged")
        mean: Floats = self.encoding.decode(total[head:]) / weight
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

    def accept_keys(self, node: int, content: RecordDict) -> None:
        """Take a node's keys; which client it is, they say."""
        packet = records.get(content, "keys", bytes)
        if records.get(content, "agreed", bytes) != self.agreed:
            raise RosterError("this client has other settings than the server, or another roster")
        self.nodes[self.collector.accept_advertisement(packet)] = node

    def keys_for(self, client: int) -> RecordDict:
        """Return what a client needs to share its secrets."""
        keys = [advertised.pack() for advertised in self.collector.advertisements_for(client)]
        return records.put(RecordDict(), keys=keys, participants=records.pack_indices(self.collector.participants))

    def accept_boxes(self, node: int, content: RecordDict) -> None:
        """Take a node's encrypted shares."""
        clients, boxes = records.get_all(content, "clients", int), records.get_all(content, "boxes", bytes)
        self.collector.accept_shares(self._client(node), dict(zip(clients, boxes, strict=False)))

    def model_for(self, client: int) -> RecordDict:
        """Return the model, and the shares that neighbours sent."""
        boxes = self.collector.boxes_for(client)
        content = RecordDict(dict(self.instructions[self.nodes[client]].content))
        return records.put(content, clients=list(boxes), boxes=list(boxes.values()))

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
        self.collector.accept_vector(
            self._client(node), vector, layout.count + self.settings.head(layout), self.encoding
        )

    def accept_confirmation(self, node: int, content: RecordDict) -> None:
        """Take a node's signature over the survivors."""
        self.collector.accept_confirmation(self._client(node), records.get(content, "signature", bytes))

    def confirmations_for(self, client: int) -> RecordDict:
        """Return the signatures of a client's neighbours."""
        signatures = self.collector.confirmations_for(client)
        return records.put(RecordDict(), clients=list(signatures), signatures=list(signatures.values()))

    def accept_shares(self, node: int, content: RecordDict) -> None:
        """Take the shares that a node reveals."""
        self.collector.accept_revealed(self._client(node), records.get_all(content, "shares", bytes))

    def _client(self, node: int) -> int:
        return next(client for client, own in self.nodes.items() if own == node)

    def _exchange(self, stage: Stage, asked: dict[int, RecordDict], accept: Accept) -> None:
        """Send each node its part of a stage, and take the replies; who fails is noted, and counts as vanished."""
        outgoing = []
        for node, content in asked.items():
            content.config_records[records.RECORD].update({"stage": int(stage), "number": self.number})
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
