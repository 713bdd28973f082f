"""Several indices, public and secret, beside PyTorch's own: results, gradients, and what is written."""

from __future__ import annotations

import pytest
import torch

import tacit
from tacit.errors import UnsupportedOperator

ROWS, PLACES, MASK = torch.arange(3), torch.tensor([1, -1, 0]), torch.tensor([True, False, True])


@pytest.fixture(scope="module", autouse=True)
def session():
    with tacit.session(seed=1) as opened:
        yield opened


@pytest.fixture
def plain():
    return torch.randint(-512, 512, (3, 4, 3), generator=torch.Generator().manual_seed(3)) / 256


def whole(x):
    return tacit.share(x)


READ = {
    "x[rows, secret]": lambda x, h: x[ROWS, h(PLACES)],
    "x[:, rows, secret]": lambda x, h: x[:, ROWS, h(PLACES)],
    "x[rows, :, secret]": lambda x, h: x[ROWS, :, h(PLACES)],
    "x[secret, secret]": lambda x, h: x[h(PLACES), h(PLACES)],
    "x[secret column, rows]": lambda x, h: x[h(PLACES[:, None]), ROWS],
    "x[mask, secret]": lambda x, h: x[MASK, h(PLACES[:2])],
    "x[0, secret]": lambda x, h: x[0, h(PLACES)],
    "x[rows, secret, secret]": lambda x, h: x[ROWS, h(PLACES), h(PLACES)],
    "x[secret]": lambda x, h: x[h(PLACES)],
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read_and_its_gradient(name, plain):
    leaf = plain.clone().requires_grad_()
    hidden = whole(plain).requires_grad_()

    want, got = READ[name](leaf, lambda i: i), READ[name](hidden, tacit.share)
    grad = torch.arange(want.numel(), dtype=torch.float32).reshape(want.shape)
    want.backward(grad)
    got.backward(grad)

    assert torch.equal(tacit.reveal(got.detach()), want)
    assert torch.equal(tacit.reveal(hidden.grad), leaf.grad)
    assert torch.equal(tacit.reveal(READ[name](plain, tacit.share)), want)


WRITTEN = {
    "a number": lambda x, h: x.__setitem__((ROWS, h(PLACES)), 5.0),
    "rows": lambda x, h: x.__setitem__((ROWS, h(PLACES)), torch.ones(3, 3)),
    "between": lambda x, h: x.__setitem__((slice(None), ROWS, h(PLACES)), torch.tensor([[1.0], [2.0], [3.0]])),
    "one place": lambda x, h: x.__setitem__(h(PLACES[:1]), 5.0),
    "sums": lambda x, h: x.index_put_((ROWS, h(PLACES)), torch.ones(3, 3), accumulate=True),
    "sums that meet": lambda x, h: x.index_put_((h(ROWS * 0), h(PLACES * 0)), torch.ones(3, 3), accumulate=True),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written(name, plain):
    hidden, want = whole(plain), plain.clone()

    WRITTEN[name](hidden, tacit.share)
    WRITTEN[name](want, lambda i: i)

    assert torch.equal(tacit.reveal(hidden), want)


def test_places_that_may_meet_are_refused(plain):
    with pytest.raises(UnsupportedOperator, match=r"torch\.arange"):
        whole(plain)[tacit.share(PLACES)] = 1.0
