"""Products register settings and receivers of their own; configs, ledgers and trials know no product by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from tacit.errors import ConfigError, RevealError
from tacit.products import CLIENTS, FEDERATION, Serving
from tacit.session import registered
from tacit.session.addresses import Address, read_address
from tacit.session.config import Config
from tacit.session.ledger import Ledger
from tacit.session.registered import Block, Outsider, outsider_of, register_block, register_outsider
from tacit.session.trial import write_trial

AUDITORS = Outsider(word="auditors", one="auditor", who="whoever checks the books", many=True)


@dataclass(frozen=True, slots=True)
class Auditing(Block):
    """Settings of a product that there is not."""

    desk: Address | None = None
    strictness: int = 1

    @classmethod
    def read(cls, given: Mapping[str, Any], parties: Sequence[str], folder: Path) -> Self:
        desk = read_address("tacit.desk", given["desk"]) if "desk" in given else None
        return cls(desk, given.get("strictness", 1))

    def listening(self, parties: Sequence[str]) -> Iterator[tuple[str, Address]]:
        if self.desk is not None:
            yield "tacit.desk", self.desk

    @classmethod
    def trial(cls, parties: Sequence[str], address: Callable[[], str]) -> dict[str, object]:
        return {"desk": address()}


@pytest.fixture
def auditing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product more."""
    monkeypatch.setattr(registered, "_BLOCKS", list(registered._BLOCKS))
    monkeypatch.setattr(registered, "_OUTSIDERS", list(registered._OUTSIDERS))
    register_block(Auditing)
    register_outsider(AUDITORS)


ROLES = {"alice": "127.0.0.1:1", "bob": "127.0.0.1:2", "crypto-producer": "127.0.0.1:3"}


def parse(**settings: object) -> Config:
    return Config.parse(json.dumps({**ROLES, "tacit": settings}))


@pytest.mark.usefixtures("auditing")
def test_a_product_reads_its_own_settings_beside_those_of_others() -> None:
    config = parse(desk="127.0.0.1:9", strictness=5, data="kept", seed=3)

    assert config.of(Auditing) == Auditing(Address("127.0.0.1", 9), 5)
    assert (config.of(Serving).data, config.seed) == ("kept", 3)
    assert parse().of(Auditing) == Auditing()
    assert Config.embedded(strictness=2).of(Auditing).strictness == 2
    with pytest.raises(ConfigError, match=r"'tacit\.desk' must be an address"):
        parse(desk="nowhere")
    with pytest.raises(ConfigError, match=r"'tacit\.desks' is not a setting: .*, data, desk, .*, strictness, "):
        parse(desks="127.0.0.1:9")


@pytest.mark.usefixtures("auditing")
def test_a_products_addresses_are_held_to_loopback_with_the_roles() -> None:
    assert parse(tls="insecure-plaintext", desk="127.0.0.1:9").plaintext
    with pytest.raises(ConfigError, match=r"loopback only, but 'tacit\.desk' is at 10\.0\.0\.1:9"):
        parse(tls="insecure-plaintext", desk="10.0.0.1:9")


@pytest.mark.usefixtures("auditing")
def test_a_trial_has_an_address_of_its_own_for_everything(tmp_path: Path) -> None:
    config = Config.load(write_trial(tmp_path, ("a", "b")))

    desk = config.of(Auditing).desk
    assert desk is not None
    assert len({*config.addresses, *config.of(Serving).clients, desk}) == 3 + 2 + 1


def test_a_product_that_is_not_there_has_no_settings() -> None:
    with pytest.raises(ConfigError, match=r"'tacit\.desk' is not a setting"):
        parse(desk="127.0.0.1:9")


@pytest.mark.usefixtures("auditing")
def test_policies_name_a_products_receivers_and_no_role_is_called_like_them() -> None:
    config = parse(reveal=[{"name": "books", "to": ["auditors"]}, {"name": "n", "to": "all"}])
    ledger = Ledger("alice", config.reveal, None)

    ledger.check("books", ["auditor Ada", "auditor"])
    for name, receiver in (("books", "bob"), ("books", "client"), ("n", "auditor Ada"), ("n", "client 5")):
        with pytest.raises(RevealError):
            ledger.check(name, [receiver])
    with pytest.raises(RevealError, match=re.escape("add {\"name\": 'n', \"to\": ['auditors']} to the policy")):
        ledger.check("n", ["auditor Ada"])
    with pytest.raises(
        ConfigError, match='"federation" stands for Flower\'s server, "auditors" stands for whoever che'
    ):
        parse(reveal=[{"name": "x", "to": ["eve"]}])
    for name in ("auditor", "auditors"):
        with pytest.raises(ConfigError, match=f"'{name}' cannot be the name of a role: .* and none of 'tacit', 'clie"):
            Config.embedded(("alice", name))


@pytest.mark.parametrize(
    ("receiver", "outsider"),
    [
        ("client", CLIENTS),
        (CLIENTS.named("10.0.0.1:5"), CLIENTS),
        ("clients", None),
        ("client-5", None),
        ("federation", FEDERATION),
        ("federation 5", None),
        ("alice", None),
        ("", None),
    ],
)
def test_a_receiver_is_a_role_or_somebodys(receiver: str, outsider: Outsider | None) -> None:
    assert outsider_of(receiver) is outsider


@pytest.mark.usefixtures("auditing")
def test_a_word_and_a_setting_are_one_products() -> None:
    with pytest.raises(ValueError, match="somebody else 'inspectors' or 'auditor'"):
        register_outsider(Outsider(word="inspectors", one="auditor", who="nobody"))
    with pytest.raises(ValueError, match="desk, strictness are settings of another product"):
        register_block(Auditing)
