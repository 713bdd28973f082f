"""Numbers of Python, of other dtypes and at the ends of integers, beside secrets: what PyTorch gives, or an error."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tacit
from tacit.errors import EncodingError
from tacit.session.session import Session

TIMES = torch.tensor([1700000040.0, 1700000060.0], dtype=torch.float64)

DOUBLES = {
    "above": lambda t: t > 1700000050.0,
    "above a tensor": lambda t: t > torch.tensor(1700000050.0, dtype=torch.float64),
    "equal": lambda t: t == 1700000040.0,
    "sum": lambda t: t - 1700000001.0,
    "reversed": lambda t: 1700000001.0 - t,
    "scaled sum": lambda t: torch.add(t, 1, alpha=-1.0) + 0.25,
    "whole multiple": lambda t: (t - 1700000000.0) * 17000001.0,  # below 2^30, where a product of 32 bits ends
    "choice": lambda t: torch.where(t > 1700000050.0, t, 1700000051.0),
    "fill": lambda t: t.masked_fill(t > 1700000050.0, 1700000051.0),
    "clamp": lambda t: t.clamp(min=1700000050.0),
    "larger": lambda t: torch.maximum(t, torch.tensor(1700000050.0, dtype=torch.float64)),
    "full": lambda t: torch.full_like(t, 1700000050.0) - t,
}


@pytest.mark.parametrize("name", DOUBLES)
def test_python_numbers_beside_doubles_keep_their_digits(name: str, session: Session) -> None:
    function = DOUBLES[name]

    got = tacit.reveal(function(tacit.share(TIMES, owner="alice")))

    torch.testing.assert_close(got, function(TIMES), atol=2.0**-14 if name == "whole multiple" else 0.0, rtol=0)


def test_numbers_beside_singles_are_singles_where_they_are_compared() -> None:
    x = torch.tensor([0.1, 0.7])
    with tacit.session(frac_bits=28):
        assert tacit.reveal(tacit.share(x) == 0.1).tolist() == (x == 0.1).tolist()
        assert tacit.reveal(tacit.share(x) >= 0.7).tolist() == (x >= 0.7).tolist()


@pytest.mark.parametrize("value", [2**62, -(2**62), torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max])
def test_integers_that_comparisons_would_wrap_are_refused(value: int, session: Session) -> None:
    x = torch.tensor([0, value])

    with pytest.raises(EncodingError, match=r"index 1 that is too large: secret integers are below 2\^62"):
        tacit.share(x, owner="alice")
    with pytest.raises(EncodingError, match="too large"):
        tacit.share(torch.zeros(2, dtype=torch.int64)) + x


def test_the_largest_integers_are_exact(session: Session) -> None:
    x = torch.tensor([2**62 - 1, 1 - 2**62, 2**53 + 1])
    s = tacit.share(x, owner="alice")

    def agree(f: object) -> None:
        assert torch.equal(tacit.reveal(f(s)), f(x))  # type: ignore[operator]

    for function in (Tensor.abs, Tensor.neg, Tensor.sign, lambda v: v > 2**53, lambda v: v == 2**53 + 1):
        agree(function)
