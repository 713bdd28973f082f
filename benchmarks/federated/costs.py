"""What a round of secure aggregation costs: bytes for each client, seconds at the server, with and without drop-outs.

One round of FedAvg over a ClientApp that returns its arrays at once, on the grid in this process; every message is
serialised and counted. Plain FedAvg beside it. Up to 32 clients all share masks with all; more use the graph that
`plan` finds for 30 % drop-outs (10 % for 1,000 clients), so that the threshold holds.

    python benchmarks/federated/costs.py                    # a table, and docs/images/federated-costs.svg
    python benchmarks/federated/costs.py --quick            # the small ones
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from pathlib import Path
from typing import NamedTuple

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from tacit.federated import LocalGrid, PairwiseMasks, SecureAggregation, SecureAggregationMod, Settings, enroll
from tacit.federated.secagg.graph import plan

CASES = [
    (10, 8_000, 0.0), (10, 8_000, 0.1), (10, 8_000, 0.3),
    (10, 100_000, 0.0), (10, 1_000_000, 0.0), (10, 1_000_000, 0.3), (10, 10_000_000, 0.0),
    (100, 8_000, 0.0), (100, 8_000, 0.1), (100, 8_000, 0.3), (100, 100_000, 0.0),
    (1000, 8_000, 0.0), (1000, 8_000, 0.1),
]  # fmt: skip
"""Clients, parameters, drop-outs (after the clients shared their secrets: the dearest moment)."""

MASKED = 3


class Cost(NamedTuple):
    """One line of the table."""

    clients: int
    parameters: int
    dropped: float
    degree: int
    up: float
    down: float
    plain_up: float
    server: float
    plain_server: float
    client: float


def client_app(mods: list[SecureAggregationMod]) -> ClientApp:
    """Return an app that moves every parameter by a little."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = {name: Array(array.numpy() + np.float32(0.01)) for name, array in message.content["arrays"].items()}
        metrics = MetricRecord({"num-examples": 100})
        return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)

    return app


def form_for(clients: int, dropped: float) -> PairwiseMasks:
    """Return the settings for so many clients."""
    if clients <= 32:
        return PairwiseMasks(Settings(minimum=3))
    degree, threshold = plan(clients, dropped=0.3 if clients < 1000 else 0.1)
    return PairwiseMasks(Settings(minimum=clients // 2, degree=degree, threshold=threshold))


def measure(clients: int, parameters: int, dropped: float) -> Cost:
    """Run a round with and a round without secure aggregation."""
    initial = ArrayRecord({"w": Array(np.zeros(parameters, dtype=np.float32))})
    options = {"fraction_evaluate": 0.0, "min_train_nodes": clients, "min_available_nodes": clients}
    plain = LocalGrid(client_app([]), clients)
    strategy = FedAvg(**options)
    replies = list(plain.send_and_receive(strategy.configure_train(1, initial, MetricRecord(), plain)))  # type: ignore[arg-type]
    start = time.perf_counter()
    strategy.aggregate_train(1, replies)
    plain_server = time.perf_counter() - start

    form = form_for(clients, dropped)
    roster, identities = enroll(f"{i:04d}" for i in range(clients))
    mod = SecureAggregationMod(form, lambda c: (identities[f"{int(c.node_config['partition-id']):04d}"], roster))
    gone, stage = set(range(2, 2 + round(dropped * clients))), [0]

    def network(message: Message) -> Message | None:
        if not message.metadata.reply_to_message_id:
            stage[0] = int(message.content["tacit"]["stage"])
        lost = message.metadata.reply_to_message_id and stage[0] >= MASKED and message.metadata.src_node_id in gone
        return None if lost else message

    grid = LocalGrid(client_app([mod]), clients, network=network)
    secure = SecureAggregation(FedAvg(**options), roster, form)
    start = time.perf_counter()
    result = secure.start(grid, initial, num_rounds=1)
    whole = time.perf_counter() - start
    assert np.allclose(result.arrays["w"].numpy(), 0.01, atol=1e-6)
    (line,) = secure.report
    assert line.survivors == clients - len(gone)
    most = max(grid.from_clients)
    return Cost(
        clients,
        parameters,
        dropped,
        form.settings.degree or clients - 1,
        grid.from_clients[most],
        grid.to_clients[most],
        plain.from_clients[max(plain.from_clients)],
        line.seconds,
        plain_server,
        (whole - line.seconds) / clients,
    )


def size(number: float) -> str:
    """Return a number of bytes as people write it."""
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"


def table(costs: list[Cost]) -> str:
    """Return the costs as a Markdown table."""
    head = ["clients", "parameters", "neighbours", "dropped", "client sends", "plain", "client receives", "client work",
            "server work", "plain"]  # fmt: skip
    rows = [
        [f"{c.clients:,}", f"{c.parameters:,}", str(c.degree), f"{c.dropped:.0%}", size(c.up), size(c.plain_up),
         size(c.down), f"{c.client:.3f} s", f"{c.server:.3f} s", f"{c.plain_server:.3f} s"]
        for c in costs
    ]  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---:"] * len(head), *rows])


def plot(costs: list[Cost], path: Path) -> None:
    """Draw bytes and seconds against parameters, for ten clients, and seconds against clients."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    ten = [c for c in costs if c.clients == 10 and not c.dropped]
    few = [c for c in costs if c.parameters == 8_000 and not c.dropped]
    left.loglog([c.parameters for c in ten], [c.up for c in ten], "o-", label="secure")
    left.loglog([c.parameters for c in ten], [c.plain_up for c in ten], "s--", label="plain")
    left.set(xlabel="parameters (10 clients)", ylabel="bytes that a client sends")
    middle.loglog([c.parameters for c in ten], [c.server for c in ten], "o-", label="secure")
    middle.loglog([c.parameters for c in ten], [c.plain_server for c in ten], "s--", label="plain")
    middle.set(xlabel="parameters (10 clients)", ylabel="server, seconds")
    right.loglog([c.clients for c in few], [c.server for c in few], "o-", label="secure")
    right.loglog([c.clients for c in few], [c.plain_server for c in few], "s--", label="plain")
    right.set(xlabel="clients (8,000 parameters)", ylabel="server, seconds")
    left.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--plot", type=Path, default=Path("docs/images/federated-costs.svg"))
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    cases = [case for case in CASES if not options.quick or case[0] * case[1] <= 100_000]
    measure(10, 8_000, 0.3)  # once, so that what is loaded on first use is not in the table
    costs = []
    for case in cases:
        costs.append(measure(*case))
        print(costs[-1], flush=True)
    print(table(costs))
    if not options.quick:
        plot(costs, options.plot)


if __name__ == "__main__":
    main()
