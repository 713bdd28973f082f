"""The server: FedAvg over the average that secure aggregation leaves it, and the model as a file of plain numbers."""

from __future__ import annotations

from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from sklearn.linear_model import LogisticRegression

from digits.data import CLASSES, FEATURES, load
from digits.parties import FORM as PARTIES
from digits.settings import FORM as MASKS
from tacit.federated import Roster, SecureAggregation
from tacit.federated.parameters import get_model_params, save_arrays, set_initial_params, set_model_params

app = ServerApp()


def model_of(arrays: ArrayRecord | None = None) -> LogisticRegression:
    """Return a scikit-learn model with these parameters, or with zeros."""
    model = set_initial_params(LogisticRegression(), CLASSES, FEATURES)
    return model if arrays is None else set_model_params(model, arrays.to_numpy_ndarrays())


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train for some rounds, and write the model."""
    config = context.run_config
    _, _, x, y = load(str(config["data"]))

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"accuracy": float(model_of(arrays).score(x, y))})

    sites = int(config["sites"])
    everyone = FedAvg(fraction_evaluate=0, min_train_nodes=sites, min_available_nodes=sites)
    aggregators, certs = str(config.get("aggregators", "")), str(config.get("certs", ""))
    form = PARTIES.at(aggregators, certs) if aggregators else MASKS
    strategy = SecureAggregation(everyone, Roster.load(str(config["roster"])), form)
    try:
        result = strategy.start(
            grid,
            ArrayRecord(get_model_params(model_of())),
            num_rounds=int(config["rounds"]),
            timeout=float(config["timeout"]),
            train_config=ConfigRecord(),
            evaluate_fn=evaluate,
        )
    finally:  # what happened in each round, beside the model: who reads the log of a ServerApp has to ask for it
        Path(str(config["model"])).with_suffix(".txt").write_text("\n".join(map(str, strategy.report)) + "\n")
    save_arrays(result.arrays, str(config["model"]))
