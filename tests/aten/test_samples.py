"""PyTorch's own samples of its operators, forward and backward, wherever an operator that we claim can take them.

A sample outside of an operator's domain is brought into it by the claim; one that is refused with a clear error is left
out; whatever runs has to agree with plain PyTorch to the error that the documentation states.
"""

from __future__ import annotations

import math
from itertools import islice

import pytest
import torch
from samples import NAMES, REFUSALS, Call, calls, hidden
from torch import Tensor

import tacit
from tacit import SecretTensor
from tacit.watch.claims import CLAIMS, Claim

SAMPLES, LARGEST = 4, 420
"""Of each operator in the fast tests, and their elements; the slow ones take all, up to a hundred."""


def plain(x: Tensor) -> Tensor:
    return (tacit.reveal(x.detach()) if isinstance(x, SecretTensor) else x.detach()).double()


def differentiated(results: list[Tensor], leaves: list[Tensor]) -> list[Tensor | None]:
    """The gradients of a weighted sum of all results."""
    total = [(r * torch.linspace(-1, 1, r.numel()).view(r.shape)).sum() for r in results if r.requires_grad]
    if total:
        sum(total[1:], total[0]).backward()
    return [x.grad for x in leaves]


def close(got: Tensor, want: Tensor, error: float) -> None:
    """Equal up to the error, relative to the largest element."""
    got, want = plain(got), plain(want)
    assert got.shape == want.shape
    if want.numel() and bool(want.isfinite().all()):
        scale = max(1.0, float(want.abs().max()))
        torch.testing.assert_close(got, want, atol=error * scale, rtol=0)


def agrees(call: Call, claim: Claim) -> bool:
    """Compare results and gradients; return whether the operator takes this sample and made secrets of it."""
    try:
        want, leaves = call.run(Tensor.clone)
        wanted = differentiated(want, leaves)
    except RuntimeError:
        return False  # the operator no longer takes it within the domain
    try:
        got, leaves = call.run(hidden)
        found = differentiated(got, leaves)
    except REFUSALS:
        return False
    for g, w in zip([*got, *found], [*want, *wanted], strict=True):
        assert (g is None) == (w is None)
        if g is not None and w is not None:
            close(g, w, claim.error)
    return any(isinstance(g, SecretTensor) for g in got)


def agree(name: str, limit: int) -> int:
    """Compare samples; return how many ran."""
    largest = LARGEST if limit == SAMPLES else math.inf
    return sum(agrees(call, CLAIMS[name]) for call in islice(calls(name, CLAIMS[name], largest), limit))


@pytest.mark.parametrize("name", CLAIMS)
def test_samples_agree(name, session):
    torch.manual_seed(0)

    assert agree(name, SAMPLES) > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CLAIMS)
def test_all_samples_agree(name, session):
    torch.manual_seed(0)

    assert agree(name, 100) > 0


def test_all_claims_are_operators_of_pytorch():
    assert set(CLAIMS) <= NAMES
