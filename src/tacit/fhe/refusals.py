"""The estimators of scikit-learn that are not on ciphertexts, and what to do instead."""

from __future__ import annotations

MPC = "write its `predict` in PyTorch and serve it in MPC: `tacit serve`, then `tacit.Client(...).predict`"

REASONS = {
    f"kernels of distances to training rows; {MPC}": "GaussianProcessClassifier GaussianProcessRegressor "
    "RadiusNeighborsClassifier RadiusNeighborsRegressor LocalOutlierFactor LabelPropagation LabelSpreading",
    "the classes here train on squares, which ciphertexts can compute; a ReLU network of scikit-learn is predicted in "
    "MPC: give its weights to a torch.nn.Sequential and `tacit serve` that": "MLPClassifier MLPRegressor",
    "a second model on what the first ones say: compile the first ones, and let the client run `final_estimator_`; or "
    f"{MPC}": "StackingClassifier StackingRegressor",
    f"a weighted median of what trees say; {MPC}": "AdaBoostRegressor",
    "compile the model inside it (`estimator_`, `regressor_`), and apply the threshold or the inverse of the "
    "transformation to what the client gets": "FixedThresholdClassifier TunedThresholdClassifierCV "
    "TransformedTargetRegressor SelfTrainingClassifier",
    "one model for each output: compile each of `estimators_` by itself": "MultiOutputClassifier ClassifierChain "
    "RegressorChain OutputCodeClassifier",
    "one column to a step function: its thresholds are public to whoever may ask, so let the client have "
    "it": "IsotonicRegression",
    "probabilities of categories: put a OneHotEncoder in front of a BernoulliNB in a tacit.fhe.Pipeline, which comes "
    "close": "CategoricalNB",
    "it looks at no column: give the client its answer": "DummyClassifier DummyRegressor",
    "two blocks of scores of their own: use PLSRegression": "CCA PLSCanonical",
    "it has no `predict` for new rows, or one that searches a tree: train a NearestCentroid on its labels": "Birch "
    "BisectingKMeans AgglomerativeClustering DBSCAN FeatureAgglomeration HDBSCAN OPTICS "
    "SpectralBiclustering SpectralClustering SpectralCoclustering",
    "the loss of SGDClassifier or SGDRegressor with learning_rate='pa1' or 'pa2', which are "
    "here": "PassiveAggressiveClassifier PassiveAggressiveRegressor",
}
"""What to do instead, for the classes that it holds for."""

REFUSED = {title: reason for reason, titles in REASONS.items() for title in titles.split()}


def refusal(title: str) -> str:
    """Return the sentence that refuses a class."""
    if title in REFUSED:
        return f"tacit.fhe has no {title} on ciphertexts: {REFUSED[title]}"
    return f"tacit.fhe has no {title} on ciphertexts (docs/fhe.md lists what it has): {MPC}"
