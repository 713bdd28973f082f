"""Contents that are public by construction, and programs of PyTorch's that look at them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tacit
from tacit.errors import RevealError, UnsupportedOperator

COVERS = {torch.ops.aten.set_.source_Tensor}
"""See tests/test_assignment.py."""

INITS = {
    "trunc_normal_": lambda t: nn.init.trunc_normal_(t, std=0.5),
    "orthogonal_": nn.init.orthogonal_,
    "dirac_": lambda t: nn.init.dirac_(t[..., None]),
    "eye_": nn.init.eye_,
    "sparse_": lambda t: nn.init.sparse_(t, 0.5),
    "kaiming_normal_": nn.init.kaiming_normal_,
    "kaiming_uniform_": nn.init.kaiming_uniform_,
    "xavier_normal_": nn.init.xavier_normal_,
    "xavier_uniform_": nn.init.xavier_uniform_,
    "normal_": nn.init.normal_,
    "uniform_": nn.init.uniform_,
    "ones_": nn.init.ones_,
    "zeros_": nn.init.zeros_,
    "constant_": lambda t: nn.init.constant_(t, 0.25),
}


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("name", INITS)
def test_initialisations_draw_what_pytorch_draws(name, shape, session):
    plain, secret = torch.zeros(shape), tacit.share(nn.Linear(*shape[::-1], bias=False)).weight
    for tensor in (plain, secret):
        torch.manual_seed(3)
        with torch.no_grad():
            INITS[name](tensor)

    torch.testing.assert_close(tacit.reveal(secret.detach()), plain, atol=2**-15, rtol=0)
    one = tacit.share(torch.ones(()))
    torch.testing.assert_close(tacit.reveal(secret.detach() * one), plain, atol=2**-14, rtol=0)


def test_all_initialisations_are_there():
    names = {n for n in nn.init.__all__ if n.endswith("_")}

    assert names == set(INITS)


def test_public_bits_answer_and_secret_ones_do_not(session):
    zeros = torch.zeros_like(tacit.share(torch.ones(3)))

    assert not (zeros > 1).any()
    assert ((zeros < 1) & ~(zeros > 1) | (zeros > 2)).all()
    zeros[0] = tacit.share(torch.tensor(5.0), owner="alice")
    with pytest.raises(RevealError, match=r"tacit\.reveal"):
        bool((zeros > 1).any())
    with pytest.raises(UnsupportedOperator):
        torch.linalg.qr(zeros[:, None])


def test_questions_after_nan_cost_nothing_and_are_answered(session):
    x = tacit.share(torch.tensor([1.0, -2.0]), owner="alice")
    before = session.meter.cost

    assert not torch.isnan(x).any()
    assert torch.isfinite(x).all()
    assert not torch.isinf(x).any()
    assert (session.meter.cost - before).rounds == 0


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("check_nan", [True, False])
def test_anomalies_are_looked_for(check_nan, session):
    x = tacit.share(torch.tensor([1.0, 2.0]), owner="alice").requires_grad_()

    with torch.autograd.detect_anomaly(check_nan=check_nan):
        (x.exp() * torch.tensor([1.0, 0.0]) + x * 3).sum().backward()

    torch.testing.assert_close(tacit.reveal(x.grad), torch.tensor([3 + torch.e, 3.0]), atol=1e-3, rtol=0)
