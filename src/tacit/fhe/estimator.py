"""What every encrypted scikit-learn model shares: compile it, predict on ciphertexts, save its two halves, report.

`FheModel` is mixed into scikit-learn's own class, so training, hyper-parameters and the clear `predict` are
scikit-learn's, untouched; a compiled model adds `fhe="simulate"` and `fhe="execute"`.
"""

from __future__ import annotations

import inspect
import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from tacit.errors import DataError, FheError
from tacit.fhe import spec
from tacit.fhe.client import Client
from tacit.fhe.compile.assemble import MOST_BITS, Circuit, Compiled, assemble, finest
from tacit.fhe.compile.check import check, complaint
from tacit.fhe.encode import Affine
from tacit.fhe.fingerprint import fingerprint
from tacit.fhe.read import Float, Labels
from tacit.fhe.refusals import refusal
from tacit.fhe.report import Report, report
from tacit.fhe.server import Server
from tacit.fhe.table import Front, names_of, trained_names

Mode = Literal["disable", "simulate", "execute"]
MODES = ("disable", "simulate", "execute")
Model = TypeVar("Model", bound=type)


class FheModel:
    """A scikit-learn model that can be compiled to predict on ciphertexts."""

    n_bits: int | None
    usual_bits: ClassVar[int] = 8
    """With n_bits=None: the bits whose ciphertexts are paid for; as many more are taken as fit into these."""
    _circuit: Circuit | None = None
    _compiled_state: str | None = None

    @abstractmethod
    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        """Return the program, encoder, reader and head of this trained model behind `before`, with the ranges of x."""

    def _front(self, x: Any) -> tuple[Front, Affine | None, Float]:
        """Return what happens to a user's table first, the affine map after it, and the table x after the first."""
        front = Front(trained_names(self) or names_of(x))
        return front, None, representative(front(x), self._allows_missing())

    def _allows_missing(self) -> bool:
        """Return whether the rows of a user may have missing values: of a tree, if scikit-learn's may."""
        return False

    def _clear(self, x: Any) -> Any:
        """Return what encrypted predictions are compared with."""
        return self.predict(x)

    def predict(self, X: Any, *args: Any, fhe: Mode = "disable", **kwargs: Any) -> Labels:  # noqa: N803
        """Predict in clear with the float model, in clear with integers ("simulate"), or on ciphertexts ("execute")."""
        if fhe == "disable":
            clear: Labels = super().predict(X, *args, **kwargs)  # type: ignore[misc]
            return clear
        return self._compiled().client_spec.head.predict(*self._values(X, fhe))

    def _proba(self, clear: Callable[[Any], Any], x: Any, fhe: Mode) -> Float:
        """Return class probabilities, from `clear` or from the integers."""
        if fhe == "disable":
            own: Float = clear(x)
            return own
        return self._compiled().client_spec.head.predict_proba(*self._values(x, fhe))

    def _decision(self, clear: Callable[[Any], Any], x: Any, fhe: Mode) -> Float:
        """Return scores, from `clear` or from the integers."""
        if fhe == "disable":
            own: Float = clear(x)
            return own
        return self._compiled().client_spec.head.scores(*self._values(x, fhe))

    def compile(self, x: Any) -> Self:
        """Fix quantisation and encryption parameters from representative rows, and make an in-process client and
        server.

        The ranges of the columns of x become public to clients. Values outside them are cut off in linear models.
        Warns where encrypted and clear predictions agree on fewer than 99 % of these rows (quantities: r2 below 0.99).
        """
        check_is_fitted(self)
        bits = checked_bits(self.n_bits)
        front, before, matrix = self._front(x)

        def lower(n_bits: int) -> Compiled:
            return self._lower(matrix, before, n_bits)

        parts, bits = (lower(bits), bits) if bits is not None else finest(lower, self.usual_bits)
        circuit = assemble(self._compiled_name(), parts, front)
        seen = check(self, circuit, x, matrix, bits)
        if (said := complaint(type(self).__name__, circuit, seen)) is not None:
            warnings.warn(said, stacklevel=2)
        self._circuit, self._compiled_state = replace(circuit, check=seen), fingerprint(self)
        return self

    def _compiled_name(self) -> str:
        return type(self).__name__

    @classmethod
    def from_sklearn_model(cls, trained: Any, x: Any, n_bits: int | None = None) -> Self:
        """Return the encrypted counterpart of a trained scikit-learn model, compiled with the representative rows x."""
        model: Self = adopt(cls, trained, n_bits)
        return model.compile(x)

    def _compiled(self) -> Circuit:
        if self._circuit is None:
            raise FheError("call compile(X) with representative rows before predicting on ciphertexts")
        if fingerprint(self) != self._compiled_state:
            raise FheError("this model was trained or changed since compile(X): compile it again")
        return self._circuit

    def _values(self, x: Any, fhe: Mode) -> tuple[Any, Any]:
        if fhe not in MODES:
            raise FheError(f"fhe must be one of {', '.join(MODES)}, not {fhe!r}")
        circuit = self._compiled()
        return circuit.simulate(x) if fhe == "simulate" else circuit.client.values(x)

    def save_server(self, folder: str | Path) -> Path:
        """Write what a server needs: the model as integers and the parameters. No key is in it."""
        return spec.save(self._compiled().server_spec, folder)

    def save_client(self, folder: str | Path) -> Path:
        """Write what a client needs: encoder, parameters and how to read an answer. No weight is in it."""
        return spec.save(self._compiled().client_spec, folder)

    def client(self) -> Client:
        """Return a new client, with keys of its own, for this compiled model."""
        return Client(self._compiled().client_spec)

    def server(self) -> Server:
        """Return a new server for this compiled model."""
        return Server(self._compiled().server_spec)

    def fhe_report(self) -> Report:
        """Return who learns what, the security level, the sizes and the measured latency."""
        return report(self._compiled())

    def __getstate__(self) -> dict[str, Any]:
        """Take the two compiled halves along, if they are of this very model, but no key: a copy makes its own."""
        parent: Any = super().__getstate__()
        kept = self._circuit is not None and fingerprint(self) == self._compiled_state
        left_out = ("_compiled_state",) if kept else ("_circuit", "_compiled_state")
        return {name: value for name, value in parent.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        parent: Any = super()
        parent.__setstate__(state)
        if self._circuit is not None:
            self._compiled_state = fingerprint(self)


class WithProba(FheModel):
    """Adds `fhe=` to `predict_proba`."""

    def predict_proba(self, X: Any, fhe: Mode = "disable") -> Float:  # noqa: N803
        """Return class probabilities; see `predict` for `fhe`."""
        return self._proba(super().predict_proba, X, fhe)  # type: ignore[misc]


class WithDecision(FheModel):
    """Adds `fhe=` to `decision_function`."""

    def decision_function(self, X: Any, fhe: Mode = "disable") -> Float:  # noqa: N803
        """Return the scores; see `predict` for `fhe`."""
        return self._decision(super().decision_function, X, fhe)  # type: ignore[misc]


def checked_bits(n_bits: Any) -> int | None:
    """Return n_bits, None for the finest that costs nothing, or refuse it."""
    if n_bits is None:
        return None
    if not isinstance(n_bits, (int, np.integer)) or not 2 <= n_bits <= MOST_BITS:
        raise DataError(f"n_bits must be a whole number from 2 to {MOST_BITS} (or None), not {n_bits!r}")
    return int(n_bits)


def representative(matrix: Float, missing: bool = False) -> Float:
    """Return the rows that a model is compiled with, checked."""
    fine = np.isfinite(matrix) | (np.isnan(matrix) & missing)
    if matrix.ndim != 2 or not len(matrix) or not fine.all():
        raise DataError(
            "compile needs a table of finite numbers with at least one row: put a SimpleImputer in front of the model "
            "in a tacit.fhe.Pipeline if values are missing"
        )
    return matrix


COUNTERPARTS: dict[type, Any] = {}
"""The class on ciphertexts for each of scikit-learn's classes."""


def quantized(n_bits: int | None, **more: int) -> Callable[[Model], Model]:
    """Give a class the hyper-parameters of its scikit-learn parent and `n_bits` (and `more`), as scikit-learn wants
    them.

    scikit-learn reads hyper-parameters off the signature of `__init__`, and forbids *args in it. This makes that
    signature, so that the classes follow whatever version of scikit-learn is installed.
    """
    extra = {"n_bits": n_bits, **more}

    def decorate(cls: Model) -> Model:
        parent = next(
            base for base in cls.__mro__ if base.__module__.startswith("sklearn.") and "__init__" in vars(base)
        )
        inherited: Callable[..., None] = vars(parent)["__init__"]
        old = inspect.signature(inherited)
        added = [inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=v) for k, v in extra.items()]
        signature = old.replace(parameters=[*old.parameters.values(), *added])

        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            mine = {name: kwargs.pop(name, default) for name, default in extra.items()}
            inherited(self, *args, **kwargs)
            for name, value in mine.items():
                setattr(self, name, value)

        __init__.__signature__ = signature  # type: ignore[attr-defined]
        __init__.__doc__ = inherited.__doc__
        cls.__init__ = __init__  # type: ignore[misc]
        COUNTERPARTS[next(base for base in cls.__mro__ if base.__module__.startswith("sklearn."))] = cls
        return cls

    return decorate


