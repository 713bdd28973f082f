"""What all sites and the server agree on. A site that runs this file cannot be talked into anything else."""

from __future__ import annotations

from tacit.federated import PairwiseMasks, Settings

FORM = PairwiseMasks(Settings(minimum=5, limit=64.0, max_examples=1000))
