"""The second form: what all sites, the server and every computing party agree on. `tacit aggregate` reads this file."""

from __future__ import annotations

from tacit.federated import ComputingParties, Terms, TrimmedMean

FORM = ComputingParties(Terms(TrimmedMean(1), minimum=5))
