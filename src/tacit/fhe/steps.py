"""scikit-learn's transformers as data: the steps before a model, which a client runs in clear.

A step is written as the name of its class, from the list below, and its attributes: numbers, strings, arrays, lists
and other steps. Reading one makes an object of a listed class and sets its attributes; no code is in the file, and
no class outside the list is ever made. That is why a step that holds a function of the user's, or training rows,
cannot be written, and is refused by name.
"""

from __future__ import annotations

import importlib
import json
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn
from scipy import sparse

from tacit.errors import DataError, MessageError
from tacit.fhe.fields import dtype_named

Float = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

CLASSES = {
    "compose": "ColumnTransformer",
    "decomposition": "FactorAnalysis FastICA IncrementalPCA NMF PCA TruncatedSVD",
    "feature_extraction": "DictVectorizer FeatureHasher",
    "feature_extraction.text": "CountVectorizer HashingVectorizer TfidfTransformer TfidfVectorizer",
    "feature_selection": "GenericUnivariateSelect SelectFdr SelectFpr SelectFwe SelectKBest SelectPercentile "
    "VarianceThreshold",
    "impute": "MissingIndicator SimpleImputer",
    "kernel_approximation": "AdditiveChi2Sampler PolynomialCountSketch RBFSampler SkewedChi2Sampler",
    "pipeline": "FeatureUnion Pipeline",
    "preprocessing": "Binarizer FunctionTransformer KBinsDiscretizer LabelBinarizer MaxAbsScaler MinMaxScaler "
    "MultiLabelBinarizer Normalizer OneHotEncoder OrdinalEncoder PolynomialFeatures PowerTransformer "
    "QuantileTransformer RobustScaler StandardScaler TargetEncoder",
    "random_projection": "GaussianRandomProjection SparseRandomProjection",
}
"""Transformers whose attributes are what they learned about columns. KNNImputer and Nystroem keep training rows, so
they are not here; SplineTransformer and IterativeImputer keep objects of other libraries and other models."""

FUNCTIONS = {
    "numpy": "abs absolute arcsinh arctan cbrt ceil cos exp expm1 floor log log10 log1p log2 negative reciprocal rint "
    "sign sin sqrt square tan tanh trunc",
    "sklearn.feature_selection": "chi2 f_classif f_regression mutual_info_classif mutual_info_regression r_regression",
}
"""Functions that an attribute may name: those that a FunctionTransformer applies value by value, and the scores that
a selection was made by (which are kept for `repr` only)."""

_FITTING = ("random_state", "verbose", "n_jobs", "memory", "callback")
"""Attributes that only training reads: left out of the file where they are not plain."""


def _listed(table: dict[str, str], name: str, prefix: str) -> Any:
    module, _, short = name.rpartition(".")
    if not module.startswith(prefix) or short not in table.get(module.removeprefix(prefix), "").split():
        raise MessageError(f"this model file names {name!r}, which is no step that a client may run")
    return getattr(importlib.import_module(module), short)


def _class_name(kind: type) -> str | None:
    """Return the listed name of a transformer's class."""
    for module, names in CLASSES.items():
        if kind.__name__ in names.split() and kind.__module__.startswith(f"sklearn.{module.split('.')[0]}"):
            name = f"sklearn.{module}.{kind.__name__}"
            return name if _listed(CLASSES, name, "sklearn.") is kind else None
    return None


def _function_name(item: Any) -> str | None:
    for module, names in FUNCTIONS.items():
        short = getattr(item, "__name__", "")
        if short in names.split() and getattr(importlib.import_module(module), short) is item:
            return f"{module}.{short}"
    return None


