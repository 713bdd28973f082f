"""Which of Flower's strategies work on an average, and what serves in place of those that do not."""

from __future__ import annotations

import logging

from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from tacit.errors import FederatedError
from tacit.federated.form import Aggregation

__all__ = ["check_strategy"]

log = logging.getLogger("flwr.tacit")

_PRIVACY = "it clips or counts single updates: wrap the strategy inside it, and give the form Privacy(clip, ...)"
_TREES = "trees cannot be averaged: FedXgbHistogram(params, roster, form) grows XGBoost's from secure sums"

UNFIT = {
    "FedMedian": "wrap FedAvg, with ComputingParties(Terms(Median()))",
    "FedTrimmedAvg": "wrap FedAvg, with ComputingParties(Terms(TrimmedMean(k)))",
    "Krum": "wrap FedAvg, with ComputingParties(Terms(NormFilter())) or Terms(TrimmedMean(k))",
    "MultiKrum": "wrap FedAvg, with ComputingParties(Terms(NormFilter())) or Terms(TrimmedMean(k))",
    "Bulyan": "wrap FedAvg, with ComputingParties(Terms(TrimmedMean(k)))",
    "QFedAvg": "it weighs each update by its client's loss, and no form serves it: FedAvg or FedProx are nearest",
    "FedXgbBagging": _TREES,
    "FedXgbCyclic": _TREES,
    "DifferentialPrivacyServerSideFixedClipping": _PRIVACY,
    "DifferentialPrivacyServerSideAdaptiveClipping": _PRIVACY,
    "DifferentialPrivacyClientSideFixedClipping": _PRIVACY,
    "DifferentialPrivacyClientSideAdaptiveClipping": _PRIVACY,
}
"""What a strategy that looks at single updates would make of an average is something else, without a word."""


def check_strategy(strategy: Strategy, form: Aggregation) -> None:
    """Raise `FederatedError` for a strategy that cannot work on an average, or weighs clients in another way."""
    for name, instead in UNFIT.items():
        kind = getattr(flower, name, None)
        if kind is not None and isinstance(strategy, kind):
            raise FederatedError(f"{name} looks at single updates, and gets only their average here: {instead}")
    key = getattr(strategy, "weighted_by_key", form.weighted_by)
    if key != form.weighted_by:
        raise FederatedError(
            f"the strategy weighs clients by {key!r}, and they weigh themselves by {form.weighted_by!r}: write "
            f"weighted_by={key!r} in the form's settings, which clients and server agree on"
        )
    for name in ("train_metrics_aggr_fn", "evaluate_metrics_aggr_fn"):
        if getattr(strategy, name, aggregate_metricrecords) is not aggregate_metricrecords:
            log.warning("%s gets one record here, the average of all clients' metrics", name)
