"""Measures of classes, probabilities and numbers, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as plain
from sklearn.calibration import calibration_curve

import tacit
from tacit import metrics
from tacit.errors import DataError

CLOSE = 2**-13


@pytest.fixture(params=["all", "zeros and ones", "numbers"])
def weight(request, random):
    """Weights of 60 rows, of which the first and the last have some."""
    if request.param == "all":
        return None
    found = torch.randint(0, 2049, (60,), generator=random) / 1024
    found = (found > 1).float() if request.param == "zeros and ones" else found
    found[:4] = 1
    return found


def secretly(x, owner="alice"):
    return None if x is None else tacit.share(x, owner=owner)


def classes(random, count: int, rows: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes, all of which are there, and predictions that are often right."""
    true = torch.cat([torch.arange(count), torch.randint(0, count, (rows - count,), generator=random)])
    other = torch.randint(0, count, (rows,), generator=random)
    return true, torch.where(torch.rand(rows, generator=random) < 0.6, true, other)


def revealed(x) -> np.ndarray:
    return tacit.reveal(x).double().numpy()


@pytest.mark.parametrize("count", [2, 4])
def test_classes_are_counted(count, weight, session, random):
    true, called = classes(random, count)
    secrets = (
        tacit.share(true, owner="bob", classes=count),
        tacit.share(called, owner="alice", classes=count),
    )
    extra = {"sample_weight": secretly(weight)}
    numbers = {"sample_weight": None if weight is None else weight.numpy()}

    assert revealed(metrics.accuracy_score(*secrets, **extra)) == pytest.approx(
        plain.accuracy_score(true, called, **numbers), abs=CLOSE
    )
    assert revealed(metrics.accuracy_score(*secrets, normalize=False, **extra)) == pytest.approx(
        plain.accuracy_score(true, called, normalize=False, **numbers), abs=2**-8
    )
    for normalize in (None, "true", "pred", "all"):
        found = revealed(metrics.confusion_matrix(*secrets, normalize=normalize, **extra))
        expected = plain.confusion_matrix(true, called, labels=range(count), normalize=normalize, **numbers)
        assert found == pytest.approx(expected, abs=2**-8 if normalize is None else CLOSE)
    assert revealed(metrics.balanced_accuracy_score(*secrets, **extra)) == pytest.approx(
        plain.balanced_accuracy_score(true, called, **numbers), abs=CLOSE
    )


@pytest.mark.parametrize("average", ["binary", "macro", "micro", "weighted", None])
@pytest.mark.parametrize("name", ["precision_score", "recall_score", "f1_score"])
def test_scores_of_classes_are_averaged(name, average, weight, session, random):
    count = 2 if average == "binary" else 3
    true, called = classes(random, count)
    labels = {} if average == "binary" else {"labels": list(range(count))}
    numbers = None if weight is None else weight.numpy()

    found = getattr(metrics, name)(
        tacit.share(true, owner="bob"),
        tacit.share(called.float().view(-1, 1), owner="alice"),
        average=average,
        sample_weight=secretly(weight),
        **labels,
    )

    expected = getattr(plain, name)(true, called, average=average, sample_weight=numbers, zero_division=0, **labels)
    assert revealed(found) == pytest.approx(expected, abs=CLOSE)


def test_what_divides_by_zero_is_zero(session):
    ones, zeros = (tacit.share(t, owner="alice") for t in (torch.ones(5).long(), torch.zeros(5).long()))

    assert revealed(metrics.precision_score(ones, zeros)) == 0
    assert revealed(metrics.recall_score(zeros, ones)) == 0
    assert revealed(metrics.f1_score(zeros, zeros)) == 0
    assert revealed(metrics.accuracy_score(ones, ones, sample_weight=zeros)) == 0
    assert revealed(metrics.accuracy_score(ones, ones)) == pytest.approx(1, abs=CLOSE)
    assert revealed(metrics.confusion_matrix(zeros, zeros, labels=[0, 1], normalize="true"))[1].tolist() == [0, 0]


