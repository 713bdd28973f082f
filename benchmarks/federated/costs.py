"""What the stages of secure aggregation cost with drop-outs: a client, and the server, against plain FedAvg.

Every cell is run, none is computed from others. One client takes part through Flower messages, which are serialised and
counted, and its seconds are those of everything that it does but train. The other clients take part in all stages, too,
but add only masks that do not cancel: their own, and those that they share with that client or with clients that
dropped out. The server does all of its work on all vectors, and the sum is checked to the last bit. Drop-outs happen
after clients shared their secrets, the dearest moment. Seconds are of the processor (user and system).

10 clients share masks with all. 100 use the graph that `plan` finds for 30 % drop-outs; 1,000 that for 10 %. What comes
before the model, keys and shares, is done and measured once a graph. Whole rounds of all clients: `rounds.py`.

    python benchmarks/federated/costs.py            # some minutes; writes benchmarks/results/federated-stages.md
    python benchmarks/federated/costs.py --quick    # ten clients, 8,000 parameters; nothing is kept
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_to_proto
from flwr.serverapp.strategy import FedAvg

from tacit.federated import Identity, LocalGrid, PairwiseMasks, Roster, Settings, enroll, records
from tacit.federated.masks import keys
from tacit.federated.masks.graph import plan
from tacit.federated.masks.member import Member, Stage
from tacit.federated.masks.packets import premise
from tacit.federated.masks.server import Leader
from tacit.federated.masks.shamir import _weights_at_zero
from tacit.federated.update import Layout, Update
from tacit.federated.vectors import Ring

RESULTS = Path(__file__).parents[1] / "results" / "federated-stages.md"
CELLS = {
    10: [(8_000, 0.0), (1_000_000, 0.0), (1_000_000, 0.3)],
    100: [(8_000, 0.0), (8_000, 0.3), (1_000_000, 0.0), (1_000_000, 0.3)],
    1000: [(8_000, 0.0), (8_000, 0.1)],
}
"""Parameters and drop-outs, for each number of clients."""

PLAIN_BYTES = 8e9
"""Plain FedAvg holds all replies in memory at once; it is left out where they are more than that."""

STEP = np.float32(0.01)


class Cost(NamedTuple):
    """One line of the table."""

    clients: int
    parameters: int
    dropped: float
    degree: int
    up: float
    down: float
    plain_up: float
    client: float
    server: float
    plain_server: float | None


def form_for(clients: int, dropped: float) -> PairwiseMasks:
    """Return the settings for so many clients."""
    if clients <= 32:
        return PairwiseMasks(Settings(minimum=3))
    degree, threshold = plan(clients, dropped=dropped)
    return PairwiseMasks(Settings(minimum=clients // 2, degree=degree, threshold=threshold))


def reply_of(arrays: ArrayRecord) -> RecordDict:
    """Return what a client answers that moves every parameter by a little."""
    moved = {name: Array(array.numpy() + STEP) for name, array in arrays.items()}
    return RecordDict({"arrays": ArrayRecord(moved), "metrics": MetricRecord({"num-examples": 100})})


def plain_fedavg(clients: int, parameters: int) -> tuple[int, float | None]:
    """Return the bytes that a client sends without secure aggregation, and the server's seconds."""
    initial = ArrayRecord({"w": Array(np.zeros(parameters, dtype=np.float32))})
    grid = LocalGrid(ClientApp(), clients)
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
    asked = list(strategy.configure_train(1, initial, ConfigRecord(), grid))
    content = reply_of(initial)
    replies = [Message(content, reply_to=message) for message in asked]
    sent = message_to_proto(replies[0]).ByteSize()
    if clients * initial["w"].numpy().nbytes > PLAIN_BYTES:
        return sent, None
    start = time.process_time()
    strategy.aggregate_train(1, replies)
    return sent, time.process_time() - start


