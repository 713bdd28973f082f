"""What all estimators of secret trees have in common: parameters as scikit-learn has them, checks, checkpoints."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from tacit.ensemble.columns import coarse, parts_of
from tacit.ensemble.missing import BELOW, Flags, doubled, flagged, sides
from tacit.ensemble.trees import Split, Trees
from tacit.errors import ConfigError, DataError, TacitError
from tacit.protocols.number import Number
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, secret

__all__ = ["DEEPEST", "Estimator", "barred_columns", "check_fraction", "check_whole", "drawn_columns"]

DEEPEST = 10
"""The most levels of a tree. Every tree has them all: 2^10 leaves, and as many sums for each edge on the last level."""

MOST_BINS = 256


class Estimator(ABC):
    """Secret trees behind scikit-learn's interface: fit, predict, get_params, set_params."""

    n_estimators: int
    max_depth: int
    max_bins: int
    min_child_weight: float
    reg_lambda: float
    missing: bool | Sequence[int]
    random_state: int | None
    trees_: Trees
    n_features_in_: int

    @abstractmethod
    def fit(self, X: Tensor | Sequence[Tensor], y: Tensor) -> Self:
        """Grow the trees."""

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, as scikit-learn has it."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Change parameters by name, as scikit-learn has it."""
        for name, value in params.items():
            if name not in self._names():
                raise ConfigError(
                    f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(sorted(self._names()))}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = {k: v for k, v in self.get_params().items() if v != defaults[k].default}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in changed.items())})"

    def _check_common(self) -> None:
        check_whole("n_estimators", self.n_estimators, 1, 100_000)
        check_whole("max_depth", self.max_depth, 1, DEEPEST)
        check_whole("max_bins", self.max_bins, 2, MOST_BINS - bool(self.missing))
        for name in ("min_child_weight", "reg_lambda"):
            _check_finite(name, getattr(self, name), 0.0, 2.0**20)
        if self.random_state is not None:
            check_whole("random_state", self.random_state, 0, 2**63 - 1)

    def _drawn(self) -> torch.Generator | None:
        """What public choices of rows and columns are drawn from: the session's own generator, or a seeded one."""
        if self.random_state is None:
            return None
        return torch.Generator().manual_seed(self.random_state)

    def _rows(self, x: Tensor | Sequence[Tensor]) -> list[SecretTensor]:
        """The columns that a prediction is asked for."""
        if not hasattr(self, "trees_"):
            raise TacitError(f"this {type(self).__name__} has not been fitted yet: call fit first")
        parts, found = parts_of(x), self.n_features_in_
        if sum(p.shape[1] for p in parts) != found:
            widths = " + ".join(str(p.shape[1]) for p in parts)
            raise DataError(f"X has {widths} columns, but the model was fitted to {found}")
        bits = parts[0].share.protocol.frac_bits
        fine = [isinstance(p.share, Number) and p.share.frac_bits > bits for p in parts]
        parts = [secret(coarse(arithmetic(p)), p.dtype) if f else p for p, f in zip(parts, fine, strict=True)]
        return doubled(parts, self._flags())

    def _flags(self) -> Flags:
        """In which columns numbers may be missing."""
        return flagged(self.missing, self.n_features_in_)

    def _edges(self, flags: Flags) -> int:
        """Of each column."""
        return self.max_bins - 1 + any(flags)

    def _grown(self, trees: Trees, columns: int) -> None:
        """Take trees that were grown on so many columns."""
        self.trees_, self.n_features_in_ = trees, columns

    @property
    def feature_importances_(self) -> SecretTensor:
        """How much the splits on each column lowered the loss, in sum: a secret of one number a column.

        Reveal it, and divide it by its sum, for what scikit-learn shows.   Cost: one round.
        """
        if not hasattr(self, "trees_"):
            raise TacitError(f"this {type(self).__name__} has not been fitted yet: call fit first")
        origin = torch.tensor([k for k, _ in sides(self._flags())])
        each = _importances(self.trees_).settle()
        zeros = torch.zeros(self.n_features_in_, dtype=torch.int64)
        return secret(each.linear(lambda t: zeros.to(t.device).index_add(0, origin.to(t.device), t)))

    def splits_of(self, owner: str) -> list[Split] | None:
        """The splits on an owner's columns, where it was given them by `reveal_splits`; None at the other roles."""
        if not hasattr(self, "trees_"):
            raise TacitError(f"this {type(self).__name__} has not been fitted yet: call fit first")
        parties = self.trees_.leaves.protocol.session.parties
        if owner not in parties:
            raise ConfigError(f"{owner!r} is none of the parties, which are {', '.join(parties)}")
        found = self.trees_.splits_of(parties.index(owner))
        seen = sides(self._flags())
        return found and [s._replace(column=seen[s.column][0], missing_left=seen[s.column][1] == BELOW) for s in found]

    # --- checkpoints -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Parameters and secrets of a fitted model, for `tacit.save`; `load_state_dict` takes what came back."""
        if not hasattr(self, "trees_"):
            raise TacitError(f"this {type(self).__name__} has not been fitted yet: there is nothing to save")
        return {
            "estimator": type(self).__name__,
            "parameters": self.get_params(),
            "trees": self.trees_.kept(),
            "fitted": self._fitted(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> Self:
        """Make this the model that `state_dict` was asked of."""
        if not isinstance(state, dict) or state.get("estimator") != type(self).__name__:
            found = state.get("estimator") if isinstance(state, dict) else type(state).__name__
            raise DataError(f"this is the state of {found}, not of {type(self).__name__}")
        self.set_params(**state["parameters"])
        trees = Trees.restored(state["trees"])
        twice = self.missing if isinstance(self.missing, bool) else len(set(self.missing))
        self._grown(trees, trees.columns // 2 if twice is True else trees.columns - twice)
        self._refit(state["fitted"])
        return self

    @abstractmethod
    def _fitted(self) -> dict[str, Any]:
        """What fitting found beside the trees."""

    @abstractmethod
    def take_over(self, start: Number, classes: int) -> None:
        """Be a model that was fitted elsewhere, once its trees are here; its scores begin at `start`, [1, outputs]."""

    @abstractmethod
    def _refit(self, fitted: dict[str, Any]) -> None:
        """The other way round."""


def _importances(trees: Trees) -> Number:
    """Σ over all nodes of [it looks at the column] times its gain."""
    protocol = trees.gains.protocol
    flat = trees.features.move(lambda t: t.flatten(1), view=False)
    gains = trees.gains.move(lambda t: t.reshape(-1, 1), view=False)
    return protocol.bilinear(flat, gains, torch.matmul).move(lambda t: t.squeeze(1), view=False)


def drawn_columns(among: Tensor, keep: int, nodes: int, drawn: torch.Generator | None) -> Tensor:
    """So many of the columns that are there, [columns, trees, 1 or nodes], for each node; all, and no draw, if so few.

    `among` has as many columns in each of its trees and nodes.
    """
    if keep >= int(among[:, 0, 0].sum()):
        return among
    order = torch.rand(len(among), among.shape[1], nodes, generator=drawn, dtype=torch.float64)
    places = order.masked_fill(~among, 2.0).argsort(0)[:keep]
    return torch.zeros(order.shape, dtype=torch.bool).scatter(0, places, True)


def barred_columns(flags: Flags, edges: int, there: Tensor) -> Tensor:
    """The candidates, [candidates, trees, nodes], of all columns but those that are there."""
    every = ~there[[k for k, _ in sides(flags)]].repeat_interleave(edges, 0)
    return torch.cat([torch.zeros(1, *every.shape[1:], dtype=torch.bool), every])


def check_whole(name: str, value: Any, low: int, high: int) -> None:
    """Raise unless a parameter is a whole number in a range."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} is a whole number from {low} to {high}, not {value!r}")


def check_fraction(name: str, value: Any) -> None:
    """Raise unless a parameter is above zero and at most 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ConfigError(f"{name} is a number above 0 and at most 1, not {value!r}")


def _check_finite(name: str, value: Any, low: float, high: float) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (math.isfinite(value) and low <= value <= high)
    ):
        raise ConfigError(f"{name} is a number from {low:g} to {high:g}, not {value!r}")
