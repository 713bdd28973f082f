"""The tasks of the benchmark: data, plaintext references and names, the same for every framework (numpy only)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import numpy as np

Array = np.ndarray

TINY = os.environ.get("TACIT_BENCH_TINY") == "1"
"""Whether everything is so small that it takes no time: for trying the benchmark out, not for measuring."""

LEARNING_RATE = 0.1
BATCH = 16 if TINY else 128
ROWS, FEATURES, ALICE_FEATURES = 40 if TINY else 7_000, 32, 16

TRAINING = {"train.logreg.1epoch": 1, "train.logreg.5epochs": 5}
"""Logistic regression on 7,000 x 32, from zero weights, batches of 128 in order, the last partial one dropped."""
NETWORKS = {
    "train.netA.3steps": ("A", 3),
    "train.netB.1step": ("B", 1),
    "train.netC.1step": ("C", 1),
    "train.netD.1step": ("D", 1),
}
"""Steps of SGD on cross-entropy, batches of 128 images: the networks of SecureML, MiniONN, LeNet and Chameleon."""
INFERENCE = {"infer.mlp.batch1": 1, "infer.mlp.batch50": 50}
"""A multilayer perceptron 784-500-10 with ReLU, then argmax: Bob's model on Alice's images."""
LENET = {"infer.lenet.batch32": 2 if TINY else 32}
"""LeNet's ten scores for so many images: Bob's model on Alice's images."""


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


# --- training networks ------------------------------------------------------------------------------------------------


def network_data(steps: int) -> tuple[Array, Array]:
    """Return images, Alice's, and Bob's labels as rows of zeros and a one: a batch a step."""
    x = images(steps * BATCH, seed=7)
    score = x @ np.random.default_rng(8).normal(size=(784, 10))
    return x, np.eye(10, dtype=np.float32)[score.argmax(1)]


def perceptron_parameters() -> list[Array]:
    """Return weight (in x out) and bias of each layer of network A, 784-128-128-10."""
    rng = np.random.default_rng(6)
    return [value for shape in ((784, 128), (128, 128), (128, 10)) for value in _dense(rng, *shape)]


def perceptron_trained(steps: int) -> list[Array]:
    """Return the parameters that training network A comes to in float64."""
    parameters = [value.astype(np.float64) for value in perceptron_parameters()]
    images_, labels = network_data(steps)
    for start in range(0, steps * BATCH, BATCH):
        w1, b1, w2, b2, w3, b3 = parameters
        x, y = images_[start : start + BATCH], labels[start : start + BATCH]
        h1 = np.maximum(x @ w1 + b1, 0)
        h2 = np.maximum(h1 @ w2 + b2, 0)
        score = np.exp(h2 @ w3 + b3)
        d3 = (score / score.sum(1, keepdims=True) - y) / BATCH
        d2 = (d3 @ w3.T) * (h2 > 0)
        d1 = (d2 @ w2.T) * (h1 > 0)
        gradients = x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ d3, d3.sum(0)
        parameters = [p - LEARNING_RATE * g for p, g in zip(parameters, gradients, strict=True)]
    return parameters


def judge_parameters(found: list[Array], expected: list[Array]) -> dict[str, float]:
    """Compare trained parameters with those of the plaintext run."""
    return {"max_abs_err": max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))}


# --- inference --------------------------------------------------------------------------------------------------------


def images(count: int, seed: int = 3) -> Array:
    """Return images as of digits: a quarter of the pixels lit, in [0, 1]."""
    rng = np.random.default_rng(seed)
    x = rng.random((count, 784)).astype(np.float32)
    return np.where(rng.random((count, 784)) < 0.25, x, 0).astype(np.float32)


def _dense(rng: np.random.Generator, inputs: int, outputs: int) -> list[Array]:
    weight = rng.normal(scale=np.sqrt(2.0 / inputs), size=(inputs, outputs)).astype(np.float32)
    return [weight, rng.normal(scale=0.05, size=(outputs,)).astype(np.float32)]


def _kernels(rng: np.random.Generator, outputs: int, inputs: int, size: int) -> list[Array]:
    scale, shape = np.sqrt(2.0 / (inputs * size * size)), (outputs, inputs, size, size)
    weight = rng.normal(scale=scale, size=shape).astype(np.float32)
    return [weight, rng.normal(scale=0.05, size=(outputs,)).astype(np.float32)]


def mlp_parameters() -> list[Array]:
    """Return weight (in x out) and bias of both layers."""
    rng = np.random.default_rng(2)
    return [*_dense(rng, 784, 500), *_dense(rng, 500, 10)]


def mlp_plain(x: Array) -> Array:
    """Return the classes that the plain model predicts."""
    w1, b1, w2, b2 = mlp_parameters()
    return (np.maximum(x @ w1 + b1, 0) @ w2 + b2).argmax(1)


def lenet_parameters() -> list[Array]:
    """Return weight and bias of two convolutions (out x in x 5 x 5) and two dense layers (in x out)."""
    rng = np.random.default_rng(4)
    return [*_kernels(rng, 20, 1, 5), *_kernels(rng, 50, 20, 5), *_dense(rng, 800, 500), *_dense(rng, 500, 10)]


def lenet_images(count: int) -> Array:
    """Return images with a channel."""
    return images(count, seed=5).reshape(count, 1, 28, 28)


def lenet_plain(x: Array) -> Array:
    """Return the scores of the plain model."""
    c1, e1, c2, e2, w1, b1, w2, b2 = lenet_parameters()
    for weight, bias in ((c1, e1), (c2, e2)):
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
        x = np.maximum(np.einsum("nihwkl,oikl->nohw", windows, weight) + bias[:, None, None], 0)
        x = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).max((3, 5))
    return np.maximum(x.reshape(len(x), -1) @ w1 + b1, 0) @ w2 + b2


