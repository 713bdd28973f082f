"""Memory of tensors that are gone is used for the next ones."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from tacit.ring.memory import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        rows = [torch.ones(1_000_000, dtype=torch.int64) for _ in range(4)]
        del rows
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert keep_freed()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_tensors_of_one_size_after_another_cause_no_page_faults() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100)

    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 100  # fresh memory would cost 20 times 4 times 2,000
