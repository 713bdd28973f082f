"""Functions that one party evaluates and the other has the key of, without either seeing what the other has."""

from __future__ import annotations

from tacit.protocols.two_party.oblivious.bins import Bins
from tacit.protocols.two_party.oblivious.evaluation import Evaluated, Functions
from tacit.protocols.two_party.oblivious.programs import Programs
from tacit.protocols.two_party.oblivious.switches import Network, Switches
from tacit.protocols.two_party.oblivious.tables import Shape, keys_of

__all__ = ["Bins", "Evaluated", "Functions", "Network", "Programs", "Shape", "Switches", "keys_of"]
