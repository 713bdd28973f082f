"""quickstart: the model and the data."""

import numpy as np

FEATURES = 5


def load_model():
    """Return the parameters of a linear model."""
    return {"weights": np.zeros(FEATURES, dtype=np.float32), "bias": np.zeros(1, dtype=np.float32)}


def load_data(partition_id: int, num_partitions: int):
    """Return one partition of points near a plane; partitions differ in size."""
    rng = np.random.default_rng([partition_id, num_partitions])
    x = rng.normal(size=(20 + 10 * partition_id, FEATURES)).astype(np.float32)
    y = x @ np.arange(FEATURES, dtype=np.float32) + 3 + 0.1 * rng.normal(size=len(x)).astype(np.float32)
    return x[5:], y[5:], x[:5], y[:5]


def train(model, x, y, epochs: int, lr: float) -> float:
    """Descend along the gradient; return the loss."""
    for _ in range(epochs):
        error = x @ model["weights"] + model["bias"] - y
        model["weights"] -= lr * (x.T @ error / len(x)).astype(np.float32)
        model["bias"] -= np.float32(lr * error.mean())
    return test(model, x, y)


def test(model, x, y) -> float:
    """Return the mean squared error."""
    return float(np.mean((x @ model["weights"] + model["bias"] - y) ** 2))
