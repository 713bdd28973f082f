"""What a client adds up for trees from sums: counts of rows, and histograms of gradients."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.app.typing import MetricRecordValues

from tacit.federated.errors import ForgeryError, UpdateError
from tacit.federated.masks.wide import LARGEST
from tacit.federated.trees import bins
from tacit.federated.trees.forest import Forest
from tacit.federated.trees.objectives import OBJECTIVES, check_labels, gradients
from tacit.federated.vectors import Floats

__all__ = ["ACTION", "CONFIG", "LARGEST_ANSWER", "MOST_COLUMNS", "answer_histograms"]

ACTION = "xgb"
"""The query: `@app.query("xgb")`."""
CONFIG = "config"
STATE = "tacit.trees"
LARGEST_ANSWER = 1 << 24
"""Numbers, 128 MB: a server that asks for more has no tree in mind that a client should run out of memory for."""
MOST_COLUMNS = LARGEST_ANSWER // bins.RANGES
"""4,112: the first counts of all columns are as many numbers as an answer may hold."""

Rows = npt.NDArray[np.float32]


def answer_histograms(
    message: Message, context: Context, rows: Any, labels: Any = None, weights: Any = None
) -> Message:
    """Answer a query of `FedXgbHistogram` with this client's sums, for the mod to mask.

        @app.query("xgb")
        def query(message, context):
            return answer_histograms(message, context, *load_data(context))

    `rows` are numbers with NaN for what is missing, or XGBoost's DMatrix, labels and weights with it.
    """
    x, y, w = _data(rows, labels, weights)
    try:
        config = message.content.config_records[CONFIG]
        stage = str(config["stage"])
        check_labels(_objective(config), y, int(config["classes"]))  # type: ignore[arg-type]
        records = message.content.array_records.values()
        arrays = {name: array.numpy() for record in records for name, array in record.items()}
        content = _STAGES[stage](config, arrays, context, x, y, w)
    except (LookupError, TypeError, ValueError, OverflowError, EOFError, OSError, AttributeError) as error:
        raise ForgeryError(f"the query for histograms is none that this client knows: {type(error).__name__}") from None
    return Message(content, reply_to=message)


def _data(rows: Any, labels: Any, weights: Any) -> tuple[Rows, Floats, Floats]:
    """Return rows, labels and weights as arrays."""
    if hasattr(rows, "get_label"):  # a DMatrix, which holds all three
        if labels is not None or weights is not None:
            raise UpdateError("a DMatrix holds its labels and weights: give no others beside it")
        _plain(rows)
        labels, weights = rows.get_label(), rows.get_weight()
        weights = weights if len(weights) else None
        sparse = rows.get_data()
        dense = np.full(sparse.shape, np.nan, np.float32)  # zeros stand there, and what does not is missing
        dense[np.repeat(np.arange(len(dense)), np.diff(sparse.indptr)), sparse.indices] = sparse.data
        rows = dense
    with np.errstate(over="ignore"):
        x = np.asarray(rows, dtype=np.float32)
    y = np.asarray(labels, dtype=np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
    if x.ndim != 2 or y.shape != (len(x),) or w.shape != (len(x),):
        raise UpdateError(f"rows of shape {x.shape} need a label each, and weights as many: {y.shape}, {w.shape}")
    if np.isinf(x).any():
        raise UpdateError("a row holds an infinite number, or one too large for single precision")
    if not (np.isfinite(w).all() and (w >= 0).all()):
        raise UpdateError("weights of rows must be numbers from 0")
    return x, y, w


def _plain(rows: Any) -> None:
    """Refuse a DMatrix with more than rows, labels and weights: XGBoost would grow other trees of it."""
    has = {
        "base_margin": len(rows.get_base_margin()),
        "label bounds": len(rows.get_float_info("label_lower_bound")) + len(rows.get_float_info("label_upper_bound")),
        "feature_weights": len(rows.get_float_info("feature_weights")),
        "groups": len(rows.get_uint_info("group_ptr")),
        "categories (feature_types 'c')": "c" in (rows.feature_types or []),
    }
    given = [name for name, there in has.items() if there]
    if given:
        raise UpdateError(f"trees from sums have no {', '.join(given)}, and without them they would be others")


def _objective(config: ConfigRecord) -> str:
    objective = str(config["objective"])
    if objective not in OBJECTIVES:
        raise ForgeryError("the query for histograms is for an objective that this client does not know")
    return objective


def _begin(config: ConfigRecord, arrays: Any, context: Context, x: Rows, y: Floats, w: Floats) -> RecordDict:
    """Return how many rows and columns there are, and the labels' weighted sums."""
    columns = x.shape[1]
    if not 1 <= columns <= MOST_COLUMNS:
        raise UpdateError(f"trees from sums are for 1 to {MOST_COLUMNS} columns, and this client has {columns}")
    sums: dict[str, MetricRecordValues] = {
        "rows": len(x), "columns": [1, columns, columns**2], "weight": float(w.sum()), "labels": float((w * y).sum()),
        "squares": float((w * y * y).sum()),
        "ones": float(w[y == 1].sum()),
    }  # fmt: skip
    if max(abs(sums["labels"]), sums["squares"]) >= LARGEST:  # type: ignore[arg-type, operator]
        raise UpdateError("labels are too large, as the sum of their squares passes 2^64: divide them at every site")
    return RecordDict({"sums": MetricRecord(sums)})


