"""Messages of a federation of which one end is hostile: a field of any stage may hold anything that Flower carries."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from tacit.errors import ForgeryError, TacitError
from tacit.federated import LocalGrid, PairwiseMasks, SecureAggregation, SecureAggregationMod, Settings, enroll

__all__ = ["answers", "asked", "replied", "stages", "survives"]

CLIENTS = 4
VICTIM = 2
"""The node that is asked by a hostile server, or that is hostile itself."""

logging.getLogger("flwr").setLevel(logging.ERROR)

FORM = PairwiseMasks(Settings(minimum=2))
ROSTER, PEOPLE = enroll(f"site-{i}" for i in range(CLIENTS))


class Asked(NamedTuple):
    """A message to a client, and what its node kept until then."""

    fields: dict[str, Any]
    state: RecordDict
    run: int


def _credentials(context: Context) -> Any:
    return PEOPLE[f"site-{context.node_config['partition-id']}"], ROSTER


def _app() -> ClientApp:
    app = ClientApp(mods=[SecureAggregationMod(FORM, _credentials)])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"num-examples": 10, "loss": 1.0})
        return Message(RecordDict({"arrays": _model(), "metrics": metrics}), reply_to=message)

    return app


def _model() -> ArrayRecord:
    return ArrayRecord({"w": Array(np.ones(2)), "n": Array(np.array(3))})


def _run(network: Callable[[Message], Message | None], rounds: int) -> SecureAggregation:
    strategy = SecureAggregation(FedAvg(fraction_evaluate=0), ROSTER, FORM)
    grid = LocalGrid(_app(), CLIENTS, network=lambda message: network(message))
    network.grid = grid  # type: ignore[attr-defined]
    with contextlib.suppress(TacitError):
        strategy.start(grid, _model(), num_rounds=rounds)
    return strategy


@cache
def asked() -> tuple[Asked, ...]:
    """What a client is asked in two rounds, of which the first loses a client: all stages, and keys ahead."""
    seen: list[Asked] = []

    def network(message: Message) -> Message | None:
        if message.metadata.reply_to_message_id:
            lost = message.metadata.src_node_id == VICTIM + 2 and seen and seen[-1].fields["number"] == 1
            return None if lost and seen[-1].fields["stage"] == 3 else message
        if message.metadata.dst_node_id == VICTIM:
            context = network.grid.contexts[VICTIM]  # type: ignore[attr-defined]
            state = RecordDict({name: ConfigRecord(dict(r)) for name, r in context.state.config_records.items()})
            seen.append(Asked(dict(message.content["tacit"]), state, context.run_id))
        return message

    _run(network, 3)
    return tuple(seen)


def _text(fields: dict[str, Any], place: int) -> bytes:
    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return {"hex": value.hex()}
        return [plain(each) for each in value] if isinstance(value, list) else value

    return json.dumps({"place": place, "fields": {name: plain(value) for name, value in fields.items()}}).encode()


def _record(data: bytes) -> tuple[int, ConfigRecord]:
    """Read such a text, or raise `ForgeryError` for what Flower cannot carry."""

    def value(given: Any) -> Any:
        if isinstance(given, dict):
            return bytes.fromhex(given["hex"])
        if isinstance(given, int) and not -(1 << 63) <= given < 1 << 63:
            raise OverflowError
        return [value(each) for each in given] if isinstance(given, list) else given

    try:
        table = json.loads(data)
        record = ConfigRecord({name: value(given) for name, given in table["fields"].items()})
        return int(table["place"]), record
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise ForgeryError("Flower cannot carry this") from None


def stages(folder: Path) -> list[bytes]:
    """Everything that a client is asked."""
    return [_text(ask.fields, place) for place, ask in enumerate(asked())]


def answers(data: bytes) -> None:
    """Ask a client, in the state in which it was: it answers or raises, and nothing else."""
    place, record = _record(data)
    ask = asked()[place % len(asked())]
    state = RecordDict({name: ConfigRecord(dict(r)) for name, r in ask.state.config_records.items()})
    context = Context(ask.run, VICTIM, {"partition-id": 0, "num-partitions": CLIENTS}, state, {})
    content = RecordDict({"tacit": record, "arrays": _model(), "config": ConfigRecord({"server-round": 1})})
    _app()(Message(content, dst_node_id=VICTIM, message_type="train"), context)


@cache
def _replies() -> tuple[dict[str, Any], ...]:
    seen: list[dict[str, Any]] = []

    def network(message: Message) -> Message:
        if message.metadata.reply_to_message_id and message.metadata.src_node_id == VICTIM:
            seen.append(dict(message.content["tacit"]))
        return message

    _run(network, 2)
    return tuple(seen)


def replied(folder: Path) -> list[bytes]:
    """Everything that a client answers in two rounds."""
    return [_text(fields, place) for place, fields in enumerate(_replies())]


def survives(data: bytes) -> None:
    """Lead two rounds in which one client answers this at one place: they end, and no number is wrong."""
    place, record = _record(data)
    count = [0]

    def network(message: Message) -> Message:
        if message.metadata.reply_to_message_id and message.metadata.src_node_id == VICTIM and message.has_content():
            if count[0] == place % len(_replies()):
                message.content["tacit"] = record
            count[0] += 1
        return message

    strategy = _run(network, 2)
    assert len(strategy.report) == 2
    assert all(line.error or line.survivors >= 2 for line in strategy.report)
