"""Models that are read off scores, against scikit-learn's own: predictions, probabilities, decision functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import GradientBoostingRegressor, StackingClassifier
from sklearn.ensemble import RandomForestClassifier as SkForest
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import Lasso, Perceptron, PoissonRegressor, Ridge
from sklearn.linear_model import LogisticRegression as Plain
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils import all_estimators

from tacit.errors import DataError
from tacit.fhe import (
    Client,
    Pipeline,
    calibration,
    cluster,
    covariance,
    cross_decomposition,
    decomposition,
    discriminant_analysis,
    ensemble,
    estimator,
    every,
    kernel_ridge,
    linear_model,
    mixture,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    refusals,
    svm,
)

ROOT = Path(__file__).parents[2]

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
    multiclass.OneVsOneClassifier(LinearSVC()),
    svm.SVC(kernel="linear"),
    svm.SVC(kernel="linear", decision_function_shape="ovo"),
    svm.NuSVC(kernel="linear", nu=0.2, break_ties=True),
    naive_bayes.BernoulliNB(),
    naive_bayes.BernoulliNB(binarize=0.5, fit_prior=False),
    calibration.CalibratedClassifierCV(LinearSVC(), cv=2),
    calibration.CalibratedClassifierCV(Plain(), cv=2, ensemble=False),
    calibration.CalibratedClassifierCV(make_pipeline(StandardScaler(), LinearSVC()), cv=2),
    ensemble.VotingClassifier([("a", Plain()), ("b", LinearDiscriminantAnalysis())], voting="soft"),
    ensemble.VotingClassifier([("a", Plain()), ("b", LinearSVC()), ("c", Perceptron())], weights=[1.0, 2.0, 1.5]),
    ensemble.VotingClassifier(
        [("a", SkForest(5, max_depth=4, random_state=0)), ("b", DecisionTreeClassifier(max_depth=3))],
        voting="soft", weights=[3.0, 1.0], n_bits=8,
    ),
]  # fmt: skip
ANOMALIES = [
    svm.OneClassSVM(kernel="linear", nu=0.2),
    linear_model.SGDOneClassSVM(nu=0.3, random_state=0),
    covariance.EllipticEnvelope(random_state=0),
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


@pytest.mark.parametrize("model", ANOMALIES, ids=name)
@pytest.mark.filterwarnings("ignore:encrypted and clear")
def test_anomalies(model: Any, datasets: Any) -> None:
    x, held_out, _, _ = datasets["wine"]

    compare(clone(model).fit(x[:, :8]).compile(x[:, :8]), held_out[:, :8])


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("kind", [mixture.GaussianMixture, mixture.BayesianGaussianMixture])
def test_components_of_mixtures(kind: Any, covariance_type: str, datasets: Any) -> None:
    x, held_out, _, _ = datasets["wine"]
    for count in (2, 3):
        model = kind(n_components=count, covariance_type=covariance_type, random_state=0, reg_covar=1e-2).fit(x[:, :6])

        compare(model.compile(x[:, :6]), held_out[:, :6])


VOTERS = [("a", Ridge()), ("b", make_pipeline(StandardScaler(), Lasso(alpha=0.1)))]
STUMPS = [("a", DecisionTreeRegressor(max_depth=3)), ("b", GradientBoostingRegressor(n_estimators=4, random_state=0))]


@pytest.mark.parametrize(
    "model",
    [
        svm.SVR(kernel="linear", C=100.0),
        svm.NuSVR(kernel="linear", C=100.0),
        linear_model.RANSACRegressor(random_state=0),
        kernel_ridge.KernelRidge(alpha=0.1),
        cross_decomposition.PLSRegression(3),
        ensemble.VotingRegressor(VOTERS, weights=[1.0, 3.0]),
        ensemble.VotingRegressor(STUMPS, n_bits=8),
        ensemble.VotingRegressor(STUMPS[:1], n_bits=8, hide_structure=False),
    ],
    ids=name,
)
def test_regressors_of_every_family(model: Any, datasets: Any) -> None:
    x, held_out, y, _ = datasets["diabetes"]
    model = clone(model).fit(x, y).compile(x)

    clear, simulated = model.predict(held_out), model.predict(held_out, fhe="simulate")

    assert clear.shape == simulated.shape
    assert r2_score(clear, simulated) > 0.99
    assert (model._values(held_out[:2], "execute")[0] == model._values(held_out[:2], "simulate")[0]).all()


@pytest.mark.parametrize(
    "model", [multioutput.MultiOutputRegressor(Ridge()), cross_decomposition.PLSRegression(3)], ids=name
)
def test_several_targets(model: Any, datasets: Any) -> None:
    x, held_out, y, _ = datasets["diabetes"]
    model = clone(model).fit(x, np.stack([y, -3 * y + x[:, 0]], axis=1)).compile(x)

    clear, executed = model.predict(held_out[:5]), model.predict(held_out[:5], fhe="execute")

    assert np.abs(executed - clear).max() < 0.03 * np.abs(clear).max()


def test_what_is_not_linear_is_refused_by_name(datasets: Any) -> None:
    x, _, y, _ = datasets["wine"]
    forest = SkForest(2, max_depth=2)
    refused = [
        (svm.SVC(), "kernel='rbf'"),
        (svm.OneClassSVM(), "kernel='rbf'"),
        (kernel_ridge.KernelRidge(kernel="rbf"), "kernel='rbf'"),
        (calibration.CalibratedClassifierCV(Plain(), method="isotonic", cv=2), "method='sigmoid'"),
        (calibration.CalibratedClassifierCV(forest, cv=2), "not RandomForestClassifier"),
        (multiclass.OneVsOneClassifier(forest), "not RandomForestClassifier"),
        (ensemble.VotingClassifier([("a", Plain()), ("b", forest)], voting="soft"), "not both"),
        (ensemble.VotingClassifier([("a", Plain()), ("b", GaussianNB())], voting="soft"), "not GaussianNB"),
        (ensemble.VotingClassifier([("a", forest)]), "voting='soft'"),
        (ensemble.VotingClassifier([("a", make_pipeline(Normalizer(), Plain()))], voting="soft"), "Pipeline"),
        (multioutput.MultiOutputRegressor(forest), "not RandomForestClassifier"),
        (ensemble.VotingRegressor([("a", PoissonRegressor())]), "not PoissonRegressor"),
    ]

    for model, said in refused:
        target = np.stack([y, y], axis=1) if isinstance(model, multioutput.MultiOutputRegressor) else y
        with pytest.raises(DataError, match=said):
            model.fit(x, target).compile(x)


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
    [cluster.MeanShift(bandwidth=3.0), cluster.AffinityPropagation(preference=-200.0, random_state=0)],
    ids=name,
)
def test_rows_go_to_the_nearest_of_found_centres(model: Any, datasets: Any) -> None:
    x, held_out, _, _ = datasets["wine"]

    compare(clone(model).fit(x).compile(x), held_out)


@pytest.mark.parametrize(
    "model",
    [
        decomposition.PCA(4),
        decomposition.PCA(4, whiten=True),
        decomposition.TruncatedSVD(3, random_state=0),
        decomposition.IncrementalPCA(4, whiten=True),
        decomposition.FactorAnalysis(3, random_state=0),
        decomposition.FastICA(4, random_state=0, max_iter=1000, tol=0.01),
    ],
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


def test_the_winner_of_a_search_is_taken_over(datasets: Any) -> None:
    x, held_out, y, _ = datasets["wine"]
    search = GridSearchCV(make_pipeline(StandardScaler(), Plain()), {"logisticregression__C": [0.1, 1.0]}, cv=2)
    alone = RandomizedSearchCV(Plain(max_iter=500), {"C": [0.1, 1.0]}, n_iter=2, cv=2)

    pipeline = Pipeline.from_sklearn_model(search.fit(x, y), x)
    model = linear_model.LogisticRegression.from_sklearn_model(alone.fit(x, y), x)
    frozen = linear_model.LogisticRegression.from_sklearn_model(FrozenEstimator(alone.best_estimator_), x)

    assert (pipeline.predict(held_out, fhe="simulate") == search.predict(held_out)).mean() > 0.97
    assert (model.predict(held_out, fhe="simulate") == alone.predict(held_out)).mean() > 0.97
    assert (frozen.predict(held_out, fhe="simulate") == model.predict(held_out, fhe="simulate")).all()


def every_estimator() -> list[tuple[str, str]]:
    """Return (module, class) of all of scikit-learn's that predict."""
    found = all_estimators(["classifier", "regressor", "cluster"])
    more = {"IsolationForest", "OneClassSVM", "SGDOneClassSVM", "EllipticEnvelope", "LocalOutlierFactor"}
    more |= {"GaussianMixture", "BayesianGaussianMixture"}
    found += [(title, cls) for title, cls in all_estimators() if title in more and (title, cls) not in found]
    return sorted({(title, cls.__module__.split(".")[1]) for title, cls in found})


