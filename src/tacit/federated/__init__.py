"""Federated learning on Flower, with a server that sees no one's update.

::

    server.py     SecureAggregation: any Flower strategy, at the server
    client.py     SecureAggregationMod: any ClientApp, at the client
    masks/        form 1, one server: pairwise masks
    parties/      form 2, several computing parties: medians, trimmed means, clipping
    privacy/      clipping, distributed noise, accounting, a client's own budget
    form.py       what the forms have in common            update.py   a client's contribution as one vector
    identity.py   who takes part                           boxes.py    what one encrypts for another
    records.py    Tacit's records in Flower's messages     local.py    a grid in this process
"""

from tacit.federated.client import SecureAggregationMod
from tacit.federated.form import from_node_config
from tacit.federated.identity import Identity, Roster, enroll
from tacit.federated.local import LocalGrid
from tacit.federated.masks.form import PairwiseMasks
from tacit.federated.masks.settings import Settings
from tacit.federated.parties.directory import Aggregators
from tacit.federated.parties.form import ComputingParties, InsecureEmbeddedParties
from tacit.federated.parties.rules import ClippedMean, Median, NormFilter, TrimmedMean
from tacit.federated.parties.terms import Terms
from tacit.federated.privacy.noise import Privacy
from tacit.federated.server import SecureAggregation

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
