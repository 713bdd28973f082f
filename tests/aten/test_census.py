"""The census of PyTorch's public functions, which the documentation counts; see docs/census.py."""

from __future__ import annotations

import census
import pytest


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_public_function_works_or_says_what_to_write():
    counts, failing = census.counted()

    assert not failing, "\n".join(f"{name}: {answers[0].words}" for name, answers in failing.items())
    assert counts == census.COUNTS, "write these into docs/census.py, and run docs/generate.py"
