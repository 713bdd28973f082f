"""Backends, instruction sets and threads that kernels are tested on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tacit.protocols.additive.kernels import Reference

from .operands import native_kernels


@pytest.fixture(params=["reference", "native"])
def backend(request: pytest.FixtureRequest) -> Reference:
    """The kernels of the additive scheme, and with them those of the ring, of each backend."""
    return Reference() if request.param == "reference" else native_kernels()


@pytest.fixture(params=["portable", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    use_isa = pytest.importorskip("tacit.ring.kernels.native").use_isa
    try:
        use_isa(request.param)
    except ValueError:
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    use_isa("best")


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """How many threads the native kernels are told to use; PyTorch's own passes, in the portable ones, use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)
    yield request.param
    torch.set_num_threads(before)
