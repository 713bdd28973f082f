"""Memory of tensors that are gone is used for the next ones, and bytes are copied and XORed whatever their number."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from tacit.ring.memory import HUGE_BYTES, SINGLE, copy, xor, xor_into, zeros

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


@pytest.mark.parametrize("size", [0, 1, SINGLE.start - 1, SINGLE.start, SINGLE.stop - 1, SINGLE.stop])
def test_bytes_are_copied_and_combined_whatever_their_number(size: int) -> None:
    x, y = (torch.randint(0, 256, (size,), dtype=torch.uint8) for _ in range(2))
    want, into = x ^ y, torch.empty(size, dtype=torch.uint8)

    copy(into, x)
    apart = xor(x, y)
    joined = xor_into(x, y)

    assert torch.equal(apart, want)
    assert torch.equal(joined, want)
    assert joined is x
    assert torch.equal(into, want ^ y)


def test_bytes_are_combined_with_those_of_another_shape() -> None:
    x, y = (torch.randint(0, 256, shape, dtype=torch.uint8) for shape in ((2, SINGLE.start), (1, SINGLE.start)))

    assert torch.equal(xor(x, y), x ^ y)
    assert torch.equal(xor_into(x.clone(), y), x ^ y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64])
@pytest.mark.parametrize("count", [0, 3, HUGE_BYTES])
def test_zeros_are_those_of_pytorch_and_can_be_written_to(dtype: torch.dtype, count: int) -> None:
    x = zeros((count, 2), dtype)

    assert torch.equal(x, torch.zeros(count, 2, dtype=dtype))
    x.fill_(1)
    assert bool((x == 1).all())
