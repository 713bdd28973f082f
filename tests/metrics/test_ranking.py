"""Measures of scores, against scikit-learn's and SciPy's: ties, weights, one class, and whoever knows what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from sklearn.metrics import average_precision_score, roc_auc_score

import tacit
from tacit import metrics
from tacit.errors import DataError

EXACT = 2**-14


def ks(y, s, sample_weight=None):
    w = np.ones(len(y)) if sample_weight is None else sample_weight
    found = [
        abs(np.average(s[y == 1] <= t, weights=w[y == 1]) - np.average(s[y == 0] <= t, weights=w[y == 0])) for t in s
    ]
    return max(found)


PLAIN = {
    "roc_auc_score": roc_auc_score,
    "average_precision_score": average_precision_score,
    "ks_score": ks,
    "gini_score": lambda y, s, sample_weight=None: 2 * roc_auc_score(y, s, sample_weight=sample_weight) - 1,
}


def draw(random, count: int, *, ties: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels of both classes, and scores of which many are equal."""
    label = torch.randint(0, 2, (count,), generator=random)
    label[0], label[-1] = 0, 1
    score = torch.randn(count, generator=random) + label
    return label, (score * 4).round() / 4 if ties else score.mul(4096).round() / 4096


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("count", [2, 7, 70])
def test_a_measure_is_that_of_scikit_learn_with_ties(name, count, session, random):
    label, score = draw(random, count)

    found = getattr(metrics, name)(tacit.share(label, owner="bob"), tacit.share(score, owner="alice"))

    assert isinstance(found, tacit.SecretTensor)
    assert found.shape == ()
    assert float(tacit.reveal(found)) == pytest.approx(PLAIN[name](label.numpy(), score.numpy()), abs=EXACT)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("kind", ["zeros and ones", "bits", "integers", "numbers", "public numbers"])
def test_rows_have_weights(name, kind, session, random):
    label, score = draw(random, 40)
    weight = torch.randint(0, 4096, (40,), generator=random) / 1024
    if kind in ("zeros and ones", "bits"):
        weight = (weight > 2).float()
    elif kind == "integers":
        weight = weight.long()
    weight[0], weight[-1] = 1, 1
    given = weight.bool() if kind == "bits" else weight

    found = getattr(metrics, name)(
        tacit.share(label, owner="bob"),
        tacit.share(score, owner="alice"),
        sample_weight=given if kind == "public numbers" else tacit.share(given, owner="bob"),
    )

    expected = PLAIN[name](label.numpy(), score.numpy(), sample_weight=weight.double().numpy())
    assert float(tacit.reveal(found)) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_public_may_be(name, session, random):
    label, score = draw(random, 50)
    weight = torch.randint(0, 3, (50,), generator=random)
    weight[0], weight[-1] = 1, 1
    measure, expected = getattr(metrics, name), PLAIN[name](label.numpy(), score.numpy())

    public_label = measure(label, tacit.share(score, owner="alice"))
    public_score = measure(tacit.share(label, owner="alice"), score.numpy())
    only_weight = measure(label.tolist(), score, sample_weight=tacit.share(weight, owner="bob"))

    assert float(tacit.reveal(public_label)) == pytest.approx(expected, abs=EXACT)
    assert float(tacit.reveal(public_score)) == pytest.approx(expected, abs=EXACT)
    expected = PLAIN[name](label.numpy(), score.numpy(), sample_weight=weight.double().numpy())
    assert float(tacit.reveal(only_weight)) == pytest.approx(expected, abs=EXACT)


