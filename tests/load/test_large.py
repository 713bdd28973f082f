"""Tensors so large that nothing may have them twice. Slow."""

from __future__ import annotations

import gc
import os

import pytest
import torch

import tacit
from tacit.api import embedded
from tacit.session.config import Config

from .measured import Book

ELEMENTS = int(float(os.environ.get("TACIT_LARGE", "5e7")))
"""More of them take as many times the memory: some 150 bytes an element, for all roles together."""

MOST = 1.6
"""What a step may hold at most, for what there must be before or after it."""


@pytest.mark.slow
@pytest.mark.unchecked  # a session that checks itself has all tensors in the plain as well
@pytest.mark.timeout(600)
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the system does not say what was held")
@pytest.mark.parametrize("protocol", ["additive", "two-party"])
def test_no_step_holds_a_large_tensor_twice(protocol: str) -> None:
    gc.collect()  # what other tests have left; nothing is collected by hand from here on
    book = Book(8 * ELEMENTS)
    with embedded(Config.embedded(("alice", "bob"), protocol=protocol)):
        with book.step("data"):
            x = torch.arange(ELEMENTS)
        with book.step("share"):
            a = tacit.share(x, owner="alice")
        with book.step("share by another"):
            b = tacit.share(x, owner="bob")
        with book.step("add"):
            c = a + b
        del a, b
        with book.step("multiply"):
            d = c * 3
        with book.step("sum"):
            total = tacit.reveal(d.sum())
        with book.step("forget"):
            del c
        with book.step("reveal"):
            found = tacit.reveal(d, to="alice")

    print()
    held = 0.0
    for name, (most, after) in book.steps.items():
        ratio = most / max(held, after)
        print(f"{protocol} {name}: {held:.2f} tensors before, at most {most:.2f}, {after:.2f} afterwards: {ratio:.2f}")
        assert ratio < MOST, name
        held = after
    assert int(total) == 3 * ELEMENTS * (ELEMENTS - 1)
    assert torch.equal(found, x * 6)
