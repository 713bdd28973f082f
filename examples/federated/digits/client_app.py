"""A site: scikit-learn's LogisticRegression, warm-started with the model that came, fitted on the site's own digits."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from digits.data import CLASSES, FEATURES, load, split
from digits.parties import FORM as PARTIES
from digits.settings import FORM as MASKS
from tacit.federated import SecureAggregationMod
from tacit.federated.parameters import get_model_params, set_initial_params, set_model_params

REGULARISATION = 100.0
"""C times the number of examples: each site minimises the same objective, whatever its size."""
LOCAL_ITERATIONS = 4
"""Steps a round. More: fewer rounds, but sites with unlike digits pull the model apart."""


def aggregation(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Let the site decide, by its own node's config, and nobody else: computing parties if it knows some, or masks."""
    form = PARTIES if "aggregators" in context.node_config else MASKS
    return SecureAggregationMod(form)(message, context, call_next)


app = ClientApp(mods=[aggregation])


@cache
def own_digits(name: str, site: int, sites: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the digits of one site."""
    x, y, _, _ = load(name)
    rows = split(y, sites)[site]
    return x[rows], y[rows]


@app.train()
def train(message: Message, context: Context) -> Message:
    """Go on with the model that came."""
    config = context.node_config
    x, y = own_digits(
        str(context.run_config["data"]), int(config["partition-id"]), int(config["num-partitions"])
    )  # fmt: skip
    model = LogisticRegression(warm_start=True, max_iter=LOCAL_ITERATIONS, C=REGULARISATION / len(x))
    set_initial_params(model, CLASSES, FEATURES)
    set_model_params(model, message.content["arrays"].to_numpy_ndarrays())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few steps a round are the point
        model.fit(x, y)
    content = RecordDict(
        {
            "arrays": ArrayRecord(get_model_params(model)),
            "metrics": MetricRecord({"num-examples": len(x), "train-accuracy": float(model.score(x, y))}),
        }
    )
    return Message(content, reply_to=message)
