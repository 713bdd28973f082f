"""Runs that go on where they stopped: the model, the round, what a strategy keeps, and the privacy that was spent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tacit import private_files
from tacit.errors import DataError, FederatedError

__all__ = ["Kept", "Resuming"]

MODEL, OWN = "model", "strategy"
STATE = ("momentum_vector", "m_t", "v_t")
"""What Flower's strategies keep from round to round; all else they set anew in each."""

FORMAT = "tacit federation 1"


@dataclass
class Kept:
    """What is read of a run, and kept of it."""

    rounds: int = 0
    """So many are done."""
    rho: float = 0.0
    """The privacy loss of all of them, in zero-concentrated differential privacy."""
    arrays: ArrayRecord | None = None
    own: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Kept:
        """Read the file, or return the beginning of a run if there is none."""
        if not path.exists():
            return cls()
        try:
            with safe_open(path, framework="numpy") as file:
                facts = file.metadata() or {}
                if facts.get("format") != FORMAT:
                    raise DataError(f"{path}: this is no checkpoint of a federation")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dictionary
            names = json.loads(facts["names"])
            arrays = ArrayRecord({name: Array(tensors[f"{MODEL} {i}"]) for i, name in enumerate(names)})
            own = {name: value for name, value in tensors.items() if name.startswith(OWN)}
            return cls(int(facts["round"]), float(facts["rho"]), arrays, own)
        except DataError:
            raise
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path}: no checkpoint can be read there ({type(error).__name__})") from None

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        assert self.arrays is not None
        model = {f"{MODEL} {i}": _plain(array.numpy()) for i, array in enumerate(self.arrays.values())}
        names = json.dumps(list(self.arrays))
        facts = {"format": FORMAT, "round": str(self.rounds), "rho": repr(self.rho), "names": names}
        own = {name: _plain(value) for name, value in self.own.items()}
        private_files.write(path, save(model | own, metadata=facts))

    def take_from(self, strategy: Strategy) -> None:
        """Keep what the strategy keeps."""
        self.own = {}
        for name in STATE:
            value = vars(strategy).get(name)
            pairs = value.items() if isinstance(value, dict) else enumerate(value or ())
            self.own.update({f"{OWN} {name} {key}": np.asarray(each) for key, each in pairs})

    def give_to(self, strategy: Strategy) -> None:
        """Give the strategy what it kept."""
        for name in STATE:
            start = f"{OWN} {name} "
            found = {key.removeprefix(start): value for key, value in self.own.items() if key.startswith(start)}
            if found:
                listed = [found[str(i)] for i in range(len(found))] if name == "momentum_vector" else found
                setattr(strategy, name, listed)


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.array(array, order="C")  # `ascontiguousarray` would give a scalar a dimension


class Resuming(Strategy):
    """A strategy whose rounds are numbered on from those that are done, and kept after each that gave a model."""

    def __init__(self, strategy: Strategy, path: Path, rho: Callable[[], float]) -> None:
        if type(strategy).start is not Strategy.start:
            raise FederatedError(f"{type(strategy).__name__} leads its rounds itself, so they cannot be resumed")
        self.strategy, self.path, self._rho = strategy, path, rho
        self.kept = Kept.load(path)
        self.kept.give_to(strategy)
        self._before = self.kept.rounds

    def begin(self, initial: ArrayRecord) -> ArrayRecord:
        """Return the model to go on with: the one that was kept, which must be like the initial one, or that."""
        kept = self.kept.arrays
        if kept is None:
            return initial
        if [(name, a.shape) for name, a in kept.items()] != [(name, a.shape) for name, a in initial.items()]:
            raise DataError(f"{self.path} holds another model than the initial one: name another file, or remove it")
        return kept

    def run(
        self,
        grid: Grid,
        initial: ArrayRecord,
        rounds: int,
        timeout: float,
        train: ConfigRecord | None,
        evaluate: ConfigRecord | None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None,
    ) -> Result:
        """Lead the rounds that are left of so many."""
        before, arrays = self._before, self.begin(initial)
        shifted = None if evaluate_fn is None else lambda number, model: evaluate_fn(number + before, model)
        result = self.start(grid, arrays, max(rounds - before, 0), timeout, train, evaluate, shifted)
        if not result.arrays and self.kept.arrays is not None:
            result.arrays = self.kept.arrays
        for name in ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp"):
            setattr(result, name, {number + before: metrics for number, metrics in getattr(result, name).items()})
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Leave it to the strategy inside, by the round's number in the whole run."""
        return self.strategy.configure_train(server_round + self._before, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Leave it to the strategy inside, and keep what came."""
        arrays, metrics = self.strategy.aggregate_train(server_round + self._before, replies)
        if arrays is not None:
            self.kept.rounds, self.kept.arrays, self.kept.rho = server_round + self._before, arrays, self._rho()
            self.kept.take_from(self.strategy)
            self.kept.save(self.path)
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Leave it to the strategy inside."""
        return self.strategy.configure_evaluate(server_round + self._before, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Leave it to the strategy inside."""
        return self.strategy.aggregate_evaluate(server_round + self._before, replies)

    def summary(self) -> None:
        """Log the settings of the strategy inside."""
        self.strategy.summary()
