"""Queries for histograms of a hostile server: a client answers, or refuses, whatever trees and bins come."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from tacit.errors import ForgeryError, TacitError
from tacit.federated import FedXgbHistogram, LocalGrid, SecureAggregationMod, answer_histograms

from .federations import CLIENTS, FORM, PEOPLE, ROSTER

__all__ = ["answers", "queries"]

ROWS = np.random.default_rng(0).normal(size=(20, 2))
LABELS = (ROWS[:, 0] > 0).astype(float)


@cache
def _asked() -> tuple[tuple[dict[str, Any], dict[str, Any]], ...]:
    """Config and arrays of the queries of a run of two rounds."""
    seen: list[tuple[dict[str, Any], dict[str, Any]]] = []
    mod = SecureAggregationMod(FORM, lambda c: (PEOPLE[f"site-{c.node_config['partition-id']}"], ROSTER))
    app = ClientApp(mods=[mod])

    @app.query("xgb")
    def query(message: Message, context: Context) -> Message:
        records = message.content.array_records.values()
        arrays = {name: array.numpy() for record in records for name, array in record.items()}
        seen.append((dict(message.content["config"]), arrays))
        return answer_histograms(message, context, ROWS, LABELS)

    params = {"objective": "binary:logistic", "max_depth": 2, "subsample": 0.9}
    FedXgbHistogram(params, ROSTER, FORM).start(LocalGrid(app, CLIENTS), num_rounds=2, fraction_evaluate=0.0)
    return tuple(seen[::CLIENTS])


def queries(folder: Path) -> list[bytes]:
    """All that a client is asked; of many edges a few."""
    texts = []
    for config, arrays in _asked():
        if "edges" in arrays:
            config, arrays = {**config, "sizes": [9, 9]}, {"edges": np.tile(arrays["edges"][:9], 2)}
        shown = {name: [str(x.dtype), list(x.shape), x.ravel().tolist()] for name, x in arrays.items()}
        texts.append(json.dumps({"config": config, "arrays": shown}).encode())
    return texts


def answers(data: bytes) -> None:
    """Ask a client: it answers or raises, and takes no more memory than a client has."""
    try:
        table = json.loads(data)
        config = ConfigRecord(table["config"])
        arrays = {
            name: Array(np.array(flat, dtype=np.dtype(kind)).reshape(shape))
            for name, (kind, shape, flat) in table["arrays"].items()
            if np.dtype(kind).kind in "iuf"
        }
        content = RecordDict({"config": config, "arrays": ArrayRecord(arrays)})
    except TacitError:
        raise
    except Exception:
        raise ForgeryError("Flower cannot carry this") from None
    message = Message(content, 2, "query.xgb")
    answer_histograms(message, Context(1, 2, {}, RecordDict(), {}), ROWS, LABELS)
