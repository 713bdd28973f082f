"""Trees as arrays that travel in messages, and as a model that XGBoost loads.

Node i of a tree has the children 2 i + 1 and 2 i + 2. A row goes left at a node if its number is below the split, right
otherwise; where it has no number, as the node says. A node whose feature is -1 is a leaf.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tacit.federated.errors import ForgeryError
from tacit.federated.trees.settings import DEEPEST, Boosting
from tacit.federated.vectors import Floats

__all__ = ["Forest"]

Rows = npt.NDArray[np.float32]
LEAF = -1
VERSION = [2, 1, 4]
"""The format of the model: XGBoost reads those of older versions, the later ones a base_score of one number, too."""
NO_PARENT = 2147483647


@dataclass
class Forest:
    """Trees, each a row of every array."""

    features: npt.NDArray[np.int32]
    splits: Rows
    left: npt.NDArray[np.uint8]
    """Whether rows without a number go left."""
    values: Rows
    """What a row gets that ends at the node."""
    gains: Rows
    weights: Rows
    """The sum of second derivatives of the rows at a node."""

    @classmethod
    def empty(cls, trees: int, depth: int) -> Self:
        """Return trees of one leaf each, that is 0."""
        shape = trees, 2 ** (depth + 1) - 1
        zeros = np.zeros(shape, np.float32)
        return cls(
            np.full(shape, LEAF, np.int32), zeros, np.zeros(shape, np.uint8), zeros.copy(), zeros.copy(), zeros.copy()
        )

    def __len__(self) -> int:
        return len(self.features)

    def with_(self, more: Forest) -> Forest:
        """Return these trees and more."""
        return Forest(*(np.concatenate(both) for both in zip(self.arrays(), more.arrays(), strict=True)))

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """Return what `checked` reads."""
        return self.features, self.splits, self.left, self.values, self.gains, self.weights

    @classmethod
    def checked(cls, features: Any, splits: Any, left: Any, values: Any, columns: int) -> Self:
        """Read trees that came in a message. Raises `ForgeryError` for what is none."""
        shape = features.shape
        kinds = (np.int32, np.float32, np.uint8, np.float32)
        for array, kind in zip((features, splits, left, values), kinds, strict=True):
            if array.shape != shape or array.dtype != kind:
                raise ForgeryError("the trees that came are damaged")
        if len(shape) != 2 or shape[1] not in [2 ** (depth + 1) - 1 for depth in range(1, DEEPEST + 1)]:
            raise ForgeryError("the trees that came are deeper than any here, or have none of their shapes")
        inner = shape[1] // 2
        if (features < LEAF).any() or (features >= columns).any() or (features[:, inner:] != LEAF).any():
            raise ForgeryError("the trees that came ask for columns that there are not")
        if np.isnan(splits).any() or not np.isfinite(values).all():
            raise ForgeryError("the trees that came hold NaN or infinity")
        zeros = np.zeros(shape, np.float32)
        return cls(features, splits, left, values, zeros, zeros)

    def reach(self, tree: int, rows: Rows, depth: int = DEEPEST) -> npt.NDArray[np.intp]:
        """Return the node that each row is at after so many levels, or the leaf above."""
        at = np.zeros(len(rows), dtype=np.intp)
        features, splits, left = self.features[tree], self.splits[tree], self.left[tree]
        each = np.arange(len(rows))
        for _ in range(depth):
            feature = features[at]
            going = feature != LEAF
            if not going.any():
                break
            x = rows[each, np.maximum(feature, 0)]
            goes_left = np.where(np.isnan(x), left[at] != 0, x < splits[at])
            at = np.where(going, 2 * at + 2 - goes_left, at)
        return at

    def margins(self, rows: Rows, base: float, outputs: int, parallel: int = 1) -> Floats:
        """Return what the trees add up to, for each row and output."""
        total = np.full((len(rows), outputs), base)
        for tree in range(len(self)):
            total[:, tree // parallel % outputs] += self.values[tree][self.reach(tree, rows)]
        return total

    def model(self, settings: Boosting, base_score: float, columns: int) -> bytes:
        """Return the model as XGBoost saves it, for `Booster.load_model(bytearray(...))`."""
        rounds = len(self) // settings.group
        objective: dict[str, Any] = {"name": settings.objective}
        if settings.num_class:
            objective["softmax_multiclass_param"] = {"num_class": str(settings.num_class)}
        else:
            objective["reg_loss_param"] = {"scale_pos_weight": str(settings.scale_pos_weight)}
        model = {
            "gbtree_model_param": {"num_parallel_tree": str(settings.num_parallel_tree), "num_trees": str(len(self))},
            "iteration_indptr": [i * settings.group for i in range(rounds + 1)],
            "tree_info": [tree // settings.num_parallel_tree % settings.outputs for tree in range(len(self))],
            "trees": [self._tree(tree, columns) for tree in range(len(self))],
        }
        parameters = {
            "base_score": repr(float(base_score)), "boost_from_average": "1", "num_class": str(settings.num_class),
            "num_feature": str(columns), "num_target": "1",
        }  # fmt: skip
        learner = {
            "attributes": {}, "feature_names": [], "feature_types": [], "learner_model_param": parameters,
            "gradient_booster": {"model": model, "name": "gbtree"}, "objective": objective,
        }  # fmt: skip
        return json.dumps({"learner": learner, "version": VERSION}).encode()

    def _tree(self, tree: int, columns: int) -> dict[str, Any]:
        kept, parents, children = [0], [NO_PARENT], {}
        for at, node in enumerate(kept):  # which grows as it goes
            if self.features[tree, node] != LEAF:
                children[at] = len(kept), len(kept) + 1
                kept += [2 * node + 1, 2 * node + 2]
                parents += [at, at]
        inner = [at in children for at in range(len(kept))]
        features, splits, left, values, gains, weights = (array[tree, kept] for array in self.arrays())
        conditions = np.where(inner, splits, values)
        return {
            "base_weights": values.astype(float).tolist(), "categories": [], "categories_nodes": [],
            "categories_segments": [], "categories_sizes": [], "default_left": left.astype(int).tolist(), "id": tree,
            "left_children": [children.get(at, (-1, -1))[0] for at in range(len(kept))],
            "loss_changes": gains.astype(float).tolist(), "parents": parents,
            "right_children": [children.get(at, (-1, -1))[1] for at in range(len(kept))],
            "split_conditions": conditions.astype(float).tolist(),
            "split_indices": np.maximum(features, 0).tolist(), "split_type": [0] * len(kept),
            "sum_hessian": weights.astype(float).tolist(),
            "tree_param": {
                "num_deleted": "0", "num_feature": str(columns), "num_nodes": str(len(kept)), "size_leaf_vector": "1",
            },
        }  # fmt: skip
