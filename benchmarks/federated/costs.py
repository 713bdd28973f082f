"""What a round of secure aggregation costs: bytes and seconds of a client, seconds of the server, against plain FedAvg.

Every cell is run, none is computed from others. One client takes part through Flower messages, which are serialised and
counted, and its seconds are those of everything that it does but train. The other clients take part in all stages, too,
but add only masks that do not cancel: their own, and those that they share with that client or with clients that
dropped out. The server does all of its work on all vectors, and the sum is checked to the last bit. Drop-outs happen
after clients shared their secrets, the dearest moment. Seconds are of the processor (user and system).

Up to 32 clients all share masks with all. 100 use the graph that `plan` finds for 30 % drop-outs; 1,000 that for 10 %
or, in the lines with 30 %, for 30 %. What comes before the model, keys and shares, is done and measured once a graph.

    python benchmarks/federated/costs.py                    # all: an hour, a table, and docs/images/federated-costs.svg
    python benchmarks/federated/costs.py --quick            # the small ones
    python benchmarks/federated/costs.py --clients 100 --parameters 1000000
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

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

CLIENTS = [10, 100, 1000]
PARAMETERS = [8_000, 100_000, 1_000_000, 10_000_000]
DROPPED = [0.0, 0.1, 0.3]

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


def plot(costs: list[Cost], path: Path) -> None:
    """Draw bytes and seconds against parameters, for each number of clients."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    lines: list[tuple[Any, Callable[[Cost], float | None], str]] = [
        (left, lambda c: c.up, "bytes that a client sends"),
        (middle, lambda c: c.client, "client, seconds"),
        (right, lambda c: c.server, "server, seconds"),
    ]
    for axes, value, label in lines:
        for n, colour in zip(CLIENTS, ("C0", "C1", "C2"), strict=True):
            for dropped, style in ((0.0, "o-"), (0.3, "^:")):
                chosen = [c for c in costs if c.clients == n and c.dropped == dropped]
                if not chosen or (dropped and axes is not right):
                    continue
                note = f"{n:,} clients" + (", 30 % dropped" if dropped else "")
                axes.loglog([c.parameters for c in chosen], [value(c) for c in chosen], style, color=colour, label=note)
        axes.set(xlabel="parameters", ylabel=label)
    ten = [c for c in costs if c.clients == 10 and not c.dropped]
    left.loglog([c.parameters for c in ten], [c.plain_up for c in ten], "k--", label="plain FedAvg")
    for n in CLIENTS:
        chosen = [c for c in costs if c.clients == n and not c.dropped and c.plain_server is not None]
        right.loglog([c.parameters for c in chosen], [c.plain_server for c in chosen], "k--", linewidth=0.8)
    left.legend(fontsize=7)
    right.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="up to 100 clients and 100,000 parameters")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--parameters", type=int, nargs="+", default=PARAMETERS)
    parser.add_argument("--dropped", type=float, nargs="+", default=DROPPED)
    parser.add_argument("--save", type=Path, help="add what is measured to this file of JSON lines")
    parser.add_argument("--render", type=Path, help="only draw and print what such a file holds")
    parser.add_argument("--plot", type=Path, default=Path("docs/images/federated-costs.svg"))
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    if options.render:
        costs = sorted(
            {Cost(*json.loads(line))[:3]: Cost(*json.loads(line)) for line in options.render.open()}.values()
        )
    else:
        measure(prepare(10, 0.3), 8_000, 0.3)  # once, so that what is loaded on first use is not in the table
        costs = []
        for n in options.clients:
            prepared = None
            for dropped in options.dropped:
                if prepared is None or (n > 100 and dropped > 0.1):
                    prepared = prepare(n, 0.1 if n > 100 and dropped <= 0.1 else 0.3)
                for d in options.parameters:
                    if options.quick and (n > 100 or d > 100_000):
                        continue
                    costs.append(measure(prepared, d, dropped))
                    print(costs[-1], flush=True)
                    if options.save:
                        with options.save.open("a") as file:
                            file.write(json.dumps(costs[-1]) + "\n")
    print(table(costs))
    if options.render or not options.quick:
        plot(costs, options.plot)


if __name__ == "__main__":
    main()
