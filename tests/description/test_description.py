"""Descriptions of tables against pandas' and NumPy's, at every size of numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import tacit
from tacit.errors import DataError
from tacit.statistics import describe, weight_of_evidence


def table(random, rows: int = 150) -> torch.Tensor:
    """Related columns of very different size, one of them constant."""
    z = torch.randn(rows, 5, generator=random, dtype=torch.float64)
    z[:, 1] += z[:, 0]
    z[:, 2] -= z[:, 1] / 2
    x = z * torch.tensor([1.0, 5000.0, 2.0**20, 1 / 64, 1.0]) + torch.tensor([0.0, 60_000.0, 2.0**28, 5.0, 0.0])
    x[:, 4] = 1 / 3
    return x


def seen(x) -> np.ndarray:
    return tacit.reveal(x).double().numpy()


def test_columns_are_described_as_pandas_does(session, random):
    x = table(random)
    frame = pd.DataFrame(torch.round(x * 2**16).numpy() / 2**16)  # as fixed point has it

    secret = torch.cat([tacit.share(x[:, :2], owner="alice"), tacit.share(x[:, 2:], owner="bob")], dim=1)
    found = describe(secret, columns=list("abcde"), vif=True)

    assert found.columns == tuple("abcde")
    assert found.rows == 150
    size = frame.abs().max().to_numpy()
    assert (np.abs(seen(found.mean) - frame.mean()) <= 2**-14 + 2**-22 * size).all()
    assert (np.abs(seen(found.std)[:4] - frame.std()[:4]) <= 2**-13 + 2**-16 * frame.std()[:4]).all()
    assert seen(found.std)[4] == 0
    correlation = seen(found.correlation)
    assert correlation[:4, :4] == pytest.approx(frame.iloc[:, :4].corr().to_numpy(), abs=2**-11)
    assert (correlation[4] == 0).all()
    quantiles = frame.quantile([0.25, 0.5, 0.75]).to_numpy()
    assert (np.abs(seen(found.quantiles) - quantiles) <= 2**-14 + 2**-22 * size).all()
    inflation = np.linalg.inv(frame.iloc[:, :4].corr().to_numpy()).diagonal()
    assert seen(found.vif)[:4] == pytest.approx(inflation, rel=2**-7)
    assert seen(found.vif)[4] == pytest.approx(1, abs=2**-7)


def test_inflation_of_columns_that_others_make_up_is_the_largest(session, random):
    x = torch.randn(300, 7, generator=random)
    x[:, 1] = x[:, 0] + 0.001 * x[:, 1]
    x[:, 4] = x[:, 2] - 3 * x[:, 3]

    found = seen(describe(tacit.share(x, owner="alice"), columns=list("abcdefg"), vif=True, quantiles=()).vif)

    assert found[:5].tolist() == [128.0] * 5
    assert found[5:] == pytest.approx(np.ones(2), abs=0.2)


def test_an_outlier_leaves_precision(session, random):
    x = torch.randn(200, 2, generator=random)
    x[0, 0] = 500.0

    found = describe(tacit.share(x, owner="alice"), quantiles=())

    assert seen(found.std) == pytest.approx(pd.DataFrame(x.numpy()).std().to_numpy(), rel=2**-10)
    assert seen(found.correlation) == pytest.approx(np.corrcoef(x.double().t().numpy()), abs=2**-8)
    assert found.quantiles is None
    assert found.vif is None


def test_a_description_is_revealed_as_a_whole_or_in_parts(session, random):
    found = describe(tacit.share(torch.randn(100, 2, generator=random), owner="alice"), vif=True)

    plain = tacit.reveal(found, to="alice", name="table")

    assert plain.mean.shape == (2,)
    assert plain.rows == 100
    assert tacit.reveal(found.mean, name="means").shape == (2,)


def test_many_rows_are_sampled_for_quantiles(session, random):
    x = torch.arange(400.0)[:, None]

    found = describe(tacit.share(x, owner="alice"), quantiles=[0.5], sample=200)

    assert seen(found.quantiles)[0, 0] == pytest.approx(200, abs=120)  # of 200 drawn: seven deviations


def test_too_few_rows_and_other_things_are_refused(session):
    few = tacit.share(torch.zeros(99, 2), owner="alice")
    many = tacit.share(torch.zeros(100, 2), owner="alice")

    with pytest.raises(DataError, match="99 rows would say too much of single ones: it takes 100"):
        describe(few)
    with pytest.raises(DataError, match="99 rows"):
        weight_of_evidence(few, torch.zeros(99))
    assert describe(few, least_rows=50, quantiles=()).rows == 99
    for wrong, message in (
        ({"least_rows": 1}, "from 2 on"), ({"quantiles": [0.5, 1]}, "single rows'"), ({"sample": 99}, "100 at least"),
        ({"columns": ["a"]}, "1 names for 2 columns"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            describe(many, **wrong)
    with pytest.raises(DataError, match="plain ones have pandas"):
        describe(torch.zeros(100, 2))
    with pytest.raises(DataError, match="shape"):
        describe(tacit.share(torch.zeros(100), owner="alice"))


def test_a_joined_table_is_described_by_its_names(random):
    left = {"person": [f"p{k}" for k in range(120)], "income": torch.randn(120, generator=random).tolist()}
    right = {"person": [f"p{k}" for k in range(119, 9, -1)], "debt": torch.randn(110, generator=random).tolist()}

    with tacit.session():
        people = tacit.join(tacit.read_table(left, "alice", key="person"), tacit.read_table(right, "bob", key="person"))
        found = tacit.describe(people, quantiles=())
        correlation = tacit.reveal(found.correlation)

    assert found.columns == ("income", "debt")
    expected = np.corrcoef(left["income"][10:], right["debt"][::-1])
    assert correlation.numpy() == pytest.approx(expected, abs=2**-11)


def expected_evidence(x: np.ndarray, y: np.ndarray, edges: list[float], least: int) -> tuple[np.ndarray, ...]:
    place = np.searchsorted(edges, x, side="right")
    p = np.array([((place == k) & (y == 1)).sum() for k in range(len(edges) + 1)])
    n = np.array([((place == k) & (y == 0)).sum() for k in range(len(edges) + 1)])
    keep = p + n >= least
    p, n = p * keep, n * keep
    woe = np.where(keep, np.log((p + 0.5) / (n + 0.5)) - np.log((y == 1).sum() / (y == 0).sum()), 0)
    return p + n, p, woe, ((p / (y == 1).sum() - n / (y == 0).sum()) * woe).sum()


@pytest.mark.parametrize("by_name", [False, True])
def test_evidence_is_weighed_by_edges(by_name, session, random):
    y = torch.cat([torch.tensor([0, 1]), torch.randint(0, 2, (298,), generator=random)])
    x = torch.stack([torch.randn(300, generator=random) + y, torch.randn(300, generator=random) * 3], 1)
    edges = [[-1.0, 0.0, 1.0], [-2.0, 2.0, 9.0]] if by_name else [[-1.0, 0.0, 1.0]] * 2
    bins = dict(zip("ab", edges, strict=True)) if by_name else edges[0]

    found = weight_of_evidence(
        tacit.share(x, owner="alice"), tacit.share(y, owner="bob"), bins=bins, columns=["a", "b"], least_in_bin=20
    )

    for k in range(2):
        counts, positives, woe, iv = expected_evidence(x[:, k].numpy(), y.numpy(), edges[k], 20)
        assert (seen(found.counts)[k] == counts).all()
        assert (seen(found.positives)[k] == positives).all()
        assert seen(found.woe)[k] == pytest.approx(woe, abs=2**-12)
        assert seen(found.iv)[k] == pytest.approx(iv, abs=2**-10)


def test_evidence_is_weighed_by_rank(session, random):
    y = torch.randint(0, 2, (200,), generator=random)
    y[:2] = torch.tensor([0, 1])
    x = torch.randperm(200, generator=random).float() / 8

    found = weight_of_evidence(tacit.share(x[:, None], owner="alice"), tacit.share(y, owner="bob"), bins=4)

    edges = [float(x.sort().values[k]) for k in (50, 100, 150)]
    counts, positives, woe, iv = expected_evidence(x.numpy(), y.numpy(), edges, 20)
    assert (seen(found.counts)[0] == counts).all()
    assert (seen(found.positives)[0] == positives).all()
    assert seen(found.woe)[0] == pytest.approx(woe, abs=2**-12)
    assert seen(found.iv)[0] == pytest.approx(iv, abs=2**-10)


def test_one_class_has_no_evidence_that_is_infinite(session, random):
    found = weight_of_evidence(tacit.share(torch.randn(100, 1, generator=random), owner="alice"), torch.ones(100))

    assert np.isfinite(seen(found.woe)).all()
    assert np.isfinite(seen(found.iv)).all()


def test_wrong_bins_are_refused(session):
    x, y = tacit.share(torch.zeros(100, 1), owner="alice"), torch.zeros(100)

    for bins, message in (
        (1, "from 2 to 5 bins"), (6, "from 2 to 5 bins"), (True, "bins"), ([], "edges"), ([1.0, 0.0], "ascending"),
        ([float("nan")], "ascending"), ({"b": [0.0]}, "every column"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            weight_of_evidence(x, y, bins=bins, columns=["a"])
    with pytest.raises(DataError, match="one length"):
        weight_of_evidence(x, y[:50])
    with pytest.raises(DataError, match="least_in_bin"):
        weight_of_evidence(x, y, least_in_bin=0)