@pytest.mark.parametrize(("title", "module"), every_estimator())
def test_every_estimator_of_scikit_learn_is_there_or_refused_with_advice(title: str, module: str) -> None:
    ours = {parent.__name__ for parent in estimator.COUNTERPARTS}

    assert (title in ours) != (title in refusals.REFUSED), f"{module}.{title}"
    assert title in (ROOT / "docs" / "fhe.md").read_text() or title in ours


def test_a_refusal_says_what_to_do_instead() -> None:
    with pytest.raises(DataError, match=r"no GaussianProcessClassifier on ciphertexts: .*tacit\.Client"):
        estimator.counterpart(GaussianProcessClassifier())
    with pytest.raises(DataError, match="no StackingClassifier"):
        estimator.counterpart(StackingClassifier([("a", Plain())]))
    table = (ROOT / "docs" / "fhe.md").read_text()
    for reason, titles in refusals.REASONS.items():
        assert f"| {', '.join(sorted(titles.split()))} | {reason} |" in table


def test_every_class_is_the_counterpart_of_its_parent() -> None:
    for module in every.MODULES:
        for title in module.__all__:
            cls = getattr(module, title)
            parents = [parent for parent, own in estimator.COUNTERPARTS.items() if own is cls]
            assert [parent.__name__ for parent in parents] == [title] or module is every.neural_network
