"""What `make reliability` does, for some of its cases."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "training: bob killed training",
        "training: alice cut off revealing",
        "training: alice delayed training",
        "predictions: server1 killed answering",
        "submissions: client killed committing",
    ],
)
def test_a_disturbed_run_ends_in_words_and_goes_on(case: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "reliability" / "inject.py"), case], capture_output=True, text=True, timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("|") == 8
