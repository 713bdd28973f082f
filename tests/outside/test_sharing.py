"""What is cut comes back when it is joined, and no share less than all of them says anything."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.outside import sharing
from tacit.outside.sharing import Cut, cut, expand, join

SIZES = [1, 0, 1 << 10, (1 << 17) + 3]


def shares(made: Cut, sizes: list[int], purpose: str = "a test") -> list[Tensor]:
    return [torch.cat(list(made.rest() if s is None else expand(s, sizes, purpose))) for s in made.seeds]


@pytest.mark.parametrize("holders", [2, 3, 5])
def test_what_is_cut_comes_back(holders: int) -> None:
    content = [torch.randint(-(1 << 63), (1 << 63) - 1, (n,)) for n in SIZES]

    for explicit in range(holders):
        made = cut(content, holders, "a test", explicit=explicit)

        assert [seed is None for seed in made.seeds] == [place == explicit for place in range(holders)]
        assert torch.equal(join(shares(made, SIZES)), torch.cat(content))


@pytest.mark.parametrize("value", [0, 77, -(1 << 63)])
def test_any_shares_but_all_of_them_are_uniform_and_fresh(value: int) -> None:
    content = [torch.full((20_000,), value)]

    first, second = (shares(cut(content, 3, "a test", explicit=1), [20_000]) for _ in range(2))
    few = [*first, *(a + b for a, b in combinations(first, 2)), *(a - b for a, b in zip(first, second, strict=True))]

    for seen in few:  # a byte's count is 625 ± 25
        counts = torch.bincount(seen.view(torch.uint8).int(), minlength=256)
        assert (counts - 625).abs().max() < 200


def test_a_seed_of_one_purpose_means_nothing_for_another() -> None:
    seed = cut([torch.zeros(4, dtype=torch.int64)], 2, "a test").seeds[1]
    assert seed is not None

    (one,), (other,) = expand(seed, [4], "a test"), expand(seed, [4], "another")

    assert not torch.equal(one, other)


def test_contents_and_shares_that_do_not_fit_are_refused() -> None:
    ring = torch.zeros(4, dtype=torch.int64)

    for holders, explicit in ((1, 0), (0, 0), (2, 2), (2, -1)):
        with pytest.raises(DataError, match="two holders or more"):
            cut([ring], holders, "a test", explicit=explicit)
    for wrong in (torch.zeros(4), ring.view(2, 2), ring.int()):
        with pytest.raises(DataError, match="flat tensors of ring elements"):
            cut([ring, wrong], 2, "a test")
    for few in ([], [ring], [ring, ring[:3]], [ring, ring.double()]):
        with pytest.raises(DataError, match="two or more tensors"):
            join(few)
    for seed in (b"", bytes(15), bytes(32)):
        with pytest.raises(DataError, match="has 16 bytes"):
            next(expand(seed, [4], "a test"))


def test_nothing_secret_is_shown() -> None:
    made = cut([torch.full((1,), 424242)], 2, "a test")

    assert sharing.SEED_BYTES == 16
    assert "424242" not in repr(made)
    assert "hidden" in repr(made)
