"""What whole rounds cost, training and evaluation by all clients, against plain Flower on the same grid.

Every client does all of its work, messages are serialised and counted, and the model is compared with plain Flower's.
Seconds are of the processor, of server and all clients together, without what the app itself does: it only adds.

    python benchmarks/federated/rounds.py           # two minutes; writes benchmarks/results/federated-rounds.md
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

RESULTS = Path(__file__).parents[1] / "results" / "federated-rounds.md"
SIZES = [(10, 8_000), (10, 100_000), (10, 1_000_000), (30, 8_000), (30, 100_000), (100, 8_000)]
ROUNDS = 3


class Round(NamedTuple):
    """One round, of all clients together but for bytes and messages, which are of one client."""

    messages: float
    sends: float
    receives: float
    seconds: float


class Line(NamedTuple):
    """A line of the table: plain Flower, the first round, and those after it."""

    clients: int
    parameters: int
    plain: Round
    first: Round
    later: Round


def app_of(mods: list[SecureAggregationMod]) -> ClientApp:
    """Return an app that hardly computes."""
    app = ClientApp(mods=mods)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        place = np.float32(int(context.node_config["partition-id"]))
        arrays = {name: Array(array.numpy() + place) for name, array in message.content["arrays"].items()}
        metrics = MetricRecord({"num-examples": 100, "loss": 1.0})
        return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"num-examples": 100, "accuracy": 0.5})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def rounds(clients: int, parameters: int, secure: bool) -> tuple[list[Round], np.ndarray]:
    """Return what each round took, and the model."""
    roster, people = enroll(f"site-{i:03d}" for i in range(clients))
    form, count = PairwiseMasks(Settings()), [0]
    mod = SecureAggregationMod(form, lambda c: (people[f"site-{c.node_config['partition-id']:03d}"], roster))

    def network(message: Message) -> Message:
        count[0] += not message.metadata.reply_to_message_id
        return message

    grid = LocalGrid(app_of([mod] if secure else []), clients, network=network)
    seen: list[tuple[float, ...]] = []

    def told(number: int, arrays: ArrayRecord) -> None:
        seen.append((count[0], sum(grid.from_clients.values()), sum(grid.to_clients.values()), time.process_time()))

    strategy = FedAvg(min_train_nodes=clients, min_evaluate_nodes=clients, min_available_nodes=clients)
    initial = ArrayRecord({"w": Array(np.zeros(parameters, np.float32))})
    start = (SecureAggregation(strategy, roster, form) if secure else strategy).start
    result = start(grid, initial, num_rounds=ROUNDS, evaluate_fn=told)
    taken = np.diff(np.array(seen), axis=0) / [clients, clients, clients, 1]
    return [Round(*row) for row in taken.tolist()], result.arrays["w"].numpy()


def measure(clients: int, parameters: int) -> Line:
    """Run both, and compare their models."""
    plain, expected = rounds(clients, parameters, secure=False)
    secure, got = rounds(clients, parameters, secure=True)
    assert np.abs(got - expected).max() < 1e-3
    return Line(clients, parameters, _least(plain[1:]), secure[0], _least(secure[1:]))


def _least(of: list[Round]) -> Round:
    return min(of, key=lambda each: each.seconds)


def table(lines: list[Line]) -> str:
    """Return the lines as a Markdown table."""
    head = ["clients", "parameters", "", "messages", "a client sends", "receives", "all work", "of plain"]
    rows = [head, ["---:", "---:", "---", *["---:"] * 5]]
    for line in lines:
        for name in ("plain", "first", "later"):
            took: Round = getattr(line, name)
            size = [f"{line.clients:,}", f"{line.parameters:,}"] if name == "plain" else ["", ""]
            times = "" if name == "plain" else f"{took.seconds / line.plain.seconds:.1f} ×"
            label = {"plain": "plain Flower", "first": "secure, first round", "later": "secure, later rounds"}[name]
            sizes = [f"{n / 1e6:.2f} MB" if n >= 1e6 else f"{n / 1e3:.0f} kB" for n in (took.sends, took.receives)]
            rows.append([*size, label, f"{took.messages:.0f}", *sizes, f"{took.seconds:.2f} s", times])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Measure, and keep the results for the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the smallest only, and nothing is kept")
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    rounds(3, 100, secure=True)  # once, so that what is loaded on first use is not in the table
    rounds(3, 100, secure=False)
    lines = []
    for clients, parameters in SIZES[:1] if options.quick else SIZES:
        lines.append(measure(clients, parameters))
        print(lines[-1], flush=True)
    if not options.quick:
        RESULTS.write_text(table(lines) + "\n")


if __name__ == "__main__":
    main()
