"""What every encrypted scikit-learn model shares: compile it, predict on ciphertexts, save its two halves, report.

`FheModel` is mixed into scikit-learn's own class, so training, hyper-parameters and the clear `predict` are
scikit-learn's, untouched; a compiled model adds `fhe="simulate"` and `fhe="execute"`.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from tacit.errors import DataError, FheError
from tacit.fhe import spec
from tacit.fhe.client import Client
from tacit.fhe.compile.assemble import Circuit, Compiled, assemble
from tacit.fhe.encode import Affine
from tacit.fhe.read import Float, Labels
from tacit.fhe.report import Report, report
from tacit.fhe.server import Server

Mode = Literal["disable", "simulate", "execute"]
MODES = ("disable", "simulate", "execute")
Model = TypeVar("Model", bound=type)


class FheModel:
    """A scikit-learn model that can be compiled to predict on ciphertexts."""

    n_bits: int
    _circuit: Circuit | None = None
    _compiled_state: dict[str, Any] | None = None

    @abstractmethod
    def _lower(self, x: Float, before: Affine | None) -> Compiled:
        """Return the program, encoder, reader and head of this trained model behind `before`, with the ranges of x."""

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
        """
        check_is_fitted(self)
        matrix = representative(x, self.n_bits)
        self._keep(assemble(type(self).__name__, self._lower(matrix, None)))
        return self

    def _keep(self, circuit: Circuit) -> None:
        self._circuit, self._compiled_state = circuit, state(self)

    def _compiled(self) -> Circuit:
        if self._circuit is None or self._compiled_state is None:
            raise FheError("call compile(X) with representative rows before predicting on ciphertexts")
        now = state(self)
        if any(now.get(name) is not value for name, value in self._compiled_state.items()):
            raise FheError("this model was trained or changed since compile(X): compile it again")
        return self._circuit

    def _values(self, x: Any, fhe: Mode) -> tuple[Any, Any]:
        if fhe not in MODES:
            raise FheError(f"fhe must be one of {', '.join(MODES)}, not {fhe!r}")
        circuit = self._compiled()
        return circuit.simulate(_matrix(x)) if fhe == "simulate" else circuit.client.values(_matrix(x))

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
        """Leave the compiled half out of pickles and copies: keys do not travel with a model."""
        parent: Any = super().__getstate__()
        return {name: value for name, value in parent.items() if name not in ("_circuit", "_compiled_state")}


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


def state(model: Any) -> dict[str, Any]:
    """Return the hyper-parameters and fitted attributes of a model and of its steps: what a compiled half was made
    from."""
    own = {name: value for name, value in vars(model).items() if not name.startswith("_")}
    for name, step in getattr(model, "steps", ()):
        own |= {f"{name}.{key}": value for key, value in state(step).items()} if hasattr(step, "__dict__") else {}
    return own


def representative(x: Any, n_bits: Any) -> Float:
    """Return the rows that a model is compiled with, checked."""
    if not isinstance(n_bits, (int, np.integer)) or not 2 <= n_bits <= 16:
        raise DataError(f"n_bits must be a whole number from 2 to 16, not {n_bits!r}")
    matrix = _matrix(x)
    if matrix.ndim != 2 or not len(matrix) or not np.isfinite(matrix).all():
        raise DataError("compile needs a table of finite numbers with at least one row")
    return matrix


def _matrix(x: Any) -> Float:
    """Return a dense float table of whatever scikit-learn takes."""
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float64)


def quantized(n_bits: int, **more: int) -> Callable[[Model], Model]:
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
        return cls

    return decorate


def adopt(cls: Any, trained: Any, n_bits: int | None) -> Any:
    """Return a model of class `cls` in the state of a trained scikit-learn model of one of its parent classes."""
    check_is_fitted(trained)
    parent = next(base for base in cls.__mro__ if base.__module__.startswith("sklearn."))
    if not isinstance(trained, parent):
        raise DataError(f"{cls.__name__} takes a trained {parent.__name__}, not a {type(trained).__name__}")
    fields = trained.get_params(deep=False)
    model = cls(**fields) if n_bits is None else cls(**{**fields, "n_bits": n_bits})
    model.__dict__.update(
        {k: v for k, v in vars(trained).items() if k not in fields and k not in ("_circuit", "_compiled_state")}
    )
    return model
