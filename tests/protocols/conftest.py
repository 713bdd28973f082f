"""Worlds of each scheme, with two computing parties and with more."""

from __future__ import annotations

import pytest

from tacit.protocols.schemes import PROTOCOLS

from .world import World

WORLDS = [
    (scheme, parties)
    for scheme in PROTOCOLS
    for parties in ((2, 3, 5) if scheme != "plain" and scheme != "two-party" else (2,))
]


@pytest.fixture(params=WORLDS, ids=lambda world: f"{world[0]}-{world[1]}-parties")
def world(request: pytest.FixtureRequest) -> World:
    scheme, parties = request.param
    return World(parties, scheme)


@pytest.fixture(params=PROTOCOLS)
def two(request: pytest.FixtureRequest) -> World:
    return World(2, request.param)
