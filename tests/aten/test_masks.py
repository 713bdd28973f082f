"""What models write to leave elements out: infinities and numbers that no fixed point holds, in all their spellings."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.errors import EncodingError
from tacit.session.session import Session

INF = math.inf
LOW = torch.finfo(torch.float32).min
M = torch.eye(4).bool()
COVERS = {torch.ops.aten._safe_softmax.default}


def put(x: Tensor, value: float) -> Tensor:
    x = x.clone()
    x[M] = value
    return x


SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    **{
        f"{name} {value:g}": (lambda x, f=f, value=value: f(x, value))
        for value in (-INF, LOW, -1e30, -1e20, -9e15, -1e12, -1e9)
        for name, f in {
            "masked_fill": lambda x, v: x.masked_fill(M, v),
            "where": lambda x, v: torch.where(M, v, x),
            "put": put,
            "sum": lambda x, v: x + torch.zeros(4, 4).masked_fill(M, v),
        }.items()
    },
    "difference": lambda x: x - 1e30 * M,
    "full_like": lambda x: torch.where(M, torch.full_like(x, -INF), x),
    "new_full": lambda x: torch.where(M, x.new_full((4, 4), -INF), x),
    "fill_": lambda x: torch.where(M, x.clone().fill_(LOW), x),
    "zeros": lambda x: torch.where(M, torch.zeros_like(x) - 1e38, x),
    "product": lambda x: (x @ x.t()) + torch.zeros(4, 4).masked_fill(M, LOW),
    "cat": lambda x: torch.cat([x, torch.full((4, 1), -INF)], 1),
    "secret bits": lambda x: x + (1 - (x > 0).float()) * LOW,
    "secret choice": lambda x: torch.where(x > 0, x, -INF),
}


@pytest.mark.parametrize("frac_bits", [12, 16, 24])
def test_every_spelling_leaves_out_what_pytorch_leaves_out(frac_bits: int, random: torch.Generator) -> None:
    x = torch.randn(4, 4, generator=random)
    x[:, -1], x[-1, 0] = x[:, -1].abs() + 0.1, 0.5  # no row is masked altogether
    with tacit.session(seed=1, frac_bits=frac_bits):
        for name, f in SPELLINGS.items():
            plain, secret = f(x), f(tacit.share(x, owner="alice"))

            got = tacit.reveal(secret.softmax(-1))

            torch.testing.assert_close(got, plain.softmax(-1), atol=6 * 2.0**-frac_bits + 1e-5, rtol=0, msg=name)
            assert torch.equal(tacit.reveal(secret.argmax(-1)), plain.argmax(-1)), name
            best, where = secret.topk(1, -1)
            assert torch.equal(tacit.reveal(where), plain.topk(1, -1).indices), name
            torch.testing.assert_close(tacit.reveal(best), plain.amax(-1, keepdim=True), atol=0.005, rtol=0, msg=name)


def test_what_is_out_of_reach_compares_and_is_revealed_as_infinite(session: Session) -> None:
    x = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    mask = torch.tensor([[True, False], [False, False]])
    plain = x.masked_fill(mask, -INF)
    for secret in (tacit.share(x).masked_fill(mask, -INF), tacit.share(x).masked_fill(tacit.share(mask), -INF)):
        assert torch.equal(tacit.reveal(secret), plain)
        for f in (
            lambda t: t == -INF,
            lambda t: t != -INF,
            lambda t: t > -INF,
            lambda t: t >= -INF,
            lambda t: t < -1e30,
            lambda t: t > -1e9,
            lambda t: t < 0,
            lambda t: t < INF,
            torch.isinf,
            torch.isnan,
            lambda t: t.exp(),
            lambda t: t.sigmoid(),
            lambda t: t.amax(1),
            lambda t: t.logsumexp(1),
            lambda t: (t / 4).softmax(1),
            lambda t: t.clamp(min=0.0),
        ):
            torch.testing.assert_close(tacit.reveal(f(secret)), f(plain), atol=0.002, rtol=0)
    above = tacit.share(x).masked_fill(mask, INF)
    assert torch.equal(tacit.reveal(above.amin(1)), x.masked_fill(mask, INF).amin(1))
    assert torch.equal(tacit.reveal(above == INF), x.masked_fill(mask, INF) == INF)


def test_no_sum_masks_in(session: Session) -> None:
    with pytest.raises(EncodingError, match="infinite"):
        tacit.share(torch.zeros(2)) + INF
    with pytest.raises(EncodingError, match="too large"):
        tacit.share(torch.zeros(2)) + 1e30
    with pytest.raises(EncodingError, match="NaN"):
        tacit.share(torch.zeros(2)) + torch.tensor([0.0, math.nan])


@pytest.mark.parametrize("shape", [(2, 2, 3, 4), (2, 3, 4)])
def test_a_query_without_a_key_attends_to_nothing(shape: tuple[int, ...], session: Session) -> None:
    q, k, v = torch.randn(3, *shape)
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    want = F.scaled_dot_product_attention(q, k, v, mask)
    low = torch.zeros(3, 3).masked_fill(~mask, LOW)

    for m in (mask, tacit.share(mask)):
        leaf = tacit.share(q).requires_grad_()
        got = F.scaled_dot_product_attention(leaf, tacit.share(k), tacit.share(v), m)
        got.sum().backward()
        torch.testing.assert_close(tacit.reveal(got.detach()), want, atol=0.002, rtol=0)
        assert not tacit.reveal(leaf.grad)[..., 1, :].any()
    got = F.scaled_dot_product_attention(tacit.share(q), tacit.share(k), tacit.share(v), low)
    torch.testing.assert_close(tacit.reveal(got), F.scaled_dot_product_attention(q, k, v, low), atol=0.002, rtol=0)


def test_rows_of_nothing_are_zero_where_pytorch_says_so(session: Session) -> None:
    x = torch.tensor([[1.0, 2.0], [-INF, -INF]])
    mask = torch.tensor([[False], [True]])

    got = torch.ops.aten._safe_softmax(tacit.share(torch.ones(2, 2).cumsum(1)).masked_fill(mask, -INF), -1)

    torch.testing.assert_close(tacit.reveal(got), torch.ops.aten._safe_softmax(x, -1), atol=0.001, rtol=0)


class Causal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), -INF).triu(1))
        self.register_buffer("low", torch.zeros(3).masked_fill(torch.tensor([True, False, False]), LOW))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.mask).softmax(-1) + (x + self.low).softmax(-1)


def test_masks_of_modules_stay_public(session: Session) -> None:
    x = torch.randn(3, 3)

    got = tacit.share(Causal(), owner="alice")(tacit.share(x, owner="bob"))

    torch.testing.assert_close(tacit.reveal(got), Causal()(x), atol=0.001, rtol=0)
