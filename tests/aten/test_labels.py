"""Class labels, public and secret, owned and not, with every option of the losses, beside plain PyTorch."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tacit
from tacit.errors import DataError
from tacit.session.session import Session

C = 4
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 1.5])
SHAPES = [(6, C), (2, C, 3), (C,)]
REDUCTIONS = ["none", "mean", "sum"]


def labels_for(shape: tuple[int, ...], random: torch.Generator, ignore: int) -> Tensor:
    """Labels of which one is to be ignored, where there are several."""
    y = torch.randint(0, C, (shape[0], *shape[2:]) if len(shape) > 1 else (), generator=random)
    if y.dim():
        y.view(-1)[::3] = ignore
        y.view(-1)[1] = (ignore + 1) % C  # not all of them
    return y


def hidden(y: Tensor, how: str) -> Tensor:
    """Labels that everybody knows, that a party knows, or that nobody knows."""
    if how == "public":
        return y
    shared = tacit.share(y, owner="bob")
    return shared if how == "owned" else shared + tacit.share(torch.zeros_like(y), owner="alice")


@pytest.mark.parametrize("how", ["public", "owned", "nobody's"])
def test_cross_entropy_agrees_with_every_option(how: str, session: Session, random: torch.Generator) -> None:
    for shape, reduction, weight, smoothing, ignore in product(
        SHAPES, REDUCTIONS, (None, WEIGHT), (0.0, 0.1), (-100, 2)
    ):
        if (how != "owned" or ignore != -100) and shape != SHAPES[0] and reduction != "mean":
            continue  # no other code
        x = torch.randn(shape, generator=random)
        y = labels_for(shape, random, ignore)
        if not y.dim() and ignore == 2:
            continue
        options = {"weight": weight, "ignore_index": ignore, "label_smoothing": smoothing, "reduction": reduction}
        p, s = x.clone().requires_grad_(), tacit.share(x, owner="alice").requires_grad_()

        want, got = F.cross_entropy(p, y, **options), F.cross_entropy(s, hidden(y, how), **options)
        want.sum().backward()
        got.sum().backward()

        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        torch.testing.assert_close(tacit.reveal(got.detach()), want.detach(), atol=2e-3, rtol=1e-3, msg=str(options))
        torch.testing.assert_close(tacit.reveal(s.grad), p.grad, atol=3e-4, rtol=0, msg=str(options))


@pytest.mark.parametrize("how", ["public", "owned", "nobody's"])
def test_negative_log_likelihood_agrees(how: str, session: Session, random: torch.Generator) -> None:
    for shape, reduction in product([(6, C), (2, C, 3, 2)], REDUCTIONS):
        x = torch.randn(shape, generator=random)
        y = labels_for(shape, random, -1)

        want = F.nll_loss(x, y, WEIGHT, ignore_index=-1, reduction=reduction)
        got = F.nll_loss(tacit.share(x), hidden(y, how), WEIGHT, ignore_index=-1, reduction=reduction)

        torch.testing.assert_close(tacit.reveal(got), want, atol=2e-3, rtol=1e-3)


def test_secret_weights_and_public_scores_are_fine(session: Session, random: torch.Generator) -> None:
    x, y = torch.randn(6, C, generator=random), torch.tensor([0, 1, -100, 3, 2, 1])
    want = F.cross_entropy(x, y, WEIGHT)

    for scores, labels, weight in (
        (tacit.share(x), y, tacit.share(WEIGHT)),
        (x, tacit.share(y, owner="bob"), WEIGHT),
        (x, tacit.share(y, owner="bob"), tacit.share(WEIGHT)),
        (tacit.share(x), hidden(y, "nobody's"), tacit.share(WEIGHT)),
    ):
        got = tacit.reveal(F.cross_entropy(scores, labels, weight))

        torch.testing.assert_close(got, want, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_probabilities_are_targets_with_every_option(
    smoothing: float, session: Session, random: torch.Generator
) -> None:
    x, y = torch.randn(5, C, generator=random), torch.rand(5, C, generator=random).softmax(1)
    for reduction, weight, secret in product(REDUCTIONS, (None, WEIGHT), (True, False)):
        options = {"reduction": reduction, "weight": weight, "label_smoothing": smoothing}

        got = F.cross_entropy(tacit.share(x), tacit.share(y, owner="bob") if secret else y, **options)

        torch.testing.assert_close(tacit.reveal(got), F.cross_entropy(x, y, **options), atol=2e-3, rtol=1e-3)


@pytest.mark.unchecked
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("how", ["owned", "nobody's"])
def test_the_mean_over_no_label_is_zero_of_secrets(how: str, smoothing: float, session: Session) -> None:
    x = tacit.share(torch.randn(3, C)).requires_grad_()
    y = hidden(torch.full((3,), -100), how)

    loss = F.cross_entropy(x, y, label_smoothing=smoothing)
    loss.backward()

    assert abs(tacit.reveal(loss.detach()).item()) < 1e-3
    assert tacit.reveal(x.grad).abs().max() < 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_mean_over_no_public_label_is_refused(smoothing: float, session: Session) -> None:
    x = tacit.share(torch.randn(3, C))

    with pytest.raises(ZeroDivisionError):
        tacit.reveal(F.cross_entropy(x, torch.full((3,), -100), label_smoothing=smoothing))


@pytest.mark.unchecked
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("wrong", [C, -1])
def test_labels_that_are_no_classes_are_refused_where_they_are_known(
    wrong: int, smoothing: float, session: Session
) -> None:
    x, y = tacit.share(torch.randn(3, C)).requires_grad_(), torch.tensor([1, wrong, 0])

    with pytest.raises(IndexError):
        tacit.reveal(F.cross_entropy(x, y))
    with pytest.raises(DataError, match="index 1 that is none of 0 to 3"):
        F.cross_entropy(x, tacit.share(y, owner="bob"), label_smoothing=smoothing).backward()


@pytest.mark.unchecked
def test_one_hot_rows_are_checked_where_the_classes_are_known(session: Session) -> None:
    y = torch.tensor([[2, 0], [1, 1]])

    for how in ("owned", "nobody's"):
        got = F.one_hot(hidden(y, how), 3)
        assert torch.equal(tacit.reveal(got), F.one_hot(y, 3))
        assert got.dtype == torch.int64
    with pytest.raises(DataError, match="none of 0 to 1"):
        F.one_hot(tacit.share(y, owner="bob"), 2)
    nobody = tacit.reveal(F.one_hot(hidden(torch.tensor([5, -1, 2]), "nobody's"), 3))
    assert nobody.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_an_owner_s_labels_cost_no_round(session: Session, random: torch.Generator) -> None:
    x, y = torch.randn(6, C, generator=random), torch.tensor([0, 1, -100, 3, 2, 1])
    labels, classes = tacit.share(y, owner="bob"), tacit.share(y.clamp(min=0), owner="bob")
    before = session.meter.cost

    F.one_hot(classes, C)
    F.cross_entropy(tacit.share(x), labels)  # whose value nobody asks for

    assert (session.meter.cost - before).rounds == 0


@pytest.mark.priced
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_labels_that_are_known_to_be_classes_save_rounds(
    reduction: str, session: Session, random: torch.Generator
) -> None:
    """Then how much a row of weights adds up to is public, and nothing is multiplied by it."""
    x, y = torch.randn(5, C, generator=random), torch.randint(C, (5,), generator=random)
    plain = x.clone().requires_grad_()
    F.cross_entropy(plain, y, reduction=reduction).sum().backward()

    rounds = []
    for labels in (tacit.share(y, owner="bob", classes=C), tacit.share(y, owner="bob")):
        scores = tacit.share(x).requires_grad_()
        before = session.meter.cost.rounds
        F.cross_entropy(scores, labels, reduction=reduction).sum().backward()
        scores.grad.share.settle()
        rounds.append(session.meter.cost.rounds - before)
        torch.testing.assert_close(tacit.reveal(scores.grad), plain.grad, atol=3e-4, rtol=0)
    assert rounds == [9, 9]  # of which one is its owner's, who shares the weights


def test_labels_are_checked_by_who_shares_them(session: Session) -> None:
    assert tacit.reveal(tacit.share([2, 0], owner="bob", classes=3)).tolist() == [2, 0]
    assert tacit.share(torch.tensor([2.0]), owner="bob", classes=3).dtype == torch.int64
    assert tacit.reveal(tacit.share([1, -100], owner="bob", classes=3, ignore_index=-100)).tolist() == [1, -100]
    with pytest.raises(DataError, match="index 1 that is none of 0 to 2"):
        tacit.share([1, 3], owner="bob", classes=3)
    with pytest.raises(DataError, match="none of 0 to 2, nor -1"):
        tacit.share([1, -100], classes=3, ignore_index=-1)
    with pytest.raises(DataError, match="whole numbers"):
        tacit.share([0.5], owner="bob", classes=3)
    with pytest.raises(DataError, match="how many classes"):
        tacit.share([1], owner="bob", ignore_index=-100)


@pytest.mark.priced
def test_known_classes_need_no_count(session: Session, random: torch.Generator) -> None:
    x, y = torch.randn(6, C, generator=random), torch.tensor([0, 1, 2, 3, 2, 1])
    rounds = []
    for labels in (hidden(y, "nobody's"), tacit.share(y, classes=C)):
        s = tacit.share(x).requires_grad_()
        before = session.meter.cost
        F.cross_entropy(s, labels).backward()
        rounds.append((session.meter.cost - before).rounds)
        p = x.clone().requires_grad_()
        F.cross_entropy(p, y).backward()
        torch.testing.assert_close(tacit.reveal(s.grad), p.grad, atol=3e-4, rtol=0)

    assert rounds[1] < rounds[0]


@pytest.mark.parametrize("how", ["owned", "nobody's"])
def test_negative_positions_count_from_the_end(how: str, session: Session, random: torch.Generator) -> None:
    table, index = torch.randn(5, 3, generator=random), torch.tensor([[-5, -1], [0, 4]])

    got = tacit.share(table)[hidden(index, how)]
    across = tacit.share(table)[:, hidden(torch.tensor([-1, 1]), how)]
    added = tacit.share(table).index_put((hidden(index, how),), torch.ones(2, 2, 3), accumulate=True)

    torch.testing.assert_close(tacit.reveal(got), table[index], atol=2**-15, rtol=0)
    torch.testing.assert_close(tacit.reveal(across), table[:, [-1, 1]], atol=2**-15, rtol=0)
    want = table.index_put((index,), torch.ones(2, 2, 3), accumulate=True)
    torch.testing.assert_close(tacit.reveal(added), want, atol=2**-15, rtol=0)


def test_positions_out_of_range_are_refused_where_they_are_known(session: Session) -> None:
    table = tacit.share(torch.randn(5, 3))
    for wrong in (5, -6):
        with pytest.raises(DataError, match="none of -5 to 4"):
            table[tacit.share([wrong], owner="bob")]
    for wrong in (5, -1):
        index = tacit.share([wrong], owner="bob")
        with pytest.raises(DataError, match="none of 0 to 4"):
            F.embedding(index, table)
        with pytest.raises(DataError, match="none of 0 to 4"):
            table.index_select(0, index)
        with pytest.raises(DataError, match="none of 0 to 4"):
            table.gather(0, index.view(1, 1).expand(1, 3))


def test_targets_that_are_no_labels_are_refused_in_pytorchs_words(session: Session) -> None:
    x, y = torch.randn(3, C), torch.tensor([0.0, 1.0, 2.0])
    for target, why in ((y, "Long"), (y.unsqueeze(1), "0D or 1D target"), (y.long()[:2], "batch_size")):
        for secret in (tacit.share(target), target):
            with pytest.raises((RuntimeError, ValueError), match=why):
                F.cross_entropy(tacit.share(x), secret)
