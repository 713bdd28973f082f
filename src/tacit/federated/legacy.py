"""Apps of Flower's older interface: a `NumPyClient` answers messages of today, so that mods and strategies fit it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

from tacit.errors import FederatedError
from tacit.federated.update import WEIGHT

__all__ = ["numpy_client_app"]


def numpy_client_app(client_fn: Callable[[Context], Any], mods: Sequence[Mod] = ()) -> ClientApp:
    """Return a ClientApp for a `client_fn` that returns a `NumPyClient`, or one that is wrapped by `to_client()`.

    In place of `ClientApp(client_fn, mods=mods)`, whose messages hold records of the older interface. The model's
    arrays go to `fit` and `evaluate` as a list, the message's config as a dictionary; what they return becomes a reply
    with one ArrayRecord, named as what came, and one MetricRecord with `num-examples`. The server is a ServerApp of
    today.
    """
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client = _client(client_fn(context))
        sent, config = _asked(message)
        arrays, examples, metrics = client.fit([array.numpy() for array in sent.values()], config)
        if len(arrays) != len(sent):
            raise FederatedError(f"fit returned {len(arrays)} arrays where {len(sent)} came")
        content = RecordDict(
            {
                "arrays": ArrayRecord({name: Array(array) for name, array in zip(sent, arrays, strict=True)}),
                "metrics": MetricRecord({**metrics, WEIGHT: examples}),
            }
        )
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        client = _client(client_fn(context))
        sent, config = _asked(message)
        loss, examples, metrics = client.evaluate([array.numpy() for array in sent.values()], config)
        record = MetricRecord({**metrics, "loss": float(loss), WEIGHT: examples})
        return Message(RecordDict({"metrics": record}), reply_to=message)

    return app


def _client(client: Any) -> Any:
    """Return the NumPyClient, which `to_client` keeps inside the client that it returns."""
    return vars(client).get("numpy_client", client)


def _asked(message: Message) -> tuple[ArrayRecord, dict[str, Any]]:
    (sent,) = message.content.array_records.values()
    configs = list(message.content.config_records.values())
    return sent, dict(configs[0]) if configs else {}
