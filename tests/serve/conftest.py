"""Deployments of two or three parties on loopback, their doors in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tacit.session.config import Config
from tacit.session.trial import write_trial

Deploy = Callable[..., Config]


@pytest.fixture
def deploy(tmp_path: Path) -> Deploy:
    """Return a function that makes a deployment in the test's folder."""

    def make(parties: int = 2, **settings: object) -> Config:
        names = [f"server{i}" for i in range(parties)]
        return Config.load(write_trial(tmp_path, names, {"timeout": 20, "connect_timeout": 20, **settings}))

    return make