def test_labels_are_columns_bits_and_other_numbers_too(session, random):
    label, score = draw(random, 30)
    expected = roc_auc_score(label, score)
    secret = tacit.share(score.view(-1, 1), owner="alice")

    for given, positive in (
        (tacit.share(label.float().view(-1, 1), owner="bob"), 1),
        (tacit.share(label.bool(), owner="bob"), True),
        (tacit.share(2 * label - 1, owner="bob"), 1),
        (tacit.share(1 - label, owner="bob", classes=2), 0),
        (tacit.share(label.float(), owner="bob") * 3, 3),
    ):
        found = metrics.roc_auc_score(given, secret, pos_label=positive)
        assert float(tacit.reveal(found)) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_says_nothing(label, session, random):
    score = tacit.share(torch.randn(9, generator=random), owner="alice")
    given = tacit.share(torch.full((9,), label), owner="bob")

    assert float(tacit.reveal(metrics.roc_auc_score(given, score))) == 0.5
    assert float(tacit.reveal(metrics.gini_score(given, score))) == 0
    assert float(tacit.reveal(metrics.ks_score(given, score))) == 0
    assert float(tacit.reveal(metrics.average_precision_score(given, score))) == pytest.approx(label, abs=EXACT)


def test_rows_without_weight_might_as_well_not_be_there(session, random):
    label, score = draw(random, 20)
    weight = torch.zeros(20)

    found = metrics.roc_auc_score(tacit.share(label), tacit.share(score, owner="alice"), sample_weight=weight)

    assert float(tacit.reveal(found)) == 0.5


def test_all_scores_equal_are_one_tie(session):
    label, score = torch.tensor([0, 1, 1, 0, 1]), torch.full((5,), 0.25)
    secrets = tacit.share(label, owner="bob"), tacit.share(score, owner="alice")

    assert float(tacit.reveal(metrics.roc_auc_score(*secrets))) == pytest.approx(0.5, abs=EXACT)
    assert float(tacit.reveal(metrics.ks_score(*secrets))) == 0
    assert float(tacit.reveal(metrics.average_precision_score(*secrets))) == pytest.approx(0.6, abs=EXACT)


def test_scores_reach_to_the_ends_of_their_domain(session):
    score = torch.tensor([-(2.0**40), 2.0**40, 0.0, 2.0**-16, -(2.0**-16), 2.0**40, -(2.0**40)], dtype=torch.float64)
    label = torch.tensor([0, 1, 0, 1, 1, 0, 1])

    found = metrics.roc_auc_score(tacit.share(label, owner="bob"), tacit.share(score, owner="alice"))

    assert float(tacit.reveal(found)) == pytest.approx(roc_auc_score(label, score), abs=EXACT)


def test_scores_of_a_model_are_products_that_are_not_truncated_yet(session, random):
    label, _ = draw(random, 40)
    x, w = torch.randn(40, 3, generator=random), torch.randn(3, generator=random)
    score = tacit.share(x, owner="alice") @ tacit.share(w, owner="bob")

    found = metrics.roc_auc_score(tacit.share(label, owner="bob"), score)

    seen = tacit.reveal(score)  # as truncated: near ties may fall either way
    assert float(tacit.reveal(found)) == pytest.approx(roc_auc_score(label, seen), abs=2**-6)


def test_three_parties_measure(random):
    label, score = draw(random, 33)

    with tacit.session(parties=("a", "b", "c"), seed=1, protocol="additive"):
        found = tacit.reveal(metrics.roc_auc_score(tacit.share(label, owner="c"), tacit.share(score, owner="a")))

    assert float(found) == pytest.approx(roc_auc_score(label, score), abs=EXACT)


@pytest.mark.parametrize("name", PLAIN)
def test_two_parties_alone_measure(name, random):
    label, score = draw(random, 40)
    score[:4] = torch.tensor([-(2.0**45), 2.0**45, 2.0**45, -(2.0**45)])  # the whole of what can be shared
    weight = torch.randint(0, 3, (40,), generator=random)
    weight[0], weight[-1] = 1, 1

    with tacit.session(protocol="two-party") as session:
        both = tacit.share(score, owner="alice") + tacit.share(torch.zeros(40), owner="bob")
        given = tacit.share(label, owner="bob"), both
        found = tacit.reveal(getattr(metrics, name)(*given, sample_weight=tacit.share(weight, owner="bob")))
        assert session.meter.cost.rounds < 400

    expected = PLAIN[name](label.numpy(), score.numpy(), sample_weight=weight.double().numpy())
    assert float(found) == pytest.approx(expected, abs=EXACT)


