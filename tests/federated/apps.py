"""A small Flower app: each client moves the model by a step that depends on its partition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from tacit.federated import LocalGrid, PairwiseMasks, SecureAggregation, SecureAggregationMod, Settings, enroll
from tacit.federated.form import Aggregation

CLIENTS = 10

Change = Callable[[int, int, dict[str, np.ndarray]], dict[str, np.ndarray]]
"""(partition, round, arrays) -> arrays, to spoil an update."""


def initial():
    rng = np.random.default_rng(1)
    w, b = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=3)
    return ArrayRecord({"w": Array(w), "b": Array(b), "n": Array(np.array(7))})


def step(partition: int, round_: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a client does: pull the model towards a point of its own."""
    rng = np.random.default_rng([partition, round_])
    moved = {name: x + 0.5 * (rng.normal(size=x.shape) - x) for name, x in arrays.items() if name != "n"}
    return {"w": moved["w"].astype(np.float32), "b": moved["b"], "n": arrays["n"] + 1}


def client_app(mods=(), change: Change = lambda partition, round_, arrays: arrays) -> ClientApp:
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        partition, round_ = int(context.node_config["partition-id"]), int(message.content["config"]["server-round"])
        arrays = {name: array.numpy() for name, array in message.content["arrays"].items()}
        arrays = change(partition, round_, step(partition, round_, arrays))
        content = RecordDict(
            {
                "arrays": ArrayRecord({name: Array(np.asarray(x)) for name, x in arrays.items()}),
                "metrics": MetricRecord({"num-examples": 100 + 37 * partition, "loss": 1 / (1 + partition)}),
            }
        )
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        partition = int(context.node_config["partition-id"])
        norm = float(np.linalg.norm(message.content["arrays"]["w"].numpy()))
        metrics = MetricRecord({"num-examples": 10 + partition, "norm": norm, "partition": float(partition)})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def secure(strategy, form: Aggregation | None = None, network=lambda message: message, change=None, clients=CLIENTS):
    """The same app and strategy, aggregated securely: what to start, and the grid to start it on."""
    form = form or PairwiseMasks(Settings(minimum=3))
    roster, identities = enroll(f"site-{i}" for i in range(clients))
    mod = SecureAggregationMod(form, lambda c: (identities[f"site-{c.node_config['partition-id']}"], roster))
    app = client_app([mod], change) if change else client_app([mod])
    return SecureAggregation(strategy, roster, form), LocalGrid(app, clients, network=network)
