"""What holds for all tests."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from functools import partial

import pytest

import tacit.api.running
from preloaded import Preloaded
from tacit.errors import ConfigError


def pytest_configure() -> None:
    """Let interrupts reach the processes that tests start: a shell has its background jobs ignore them, and so do all
    their children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """With `--check`, every session of all roles in one process compares each operator with PyTorch's; with
    `--protocol`, it computes by that protocol, where a test does not name one."""
    parser.addoption("--check", action="store_true", help="run embedded sessions with check=True")
    parser.addoption("--protocol", help="run embedded sessions by this protocol")


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    """Runs programs in processes of their own, which need not import PyTorch once more."""
    interpreter = Preloaded()
    yield interpreter
    interpreter.close()


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of all roles in this process check themselves."""
    checking = partial(tacit.api.embedded, check=True)
    for module in (tacit.api, tacit.api.running):
        monkeypatch.setattr(module, "embedded", checking)


@pytest.fixture(autouse=True)
def _by_the_protocol_asked_for(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = request.config.getoption("--protocol")
    if protocol is not None:
        if request.node.get_closest_marker("priced") is not None:
            pytest.skip("by the prices of the additive scheme")
        monkeypatch.setattr(tacit.api.running, "DEFAULT", protocol)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Skip what asks for more parties than the protocol asked for takes."""
    try:
        return (yield)
    except ConfigError as refused:
        if pyfuncitem.config.getoption("--protocol") is None or "may compute by the protocol" not in str(refused):
            raise
        pytest.skip(str(refused))


@pytest.fixture(autouse=True)
def _checked_if_asked(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--check") and request.node.get_closest_marker("unchecked") is None:
        request.getfixturevalue("checked")