def _bins(config: ConfigRecord, arrays: Any, context: Context, x: Rows, y: Floats, w: Floats) -> RecordDict:
    """Return how many rows lie between the edges."""
    edges = _parts(arrays["edges"], config, np.uint32, x.shape[1])
    if sum(len(each) + 1 for each in edges) > LARGEST_ANSWER:
        raise UpdateError("a query asks for too many counts at once")
    return _scaled(bins.counts(x, edges), config)


def _grow(config: ConfigRecord, arrays: Any, context: Context, x: Rows, y: Floats, w: Floats) -> RecordDict:
    """Return, for each open node, the sums of g and h over its rows in each bin, the missing ones in the last."""
    objective, outputs = _objective(config), max(int(config["classes"]), 1)  # type: ignore[arg-type]
    cuts = _parts(arrays["cuts"], config, np.float32, x.shape[1])
    features, splits, left, values = (arrays[name] for name in ("features", "splits", "left", "values"))
    forest = Forest.checked(features, splits, left, values, x.shape[1])
    group, parallel, done = (int(config[name]) for name in ("group", "parallel", "done"))  # type: ignore[arg-type]
    opened, depth = np.asarray(arrays["open"], np.int64).reshape(-1, 2), int(config["depth"])  # type: ignore[arg-type]
    widths = np.array([len(each) + 2 for each in cuts])
    inside = (opened >= 0).all() and (opened < [group, forest.features.shape[1]]).all()
    if (
        not inside
        or done < 0
        or done + group != len(forest)
        or group != outputs * parallel
        or outputs > 1000
        or parallel < 1
    ):
        raise ForgeryError("the query for histograms asks for trees that did not come with it")
    if len(opened) * widths.sum() * 2 > LARGEST_ANSWER:
        raise UpdateError("a query asks for too many sums at once: lower max_bin, max_depth or num_parallel_tree")
    places = np.stack([np.searchsorted(bounds, column, side="right") for bounds, column in zip(cuts, x.T, strict=True)])
    places[np.isnan(x.T)] = np.repeat(widths - 1, np.isnan(x).sum(axis=0))
    places += np.concatenate([[0], np.cumsum(widths)[:-1]])[:, None]
    finished = Forest(*(array[:done] for array in forest.arrays()))
    margins = finished.margins(x, float(config["base"]), outputs, parallel)  # type: ignore[arg-type]
    derivatives = gradients(objective, margins, y, w * np.where(y == 1, float(config["positive"]), 1.0))  # type: ignore[arg-type]
    sums = np.zeros((len(opened), widths.sum(), 2))
    for tree in sorted(set(opened[:, 0].tolist())):
        drawn = _drawn(context, float(config["subsample"]), done + tree, len(x))  # type: ignore[arg-type]
        at, output = forest.reach(done + tree, x, depth), tree // parallel
        for place in np.flatnonzero(opened[:, 0] == tree):
            here = np.flatnonzero((at == opened[place, 1]) & drawn)
            flat = places[:, here].ravel()
            for order, each in enumerate(derivatives):
                of_rows = np.tile(each[here, output], len(cuts))
                sums[place, :, order] = np.bincount(flat, of_rows, minlength=widths.sum())
    return _scaled(sums, config)


_STAGES = {"begin": _begin, "bins": _bins, "grow": _grow}


def _scaled(sums: Floats, config: ConfigRecord) -> RecordDict:
    """Return sums times a power of two that makes those of all rows fit."""
    scale = int(config["scale"])  # type: ignore[arg-type]
    if abs(scale) > 1000:
        raise ForgeryError("the query for histograms has a scale that leaves nothing")
    array = Array(np.ldexp(sums, -scale))
    return RecordDict({"histograms": ArrayRecord({"sums": array})})


def _parts(flat: Any, config: ConfigRecord, kind: type, columns: int) -> list[Any]:
    """Return what came for each column, which ascends."""
    sizes = [int(n) for n in config["sizes"]]  # type: ignore[union-attr]
    if len(sizes) != columns:
        raise UpdateError(f"this client has {columns} columns, and most others {len(sizes)}")
    if flat.dtype != kind or flat.ndim != 1 or min(sizes) < 0 or sum(sizes) != len(flat):
        raise ForgeryError("the query for histograms has bins that are damaged")
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    if not all((part[:-1] < part[1:]).all() for part in parts):
        raise ForgeryError("the query for histograms has bins that do not ascend")
    return parts


def _drawn(context: Context, share: float, tree: int, rows: int) -> npt.NDArray[np.bool_]:
    """Return which rows a tree is grown of: the same for all its levels, and nobody else's knowledge."""
    if share == 1:
        return np.ones(rows, np.bool_)
    if STATE not in context.state.config_records:
        context.state[STATE] = ConfigRecord({"seed": secrets.randbits(62)})
    seed = int(context.state.config_records[STATE]["seed"])  # type: ignore[arg-type]
    return np.random.default_rng([seed, tree]).random(rows) < share
