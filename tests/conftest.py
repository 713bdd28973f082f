"""What holds for all tests."""

from __future__ import annotations

import signal
from functools import partial

import pytest

import tacit.api


def pytest_configure() -> None:
    """Let interrupts reach the processes that tests start: a shell has its background jobs ignore them, and so do all
    their children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """With `--check`, every session of all roles in one process compares each operator with PyTorch's."""
    parser.addoption("--check", action="store_true", help="run embedded sessions with check=True")


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of all roles in this process check themselves."""
    monkeypatch.setattr(tacit.api, "embedded", partial(tacit.api.embedded, check=True))


@pytest.fixture(autouse=True)
def _checked_if_asked(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--check") and request.node.get_closest_marker("unchecked") is None:
        request.getfixturevalue("checked")