def test_predictions_may_be_bits_or_public(session, random):
    true, called = classes(random, 2)
    expected = plain.accuracy_score(true, called)

    for pair in (
        (tacit.share(true, owner="bob"), tacit.share(called - 0.5, owner="alice") > 0),
        (tacit.share(true.bool(), owner="bob"), called.bool()),
        (true.tolist(), tacit.share(called, owner="alice")),
        (tacit.share(true.float(), owner="bob"), tacit.share(called.bool(), owner="alice")),
    ):
        assert revealed(metrics.accuracy_score(*pair)) == pytest.approx(expected, abs=CLOSE)
        assert revealed(metrics.f1_score(*pair)) == pytest.approx(plain.f1_score(true, called), abs=CLOSE)
        matrix = metrics.confusion_matrix(*pair, labels=[0, 1])
        assert (revealed(matrix) == plain.confusion_matrix(true, called)).all()


def test_which_classes_there_are_must_be_said(session):
    secret = tacit.share(torch.tensor([0, 1, 2]), owner="alice")

    with pytest.raises(DataError, match=r"say confusion_matrix\(…, labels=\[0, 1\]\)"):
        metrics.confusion_matrix(secret, secret)
    with pytest.raises(DataError, match="each class once"):
        metrics.confusion_matrix(secret, secret, labels=[1, 1])
    with pytest.raises(DataError, match="average"):
        metrics.f1_score(secret, secret, average="samples")
    with pytest.raises(DataError, match="normalize"):
        metrics.confusion_matrix(secret, secret, labels=[0], normalize="rows")
    assert revealed(metrics.confusion_matrix(secret, secret, labels=[2, 5])).tolist() == [[1, 0], [0, 0]]


