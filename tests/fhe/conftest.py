"""Data and compiled models that several tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine, make_regression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from tacit.fhe.ensemble import GradientBoostingClassifier
from tacit.fhe.linear_model import LogisticRegression


@pytest.fixture(scope="session")
def seed() -> int:
    return 20260


@pytest.fixture
def rng() -> np.random.Generator:
    """Randomness for inputs; `TACIT_TEST_SEED` repeats a run that failed. Models are trained from `seed`."""
    fresh = int(os.environ.get("TACIT_TEST_SEED", int.from_bytes(os.urandom(4), "little")))
    print(f"TACIT_TEST_SEED={fresh}")
    return np.random.default_rng(fresh)


def _digits784() -> tuple[Any, Any]:
    """The 8x8 digits, each pixel tripled and framed to 28x28."""
    x, y = load_digits(return_X_y=True)
    images = np.stack([np.pad(np.kron(image, np.ones((3, 3))), 2) for image in x.reshape(-1, 8, 8)])
    return images.reshape(len(x), -1) / 16.0, y


def _scaled(data: tuple[Any, Any]) -> tuple[Any, Any]:
    x, y = data
    return (x - x.mean(axis=0)) / x.std(axis=0), y


@pytest.fixture(scope="session")
def datasets(seed: int) -> dict[str, Any]:
    """(training rows, test rows, training labels, test labels) of each data set."""
    raw = {
        "breast-cancer": _scaled(load_breast_cancer(return_X_y=True)),
        "wine": _scaled(load_wine(return_X_y=True)),
        "digits": load_digits(return_X_y=True),
        "digits784": _digits784(),
        "diabetes": load_diabetes(return_X_y=True),
        "synthetic": make_regression(3000, 50, n_informative=20, noise=10.0, random_state=seed),
    }
    return {name: train_test_split(*data, test_size=0.3, random_state=seed) for name, data in raw.items()}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small models train no faster on more threads, and far slower on a busy machine."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def compiled(datasets: dict[str, Any]) -> Any:
    """Train and compile a model on a data set, once for all tests."""
    done: dict[tuple[str, str], Any] = {}

    def get(model: Any, data: str) -> Any:
        key = (repr(model), data)
        if key not in done:
            x, _, y, _ = datasets[data]
            done[key] = clone(model).fit(x, y).compile(x)
        return done[key]

    return get


@pytest.fixture(scope="session")
def linear(datasets: dict[str, Any]) -> LogisticRegression:
    x, _, y, _ = datasets["breast-cancer"]
    return LogisticRegression().fit(x, y).compile(x)


@pytest.fixture(scope="session")
def boosted(datasets: dict[str, Any], seed: int) -> GradientBoostingClassifier:
    x, _, y, _ = datasets["breast-cancer"]
    return GradientBoostingClassifier(n_estimators=5, random_state=seed).fit(x, y).compile(x)
