"""Places drawn by secret weights: as often as the weights say, and never where there is none."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

import tacit
from tacit.errors import UnsupportedOperator
from tacit.functions.draws import uniform
from tacit.session.session import Session

COVERS = {torch.ops.aten.multinomial.default}
DRAWS = 2000
FAR_OFF = 7.0
"""Standard deviations that a frequency may be off, once in 10^11 times."""


def close(drawn: torch.Tensor, p: torch.Tensor) -> None:
    """Whether each place was drawn as often as it should be."""
    count = drawn.numel()
    often = torch.bincount(drawn.flatten(), minlength=len(p)) / count
    assert bool(((often - p).abs() <= FAR_OFF * (p * (1 - p) / count).sqrt() + 1e-3).all())
    assert bool((often[p == 0] == 0).all())


def test_rows_of_a_softmax_are_drawn_by(session: Session) -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.3, 0.0, 9.0, 1.5]])
    logits[0, 3] = logits[0, 5] = -torch.inf
    out = torch.tensor([0, 0, 0, 1, 0, 1, 0]).bool()
    x = tacit.share(logits.masked_fill(out, 1.0)).masked_fill(out, -torch.inf).expand(DRAWS, -1)

    drawn = tacit.reveal(torch.multinomial(F.softmax(x, -1), 1))

    assert drawn.shape == (DRAWS, 1)
    assert drawn.dtype == torch.int64
    close(drawn, F.softmax(logits[0], -1))


def test_weights_are_drawn_by_with_replacement(session: Session) -> None:
    weights = torch.tensor([0.0, 3.0, 0.0, 1.0, 0.5, 0.0])

    drawn = tacit.reveal(torch.multinomial(tacit.share(weights), DRAWS, replacement=True))

    close(drawn, weights / weights.sum())


def test_rare_places_of_many_keep_their_share(session: Session) -> None:
    logits = torch.zeros(1, 9000)  # each of them 1 / 10,000
    logits[:, :1] = math.log(1000.0)
    x = tacit.share(logits).expand(40, -1)

    drawn = tacit.reveal(torch.multinomial(F.softmax(x, -1), 1))

    rare = int((drawn > 0).sum())  # 9 of 10
    assert abs(rare - 36) <= FAR_OFF * math.sqrt(40 * 0.09)
    assert int(drawn.max()) < 9000


def test_only_one_place_has_any_weight(session: Session) -> None:
    for at in (0, 3, 6):
        weights = F.one_hot(torch.tensor(at), 7).float() * 2.0**-10

        assert tacit.reveal(torch.multinomial(tacit.share(weights), 50, replacement=True)).tolist() == [at] * 50


def test_of_zeros_a_place_is_drawn_that_there_is(session: Session) -> None:
    for n in (1, 3, 4):
        drawn = tacit.reveal(torch.multinomial(tacit.share(torch.zeros(5, n)), 2, replacement=True))

        assert drawn.tolist() == [[n - 1] * 2] * 5


def test_a_uniform_number_is_one(session: Session) -> None:
    u = uniform(tacit.share(torch.zeros(1))._protocol, (DRAWS,), 20)

    numbers = session_value(u)

    assert 0 <= numbers.min() <= numbers.max() < 1
    assert abs(float(numbers.mean()) - 0.5) < FAR_OFF / math.sqrt(12 * DRAWS)


def session_value(u: object) -> torch.Tensor:
    from tacit.tensor import SecretTensor

    return tacit.reveal(SecretTensor(u, torch.float64))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [torch.ones(2, 2, 2), torch.ones(3, dtype=torch.int64), torch.ones(0)])
def test_what_pytorch_refuses_is_refused(session: Session, wrong: torch.Tensor) -> None:
    for x in (wrong, tacit.share(wrong)):
        with pytest.raises((RuntimeError, UnsupportedOperator)):
            torch.multinomial(x, 1)


def test_what_was_found_largest_is_not_below_itself(session: Session) -> None:
    x = tacit.share(torch.randn(40, 30)) @ tacit.share(torch.randn(30, 60))  # not truncated yet

    third = torch.topk(x, 3)[0][..., -1, None]

    assert tacit.reveal((x >= third).sum(1)).min() >= 3  # more, where another is as large up to rounding
    assert tacit.reveal((x >= x.max(-1, keepdim=True).values).sum(1)).min() >= 1
    assert tacit.reveal((x[:, 5:] <= x.amax(1, keepdim=True)).sum(1)).min() >= 54
