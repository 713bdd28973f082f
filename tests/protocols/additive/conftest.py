"""Worlds of two, three and five computing parties."""

from __future__ import annotations

import pytest

from .watched import WatchedWorld


@pytest.fixture(params=[2, 3, 5], ids=lambda n: f"{n}-parties")
def world(request: pytest.FixtureRequest) -> WatchedWorld:
    return WatchedWorld(request.param)


@pytest.fixture
def two() -> WatchedWorld:
    return WatchedWorld(2)
