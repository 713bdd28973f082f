"""Whoever comes, there is room for others: allowances, and who has to leave when a door is full."""

from __future__ import annotations

import asyncio

import pytest

from tacit.errors import Overloaded
from tacit.outside.guests import KNOWN, Allowance, Crowd, Guest, Visit, place_of
from tacit.products import ClientLimits


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_allowance_is_so_much_at_once_and_so_much_a_second() -> None:
    clock = Clock()
    allowance = Allowance(rate=2.0, most=4.0, clock=clock)

    assert [allowance.take() for _ in range(4)] == [0, 0, 0, 0]
    assert allowance.take() == 0.5
    assert allowance.take(patience=1.0) == 0.5  # taken ahead of its time
    assert allowance.take(patience=1.0) == 1.0
    assert allowance.take(patience=1.0) == 1.5  # too long, so nothing was taken
    clock.now += 1.5
    assert allowance.take() == 0
    assert not allowance.full
    allowance.give_back(3)
    clock.now += 10
    assert allowance.full
    assert allowance.take(5) == 0.5  # more than there ever is


class Party:
    """A crowd of few, and who had to leave it."""

    def __init__(self, connections: int) -> None:
        self.clock = Clock()
        self.crowd = Crowd(ClientLimits(connections=connections), self.clock)
        self.left: list[Visit] = []

    def comes(self, place: str, *, idle: bool = False) -> Visit | None:
        self.clock.now += 1
        visit = Visit(place, since=self.clock.now, busy=not idle)
        visit.leave = lambda: self.left.append(visit)
        return visit if self.crowd.enter(visit) else None


def test_who_has_most_connections_makes_room() -> None:
    party = Party(4)
    many = [party.comes("10.0.0.1", idle=idle) for idle in (False, True, True, False)]

    honest = [party.comes("10.0.0.2"), party.comes("10.0.0.2")]
    others = [party.comes(f"10.0.0.{i}") for i in (3, 4, 5)]

    # idle ones first, the one that is longest; then the newest; and nobody for whoever would have as many
    assert party.left == [many[1], many[2], many[3], honest[1]]
    assert [visit is not None and visit.turned_away for visit in [*honest, *others]] == [
        False,
        False,
        False,
        False,
        True,
    ]
    assert len(party.crowd) == 4


def test_busy_ones_leave_if_nobody_is_idle_and_the_newest_first() -> None:
    party = Party(3)
    many = [party.comes("10.0.0.1") for _ in range(3)]

    party.comes("10.0.0.2")

    assert party.left == [many[2]]


def test_a_crowd_that_is_gone_leaves_nothing() -> None:
    party = Party(3)
    visits = [party.comes(f"10.0.0.{i}") for i in range(40)]
    came = [visit for visit in visits if visit is not None]

    assert len(came) == 3 + 32
    assert sum(visit.turned_away for visit in came) == 32
    for visit in came:
        party.crowd.exit(visit)
        party.crowd.exit(visit)
    assert len(party.crowd) == 0
    assert party.comes("10.0.0.9") is not None
    assert not party.left


def test_connections_that_come_too_fast_are_not_let_in() -> None:
    crowd = Crowd(ClientLimits(), Clock())
    in_one_moment = [crowd.enter(Visit("10.0.0.1")) for _ in range(502)]

    assert sum(in_one_moment) == 500
    assert crowd.enter(Visit("10.0.0.2"))


def test_clients_of_whom_nothing_is_to_be_remembered_are_forgotten() -> None:
    clock = Clock()
    crowd = Crowd(ClientLimits(), clock)
    busy = crowd.guest("busy")
    busy.bytes.take(1 << 30)
    for i in range(KNOWN + 10):
        crowd.guest(str(i))

    assert crowd.guest("busy") is busy
    assert len(crowd._guests) < 20


def test_who_asks_too_fast_is_slowed_down_and_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    guest = Guest(ClientLimits(requests=10), Clock())

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    for _ in range(50):
        asyncio.run(guest.pace())
    with pytest.raises(Overloaded, match="too many requests") as refused:
        asyncio.run(guest.pace())

    assert waits == pytest.approx([*(i / 10 for i in range(1, 11)), 1.0])
    assert refused.value.after == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        (("10.1.2.3", 7), "10.1.2.3"),
        (("::ffff:10.1.2.3", 7, 0, 0), "10.1.2.3"),
        (("2001:db8:1:2:3:4:5:6", 7, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 7, 0, 2), "fe80::/64"),
        (("", 7), "somewhere"),
        ((), "somewhere"),
        ("", "somewhere"),
    ],
)
def test_a_place_is_an_address_or_what_one_customer_has(address: object, place: str) -> None:
    assert place_of(address) == place
