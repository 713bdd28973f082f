"""Random forests: every split is the best of the columns that were drawn, every leaf has its share of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tacit
from tacit.ensemble import RandomForestClassifier
from tacit.errors import ConfigError
from tacit.session.session import Session

from .conftest import on_grid, revealed, shared


@pytest.mark.parametrize("classes", [2, 3])
def test_leaves_have_the_shares_of_their_rows(session: Session, random: np.random.Generator, classes: int) -> None:
    x = on_grid(random.normal(size=(120, 5)))
    y = np.digitize(x[:, 0] + x[:, 1], [-0.5, 0.7][: classes - 1])
    labels = tacit.share(torch.from_numpy(y), owner="bob", classes=classes)
    model = RandomForestClassifier(
        n_estimators=4, max_depth=3, max_bins=8, bootstrap=False, min_samples_leaf=5, max_features=0.5
    )

    model.fit(shared(x, 3, 2), labels)

    trees = revealed(model)
    hot = np.eye(classes)[y][:, 1:] if classes == 2 else np.eye(classes)[y]
    total = np.zeros((120, hot.shape[1]))
    for k in range(4):
        for node, rows in trees.reached(k, x):
            if node >= 7 and rows.any():
                assert rows.sum() >= 5
                assert trees.leaves[k, :, node - 7] == pytest.approx(hot[rows].mean(0), abs=1e-3)
        total += trees.values(k, x)
    assert (trees.columns >= 0).any()
    share = tacit.reveal(model.predict_proba(shared(x, 3, 2))).numpy()
    assert share.sum(1) == pytest.approx(1, abs=1e-3)
    assert share[:, 1:] == pytest.approx(total[:, -(classes - 1) :] / 4, abs=1e-3)
    found = tacit.reveal(model.predict(shared(x, 3, 2))).numpy()
    assert ((found == share.argmax(1)) | (np.ptp(np.sort(share)[:, -2:], 1) < 1e-3)).all()
    assert (found == y).mean() > 0.6


def test_a_forest_is_as_good_as_scikit_learns(session: Session, random: np.random.Generator) -> None:
    sk = pytest.importorskip("sklearn.ensemble")
    x = on_grid(random.normal(size=(300, 6)))
    y = ((x[:, 0] * x[:, 1] > 0) | (x[:, 2] > 1)).astype(np.int64)
    model = RandomForestClassifier(n_estimators=10, max_depth=4, max_bins=16, random_state=1)

    model.fit(shared(x[:200], 4, 2), tacit.share(torch.from_numpy(y[:200]), owner="alice"))

    plain = sk.RandomForestClassifier(n_estimators=10, max_depth=4, random_state=1).fit(x[:200], y[:200])
    found = tacit.reveal(model.predict(shared(x[200:], 4, 2))).numpy()
    assert (found == y[200:]).mean() > plain.score(x[200:], y[200:]) - 0.2
    again = RandomForestClassifier().load_state_dict(model.state_dict())
    assert again.get_params() == model.get_params()


@pytest.mark.parametrize(
    "parameters",
    [{"max_features": "all"}, {"max_features": 7}, {"max_features": 0.0}, {"min_samples_leaf": 0}, {"max_samples": 2}],
)
def test_parameters_out_of_range_are_refused(session: Session, parameters: dict[str, Any]) -> None:
    y = tacit.share(torch.tensor([0, 1, 0]), owner="bob")

    with pytest.raises(ConfigError, match=next(iter(parameters))):
        RandomForestClassifier(**parameters).fit(shared(np.zeros((3, 6)), 3, 3), y)