class _Writer:
    """Turns a step into a tree of JSON and a list of arrays."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []

    def tree(self, item: Any, where: str) -> Any:
        """Return the tree of one value."""
        if item is None or isinstance(item, (bool, str)) or type(item) is int:
            return item
        if type(item) is float:
            return {"float": repr(item)}
        if isinstance(item, (list, tuple, set, frozenset)):
            kind = "tuple" if isinstance(item, tuple) else "list" if isinstance(item, list) else "set"
            return {kind: [self.tree(part, where) for part in item]}
        if isinstance(item, dict):
            return {"dict": [[self.tree(k, where), self.tree(v, where)] for k, v in item.items()]}
        if isinstance(item, slice):
            return {"slice": [self.tree(part, where) for part in (item.start, item.stop, item.step)]}
        if isinstance(item, (np.ndarray, np.generic)):
            return self._array(item, where)
        if sparse.issparse(item):
            rows = item.tocsr()
            parts = [self._array(part, where) for part in (rows.data, rows.indices, rows.indptr)]
            return {"sparse": [*parts, list(item.shape)]}
        return self._other(item, where)

    def _other(self, item: Any, where: str) -> Any:
        if isinstance(item, (np.dtype, type)):
            try:
                return {"dtype" if isinstance(item, np.dtype) else "type": _checked_dtype(np.dtype(item)).str}
            except (TypeError, MessageError):
                pass
        if (name := _function_name(item)) is not None:
            return {"function": name}
        if (name := _class_name(type(item))) is not None:
            short = type(item).__name__
            if getattr(item, "input", "content") != "content":
                raise DataError(f"{short} with input={item.input!r} cannot be run by a client: give it the texts")
            fields = {k: v for k, v in vars(item).items() if not (k in _FITTING and not _plain(v))}
            return {"step": name, "fields": [[k, self.tree(v, f"{short}.{k}")] for k, v in fields.items()]}
        what = type(item).__name__
        place = f"{what} ({where}), in the steps before the model," if where else f"{what} before the model"
        raise DataError(
            f"{place} cannot be written into a client's file, which holds data only: use scikit-learn's scalers, "
            "encoders, imputers and selections, or transform the rows before they are given to the model"
        )

    def _array(self, item: Any, where: str) -> Any:
        array = np.asarray(item)
        if array.dtype.kind in "OU":
            flat = [self.tree(part.item() if isinstance(part, np.generic) else part, where) for part in array.ravel()]
            return {"objects": flat, "shape": list(array.shape), "of": "str" if array.dtype.kind == "U" else "object"}
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise DataError(f"the steps before the model hold an array of {array.dtype} ({where}): only numbers do")
        self.arrays.append(np.ascontiguousarray(array))
        return {"array": len(self.arrays) - 1, "shape": list(array.shape), "scalar": isinstance(item, np.generic)}


def _plain(item: Any) -> bool:
    return item is None or isinstance(item, (bool, int, float, str))


KINDS, OTHER_KIND = "biufOU", "a type of number that no step uses"


def _checked_dtype(dtype: Any) -> Any:
    if dtype.kind not in KINDS:
        raise MessageError(f"this model file names {OTHER_KIND}")
    return dtype


def _read(tree: Any, arrays: tuple[Array, ...]) -> Any:
    """Return the value of a tree; steps are made from the list of classes only."""
    if not isinstance(tree, dict):
        return tree
    (kind, body), more = next(iter(tree.items())), tree
    match kind:
        case "float":
            return float(body)
        case "list" | "tuple" | "set":
            return {"list": list, "tuple": tuple, "set": set}[kind](_read(part, arrays) for part in body)
        case "dict":
            return {_read(k, arrays): _read(v, arrays) for k, v in body}
        case "slice":
            return slice(*(_read(part, arrays) for part in body))
        case "array":
            array = arrays[body].reshape(more["shape"])
            return array[()] if more["scalar"] else array
        case "objects":
            flat = [_read(part, arrays) for part in body]
            if more["of"] == "str":
                return np.array(flat, dtype=str).reshape(more["shape"])
            out = np.empty(len(flat), dtype=object)
            out[:] = flat
            return out.reshape(more["shape"])
        case "sparse":
            data, indices, indptr = (_read(part, arrays) for part in body[:3])
            return sparse.csr_matrix((data, indices, indptr), shape=tuple(body[3]))
        case "dtype" | "type":
            dtype = dtype_named(body, KINDS, OTHER_KIND)
            return dtype if kind == "dtype" else dtype.type
        case "function":
            return _listed(FUNCTIONS, body, "")
        case "step":
            return _step(body, more["fields"], arrays)
    raise MessageError("this model file holds a step that this program does not know")


def _step(name: str, fields: list[Any], arrays: tuple[Array, ...]) -> Any:
    kind = _listed(CLASSES, name, "sklearn.")
    values = {key: _read(value, arrays) for key, value in fields}
    if not all(isinstance(key, str) and key.isidentifier() and not key.startswith("__") for key in values):
        raise MessageError("this model file holds a step with an attribute that no step has")
    if any(hasattr(kind, key) and callable(getattr(kind, key)) for key in values) or values.get("input") == "filename":
        raise MessageError("this model file holds a step with an attribute that no step has")
    step = kind.__new__(kind)
    step.__dict__.update(values)
    return step


@dataclass(frozen=True)
class Steps:
    """Fitted public steps, as data."""

    text: str
    version: str
    arrays: tuple[Array, ...]

    @classmethod
    def of(cls, steps: Any) -> Steps:
        """Return the data of a fitted scikit-learn pipeline of transformers.

        Raises:
            DataError: for a step outside the list, which is named.
        """
        writer = _Writer()
        text = json.dumps(writer.tree(steps, ""), allow_nan=False)
        return cls(text, sklearn.__version__, tuple(writer.arrays))

    @cached_property
    def _made(self) -> Any:
        if self.version.split(".")[:2] != sklearn.__version__.split(".")[:2]:
            raise MessageError(
                f"the steps of this model file are of scikit-learn {self.version}, and this machine has "
                f"{sklearn.__version__}: install that version, or save the model again with this one"
            )
        try:
            return _read(json.loads(self.text), self.arrays)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise MessageError("the steps of this model file are damaged") from error

    @property
    def names(self) -> tuple[str, ...]:
        """The classes of the steps, in order."""
        return tuple(type(step).__name__ for _, step in self._made.steps)

    def __call__(self, x: Any) -> Float:
        """Return what the steps make of a user's table.

        Raises:
            DataError: with scikit-learn's own reason, for a table that the steps refuse.
        """
        made = self._made
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="X does not have valid feature names")
                out = made.transform(x)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise DataError("the steps before the model refuse these rows, for scikit-learn's reason above") from error
        return np.asarray(out.toarray() if hasattr(out, "toarray") else out, dtype=np.float64)
