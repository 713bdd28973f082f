"""Collectives of `torch.distributed` on secrets: what they are on plain numbers, by every scheme."""

from __future__ import annotations

import os
import random

import pytest
from tests.ranks.forked import run_ranks

import tacit.aten.collectives
from tacit.tensor.registry import HANDLERS

COVERS = {o for o, handler in HANDLERS.items() if handler.__module__ == tacit.aten.collectives.__name__}
"""All of them are called by the program, through the functions of PyTorch that end in them."""

SEED = int(os.environ.get("TACIT_TEST_SEED", random.randrange(1 << 30)))


@pytest.mark.parametrize(
    ("ranks", "protocol"),
    [
        (2, "additive"),
        pytest.param(2, "two-party", marks=pytest.mark.slow),
        pytest.param(1, "additive", marks=pytest.mark.slow),
        pytest.param(4, "additive", marks=pytest.mark.slow),
        pytest.param(3, "two-party", marks=pytest.mark.slow),
        pytest.param(2, "plain", marks=pytest.mark.slow),
    ],
)
def test_collectives_are_those_of_plain_numbers(ranks: int, protocol: str) -> None:
    printed = run_ranks(ranks, "collectives.py", protocol, str(SEED))

    assert all("as they should be" in text for text in printed), (SEED, printed)
