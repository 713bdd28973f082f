"""What `make reliability` does, for some of its cases."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["killed bob training", "cut off alice revealing", "slowed alice training"])
def test_a_disturbed_run_ends_in_words_and_goes_on(case: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "reliability" / "inject.py"), case], capture_output=True, text=True, timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("|") == 7
