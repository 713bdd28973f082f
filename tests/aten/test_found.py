"""What was found among values, and the values: they compare as PyTorch's do, though one of them was truncated since."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import tacit
from tacit.errors import DataError, PrecisionError

RELATIONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
UNITS = 2.0**-14
"""How far apart values of a row are that differ at all: some units, so that PyTorch says what is right."""

FOUND: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda x: x.max(-1, keepdim=True).values,
    "min": lambda x: x.min(-1, keepdim=True).values,
    "max of all": lambda x: x.max(),
    "min of all": lambda x: x.min(),
    "amax": lambda x: x.amax((0, 1)),
    "amin": lambda x: x.amin((0, 1), keepdim=True),
    "aminmax": lambda x: torch.stack(x.aminmax(dim=-1, keepdim=True)),
    "topk": lambda x: x.topk(3, -1).values[:, -1:],
    "least": lambda x: x.topk(2, -1, largest=False).values.narrow(1, 1, 1),
    "kthvalue": lambda x: x.kthvalue(4, -1, keepdim=True).values,
    "median": lambda x: x.median(-1, keepdim=True).values,
    "median of all": lambda x: x.median(),
    "sort": lambda x: x.sort(-1).values[:, 1:2],
    "cummax": lambda x: x.cummax(-1).values,
    "cummin": lambda x: x.cummin(-1).values,
    "quantiles": lambda x: x.quantile(torch.tensor([0.0, 1.0], dtype=x.dtype), -1, keepdim=True),
    "maximum": lambda x: torch.maximum(x, x.flip(1)),
    "minimum": lambda x: torch.minimum(x.median(-1, keepdim=True).values, x),
    "fmax": lambda x: torch.fmax(x, x.kthvalue(5, -1, keepdim=True).values),
    "clamp": lambda x: x.clamp(x.kthvalue(2, -1, keepdim=True).values, x.kthvalue(5, -1, keepdim=True).values),
    "where": lambda x: torch.where(x == x.max(-1, keepdim=True).values, x, x.min(-1, keepdim=True).values),
    "gather": lambda x: x.gather(1, x.argmin(-1, keepdim=True)),
    "relu": lambda x: x.relu(),
    "abs": lambda x: x.abs(),
    "joined": lambda x: torch.cat([x[:1].max(-1, keepdim=True).values, x[1:].min(-1, keepdim=True).values]),
}

VALUES: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda x: x,
    "copy": lambda x: x.clone(),
    "rows": lambda x: torch.stack([x[0], x[1], x[2]]),
    "turned twice": lambda x: x.t().t(),
    "other way": lambda x: x.neg().neg(),
    "buffer": lambda x: torch.zeros_like(x).copy_(x),
    "written to": lambda x: x.clone().index_fill_(1, torch.tensor([2]), 0.0),
}


@pytest.fixture(
    scope="module",
    params=["additive", *(pytest.param(name, marks=pytest.mark.slow) for name in ("two-party", "plain"))],
)
def scheme(request: pytest.FixtureRequest) -> Iterator[object]:
    with tacit.session(protocol=request.param) as opened:
        yield opened


def factors(random: torch.Generator, width: int = 7) -> tuple[Tensor, Tensor]:
    """Factors of products of many bits: small ones, those at both ends of the range, and equal ones."""
    ends = torch.tensor([[2.0], [2.0**13.9], [2.0**7]], dtype=torch.float64)
    while True:
        a, b = ((torch.rand(3, width, generator=random, dtype=torch.float64) * 2 - 1) * ends for _ in range(2))
        a[1, :2], b[1, 0], b[1, 1] = 2.0**13.9, 2.0**13.9, -(2.0**13.9)
        a, b = (v.mul(2**16).round() / 2**16 for v in (a, b))
        a[2, -1], b[2, -1] = a[2, 0], b[2, 0]
        row = torch.cat([(a * b).flatten(), -(a * b).flatten(), torch.zeros(1)]).sort().values.diff()
        if bool(((row == 0) | (row > UNITS)).all()):
            return a, b


def same(got: Callable[[Tensor, Tensor], Tensor], pairs: list[tuple[Tensor, Tensor]]) -> None:
    (secret, other), (plain, beside) = pairs
    assert torch.equal(tacit.reveal(got(secret, other)), got(plain, beside)), got


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_compares_with_the_values_as_in_pytorch(name, scheme, random):
    a, b = factors(random)
    x, plain = tacit.share(a, owner="alice") * tacit.share(b, owner="bob"), a * b
    pairs = [(x, FOUND[name](x)), (plain, FOUND[name](plain))]

    for relation in RELATIONS:
        same(relation, pairs)
        same(lambda v, m, relation=relation: relation(m, v), pairs)
    same(torch.isclose, pairs)
    same(lambda v, m: (v == m).logical_or(v > m), pairs)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("name", VALUES)
def test_so_do_views_and_copies_of_the_values(name, before, scheme, random):
    """Made before or after something was found among them, by the same or by others."""
    a, b = factors(random)
    x, plain = tacit.share(a, owner="alice") * tacit.share(b, owner="bob"), a * b
    values = [VALUES[name](v) for v in (x, plain)] if before else []
    found = [[FOUND[f](v) for f in ("max", "min", "median")] for v in (x, plain)]
    values = values or [VALUES[name](v) for v in (x, plain)]
    again = [FOUND["min"](v) for v in values]

    for relation in (operator.le, operator.gt, operator.eq):
        for k in range(3):
            same(relation, [(v, f[k]) for v, f in zip(values, found, strict=True)])
        same(relation, list(zip((x, plain), again, strict=True)))


def test_so_do_products_that_are_computed_again_and_rows_one_by_one(scheme, random):
    a, b = factors(random)
    s, t = tacit.share(a, owner="alice"), tacit.share(b, owner="bob")

    for relation in (operator.ge, operator.eq, operator.lt):
        same(relation, [(s * t, (s * t).max(-1, keepdim=True).values), (a * b, (a * b).max(-1, keepdim=True).values)])
        x, plain = s * t, a * b
        for k in range(3):
            same(relation, [(x[k, 1:], x[k, 1:].min()), (plain[k, 1:], plain[k, 1:].min())])
            same(relation, [(x[k].relu(), x.relu().max()), (plain[k].relu(), plain.relu().max())])


def test_what_is_not_rounded_is_compared_to_the_last_bit(scheme):
    tiny = torch.tensor([2.0**-10, -(2.0**-10), 0.0])
    x = tacit.share(tiny, owner="alice") * tacit.share(torch.tensor(2.0**-10), owner="bob")
    zero = tacit.share(torch.zeros(3), owner="bob")
    whole = tacit.share(torch.tensor([3.0, 3.0, 3.0])) + x

    assert tacit.reveal(x > zero).tolist() == [True, False, False]
    assert tacit.reveal(zero > x).tolist() == [False, True, False]
    assert tacit.reveal(torch.maximum(x, zero) > zero).tolist() == [True, False, False]
    assert tacit.reveal(whole > whole.floor()).tolist() == [True, True, False]
    assert tacit.reveal(whole.long() < whole).tolist() == [True, True, False]


@pytest.mark.parametrize("bad", [4, -5])
def test_a_session_that_looks_at_ranges_names_positions_that_are_none(bad):
    table = torch.randn(4, 2)
    uses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "embedding": lambda t, i: torch.nn.functional.embedding(i, t),
        "index": lambda t, i: t[i],
        "index_select": lambda t, i: t.index_select(0, i),
        "gather": lambda t, i: t.gather(0, i[:, None].expand(2, 2)),
    }
    with tacit.session(range_check=True) as session:
        t, nothing = tacit.share(table), tacit.share(torch.zeros(2).long(), owner="bob")
        for use in uses.values():
            for values, good in (([0, 3], True), ([1, bad], False)):
                index = tacit.share(torch.tensor(values), owner="alice") + nothing
                if good:
                    assert torch.allclose(tacit.reveal(use(t, index)), use(table, torch.tensor(values)), atol=2**-14)
                    continue
                with pytest.raises(PrecisionError, match=r"a tensor of positions .*test_found.py:\d+.* none of"):
                    use(t, index)
        named = [entry.name for entry in session.ledger.entries if entry.name]
        assert named.count("within range") == 8
        t, before = tacit.share(table), session.meter.cost.rounds
        tacit.reveal(t[t[:, :1].argmax(0)])
        found = session.meter.cost.rounds - before
    with tacit.session() as session:
        t = tacit.share(table)
        before = session.meter.cost.rounds
        tacit.reveal(t[t[:, :1].argmax(0)])
        assert session.meter.cost.rounds - before == found  # what was found is known to be a position


def test_so_it_names_weights_that_nothing_is_drawn_by():
    with tacit.session(range_check=True):
        assert int(tacit.reveal(torch.multinomial(tacit.share(torch.tensor([0.0, 1.0])), 1))) == 1
        for weights in ([0.0, 0.0], [2.0, -1.0], [2.0**15, 2.0**15]):
            with pytest.raises(PrecisionError, match=r"the weights of torch.multinomial"):
                torch.multinomial(tacit.share(torch.tensor(weights)), 1)


def test_public_positions_that_are_none_are_refused(session):
    t = tacit.share(torch.randn(4, 2))
    with pytest.raises(DataError, match="none of 0 to 3"):
        torch.nn.functional.embedding(torch.ones_like(tacit.share(torch.zeros(2).long())) * 4, t)
