"""How a program learns its role."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tacit.errors import ConfigError
from tacit.net.transcript import Transcript
from tacit.session.config import Config
from tacit.session.launch import Launch, connect, current, script_digest, start


@pytest.fixture(autouse=True)
def _embedded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TACIT_CONFIG", raising=False)
    monkeypatch.delenv("TACIT_ROLE", raising=False)
    start(None)
    yield
    start(None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"alice": "h:1", "bob": "h:2", "crypto-producer": "h:3"}))
    return path


def test_without_a_launch_the_program_is_embedded() -> None:
    assert current() is None


def test_a_started_launch_is_the_current_one(path: Path) -> None:
    launch = Launch(Config.load(path), "bob", "digest")

    start(launch)

    assert current() is launch


def test_the_environment_gives_config_and_role(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script.py"
    script.write_text("print()")
    monkeypatch.setattr("sys.argv", [str(script)])
    monkeypatch.setenv("TACIT_CONFIG", str(path))
    monkeypatch.setenv("TACIT_ROLE", "crypto-producer")

    launch = current()

    assert launch == Launch(Config.load(path), "crypto-producer", script_digest(script))


def test_half_an_environment_and_unknown_roles_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_CONFIG", str(path))
    with pytest.raises(ConfigError, match="set both TACIT_CONFIG and TACIT_ROLE"):
        current()
    monkeypatch.setenv("TACIT_ROLE", "eve")
    with pytest.raises(ConfigError, match="no role 'eve' in this config: its roles are alice, bob, crypto-producer"):
        current()
    with pytest.raises(ConfigError, match="no role 'eve'"):
        start(Launch(Config.load(path), "eve"))


def test_a_config_without_addresses_cannot_connect() -> None:
    with pytest.raises(ConfigError, match="one process"):
        connect(Launch(Config.embedded(), "alice"), Transcript())


def test_a_missing_key_is_said_before_anything_is_sent(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no private key .*alice\.key: make it with `tacit keygen`"):
        connect(Launch(Config.load(path), "alice"), Transcript())


def test_a_program_that_is_no_file_has_no_digest() -> None:
    assert script_digest("-c") == ""
