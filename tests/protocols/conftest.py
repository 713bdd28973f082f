"""Worlds of two, three and five computing parties."""

from __future__ import annotations

import pytest

from .world import World


@pytest.fixture(params=[2, 3, 5], ids=lambda n: f"{n}-parties")
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


@pytest.fixture
def two() -> World:
    return World(2)
