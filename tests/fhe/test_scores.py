"""Models that are read off scores, against scikit-learn's own: predictions, probabilities, decision functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression as Plain
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from tacit.errors import DataError
from tacit.fhe import (
    Client,
    Pipeline,
    cluster,
    decomposition,
    discriminant_analysis,
    estimator,
    every,
    linear_model,
    multiclass,
    naive_bayes,
    neighbors,
)

REGRESSORS = [
    getattr(linear_model, name)(**({"max_iter": 5000} if name == "HuberRegressor" else {}))
    for name in linear_model.__all__
    if not hasattr(getattr(linear_model, name), "classes_")
    and any(part in name for part in ("CV", "Lars", "ARD", "Bayes", "Huber", "Matching", "Theil", "MultiTask"))
    and "Logistic" not in name
    and "Classifier" not in name
]
CLASSIFIERS = [
    linear_model.LogisticRegressionCV(
        Cs=2, cv=2, max_iter=300, l1_ratios=(0.0,), use_legacy_attributes=False, scoring="accuracy"
    ),
    linear_model.Perceptron(random_state=0),
    linear_model.RidgeClassifier(),
    linear_model.RidgeClassifierCV(),
    discriminant_analysis.LinearDiscriminantAnalysis(),
    discriminant_analysis.QuadraticDiscriminantAnalysis(reg_param=0.1),
    naive_bayes.GaussianNB(),
    neighbors.NearestCentroid(),
    neighbors.NearestCentroid(priors="empirical"),
    multiclass.OneVsRestClassifier(Plain()),
    multiclass.OneVsRestClassifier(LinearSVC()),
]
COUNTS = [naive_bayes.MultinomialNB(), naive_bayes.ComplementNB()]


def name(value: Any) -> str:
    return type(value).__name__ if hasattr(value, "fit") else str(value)


def compare(model: Any, held_out: np.ndarray) -> None:
    """Hold a compiled classifier to scikit-learn's, in all that it offers, and ciphertexts to the integers."""
    assert (model.predict(held_out, fhe="simulate") == model.predict(held_out)).mean() >= 0.97
    for method in ("predict_proba", "decision_function"):
        if hasattr(model, method) and not isinstance(model, neighbors.NearestCentroid):
            ours, theirs = getattr(model, method)(held_out, fhe="simulate"), getattr(model, method)(held_out)
            assert ours.shape == theirs.shape
            assert np.quantile(np.abs(ours - theirs), 0.9) < 0.03 * max(1.0, float(np.abs(theirs).max()))
    executed, expected = (model._values(held_out[:3], mode)[0] for mode in ("execute", "simulate"))
    assert (executed == expected).all()


@pytest.mark.parametrize("data", ["breast-cancer", "wine"])
@pytest.mark.parametrize("model", CLASSIFIERS, ids=name)
def test_classifiers_of_scores(model: Any, data: str, datasets: Any) -> None:
    x, held_out, y, _ = datasets[data]

    compare(clone(model).fit(x, y).compile(x), held_out)


@pytest.mark.parametrize("model", COUNTS, ids=name)
def test_classifiers_of_counts(model: Any, datasets: Any) -> None:
    x, held_out, y, _ = datasets["digits"]

    compare(clone(model).fit(x, y).compile(x), held_out)


@pytest.mark.parametrize("model", REGRESSORS, ids=name)
def test_linear_regressors(model: Any, datasets: Any) -> None:
    x, held_out, y, _ = datasets["diabetes"]
    target = np.stack([y, -3 * y + x[:, 0]], axis=1) if "MultiTask" in type(model).__name__ else y
    model = clone(model).fit(x, target).compile(x)

    clear, simulated = model.predict(held_out), model.predict(held_out, fhe="simulate")

    assert clear.shape == simulated.shape
    assert r2_score(clear, simulated) > 0.99
    assert (model._values(held_out[:2], "execute")[0] == model._values(held_out[:2], "simulate")[0]).all()


@pytest.mark.parametrize("clusters", [2, 5])
@pytest.mark.parametrize("kind", [cluster.KMeans, cluster.MiniBatchKMeans])
def test_rows_go_to_the_nearest_centre(kind: Any, clusters: int, datasets: Any) -> None:
    x, held_out, _, _ = datasets["wine"]
    model = kind(clusters, random_state=0, n_init=1).fit(x).compile(x)

    assert (model.predict(held_out, fhe="simulate") == model.predict(held_out)).mean() > 0.95
    assert (model.predict(held_out[:3], fhe="execute") == model.predict(held_out[:3], fhe="simulate")).all()
    with pytest.raises(DataError, match="one cluster"):
        kind(1, n_init=1).fit(x).compile(x)


@pytest.mark.parametrize(
    "model",
    [decomposition.PCA(4), decomposition.PCA(4, whiten=True), decomposition.TruncatedSVD(3, random_state=0)],
    ids=name,
)
def test_projections_of_rows_that_the_server_does_not_see(model: Any, datasets: Any, tmp_path: Any) -> None:
    x, held_out, _, _ = datasets["digits"]
    model = clone(model).fit(x).compile(x)
    model.save_client(tmp_path)

    executed, clear = model.transform(held_out[:40], fhe="execute"), model.transform(held_out[:40])

    assert r2_score(clear, executed) > 0.999
    assert (Client(tmp_path, server=model.server()).predict(held_out[:5]) == executed[:5]).all()
    assert not hasattr(model, "predict")


@pytest.mark.parametrize(
    "model", [naive_bayes.GaussianNB(), discriminant_analysis.LinearDiscriminantAnalysis()], ids=name
)
def test_models_of_scores_in_a_pipeline(model: Any, datasets: Any) -> None:
    x, held_out, y, _ = datasets["wine"]

    compare(Pipeline([("scale", StandardScaler()), ("model", clone(model))]).fit(x, y).compile(x), held_out)


def test_labels_of_several_at_once_are_refused(datasets: Any) -> None:
    x, _, y, _ = datasets["wine"]
    both = np.stack([y == 0, y == 1], axis=1).astype(int)

    for model in (multiclass.OneVsRestClassifier(Plain()), linear_model.RidgeClassifier()):
        with pytest.raises(DataError, match="several labels"):
            model.fit(x, both).compile(x)


def test_every_class_is_the_counterpart_of_its_parent() -> None:
    for module in every.MODULES:
        for title in module.__all__:
            cls = getattr(module, title)
            parents = [parent for parent, own in estimator.COUNTERPARTS.items() if own is cls]
            assert [parent.__name__ for parent in parents] == [title] or module is every.neural_network
