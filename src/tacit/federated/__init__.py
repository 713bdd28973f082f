"""Federated learning on Flower, with a server that sees no one's update.

::

    strategy.py   SecureAggregation: any Flower strategy, at the server
    mod.py        SecureAggregationMod: any ClientApp, at the client
    masked.py     form 1, one server: pairwise masks       secagg/  the protocol itself
    parties.py    form 2, several computing parties        robust.py  medians, trimmed means, clipping
                  computation.py  what they compute        sealed.py  what clients send them
                  aggregator.py   one of them, a process   aggregators.py  who they are   calls.py  asking them
    aggregation.py  update.py  wire.py                     what the forms share
    privacy.py    clipping, distributed noise, accounting  budget.py  a client's own account of it
    identity.py   who takes part                           local.py  a grid in this process
"""

from tacit.federated.aggregation import from_node_config
from tacit.federated.aggregators import Aggregators
from tacit.federated.computation import Terms
from tacit.federated.identity import Identity, Roster, enroll
from tacit.federated.local import LocalGrid
from tacit.federated.masked import PairwiseMasks
from tacit.federated.mod import SecureAggregationMod
from tacit.federated.parties import ComputingParties, InsecureEmbeddedParties
from tacit.federated.privacy import Privacy
from tacit.federated.robust import ClippedMean, Median, NormFilter, TrimmedMean
from tacit.federated.secagg import Settings
from tacit.federated.strategy import SecureAggregation

__all__ = [
    "Aggregators",
    "ClippedMean",
    "ComputingParties",
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
    "Settings",
    "Terms",
    "TrimmedMean",
    "enroll",
    "from_node_config",
]
