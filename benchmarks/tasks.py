"""The tasks of the benchmark: data, plaintext references and names, the same for every framework (numpy only)."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

Array = np.ndarray

LEARNING_RATE = 0.1
BATCH = 128
ROWS, FEATURES, ALICE_FEATURES = 7_000, 32, 16

TRAINING = {"train.logreg.1epoch": 1, "train.logreg.5epochs": 5}
"""Logistic regression on 7,000 x 32, from zero weights, batches of 128 in order, the last partial one dropped."""
INFERENCE = {"infer.mlp.batch1": 1, "infer.mlp.batch50": 50}
"""A multilayer perceptron 784-500-10 with ReLU, then argmax: Bob's model on Alice's images."""


# --- training ---------------------------------------------------------------------------------------------------------


def training_data() -> tuple[Array, Array]:
    """Return features, the first 16 of them Alice's, and Bob's labels."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    w = rng.normal(size=(FEATURES, 1)).astype(np.float32)
    logits = x @ w + 0.3 + rng.normal(scale=1.5, size=(ROWS, 1))
    return x, (logits > 0).astype(np.float32)


def train_plain(epochs: int) -> tuple[Array, float]:
    """Return the weights and the bias that training comes to in float64."""
    x, y = training_data()
    w, b = np.zeros((FEATURES, 1)), 0.0
    for _ in range(epochs):
        for start in range(0, ROWS - BATCH + 1, BATCH):
            batch, target = x[start : start + BATCH], y[start : start + BATCH]
            error = 1 / (1 + np.exp(-(batch @ w + b))) - target
            w = w - LEARNING_RATE / BATCH * (batch.T @ error)
            b = b - LEARNING_RATE / BATCH * error.sum()
    return w, b


def judge_training(w: Array, b: Array, epochs: int) -> dict[str, float]:
    """Compare trained weights with the plaintext run: accuracy of both, and the largest difference of a weight."""
    x, y = training_data()
    plain_w, plain_b = train_plain(epochs)

    def accuracy(w: Array, b: Array | float) -> float:
        score = x @ np.asarray(w, dtype=np.float64).reshape(-1, 1) + float(np.ravel(b)[0])
        return float(((score > 0) == (y == 1)).mean())

    error = float(np.abs(np.asarray(w).reshape(-1, 1) - plain_w).max())
    return {"accuracy": accuracy(w, b), "plain_accuracy": accuracy(plain_w, plain_b), "max_abs_err": error}


# --- inference --------------------------------------------------------------------------------------------------------


def images(count: int) -> Array:
    """Return images as of digits: a quarter of the pixels lit, in [0, 1]."""
    rng = np.random.default_rng(3)
    x = rng.random((count, 784)).astype(np.float32)
    return np.where(rng.random((count, 784)) < 0.25, x, 0).astype(np.float32)


def mlp_parameters() -> list[Array]:
    """Return weight (in x out) and bias of both layers."""
    rng = np.random.default_rng(2)
    parameters = []
    for inputs, outputs in ((784, 500), (500, 10)):
        parameters.append(rng.normal(scale=np.sqrt(2.0 / inputs), size=(inputs, outputs)).astype(np.float32))
        parameters.append(rng.normal(scale=0.05, size=(outputs,)).astype(np.float32))
    return parameters


def mlp_plain(x: Array) -> Array:
    """Return the classes that the plain model predicts."""
    w1, b1, w2, b2 = mlp_parameters()
    return (np.maximum(x @ w1 + b1, 0) @ w2 + b2).argmax(1)


# --- operators --------------------------------------------------------------------------------------------------------


def _normal(*shape: int, scale: float = 1.0) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.normal(scale=scale, size=shape).astype(np.float32)


def _uniform(*shape: int, low: float, high: float) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.uniform(low, high, size=shape).astype(np.float32)


_OPERANDS = {
    "op.matmul.1024": [_normal(1024, 1024), _normal(1024, 1024)],
    "op.relu.1e6": [_normal(1_000_000, scale=4)],
    "op.sigmoid.1e5": [_uniform(100_000, low=-8, high=8)],
    "op.argmax.1000x100": [_normal(1000, 100, scale=2)],
    "op.mul.1e6": [_uniform(1_000_000, low=-10, high=10), _uniform(1_000_000, low=-10, high=10)],
    "op.square.1e6": [_uniform(1_000_000, low=-10, high=10)],
}
_PLAIN: dict[str, Callable[..., Array]] = {
    "op.matmul.1024": np.matmul,
    "op.relu.1e6": lambda x: np.maximum(x, 0),
    "op.sigmoid.1e5": lambda x: 1 / (1 + np.exp(-x)),
    "op.argmax.1000x100": lambda x: x.argmax(1),
    "op.mul.1e6": np.multiply,
    "op.square.1e6": np.square,
}
OPERATORS = tuple(_OPERANDS)
"""One operator each, on Alice's first and Bob's second operand."""
TASKS = (*TRAINING, *INFERENCE, *OPERATORS)


def operands(task: str) -> list[Array]:
    """Return the operands of an operator."""
    rng = np.random.default_rng(9)
    return [draw(rng) for draw in _OPERANDS[task]]


def judge_operator(task: str, result: Array) -> dict[str, float]:
    """Compare a result with the plaintext one."""
    expected = _PLAIN[task](*(x.astype(np.float64) for x in operands(task)))
    if task.startswith("op.argmax"):
        return {"accuracy": float((np.ravel(result) == expected).mean())}
    error = np.abs(result.astype(np.float64) - expected)
    return {"max_abs_err": float(error.max()), "mean_abs_err": float(error.mean())}


def chosen(only: str) -> list[str]:
    """Return the tasks whose name matches a regular expression."""
    return [task for task in TASKS if re.search(only, task)]
