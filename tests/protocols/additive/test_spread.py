"""Products of what is masked in several terms: exact, without a round, and no more bytes than a round is worth."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.protocols.additive import spread
from tacit.protocols.number import Number
from tacit.ring import kernels
from tacit.session.meter import Cost

from ..world import World

ROWS = 4


def _open(w: World, columns: int) -> Number:
    x = w.share(torch.randn(ROWS, columns))
    w.protocol.together(x)
    return x


def _truncated(w: World, columns: int) -> Number:
    return w.protocol.multiply(_open(w, columns), _open(w, columns)).settle()


def _chosen(w: World, columns: int) -> Number:
    x = _open(w, columns)
    (bit,) = w.protocol.less(_open(w, columns), [0])
    return w.protocol.select([(bit, x)])[0]


def _chosen_truncated(w: World, columns: int) -> Number:
    (bit,) = w.protocol.less(_open(w, columns), [0])
    return w.protocol.select([(bit.invert(), w.protocol.multiply(_open(w, columns), _open(w, columns)))])[0]


def _bits(w: World, columns: int) -> Number:
    low, high = w.protocol.less(_open(w, columns), [-(1 << 16), 1 << 16])
    w.protocol.together(low, high)
    return (low.arithmetic() + high.invert().arithmetic().times_integer(-3)).rescaled(1)


def _residual(w: World, columns: int) -> Number:
    """As logistic regression has it: one secret in two terms, and a whole mask."""
    x = _open(w, columns)
    low, high = w.protocol.less(x, [-(1 << 16), 1 << 16])
    inside = low ^ high
    w.protocol.together(inside, x)
    (part,) = w.protocol.select([(inside, x)])
    return (part + inside.arithmetic().rescaled(1) - _open(w, columns)).rescaled(20)


def _written(w: World, columns: int) -> Number:
    x = w.share(torch.randn(ROWS, columns))
    x.write(-_truncated(w, columns) + _open(w, columns))
    return x


def _scaled(w: World, columns: int) -> Number:
    x = w.protocol.scale(w.protocol.multiply(_open(w, columns), _open(w, columns)), 0.3, 20)
    assert x is not None
    return -x + _open(w, columns).lifted(20)


def _moved(w: World, columns: int) -> Number:
    x = _residual(w, 2 * columns)
    return x.move(lambda t: t[:, ::2].flip(0), view=False).times_integer(5)


Kind = Callable[[World, int], Number]
KINDS: list[Kind] = [_open, _truncated, _chosen, _chosen_truncated, _bits, _residual, _written, _scaled, _moved]


def _transposed(x: Number) -> Number:
    return x.move(lambda t: t.t(), view=True)


def _product(w: World, x: Number, y: Number) -> tuple[Number, Cost]:
    before = w.session.meter.cost
    found = w.protocol.bilinear(x, y, kernels.matmul)
    return found, w.session.meter.cost - before


CASES = [(2, left, right) for left, right in product(KINDS, KINDS)] + [(3, kind, kind) for kind in KINDS]


@pytest.mark.parametrize(("parties", "left", "right"), CASES, ids=lambda v: getattr(v, "__name__", str(v)).strip("_"))
def test_products_are_exact_and_take_no_round(parties: int, left: Kind, right: Kind) -> None:
    w = World(parties)
    x, y = _transposed(left(w, 3)), right(w, 2)

    z, cost = _product(w, x, y)
    open_now = z.settle(4).frac_bits if z.frac_bits > 4 else z.frac_bits  # its premask, if it has one, masks it once

    assert cost.rounds == 0
    assert open_now <= 4
    assert torch.equal(w.ring(z), w.ring(x) @ w.ring(y))
    assert z.scale.frac_bits == x.frac_bits + y.frac_bits


@pytest.mark.parametrize("worth", [200_000, 1_000_000])
def test_a_content_is_opened_once_its_products_have_cost_what_a_round_is_worth(worth: int) -> None:
    w = World(2)
    w.protocol.prices = w.protocol.prices._replace(round=worth)
    x, y = _transposed(_truncated(w, 100)), _open(w, 100)

    rounds, dealt = [], 0
    for _ in range(6 * worth // 200_000):
        z, cost = _product(w, x, y)
        rounds.append(cost.rounds)
        dealt += cost.producer
        assert torch.equal(w.ring(z), w.ring(x) @ w.ring(y))

    assert sum(rounds) == 1
    assert rounds[0] == rounds[-1] == 0
    assert worth - 2 * spread.LESS <= dealt <= worth - spread.LESS


def test_what_is_large_or_no_product_of_matrices_is_opened() -> None:
    w = World(2)
    large = w.protocol.multiply(w.share(torch.ones(1, 5000)), w.share(torch.ones(1, 5000))).settle()
    y = w.share(torch.ones(5000, 1))
    w.protocol.together(y)
    x = _truncated(w, 3)

    assert _product(w, large, y)[1].rounds == 1
    before = w.session.meter.cost.rounds
    w.protocol.bilinear(x, x, torch.mul)
    assert w.session.meter.cost.rounds == before + 1


@pytest.mark.parametrize("written", [False, True])
def test_of_long_sums_nothing_is_kept(written: bool) -> None:
    """A sum may be added to without end, and so may what it is written to."""
    w = World(2)
    x, total, bit = _truncated(w, 3), _open(w, 3), _bits(w, 3)

    for _ in range(400):
        following = total + (x if written else bit)
        if written:
            total.write(following)
        else:
            total = following

    assert spread.root_of(total.facts) is None
    z, _ = _product(w, _transposed(total), x)
    assert torch.equal(w.ring(z), w.ring(total).t() @ w.ring(x))


def test_what_is_overwritten_in_part_is_known_no_more() -> None:
    w = World(2)
    x, y = _written(w, 3), _open(w, 3)
    x.move(lambda t: t[:1], view=True).write(w.share(torch.full((1, 3), 7.0)))

    z, cost = _product(w, _transposed(x), y)

    assert cost.rounds == 1
    assert torch.equal(w.ring(z), w.ring(x).t() @ w.ring(y))


@pytest.mark.parametrize(("rows", "rounds"), [(64, 4), (50, 5)])
@pytest.mark.parametrize("parties", [2, 3])
def test_a_step_of_logistic_regression(rows: int, rounds: int, parties: int) -> None:
    """Of rows that are open. Residuals of a batch whose size is no power of two are truncated, in one round more."""
    torch.manual_seed(1)
    x, y = torch.randn(rows, 20), (torch.rand(rows, 1) > 0.5).float()
    plain = nn.Linear(20, 1)
    names = [f"p{k}" for k in range(parties)]
    with tacit.session(parties=names) as session:
        secret = tacit.share(plain)
        data, labels = tacit.share(x, owner=names[0]), tacit.share(y, owner=names[1])
        spent = []
        for _ in range(4):
            for model, inputs, targets in ((plain, x, y), (secret, data, labels)):
                before = session.meter.cost.rounds
                optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
                optimizer.zero_grad()
                F.binary_cross_entropy_with_logits(model(inputs), targets).backward()
                optimizer.step()
            spent.append(session.meter.cost.rounds - before)
        learned = [tacit.reveal(p.detach()) for p in secret.parameters()]

    assert spent[1:] == [rounds] * 3
    for got, want in zip(learned, plain.parameters(), strict=True):
        assert _error(got, want) < 2e-4


def _error(got: Tensor, want: Tensor) -> float:
    return float((got - want.detach()).abs().max())
