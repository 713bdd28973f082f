"""A session: who is here, which keys are whose, what goes round, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tacit.errors import ConfigError, DataError, TacitError
from tacit.net.in_process import InProcess
from tacit.session.config import Config
from tacit.session.session import Session
from tacit.session.watcher import Guard


class Ended(InProcess):
    """A transport that keeps how it was ended."""

    how: str | None = None

    def abort(self, reason: str) -> None:
        self.how = reason
        super().abort(reason)

    def close(self) -> None:
        self.how = "closed"
        super().close()


class Alone(Ended):
    """As if one role of several lived here."""

    def __init__(self, roles: tuple[str, ...], role: str) -> None:
        super().__init__(roles)
        self.hosted = (role,)


@pytest.fixture
def config() -> Config:
    return Config.embedded(("alice", "bob", "carol"), seed=3)


@pytest.fixture
def session(config: Config) -> Iterator[Session]:
    with Session(Ended(config.roles), config) as session:
        yield session


# --- roles ------------------------------------------------------------------------------------------------------------


def test_all_roles_live_in_an_embedded_session(session: Session) -> None:
    assert (session.role, session.embedded) == ("embedded", True)
    assert (session.parties, session.party_indices) == (("alice", "bob", "carol"), (0, 1, 2))
    assert session.helpers == ("crypto-producer",)
    assert all(map(session.hosts, (*session.parties, *session.helpers)))


@pytest.mark.parametrize(("role", "indices"), [("bob", (1,)), ("crypto-producer", ())])
def test_one_role_lives_in_a_session_of_a_distributed_run(config: Config, role: str, indices: tuple[int, ...]) -> None:
    with Session(Alone(config.roles, role), config) as session:
        assert (session.role, session.embedded, session.party_indices) == (role, False, indices)
        assert [name for name in config.roles if session.hosts(name)] == [role]
        assert repr(session).startswith(f"Session(open, role={role!r}, parties=('alice', 'bob', 'carol'), 0 rounds, ")


# --- keys -------------------------------------------------------------------------------------------------------------


def test_both_ends_of_a_pair_draw_the_same_and_no_two_pairs_or_purposes_do(session: Session) -> None:
    def draw(here: str, peer: str, purpose: str) -> tuple[int, ...]:
        return tuple(session.stream(here, peer, purpose).bytes(16).tolist())

    assert draw("alice", "bob", "zero") == draw("bob", "alice", "zero")
    drawn = {draw(here, peer, purpose) for here, peer in (("alice", "bob"), ("alice", "carol"), ("bob", "carol"))
             for purpose in ("zero", "input of alice", "input of bob")}  # fmt: skip
    assert len(drawn) == 9


def test_a_stream_goes_on_where_it_was(session: Session) -> None:
    first = session.stream("alice", "bob", "zero").bytes(16)
    second = session.stream("alice", "bob", "zero").bytes(16)

    assert session.stream("alice", "bob", "zero") is session.stream("alice", "bob", "zero")
    assert not torch.equal(first, second)


# --- messages ---------------------------------------------------------------------------------------------------------


def test_an_announcement_comes_from_a_role_that_there_is(session: Session) -> None:
    assert session.announce("crypto-producer", b"hello") == b"hello"
    with pytest.raises(
        ConfigError, match="there is no role 'eve' in this session; roles are alice, bob, carol, crypto"
    ):
        session.announce("eve", b"hello")


def test_the_seed_of_the_config_comes_before_that_of_the_program(session: Session) -> None:
    state = torch.get_rng_state()
    try:
        drawn = []
        for seed in (1, 2):
            session.agree_seed(seed)
            drawn.append(torch.rand(3).tolist())
        torch.manual_seed(3)
        assert drawn == [torch.rand(3).tolist()] * 2
    finally:
        torch.set_rng_state(state)


def test_everybody_gets_everybodys_tensor(session: Session) -> None:
    sent = [torch.full((2, 2), k) for k in range(3)]

    received = session.gather(sent)

    assert set(received) == {0, 1, 2}
    for row in received.values():
        assert [t.tolist() for t in row] == [t.tolist() for t in sent]


def test_tensors_of_different_sizes_are_gathered_as_bytes(session: Session) -> None:
    sent = [torch.arange(size, dtype=torch.uint8) for size in (3, 0, 5)]

    received = session.gather(sent, sizes=(3, 0, 5))

    for row in received.values():
        assert [t.tolist() for t in row] == [[0, 1, 2], [], [0, 1, 2, 3, 4]]


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_session_that_has_ended_sends_nothing_and_has_no_keys(session: Session) -> None:
    session.stream("alice", "bob", "zero")

    session.close()
    session.close()

    assert session.closed
    assert not session._streams
    assert session.transport.how == "closed"  # type: ignore[attr-defined]
    for use in (
        lambda: session.announce("alice", b""),
        lambda: session.gather([torch.ones(1)] * 3),
        session.check_open,
    ):
        with pytest.raises(TacitError, match="this session has ended"):
            use()
    assert repr(session).startswith("Session(closed, ")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("the balance of Ada is 1815"), "ValueError in its program (see its own log)"),
        (KeyboardInterrupt(), "interrupted by its user"),
        (DataError("there is no file x.csv"), "there is no file x.csv"),
    ],
)
def test_peers_are_told_why_a_session_ends_and_nothing_secret(config: Config, error: BaseException, told: str) -> None:
    session = Session(Ended(config.roles), config)

    with pytest.raises(type(error)), session:
        raise error

    assert session.transport.how == told  # type: ignore[attr-defined]


def test_what_stands_beside_a_session_ends_with_it(config: Config) -> None:
    closed = []
    body = dict.fromkeys(Guard.__abstractmethods__) | {"close": lambda _: closed.append(True)}

    with Session(Ended(config.roles), config) as session:
        session.guard = type("Beside", (Guard,), body)()

    assert closed == [True]


def test_a_fork_has_no_keys_and_says_what_to_do(config: Config) -> None:
    session = Session(Ended(config.roles), config)
    session.stream("alice", "bob", "zero")
    try:
        session.leave_behind()

        assert not session._streams
        with pytest.raises(TacitError, match=r"forked .* num_workers=0"):
            session.check_open()
    finally:
        session.closed = False
        session.close()
