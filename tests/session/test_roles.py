"""Schemes declare their roles: configs, sessions, meters, profiles and launchers know them by name only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tacit
from tacit import api
from tacit.cli import local
from tacit.errors import ConfigError
from tacit.products import Serving
from tacit.protocols.additive.scheme import PRODUCER, SCHEME
from tacit.protocols.protocol import Protocol
from tacit.protocols.schemes import PROTOCOLS
from tacit.session.config import Config
from tacit.session.roles import Scheme, register, scheme_names

from .fakes import ALONE, ATTENDED, INSECURE, registered

ADDRESSES = ("h:1", "h:2", "h:3", "h:4")


@pytest.fixture(autouse=True)
def _fakes() -> Iterator[None]:
    with registered(ALONE, ATTENDED, INSECURE):
        yield


def parse(roles: list[str], **settings: object) -> Config:
    return Config.parse(json.dumps({**dict(zip(roles, ADDRESSES, strict=False)), "tacit": settings}))


# --- what schemes declare ---------------------------------------------------------------------------------------------


def test_every_protocol_declares_its_roles_and_the_cost_of_each_role() -> None:
    for name, kind in PROTOCOLS.items():
        scheme = kind.scheme
        assert scheme.name == name
        assert scheme.threat
        assert name in scheme_names()
        assert scheme.least >= 1
        assert len({*scheme.helping, *(helper.short for helper in scheme.helpers)}) >= len(scheme.helpers)
        for cost in kind.costs.values():
            assert set(cost.helper_bits) == set(scheme.helping)


def test_the_additive_scheme_has_a_producer_that_holds_no_data() -> None:
    (producer,) = SCHEME.helpers

    assert (producer.name, producer.short, producer.does) == (PRODUCER, "producer", "makes the correlated randomness")
    assert (SCHEME.least, SCHEME.most, SCHEME.networked) == (2, None, True)
    assert "the crypto-producer with none of them" in SCHEME.threat


def test_a_name_stands_for_one_scheme() -> None:
    register(ALONE)
    with pytest.raises(ValueError, match="another scheme named 'alone'"):
        register(Scheme(name="alone", threat="everything is promised"))


# --- configs ----------------------------------------------------------------------------------------------------------


def test_the_additive_scheme_refuses_a_config_without_a_producer_and_another_scheme_takes_it() -> None:
    with pytest.raises(ConfigError) as refused:
        parse(["alice", "bob"], protocol="additive")
    config = parse(["alice", "bob"], protocol="alone")

    assert str(refused.value) == (
        f"the role {PRODUCER!r} is missing: it makes the correlated randomness and holds no data"
    )
    assert (config.parties, config.helpers, config.roles) == (("alice", "bob"), (), ("alice", "bob"))


def test_the_roles_say_by_which_scheme_they_compute_where_no_setting_does() -> None:
    assert [parse(roles).protocol for roles in (["a", "b"], ["a", PRODUCER, "b"])] == ["two-party", "additive"]
    assert parse(["a", "b"], protocol=None).protocol == "two-party"
    assert parse(["a", PRODUCER, "b", "c"]).parties == ("a", "b", "c")
    assert parse(["a", "b"]).roles == ("a", "b")
    assert parse(["a", "b"]).shared["tacit.protocol"] == '"two-party"'


@pytest.mark.parametrize(
    ("roles", "settings", "message"),
    [
        (["a", "b", "c"], {}, f"three parties compute with the help of '{PRODUCER}', and that role is missing: add it"),
        (["a"], {"protocol": "additive"}, f"the role '{PRODUCER}' is missing"),
        ([], {}, "at least two parties must compute, not 0"),
        (["a", PRODUCER], {}, f"at least two parties must compute beside '{PRODUCER}', not 1"),
        (
            ["a", "b", "c"],
            {"protocol": "two-party"},
            "at most two parties may compute by the protocol 'two-party', not 3",
        ),
        (
            ["a", "b", PRODUCER],
            {"protocol": "two-party"},
            f"not 3: '{PRODUCER}' helps in 'additive', so leave it out here, or let the config name that one",
        ),
    ],
)
def test_roles_that_no_scheme_is_for_are_refused_in_a_sentence(
    roles: list[str], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(roles, **settings)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_embedded_sessions_may_list_all_roles_as_a_config_does() -> None:
    for roles, protocol in ((["a", "b"], "two-party"), (["a", "b", PRODUCER], "additive")):
        with tacit.session(roles=roles) as session:
            assert (session.config.protocol, session.config.roles) == (protocol, tuple(roles))
            assert session.parties == ("a", "b")
    with tacit.session() as session:
        assert session.config.protocol == "additive"
    with tacit.session(protocol="two-party") as session:
        assert session.config.roles == ("alice", "bob")
    for arguments, message in (
        ({"roles": ["a", "b", "c"]}, "three parties compute with the help"),
        ({"roles": []}, "at least two parties must compute"),
        ({"roles": ["a", "a"]}, "different names"),
        ({"roles": ["a", "b"], "parties": ["c", "d"]}, "takes `parties`, or `roles`"),
        ({"roles": ["a", "b"], "protocol": "additive"}, "is missing"),
        ({"parties": ["a", "b", "c"], "protocol": "two-party"}, "at most two parties"),
        ({"roles": ["a", "b"], "prepared": "nowhere"}, "there is no store nowhere"),
        ({"protocol": "plain", "prepared": "nowhere"}, "needs nothing that could be made ahead"),
    ):
        with pytest.raises(ConfigError, match=message):
            tacit.session(**arguments)


def test_a_producer_is_a_party_like_any_other_where_the_scheme_has_none() -> None:
    assert parse(["alice", PRODUCER], protocol="alone").parties == ("alice", PRODUCER)


def test_a_missing_role_is_missed_before_anything_connects(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    addresses = {"alice": "127.0.0.1:1", "bob": "127.0.0.1:2"}
    path.write_text(json.dumps({**addresses, "tacit": {"protocol": "additive"}}))

    for start in (lambda: Config.load(path), lambda: tacit.session(path, "alice")):
        with pytest.raises(ConfigError, match=f"the role '{PRODUCER}' is missing"):
            start()


def test_helpers_come_after_the_parties_in_the_order_of_the_scheme() -> None:
    config = parse(["timekeeper", "b", "dice-thrower", "a"], protocol="attended")

    assert config.roles == ("b", "a", "dice-thrower", "timekeeper")
    assert (str(config.address("dice-thrower")), str(config.address("timekeeper"))) == ("h:3", "h:1")
    assert config.shared["tacit.protocol"] == '"attended"'
    with pytest.raises(
        ConfigError, match=r"'tacit\.clients' must have an address for each party: {\"b\": \"host:port\", "
    ):
        parse(["timekeeper", "b", "dice-thrower", "a"], protocol="attended", clients={"timekeeper": "h:5"})


@pytest.mark.parametrize(
    ("roles", "protocol", "message"),
    [
        (
            ["a", "b", "dice-thrower"],
            "attended",
            "the role 'timekeeper' is missing: it looks at the clock and holds no",
        ),
        (
            ["a", "dice-thrower", "timekeeper"],
            "attended",
            "at least two parties must compute beside 'dice-thrower' and",
        ),
        ([], "alone", "at least one party must compute, not 0"),
        (["a", "b", "c", "d"], "alone", "at most three parties may compute by the protocol 'alone', not 4"),
        (["a", "b"], "insecure", "'tacit.protocol' is 'insecure', which hides nothing and runs in one process only"),
        (["a", "b"], "alone ", "'tacit.protocol' must be one of additive, "),
    ],
)
def test_a_config_that_its_scheme_cannot_do_with_is_refused_in_a_sentence(
    roles: list[str], protocol: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(roles, protocol=protocol)

    assert message in str(caught.value)


def test_embedded_configs_bring_the_helpers_along() -> None:
    assert Config.embedded(protocol="alone").roles == ("alice", "bob")
    assert Config.embedded(protocol="insecure").roles == ("alice", "bob")
    assert Config.embedded(("x", "y"), protocol="attended").roles == ("x", "y", "dice-thrower", "timekeeper")
    with pytest.raises(
        ConfigError, match="'timekeeper' is no name for a party: a role that helps in 'attended' is called so"
    ):
        Config.embedded(("x", "timekeeper"), protocol="attended")
    with pytest.raises(ConfigError, match="different names, not 'x', 'x'"):
        Config.embedded(("x", "x"), protocol="attended")


# --- what follows from them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "words", "columns"),
    [
        (ALONE, "1 rounds, alice sent 5 B, bob sent 7 B, 0 s", []),
        (ATTENDED, "1 rounds, alice sent 5 B, bob sent 7 B, dice sent 9 B, clock sent 0 B, 0 s", ["dice", "clock"]),
    ],
)
def test_meters_and_profiles_have_a_place_for_each_helper(scheme: Scheme, words: str, columns: list[str]) -> None:
    with api.embedded(Config.embedded(protocol=scheme.name)) as session, tacit.profile() as profile:
        session.meter.round({"alice": 5, "bob": 7})
        for helper in session.helpers[:1]:
            session.meter.dealt(helper, 9)
        assert isinstance(api.active_protocol(), Protocol)
        assert (session.parties, session.helpers) == (("alice", "bob"), scheme.helping)
        assert all(map(session.hosts, session.transport.roles))
        assert not session.hosts("eve")

    (row,) = profile.rows
    assert (row.online, list(row.helped), row.local) == (7, columns, False)
    assert row.producer == sum(row.helped.values()) == 9 * bool(columns)
    heading = str(profile).split("\n")[1].split()
    assert heading[heading.index("party") + 1 :] == [*columns, "seconds"]
    assert str(profile.cost).rpartition(", ")[0] == words.rpartition(", ")[0]


def test_who_is_alone_plays_all_roles() -> None:
    with api.embedded(Config.embedded(("alice",), protocol="alone")) as session:
        assert (session.role, session.embedded, session.party_indices) == ("embedded", True, (0,))
        assert tacit.is_role("alice")


@pytest.mark.parametrize(("name", "helpers"), [("alone", ()), ("attended", ("dice-thrower", "timekeeper"))])
def test_the_local_launcher_starts_every_role_there_is(
    name: str, helpers: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Config] = {}

    def follow(commands: dict[str, list[str]], *_: object) -> int:
        for role, command in commands.items():
            seen[role] = Config.load(command[command.index("--config") + 1])
            assert command[command.index("--as") + 1] == role
            assert (Path(seen[role].tls) / f"{role}.key").exists()
        return 0

    monkeypatch.setattr(local, "follow", follow)
    script = tmp_path / "script.py"
    script.touch()

    assert local.launch_local(script, parties=("a", "b"), settings={"protocol": name}) == 0

    assert tuple(seen) == ("a", "b", *helpers)
    for config in seen.values():
        assert (config.protocol, config.roles, len(config.of(Serving).clients)) == (name, tuple(seen), 2)


def test_checkpoints_have_a_file_for_each_role(tmp_path: Path) -> None:
    with api.embedded(Config.embedded(protocol="attended")):
        tacit.save({"public": torch.arange(3)}, tmp_path)
    with api.embedded(Config.embedded(protocol="attended")):
        loaded = tacit.load(tmp_path)

    roles = ("alice", "bob", "dice-thrower", "timekeeper")
    assert {path.name for path in tmp_path.iterdir()} == {f"{role}.safetensors" for role in roles}
    assert loaded["public"].tolist() == [0, 1, 2]