def probabilities(random, rows: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    true = torch.randint(0, 2, (rows,), generator=random)
    true[0], true[1] = 0, 1
    return true, torch.randint(8, 2040, (rows,), generator=random) / 2048


def test_probabilities_are_judged(weight, session, random):
    true, p = probabilities(random)
    secrets = tacit.share(true, owner="bob"), tacit.share(p, owner="alice")
    extra, numbers = {"sample_weight": secretly(weight)}, {"sample_weight": None if weight is None else weight.numpy()}

    loss = revealed(metrics.log_loss(*secrets, **extra))
    assert loss == pytest.approx(plain.log_loss(true, p.double(), **numbers), abs=2**-12)
    total = revealed(metrics.log_loss(*secrets, normalize=False, **extra))
    assert total == pytest.approx(plain.log_loss(true, p.double(), normalize=False, **numbers), abs=2**-6)
    brier = revealed(metrics.brier_score_loss(*secrets, **extra))
    assert brier == pytest.approx(plain.brier_score_loss(true, p.double(), **numbers), abs=CLOSE)


def test_probabilities_of_several_classes_are_judged(session, random):
    true, _ = classes(random, 3)
    p = torch.rand(60, 3, generator=random, dtype=torch.float64).add(0.05)
    p = p / p.sum(1, keepdim=True)

    found = metrics.log_loss(tacit.share(true, owner="bob"), tacit.share(p, owner="alice"))
    two = metrics.log_loss(tacit.share(true > 0, owner="bob"), tacit.share(torch.stack([p[:, 0], 1 - p[:, 0]], 1)))

    assert revealed(found) == pytest.approx(plain.log_loss(true, p), abs=2**-10)
    assert revealed(two) == pytest.approx(plain.log_loss(true > 0, 1 - p[:, 0]), abs=2**-10)
    with pytest.raises(DataError, match="a label for each of the 3 columns"):
        metrics.log_loss(tacit.share(true, owner="bob"), tacit.share(p, owner="alice"), labels=[0, 1])


def test_certainty_that_is_wrong_costs_no_more_than_is_said(session):
    found = metrics.log_loss(tacit.share(torch.tensor([0, 1, 1]), owner="bob"), tacit.share(torch.tensor([1.0, 0, 1])))

    assert revealed(found) == pytest.approx(2 * 14 * np.log(2) / 3, abs=2**-10)


@pytest.mark.parametrize("bins", [1, 2, 5])
def test_calibration_has_all_bins(bins, weight, session, random):
    true, p = probabilities(random)
    p = p / 2  # the upper bins are empty

    fractions, means, counts = metrics.calibration_curve(
        tacit.share(true, owner="bob"), tacit.share(p, owner="alice"), n_bins=bins, sample_weight=secretly(weight)
    )

    counts = revealed(counts)
    assert counts.sum() == pytest.approx(60 if weight is None else weight.sum().item(), abs=2**-8)
    if weight is None:
        expected = calibration_curve(true, p, n_bins=bins)
        there = counts > 0
        assert revealed(fractions)[there] == pytest.approx(expected[0], abs=CLOSE)
        assert revealed(means)[there] == pytest.approx(expected[1], abs=CLOSE)
        assert (revealed(fractions)[~there] == 0).all()
    with pytest.raises(DataError, match="bins"):
        metrics.calibration_curve(true, tacit.share(p), n_bins=0)


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_numbers_are_judged(size, weight, session, random):
    true = torch.randn(60, generator=random) * size
    called = true + torch.randn(60, generator=random) * size / 4
    secrets = tacit.share(true, owner="bob"), tacit.share(called.view(-1, 1), owner="alice")
    extra, numbers = {"sample_weight": secretly(weight)}, {"sample_weight": None if weight is None else weight.numpy()}
    true, called = true.double(), called.double()

    found = revealed(metrics.mean_absolute_error(*secrets, **extra))
    assert found == pytest.approx(plain.mean_absolute_error(true, called, **numbers), abs=2**-12, rel=2**-16)
    found = revealed(metrics.mean_squared_error(*secrets, **extra))
    assert found == pytest.approx(plain.mean_squared_error(true, called, **numbers), abs=2**-12, rel=2**-16)
    found = revealed(metrics.root_mean_squared_error(*secrets, **extra))
    assert found == pytest.approx(plain.root_mean_squared_error(true, called, **numbers), abs=2**-9, rel=1e-4)
    found = revealed(metrics.r2_score(*secrets, **extra))
    assert found == pytest.approx(plain.r2_score(true, called, **numbers), abs=2**-10)


def test_squares_of_many_rows_fit(session):
    rows = 5000
    error = torch.full((rows,), 20_000.0)

    found = metrics.mean_squared_error(tacit.share(error, owner="alice"), torch.zeros(rows))

    assert revealed(found) == pytest.approx(4e8, rel=2**-16)


def test_a_constant_is_explained_by_itself_only(session):
    constant = tacit.share(torch.full((7,), 1 / 3), owner="alice")

    assert revealed(metrics.r2_score(constant, constant)) == 1
    assert revealed(metrics.r2_score(constant, constant + 1)) == 0
    assert revealed(metrics.r2_score(tacit.share(torch.arange(7.0), owner="bob"), constant)) < 0


def test_wrong_numbers_are_refused(session):
    secret = tacit.share(torch.zeros(1), owner="alice")

    with pytest.raises(DataError, match="two rows"):
        metrics.r2_score(secret, secret)
    with pytest.raises(DataError, match="no rows"):
        metrics.mean_squared_error(tacit.share(torch.zeros(0), owner="alice"), torch.zeros(0))
    with pytest.raises(DataError, match="y_true 2, y_pred 1"):
        metrics.mean_squared_error(torch.zeros(2), secret)
    with pytest.raises(DataError, match="are public"):
        metrics.mean_squared_error([1.0], [2.0], sample_weight=secret)


@pytest.mark.parametrize("public", [False, True])
def test_measures_of_two_classes_want_to_know_which_of_three_is_meant(public, session):
    plain = torch.tensor([0, 1, 2, 2])
    labels = plain if public else tacit.share(plain, owner="alice", classes=3)
    score = tacit.share(torch.tensor([0.1, 0.2, 0.9, 0.8]), owner="bob")

    for measure in (metrics.roc_auc_score, metrics.f1_score, metrics.log_loss, metrics.brier_score_loss):
        with pytest.raises(DataError, match="is of two classes, and the labels have 3"):
            measure(labels, score)
    assert tacit.reveal(metrics.roc_auc_score(labels, score, pos_label=2)) == 1
