"""Federated learning on Flower, with a server that sees no one's update.

::

    server.py     SecureAggregation: any Flower strategy, at the server
    client.py     SecureAggregationMod: any ClientApp, at the client
    masks/        form 1, one server: pairwise masks
    parties/      form 2, several computing parties: medians, trimmed means, clipping
    trees/        XGBoost's trees from securely summed histograms
    privacy/      clipping, distributed noise, accounting, a client's own budget
    form.py       what the forms have in common            update.py   a client's contribution as one vector
    identity.py   who takes part                           boxes.py    what one encrypts for another
    records.py    Tacit's records in Flower's messages     view.py     what a client was asked to compute on
    site.py       a SuperNode for approved apps only       local.py    a grid in this process
    analytics.py  counts, means and histograms by queries  legacy.py   apps with a NumPyClient
    resuming.py   runs that go on where they stopped
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacit.federated.analytics import Tally, tally
    from tacit.federated.client import SecureAggregationMod
    from tacit.federated.form import from_node_config
    from tacit.federated.identity import Identity, Roster, enroll
    from tacit.federated.legacy import numpy_client_app
    from tacit.federated.local import LocalGrid
    from tacit.federated.masks.form import PairwiseMasks
    from tacit.federated.masks.settings import Settings
    from tacit.federated.parties.directory import Aggregators
    from tacit.federated.parties.form import ComputingParties, InsecureEmbeddedParties
    from tacit.federated.parties.rules import ClippedMean, Median, NormFilter, TrimmedMean
    from tacit.federated.parties.terms import Terms
    from tacit.federated.privacy.noise import Privacy
    from tacit.federated.server import SecureAggregation, SecureGrid
    from tacit.federated.trees.answers import answer_histograms
    from tacit.federated.trees.strategy import FedXgbHistogram

__all__ = [
    "Aggregators",
    "ClippedMean",
    "ComputingParties",
    "FedXgbHistogram",
    "Identity",
    "InsecureEmbeddedParties",
    "LocalGrid",
    "Median",
    "NormFilter",
    "PairwiseMasks",
    "Privacy",
    "Roster",
    "SecureAggregation",
    "SecureAggregationMod",
    "SecureGrid",
    "Settings",
    "Tally",
    "Terms",
    "TrimmedMean",
    "answer_histograms",
    "enroll",
    "from_node_config",
    "numpy_client_app",
    "tally",
]

_HOMES = {
    "SecureAggregationMod": "tacit.federated.client",
    "from_node_config": "tacit.federated.form",
    "Identity": "tacit.federated.identity",
    "Roster": "tacit.federated.identity",
    "enroll": "tacit.federated.identity",
    "LocalGrid": "tacit.federated.local",
    "numpy_client_app": "tacit.federated.legacy",
    "PairwiseMasks": "tacit.federated.masks.form",
    "Settings": "tacit.federated.masks.settings",
    "Aggregators": "tacit.federated.parties.directory",
    "ComputingParties": "tacit.federated.parties.form",
    "InsecureEmbeddedParties": "tacit.federated.parties.form",
    "ClippedMean": "tacit.federated.parties.rules",
    "Median": "tacit.federated.parties.rules",
    "NormFilter": "tacit.federated.parties.rules",
    "TrimmedMean": "tacit.federated.parties.rules",
    "Terms": "tacit.federated.parties.terms",
    "Privacy": "tacit.federated.privacy.noise",
    "SecureAggregation": "tacit.federated.server",
    "SecureGrid": "tacit.federated.server",
    "FedXgbHistogram": "tacit.federated.trees.strategy",
    "answer_histograms": "tacit.federated.trees.answers",
    "Tally": "tacit.federated.analytics",
    "tally": "tacit.federated.analytics",
}
"""Where each name lives. It is imported when it is used: a SuperNode starts a process for each message, and one that
masks needs neither PyTorch nor the libraries of differential privacy."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tacit.federated' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
