"""Replicas of secret models: n ranks train as one does on the rows of all."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from tests.ranks.forked import run_ranks

SEED = int(os.environ.get("TACIT_TEST_SEED", random.randrange(1 << 30)))


@pytest.mark.parametrize(
    ("ranks", "protocol", "cases"),
    [
        (2, "additive", ["ddp", "small", "apart"]),
        pytest.param(2, "additive", [], marks=pytest.mark.slow),
        pytest.param(1, "additive", [], marks=pytest.mark.slow),
        pytest.param(4, "additive", ["ddp", "hook", "buffers"], marks=pytest.mark.slow),
        pytest.param(2, "two-party", ["ddp", "sampled", "small"], marks=pytest.mark.slow),
        pytest.param(2, "plain", [], marks=pytest.mark.slow),
    ],
    ids=lambda x: "-".join(x) or "all" if isinstance(x, list) else str(x),
)
def test_gradients_of_ranks_are_those_of_one_model_on_all_rows(ranks: int, protocol: str, cases: list[str]) -> None:
    printed = run_ranks(ranks, "training.py", protocol, str(SEED), *cases)

    assert all("as one model" in text for text in printed), (SEED, printed)


@pytest.mark.parametrize(("ranks", "times"), [(2, 1), pytest.param(3, 3, marks=pytest.mark.slow)], ids=lambda x: str(x))
def test_each_rank_reads_its_own_rows_and_together_they_have_all(ranks: int, times: int, tmp_path: Path) -> None:
    for turn in range(times):
        printed = run_ranks(ranks, "shards.py", str(tmp_path), str(SEED % (1 << 20) + turn))

        assert all("as it should be" in text for text in printed), (SEED, printed)