def judge_scores(found: Array, x: Array) -> dict[str, float]:
    """Compare LeNet's scores with those of the plain model."""
    return {"max_abs_err": float(np.abs(found - lenet_plain(x)).max())}


# --- operators --------------------------------------------------------------------------------------------------------


def _normal(*shape: int, scale: float = 1.0) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.normal(scale=scale, size=shape).astype(np.float32)


def _uniform(*shape: int, low: float, high: float) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.uniform(low, high, size=shape).astype(np.float32)


_SIDE, _MILLION, _LONG = (24, 1_000, 10) if TINY else (1024, 1_000_000, 1000)
_OPERANDS = {
    "op.matmul.1024": [_normal(_SIDE, _SIDE), _normal(_SIDE, _SIDE)],
    "op.relu.1e6": [_normal(_MILLION, scale=4)],
    "op.sigmoid.1e5": [_uniform(_MILLION // 10, low=-8, high=8)],
    "op.softmax.1000x100": [_normal(_LONG, 100, scale=2)],
    "op.argmax.1000x100": [_normal(_LONG, 100, scale=2)],
    "op.mul.1e6": [_uniform(_MILLION, low=-10, high=10), _uniform(_MILLION, low=-10, high=10)],
    "op.square.1e6": [_uniform(_MILLION, low=-10, high=10)],
}


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


_PLAIN: dict[str, Callable[..., Array]] = {
    "op.matmul.1024": np.matmul,
    "op.relu.1e6": lambda x: np.maximum(x, 0),
    "op.sigmoid.1e5": lambda x: 1 / (1 + np.exp(-x)),
    "op.softmax.1000x100": _softmax,
    "op.argmax.1000x100": lambda x: x.argmax(1),
    "op.mul.1e6": np.multiply,
    "op.square.1e6": np.square,
}
OPERATORS = tuple(_OPERANDS)
"""One operator each, on Alice's first and Bob's second operand."""
TASKS = (*TRAINING, *NETWORKS, *INFERENCE, *LENET, *OPERATORS)
TACIT_ONLY = ("train.netB.1step", "train.netC.1step", "train.netD.1step")
"""Tasks that the peers here do not do; there are published figures of others for them."""
EXTRA = ("train.logreg.5epochs", "infer.mlp.batch50", "op.square.1e6")
"""Tasks that say little beside the others: run when asked for by name."""


def kind(task: str) -> str:
    """Return which family a task belongs to: "logreg", "network", "mlp", "lenet" or "operator"."""
    families = {"logreg": TRAINING, "network": NETWORKS, "mlp": INFERENCE, "lenet": LENET, "operator": OPERATORS}
    return next(name for name, members in families.items() if task in members)


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
    """Return the tasks whose name matches a regular expression; without one, all but the extra ones."""
    return [task for task in TASKS if (re.search(only, task) if only else task not in EXTRA)]


# --- how much work a task is ------------------------------------------------------------------------------------------


def multiply_adds(task: str) -> int:
    """Return the multiplications of the plaintext task's matrix products and convolutions."""
    family = kind(task)
    if family == "logreg":
        return TRAINING[task] * (ROWS // BATCH) * 2 * BATCH * FEATURES
    if family == "mlp":
        return INFERENCE[task] * (784 * 500 + 500 * 10)
    if family == "lenet":
        return LENET[task] * sum(_LAYERS["C"])
    if family == "network":
        letter, steps = NETWORKS[task]
        first, *rest = _LAYERS[letter]
        return steps * BATCH * (2 * first + 3 * sum(rest))  # forward, weights' gradients, and inputs' but the first
    return _SIDE**3 if task == "op.matmul.1024" else 0


_LAYERS = {
    "A": (784 * 128, 128 * 128, 128 * 10),
    "B": (24 * 24 * 16 * 25, 8 * 8 * 16 * 16 * 25, 256 * 100, 100 * 10),
    "C": (24 * 24 * 20 * 25, 8 * 8 * 50 * 20 * 25, 800 * 500, 500 * 10),
    "D": (14 * 14 * 5 * 25, 980 * 100, 100 * 10),
}
"""Multiplications for one image, layer by layer."""


def ring_multiply_adds(task: str) -> int:
    """Return the multiplications modulo 2^64 that two parties and a producer need for them at least.

    (E + a)(F + b): a party computes E [b] and [a] F, and one of them adds E F to either for nothing; the producer
    computes a b: 5 in all. An owner's operand saves one of them, for the other party's share of its mask is zero.
    """
    family, all_, first = kind(task), multiply_adds(task), 0
    if family == "logreg":
        return 4 * all_  # the features have owners
    if family == "network":
        letter, steps = NETWORKS[task]
        first = 2 * steps * BATCH * _LAYERS[letter][0]
        return 4 * first + 5 * (all_ - first)  # the images have an owner, and the weights only at first
    if family == "mlp":
        first = INFERENCE[task] * 784 * 500
    if family == "lenet":
        first = LENET[task] * _LAYERS["C"][0]
    return 3 * first + 4 * (all_ - first) if first else 3 * all_  # the weights have an owner, and so have the inputs


def values(task: str) -> int:
    """Return how many numbers go into the task and come out of it."""
    family = kind(task)
    if family == "logreg":
        return TRAINING[task] * ROWS * (FEATURES + 1)
    if family == "mlp":
        return INFERENCE[task] * 784 + 784 * 500
    if family == "lenet":
        return LENET[task] * 784 + 800 * 500
    if family == "network":
        return NETWORKS[task][1] * BATCH * 794
    inputs = [value.size for value in operands(task)]
    return sum(inputs) + max(inputs)
