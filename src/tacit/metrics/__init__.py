"""scikit-learn's measures on secrets: a secret number comes out, and only `tacit.reveal` opens it."""

from tacit.metrics.classification import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)
from tacit.metrics.probability import brier_score_loss, calibration_curve, log_loss
from tacit.metrics.ranking import average_precision_score, gini_score, ks_score, roc_auc_score
from tacit.metrics.regression import mean_absolute_error, mean_squared_error, r2_score, root_mean_squared_error

__all__ = [
    "accuracy_score",
    "average_precision_score",
    "balanced_accuracy_score",
    "brier_score_loss",
    "calibration_curve",
    "confusion_matrix",
    "f1_score",
    "gini_score",
    "ks_score",
    "log_loss",
    "mean_absolute_error",
    "mean_squared_error",
    "precision_score",
    "r2_score",
    "recall_score",
    "roc_auc_score",
    "root_mean_squared_error",
]
