"""What is rounded to be given out: exactly, so that computing and revealing it again tells nothing new."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import tacit
from tacit.api import release
from tacit.functions.whole import rounded

from .world import World

LIMIT = 1 << 62


@pytest.mark.parametrize("bits", [1, 16, 20, 44])
def test_a_number_is_rounded_to_the_nearest_and_halves_go_up(world: World, bits: int) -> None:
    half = 1 << (bits - 1)
    ends = [0, 1, -1, half, -half, half - 1, -half - 1, 3 * half, -3 * half, 2 * half, LIMIT - 1, 1 - LIMIT]
    x = torch.cat([torch.tensor(ends), torch.randint(1 - LIMIT, LIMIT, (200,)), torch.randint(-half, half, (200,))])
    want = (x >> bits) + (x >> (bits - 1) & 1)

    for known in (False, True):
        secret = world.share(x, 0, known=known)
        secret.declare(frac_bits=bits + 3)
        out = rounded(secret, 3)

        assert out.frac_bits == 3
        assert torch.equal(world.ring(out), want)
        assert torch.equal(world.ring(secret), x)
        assert rounded(secret, bits + 3) is secret
    assert world.ring(rounded(world.share(torch.empty(0, 3), 20), 16)).shape == (0, 3)


PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "product": lambda a, b: a * b,
    "sum of products": lambda a, b: a * b - b * b + a,
    "part of a product": lambda a, b: (a * b)[1::2],
    "matrix product": lambda a, b: a.view(4, 6) @ b.view(6, 4),
    "layer": lambda a, b: torch.nn.functional.linear(a.view(4, 6), b.view(4, 6), a[:4]),
    "its maximum, which is open": lambda a, b: (a * b) + 0 * (a * b).relu(),
}


@pytest.mark.parametrize("parties", [2, 3])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_that_is_computed_and_revealed_again_is_the_same(name: str, parties: int) -> None:
    product = PRODUCTS[name]
    with tacit.session(parties=[f"party{k}" for k in range(parties)]) as session:
        a, b = tacit.share(torch.rand(24) * 3, "party0"), tacit.share(torch.rand(24) * 3, "party1")
        exact = product(tacit.reveal(a).double(), tacit.reveal(b).double())

        seen = [tacit.reveal(product(a, b)) for _ in range(12)]
        given = [torch.stack(list(release(product(a, b), "client").values())).sum(0) for _ in range(4)]

        assert session.embedded
    torch.testing.assert_close(seen[0].double(), exact, atol=2**-17, rtol=0)
    assert all(torch.equal(again, seen[0]) for again in seen)
    assert all(torch.equal(again * 2.0**-16, seen[0]) for again in given)


def test_a_truncation_in_its_place_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.api.revealing.rounded", lambda x, frac_bits: x.settle(frac_bits))
    with tacit.session():
        a = tacit.share(torch.rand(500) * 3, "alice")

        seen = [tacit.reveal(a * a) for _ in range(3)]

    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize("roles", [["alice", "bob", "crypto-producer"], ["alice", "bob"]], ids=["producer", "two"])
@pytest.mark.parametrize("rows", [1, 3, 3000], ids=str)
def test_what_is_revealed_may_lie_in_memory_in_any_order(roles: list[str], rows: int) -> None:
    x = torch.randint(-999, 999, (rows, 5))

    with tacit.session(roles=roles):
        secret = tacit.share(x)
        shapes = secret.t(), secret[:, 3], secret[:1, ::2], secret[:, :1].expand(rows, 4), secret[:0].t()
        found = [tacit.reveal(each) for each in shapes]

    for given, expected in zip(found, (x.t(), x[:, 3], x[:1, ::2], x[:, :1].expand(rows, 4), x[:0].t()), strict=True):
        assert torch.equal(given, expected)
