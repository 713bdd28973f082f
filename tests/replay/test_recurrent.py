"""LSTMs, GRUs and plain recurrent layers in a compiled step."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch
from tests.replay.test_compile import check
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.net.in_process import InProcess
from tacit.session.session import Session

BATCH, TIME, FEATURES, HIDDEN, CALLS = 2, 3, 3, 4, 9


@pytest.fixture(autouse=True)
def same_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sessions draw alike, so that shares can be compared."""
    monkeypatch.setattr(
        InProcess, "pair_key", lambda _, a, b: hashlib.sha256("|".join(sorted((a, b))).encode()).digest()
    )


class Reader(nn.Module):
    """Reads sequences and gives scores of two classes."""

    def __init__(self, kind: type[nn.RNNBase], **how: Any) -> None:
        super().__init__()
        self.layer = kind(FEATURES, HIDDEN, batch_first=True, **how)
        self.head = nn.Linear(HIDDEN * (1 + self.layer.bidirectional), 2)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.layer(x)
        return self.head(out[:, -1])


class Cells(nn.Module):
    """Reads two steps by a cell of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(FEATURES, HIDDEN)
        self.gru = nn.GRUCell(HIDDEN, HIDDEN)
        self.rnn = nn.RNNCell(HIDDEN, 2)

    def forward(self, x: Tensor) -> Tensor:
        h, c = self.lstm(x[:, 0])
        h, c = self.lstm(x[:, 1], (h, c))
        return self.rnn(self.gru(c, h))


def sequences() -> tuple[Tensor, Tensor]:
    x = tacit.share(torch.randn(CALLS * BATCH, TIME, FEATURES), owner="alice")
    return x, tacit.share(torch.randint(2, (len(x),)), owner="bob")


def predicting(make: Any, calls: int = CALLS) -> Any:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = tacit.share(make(), owner="bob")

        @compiler
        def predict(x: Tensor) -> Tensor:
            with torch.no_grad():
                return model(x)

        x, _ = sequences()
        return [predict(x[k * BATCH : (k + 1) * BATCH]) for k in range(calls)]

    return program


def training(make: Any) -> Any:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = tacit.share(make(), owner="bob")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        @compiler
        def step(x: Tensor, y: Tensor) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

        x, y = sequences()
        for k in range(0, len(x), BATCH):
            step(x[k : k + BATCH], y[k : k + BATCH])
        return list(model.parameters())

    return program


def test_predictions_of_an_lstm_are_replayed() -> None:
    check(predicting(lambda: Reader(nn.LSTM), calls=6), replayed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: Reader(nn.LSTM, num_layers=2, bidirectional=True),
        lambda: Reader(nn.LSTM, bias=False),
        lambda: Reader(nn.GRU),
        lambda: Reader(nn.GRU, bidirectional=True, bias=False),
        lambda: Reader(nn.RNN),
        lambda: Reader(nn.RNN, nonlinearity="relu"),
        Cells,
    ],
    ids=["lstm of layers", "lstm without bias", "gru", "gru both ways", "rnn", "rnn relu", "cells"],
)
def test_predictions_of_recurrent_layers_are_replayed(make: Any) -> None:
    check(predicting(make), replayed=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [lambda: Reader(nn.LSTM), lambda: Reader(nn.GRU), lambda: Reader(nn.RNN), Cells],
    ids=["lstm", "gru", "rnn", "cells"],
)
def test_training_of_recurrent_layers_is_replayed(make: Any) -> None:
    check(training(make), replayed=2)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["parameter", "list of parameters", "loaded", "its mode"])
def test_a_change_of_a_recurrent_layer_counts(change: str) -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = tacit.share(Reader(nn.RNN), owner="bob")

        @compiler
        def predict(x: Tensor) -> Tensor:
            with torch.no_grad():
                return model(x)

        found = []
        x, _ = sequences()
        for k in range(12):
            if k == 6:
                other = nn.Parameter(model.layer.weight_hh_l0.detach() * 2)
                if change == "parameter":
                    model.layer.weight_hh_l0 = other
                elif change == "list of parameters":  # which PyTorch reads, and not the parameter
                    model.layer._flat_weights[1] = other
                elif change == "loaded":
                    model.load_state_dict({name: p.detach() * 2 for name, p in model.state_dict().items()})
                else:
                    model.layer.mode = "RNN_RELU"
            found.append(predict(x[k % CALLS * BATCH : (k % CALLS + 1) * BATCH]))
        return found

    check(program, replayed=1, quiet=False)


@pytest.mark.slow
def test_dropout_between_layers_is_not_replayed() -> None:
    compiled = check(predicting(lambda: Reader(nn.GRU, num_layers=2, dropout=0.5)), replayed=None, quiet=False)

    assert "draws public random numbers" in compiled.why_not
