"""Configs: what is accepted, and the one sentence for each thing that is not."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.errors import ConfigError
from tacit.products import ClientLimits, Serving
from tacit.protocols.additive.scheme import PRODUCER
from tacit.session.addresses import Address
from tacit.session.config import Config, RevealRule
from tacit.session.ranks import Rank, here

ROLES = {"alice": "10.0.0.1:9000", "bob": "[::1]:9001", PRODUCER: "producer.example:9002"}

OF_ROLES = ("parties", "helpers", "addresses", "machines", "rank", "blocks")
KEYS = [
    *(key.name for key in dataclasses.fields(Config) if key.name not in OF_ROLES),
    *(key.name for key in dataclasses.fields(Serving)),
]
"""All settings there are."""


def parse(literal: object) -> Config:
    return Config.parse(json.dumps(literal))


def with_settings(**settings: object) -> dict[str, object]:
    return {**ROLES, "tacit": settings}


def on_loopback(**settings: object) -> dict[str, object]:
    return {**{role: f"127.0.0.1:{9001 + k}" for k, role in enumerate(ROLES)}, "tacit": settings}


def test_the_plain_form_is_enough() -> None:
    config = parse(ROLES)

    assert config.parties == ("alice", "bob")
    assert config.roles == ("alice", "bob", PRODUCER)
    assert (config.protocol, config.helpers) == ("additive", (PRODUCER,))
    assert config.address("bob") == Address("::1", 9001)
    assert str(config.address("bob")) == "[::1]:9001"
    assert (config.frac_bits, config.seed, config.reveal, config.tls) == (16, None, None, "certs")


def test_the_producer_comes_last_wherever_it_stands() -> None:
    config = parse({PRODUCER: "h:1", "b": "h:2", "a": "h:3"})

    assert config.roles == ("b", "a", PRODUCER)
    assert config.address(PRODUCER).port == 1


def test_every_setting_is_read(tmp_path: Path) -> None:
    settings = {
        "protocol": "additive",
        "round_bytes": 10**6,
        "frac_bits": 20, "seed": 7, "tls": "keys", "listen": "0.0.0.0:9000", "timeout": 5, "connect_timeout": 2.5,
        "outbox_bytes": 1 << 20, "threads": 2, "ledger": "ledger", "range_check": 1000,
        "reveal": [{"name": "weight*", "to": ["alice"]}, {"name": "n", "to": "all"}, {"name": "p", "to": "clients"}],
        "clients": {"bob": "h:2", "alice": "h:1"}, "listen_clients": "0.0.0.0:1", "providers": "who", "data": "kept",
        "client_limits": {"requests": 7, "idle": 2.5},
        "checkpoints": "kept at times", "revoked": ["AB:" * 31 + "AB", "0" * 64],
        "port_stride": 100, "used_stores": "used", "program": f"sha256:{'a' * 64}", "environment": f"sha256:{'B' * 64}",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(with_settings(**settings)))

    config = Config.load(tmp_path / "config.json")

    assert (config.frac_bits, config.seed, config.threads, config.outbox_bytes) == (20, 7, 2, 1 << 20)
    assert config.round_bytes == 10**6
    assert (config.timeout, config.connect_timeout, config.range_check) == (5.0, 2.5, 1000.0)
    assert (config.tls, config.ledger) == (str(tmp_path / "keys"), str(tmp_path / "ledger"))
    assert (config.port_stride, config.used_stores) == (100, str(tmp_path / "used"))
    assert config.revoked == ("ab:" * 31 + "ab", "00:" * 31 + "00")
    assert config.checkpoints == str(tmp_path / "kept at times")
    assert (config.program, config.environment) == (f"sha256:{'a' * 64}", f"sha256:{'b' * 64}")
    assert config.listen == Address("0.0.0.0", 9000)
    assert config.reveal == (
        RevealRule("weight*", ("alice",)),
        RevealRule("n", ("all",)),
        RevealRule("p", ("clients",)),
    )
    serving = config.of(Serving)
    assert serving.clients == (Address("h", 1), Address("h", 2))
    assert serving.listen_clients == Address("0.0.0.0", 1)
    assert (serving.providers, serving.data) == (str(tmp_path / "who"), str(tmp_path / "kept"))
    assert serving.client_limits == ClientLimits(requests=7, idle=2.5)
    assert set(settings) == set(KEYS)


def test_an_empty_policy_is_not_the_same_as_none() -> None:
    assert parse(with_settings(reveal=[])).reveal == ()
    assert parse(with_settings(reveal=None)).reveal is None


def test_a_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse(ROLES).seed = 5  # type: ignore[misc]


def test_the_shared_part_holds_what_must_agree_and_nothing_local() -> None:
    base = parse(ROLES).shared

    assert parse(with_settings(timeout=5, tls="x", threads=1, ledger="y", reveal=[])).shared == base
    for settings in ({"frac_bits": 12}, {"round_bytes": 0}, {"seed": 1}, {"range_check": True}):
        assert parse(with_settings(**settings)).shared != base
    assert parse({**ROLES, "alice": "10.0.0.1:9009"}).shared != base
    keys = ("protocol", "frac_bits", "round_bytes", "seed", "range_check")
    assert set(base) == {"the list of roles", *ROLES, *(f"tacit.{key}" for key in keys)}


def test_embedded_configs() -> None:
    config = Config.embedded(("a", "b", "c"), seed=3, frac_bits=12)

    assert config.roles == ("a", "b", "c", PRODUCER)
    assert (config.seed, config.frac_bits, config.addresses) == (3, 12, ())
    with pytest.raises(ConfigError, match="different names"):
        Config.embedded(("a", "a"))
    with pytest.raises(ConfigError, match=r"'tacit\.sed' is not a setting"):
        Config.embedded(sed=3)


WRONG: list[tuple[Any, str]] = [
    ([], "must be an object"),
    ({"alice": "h:1", PRODUCER: "h:2"}, "at least two parties"),
    ({"alice": "h:1", "bob": "h:2", "eve": "h:3"}, "of 'crypto-producer', and that role is missing"),
    ({"alice": "h:1", "bob": "h:2", "tacit": {"protocol": "additive"}}, "the role 'crypto-producer' is missing"),
    ({**ROLES, "alice": 5}, "'alice' must be an address"),
    ({**ROLES, "alice": "h"}, "'alice' must be an address"),
    ({**ROLES, "alice": ":5"}, "'alice' must be an address"),
    ({**ROLES, "alice": "http://h:5"}, "'alice'"),
    ({**ROLES, "alice": "::1:5"}, "IPv6 address in brackets"),
    ({**ROLES, "alice": "h:0"}, "from 1 to 65535, not '0'"),
    ({**ROLES, "alice": "h:65536"}, "from 1 to 65535"),
    ({**ROLES, "alice": "h:٣"}, "from 1 to 65535"),
    ({**ROLES, "carol": "10.0.0.1:9000"}, "'alice' and 'carol' have the same address, 10.0.0.1:9000"),
    ({**ROLES, "../x": "h:5"}, "'../x' cannot be the name of a role"),
    ({**ROLES, "all": "h:5"}, "'all' cannot be the name of a role"),
    ({**ROLES, "tacit": 5}, "'tacit' must be an object"),
    (with_settings(protocol="spdz"), "'tacit.protocol' must be one of additive"),
    (with_settings(protocol=[5]), "'tacit.protocol' must be one of additive"),
    (with_settings(frac_bit=5), "'tacit.frac_bit' is not a setting"),
    (with_settings(frac_bits=64), "'tacit.frac_bits' must be a whole number from 1 to 28, not 64"),
    (with_settings(frac_bits=True), "'tacit.frac_bits' must be a whole number"),
    (with_settings(revoked=["ab"]), "'tacit.revoked' must be a list of SHA-256 fingerprints"),
    (with_settings(seed="x"), "'tacit.seed' must be a whole number"),
    (with_settings(timeout=0), "'tacit.timeout' must be a number of seconds"),
    (with_settings(connect_timeout="1"), "'tacit.connect_timeout' must be a number of seconds"),
    (with_settings(tls=5), "'tacit.tls' must be the path of a folder"),
    (with_settings(ledger=""), "'tacit.ledger' must be the path of a folder"),
    (with_settings(listen="h"), "'tacit.listen' must be an address"),
    (with_settings(outbox_bytes=1), "'tacit.outbox_bytes' must be a whole number"),
    (with_settings(tls="insecure-plaintext"), "'alice' is at 10.0.0.1:9000"),
    (on_loopback(tls="insecure-plaintext", listen="0.0.0.0:9001"), "'tacit.listen' is at 0.0.0.0:9001"),
    (on_loopback(tls="insecure-plaintext", listen="[::]:9001"), "'tacit.listen' is at [::]:9001"),
    (
        on_loopback(
            tls="insecure-plaintext",
            clients={"alice": "127.0.0.1:9101", "bob": "127.0.0.1:9102"},
            listen_clients="0.0.0.0:9101",
        ),
        "'tacit.listen_clients' is at 0.0.0.0:9101",
    ),
    ({"alice": "h:1", "client": "h:2", "crypto-producer": "h:3"}, "'client' cannot be the name of a role"),
    (with_settings(clients={"alice": "h:1"}), "'tacit.clients' must have an address for each party"),
    (with_settings(clients={"alice": "h:1", "bob": "h:1"}), "have the same address, h:1"),
    (with_settings(clients={"alice": "h:1", "bob": "h"}), "'tacit.clients.bob' must be an address"),
    (with_settings(data=""), "'tacit.data' must be the path of a folder"),
    ({**ROLES, "clients": "h:5"}, "'clients' cannot be the name of a role"),
    (with_settings(reveal={}), "'tacit.reveal' must be a list"),
    (with_settings(reveal=["w"]), "'tacit.reveal, rule 1' must have the keys"),
    (with_settings(reveal=[{"name": "w", "to": ["eve"]}]), "'tacit.reveal, rule 1': there is no role 'eve'"),
    (with_settings(reveal=[{"name": 5, "to": ["bob"]}]), 'rule 1\': "name" must be a pattern'),
    (with_settings(reveal=[{"name": "w", "to": [5]}]), 'rule 1\': "to" must be a list of roles'),
]


@pytest.mark.parametrize(("literal", "message"), WRONG)
def test_everything_wrong_is_one_sentence_that_names_the_key(literal: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(literal)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"alice": "h:1",\n  bob: "h:2"}', "line 2, column 3"),
        ("", "line 1, column 1"),
        ('{"alice": "h:1", "alice": "h:2"}', "key 'alice' is there twice"),
        ('{"alice": NaN}', "NaN is not a number"),
        ("[" * 100_000, "nested too deeply"),
        ('{"tacit": {"seed": ' + "9" * 5000 + "}}", "too long a number"),
    ],
)
def test_malformed_json_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.parse(text)

    assert message in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no config file nowhere\.json"):
        Config.load("nowhere.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.load(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.load(tmp_path / "config.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*KEYS, *OF_ROLES]), json_values, max_size=4) | json_values)
def test_any_settings_are_accepted_or_refused_with_a_config_error(settings: object) -> None:
    try:
        config = parse({**ROLES, "tacit": settings})
    except ConfigError:
        return
    assert config.roles == ("alice", "bob", PRODUCER)


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (7, "must be an object of limits"),
        ({"speed": 7}, "'tacit.client_limits.speed' is not a limit: the limits are connections, requests"),
        ({"connections": 0}, "'tacit.client_limits.connections' must be a whole number from 1 to 65536"),
        ({"connections": 7.5}, "a whole number"),
        ({"connections": True}, "a whole number"),
        ({"requests": "7"}, "'tacit.client_limits.requests' must be a number from 0.1"),
        ({"idle": float("nan")}, "must be a number"),
        ({"reserved": -1}, "must be a number"),
    ],
)
def test_limits_for_clients_are_checked(limits: object, why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        Config.embedded(client_limits=limits)


def test_ranks_have_ports_of_their_own() -> None:
    base = parse(on_loopback(port_stride=100, listen="127.0.0.1:8000"))

    third = base.at(Rank(2, 3))

    assert [address.port for address in third.addresses] == [9201, 9202, 9203]
    assert third.listen == Address("127.0.0.1", 8200)
    assert base.at(Rank(0, 1)) is base
    assert third.shared != base.at(Rank(1, 3)).shared != base.at(Rank(1, 2)).shared
    with pytest.raises(ConfigError, match=r"'alice\[1\]' and 'bob\[0\]' have the same address.*port_stride"):
        parse(on_loopback(port_stride=1)).at(Rank(0, 2))
    with pytest.raises(ConfigError, match="no port"):
        parse(on_loopback(port_stride=60000)).at(Rank(0, 2))


def test_ranks_may_have_addresses_of_their_own() -> None:
    listed = parse({**ROLES, "alice": ["10.0.0.1:9000", "10.0.0.9:9000"]})

    assert listed.at(Rank(1, 2)).address("alice") == Address("10.0.0.9", 9000)
    assert listed.at(Rank(1, 2)).address("bob") == Address("::1", 9011)
    for rank in (Rank(0, 1), Rank(0, 3)):
        with pytest.raises(ConfigError, match="'alice' has 2 addresses, one for each of its ranks"):
            listed.at(rank)
    for wrong in ([], [["10.0.0.1:9000"]], ["10.0.0.1:9000", "10.0.0.1:9000"], ["10.0.0.1"]):
        with pytest.raises(ConfigError, match="alice"):
            parse({**ROLES, "alice": wrong})


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("-1", "2"), ("x", "2"), ("0", "0"), ("0", "5000"), ("", "2")])
def test_a_rank_that_is_none_is_refused(rank: str, world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)

    with pytest.raises(ConfigError, match="RANK and WORLD_SIZE"):
        here()