def counterpart(trained: Any) -> Any:
    """Return the class on ciphertexts for a trained scikit-learn model, by the nearest of its parent classes.

    Raises:
        DataError: if there is none.
    """
    import tacit.fhe.every  # noqa: F401  (each module makes its counterparts known when it is imported)

    trained = winner(trained)
    if isinstance(trained, FheModel):
        return type(trained)
    for base in type(trained).__mro__:
        if base in COUNTERPARTS:
            return COUNTERPARTS[base]
    raise DataError(refusal(type(trained).__name__))


def winner(trained: Any) -> Any:
    """Return the best model of a search over hyper-parameters, refitted; a frozen model; anything else as it is."""
    if isinstance(trained, FrozenEstimator):
        return trained.estimator
    return trained.best_estimator_ if hasattr(trained, "best_estimator_") else trained


def adopt(cls: Any, trained: Any, n_bits: int | None) -> Any:
    """Return a model of class `cls` in the state of a trained scikit-learn model of one of its parent classes."""
    check_is_fitted(trained)
    trained = winner(trained)
    parent = next(base for base in cls.__mro__ if base.__module__.startswith("sklearn."))
    if not isinstance(trained, parent):
        raise DataError(f"{cls.__name__} takes a trained {parent.__name__}, not a {type(trained).__name__}")
    own = inspect.signature(cls.__init__).parameters
    fields = {name: value for name, value in trained.get_params(deep=False).items() if name in own}
    model = cls(**fields) if n_bits is None else cls(**{**fields, "n_bits": n_bits})
    given = trained.get_params(deep=False)
    fitted = {k: v for k, v in vars(trained).items() if k not in given and k not in ("_circuit", "_compiled_state")}
    model.__dict__.update(fitted)
    return model
