"""XGBoost's parameters, by its names: those that trees from sums have. Others are refused, not ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from tacit.federated.trees.objectives import OBJECTIVES

__all__ = ["Boosting"]

ALIASES = {
    "learning_rate": "eta", "reg_lambda": "lambda_", "lambda": "lambda_", "reg_alpha": "alpha",
    "min_split_loss": "gamma", "random_state": "seed",
}  # fmt: skip

NO_MATTER = ("nthread", "n_jobs", "verbosity", "eval_metric", "device", "validate_parameters")
"""What changes no tree."""

AS_HERE = (("booster", "gbtree"), ("tree_method", "hist"), ("tree_method", "auto"))

DEEPEST = 10
"""Levels. Each doubles what a client sends: 10 of them, with 28 features of 64 bins, are 15 MB for the last."""


@dataclass(frozen=True)
class Boosting:
    """How trees are grown. Names and defaults are XGBoost's, but for `max_bin`."""

    objective: str = "reg:squarederror"
    num_class: int = 0
    eta: float = 0.3
    max_depth: int = 6
    max_bin: int = 64
    """XGBoost's 256 would be four times the bytes, and seldom a better model."""
    lambda_: float = 1.0
    alpha: float = 0.0
    gamma: float = 0.0
    min_child_weight: float = 1.0
    num_parallel_tree: int = 1
    subsample: float = 1.0
    colsample_bytree: float = 1.0
    scale_pos_weight: float = 1.0
    base_score: float | None = None
    """The mean of all sites' labels, unless given; 0.5 for several classes."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective {self.objective!r} is not here: it may be {', '.join(OBJECTIVES)}")
        several = self.objective.startswith("multi:")
        if several != (self.num_class >= 2):
            raise ValueError("num_class is how many classes multi:softprob and multi:softmax have, and of no others")
        if not 1 <= self.max_depth <= DEEPEST:
            raise ValueError(f"max_depth may be from 1 to {DEEPEST}, not {self.max_depth}: each level asks all sites")
        if not 2 <= self.max_bin <= 1024:
            raise ValueError(f"max_bin may be from 2 to 1024, not {self.max_bin}")
        if self.num_parallel_tree < 1:
            raise ValueError("num_parallel_tree must be positive")
        for name in ("subsample", "colsample_bytree", "eta"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0, and at most 1")
        for name in ("lambda_", "alpha", "gamma", "min_child_weight"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name.rstrip('_')} must not be negative")
        if not (self.scale_pos_weight > 0 and math.isfinite(self.scale_pos_weight)):
            raise ValueError("scale_pos_weight must be positive")
        if self.scale_pos_weight != 1 and not self.logistic:
            raise ValueError("scale_pos_weight weighs the rows of class 1, of a logistic objective")
        if self.base_score is not None and self.logistic and not 0 < self.base_score < 1:
            raise ValueError("base_score of a logistic objective is a probability, between 0 and 1")

    @property
    def logistic(self) -> bool:
        """Whether labels are from 0 to 1, and margins are log odds."""
        return self.objective.endswith(":logistic")

    @property
    def outputs(self) -> int:
        """How many margins a row has."""
        return self.num_class or 1

    @property
    def group(self) -> int:
        """How many trees are grown side by side."""
        return self.outputs * self.num_parallel_tree

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Read XGBoost's parameters. Raises `ValueError` for those that would give other trees and are not here."""
        known = {field.name: field for field in fields(cls)}
        found: dict[str, Any] = {}
        for name, value in params.items():
            own = ALIASES.get(name, name)
            if value is None or name in NO_MATTER or (name, value) in AS_HERE:  # None is XGBoost's for its default
                continue
            if own not in known or name == "lambda_":
                raise ValueError(f"trees from sums have no {name}={value!r}, and without it they would be others")
            if own in found:
                raise ValueError(f"{name} is given twice, under two of its names")
            default = known[own].default
            kind = int if isinstance(default, int) else float if own != "objective" else str
            found[own] = kind(value)
            if kind is int and found[own] != value:
                raise ValueError(f"{name} must be a whole number, not {value!r}")
        return cls(**found)
