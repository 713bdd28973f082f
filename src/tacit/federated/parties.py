"""Form 2: several computing parties that do not collude. Clients share their updates to them, and under multi-party
computation they clip, sort and average what none of them sees (`tacit.federated.robust`).

A client needs one message: it splits its vector into additive shares mod 2^64, one for each party, and encrypts each
share for its party. All shares but the first are seeds of 32 bytes. Flower's server passes the boxes on.

`InsecureEmbeddedParties` runs all parties in the server's process, which so holds all their keys: it computes what
separate parties would compute, message for message, and protects nothing from that process. It is for tests, for
notebooks, and for choosing a rule.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid

import tacit
from tacit.api import active_protocol
from tacit.federated import wire
from tacit.federated.aggregation import Aggregate, Aggregation, Credentials
from tacit.federated.errors import FederatedError, ForgeryError, RoundError, ThresholdError
from tacit.federated.identity import Roster
from tacit.federated.masked import contribution
from tacit.federated.privacy import Privacy
from tacit.federated.robust import Rule
from tacit.federated.secagg import keys
from tacit.federated.secagg.encoding import Floats
from tacit.federated.update import Layout
from tacit.ring.prg import Stream, derive_key
from tacit.tensor import SecretTensor

__all__ = ["InsecureEmbeddedParties"]

FRAC_BITS = 16
"""Of the updates under computation, as in all of Tacit: an error of 2^-17 for each coordinate."""

LIMIT = 64.0
"""The largest magnitude of a coordinate: squares of a million of them stay within fixed point."""

SEED_BYTES = 32
KEY_BYTES = 32


class InsecureEmbeddedParties(Aggregation):
    """Aggregation by computing parties, all of them in this process."""

    def __init__(
        self, rule: Rule, *, minimum: int = 3, parties: Sequence[str] = ("aggregator-1", "aggregator-2")
    ) -> None:
        if minimum < rule.fewest():
            raise ValueError(f"{rule} needs {rule.fewest()} clients or more, and minimum is {minimum}")
        self.rule, self.minimum, self.parties = rule, minimum, tuple(parties)
        self._private = [keys.fresh_key() for _ in self.parties]
        self._public = [keys.public_key(key) for key in self._private]

    @property
    def privacy(self) -> Privacy | None:
        """No noise is added in this form."""
        return None

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
        number = wire.get(message.content, "number", int)
        kept = context.state.config_records.get(wire.RECORD)
        last = -1 if kept is None else wire.get(context.state, "number", int)
        if number <= last:
            raise RoundError(f"session {number} is over: this client took part in session {last}")
        index = roster.index(identity)
        update = contribution(message, context, train)
        beyond = int((np.abs(update.values) > LIMIT).sum())
        values = np.rint(np.clip(update.values, -LIMIT, LIMIT) * 2.0**FRAC_BITS).astype(np.int64)
        session = _session(context.run_id, number, update.layout)
        boxes = self._split(np.concatenate([[beyond], values]).view(np.uint64), index, session)
        context.state[wire.RECORD] = ConfigRecord({"number": number})
        signature = identity.sign(_signed(session, index, boxes))
        return wire.put(RecordDict(), index=index, layout=update.layout.pack(), boxes=boxes, signature=signature)

    def _split(self, vector: np.ndarray, index: int, session: bytes) -> list[bytes]:
        seeds = [os.urandom(SEED_BYTES) for _ in self.parties[1:]]
        first = vector.copy()
        for seed in seeds:
            first -= _expand(seed, vector.size)
        boxes = []
        for party, content in enumerate([first.tobytes(), *seeds]):
            ephemeral = keys.fresh_key()
            box = keys.seal_box(ephemeral, self._public[party], (index, party), session, content)
            boxes.append(keys.public_key(ephemeral) + box)
        return boxes

    # the server and the parties

    def aggregate(
        self, grid: Grid, messages: list[Message], timeout: float | None, number: int, roster: Roster
    ) -> Aggregate:
        """Collect one message from each client, and let the parties compute."""
        for message in messages:
            wire.put(message.content, number=number)
        failures: dict[str, str] = {}
        accepted: dict[int, tuple[Layout, list[bytes]]] = {}
        silent = {message.metadata.dst_node_id for message in messages}
        start = 0.0
        for reply in grid.send_and_receive(_separate(messages), timeout=timeout):
            node, begun = reply.metadata.src_node_id, time.perf_counter()
            silent.discard(node)
            try:
                if reply.has_error():
                    raise FederatedError(str(reply.error.reason))
                self._accept(reply, messages[0].metadata.run_id, number, roster, accepted)
            except FederatedError as error:
                failures[f"node {node}"] = str(error)
            start += time.perf_counter() - begun
        failures.update({f"node {node}": "vanished before it had shared" for node in silent})
        layout, chosen = self._same_layout(accepted, failures, roster)
        if len(chosen) < self.minimum:
            raise ThresholdError(f"{len(chosen)} of {len(roster)} clients sent an update, {self.minimum} are needed")
        begun = time.perf_counter()
        mean, saturated = self._compute(layout, chosen, _session(messages[0].metadata.run_id, number, layout))
        seconds = start + time.perf_counter() - begun
        return Aggregate(
            layout, mean, float(len(chosen)), len(messages), len(chosen), failures, saturated, seconds,
            error=2.0 ** -(FRAC_BITS + 1),
        )  # fmt: skip

    def _accept(
        self,
        reply: Message,
        run: int,
        number: int,
        roster: Roster,
        accepted: dict[int, tuple[Layout, list[bytes]]],
    ) -> None:
        index, boxes = wire.get(reply.content, "index", int), wire.get_all(reply.content, "boxes", bytes)
        layout = Layout.unpack(wire.get(reply.content, "layout", str))
        signed = _signed(_session(run, number, layout), index, boxes)
        roster.verify(index, signed, wire.get(reply.content, "signature", bytes))
        if index in accepted:
            raise RoundError(f"{roster.names[index]} sent an update twice")
        if len(boxes) != len(self.parties):
            raise ForgeryError(f"{roster.names[index]} did not send a share for each party")
        accepted[index] = layout, boxes

    def _same_layout(
        self, accepted: dict[int, tuple[Layout, list[bytes]]], failures: dict[str, str], roster: Roster
    ) -> tuple[Layout, dict[int, list[bytes]]]:
        if not accepted:
            raise ThresholdError(f"0 of {len(roster)} clients sent an update, {self.minimum} are needed")
        layouts = [layout for layout, _ in accepted.values()]
        common = max(layouts, key=layouts.count)
        for index, (layout, _) in accepted.items():
            if layout != common:
                failures[roster.names[index]] = "its metrics or arrays differ from those of most clients"
        return common, {index: boxes for index, (layout, boxes) in sorted(accepted.items()) if layout == common}

    def _compute(self, layout: Layout, chosen: dict[int, list[bytes]], session: bytes) -> tuple[Floats, int]:
        """Each party opens its own boxes; from there on there are only secrets, and their result."""
        count = layout.count + 1
        with tacit.session(parties=self.parties, frac_bits=FRAC_BITS):
            protocol = active_protocol()
            total = None
            for party, name in enumerate(self.parties):
                rows = [self._own(party, index, boxes[party], session, count) for index, boxes in chosen.items()]
                held = torch.from_numpy(np.stack(rows).view(np.int64))
                shared = protocol.share(held, name, held.shape, FRAC_BITS)
                total = shared if total is None else total + shared
            assert total is not None
            x = SecretTensor(total, torch.float64)
            metrics = len(layout.metrics)
            saturated = tacit.reveal(x[:, 0].sum(), name="saturated coordinates")
            parts = [tacit.reveal(x[:, 1 : 1 + metrics].mean(dim=0), name="average metrics")] if metrics else []
            if layout.arrays:
                parts.append(tacit.reveal(self.rule(x[:, 1 + metrics :]), name="aggregated update"))
        mean = torch.cat(parts).double().numpy() if parts else np.zeros(0)
        return mean, round(float(saturated) * 2**FRAC_BITS)

    def _own(self, party: int, index: int, box: bytes, session: bytes, count: int) -> np.ndarray:
        """Open a client's box for a party: that party's share of the client's vector."""
        public, sealed = box[:KEY_BYTES], box[KEY_BYTES:]
        content = keys.open_box(self._private[party], public, (index, party), session, sealed)
        if party:
            return _expand(content, count)
        if len(content) != 8 * count:
            raise ForgeryError(f"the share of client {index} has the wrong length")
        return np.frombuffer(content, dtype=np.uint64)


def _separate(messages: list[Message]) -> list[Message]:
    return [
        Message(RecordDict(dict(m.content)), m.metadata.dst_node_id, m.metadata.message_type) for m in messages
    ]  # fmt: skip


def _expand(seed: bytes, count: int) -> np.ndarray:
    stream: np.ndarray = Stream(derive_key(seed, "share of an update")).bytes(8 * count).numpy().view(np.uint64)
    return stream


def _session(run: int, number: int, layout: Layout) -> bytes:
    return b"parties %d/%d " % (run, number) + layout.pack().encode()


def _signed(session: bytes, index: int, boxes: list[bytes]) -> bytes:
    parts = [session, struct.pack(">I", index), *boxes]
    return b"tacit shares" + b"".join(struct.pack(">Q", len(part)) + part for part in parts)
