"""Trees on columns that several owners hold, with scikit-learn's names: see docs/trees.md."""

from tacit.ensemble.boosting import GradientBoostingClassifier, GradientBoostingRegressor

__all__ = ["GradientBoostingClassifier", "GradientBoostingRegressor"]
