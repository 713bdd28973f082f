"""Trees on columns that several owners hold, with scikit-learn's names: see docs/trees.md."""

from tacit.ensemble.boosting import GradientBoostingClassifier, GradientBoostingRegressor
from tacit.ensemble.forest import RandomForestClassifier
from tacit.ensemble.outside import from_model

__all__ = ["GradientBoostingClassifier", "GradientBoostingRegressor", "RandomForestClassifier", "from_model"]