@dataclass
class Measured:
    """The client that is measured: all of its messages are Flower's, and all of its work is done."""

    form: PairwiseMasks
    roster: Roster
    identity: Identity
    context: Context
    up: int = 0
    down: int = 0
    seconds: float = 0.0
    """Of the processor, without training."""

    def ask(self, stage: Stage, content: RecordDict) -> RecordDict:
        """Take part in a stage, and return the reply."""
        content.config_records[records.RECORD].update({"stage": int(stage), "number": 1})
        message = Message(content, dst_node_id=0, message_type="train")
        self.down += message_to_proto(message).ByteSize()
        start = time.process_time()
        reply = self.form.reply(message, self.context, self.train, lambda _: (self.identity, self.roster))
        self.seconds += time.process_time() - start
        self.up += message_to_proto(Message(reply, reply_to=message)).ByteSize()
        return reply

    def train(self, message: Message, context: Context) -> Message:
        """Answer as the ClientApp would; how long that takes does not count."""
        start = time.process_time()
        reply = Message(reply_of(message.content["arrays"]), reply_to=message)
        self.seconds -= time.process_time() - start
        return reply


@dataclass
class Prepared:
    """Server and clients after the first two stages, which know nothing of the model."""

    first: Measured
    session: Leader
    members: dict[int, bytes]
    identities: dict[str, Identity]

    def again(self, parameters: int) -> tuple[Measured, Leader, dict[int, Member]]:
        """Return all of them anew, to go on with a model of so many parameters."""
        state = RecordDict({name: ConfigRecord(dict(r)) for name, r in self.first.context.state.config_records.items()})
        first = replace(self.first, context=Context(self.session.grid.run.run_id, 0, {}, state, {}))
        model = ArrayRecord({"w": Array(np.zeros(parameters, dtype=np.float32))})
        content = RecordDict({"arrays": model, "config": ConfigRecord({"server-round": 1})})
        session = Leader(first.form.settings, self.session.grid, [Message(content, 0, "train")], None, 1, first.roster)
        session.begun.nodes, session.seconds = self.session.nodes, self.session.seconds
        session.begun.collector = replace(self.session.collector, survivors=set(), confirmed={}, revealed={}, _sum=None)
        members = {i: Member.load(kept, first.roster, first.form.settings) for i, kept in self.members.items()}
        return first, session, members


def prepare(clients: int, planned: float) -> Prepared:
    """Let all clients advertise their keys and share their secrets."""
    form = form_for(clients, planned)
    roster, identities = enroll(f"{i:04d}" for i in range(clients))
    grid = LocalGrid(ClientApp(), clients)
    session = Leader(form.settings, grid, [Message(RecordDict(), 0, "train")], None, 1, roster)
    c = session.collector
    first = Measured(form, roster, identities["0000"], Context(grid.run.run_id, 0, {}, RecordDict(), {}))
    members = {i: Member(i, roster, form.settings, c.session) for i in range(1, clients)}
    keys_of_first = first.ask(Stage.ADVERTISED, records.put(RecordDict()))
    session.timed(lambda: session.begun.accept_keys(0, keys_of_first))
    for i, member in members.items():
        packed = records.put(
            RecordDict(), keys=member.advertise(identities[roster.names[i]]).pack(), agreed=session.begun.agreed
        )
        session.timed(lambda i=i, packed=packed: session.begun.accept_keys(i, packed))
        session.nodes[i] = i
    session.timed(c.close_advertisements)
    session.begun.accept_boxes(0, first.ask(Stage.SHARED, session.keys_for(0)))
    for i, member in members.items():
        boxes = member.share(c.participants, c.advertisements_for(i))
        session.timed(lambda i=i, boxes=boxes: c.accept_shares(i, boxes))
    session.timed(c.close_shares)
    return Prepared(first, session, {i: member.dump() for i, member in members.items()}, identities)


def other_masks(member: Member, vector: Ring, boxes: dict[int, bytes], gone: set[int], view: bytes, words: int) -> Ring:
    """Return the vector of a client that is not measured, without the masks that cancel at the server anyway."""
    member.stage, member.held, member.view = Stage.MASKED, boxes, view
    y, bound = vector.copy(), premise(member.members, view)
    keys.add_mask(y, keys.self_key(member.seed, member.session), 1, words)
    for v in set(boxes) & (gone | {0}):
        key = keys.pairwise_key(member.mask_key, member.peers[v].mask_key, (member.index, v), member.session, bound)
        keys.add_mask(y, key, 1 if member.index < v else -1, words)
    return y


