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


# --- of every type ----------------------------------------------------------------------------------------------------

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
PAIRS = torch.tensor([[0, 2, 0], [1, 1, 1]])

PLACED = {
    "gather": lambda x, y, h: x.gather(1, h(PAIRS)),
    "scatter": lambda x, y, h: x.scatter(1, h(PAIRS), y),
    "scatter_add": lambda x, y, h: x.scatter_add(1, h(PAIRS), y),
    "index_add": lambda x, y, h: x.index_add(0, h(PAIRS[0, [0, 2]]), y),
    "index_put": lambda x, y, h: x.index_put((h(PAIRS[1, :2]),), y, accumulate=True),
    "index_put of pairs": lambda x, y, h: x.index_put((h(PAIRS[1, :2]), h(PAIRS[0, ::2])), y[0, :2], accumulate=True),
    "put": lambda x, y, h: x.put(PAIRS[0, ::2], y[0, :2], accumulate=True),
}


@pytest.mark.parametrize("hidden", [False, True], ids=["public-places", "secret-places"])
@pytest.mark.parametrize("name", PLACED)
def test_places_of_whole_numbers_keep_their_type(name, hidden):
    h = whole if hidden else (lambda places: places)

    for dtype in INTEGERS:
        x, y = torch.arange(6, dtype=dtype).view(2, 3), torch.arange(10, 16, dtype=dtype).view(2, 3)
        found, expected = PLACED[name](tacit.share(x), tacit.share(y), h), PLACED[name](x, y, lambda places: places)

        assert found.dtype == dtype
        assert torch.equal(tacit.reveal(found), expected)


def test_public_whole_numbers_at_secret_places_keep_their_type():
    for dtype in (*INTEGERS, torch.bool):
        x = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)

        found = x.gather(1, whole(PAIRS))

        assert found.dtype == dtype
        assert torch.equal(tacit.reveal(found), x.gather(1, PAIRS))


@pytest.mark.parametrize("name", [name for name in PLACED if name != "gather"])
@pytest.mark.parametrize("secret", [(True, True), (True, False), (False, True)], ids=["both", "first", "second"])
def test_truth_values_that_meet_at_a_place_are_true_if_any_is(name, secret):
    for number in range(8):
        x = torch.tensor([[number & 1, number & 2, 0], [0, 1, 0]]).bool()
        y = torch.tensor([[number & 1, 0, number & 4], [1, number & 2, 1]]).bool()
        given = (tacit.share(t) if s else t for t, s in zip((x, y), secret, strict=True))

        found = PLACED[name](*given, lambda places: places)

        expected = PLACED[name](x, y, lambda places: places)
        assert torch.equal(tacit.reveal(found), expected)
