"""scikit-learn's own conformance checks: whatever a parent class passes, the encrypted class passes."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.estimator_checks import check_estimator

from tacit.fhe import neural_network
from tacit.fhe.every import MODULES

CLASSES = [getattr(module, name) for module in MODULES if module is not neural_network for name in module.__all__]
QUICK = ["LogisticRegression", "Ridge", "SGDClassifier", "LinearSVC", "DecisionTreeClassifier", "KNeighborsRegressor"]
NEEDED = {
    "OneVsRestClassifier": {"estimator": LogisticRegression()},
    "OneVsOneClassifier": {"estimator": LogisticRegression()},
    "MultiOutputRegressor": {"estimator": Ridge()},
    "VotingClassifier": {"estimators": [("a", LogisticRegression()), ("b", LogisticRegression(C=2.0))]},
    "VotingRegressor": {"estimators": [("a", Ridge()), ("b", Ridge(alpha=2.0))]},
}
pytestmark = pytest.mark.filterwarnings("ignore")


def failed(estimator: Any) -> set[str]:
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) > 30
    return {result["check_name"] for result in results if result["status"] == "failed"}


@pytest.mark.parametrize(
    "cls", [pytest.param(c, marks=[] if c.__name__ in QUICK else [pytest.mark.slow]) for c in CLASSES]
)  # fmt: skip
def test_scikit_learns_own_checks_pass(cls: type) -> None:
    parent = next(base for base in cls.__mro__ if base.__module__.startswith("sklearn."))
    own = cls.__module__ == neural_network.__name__  # trained here, so there is no parent to excuse it

    needed = NEEDED.get(cls.__name__, {})
    failures = failed(cls(**needed))

    assert not failures or (not own and failures <= failed(parent(**needed)))