def test_a_session_that_checks_itself_has_nothing_to_say(random):
    label, score = draw(random, 33)

    with tacit.session(check=True):
        found = metrics.roc_auc_score(tacit.share(label, owner="bob"), tacit.share(score, owner="alice"))
        assert float(tacit.reveal(found)) == pytest.approx(roc_auc_score(label, score), abs=EXACT)


def test_the_distance_is_that_of_kolmogorov_and_smirnov(session, random):
    label, score = draw(random, 80)

    found = metrics.ks_score(tacit.share(label, owner="bob"), tacit.share(score, owner="alice"))

    expected = ks_2samp(score[label == 1], score[label == 0]).statistic
    assert float(tacit.reveal(found)) == pytest.approx(expected, abs=EXACT)


def test_wrong_arguments_are_refused(session):
    secret = tacit.share(torch.zeros(4), owner="alice")

    with pytest.raises(DataError, match="y_true 3, y_score 4"):
        metrics.roc_auc_score(torch.zeros(3), secret)
    with pytest.raises(DataError, match="no rows"):
        metrics.roc_auc_score(torch.zeros(0), tacit.share(torch.zeros(0), owner="alice"))
    with pytest.raises(DataError, match=r"shape \(rows,\) or \(rows, 1\), not \(2, 2\)"):
        metrics.roc_auc_score(torch.zeros(2), tacit.share(torch.zeros(2, 2), owner="alice"))
    with pytest.raises(DataError, match="nothing that roc_auc_score was given is secret: sklearn"):
        metrics.roc_auc_score([0, 1], [0.5, 0.25])
    with pytest.raises(DataError, match="negative"):
        metrics.roc_auc_score(torch.ones(4), secret, sample_weight=[1, 1, -1, 1])
    with pytest.raises(DataError, match="NaN"):
        metrics.roc_auc_score(torch.ones(4), secret, sample_weight=[1, 1, float("nan"), 1])
    with pytest.raises(DataError, match="labels of roc_auc_score are numbers, not 'yes'"):
        metrics.roc_auc_score(torch.ones(4), secret, pos_label="yes")


def test_more_rows_than_there_is_room_for_are_refused():
    with tacit.session(frac_bits=28):
        rows = tacit.share(torch.zeros(1 << 17), owner="alice")
        with pytest.raises(DataError, match="fewer than 131072 rows here, not 131072"):
            metrics.roc_auc_score(rows, rows)


@pytest.mark.slow
def test_a_hundred_thousand_rows(random):
    label, score = draw(random, 100_000, ties=False)

    with tacit.session(seed=1):
        secrets = tacit.share(label, owner="bob"), tacit.share(score, owner="alice")
        for name in PLAIN:
            found = tacit.reveal(getattr(metrics, name)(*secrets))
            expected = ks_2samp(score[label == 1], score[label == 0]).statistic if name == "ks_score" else None
            expected = PLAIN[name](label, score) if expected is None else expected
            assert float(found) == pytest.approx(expected, abs=EXACT)


@pytest.mark.slow
def test_a_hundred_thousand_rows_of_two_parties_alone(random):
    label, score = draw(random, 100_000)

    with tacit.session(protocol="two-party"):
        both = tacit.share(score, owner="alice") + tacit.share(torch.zeros(100_000), owner="bob")
        found = tacit.reveal(metrics.roc_auc_score(tacit.share(label, owner="bob"), both))

    assert float(found) == pytest.approx(roc_auc_score(label, score), abs=EXACT)