def measure(prepared: Prepared, parameters: int, dropped: float) -> Cost:
    """Go on from there with a model, and run a round without secure aggregation."""
    _weights_at_zero.cache_clear()  # else lines after the first would not pay for it
    first, session, members = prepared.again(parameters)
    c, form, clients = session.collector, first.form, len(members) + 1
    gone = set(range(1, 1 + round(dropped * clients)))
    alive = [i for i in members if i not in gone]
    layout = Layout((), (("w", (parameters,)),))
    words, wide = form.settings.words(layout)[1], form.settings.wide(clients)
    vector = form.encode(Update(layout, 100.0, np.full(parameters, float(STEP))), session.encoding)
    reply = first.ask(Stage.MASKED, session.model_for(0))
    c.view, masked = records.get(reply, "view", bytes), records.get_vector(reply)
    session.timed(lambda: session.accept_vector(0, masked, layout))
    for i in alive:
        masked = other_masks(members[i], vector, c.boxes_for(i), gone, c.view, words)
        session.timed(lambda i=i, masked=masked: session.accept_vector(i, masked, layout))
    session.timed(c.close_vectors)
    if not c.complete:
        survivors = records.put(RecordDict(), survivors=records.pack_indices(sorted(c.survivors)))
        session.accept_confirmation(0, first.ask(Stage.CONFIRMED, survivors))
        for i in alive:
            signature = members[i].confirm(c.survivors, prepared.identities[first.roster.names[i]])
            session.timed(lambda i=i, signature=signature: c.accept_confirmation(i, signature))
    session.accept_shares(0, first.ask(Stage.UNMASKED, session.confirmations_for(0)))
    for i in alive:
        shares = members[i].unmask_all() if c.complete else members[i].unmask(c.confirmations_for(i))
        revealed = [share.pack() for share in shares]
        session.timed(lambda i=i, revealed=revealed: c.accept_revealed(i, revealed))
    total = session.timed(lambda: c.sum(session.encoding))
    assert (total[:-words] == vector[:-words] * np.uint64(len(alive) + 1)).all()
    assert wide.decode(total[-words:]) == [x * (len(alive) + 1) for x in wide.decode(vector[-words:])]
    plain_up, plain_server = plain_fedavg(clients, parameters)
    return Cost(
        clients, parameters, dropped, form.settings.degree or clients - 1, first.up, first.down, plain_up,
        first.seconds, session.seconds, plain_server,
    )  # fmt: skip


def size(number: float) -> str:
    """Return a number of bytes as people write it."""
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"


def seconds(number: float | None) -> str:
    """Return seconds as people write them."""
    return "too large" if number is None else f"{number:.3f} s" if number < 10 else f"{number:.0f} s"


def table(costs: list[Cost]) -> str:
    """Return the costs as a Markdown table."""
    head = ["clients", "parameters", "neighbours", "dropped", "client sends", "plain", "client receives", "client work",
            "server work", "plain"]  # fmt: skip
    rows = [
        [f"{c.clients:,}", f"{c.parameters:,}", str(c.degree), f"{c.dropped:.0%}", size(c.up), size(c.plain_up),
         size(c.down), seconds(c.client), seconds(c.server), seconds(c.plain_server)]
        for c in costs
    ]  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---:"] * len(head), *rows])


def main() -> None:
    """Measure, and keep the table for the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="ten clients and 8,000 parameters; nothing is kept")
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    measure(prepare(10, 0.3), 8_000, 0.3)  # once, so that what is loaded on first use is not in the table
    costs = []
    for clients, cells in CELLS.items():
        prepared = prepare(clients, 0.1 if clients > 100 else 0.3)
        for parameters, dropped in cells:
            costs.append(measure(prepared, parameters, dropped))
            print(costs[-1], flush=True)
            if options.quick:
                return
    RESULTS.write_text(table(costs) + "\n")


if __name__ == "__main__":
    main()
