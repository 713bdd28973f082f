"""Trees on columns that several owners hold, with scikit-learn's names: see docs/trees.md."""

from tacit.ensemble.boosting import GradientBoostingClassifier
from tacit.ensemble.forest import RandomForestClassifier
from tacit.ensemble.missing import MISSING
from tacit.ensemble.outside import from_model
from tacit.ensemble.plain import PlainTrees, to_plain
from tacit.ensemble.regression import GradientBoostingRegressor

__all__ = [
    "MISSING",
    "GradientBoostingClassifier",
    "GradientBoostingRegressor",
    "PlainTrees",
    "RandomForestClassifier",
    "from_model",
    "to_plain",
]
